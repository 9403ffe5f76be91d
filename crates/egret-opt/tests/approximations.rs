//! Approximate and lossy rules: what they make may replace a value and never becomes equal to it; their errors have a budget.

use egret_ir::{Graph, Op, text};
use egret_opt::proof::{check, replay};
use egret_opt::rules::{Tier, parse, shipped};
use egret_opt::{Options, PassReport, Stopped, optimize, rules_of};

/// Softmax of two inputs, and what softmax leaves of them.
const TWO: &str = r#"graph @g(%0 "a": f32[64, 512], %1 "b": f32[64, 512]) -> (%4 "y", %5 "z") {
  %2 = softmax(%0) {axis = 1} : f32[64, 512] from "Softmax:/a"
  %3 = softmax(%1) {axis = 1} : f32[64, 512] from "Softmax:/b"
  %4 = sub(%2, %0) : f32[64, 512] from "Sub:/y"
  %5 = sub(%3, %1) : f32[64, 512] from "Sub:/z"
}"#;

fn run(rules: &str, tier: Tier, budget: f64) -> (Graph, PassReport) {
    let rules = parse(rules, "mine.rules", "fuse", shipped()).unwrap();
    let options = Options {
        passes: Some(vec!["fuse".into()]),
        rules,
        tier,
        budget,
        explain: true,
        ..Options::default()
    };
    let (graph, mut reports) = optimize(text::parse(TWO, &|_| None).unwrap(), &options).unwrap();
    (graph, reports.remove(0))
}

fn softmaxes(g: &Graph) -> usize {
    g.node_ids().iter().filter(|&&n| g.node(n).op == Op::Softmax).count()
}

fn applications(report: &PassReport, rule: &str) -> usize {
    report.findings.counts.iter().find(|(name, _)| name == rule).map_or(0, |(_, c)| c.applications)
}

#[test]
fn approximations_do_not_become_equal() {
    // Were softmax(x) and x one class, the exact rule would find x - x in it.
    let rules = "drop: (softmax axis=?a ?x) => ?x approx 3e-5\nnothing: (sub ?x ?x) => (mul ?x 0.0) exact";
    let (after, report) = run(rules, Tier::Approx, 1e-4);
    assert_eq!(
        (softmaxes(&after), applications(&report, "drop"), applications(&report, "nothing")),
        (0, 2, 0)
    );
    assert!((report.findings.error - 6e-5).abs() < 1e-12);
    assert_eq!(report.findings.rewrites.iter().filter(|r| r.rule == "drop").count(), 2);
}

#[test]
fn errors_add_up_to_the_budget_at_most() {
    let rules = "drop: (softmax axis=?a ?x) => ?x approx 6e-5";
    let (after, report) = run(rules, Tier::Approx, 1e-4);
    assert_eq!(softmaxes(&after), 1);
    let missed: Vec<_> =
        report.findings.missed.iter().filter(|m| matches!(m.stopped, Stopped::Budget(..))).collect();
    assert_eq!(missed.len(), 1, "{:?}", report.findings.missed);
    assert!(missed[0].reason.contains("6e-5 is over the budget"), "{}", missed[0].reason);
    assert_eq!(softmaxes(&run(rules, Tier::Approx, 5e-5).0), 2);
    assert_eq!(softmaxes(&run(rules, Tier::Approx, 1.2e-4).0), 0);
}

#[test]
fn the_tier_decides_whether_there_are_approximations() {
    let (after, report) = run("drop: (softmax axis=?a ?x) => (neg (neg ?x)) lossy", Tier::Approx, 1e-4);
    assert_eq!((softmaxes(&after), report.findings.error), (2, 0.0));
    // A lossy rule without a bound is outside of the budget.
    assert_eq!(
        softmaxes(&run("drop: (softmax axis=?a ?x) => (neg (neg ?x)) lossy", Tier::Lossy, 0.0).0),
        0
    );
    assert_eq!(
        softmaxes(&run("drop: (softmax axis=?a ?x) => (neg (neg ?x)) lossy 1e-3", Tier::Lossy, 1e-4).0),
        2
    );
}

#[test]
fn an_approximation_that_costs_more_is_reported() {
    let (after, report) =
        run("slow: (sub ?x ?y) => (softmax axis=1 (add ?x (neg ?y))) approx 1e-6", Tier::Approx, 1e-4);
    assert_eq!(softmaxes(&after), 2);
    let reported = |m: &&egret_opt::Missed| {
        m.rule == "slow" && matches!(m.stopped, Stopped::Cost(with, without) if with > without)
    };
    assert_eq!(report.findings.missed.iter().filter(reported).count(), 2, "{:?}", report.findings.missed);
    assert!(report.findings.rewrites.is_empty());
}

#[test]
fn proofs_state_approximations_last() {
    let rules =
        "drop: (softmax axis=?a ?x) => ?x approx 3e-5\ntwice: (sub ?x ?y) => (add ?x (neg ?y)) exact";
    let (_, report) = run(rules, Tier::Approx, 1e-4);
    let (p, stages) = (report.findings.proof.unwrap(), report.snapshots.unwrap());
    let own = parse(rules, "mine.rules", "fuse", shipped()).unwrap();
    let rules = rules_of("fuse", &own).unwrap();
    check(&p, &rules, Tier::Approx, Some((&stages.stepped, &stages.after))).unwrap();
    assert!(
        check(&p, &rules, Tier::Reassoc, None)
            .unwrap_err()
            .to_string()
            .contains("its tier is approx, reassoc is allowed")
    );
    // A step of an equality that stands behind an approximation may rest on it.
    let mut wrong = p.clone();
    let twice =
        egret_opt::proof::Step { rule: "twice".into(), place: "mine.rules:2".into(), ..p.steps[0].clone() };
    wrong.steps.push(twice);
    assert!(check(&wrong, &rules, Tier::Approx, None).is_err());
    // Softmax is far from what it is computed from.
    let fault = replay(&p, &rules, Tier::Approx, 1).unwrap_err();
    assert_eq!(fault.step.map(|s| s.1).as_deref(), Some("drop"));
}

#[test]
fn approximate_rules_bound_their_error() {
    let fault = |text: &str| parse(text, "mine.rules", "fuse", shipped()).unwrap_err().message;
    assert!(fault("drop: (softmax ?x) => ?x approx").contains("bound of the error"));
    assert!(fault("drop: (softmax ?x) => ?x approx -1.0").contains("-1.0 bounds no error"));
    assert!(fault("drop: (softmax ?x) => ?x exact 1e-5").contains("nothing follows the tier"));
}

#[test]
fn approximations_are_tested_against_their_bounds() {
    use egret_opt::soundness::{self, Effort, Failed};
    let rule = |bound: &str| {
        parse(
            &format!("near: (erf ?x) => (tanh (mul ?x 1.2)) if is_float(?x) approx {bound}"),
            "m",
            "fuse",
            shipped(),
        )
    };
    // Off by 0.0637 x near 0.
    assert!(soundness::check(&rule("0.07").unwrap()[0], Effort::default()).is_ok());
    assert!(matches!(
        soundness::check(&rule("0.01").unwrap()[0], Effort::default()),
        Err(Failed::Differ(_))
    ));
}
