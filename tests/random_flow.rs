//! Random graphs with branches, loops and scans within one another, along free dims: the interpreter on the graph as it was drawn says what
//! the passes and every engine must give, compiled for any size and for each.
//!
//! `EGRET_CASES=10000 cargo test --test random_flow` looks longer than usual; `EGRET_FIRST=5000` begins there. What is found can be
//! shrunk by `EGRET_SHRINK=N`, which leaves out of graph N one gene after the other while it fails.

use egret::ir::rng::Rng;
use egret::ir::{DType, DimEnv, Graph, Op, Tensor, Value, interp, text};
use egret::{Engine, ErrorKind, Executable, Options, compare, pipeline};
use egret_workspace::flow::{LARGEST, graph};
use egret_workspace::random::{Gene, genes};
use std::collections::BTreeMap;

/// Values of N and M.
const SIZES: [[i64; 2]; 5] = [[3, 2], [1, 1], [0, 4], [5, 0], [7, LARGEST]];

fn dims([n, m]: [i64; 2]) -> DimEnv {
    [("N".to_owned(), n), ("M".to_owned(), m)].into()
}

/// Values for the inputs of a graph at such sizes.
fn inputs(graph: &Graph, sizes: [i64; 2], rng: &mut Rng) -> Vec<Value> {
    let sizes = dims(sizes);
    let value = |&v| {
        let ty = graph.tensor_ty(v);
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(&sizes).expect("a size") as usize).collect();
        let count = shape.iter().product();
        let mut number = || match ty.dtype {
            DType::F32 => rng.signed_f64(),
            DType::Bool => rng.below(2) as f64,
            _ => rng.below(4) as f64,
        };
        Tensor::from_f64s(ty.dtype, &shape, (0..count).map(|_| number()).collect()).into()
    };
    graph.inputs().iter().map(value).collect()
}

/// Whether outputs are as they should be; floats up to a part of the largest that a value may be.
fn same(want: &[Value], got: &[Value], exact: bool) -> Result<(), String> {
    let tolerance = match exact {
        true => compare::Tolerance { rtol: 0.0, atol: 0.0 },
        false => compare::Tolerance { rtol: 1e-3, atol: 2e-3 },
    };
    let mut all = want.iter().zip(got).enumerate();
    all.try_for_each(|(i, (w, g))| compare::compare(w, g, tolerance).map_err(|e| format!("y{i}: {e}")))
}

/// What a graph held: runs that were right, and engines that refused it.
#[derive(Default)]
struct Held {
    runs: usize,
    compiled: usize,
    refused: BTreeMap<String, usize>,
    /// Branches, loops and scans.
    flow: usize,
    nested: usize,
}

fn flows(graph: &Graph) -> [usize; 2] {
    let (mut own, mut within) = (0, 0);
    for id in graph.node_ids() {
        let node = graph.node(id);
        own += usize::from(matches!(node.op, Op::If | Op::Loop | Op::Scan));
        within += node.regions.iter().map(|r| flows(r).iter().sum::<usize>()).sum::<usize>();
    }
    [own, within]
}

/// Why the last part that is refused is.
fn reason(message: &str) -> &str {
    let last = message.lines().last().unwrap_or_default();
    last.split_once("): ").map_or(last, |(_, reason)| reason)
}

/// Hold an executable to the interpreter at sizes.
fn hold(
    run: &dyn Fn(&[Value]) -> egret::Result<Vec<Value>>,
    cases: &[(Vec<Value>, Option<Vec<Value>>)],
    refused: &mut BTreeMap<String, usize>,
) -> Result<usize, String> {
    let mut right = 0;
    for (i, (given, want)) in cases.iter().enumerate() {
        match (run(given), want) {
            (Ok(got), Some(want)) => same(want, &got, false).map_err(|e| format!("case {i}: {e}"))?,
            (Err(e), None) if e.kind != ErrorKind::Internal => continue,
            // A part between host steps is compiled for its sizes when it runs, and may be refused then.
            (Err(e), _) if e.kind == ErrorKind::Unsupported => {
                *refused.entry(format!("at run: {}", reason(&e.message))).or_default() += 1;
                continue;
            }
            (Err(e), _) => return Err(format!("case {i}: {e}")),
            (Ok(_), None) => return Err(format!("case {i}: no error, as the interpreter gives")),
        }
        right += 1;
    }
    Ok(right)
}

