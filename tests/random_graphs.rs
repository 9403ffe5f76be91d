//! Random graphs through all passes and engines: the interpreter on the graph as it was drawn says what every one of them must give.
//!
//! `EGRET_CASES=10000 cargo test --test random_graphs` looks longer than usual. A failure is shrunk and printed as text IR.

use egret::ir::{
    Attr, Attrs, Builder, DType, Dim, Graph, Op, Tensor, TensorType, Type, Value, ValueId, attrs, interp,
    text,
};
use egret::{Engine, Executable, Options, compare, pipeline, source};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// What one node is drawn from: which kind, and what its operands and attributes are taken from.
type Gene = (u8, u8, u8, u8);

/// Elements that a value has at most.
const MOST: i64 = 4096;

struct Draw {
    b: Builder,
    /// Values so far, all f32.
    values: Vec<ValueId>,
}

impl Draw {
    fn shape(&self, v: ValueId) -> Vec<i64> {
        self.b.tensor_ty(v).shape.iter().filter_map(Dim::as_const).collect()
    }

    fn pick(&self, by: u8) -> ValueId {
        // The latest values more often: deep graphs match more patterns.
        let n = self.values.len();
        let back = (by as usize * by as usize * n) / (256 * 256);
        self.values[n - 1 - back]
    }

    fn scalar(&mut self, v: f32) -> ValueId {
        self.b.constant(Tensor::scalar(v))
    }

    fn weights(&mut self, shape: &[i64], seed: u8) -> Option<ValueId> {
        let ty = TensorType { dtype: DType::F32, shape: shape.iter().map(|&d| Dim::constant(d)).collect() };
        let t = text::parse_tensor(&format!("{ty} random({seed})"), &|_| None).ok()?;
        Some(self.b.constant(t))
    }

