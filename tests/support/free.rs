//! Graphs with free dims, compiled once for each target and run at many sizes beside the interpreter.

use crate::guarded::Compiled;
use egret::Options;
use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp, text};
use egret_runtime::abi::Code;
use std::collections::BTreeMap;

/// A graph of its text.
pub fn parse(source: &str) -> Graph {
    let graph = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret::ir::verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    graph
}

/// A graph of its inputs, and nodes that make `%9` of them.
pub fn graph((inputs, nodes): (&str, &str)) -> Graph {
    parse(&format!("graph @g({inputs}) -> (%9 \"y\") {{\n {nodes}\n}}"))
}

/// Data for an input of a graph at sizes of its free dims; the last argument is what kind of data.
pub type Data = fn(&mut Rng, &Graph, usize, &BTreeMap<String, i64>, u64) -> Value;

/// Compiles a graph once for each target, with passes and without, and runs it, every buffer at an unmapped page, on each kind of data at each of these sizes of its first
/// free dim and its others: it gives what the interpreter gives.
pub fn every_size(source: &str, all: &[(i64, i64)], kinds: &[u64], data: Data) {
    let graph = parse(source);
    for target in ["native", "x86-64-v2"] {
        if target != "native" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        for passes in [None, Some(vec![])] {
            let options = Options { threads: 1, target: target.into(), passes, ..Options::default() };
            let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new());
            let compiled = compiled.unwrap_or_else(|e| panic!("{e}\n{source}"));
            let mut rng = Rng::new(5);
            for (&(first, others), &kind) in all.iter().flat_map(|s| kinds.iter().map(move |k| (s, k))) {
                let what = format!("{first}, {others}, {kind} on {target}\n{source}");
                let free = graph.free_dims().into_iter().enumerate();
                let sizes = free.map(|(i, name)| (name, if i == 0 { first } else { others })).collect();
                let inputs: Vec<Value> =
                    (0..graph.inputs().len()).map(|i| data(&mut rng, &graph, i, &sizes, kind)).collect();
                let want = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("{e}: {what}"));
                let outcome = compiled.run_both(&inputs);
                let outcome = outcome.and_then(|o| compiled.law(&inputs, &o).map(|_| o));
                let (code, have) = outcome.unwrap_or_else(|e| panic!("{e}: {what}"));
                assert_eq!(code, 0, "{what}");
                for (want, bytes) in want.iter().zip(&have) {
                    let want = want.as_tensor().expect("a tensor");
                    assert_eq!(want.bytes().len(), bytes.len(), "{want:?}: {what}");
                    let have = Tensor::from_bytes(want.dtype(), want.shape(), bytes);
                    assert!(close(want, &have), "{want:?}, compiled {have:?}: {what}");
                }
            }
        }
    }
}

/// What a run is given beside the sizes of N and M: the values of inputs without free dims, in order.
pub type Given<'a> = &'a [Value];

