//! Proofs: what the passes write down holds, and what was tampered with does not.

use egret_ir::text;
use egret_opt::proof::{Proof, check, replay};
use egret_opt::rules::{Rule, Tier, parse, shipped};
use egret_opt::{Options, PassReport, optimize, rules_of};

/// A gelu as exporters take it apart, between two transposes that undo one another.
const GELU: &str = r#"graph @g(%0 "x": f32[2, 3]) -> (%10 "y") {
  %1 = transpose(%0) {perm = [1, 0]} : f32[3, 2]
  %2 = transpose(%1) {perm = [1, 0]} : f32[2, 3]
  %3 = const f32[] [1.4142135]
  %4 = div(%2, %3) : f32[2, 3]
  %5 = erf(%4) : f32[2, 3]
  %6 = const f32[] [1.0]
  %7 = add(%5, %6) : f32[2, 3]
  %8 = mul(%2, %7) : f32[2, 3]
  %9 = const f32[] [0.5]
  %10 = mul(%8, %9) : f32[2, 3]
}"#;

fn run(body: &str, rules: &[Rule]) -> Vec<PassReport> {
    let options = Options { explain: true, rules: rules.to_vec(), ..Options::default() };
    optimize(text::parse(body, &|_| None).unwrap(), &options).unwrap().1
}

fn report<'a>(reports: &'a [PassReport], pass: &str) -> &'a PassReport {
    reports.iter().find(|r| r.name == pass).unwrap()
}

fn proof<'a>(reports: &'a [PassReport], pass: &str) -> &'a Proof {
    report(reports, pass).findings.proof.as_ref().unwrap()
}

fn names(p: &Proof) -> Vec<&str> {
    p.steps.iter().map(|s| s.rule.as_str()).collect()
}

/// The proof as a trace keeps it, after `change` of its text.
fn reread(p: &Proof, change: impl Fn(String) -> String) -> Result<Proof, String> {
    let steps = p.steps.iter().map(|s| (s.rule.clone(), s.place.clone(), s.sources.clone())).collect();
    Proof::from_text(&p.pass, p.deep, &change(p.terms_text()), steps, &text::constants(&p.terms))
}

#[test]
fn passes_prove_what_they_do() {
    let reports = run(GELU, &[]);
    assert!(names(proof(&reports, "canonicalize")).contains(&"transpose-of-transpose"));
    assert_eq!(names(proof(&reports, "fuse")), ["erf-of-quotient", "gelu-half-last"]);
    for r in &reports {
        let (Some(p), Some(s)) = (&r.findings.proof, &r.snapshots) else { continue };
        let rules = rules_of(r.name, &[]).unwrap();
        check(p, &rules, Tier::Approx, Some((&s.stepped, &s.after))).unwrap();
        let again = reread(p, |t| t).unwrap();
        check(&again, &rules, Tier::Approx, Some((&s.stepped, &s.after))).unwrap();
        let done = replay(p, &rules, Tier::Approx, 1).unwrap();
        assert_eq!((done.run, done.left_out.len()), (p.steps.len(), 0), "{}", r.name);
    }
}

/// What exporters write of TensorFlow's convolutions: transposes around each, a bias behind them, an activation, a mean.
const CHANNELS_LAST: &str = r#"graph @g(%0 "x": f32[1, 6, 6, 3]) -> (%11 "y") {
  %1 = transpose(%0) {perm = [0, 3, 1, 2]} : f32[1, 3, 6, 6]
  %2 = const f32[4, 3, 3, 3] random(1)
  %3 = conv(%1, %2) {dilations = [1, 1], groups = 1, layout = "channels_first", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[1, 4, 6, 6]
  %4 = const f32[4, 1, 1] random(2)
  %5 = add(%4, %3) : f32[1, 4, 6, 6]
  %6 = const f32[] [0.0]
  %7 = max(%5, %6) : f32[1, 4, 6, 6]
  %8 = concat(%7, %5) {axis = 1} : f32[1, 8, 6, 6]
  %9 = reduce(%8) {axes = [2, 3], keepdims = 0, kind = "sum"} : f32[1, 8]
  %10 = transpose(%9) {perm = [1, 0]} : f32[8, 1]
  %11 = neg(%10) : f32[8, 1]
}"#;

