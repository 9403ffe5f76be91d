//! The page is the same twice, holds all it needs, and nothing in a model breaks out of its data.

use super::*;
use egret_ir::text;

/// A graph in which `canonicalize` has something to do.
fn graph(source: &str) -> Graph {
    let source = format!(
        "graph @g(%0 \"x\": f32[2, 3]) -> (%2 \"y\") {{\n  %1 = reshape(%0) {{shape = [2, 3]}} : f32[2, 3] from \"Reshape:a\"\n  \
         %2 = neg(%1) : f32[2, 3] from {source:?}\n}}\n"
    );
    text::parse(&source, &|_| None).expect("a graph")
}

fn written(source: &str) -> String {
    explain("m", graph(source), &Options::default(), &BTreeMap::new(), &Focus::default()).expect("a page").0
}

/// The data of a page, as a browser reads it.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("the data's start");
    let (json, _) = rest.split_once("</script>").expect("the data's end");
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn equal_input_gives_equal_bytes() {
    assert_eq!(written("Neg:b"), written("Neg:b"));
}

#[test]
fn the_page_loads_nothing() {
    let page = written("Neg:b");
    for part in ["src=", "href=", "@import", "url(", "https:", "fetch("] {
        assert!(!page.contains(part), "the page has `{part}`");
    }
    assert_eq!(page.matches("http:").count(), 1, "the name space of SVG, and nothing else");
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("<!--"), "a part is missing");
}

#[test]
fn names_cannot_leave_their_place() {
    let name = "Neg:</script><!--<script>\u{2028}&amp;";
    let page = written(name);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains('\u{2028}'));
    let strings = data(&page)["strings"].clone();
    assert!(strings.as_array().is_some_and(|s| s.iter().any(|s| s == name)), "{strings}");
    let (titled, _) =
        explain("<b>\"", graph("Neg:b"), &Options::default(), &BTreeMap::new(), &Focus::default())
            .expect("a page");
    assert!(titled.contains("<title>&lt;b&gt;&quot; · Egret</title>"));
}

#[test]
fn data_tell_of_stages_rewrites_and_kernels() {
    let data = data(&written("Neg:b"));
    let stages = data["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), 1 + egret_opt::PASSES.len());
    assert_eq!(stages[0]["name"], IMPORT);
    assert_eq!(stages[0]["graph"]["nodes"].as_array().map(Vec::len), Some(2));
    assert_eq!(stages[1]["graph"]["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(stages[2]["same"], 1, "a pass that changes nothing names the stage before it");
    let rule = data["events"]
        .as_array()
        .and_then(|e| e.iter().find(|e| e["rule"].is_string()))
        .expect("a rewrite")["rule"]
        .clone();
    let place: usize =
        rule.as_str().and_then(|r| r.strip_prefix('#')).and_then(|r| r.parse().ok()).expect("a place");
    assert_eq!(data["strings"][place], "reshape-nothing");
    assert_eq!(data["compiled"]["kernels"].as_array().map(Vec::len), Some(1));
    assert_eq!(data["compiled"]["branches"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_compiled_has_a_page_too() {
    let source = "graph @g(%0 \"x\": i32[1, 4, n]) -> (%1 \"y\") {\n  %1 = pool(%0) {dilations = [1], high_extra = [0], kernel = [2], kind = \"mean\", layout = \"channels_first\", pads = [0, 0], strides = [1]} : i32[1, 4, n - 1]\n}\n";
    let open = text::parse(source, &|_| None).expect("a graph");
    let focus = Focus { query: Some("pool".into()), missed: true, ..Focus::default() };
    let (page, _) = explain("m", open, &Options::default(), &BTreeMap::new(), &focus).expect("a page");
    let data = data(&page);
    assert!(
        data["compiled"]["refused"].as_str().is_some_and(|r| r.contains("--dim")),
        "{}",
        data["compiled"]
    );
    assert_eq!(data["focus"]["q"], "pool");
    assert_eq!(data["focus"]["tab"], "missed");
}

#[test]
fn kernels_are_measured_where_inputs_are_given() {
    let input = egret_ir::Tensor::new(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).into();
    let focus = Focus { measure: Some(vec![input]), ..Focus::default() };
    let (page, _) =
        explain("m", graph("Neg:b"), &Options::default(), &BTreeMap::new(), &focus).expect("a page");
    assert_eq!(data(&page)["compiled"]["measured"].as_array().map(Vec::len), Some(1));
    assert!(data(&written("Neg:b"))["compiled"]["measured"].is_null());
}

#[test]
fn long_attributes_are_cut() {
    let axes = "1, ".repeat(900);
    let source = format!(
        "graph @g(%0 \"x\": f32[{axes}2]) -> (%1 \"y\") {{\n  %1 = reshape(%0) {{shape = [{axes}2]}} : f32[{axes}2]\n}}\n"
    );
    let mut recorder = Recorder::new(egret_opt::CostModel::widest());
    recorder.stage(IMPORT, &text::parse(&source, &|_| None).expect("a graph"));
    let data = recorder.finish(
        "m",
        &egret_trace::Trace::new(),
        &story::Story::default(),
        Err("not compiled"),
        &Focus::default(),
    );
    let strings = data["strings"].as_array().expect("strings");
    assert!(
        strings
            .iter()
            .filter_map(Value::as_str)
            .any(|s| s.starts_with("shape = [1, 1") && s.len() < 450 && s.ends_with("characters)"))
    );
}
