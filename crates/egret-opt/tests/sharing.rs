//! Blocks that repeat are optimised once, with the same result as one by one; threads change nothing.

use egret_ir::{Graph, Op, text};
use egret_opt::{Options, PassReport, optimize};
use std::fmt::Write as _;

/// A network of equal layers that have weights, sources and names of their own: x + gelu(x w) w'.
fn network(layers: usize) -> Graph {
    let mut body = String::new();
    let mut x = 0;
    for l in 0..layers {
        let v = |i: usize| 1000 * (l + 1) + i;
        let mut line =
            |i: usize, what: String| writeln!(body, "%{} = {what} from \"Layer{l}:/{i}\"", v(i)).unwrap();
        line(0, format!("const f32[32, 32] random({})", 2 * l + 1));
        line(1, format!("const f32[32, 32] random({})", 2 * l + 2));
        line(2, "const f32[] [1.4142135]".into());
        line(3, "const f32[] [1.0]".into());
        line(4, "const f32[] [0.5]".into());
        line(5, format!("matmul(%{x}, %{})", v(0)));
        line(6, format!("div(%{}, %{})", v(5), v(2)));
        line(7, format!("erf(%{})", v(6)));
        line(8, format!("add(%{}, %{})", v(7), v(3)));
        line(9, format!("mul(%{}, %{})", v(5), v(8)));
        line(10, format!("mul(%{}, %{})", v(9), v(4)));
        line(11, format!("neg(%{})", v(10)));
        line(12, format!("matmul(%{}, %{})", v(11), v(1)));
        line(13, format!("add(%{x}, %{})", v(12)));
        x = v(13);
    }
    let body: Vec<String> = body
        .lines()
        .map(|l| {
            if l.contains("const") {
                l.split(" from ").next().unwrap_or(l).to_owned()
            } else {
                l.to_owned()
            }
        })
        .collect();
    text::parse(
        &format!("graph @g(%0 \"x\": f32[4, 32]) -> (%{x} \"y\") {{\n{}\n}}", body.join("\n")),
        &|_| None,
    )
    .unwrap()
}

fn run(layers: usize, threads: usize) -> (Graph, Vec<PassReport>) {
    optimize(network(layers), &Options { threads, explain: true, ..Options::default() }).unwrap()
}

fn gelus(graph: &Graph) -> Vec<Vec<String>> {
    let nodes = graph.topological().unwrap();
    nodes
        .iter()
        .map(|&n| graph.node(n))
        .filter(|n| n.op == Op::Gelu)
        .map(|n| n.sources.iter().cloned().collect())
        .collect()
}

#[test]
fn every_block_is_rewritten_and_keeps_its_own_sources_and_weights() {
    let layers = 40;
    let (after, reports) = run(layers, 1);
    let found = gelus(&after);
    assert_eq!(found.len(), layers);
    for (l, sources) in found.iter().enumerate() {
        assert!(
            !sources.is_empty() && sources.iter().all(|s| s.starts_with(&format!("Layer{l}:"))),
            "{l}: {sources:?}"
        );
    }
    let (regions, saturated) = reports.iter().map(|r| r.findings.regions).max().unwrap();
    assert!(regions >= layers / 4 && saturated <= 3, "{saturated} of {regions} regions were saturated");
    let rewrites =
        reports.iter().flat_map(|r| &r.findings.rewrites).filter(|r| r.rule.contains("gelu")).count();
    assert!(rewrites >= layers);
    // Each layer still has its own two weights.
    let weights = after.value_ids().filter(|&v| after.as_const(v).is_some_and(|t| t.len() == 1024)).count();
    assert_eq!(weights, 2 * layers);
    egret_ir::verify(&after).unwrap();
}

#[test]
fn the_same_comes_out_on_one_thread_and_on_two() {
    // Every optimisation in full: graph, findings and proofs.
    let spell = |threads: usize| {
        let (after, reports) = run(50, threads);
        let findings = reports.iter().map(|r| {
            let (f, proof) = (&r.findings, r.findings.proof.as_ref().map(|p| (p.terms_text(), &p.steps)));
            format!("{} {:?} {:?} {:?} {:?} {proof:?}", r.name, f.rewrites, f.missed, f.limits, f.counts)
        });
        let findings: Vec<String> = findings.collect();
        (text::print(&after), findings)
    };
    let one = spell(1);
    assert!(one == spell(2) && one == spell(0) && one == spell(1));
}

#[test]
fn one_constant_used_twice_differs_from_two_constants() {
    // Blocks of two weights each; in the first of three they are the same one.
    let block = |x: usize, at: usize, a: usize, b: usize| {
        let mut out = String::new();
        let mut last = x;
        for i in 0..24 {
            let (w, next) = (if i % 2 == 0 { a } else { b }, at + i);
            writeln!(out, "%{next} = mul(%{last}, %{w})").unwrap();
            last = next;
        }
        writeln!(out, "%{} = add(%{last}, %{x})", at + 24).unwrap();
        out
    };
    let consts: String = (1..=5).map(|i| format!("%{i} = const f32[32] random({i})\n")).collect();
    let mut body = consts;
    for (i, (a, b)) in [(1, 1), (2, 3), (4, 5), (3, 2), (5, 4)].into_iter().enumerate() {
        body += &block(if i == 0 { 0 } else { 100 * i + 24 }, 100 * (i + 1), a, b);
    }
    let graph =
        text::parse(&format!("graph @g(%0 \"x\": f32[32]) -> (%524 \"y\") {{\n{body}}}"), &|_| None)
            .unwrap();
    let input = egret_ir::Tensor::new(&[32], (0..32).map(|i| 1.0 + i as f32 / 64.0).collect::<Vec<f32>>());
    let before = egret_ir::interp::run(&graph, &[input.clone().into()]).unwrap();
    let (after, _) =
        optimize(graph, &Options { tier: egret_opt::rules::Tier::Exact, ..Options::default() }).unwrap();
    assert_eq!(egret_ir::interp::run(&after, &[input.into()]).unwrap(), before);
}
