//! Every conformance case that compiles, and random graphs, with each buffer at an unmapped page: no fault, and
//! results that depend on nothing but the inputs.
//!
//! Integers are fed as the case says, and then with values far outside every axis: whatever an index says, code
//! stays in its buffers. `EGRET_CASES=2000 cargo test --test guard_pages` looks at more graphs, and at every case
//! in four ways of compiling it.
#![cfg(unix)]

use egret::cases::{Case, ordered_inputs, random_outputs};
use egret::frontend::ModelFile;
use egret::ir::{DType, Tensor, Value, interp};
use egret::suite::guarded;
use egret::{Engine, Error, ErrorKind, Options, source};
use egret_workspace::guarded::Compiled;
use egret_workspace::{conformance, faults, random, root};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

/// Faults are those of the case that runs: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Seconds that a case may take.
const PATIENCE: u32 = 120;

fn cases() -> Option<u64> {
    std::env::var("EGRET_CASES").ok().and_then(|n| n.parse().ok())
}

/// Ways of compiling: the usual one, and those that choose other kernels.
fn ways(all: bool) -> Vec<(&'static str, Options)> {
    let usual = Options { threads: 1, ..Options::default() };
    let mut out = vec![("jit", usual.clone())];
    if all {
        let narrow = Options { wide: false, ..usual.clone() };
        out.push(("jit-noopt", usual.for_engine(Engine::JitNoOpt)));
        out.push(("jit without wide", narrow.clone()));
        out.push(("jit-noopt without wide", narrow.for_engine(Engine::JitNoOpt)));
    }
    out
}

/// The inputs with every integer out of range; `None` if there is none.
fn out_of_range(inputs: &[Value], extreme: usize) -> Option<Vec<Value>> {
    let mut some = false;
    let changed = inputs.iter().map(|v| {
        let Some(t) =
            v.as_tensor().filter(|t| matches!(t.dtype(), DType::I32 | DType::I64) && !t.is_empty())
        else {
            return v.clone();
        };
        some = true;
        let values: [i64; 6] = [i64::MIN, i64::MAX, -1 << 31, (1 << 31) - 1, -1_000_003, 1_000_003];
        let value = |i: usize| values[(i + extreme) % values.len()];
        let wide: Vec<i64> = (0..t.len()).map(value).collect();
        if t.dtype() == DType::I64 {
            return Tensor::new(t.shape(), wide).into();
        }
        let narrow =
            wide.iter().map(|&v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32).collect::<Vec<_>>();
        Tensor::new(t.shape(), narrow).into()
    });
    let changed: Vec<Value> = changed.collect();
    some.then_some(changed)
}

/// Hold a compiled model on its inputs, and on indices out of range. Gives how often it ran on each, and how often Loop IR's interpreter
/// did beside it.
fn hold(compiled: &Compiled, inputs: &[Value]) -> Result<[usize; 3], String> {
    let outcome = compiled.run_both(inputs)?;
    if outcome.0 != 0 {
        return Err(format!("returns {}", outcome.0));
    }
    let (mut wild, mut interpreted) = (0, usize::from(compiled.law(inputs, &outcome)?));
    for extreme in [0, 1, 4] {
        if let Some(inputs) = out_of_range(inputs, extreme) {
            // An error is as good as a result: what counts is that nothing else is touched.
            let held = compiled.run_both(&inputs).and_then(|outcome| compiled.law(&inputs, &outcome));
            interpreted += usize::from(held.map_err(|e| format!("with indices out of range: {e}"))?);
            wild += 1;
        }
    }
    Ok([1, wild, interpreted])
}

