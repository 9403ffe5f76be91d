//! The page of `explain --format html` and `compile --report`: from outside, and in a browser where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn model(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(format!("{name}.onnx")).display().to_string()
}

fn egret(args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_egret")).args(args).output().expect("egret starts");
    (out.status.code().unwrap_or(-1), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

/// The page about a fixture.
fn page(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(format!("{name}.html"));
    let (code, said) = egret(&["explain", &model(name), "--format", "html", "--output", &file.display().to_string()]);
    assert_eq!((code, said.as_str()), (0, ""));
    file
}

#[test]
fn explain_writes_the_same_page_twice() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = std::fs::read(page(dir.path(), "simple_cnn")).expect("a page");
    assert_eq!(first, std::fs::read(page(dir.path(), "simple_cnn")).expect("a page"));
    let (code, printed) = egret(&["explain", &model("simple_cnn"), "--format", "html"]);
    assert_eq!((code, printed.as_bytes()), (0, first.as_slice()));
}

#[test]
fn compile_writes_it_beside_the_code() {
    let dir = tempfile::tempdir().expect("a folder");
    let (out, report) = (dir.path().join("out"), dir.path().join("report.html"));
    let (out, file) = (out.display().to_string(), report.display().to_string());
    let (code, said) = egret(&["compile", &model("simple_cnn"), "--out-dir", &out, "--report", &file]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("report.html"), "{said}");
    let page = std::fs::read_to_string(&report).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.contains("\"kernels\":["));
    let nowhere = dir.path().join("no/such/report.html").display().to_string();
    let (code, said) = egret(&["compile", &model("simple_cnn"), "--out-dir", &out, "--report", &nowhere]);
    assert_eq!(code, 1, "{said}");
    assert!(std::fs::read_dir(&out).expect("the folder").next().is_none(), "an error leaves no file behind");
}

/// What a browser makes of the page at an address.
fn rendered(page: &Path, fragment: &str) -> String {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let profile = tempfile::tempdir().expect("a folder");
    let out = Command::new(&browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000", "--enable-logging=stderr"])
        .args(["--window-size=1600,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .unwrap_or_else(|e| panic!("{browser} cannot be run ({e}): install Chromium, or name it in CHROMIUM"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!said.contains("Uncaught") && !said.contains("Refused to"), "{said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
#[ignore = "needs Chromium: cargo test -p egret-cli --test page -- --ignored"]
fn a_browser_draws_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let page = page(dir.path(), "attention_model");
    let graph = rendered(&page, "");
    assert!(graph.contains("data-ready=\"true\""), "the script did not reach its end");
    assert!(graph.matches("class=\"item node").count() > 10, "no nodes are drawn");
    assert!(graph.contains("After ") && graph.contains("Before "));
    let chosen = rendered(&page, "#pass=fuse&node=1");
    assert!(chosen.contains(" chosen\"") && chosen.contains("<h3>Operands</h3>"), "no node is chosen");
    let steps = rendered(&page, "#tab=rewrites&steps=1");
    assert!(steps.contains("aria-pressed=\"true\" title=\"Every step"), "the proof's steps are not shown");
    let dark = rendered(&page, "#theme=dark&view=after&pass=fold");
    assert!(dark.contains("data-theme=\"dark\"") && dark.contains("data-view=\"after\""), "the address is not followed");
    let found = rendered(&page, "#pass=import&q=matmul");
    assert!(found.contains(" match\"") && found.contains(" dim\""), "nothing is found");
    for (tab, part) in [("rewrites", "class=\"list\""), ("missed", "class=\"list\""), ("kernels", "<table class=\"kernels\">")] {
        let list = rendered(&page, &format!("#tab={tab}"));
        assert!(list.contains("data-ready=\"true\"") && list.contains(part), "tab {tab}");
    }
}
