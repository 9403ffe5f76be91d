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

#[test]
fn what_two_models_share_runs_once() {
    let (dir, simple) = (temp(), model("simple_cnn"));
    let [out, events] = ["twice.onnx", "events.json"].map(|f| path(&dir, f));
    let [a, b] = ["a", "b"].map(|name| format!("{name}={simple}"));
    works(&["join", &a, &b, "--share", "image=a:image,b:image", "-o", &out]);
    works(&["run", &out, "--random", "1", "--profile", "--trace-events", &events]);
    let said = std::fs::read_to_string(&events).expect("the events");
    let kernels = |of: &str| said.lines().filter(|l| l.contains("\"ph\":\"X\"") && l.contains(of)).count();
    assert_eq!((kernels("conv5x5"), kernels("\"computes\"")), (2, 8), "{said}");
    assert_eq!(
        (kernels("Conv:a//conv1/Conv\",\"Conv:b//conv1/Conv"), kernels("//fc1/Gemm")),
        (1, 1),
        "{said}"
    );
}

#[test]
fn a_head_of_two_encoders_is_trained() {
    let dir = temp();
    let [joined, tuned] = ["joined.onnx", "tuned.onnx"].map(|f| path(&dir, f));
    let (a, b) = (format!("a={}", model("simple_cnn")), format!("b={}", model("attention_model")));
    let digits = model("simple_cnn").replace("models/simple_cnn.onnx", "digits/");
    let [images, labels] = ["images.npy", "labels.npy"].map(|f| format!("{digits}{f}"));
    let encoders = ["--wire", "a:/Relu_2_output_0=head:a", "--wire", "b:/Relu_2_output_0=head:b"];
    let drop = ["--drop", "a:logits", "--drop", "b:logits", "--drop", "b:attention"];
    let base = ["join", &a, &b, "--share", "image=a:image,b:image", "--layers", "10", "-o", &joined];
    let tune = ["tune", &joined, "--data", &images, "--labels", &labels, "--hold-back", "0.3"];
    let rest =
        ["--loss", "cross_entropy", "--of", "logits", "--train", "head/*", "--epochs", "2", "-o", &tuned];
    for head in ["concat", "gated:16", "attention:16"] {
        works(&[&base[..], &encoders, &drop, &["--head", head]].concat());
        let said = works(&[&tune[..], &rest].concat());
        let right =
            said.lines().find_map(|l| l.strip_prefix("accuracy")?.split("-> ").nth(1)?.split(' ').next());
        assert!(right.and_then(|r| r.parse::<f64>().ok()).is_some_and(|r| r > 85.0), "{head}: {said}");
        assert!(!said.contains("  a/") && said.contains("head/layers.0.weight"), "{said}");
    }
}