/// Hold the graph of genes.
fn check(n: u64, genes: &[Gene], held: &mut Held) -> Result<(), String> {
    let free = graph(genes);
    let at = |what: &str, e: String| format!("{what}: {e}\n{}", text::print(&free));
    egret::ir::verify(&free).map_err(|e| at("not verified", format!("{e:?}")))?;
    let mut rng = Rng::new(n);
    let mut cases = vec![];
    for sizes in SIZES {
        for _ in 0..2 {
            let given = inputs(&free, sizes, &mut rng);
            let want = interp::run(&free, &given).ok();
            cases.push((given, want));
        }
    }
    cases
        .iter()
        .any(|c| c.1.is_some())
        .then_some(())
        .ok_or_else(|| at("the interpreter", "no run".into()))?;
    let [own, within] = flows(&free);
    (held.flow, held.nested) = (held.flow + own, held.nested + within);
    // Passes.
    for tier in ["exact", "approx"] {
        let options = Options { tier: tier.parse()?, ..Options::default() };
        let passes = pipeline::pass_names();
        // Each in turn, and all of them.
        let stop = (tier == "exact").then(|| passes[n as usize % passes.len()]);
        let after = pipeline::optimize(free.clone(), &options, stop, &mut egret::Trace::new())
            .map_err(|e| at(stop.unwrap_or("passes"), e.to_string()))?;
        for (given, want) in cases.iter().filter(|c| c.1.is_some()) {
            let got = interp::run(&after, given).map_err(|e| at(tier, e.to_string()))?;
            same(want.as_deref().unwrap_or_default(), &got, tier == "exact").map_err(|e| at(tier, e))?;
        }
    }
    // Linking takes its time.
    let engines = match n % 13 {
        0 => &[Engine::Jit, Engine::JitNoOpt, Engine::Aot][..],
        _ => &[Engine::Jit, Engine::JitNoOpt],
    };
    for &engine in engines {
        // For any size, and for one.
        for k in [None, Some(n as usize % SIZES.len())] {
            let mut graph = free.clone();
            k.into_iter().for_each(|k| graph.bind_dims(&dims(SIZES[k])));
            let what =
                format!("{} {}", engine.name(), k.map_or("free".to_owned(), |k| format!("{:?}", SIZES[k])));
            let cases = k.map_or(&cases[..], |k| &cases[2 * k..][..2]);
            let options = Options { threads: 1 + n as usize % 2, ..Options::default() };
            match Executable::new(graph, engine, &options, &BTreeMap::new()) {
                Ok(e) => {
                    held.runs +=
                        hold(&|given| e.run(given), cases, &mut held.refused).map_err(|e| at(&what, e))?
                }
                // What is not done yet is refused.
                Err(e) if matches!(e.kind, ErrorKind::Unsupported | ErrorKind::User) => {
                    *held.refused.entry(format!("{what}: {}", reason(&e.message))).or_default() += 1;
                    continue;
                }
                Err(e) => return Err(at(&what, e.to_string())),
            }
            held.compiled += 1;
        }
    }
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn failure(n: u64, genes: &[Gene], held: &mut Held) -> Option<String> {
    let run = std::panic::AssertUnwindSafe(|| check(n, genes, held));
    match std::panic::catch_unwind(run) {
        Ok(outcome) => outcome.err(),
        Err(e) => Some(format!("a panic: {:?}", e.downcast_ref::<String>())),
    }
}

#[test]
fn every_engine_keeps_what_graphs_with_control_flow_compute() {
    if let Some(n) = number("EGRET_SHRINK") {
        let (mut genes, mut at) = (genes(n), 0);
        let mut last = failure(n, &genes, &mut Held::default()).expect("a failure");
        while at < genes.len() {
            let fewer = [&genes[..at], &genes[at + 1..]].concat();
            match failure(n, &fewer, &mut Held::default()) {
                Some(e) => (genes, last, at) = (fewer, e, 0),
                None => at += 1,
            }
        }
        panic!("graph {n}: {last}");
    }
    let (count, first) = (number("EGRET_CASES").unwrap_or(60), number("EGRET_FIRST").unwrap_or(0));
    let (mut held, mut failures) = (Held::default(), vec![]);
    for n in first..first + count {
        if let Some(e) = failure(n, &genes(n), &mut held) {
            println!("graph {n}: {e}");
            failures.push(format!("graph {n}: {e}"));
        }
        if n % 100 == 99 {
            println!("{} graphs, {} runs, {} failures", n + 1 - first, held.runs, failures.len());
        }
    }
    println!(
        "{count} graphs, {} branches, loops and scans, {} within them; compiled {} times, {} runs; refused: {:#?}",
        held.flow, held.nested, held.compiled, held.runs, held.refused
    );
    assert!(failures.is_empty(), "{} graphs:\n{}", failures.len(), failures.join("\n"));
    // Graphs without control flow would hold nothing.
    assert!(
        held.flow as u64 > count && held.nested as u64 > count / 4,
        "{} and {} within",
        held.flow,
        held.nested
    );
}
