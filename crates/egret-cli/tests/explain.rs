//! What `egret explain` says of the models of the repository, held as files; `BLESS=1` writes them anew.

use std::path::{Path, PathBuf};
use std::process::Command;

const MODELS: [&str; 4] = ["attention_model", "fusion_cnn", "parallel_cnn", "simple_cnn"];

/// One machine's estimates, so that every machine says the same.
const TARGET: [&str; 2] = ["--target", "x86-64-v4"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn explain(name: &str, args: &[&str]) -> String {
    let model = repository().join("fixtures/models").join(format!("{name}.onnx"));
    explain_file(model.to_str().expect("UTF-8"), args)
}

fn explain_file(model: &str, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_egret"))
        .arg("explain")
        .arg(model)
        .args(TARGET)
        .args(args)
        .output()
        .expect("egret starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn the_story_of_each_model_is_as_before() {
    let mut wrong = vec![];
    for name in MODELS {
        for (kind, args) in [("", &[][..]), (".missed", &["--missed"][..])] {
            let said = explain(name, args);
            let file = repository().join("tests/snapshots/explain").join(format!("{name}{kind}.txt"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                std::fs::write(&file, &said).expect("a file");
            }
            if std::fs::read_to_string(&file).unwrap_or_default() != said {
                wrong.push(format!(
                    "{} is not what egret says (BLESS=1 writes it):\n{said}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn it_fits_a_screen_and_asks_for_more_where_there_is_more() {
    for name in MODELS {
        let (story, missed) = (explain(name, &[]), explain(name, &["--missed"]));
        assert!(story.lines().count() <= 40, "{story}");
        assert!(missed.lines().count() <= 15, "{missed}");
        let (more, log) = (explain(name, &["-v"]), explain(name, &["-vv"]));
        assert!(more.lines().count() >= story.lines().count(), "{more}");
        assert!(log.contains("proof of fuse") && !story.contains("proof of"), "{log}");
    }
    assert!(explain("attention_model", &["-v"]).contains("rules of layout: "));
}

/// A kernel that is slow, as text and as an event; `--at` and `-vv` have it too.
#[test]
fn slow_kernels_are_told_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("scalar.egret");
    let text = r#"graph @g(%0 "x": i64[64, 128]) -> (%2 "y") {
  %1 = const i64[128, 128] random(1)
  %2 = matmul(%0, %1) : i64[64, 128] from "MatMul:/layer.1/fc"
}"#;
    std::fs::write(&model, text).expect("a file");
    let model = model.to_str().expect("UTF-8");
    assert!(explain_file(model, &["--missed"]).contains("take one i64 at a time (multiply-adds)"));
    for args in [&["--missed"][..], &["--at", "layer.1"][..], &[][..]] {
        let said = explain_file(model, &[args, &["--format", "json"]].concat());
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let slow = |e: &&serde_json::Value| e["rule"] == "vectors";
        let events: Vec<_> = json["events"].as_array().expect("events").iter().filter(slow).collect();
        let [event] = events.as_slice() else { panic!("{args:?}: {json}") };
        let cost = |name: &str| event[name].as_f64().expect("microseconds");
        assert!(cost("cost_without") > 100.0 && cost("cost_without") > 2.0 * cost("cost_with"), "{event}");
    }
    assert!(explain_file(model, &["-vv"]).contains("take one i64 at a time"));
}

#[test]
fn sides_of_rewrites_are_those_of_the_rule() {
    let json: serde_json::Value =
        serde_json::from_str(&explain("fusion_cnn", &["--format", "json"])).expect("JSON");
    let rewrites: Vec<&serde_json::Value> =
        json["events"].as_array().expect("events").iter().filter(|e| e["event"] == "rewrite").collect();
    assert!(!rewrites.is_empty());
    for r in rewrites.iter().filter(|r| r["place"] != "") {
        let [before, after, conditions] =
            ["before", "after", "conditions"].map(|k| r[k].as_str().expect("text"));
        // A whole pattern may have a name: `?y:(conv ..)`.
        let pattern = before.trim_start_matches(|c| c != '(' && c != ' ');
        assert!(pattern.starts_with('('), "{r}");
        assert!(!after.contains(" if ") && !after.is_empty(), "{r}");
        assert!(["exact", "reassoc", "approx", "lossy"].iter().any(|t| conditions.contains(t)), "{r}");
    }
}
