//! Graphs and models with extreme dims, pads, dilations, strides, axes, repeats, steps, counts and scales: each
//! is refused with one message, or gives what the interpreter gives. Never a panic, a hang, a fault or an
//! allocation of what cannot be had, from the parser and the importer to the running code.
//!
//! The lists are the same in every run. `EGRET_LIST=1 cargo test --test extreme_sizes -- --nocapture` prints
//! what became of each case.
#![cfg(unix)]

mod graphs;
mod models;

use egret::frontend::ModelFile;
use egret::ir::{Graph, Tensor, Type, Value, interp, text, verify};
use egret::suite::{capture_panics, guarded};
use egret::{Engine, Error, ErrorKind, Options, Result, compare, source};
use egret_workspace::faults;
use egret_workspace::guarded::Compiled;
use std::collections::BTreeMap;

/// A case: its name, and a graph in text form or the bytes of an ONNX model.
struct Extreme {
    name: String,
    source: Source,
}

enum Source {
    Text(String),
    Model(Vec<u8>),
}

/// What became of a case.
enum Fate {
    Refused(String),
    /// Compiled and run: as the interpreter.
    Right,
    /// Compiled; its buffers are too large to run it here.
    Compiled,
    /// Compiled and run; the interpreter cannot.
    Ran,
}

/// Bytes up to which a case is run: by the code, and by the interpreter.
const RUNS: usize = 1 << 24;

/// Seconds that a case may take.
const PATIENCE: u32 = 60;

/// Bytes of address space that the test may have: a tensor of 2^33 bytes is an error here, as it is on a small
/// machine.
const MEMORY: u64 = 3 << 30;

fn import(source: &Source) -> Result<(Graph, BTreeMap<String, Tensor>)> {
    match source {
        Source::Text(source) => {
            let graph = text::parse(source, &|_| None).map_err(|e| Error::user(e.to_string()))?;
            verify(&graph).map_err(|errors| Error::user(errors[0].to_string()))?;
            Ok((graph, BTreeMap::new()))
        }
        Source::Model(bytes) => {
            let dir = tempfile::tempdir().map_err(|e| Error::user(e.to_string()))?;
            let path = dir.path().join("model.onnx");
            std::fs::write(&path, bytes).map_err(|e| Error::user(e.to_string()))?;
            let (graph, options) = ModelFile::open(&path)?.import_for_inputs(
                &BTreeMap::new(),
                &BTreeMap::new(),
                BTreeMap::new(),
            )?;
            verify(&graph).map_err(|errors| Error::internal(errors[0].to_string()))?;
            Ok((graph, options.bind))
        }
    }
}

/// Bytes of a graph's inputs, outputs and values in between, as far as they are known.
fn bytes(graph: &Graph) -> usize {
    let results = graph.node_ids().into_iter().flat_map(|n| graph.node(n).results.clone());
    let sizes = results.chain(graph.inputs().iter().copied()).map(|v| match graph.ty(v) {
        Type::Tensor(t) => t.const_len().and_then(|n| n.checked_mul(t.dtype.size())).unwrap_or(usize::MAX),
        _ => usize::MAX,
    });
    sizes.fold(0, usize::saturating_add)
}

fn attempt(source: &Source, options: &Options) -> Result<Fate> {
    let (graph, bound) = import(source)?;
    let free = graph.free_dims();
    if !free.is_empty() {
        return Ok(Fate::Refused(format!("free dims {free:?}")));
    }
    let small = bytes(&graph) <= RUNS;
    let want = if small {
        let inputs = source::made_up(&graph, 3)?;
        Some((interp::run(&graph, &inputs), inputs))
    } else {
        None
    };
    let compiled = Compiled::new(graph, options, &bound)?;
    if compiled.bytes() > RUNS as u64 {
        return Ok(Fate::Compiled);
    }
    let Some((want, inputs)) = want else { return Ok(Fate::Compiled) };
    let (value, got) = compiled.run_both(&inputs).map_err(Error::internal)?;
    let Ok(want) = want else { return Ok(Fate::Ran) };
    if value != 0 {
        return Err(Error::internal(format!("returns {value}")));
    }
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let t = want.as_tensor().ok_or_else(|| Error::internal("a result that is no tensor"))?;
        let got: Value = Tensor::from_bytes(t.dtype(), t.shape(), &got).into();
        compare::compare(want, &got, compare::Tolerance::default())
            .map_err(|e| Error::differs(format!("output {i}: {e}")))?;
    }
    Ok(Fate::Right)
}

#[test]
fn extremes_are_refused_or_right() {
    faults::watch();
    faults::limit_memory(MEMORY);
    capture_panics();
    let list = std::env::var_os("EGRET_LIST").is_some();
    let cases: Vec<Extreme> = graphs::all().into_iter().chain(models::all()).collect();
    let (mut counts, mut failures) = ([0; 4], vec![]);
    for case in &cases {
        for engine in [Engine::Jit, Engine::JitNoOpt] {
            let options = Options { threads: 1, ..Options::default() }.for_engine(engine);
            let name = format!("{} on {}", case.name, engine.name());
            faults::begin(&name, PATIENCE);
            let began = std::time::Instant::now();
            let fate = match guarded(|| attempt(&case.source, &options)) {
                // What a user or the model asks for that cannot be had.
                Err(e) if matches!(e.kind, ErrorKind::User | ErrorKind::Unsupported) => {
                    Ok(Fate::Refused(e.message))
                }
                other => other,
            };
            faults::end();
            let (kind, what) = match fate {
                Ok(Fate::Refused(message)) if message.is_empty() || message.len() > 4000 => {
                    failures.push(format!("{name}: refused in {} bytes", message.len()));
                    continue;
                }
                Ok(Fate::Refused(message)) => (0, message),
                Ok(Fate::Right) => (1, "right".into()),
                Ok(Fate::Compiled) => (2, "compiled, too large to run".into()),
                Ok(Fate::Ran) => (3, "ran; the interpreter cannot".into()),
                Err(e) => {
                    failures.push(format!("{name}: {e}"));
                    continue;
                }
            };
            counts[kind] += 1;
            if list {
                println!("{:6.2} s  {name}: {what}", began.elapsed().as_secs_f64());
            }
        }
    }
    let [refused, right, compiled, ran] = counts;
    println!(
        "{} cases on 2 engines: {refused} refused, {right} right, {compiled} compiled but too large to run, \
         {ran} run without the interpreter",
        cases.len()
    );
    failures.iter().for_each(|f| println!("{f}"));
    assert!(failures.is_empty(), "{} failures", failures.len());
    assert!(cases.len() >= 200, "{} cases", cases.len());
    assert!(right >= 100 && refused >= 100, "{refused} refused, {right} right");
}
