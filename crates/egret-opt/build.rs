//! Lists the rule files of `ir-spec/rules`, so that adding one needs no other file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../ir-spec");
    let mut out = String::from(
        "/// The rule files of `ir-spec/rules`: pass, family, text.\npub(crate) const FILES: &[(&str, &str, &str)] = &[\n",
    );
    for pass in sorted(&root.join("rules")) {
        for file in sorted(&pass) {
            if file.extension().is_some_and(|e| e == "rules") {
                let name = |p: &Path| {
                    p.file_stem().expect("a listed file has a name").to_string_lossy().into_owned()
                };
                writeln!(out, "    ({:?}, {:?}, include_str!({:?})),", name(&pass), name(&file), file)
                    .expect("writes to a string");
            }
        }
    }
    out.push_str("];\n");
    write("rule_files.rs", &out);
}

/// Write a file of generated code.
fn write(name: &str, text: &str) {
    let to = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join(name);
    fs::write(to, text).expect("OUT_DIR can be written");
}

/// The entries of a folder by name; each is watched, so that a new file is seen.
fn sorted(dir: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let Ok(entries) = fs::read_dir(dir) else { return vec![] };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    paths
}
