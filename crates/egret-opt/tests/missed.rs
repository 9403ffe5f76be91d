//! Why not: what stopped a rule, where, and by how much.

use egret_ir::{Graph, text};
use egret_opt::rules::{Tier, parse, shipped};
use egret_opt::{Missed, Options, Stopped, optimize};

fn missed(body: &str, rules: &str, tier: Tier) -> Vec<Missed> {
    let graph: Graph = text::parse(body, &|_| None).unwrap();
    let rules = parse(rules, "mine.rules", "fuse", shipped()).unwrap();
    let options =
        Options { passes: Some(vec!["fuse".into()]), tier, rules, explain: true, ..Options::default() };
    let (_, reports) = optimize(graph, &options).unwrap();
    reports.into_iter().flat_map(|r| r.findings.missed).collect()
}

fn of<'a>(missed: &'a [Missed], rule: &str) -> Vec<&'a Missed> {
    missed.iter().filter(|m| m.rule == rule).collect()
}

const ATTENTION: &str = r#"graph @g(%0 "q": DTYPE[1, 2, 4, 8], %1 "k": DTYPE[1, 2, 4, 8], %2 "v": DTYPE[1, 2, 4, 8]) -> (%6 "y") {
  %3 = transpose(%1) {perm = [0, 1, 3, 2]} : DTYPE[1, 2, 8, 4] from "Transpose:/kt"
  %4 = matmul(%0, %3) : DTYPE[1, 2, 4, 4] from "MatMul:/qk"
  %5 = softmax(%4) {axis = 3} : DTYPE[1, 2, 4, 4] from "Softmax:/softmax"
  %6 = matmul(%5, %2) : DTYPE[1, 2, 4, 8] from "MatMul:/av"
}"#;

#[test]
fn a_transpose_in_the_middle_of_an_attention_is_named() {
    let body = ATTENTION.replace("DTYPE", "f32").replace(
        "%6 = matmul(%5, %2)",
        "%7 = transpose(%5) {perm = [0, 1, 3, 2]} : f32[1, 2, 4, 4] from \"Transpose:/middle\"\n  %6 = matmul(%7, %2)",
    );
    let all = missed(&body, "", Tier::Approx);
    let found = of(&all, "attention");
    assert_eq!(found.len(), 1, "{all:?}");
    assert_eq!(found[0].stopped, Stopped::NearMatch);
    assert_eq!(
        found[0].reason,
        "its pattern is there but for `transpose`: it stands before the `softmax` that is wanted"
    );
    assert!(
        found[0].sources.contains("Transpose:/middle") && found[0].sources.contains("MatMul:/av"),
        "{found:?}"
    );
}

#[test]
fn an_element_type_that_a_rule_does_not_take_is_named() {
    let body = r#"graph @g(%0 "x": f64[2, 4]) -> (%2 "y") {
      %1 = neg(%0) : f64[2, 4] from "Neg:/neg"
      %2 = softmax(%1) {axis = 1} : f64[2, 4] from "Softmax:/softmax"
    }"#;
    let rule = "narrow: (softmax axis=?a (neg ?x)) => (softmax axis=?a ?x) if is_short_float(?x)  reassoc";
    let all = missed(body, rule, Tier::Approx);
    let found = of(&all, "narrow");
    assert_eq!(found.len(), 1, "{all:?}");
    assert_eq!(
        (&found[0].stopped, found[0].reason.as_str()),
        (&Stopped::Guard, "`is_short_float(?x)` does not hold: it is asked of f64[2, 4]")
    );
}

#[test]
fn a_gelu_of_f64_with_rounded_constants_is_missed_with_the_difference() {
    let body = r#"graph @g(%0 "x": f64[2, 3]) -> (%8 "y") {
      %1 = const f64[] [0.7071067690849304]
      %2 = mul(%0, %1) : f64[2, 3] from "Mul:/inner"
      %3 = erf(%2) : f64[2, 3] from "Erf:/erf"
      %4 = const f64[] [1.0]
      %5 = add(%3, %4) : f64[2, 3] from "Add:/add"
      %6 = mul(%0, %5) : f64[2, 3] from "Mul:/outer"
      %7 = const f64[] [0.5]
      %8 = mul(%6, %7) : f64[2, 3] from "Mul:/half"
    }"#;
    let all = missed(body, "", Tier::Approx);
    let found = of(&all, "gelu-half-last");
    assert_eq!(found.len(), 1, "{all:?}");
    let reason = "`~0.7071067811865476` does not hold: 0.7071067690849304 is not 0.7071067811865476";
    assert_eq!((&found[0].stopped, found[0].reason.as_str()), (&Stopped::Guard, reason));
}

#[test]
fn a_convolution_that_is_used_twice_is_too_dear_to_scale() {
    let body = r#"graph @g(%0 "x": f32[1, 16, 16, 16]) -> (%2 "a", %4 "b") {
      %1 = const f32[16, 16, 3, 3] random(1)
      %2 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = "channels_first", pads = [0, 0, 0, 0], strides = [1, 1]} : f32[1, 16, 14, 14] from "Conv:/conv"
      %3 = const f32[1, 16, 1, 1] random(2)
      %4 = mul(%2, %3) : f32[1, 16, 14, 14] from "Mul:/scale"
    }"#;
    let rule = "scaled: (mul (conv ..?k ?x ?w) ?c) => (conv ..?k ?x (mul ?w (reshape shape=permuted(shape(?c), [1, 0, 2, 3]) ?c))) if constant(?w), constant(?c)  reassoc";
    let all = missed(body, rule, Tier::Approx);
    let found: Vec<_> = all.iter().filter(|m| matches!(m.stopped, Stopped::Cost(..))).collect();
    assert!(!found.is_empty(), "{all:?}");
    let Stopped::Cost(with, without) = found[0].stopped else { unreachable!() };
    assert!(with > without + 1000, "a convolution takes more than a microsecond: {with} against {without}");
    assert!(
        found[0].reason.starts_with("it costs more: ") && found[0].reason.ends_with(" us more"),
        "{}",
        found[0].reason
    );
    assert!(
        found[0].sources.contains("Conv:/conv") && found[0].sources.contains("Mul:/scale"),
        "{found:?}"
    );
}

#[test]
fn a_tier_is_named() {
    let all = missed(&ATTENTION.replace("DTYPE", "f32"), "", Tier::Exact);
    let found = of(&all, "attention");
    assert_eq!(found.len(), 1, "{all:?}");
    assert_eq!(
        (&found[0].stopped, found[0].reason.as_str()),
        (&Stopped::Tier, "its tier is reassoc, exact is allowed")
    );
}

#[test]
fn a_right_hand_side_that_cannot_be_built_is_reported() {
    let body = "graph @g(%0 \"x\": f32[2, 3]) -> (%1 \"y\") { %1 = neg(%0) : f32[2, 3] from \"Neg:/a\" }";
    let all = missed(body, "odd: (neg ?x) => (softmax axis=rank(?x) ?x)  exact", Tier::Approx);
    assert_eq!(
        of(&all, "odd").iter().map(|m| m.stopped.clone()).collect::<Vec<_>>(),
        [Stopped::Failed],
        "{all:?}"
    );
}
