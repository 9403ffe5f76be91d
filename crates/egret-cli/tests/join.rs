//! `egret join` from outside.

mod kit;

use kit::{Dim, model, names, onnx, path, refused, temp, works};

#[test]
fn networks_become_one_that_runs() {
    let dir = temp();
    let out = path(&dir, "joined.onnx");
    let (left, right) =
        (format!("left={}", model("simple_cnn")), format!("right={}", model("parallel_cnn")));
    let base = ["join", &left, &right, "--share", "image=left:image,right:image", "-o", &out];
    let wires = ["--wire", "left:logits=head:l", "--wire", "right:logits=head:r"];
    let with = |more: &[&str]| works(&[&base[..], &wires, more].concat());
    let said = with(&["--head", "late:0.7,0.3", "--keep", "left:logits"]);
    for part in [
        "opset 13",
        "left   simple_cnn.onnx    nodes 10",
        "right:logits  head:r  f32[1, 10]",
        "image  left:image, right:image  f32[1, 1, 28, 28]",
        "head.logits  head:logits  f32[1, 10]",
        "1  right:batch",
        "shared   8 initialisers of 87360 bytes not stored again",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(works(&["check", &out]).contains("ok   head.logits"));
    let json = with(&["--head", "concat", "--format", "json"]);
    assert!(json.contains("\"features\"") && json.contains("f32[1, 20]"), "{json}");
    let said = works(&["run", &out, "--random", "1"]);
    assert!(said.contains("features: f32[1, 20]"), "{said}");
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let dir = temp();
    let (a, b, out) = (path(&dir, "a.onnx"), path(&dir, "b.onnx"), path(&dir, "joined.onnx"));
    let free = [Dim::Free("n"), Dim::Is(3)];
    std::fs::write(&a, onnx("Exp", &[], 1, ("x", &free), ("y", &free))).expect("a model");
    std::fs::write(&b, onnx("Add", &[], 7, ("x", &free), ("y", &free))).expect("a model");
    let with = |more: &[&str], code, parts: &[&str]| {
        refused(&[&["join", &a, &b, "-o", &out][..], more].concat(), code, parts);
    };
    with(&["--wire", "a:y=b:x"], 1, &["`a:y` is f32[n, 3]", "`b:x` is i64[n, 3]", "Cast"]);
    with(&["--wire", "a:emb=b:x"], 1, &["`a` has no output `emb`"]);
    with(&["--wire", "a:y=c:x"], 1, &["no model `c`"]);
    with(&["--head", "mean", "--wire", "a:y=head:y"], 1, &["no head `mean`", "concat"]);
    with(&["--head", "late:1", "--wire", "b:y=head:y"], 2, &["f32 and f64"]);
    refused(&["join", &a, "-o", &path(&dir, "none/joined.onnx")], 1, &["none"]);
    refused(&["join", "-o", &out], 1, &["[NAME=]FILE"]);
    assert_eq!(names(dir.path()), ["a.onnx", "b.onnx"]);
    // A model may be replaced by what it is part of.
    works(&["join", &a, &b, "-o", &a]);
    let said = works(&["inspect", &a]);
    assert!(said.contains("a.x: f32[a_n, 3]") && said.contains("b.x: i64[b_n, 3]"), "{said}");
}
