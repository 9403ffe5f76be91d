//! The graphs of file tests (`tests/files`).

use crate::root;
use std::path::PathBuf;

/// What stands between a graph and what is expected of it.
pub const EXPECT: &str = "// expect\n";
/// What stands between two graphs of a file.
pub const BETWEEN: &str = "// -----\n";

/// All files of tests, in order; those of `symbols` are inputs of another test.
pub fn all() -> Vec<PathBuf> {
    let mut out = vec![];
    let mut dirs = vec![root().join("tests/files")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder of file tests") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "symbols") {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "egret") {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// The graphs of a stage's files: the name of the file, and the text with its directives.
pub fn graphs_of(stage: &str) -> Vec<(String, String)> {
    let mut out = vec![];
    for path in all() {
        let text = std::fs::read_to_string(&path).expect("a file that was just listed");
        if text.starts_with(&format!("// test: {stage}\n")) {
            let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            let given =
                text.split(BETWEEN).map(|part| part.split_once(EXPECT).map_or(part, |p| p.0).to_owned());
            out.extend(given.map(|g| (name.clone(), g)));
        }
    }
    out
}
