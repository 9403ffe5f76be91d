//! Generates the `Op` enum from the op table in `ir-spec/ops/*.toml`, so that table and code cannot disagree.

use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ir-spec/ops");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files: Vec<_> =
        fs::read_dir(&dir).expect("ir-spec/ops").map(|e| e.expect("dir entry").path()).collect();
    files.sort();
    let (mut variants, mut rows) = (String::new(), String::new());
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "toml")) {
        println!("cargo::rerun-if-changed={}", file.display());
        let text = fs::read_to_string(file).expect("op table");
        // Sorted by name within a file: deterministic whatever the TOML reader keeps.
        let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for (name, row) in &table {
            let row = row.as_table().expect("a row is a table");
            let strings = |key: &str| -> Vec<String> {
                row.get(key)
                    .map(|v| {
                        v.as_array()
                            .expect("array")
                            .iter()
                            .map(|s| s.as_str().expect("string").into())
                            .collect()
                    })
                    .unwrap_or_default()
            };
            let text_of = |key: &str, default: &str| {
                row.get(key).map_or(default, |v| v.as_str().expect("string")).to_owned()
            };
            let attrs: Vec<(String, String)> = row
                .get("attrs")
                .map(|v| {
                    v.as_table()
                        .expect("table")
                        .iter()
                        .map(|(k, v)| (k.clone(), v.as_str().expect("kind").into()))
                        .collect()
                })
                .unwrap_or_default();
            let variant: String = name
                .split('_')
                .map(|w| {
                    let mut c = w.chars();
                    c.next().map(|f| f.to_uppercase().collect::<String>() + c.as_str()).unwrap_or_default()
                })
                .collect();
            let doc = text_of("doc", "");
            writeln!(
                variants,
                "    /// `{name}`: {}\n    {variant},",
                doc.replace('[', "\\[").replace(']', "\\]")
            )
            .expect("write");
            writeln!(
                rows,
                "    OpInfo {{ op: Op::{variant}, name: {name:?}, operands: &{:?}, results: {}, regions: &{:?}, traits: &{:?}, types: {:?}, result: {:?}, attrs: &{attrs:?}, doc: {doc:?} }},",
                strings("operands"),
                row.get("results").map_or(1, |v| v.as_integer().expect("integer")),
                strings("regions"),
                strings("traits"),
                text_of("types", "any"),
                text_of("result", "same"),
            )
            .expect("write");
        }
    }
    let code = format!(
        "/// A primitive operation. Generated from `ir-spec/ops`.\n#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum Op {{\n{variants}}}\n\npub(crate) static TABLE: &[OpInfo] = &[\n{rows}];\n"
    );
    fs::write(Path::new(&env::var("OUT_DIR").expect("OUT_DIR")).join("op_table.rs"), code)
        .expect("write op_table.rs");
}
