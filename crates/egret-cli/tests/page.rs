//! The page of `explain --format html` and `compile --report`: from outside, and in a browser where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn model(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/models")
        .join(format!("{name}.onnx"))
        .display()
        .to_string()
}

fn egret(args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_egret")).args(args).output().expect("egret starts");
    (
        out.status.code().unwrap_or(-1),
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
    )
}

/// The page about a fixture.
fn page(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(format!("{name}.html"));
    let (code, said) =
        egret(&["explain", &model(name), "--format", "html", "--output", &file.display().to_string()]);
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
    assert!(
        std::fs::read_dir(&out).expect("the folder").next().is_none(),
        "an error leaves no file behind"
    );
}

#[test]
fn times_are_told_where_they_are_asked_for() {
    let (code, said) = egret(&["explain", &model("simple_cnn"), "--profile", "-vv"]);
    let took = |l: &&str| l.starts_with("pass ") && l.ends_with(" ms");
    let passes = said.lines().filter(|l| l.starts_with("pass ")).count();
    assert!(code == 0 && passes > 0 && said.lines().filter(took).count() == passes, "{said}");
    let (_, said) = egret(&["explain", &model("simple_cnn"), "-vv"]);
    assert!(said.lines().filter(took).count() == 0, "{said}");
    let (code, said) = egret(&[
        "explain",
        &model("simple_cnn"),
        "--profile",
        "--format",
        "trace",
        "--output",
        "never.trace",
    ]);
    assert!(code == 1 && said.contains("the same on every run"), "{said}");
    let (code, page) = egret(&["explain", &model("simple_cnn"), "--profile", "--format", "html"]);
    assert_eq!(code, 0);
    assert!(page.contains("\"measured\":["));
}

/// What a browser makes of the page at an address.
fn rendered(page: &Path, fragment: &str) -> String {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let profile = tempfile::tempdir().expect("a folder");
    let out = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--virtual-time-budget=5000",
            "--enable-logging=stderr",
        ])
        .args(["--window-size=1600,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .unwrap_or_else(|e| {
            panic!("{browser} cannot be run ({e}): install Chromium, or name it in CHROMIUM")
        });
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!said.contains("Uncaught") && !said.contains("Refused to"), "{said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Seven nodes, of which five become one.
const GELU: &str = r#"graph @gelu(%0 "x": f32[2, 8]) -> (%10 "y") {
  %1 = const f32[] [0.70710677]
  %2 = mul(%0, %1) : f32[2, 8] from "Mul:/block/act/Mul"
  %3 = erf(%2) : f32[2, 8] from "Erf:/block/act/Erf"
  %4 = const f32[] [1.0]
  %5 = add(%3, %4) : f32[2, 8] from "Add:/block/act/Add"
  %6 = mul(%0, %5) : f32[2, 8] from "Mul:/block/act/Mul_1"
  %7 = const f32[] [0.5]
  %8 = mul(%6, %7) : f32[2, 8] from "Mul:/block/act/Mul_2"
  %9 = sin(%8) : f32[2, 8] from "Sin:/block/Sin"
  %10 = neg(%9) : f32[2, 8] from "Neg:/block/Neg"
}
"#;

#[test]
#[ignore = "needs Chromium: cargo test -p egret-cli --test page -- --ignored"]
fn a_browser_draws_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (text, page) = (dir.path().join("gelu.egret"), dir.path().join("gelu.html"));
    std::fs::write(&text, GELU).expect("a file");
    let (code, said) = egret(&[
        "explain",
        &text.display().to_string(),
        "--format",
        "html",
        "--output",
        &page.display().to_string(),
    ]);
    assert_eq!((code, said.as_str()), (0, ""));
    let shown = |fragment: &str, parts: &[(&str, usize)]| {
        let dom = rendered(&page, fragment);
        assert!(dom.contains("data-ready=\"true\""), "{fragment}: the script did not reach its end");
        for &(part, times) in parts {
            assert_eq!(dom.matches(part).count(), times, "{fragment}: `{part}`");
        }
    };
    // Both sides of the pass that changed most: 7 nodes and 3.
    shown(
        "",
        &[("class=\"item node", 10), ("Before fuse", 1), ("After fuse", 1), ("5 gone", 1), ("1 new", 1)],
    );
    // The new node and the five that it was merged from are marked.
    let merged = ["Merged from 5 nodes", "1 rewrite that made it", "Step by step (1)", "5 ONNX nodes"];
    shown("#pass=fuse&node=0", &[(" fresh chosen\"", 1), (" gone chosen\"", 5)]);
    shown("#pass=fuse&node=0", &merged.map(|m| (m, 1)));
    shown(
        "#pass=import&q=op:mul",
        &[("f-elementwise match\"", 3), ("f-elementwise dim\"", 4), ("aria-live=\"polite\">3 nodes", 1)],
    );
    shown("#pass=fuse&depth=1", &[("class=\"item block", 2)]);
    shown("#tab=rewrites", &[("class=\"card rewrite\"", 1), (">gelu ×1</button>", 1)]);
    shown("#tab=rewrites&steps=1", &[("class=\"card step\"", 1), ("class=\"rule-text step\"", 1)]);
    shown("#tab=missed", &[("aria-selected=\"true\">Why not", 1)]);
    shown(
        "#tab=kernels&theme=dark",
        &[("<table class=\"kernels\">", 1), ("data-theme=\"dark\" data-ready", 1)],
    );
    // A kernel, chosen, and no branches: one row.
    shown("#tab=timeline&kernel=0", &[("class=\"span f-elementwise chosen\"", 1), ("data-row=\"0\"", 1)]);
    shown("#tab=timeline", &[("<h3>Estimated <span", 1), ("class=\"span f-elementwise\"", 1)]);
}