#[test]
fn a_step_in_code_is_proven_by_the_rules_that_it_applies() {
    let reports = run(CHANNELS_LAST, &[]);
    let (r, rules) = (report(&reports, "layout"), rules_of("layout", &[]).unwrap());
    let (p, s) = (r.step_proof.as_ref().unwrap(), r.snapshots.as_ref().unwrap());
    let wanted = [
        "transpose-of-transpose",
        "transpose-nothing",
        "conv-channels-last",
        "align",
        "elementwise-transposed",
        "concat-transposed",
        "reduce-of-transposed",
    ];
    assert!(wanted.iter().all(|w| names(p).contains(w)), "{:?}", names(p));
    assert!(r.findings.rewrites.iter().any(|r| r.rule == "conv-channels-last"));
    check(p, &rules, Tier::Exact, Some((&s.before, &s.stepped))).unwrap();
    let done = replay(p, &rules, Tier::Exact, 1).unwrap();
    assert!(done.run > 0 && done.left_out.is_empty(), "{done:?}");
    let mut wrong = p.clone();
    wrong.steps.retain(|s| s.rule != "conv-channels-last");
    assert!(check(&wrong, &rules, Tier::Exact, None).is_err());
}

#[test]
fn a_step_in_code_does_not_do_what_no_rule_allows() {
    for rule in layout_rules() {
        let options = Options { explain: true, without: [rule.clone()].into(), ..Options::default() };
        let (_, reports) = optimize(text::parse(CHANNELS_LAST, &|_| None).unwrap(), &options).unwrap();
        let layout = report(&reports, "layout");
        let steps = layout.step_proof.as_ref().map(names).unwrap_or_default();
        assert!(!steps.contains(&rule.as_str()), "{rule}");
        assert!(layout.findings.rewrites.iter().all(|r| r.rule != rule), "{rule}");
    }
}

/// The names of the rules that the layout's proofs may rest on.
fn layout_rules() -> Vec<String> {
    rules_of("layout", &[]).unwrap().iter().map(|r| r.name.clone()).collect()
}

#[test]
fn a_proof_that_was_tampered_with_does_not_hold() {
    let reports = run(GELU, &[]);
    let (p, rules) = (proof(&reports, "fuse"), rules_of("fuse", &[]).unwrap());
    let fault = |p: &Proof, tier| check(p, &rules, tier, None).unwrap_err().to_string();
    let mut wrong = p.clone();
    wrong.steps[1].rule = "silu-of-sigmoid".into();
    assert!(
        fault(&wrong, Tier::Approx)
            .contains("step 1, rule `silu-of-sigmoid`: the term before is no instance")
    );
    let mut wrong = p.clone();
    wrong.steps[1].rule = "none-such".into();
    assert!(fault(&wrong, Tier::Approx).contains("there is no such rule"));
    let mut wrong = p.clone();
    wrong.steps.remove(0);
    assert!(fault(&wrong, Tier::Approx).contains("do not make output 0 the same"));
    let mut wrong = p.clone();
    wrong.steps.clear();
    assert!(fault(&wrong, Tier::Approx).contains("do not make output 0 the same"));
    assert!(fault(p, Tier::Exact).contains("its tier is reassoc, exact is allowed"));
    let wrong = reread(p, |t| t.replace("approximate = \"none\"", "approximate = \"tanh\"")).unwrap();
    assert!(
        fault(&wrong, Tier::Approx).contains("rule `gelu-half-last`: the term after is not the instance")
    );
    let wrong = reread(p, |t| t.replace("1.4142135", "1.4142145")).unwrap();
    assert!(
        fault(&wrong, Tier::Approx)
            .contains("rule `erf-of-quotient`: its guard `~1.4142135623730951` does not hold")
    );
    let stages = report(&reports, "fuse").snapshots.as_ref().unwrap();
    let other =
        check(p, &rules, Tier::Approx, Some((&stages.after, &stages.after))).unwrap_err().to_string();
    assert!(other.contains("not about the graph before the pass"), "{other}");
}

