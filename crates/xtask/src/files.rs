//! What every file has: a header that says what it is about, a bounded length, and no left-overs.

use crate::source::Source;
use std::path::{Path, PathBuf};

/// Lines that a file has at most.
const MOST_LINES: usize = 600;

/// Macros that are for the time of writing only.
const LEFT_OVERS: [&str; 3] = ["dbg!(", "todo!(", "unimplemented!("];

/// One line per fault.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut out = vec![];
    for s in sources {
        let lines = s.text.lines().count();
        if lines > MOST_LINES {
            out.push(format!("{}: {lines} lines; a file has at most {MOST_LINES}", s.path));
        }
        if !s.text.starts_with("//!") {
            out.push(format!("{}: does not begin with `//!` and what it is about", s.path));
        }
        let code = s.code();
        for left in LEFT_OVERS.iter().filter(|l| code.contains(**l)) {
            out.push(format!("{}: `{left}..)` is left over", s.path));
        }
        if let Some((name, "lib.rs" | "main.rs")) = s.in_crate() {
            let has_unsafe = sources
                .iter()
                .filter(|o| o.in_crate().is_some_and(|(c, _)| c == name))
                .any(|o| o.code().split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe"));
            if !has_unsafe && !s.text.contains("#![forbid(unsafe_code)]") {
                out.push(format!("{}: a crate without `unsafe` says `#![forbid(unsafe_code)]`", s.path));
            }
        }
    }
    out
}

/// Markers of conflicts that a merge left in a page: a line per fault.
pub fn markers(path: &str, text: &str) -> Vec<String> {
    let marks = ["<<<<<<< ", ">>>>>>> "];
    let left = text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.starts_with(mark)));
    left.map(|(i, _)| format!("{path}:{}: a merge left a conflict", i + 1)).collect()
}

/// The pages for readers: those of the root and of `docs`.
pub fn pages(root: &Path) -> std::io::Result<Vec<(String, String)>> {
    let (mut out, mut folders) = (vec![], vec![root.join("docs")]);
    let mut files: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|f| root.join(f)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "md") => files.push(path),
                false => {}
            }
        }
    }
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        out.push((name, std::fs::read_to_string(&path)?));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_faults() {
        assert!(markers("a.md", "a <<<<<<< b\n=======\n").is_empty());
        assert_eq!(markers("a.md", "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> d\n").len(), 2);
    }

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&[Source { path: path.into(), text: text.into() }])
    }

    #[test]
    fn long_headless_and_unfinished_files_are_faults() {
        assert!(faults("crates/a/src/b.rs", "//! b\nfn f() {}\n").is_empty());
        assert_eq!(faults("crates/a/src/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(faults("crates/a/src/b.rs", &format!("//! b\n{}", "\n".repeat(600))).len(), 1);
        assert_eq!(faults("crates/a/src/b.rs", "//! b\nfn f() { todo!() }\n").len(), 1);
        assert_eq!(faults("crates/a/src/lib.rs", "//! a\n").len(), 1);
        assert!(faults("crates/a/src/lib.rs", "//! a\n#![forbid(unsafe_code)]\n").is_empty());
    }
}
