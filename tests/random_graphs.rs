//! Random graphs through all passes and engines: the interpreter on the graph as it was drawn says what every one of them must give.
//!
//! `EGRET_CASES=10000 cargo test --test random_graphs` looks longer than usual. A failure is shrunk and printed as text IR.

use egret::ir::{DType, Graph, Value, interp, text};
use egret::{Engine, Executable, Options, compare, pipeline, source};
use egret_workspace::random::{Gene, graph};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// Whether outputs are as they should be; floats up to a part of the largest value anywhere in the graph, unless `exact`.
fn same(want: &[Value], got: &[Value], scale: f64, exact: bool) -> Result<(), String> {
    let atol = if exact { 0.0 } else { 2e-4 * scale.max(1.0) };
    let tolerance = compare::Tolerance { rtol: if exact { 0.0 } else { 1e-3 }, atol };
    want.iter()
        .zip(got)
        .enumerate()
        .try_for_each(|(i, (w, g))| compare::compare(w, g, tolerance).map_err(|e| format!("y{i}: {e}")))
}

/// The largest value anywhere in a graph.
fn largest(graph: &Graph, inputs: &[Value]) -> f64 {
    let mut all = graph.clone();
    all.clear_outputs();
    for n in graph.node_ids() {
        graph.node(n).results.iter().for_each(|&v| all.add_output("", v));
    }
    let values = interp::run(&all, inputs).unwrap_or_default();
    let tensors = values.iter().filter_map(Value::as_tensor).filter(|t| t.dtype() == DType::F32);
    tensors
        .flat_map(|t| t.data::<f32>().to_vec())
        .filter(|v| v.is_finite())
        .fold(0.0, |m, v| m.max(f64::from(v.abs())))
}

/// Hold one graph; gives how many rewrites it saw, and how many alternatives among them.
fn hold(genes: &[Gene]) -> Result<[usize; 2], String> {
    let graph = graph(genes);
    let inputs = source::made_up(&graph, 5).map_err(|e| e.to_string())?;
    let want = interp::run(&graph, &inputs).map_err(|e| format!("the interpreter: {e}"))?;
    let scale = largest(&graph, &inputs);
    let at = |what: &str, e: String| format!("{what}: {e}\n{}", text::print(&graph));
    let mut trace = egret::Trace::new();
    for tier in ["exact", "approx"] {
        let options = Options { tier: tier.parse()?, ..Options::default() };
        for pass in pipeline::pass_names() {
            let after = pipeline::optimize(graph.clone(), &options, Some(pass), &mut trace)
                .map_err(|e| at(pass, e.to_string()))?;
            let got = interp::run(&after, &inputs).map_err(|e| at(pass, e.to_string()))?;
            same(&want, &got, scale, tier == "exact")
                .map_err(|e| at(&format!("{tier} after {pass}"), e))?;
        }
    }
    // Alternatives, whose values say nothing, are proven and chosen like anything else.
    let mut near = Options::default();
    near.add_rules("pass fuse\nnear: (softmax axis=?a ?x) => (sigmoid ?x) lossy", "near.rules")
        .map_err(|e| e.to_string())?;
    near.tier = egret::Tier::Lossy;
    pipeline::optimize(graph.clone(), &near, None, &mut trace)
        .map_err(|e| at("alternatives", e.to_string()))?;
    for options in [Options::default(), near] {
        egret::verify::verify(graph.clone(), None, &options, None)
            .map_err(|e| at("a proof", e.to_string()))?;
    }
    // Linking takes its time.
    let engines = if genes.len().is_multiple_of(13) {
        &[Engine::Jit, Engine::JitNoOpt, Engine::Aot][..]
    } else {
        &[Engine::Jit, Engine::JitNoOpt]
    };
    for &engine in engines {
        let run = Executable::new(
            graph.clone(),
            engine,
            &Options { threads: 1, ..Options::default() },
            &BTreeMap::new(),
        );
        let got = run.and_then(|e| e.run(&inputs)).map_err(|e| at(engine.name(), e.to_string()))?;
        same(&want, &got, scale, false).map_err(|e| at(engine.name(), e))?;
    }
    let rewrites = || {
        trace.events.iter().filter_map(|e| match &e.kind {
            Some(egret::trace::Kind::Rewrite(r)) => Some(r),
            _ => None,
        })
    };
    Ok([rewrites().count(), rewrites().filter(|r| r.rule == "near").count()])
}

#[test]
fn every_pass_and_engine_keeps_what_a_graph_computes() {
    let cases = std::env::var("EGRET_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let genes = prop::collection::vec(any::<Gene>(), 1..26);
    let seen = std::cell::Cell::new([0, 0]);
    let result = runner.run(&genes, |genes| {
        let ([a, b], [c, d]) = (seen.get(), hold(&genes).map_err(TestCaseError::fail)?);
        seen.set([a + c, b + d]);
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
    // Graphs that no rule matches would hold nothing.
    let [rewrites, alternatives] = seen.get();
    assert!(
        rewrites > cases as usize && alternatives > cases as usize / 10,
        "{rewrites} rewrites, {alternatives} alternatives in {cases} graphs"
    );
}
