//! Horizontal fusion: contractions of one value become one where that is estimated to be faster. Its rules are tested, its proofs
//! checked and replayed.

use egret_ir::{Graph, Op, text};
use egret_opt::proof::{Proof, check, replay};
use egret_opt::rules::{Rule, Tier, parse, shipped};
use egret_opt::soundness::{self, Effort, Failed};
use egret_opt::{Options, PassReport, Stopped, optimize, rules_of};

/// Three products of one value, of so many columns each.
fn products(columns: usize) -> Graph {
    let product = |i: usize| {
        let (w, y) = (1 + i, 4 + i);
        format!(
            "%{w} = const f32[384, {columns}] random({i})\n%{y} = matmul(%0, %{w}) : f32[256, {columns}] from \"MatMul:/{i}\"\n"
        )
    };
    let body: String = (0..3).map(product).collect();
    text::parse(
        &format!("graph @g(%0 \"x\": f32[256, 384]) -> (%4 \"a\", %5 \"b\", %6 \"c\") {{\n{body}}}"),
        &|_| None,
    )
    .unwrap()
}

fn run(graph: Graph) -> (Graph, PassReport) {
    let options =
        Options { passes: Some(vec!["fuse-horizontal".into()]), explain: true, ..Options::default() };
    let (graph, mut reports) = optimize(graph, &options).unwrap();
    (graph, reports.remove(0))
}

fn count(graph: &Graph, op: Op) -> usize {
    graph.node_ids().iter().filter(|&&n| graph.node(n).op == op).count()
}

#[test]
fn products_that_do_not_fill_vectors_are_one() {
    let (after, report) = run(products(4));
    assert_eq!((count(&after, Op::Matmul), count(&after, Op::Slice)), (1, 3));
    assert_eq!(report.findings.rewrites.len(), 3);
    assert_eq!(report.findings.rewrites[0].sources.len(), 3, "each rests on all siblings");
}

#[test]
fn wide_ones_stay_apart_and_the_reason_is_reported() {
    let (after, report) = run(products(64));
    assert_eq!(count(&after, Op::Matmul), 3);
    let missed: Vec<_> =
        report.findings.missed.iter().filter(|m| m.rule == "fuse-sibling-matmuls").collect();
    assert_eq!(missed.len(), 1);
    assert!(matches!(missed[0].stopped, Stopped::Cost(with, without) if with > without), "{missed:?}");
    assert_eq!(missed[0].sources.len(), 3);
}

#[test]
fn a_proof_needs_no_siblings_and_no_wrong_place() {
    let (_, report) = run(products(4));
    let (p, stages) = (report.findings.proof.unwrap(), report.snapshots.unwrap());
    let rules = rules_of("fuse-horizontal", &[]).unwrap();
    check(&p, &rules, Tier::Exact, Some((&stages.stepped, &stages.after))).unwrap();
    assert_eq!(replay(&p, &rules, Tier::Exact, 1).unwrap().run, 3);
    let text = p.terms_text().replace("starts = [0, 4]", "starts = [0, 5]");
    let steps = p.steps.iter().map(|s| (s.rule.clone(), s.place.clone(), s.sources.clone())).collect();
    let wrong =
        Proof::from_text("fuse-horizontal", false, &text, steps, &text::constants(&p.terms)).unwrap();
    let fault = check(&wrong, &rules, Tier::Exact, None).unwrap_err().to_string();
    assert!(fault.contains("rule `fuse-sibling-matmuls`: the term after is not the instance"), "{fault}");
}

fn rule(text: &str) -> Result<Rule, String> {
    parse(text, "mine.rules", "fuse-horizontal", shipped()).map(|mut r| r.remove(0)).map_err(|e| e.message)
}

#[test]
fn rules_of_siblings_are_tested() {
    let wrong = "wrong: ?y:(matmul ?x ?w) for ?w in ?ws at ?i
      => (slice starts=part_starts(?y, -1, ?ws, -1, 0) sizes=shape(?y) steps=ones(?y) (matmul ?x (concat axis=last(?w) ?ws..)))
      if 2 <= rank(?w), alike_but(?ws, -1) exact";
    assert!(matches!(soundness::check(&rule(wrong).unwrap(), Effort::default()), Err(Failed::Differ(_))));
}

#[test]
fn a_clause_of_siblings_is_complete() {
    let fault = |clause: &str| rule(&format!("r: (matmul ?x ?w) for {clause} => ?x exact")).unwrap_err();
    assert!(fault("?v in ?ws at ?i").contains("value `v` is not bound"));
    assert!(fault("?w at ?i").contains("`in` is not there"));
    assert!(fault("?w in ?x at ?i").contains("`?x` stands for something else already"));
}
