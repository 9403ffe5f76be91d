//! Rules in the e-graph: applied, refused loudly where they are wrong, explained where they are not applied.

use egret_ir::{Graph, Op, text};
use egret_opt::rules::{Tier, parse, shipped};
use egret_opt::{OptError, Options, PASSES, optimize, parse_rules};

fn graph(body: &str) -> Graph {
    text::parse(body, &|_| None).unwrap()
}

fn with_rules(rules: &str, tier: Tier) -> Options {
    let rules = parse(rules, "mine.rules", "canonicalize", shipped()).unwrap();
    Options { passes: Some(vec!["canonicalize".into()]), tier, rules, explain: true, ..Options::default() }
}

fn ops(g: &Graph) -> Vec<Op> {
    g.node_ids().into_iter().map(|n| g.node(n).op).collect()
}

const TWICE: &str = "graph @g(%0 \"x\": f32[2, 3]) -> (%2 \"y\") { %1 = sin(%0) from \"Sin:/a\"\n %2 = sin(%1) from \"Sin:/b\" }";

#[test]
fn a_rule_of_the_user_applies_and_is_reported() {
    let options = with_rules(
        "sin-sin: (sin (sin ?x)) => (abs (sin (sin ?x))) exact\nabs-sin: (abs (sin (sin ?x))) => ?x exact",
        Tier::Exact,
    );
    let (after, reports) = optimize(graph(TWICE), &options).unwrap();
    assert_eq!(ops(&after), vec![]);
    assert!(reports[0].findings.rewrites.iter().any(|r| r.rule == "abs-sin" && r.place == "mine.rules:2"));
    assert!(reports[0].findings.rewrites.iter().all(|r| r.sources.contains("Sin:/b")));
}

#[test]
fn a_rule_above_the_tier_and_a_guard_that_fails_are_missed() {
    let rules = "fast: (sin (sin ?x)) => ?x lossy\nflat: (sin (sin ?x)) => ?x if rank(?x) == 1 exact";
    let (after, reports) = optimize(graph(TWICE), &with_rules(rules, Tier::Exact)).unwrap();
    assert_eq!(ops(&after), vec![Op::Sin, Op::Sin]);
    let missed: Vec<String> =
        reports[0].findings.missed.iter().map(|m| format!("{}: {}", m.rule, m.reason)).collect();
    assert_eq!(
        missed,
        ["fast: its tier is lossy, exact is allowed", "flat: `rank(?x) == 1` does not hold: 2 against 1"]
    );
}

#[test]
fn a_rule_that_changes_a_type_is_named() {
    let options = with_rules("bad: (sin ?x) => (reshape shape=[6] ?x) exact", Tier::Exact);
    let Err(OptError::Rule(e)) = optimize(graph(TWICE), &options) else { panic!("a wrong rule passed") };
    assert!(e.contains("rule `bad` (mine.rules:1)") && e.contains("f32[6]"), "{e}");
}

#[test]
fn a_rule_of_no_pass_is_refused_where_it_is_read_and_where_it_is_used() {
    let text = "a: (sin ?x) => ?x lossy\npass none-such\nb: (cos ?x) => ?x lossy";
    let e = parse_rules(text, "mine.rules", "canonicalize", shipped()).unwrap_err().to_string();
    assert!(e.starts_with("mine.rules:3: no pass is called `none-such`; there are canonicalize, "), "{e}");
    let Err(OptError::Rule(used)) = optimize(graph(TWICE), &with_rules(text, Tier::Exact)) else {
        panic!("a rule of no pass passed")
    };
    assert_eq!(used, e);
}

#[test]
fn a_rule_of_the_user_belongs_to_the_pass_that_it_names() {
    for pass in PASSES {
        let text = format!("pass {}\nsin-sin: (sin (sin ?x)) => ?x lossy", pass.name);
        let rules = parse_rules(&text, "mine.rules", "canonicalize", shipped()).unwrap();
        let after = Some(pass.name.into());
        let options = Options { rules, tier: Tier::Lossy, after, ..Options::default() };
        let (after, reports) = optimize(graph(TWICE), &options).unwrap();
        assert_eq!(ops(&after), vec![], "{}", pass.name);
        assert_eq!(reports.last().unwrap().findings.rewrites.len(), 1, "{}", pass.name);
    }
}

#[test]
fn rules_that_grow_forever_hit_a_limit() {
    let options = with_rules("grow: (sin ?x) => (sin (exp ?x)) exact", Tier::Exact);
    let (_, reports) = optimize(graph(TWICE), &options).unwrap();
    assert!(!reports[0].findings.limits.is_empty());
}

#[test]
fn constants_are_not_added_in_two_orders() {
    // 0.1 + (0.2 + 0.3) is not (0.1 + 0.2) + 0.3 in f32.
    let body = "graph @g(%0 \"x\": f32[2]) -> (%9 \"y\") { %1 = const f32[] [0.1] %2 = const f32[] [0.2] %3 = const f32[] [0.3] \
                %4 = add(%0, %1) %5 = add(%4, %2) %6 = add(%5, %3) %7 = const f32[] [0.7] %8 = add(%6, %7) %9 = neg(%8) }";
    let (after, _) = optimize(graph(body), &Options::default()).unwrap();
    assert_eq!(ops(&after), vec![Op::Add, Op::Neg]);
}