/// Holds a graph to the interpreter at these sizes, with each of these values for its inputs of constant dims. What the interpreter refuses ends
/// with an error code.
pub fn holds_at(source: &str, given: &[Given<'_>], all: &[(i64, i64)]) {
    let graph = parse(source);
    let mut ended = 0;
    for compiled in compiled(&graph) {
        let mut rng = Rng::new(7);
        for &(n, m) in all {
            for given in given {
                let sizes = sizes(n, m);
                let mut given = given.iter();
                let inputs: Vec<Value> = (0..graph.inputs().len())
                    .map(|i| {
                        let ty = graph.tensor_ty(graph.inputs()[i]);
                        match ty.const_dims() {
                            Some(_) => given.next().expect("a value").clone(),
                            None => input(&graph, i, &sizes, &mut || number(&mut rng, ty.dtype, 3)),
                        }
                    })
                    .collect();
                match interp::run(&graph, &inputs) {
                    Ok(want) => {
                        ended += 1;
                        gives(&compiled, &inputs, &want, &format!("{n}, {m} of {given:?}\n{source}"));
                    }
                    Err(_) => {
                        let (code, _) = compiled.run_both(&inputs).expect("no difference");
                        assert_ne!(code, 0, "{n}, {m}\n{source}");
                    }
                }
            }
        }
    }
    assert!(ended > 0, "no run ended well\n{source}");
}

/// Every output is what it should be.
pub fn gives(compiled: &Compiled, inputs: &[Value], want: &[Value], what: &str) {
    let (code, have) = compiled.run_both(inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(code, 0, "{what}");
    for (i, (want, have)) in want.iter().zip(&have).enumerate() {
        let want = want.as_tensor().expect("a tensor");
        assert_eq!(want.bytes().len(), have.len(), "output {i}, {what}");
        let have = Tensor::from_bytes(want.dtype(), want.shape(), have);
        assert!(close(want, &have), "output {i}, {what}: {want:?}, compiled {have:?}");
    }
}

/// The inputs whose first dim is free, at another size: their rows repeated, or the first of them.
pub fn resized(graph: &Graph, inputs: &[Value], size: usize) -> Vec<Value> {
    let resize = |(&v, value): (&egret::ir::ValueId, &Value)| match value.as_tensor() {
        Some(t) if graph.tensor_ty(v).shape.first().is_some_and(|d| d.as_const().is_none()) => {
            let (rows, row) = (t.shape()[0], t.shape()[1..].iter().product::<usize>());
            let shape: Vec<usize> = [&[size], &t.shape()[1..]].concat();
            // Elements of less than a byte are whole ones in memory.
            let bytes = t.bytes().len() / (rows * row).max(1) * row;
            let data: Vec<u8> =
                (0..size).flat_map(|i| t.bytes()[i % rows * bytes..][..bytes].iter().copied()).collect();
            Tensor::from_bytes(t.dtype(), &shape, &data).into()
        }
        _ => value.clone(),
    };
    graph.inputs().iter().zip(inputs).map(resize).collect()
}

/// Values of the free dims N and M.
pub fn sizes(n: i64, m: i64) -> BTreeMap<String, i64> {
    [("N".to_owned(), n), ("M".to_owned(), m)].into()
}

/// A number of a type: of floats some special ones, of integers one below a limit.
pub fn number(rng: &mut Rng, dtype: DType, below: u64) -> f64 {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
    match rng.bits() {
        bits if dtype == DType::Bool => (bits % 2) as f64,
        bits if dtype.is_float() && bits.is_multiple_of(9) => special[(bits / 9 % 5) as usize],
        bits if dtype.is_float() => (bits % 33) as f64 / 16.0 - 1.0,
        bits => (bits % below) as f64,
    }
}

/// Input `i` of a graph at such sizes; its numbers are drawn one after the other.
pub fn input(
    graph: &Graph,
    i: usize,
    sizes: &BTreeMap<String, i64>,
    draw: &mut dyn FnMut() -> f64,
) -> Value {
    let ty = graph.tensor_ty(graph.inputs()[i]);
    let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(sizes).expect("a size") as usize).collect();
    let numbers = (0..shape.iter().product::<usize>()).map(|_| draw()).collect();
    Tensor::from_f64s(ty.dtype, &shape, numbers).into()
}

/// Sums of f32 are rounded more often than those of the interpreter.
pub fn close(want: &Tensor, have: &Tensor) -> bool {
    let (want, have) = (want.to_f64s().expect("numbers"), have.to_f64s().expect("numbers"));
    let near = |(w, h): (&f64, &f64)| {
        w == h || (w - h).abs() <= 2e-5 * (1.0 + w.abs()) || w.is_nan() && h.is_nan()
    };
    want.len() == have.len() && want.iter().zip(&have).all(near)
}

/// A graph on every target, with passes and without; natively with passes for three threads too, which run it.
pub fn compiled(graph: &Graph) -> Vec<Compiled> {
    let mut all = vec![];
    for target in ["native", "x86-64-v2"] {
        if target != "native" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        for (passes, threads) in [(None, 1), (None, 3), (Some(vec![]), 1)] {
            if threads > 1 && target != "native" {
                continue;
            }
            let options = Options { threads, target: target.into(), passes, ..Options::default() };
            let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new());
            all.push(compiled.unwrap_or_else(|e| panic!("{e}\n{graph}")).on_threads(threads));
        }
    }
    all
}

/// Runs a compiled graph, which has a value at such sizes, beside what it should give, and beside Loop
/// IR's interpreter, bit for bit.
pub fn is_right(compiled: &Compiled, inputs: &[Value], want: &[Value], what: &str) {
    let outcome = compiled.run_both(inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
    compiled.law(inputs, &outcome).unwrap_or_else(|e| panic!("{what}: {e}"));
    let (code, have) = outcome;
    assert_eq!(code, 0, "{what}");
    let want = want[0].as_tensor().expect("a tensor");
    let have = Tensor::from_bytes(want.dtype(), want.shape(), &have[0]);
    assert!(close(want, &have), "{what}: {want:?}, compiled {have:?}");
}

/// Each graph compiled once and run with N and M at all of these sizes: it gives what the interpreter gives, and an error of sizes where
/// that has no value. How many runs were right, at least 4 of each compilation, and how many such errors there were.
pub fn hold(cases: &[(&str, &str)], all: &[i64]) -> [usize; 2] {
    let [mut right, mut wrong] = [0; 2];
    for &case in cases {
        let graph = graph(case);
        let mut rng = Rng::new(11);
        for compiled in compiled(&graph) {
            let before = right;
            for (n, m) in all.iter().flat_map(|&n| all.iter().map(move |&m| (n, m))) {
                let (sizes, what) = (sizes(n, m), format!("{n}, {m} of {case:?}"));
                let mut draw = |i: usize| {
                    let dtype = graph.tensor_ty(graph.inputs()[i]).dtype;
                    input(&graph, i, &sizes, &mut || number(&mut rng, dtype, 200))
                };
                let inputs: Vec<Value> = (0..graph.inputs().len()).map(&mut draw).collect();
                let code = Code::split(compiled.plan_code(&inputs)).map(|(code, ..)| code);
                match interp::run(&graph, &inputs) {
                    Ok(want) => {
                        assert_eq!(code, None, "{what}");
                        is_right(&compiled, &inputs, &want, &what);
                        right += 1;
                    }
                    Err(_) => {
                        assert_eq!(code, Some(Code::Sizes), "{what}");
                        wrong += 1;
                    }
                }
            }
            assert!(right - before >= 4, "{} runs of {case:?}", right - before);
        }
    }
    [right, wrong]
}
