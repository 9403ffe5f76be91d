//! Lists the rule files of `ir-spec/rules`, so that adding one needs no other file, and reads the cost models of `ir-spec/targets`.

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
    write("cost_models.rs", &cost_models(&root.join("targets")));
}

/// The cost models as Rust: a target's file has the fields of `CostModel` by table, no more and no fewer.
fn cost_models(dir: &Path) -> String {
    const FIELDS: [(&str, &[&str]); 4] = [
        ("nanoseconds", &["kernel", "view", "elementwise"]),
        ("floats", &["lanes"]),
        (
            "per_nanosecond",
            &["macs", "integer_macs", "byte_macs", "bytes", "cached_bytes", "fused_bytes", "window_bytes"],
        ),
        ("times", &["channels_first"]),
    ];
    let mut out = String::from(
        "/// The cost models of `ir-spec/targets`: target, model.\npub(crate) static MODELS: &[(&str, CostModel)] = &[\n",
    );
    for file in sorted(dir).iter().filter(|f| f.extension().is_some_and(|e| e == "toml")) {
        println!("cargo::rerun-if-changed={}", file.display());
        let fault = |what: &str| -> ! { panic!("{}: {what}", file.display()) };
        let text = fs::read_to_string(file).unwrap_or_else(|e| fault(&e.to_string()));
        let tables: toml::Table = text.parse().unwrap_or_else(|e: toml::de::Error| fault(&e.to_string()));
        let name = file.file_stem().expect("a listed file has a name").to_string_lossy();
        write!(out, "    ({name:?}, CostModel {{ ").expect("writes to a string");
        if let Some(unknown) = tables.keys().find(|k| !FIELDS.iter().any(|(table, _)| table == k)) {
            fault(&format!("unknown table [{unknown}]"));
        }
        for (table, fields) in FIELDS {
            let rows = tables
                .get(table)
                .and_then(toml::Value::as_table)
                .unwrap_or_else(|| fault(&format!("no table [{table}]")));
            if let Some(unknown) = rows.keys().find(|k| !fields.contains(&k.as_str())) {
                fault(&format!("[{table}] has no `{unknown}`"));
            }
            for field in fields {
                let value = rows
                    .get(*field)
                    .and_then(toml::Value::as_integer)
                    .filter(|v| (1..=1_000_000).contains(v));
                let value =
                    value.unwrap_or_else(|| fault(&format!("[{table}] needs `{field}` from 1 to 1000000")));
                write!(out, "{field}: {value}, ").expect("writes to a string");
            }
        }
        out.push_str("}),\n");
    }
    out.push_str("];\n");
    out
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
