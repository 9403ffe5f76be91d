//! Lists the files of `ir-spec/rules/quantize/runtimes`, so that adding one needs no other file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let dir = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("../../ir-spec/rules/quantize/runtimes");
    println!("cargo::rerun-if-changed={}", dir.display());
    let entries = fs::read_dir(&dir).into_iter().flatten();
    let mut files: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut out =
        String::from("/// Name and text of each file, by name.\nconst FILES: &[(&str, &str)] = &[");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().expect("a listed file has a name").to_string_lossy().into_owned();
        write!(out, "({name:?}, include_str!({file:?})), ").expect("writes to a string");
    }
    out.push_str("];\n");
    let to = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("runtimes.rs");
    fs::write(to, out).expect("OUT_DIR can be written");
}
