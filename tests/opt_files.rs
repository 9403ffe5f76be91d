//! Snapshot tests of passes: `tests/files/opt/*.egret` hold a graph, directives and what the passes make of it.
//!
//! Directives are comments before the graph: `// passes: a, b`, `// tier: exact`, `// rule PASS: name: lhs => rhs ..`, and
//! `// show: missed`, which adds why rules did not apply. What is expected stands after the line `// after`.
//! `BLESS=1 cargo test --test opt_files` writes it anew.

use egret::snapshot::Model;
use std::path::{Path, PathBuf};

const AFTER: &str = "// after\n";

/// What a file's passes make of its graph.
fn run(text: &str) -> egret::Result<String> {
    let mut model = Model::parse(text)?;
    let mut missed = false;
    for line in text.lines().filter_map(|l| l.strip_prefix("// ")) {
        let Some((key, value)) = line.split_once(": ") else { continue };
        model = match key {
            "passes" => model.passes(&value.split(", ").collect::<Vec<_>>()),
            "tier" => model.tier(value)?,
            "show" => {
                missed = true;
                model
            }
            _ => match key.strip_prefix("rule ") {
                Some(pass) => model.rules(&format!("pass {pass}\n{value}"), "test.rules")?,
                None => model,
            },
        };
    }
    let mut out = model.optimized()?;
    if missed {
        out.extend(model.missed()?.lines().map(|l| format!("// {l}\n")));
    }
    Ok(out)
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/opt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn passes_make_of_each_file_what_it_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = vec![];
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (given, expected) = text.split_once(AFTER).unwrap_or((&text, ""));
        let got = run(given).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if got == expected {
            continue;
        }
        if bless {
            std::fs::write(&path, format!("{given}{AFTER}{got}")).unwrap();
        } else {
            let name = path.file_name().unwrap().to_string_lossy();
            wrong.push(format!("{name}: expected\n{expected}got\n{got}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nIf that is right: BLESS=1 cargo test --test opt_files",
        wrong.join("\n")
    );
}

#[test]
fn models_are_snapshot_tested_in_three_lines() {
    let model =
        Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/fusion_cnn.onnx")).unwrap();
    insta::assert_snapshot!("fusion_cnn_counts", model.counts().unwrap());
    insta::assert_snapshot!("fusion_cnn_rewrites", model.rewrites().unwrap());
}

#[test]
fn what_a_model_is_asked_is_checked() {
    let model =
        || Model::parse("graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") { %1 = neg(%0) : f32[2] }").unwrap();
    assert!(model().after("none-such").unwrap_err().to_string().contains("no pass is called `none-such`"));
    assert!(model().tier("wild").unwrap_err().to_string().contains("`wild` is no tier"));
    assert!(model().rules("x", "my.rules").unwrap_err().to_string().contains("my.rules:1"));
    assert!(Model::open("none.onnx").unwrap_err().to_string().contains("none.onnx"));
    assert!(model().dim("n", -1).unwrap_err().to_string().contains("no size"));
}