#[test]
fn a_rule_that_is_wrong_is_found_on_random_tensors() {
    let bad = parse("pass fuse\nworse: (gelu ?x) => ?x exact", "bad.rules", "fuse", shipped());
    let bad = bad.unwrap();
    let reports = run(GELU, &bad);
    let (p, rules) = (proof(&reports, "fuse"), rules_of("fuse", &bad).unwrap());
    check(p, &rules, Tier::Approx, None).unwrap();
    let fault = replay(p, &rules, Tier::Approx, 1).unwrap_err();
    assert_eq!(fault.step.as_ref().map(|s| s.1.as_str()), Some("worse"));
    assert!(fault.message.contains("on random tensors element 0"), "{fault}");
}

#[test]
fn what_a_variable_is_computed_from_is_drawn_in_its_place() {
    // The queries are a transpose of the keys, which the right-hand side transposes itself.
    let body = r#"graph @g(%0 "x": f32[2, 4, 4, 2]) -> (%5 "y") {
  %1 = transpose(%0) {perm = [0, 3, 2, 1]} : f32[2, 2, 4, 4]
  %2 = transpose(%0) {perm = [0, 3, 1, 2]} : f32[2, 2, 4, 4]
  %3 = matmul(%2, %1) : f32[2, 2, 4, 4]
  %4 = softmax(%3) {axis = 3} : f32[2, 2, 4, 4]
  %5 = matmul(%4, %2) : f32[2, 2, 4, 4]
}"#;
    let reports = run(body, &[]);
    let p = proof(&reports, "fuse");
    assert_eq!(names(p), ["attention", "transpose-of-transpose"]);
    assert_eq!(replay(p, &rules_of("fuse", &[]).unwrap(), Tier::Approx, 1).unwrap().run, 2);
}

/// Attention over keys that a large finite number masks throughout, one of them added and one chosen, in each float type that holds it.
/// The sum of a score and the number loses the score, which the attention keeps: no rule is to blame.
#[test]
fn digits_that_a_mask_takes_are_no_fault_of_a_rule() {
    for (dtype, far) in
        [("f32", "-1e9"), ("f32", "-3.4e38"), ("f64", "-1e20"), ("f16", "-65504.0"), ("bf16", "-1e9")]
    {
        for scored in ["add(%4, %5)", "add(%5, %4)"] {
            let body = format!(
                r#"graph @g(%0 "q": {dtype}[2, 8], %1 "k": {dtype}[2, 8], %2 "v": {dtype}[2, 8]) -> (%8 "y") {{
  %3 = transpose(%1) {{perm = [1, 0]}} : {dtype}[8, 2]
  %4 = matmul(%0, %3) : {dtype}[2, 2]
  %5 = const {dtype}[2, 2] [{far}, {far}, {far}, {far}]
  %6 = {scored} : {dtype}[2, 2]
  %7 = softmax(%6) {{axis = 1}} : {dtype}[2, 2]
  %8 = matmul(%7, %2) : {dtype}[2, 8]
}}"#
            );
            let reports = run(&body, &[]);
            let fuse = proof(&reports, "fuse");
            assert!(names(fuse).contains(&"attention-added"), "{body}");
            for seed in 1..9 {
                replay(fuse, &rules_of("fuse", &[]).unwrap(), Tier::Approx, seed).unwrap();
            }
        }
    }
}
