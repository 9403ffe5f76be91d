//! Conformance cases whose inputs' first dim is left free: one compilation, run on the rows of the case repeated and cut to other
//! sizes, gives what the interpreter gives of the same graph. That a node goes through a free dim unit by unit is a claim about every
//! operation (`egret-lower/src/plan/units.rs`); a wrong one is a wrong number here.
#![cfg(unix)]

use egret::cases::{Case, ordered_inputs, random_outputs};
use egret::compare::compare;
use egret::frontend::{Free, ModelFile};
use egret::ir::{Tensor, interp};
use egret::suite::{capture_panics, guarded};
use egret::{Error, ErrorKind, Options};
use egret_runtime::abi;
use egret_workspace::free::resized;
use egret_workspace::guarded::{Compiled, Side};
use egret_workspace::{conformance, root};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One case: how many runs were right; `None` where it is not compiled.
fn hold(case: &Case, options: &Options) -> Result<Option<usize>, Error> {
    let Some(set) = case.data_sets()?.into_iter().next() else { return Ok(None) };
    let file = ModelFile::open(&case.model())?;
    let Ok((graph, imported)) = file.import_with_free(Free::First, &BTreeMap::new(), &set.inputs) else {
        return Ok(None);
    };
    let inputs = ordered_inputs(&graph, &set.inputs)?;
    if random_outputs(&graph).contains(&true) || inputs.iter().any(|v| v.as_tensor().is_none()) {
        return Ok(None);
    }
    let compiled = match Compiled::new(graph.clone(), options, &imported.bind) {
        Ok(c) => c,
        // The remedy of most refusals is a dim that is given.
        Err(e) if matches!(e.kind, ErrorKind::Unsupported | ErrorKind::User) => return Ok(None),
        Err(e) => return Err(e),
    };
    let tolerance = case.tolerance()?;
    let mut right = 0;
    for size in [2, 5, 1] {
        let inputs = resized(&graph, &inputs, size);
        let fails = |what: String| Error::differs(format!("at the size {size}: {what}"));
        let want = match interp::run(&graph, &inputs) {
            Ok(want) => want,
            // A slice that another size leaves no room for: the run has no plan then.
            Err(e)
                if matches!(
                    abi::Code::split(compiled.plan_code(&inputs)),
                    Some((abi::Code::Sizes, ..))
                ) =>
            {
                assert!(!e.to_string().is_empty());
                right += 1;
                continue;
            }
            // An index of an element that another size does not have.
            Err(e) if e.to_string().contains("is out of range") => {
                for side in [Side::Start, Side::End] {
                    let code = compiled.run(&inputs, side, 0xA5).0;
                    if !matches!(abi::Code::split(code), Some((abi::Code::Index, ..))) {
                        return Err(fails(format!("returns {code}, and {e}")));
                    }
                }
                right += 1;
                continue;
            }
            Err(e) => return Err(fails(e.to_string())),
        };
        let (code, have) = compiled.run_both(&inputs).map_err(fails)?;
        if code != 0 {
            return Err(fails(format!("returns {code}")));
        }
        for (i, (want, bytes)) in want.iter().zip(&have).enumerate() {
            let Some(t) = want.as_tensor() else { continue };
            let have = Tensor::from_bytes(t.dtype(), t.shape(), bytes);
            compare(want, &have.into(), tolerance).map_err(|e| fails(format!("output {i}: {e}")))?;
        }
        right += 1;
    }
    Ok(Some(right))
}

#[test]
fn cases_are_right_at_other_sizes() {
    let mut all = Case::find(&root().join("fixtures/bugs")).expect("cases");
    for suite in ["node", "simple", "pytorch-operator", "pytorch-converted", "light"] {
        all.extend(Case::find(&conformance(env!("CARGO_TARGET_TMPDIR")).join(suite)).expect("cases"));
    }
    capture_panics();
    let options = Options { threads: 1, ..Options::default() };
    let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = || {
        while let Some(case) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = guarded(|| hold(case, &options));
            results.lock().expect("no panic").push((case.name.clone(), result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..egret::all_cores() {
            std::thread::Builder::new().stack_size(256 << 20).spawn_scoped(scope, work).expect("a thread");
        }
    });
    let (mut compiled, mut runs, mut failures) = (0, 0, vec![]);
    for (name, result) in results.into_inner().expect("no panic") {
        match result {
            Ok(Some(right)) => {
                compiled += 1;
                runs += right;
            }
            Ok(None) => {}
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    failures.sort();
    // Panics are captured from here on, their messages too.
    failures.iter().for_each(|f| println!("{f}"));
    println!("{} cases, {compiled} compiled with a free first dim: {runs} runs right", all.len());
    assert!(failures.is_empty(), "{} cases", failures.len());
    assert!(compiled >= 1600 && runs == 3 * compiled, "{compiled} compiled, {runs} runs");
}
