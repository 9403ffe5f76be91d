//! What a build script gets: a module that compiles without warnings, links, and computes.

use egret_build::Model;
use std::path::Path;
use std::process::Command;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

const PROGRAM: &str = r#"
#![deny(warnings)]
mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

fn main() {
    let model = digits::Model::bind().unwrap();
    let mut arena = digits::Arena::new();
    let mut logits = [0.0; 10];
    model.run(&mut arena, &[0.5; 784], &mut logits).unwrap();
    println!("{logits:?}");
}
"#;

#[test]
fn a_model_becomes_a_module_that_links() {
    let dir = tempfile::tempdir().unwrap();
    let lines = Model::new(fixture("simple_cnn.onnx"))
        .name("digits")
        .target("native")
        .out_dir(dir.path())
        .write()
        .unwrap();
    assert!(
        lines[0].starts_with("rerun-if-changed=") && lines[0].ends_with("simple_cnn.onnx"),
        "{lines:?}"
    );
    assert!(lines.contains(&"rustc-link-lib=static=digits".to_owned()), "{lines:?}");
    let source = dir.path().join("main.rs");
    std::fs::write(&source, PROGRAM).unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-o", "main", "-L", ".", "-l", "static=digits", "main.rs"])
        .env("OUT_DIR", dir.path())
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(dir.path().join("main")).output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && printed.split(',').count() == 10, "{printed}");
}

#[test]
fn what_is_wrong_is_said_like_the_command_does() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Model::new("none.onnx").target("native").out_dir(dir.path()).write().unwrap_err();
    assert!(missing.to_string().contains("none.onnx"), "{missing}");
    let open =
        Model::new(fixture("parallel_cnn.onnx")).target("native").out_dir(dir.path()).write().unwrap_err();
    assert!(format!("{open:?}").contains("batch"), "{open:?}");
    let bound =
        Model::new(fixture("parallel_cnn.onnx")).dim("batch", 2).target("native").out_dir(dir.path());
    assert!(bound.write().is_ok());
}