    fn node(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Option<ValueId> {
        self.b.emit(op, attrs, operands).ok()
    }

    /// x * half * (1 + erf(x / c)) and the like: what exporters take apart.
    fn activation(&mut self, x: ValueId, which: u8) -> Option<ValueId> {
        let (one, half) = (self.scalar(1.0), self.scalar(0.5));
        match which % 4 {
            0 => {
                let c = self.scalar(std::f32::consts::SQRT_2);
                let d = self.node(Op::Div, attrs! {}, &[x, c])?;
                let e = self.node(Op::Erf, attrs! {}, &[d])?;
                let a = self.node(Op::Add, attrs! {}, &[e, one])?;
                let m = self.node(Op::Mul, attrs! {}, &[x, a])?;
                self.node(Op::Mul, attrs! {}, &[m, half])
            }
            1 => {
                let s = self.node(Op::Sigmoid, attrs! {}, &[x])?;
                self.node(Op::Mul, attrs! {}, &[x, s])
            }
            2 => {
                let (three, zero, six) = (self.scalar(3.0), self.scalar(0.0), self.scalar(6.0));
                let a = self.node(Op::Add, attrs! {}, &[x, three])?;
                let a = self.node(Op::Max, attrs! {}, &[a, zero])?;
                let a = self.node(Op::Min, attrs! {}, &[a, six])?;
                let m = self.node(Op::Mul, attrs! {}, &[x, a])?;
                self.node(Op::Div, attrs! {}, &[m, six])
            }
            _ => {
                let zero = self.scalar(0.0);
                self.node(Op::Max, attrs! {}, &[x, zero])
            }
        }
    }

    /// A layer norm in pieces, over the last axis.
    fn norm(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.shape(x);
        let (last, axis) = (*shape.last()?, shape.len() as i64 - 1);
        let mean = |d: &mut Draw, x: ValueId| {
            let sum = d.node(Op::Reduce, attrs! { kind: "sum", axes: vec![axis], keepdims: 1i64 }, &[x])?;
            let n = d.scalar(last as f32);
            d.node(Op::Div, attrs! {}, &[sum, n])
        };
        let m = mean(self, x)?;
        let c = self.node(Op::Sub, attrs! {}, &[x, m])?;
        let s = self.node(Op::Mul, attrs! {}, &[c, c])?;
        let v = mean(self, s)?;
        let e = self.scalar(0.1);
        let v = self.node(Op::Add, attrs! {}, &[v, e])?;
        let r = self.node(Op::Sqrt, attrs! {}, &[v])?;
        self.node(Op::Div, attrs! {}, &[c, r])
    }

    fn gene(&mut self, (kind, p, q, r): Gene) -> Option<ValueId> {
        let x = self.pick(p);
        let (shape, rank) = (self.shape(x), self.shape(x).len());
        let axis = |by: u8| if rank == 0 { 0 } else { i64::from(by) % rank as i64 };
        match kind % 16 {
            0 => self.node([Op::Neg, Op::Abs, Op::Tanh, Op::Sigmoid][q as usize % 4], attrs! {}, &[x]),
            1 | 2 => {
                let y = self.pick(q);
                self.node([Op::Add, Op::Sub, Op::Max, Op::Min][r as usize % 4], attrs! {}, &[x, y])
            }
            3 => {
                let t = self.node(Op::Tanh, attrs! {}, &[x])?;
                let y = self.pick(q);
                self.node(Op::Mul, attrs! {}, &[y, t])
            }
            4 | 5 => {
                // A constant for all, or for each channel.
                let c = match r % 3 {
                    0 => self.scalar([2.0, 0.5, 1.0, -1.0, 0.25, 3.0][q as usize % 6]),
                    1 => self.weights(&shape[rank.saturating_sub(1)..], q)?,
                    _ => {
                        let channels: Vec<i64> =
                            shape.iter().enumerate().map(|(i, &d)| if i == 1 { d } else { 1 }).collect();
                        self.weights(&channels, q)?
                    }
                };
                self.node([Op::Add, Op::Mul, Op::Mul, Op::Sub][(r / 3) as usize % 4], attrs! {}, &[x, c])
            }
            6 => {
                let n = [1, 2, 3, 4, 8][q as usize % 5];
                let w = self.weights(&[*shape.last()?, n], r)?;
                (rank >= 2).then(|| self.node(Op::Matmul, attrs! {}, &[x, w]))?
            }
            7 => {
                let y = self.pick(q);
                let of = self.shape(y).len();
                let mut perm: Vec<i64> = (0..of as i64).collect();
                perm.swap(of.checked_sub(2)?, of - 1);
                let t = self.node(Op::Transpose, attrs! { perm: perm }, &[y])?;
                let s = self.node(Op::Matmul, attrs! {}, &[x, t])?;
                let a = self.shape(s).len() as i64 - 1;
                let s = self.node(Op::Softmax, attrs! { axis: a }, &[s])?;
                self.node(Op::Matmul, attrs! {}, &[s, y])
            }
            8 => {
                let mut perm: Vec<i64> = (0..rank as i64).collect();
                (rank > 0).then(|| perm.rotate_left(q as usize % rank));
                if rank > 1 && r % 2 == 0 {
                    perm.swap(0, 1);
                }
                self.node(Op::Transpose, attrs! { perm: perm }, &[x])
            }
            9 => {
                let mut dims = shape.clone();
                match q % 3 {
                    0 => dims = vec![dims.iter().product()],
                    1 => dims.insert(r as usize % (rank + 1), 1),
                    _ => dims.reverse(),
                }
                self.node(
                    Op::Reshape,
                    attrs! { shape: Attr::Dims(dims.into_iter().map(Dim::constant).collect()) },
                    &[x],
                )
            }
            10 => (rank > 0).then(|| self.node(Op::Softmax, attrs! { axis: axis(q) }, &[x]))?,
            11 => (rank > 0).then(|| {
                let kind = ["sum", "max", "min"][q as usize % 3];
                self.node(
                    Op::Reduce,
                    attrs! { kind: kind, axes: vec![axis(r)], keepdims: i64::from(p % 2) },
                    &[x],
                )
            })?,
            12 => {
                let y = self.pick(q);
                (rank > 0).then(|| self.node(Op::Concat, attrs! { axis: axis(r) }, &[x, y]))?
            }
            13 => {
                let (channels, filters) = (*shape.get(1)?, [1, 2, 4][q as usize % 3]);
                let window = if r % 2 == 0 { 1 } else { 3 };
                let w = self.weights(&[filters, channels, window, window], r)?;
                let pad = i64::from(r / 2 % 2);
                let attrs = attrs! {
                    strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![pad; 4], groups: 1i64, layout: "channels_first"
                };
                (rank == 4).then(|| self.node(Op::Conv, attrs, &[x, w]))?
            }
            14 => self.activation(x, q),
            _ => (rank > 0).then(|| self.norm(x))?,
        }
    }
}

/// A graph from genes; those that do not fit are left out.
fn graph(genes: &[Gene]) -> Graph {
    let mut d = Draw { b: Builder::new("drawn"), values: vec![] };
    for (name, shape) in [("a", &[2i64, 3, 4, 4][..]), ("b", &[3, 4]), ("c", &[2, 1, 4]), ("d", &[])] {
        let ty = TensorType { dtype: DType::F32, shape: shape.iter().map(|&s| Dim::constant(s)).collect() };
        let v = d.b.input(name, Type::Tensor(ty));
        d.values.push(v);
    }
    for &gene in genes {
        if let Some(v) = d.gene(gene)
            && d.shape(v).iter().product::<i64>() <= MOST
        {
            d.values.push(v);
        }
    }
    // Every value that nothing uses is an output, and one in the middle.
    let uses = d.b.graph.use_lists();
    let mut outputs: Vec<ValueId> =
        d.values.iter().copied().filter(|v| uses.users(*v).is_empty()).collect();
    outputs.push(d.values[d.values.len() / 2]);
    outputs.dedup();
    for (i, v) in outputs.into_iter().enumerate() {
        d.b.output(&format!("y{i}"), v);
    }
    let mut graph = d.b.graph;
    graph.remove_dead();
    graph
}

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