fn sum(a: [usize; 3], b: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// One conformance case; `None` where it is not compiled.
fn conformance_case(case: &Case, options: &Options) -> Result<Option<[usize; 3]>, Error> {
    let mut held = [0; 3];
    for set in case.data_sets()? {
        let file = ModelFile::open(&case.model())?;
        let Ok((graph, imported)) = file.import_for_inputs(&options.dims, &set.inputs, BTreeMap::new())
        else {
            return Ok(None);
        };
        let inputs = ordered_inputs(&graph, &set.inputs)?;
        if random_outputs(&graph).contains(&true) || inputs.iter().any(|v| v.as_tensor().is_none()) {
            return Ok(None);
        }
        let compiled = match Compiled::new(graph, options, &imported.bind) {
            Ok(c) => c,
            Err(e) if e.kind == ErrorKind::Unsupported => return Ok(None),
            Err(e) => return Err(e),
        };
        held = sum(held, hold(&compiled, &inputs).map_err(Error::internal)?);
    }
    Ok(Some(held))
}

#[test]
fn conformance_cases_stay_in_their_buffers() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    faults::watch();
    let mut all = Case::find(&root().join("fixtures/bugs")).expect("cases");
    for suite in ["node", "simple", "pytorch-operator", "pytorch-converted"] {
        all.extend(Case::find(&conformance(env!("CARGO_TARGET_TMPDIR")).join(suite)).expect("cases"));
    }
    let (mut compiled, mut runs, mut failures) = (0, [0; 3], vec![]);
    for (way, options) in ways(cases().is_some()) {
        for case in &all {
            let name = format!("{} on {way}", case.name);
            faults::begin(&name, PATIENCE);
            match guarded(|| conformance_case(case, &options)) {
                Ok(Some(held)) => {
                    compiled += 1;
                    runs = sum(runs, held);
                }
                Ok(None) => {}
                Err(e) => failures.push(format!("{name}: {e}")),
            }
            faults::end();
        }
    }
    let [right, wild, interpreted] = runs;
    let cases = all.len();
    println!(
        "{cases} cases, compiled {compiled} times: {right} runs, {wild} with integers out of range, {interpreted} held to Loop IR"
    );
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n"));
    assert!(compiled >= 1000 && wild >= 100, "{compiled} cases compiled, {wild} runs out of range");
    assert!(interpreted >= 1000, "{interpreted} runs held to Loop IR");
}

#[test]
fn random_graphs_stay_in_their_buffers() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    faults::watch();
    let count = cases().unwrap_or(100);
    let (mut runs, mut indexed, mut failures) = ([0; 3], 0, vec![]);
    let ways = ways(true);
    for n in 0..count {
        let graph = random::indexed_graph(&random::genes(n));
        let inputs = source::made_up(&graph, n).expect("inputs");
        interp::run(&graph, &inputs).expect("0 and 1 are in range");
        let last = graph.inputs().last().copied().expect("the indices");
        indexed += u64::from(!graph.use_lists().users(last).is_empty());
        // Each graph in one way by turns, unless asked for more.
        let ways = if cases().is_some() { &ways[..] } else { &ways[n as usize % ways.len()..][..1] };
        for (way, options) in ways {
            let name = format!("graph {n} on {way}");
            faults::begin(&name, PATIENCE);
            let held = guarded(|| {
                let compiled = Compiled::new(graph.clone(), options, &Default::default())?;
                hold(&compiled, &inputs).map_err(Error::internal)
            });
            match held {
                Ok(held) => runs = sum(runs, held),
                Err(e) => failures.push(format!("{name}: {e}\n{}", egret::ir::text::print(&graph))),
            }
            faults::end();
        }
    }
    let [right, wild, interpreted] = runs;
    println!(
        "{count} graphs, {indexed} with indices: {right} runs, {wild} with indices out of range, {interpreted} held to Loop IR"
    );
    assert!(failures.is_empty(), "{} graphs:\n{}", failures.len(), failures.join("\n"));
    assert!(interpreted as u64 >= count, "{interpreted} runs of {count} graphs held to Loop IR");
    assert!(indexed >= count / 4, "{indexed} of {count} graphs use their indices");
}

/// A program that writes one element beside its buffer; only run by the test below.
#[test]
#[ignore = "faults"]
fn faulty() {
    use egret_workspace::guarded::Side;
    faults::watch();
    let graph = random::graph(&random::genes(1));
    let inputs = source::made_up(&graph, 1).expect("inputs");
    let compiled = Compiled::new(graph, &Options::default(), &Default::default()).expect("code");
    let side = if std::env::var_os("EGRET_SIDE").is_some() { Side::Start } else { Side::End };
    faults::begin("one that writes beside", PATIENCE);
    compiled.run_beside_buffers(&inputs, side);
}

/// That a fault would be seen: a test that cannot fail proves nothing.
#[test]
fn faults_fail_with_the_name_of_their_case() {
    for side in ["", "start"] {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "faulty", "--ignored"]);
        if !side.is_empty() {
            child.env("EGRET_SIDE", side);
        }
        let out = child.output().expect("a run");
        assert_eq!(out.status.code(), Some(faults::STATUS), "{out:?}");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(text.contains("not its own: one that writes beside"), "{text}");
    }
}
