//! What is named is what happened, and it fits a screen.

use super::*;
use egret_ir::text;

fn told(body: &str) -> Told {
    let graph = text::parse(body, &|_| None).expect("a graph");
    let options = Options { target: "x86-64-v4".into(), ..Options::default() };
    tell(graph, &options, &Request { name: "m".into(), ..Request::default() }, &mut |_| {})
        .expect("a story")
}

/// Attention whose scale and mask several rules move before and after it becomes one.
const ATTENTION: &str = r#"graph @g(%0 "q": f32[1, 2, 16, 8], %1 "k": f32[1, 2, 16, 8], %2 "v": f32[1, 2, 16, 8], %3 "m": f32[1, 1, 16, 16]) -> (%9 "y") {
  %4 = transpose(%1) {perm = [0, 1, 3, 2]} : f32[1, 2, 8, 16] from "Transpose:/layer.0/kt"
  %5 = matmul(%0, %4) : f32[1, 2, 16, 16] from "MatMul:/layer.0/qk"
  %10 = const f32[] [2.0]
  %6 = div(%5, %10) : f32[1, 2, 16, 16] from "Div:/layer.0/scale"
  %7 = add(%6, %3) : f32[1, 2, 16, 16] from "Add:/layer.0/mask"
  %8 = softmax(%7) {axis = 3} : f32[1, 2, 16, 16] from "Softmax:/layer.0/softmax"
  %9 = matmul(%8, %2) : f32[1, 2, 16, 8] from "MatMul:/layer.0/av"
}"#;

#[test]
fn a_pattern_is_named_by_what_resulted() {
    let told = told(ATTENTION);
    let [p] = told.story.patterns.iter().filter(|p| p.what == "attention").collect::<Vec<_>>()[..] else {
        panic!("{:?}", told.story.patterns)
    };
    assert_eq!((p.count, p.places.as_slice()), (1, &["/layer.0".to_owned()][..]));
    assert!(p.saved > 0, "{p:?}");
    for rule in ["attention-added", "scale-of-added", "attention-of-scaled-queries"] {
        assert!(p.rules.contains_key(rule), "{p:?}");
    }
    for source in ["MatMul:/layer.0/qk", "Softmax:/layer.0/softmax", "MatMul:/layer.0/av"] {
        assert!(p.sources.contains(source), "{p:?}");
    }
}

#[test]
fn gains_are_ranked_and_quiet_rules_are_not_told() {
    let body = ATTENTION.replace(
        "%9 = matmul(%8, %2)",
        "%11 = transpose(%8) {perm = [0, 1, 3, 2]} : f32[1, 2, 16, 16] from \"Transpose:/layer.0/middle\"\n  %9 = matmul(%11, %2)",
    );
    let story = told(&body).story;
    assert!(story.gains.windows(2).all(|w| w[0].ns >= w[1].ns), "{:?}", story.gains);
    let first = story.gains.iter().find(|g| g.what == "attention").expect("a near miss");
    assert!(first.is_bound && first.ns > 0 && first.reason.contains("but for `transpose`"), "{first:?}");
    let quiet = |name: &str| egret_opt::rules::shipped().iter().any(|r| r.name == name && r.quiet);
    assert!(story.gains.iter().all(|g| !quiet(&g.rule)), "{:?}", story.gains);
    assert!(quiet("shift-of-shift") && !quiet("attention"));
}

#[test]
fn free_dims_are_no_obstacle() {
    let body =
        "graph @g(%0 \"x\": f32[n, 4]) -> (%1 \"y\") {\n  %1 = neg(%0) : f32[n, 4] from \"Neg:a\"\n}";
    let text = told(body).story.text(false);
    assert!(text.contains("compiled: ") && text.contains("free dims taken as 64"), "{text}");
    assert!(!text.contains("no kernels"), "{text}");
    // Where they are one: what is built all the same, and what to do.
    let body = "graph @g(%0 \"x\": i32[1, 4, n]) -> (%2 \"z\") {\n  %2 = pool(%0) {dilations = [1], high_extra = [0], kernel = [2], kind = \"mean\", layout = \"channels_first\", pads = [0, 0], strides = [1]} : i32[1, 4, n - 1] from \"AveragePool:a\"\n}";
    let text = told(body).story.text(false);
    assert!(text.contains("no kernels: with all of its free dims") && text.contains("--dim n=N"), "{text}");
}
