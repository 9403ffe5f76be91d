//! The ONNX conformance cases on every engine. `tests/lists/<suite>-<engine>.txt` names what an engine does not pass, with the
//! reason; a listed case that passes fails the run, so that the lists only shrink.

use egret::cases::{Case, Outcome};
use egret::suite::{Verdict, capture_panics, judge, read_list, run_cases};
use egret::{Engine, ErrorKind, Options};
use egret_workspace::{classical, conformance, microsoft, root};

/// Run a suite on an engine; at least `floor` cases must pass.
fn suite(suite: &str, engine: Engine, floor: usize) {
    let folder = match suite {
        "bugs" => root().join("fixtures/bugs"),
        "classical" => classical(env!("CARGO_TARGET_TMPDIR")).join(suite),
        "microsoft" => microsoft(env!("CARGO_TARGET_TMPDIR")).join(suite),
        _ => conformance(env!("CARGO_TARGET_TMPDIR")).join(suite),
    };
    let cases = Case::find(&folder).expect("cases");
    let path = root().join(format!("tests/lists/{suite}-{}.txt", engine.name()));
    let list = if path.exists() {
        Some(read_list(&path).expect("a well-formed list"))
    } else {
        Some(Default::default())
    };
    // Where a free dim is, a wrong number is none that a list may name.
    let usual = root().join(format!("tests/lists/{suite}-jit.txt"));
    let usual = match engine {
        Engine::JitFree | Engine::JitSymbolic if usual.exists() => {
            read_list(&usual).expect("a well-formed list")
        }
        _ => Default::default(),
    };
    let wrong = |case: &Case, outcome: &Outcome| {
        matches!(engine, Engine::JitFree | Engine::JitSymbolic)
            && matches!(outcome, Outcome::Failed(ErrorKind::Differs, _))
            && !usual.contains_key(&case.name)
    };
    capture_panics();
    let (mut passed, mut failures) = (0, vec![]);
    let jobs = egret::all_cores();
    let options = Options { threads: 1, ..Options::default() };
    run_cases(&cases, engine, &options, jobs, &mut |case, outcome| match judge(
        &case.name,
        outcome,
        if wrong(case, outcome) { None } else { list.as_ref() },
        true,
    ) {
        Verdict::Passed => passed += 1,
        Verdict::Skipped(_) => {}
        Verdict::Failed(why) => failures.push(format!("{}: {why}", case.name)),
    });
    println!("{suite} on {}: {passed} of {} passed", engine.name(), cases.len());
    // Panics are captured from here on, their messages too.
    failures.iter().for_each(|f| println!("{f}"));
    assert!(failures.is_empty(), "{} cases of {suite} on {}", failures.len(), engine.name());
    assert!(passed >= floor, "{suite} on {}: only {passed} passed", engine.name());
}

macro_rules! suites {
    ($($test:ident: $suite:literal, $engine:ident, $floor:literal;)*) => {
        $(#[test] fn $test() { suite($suite, Engine::$engine, $floor); })*

        /// Which suites are run on which engines.
        const RUN: &[(&str, Engine)] = &[$(($suite, Engine::$engine)),*];
    };
}

suites! {
    node_interp: "node", Interp, 1100;
    node_jit: "node", Jit, 1000;
    node_jit_without_passes: "node", JitNoOpt, 1000;
    node_jit_free: "node", JitFree, 1300;
    node_jit_symbolic: "node", JitSymbolic, 1500;
    node_aot: "node", Aot, 1000;
    simple_interp: "simple", Interp, 10;
    simple_jit: "simple", Jit, 5;
    simple_jit_without_passes: "simple", JitNoOpt, 5;
    simple_jit_free: "simple", JitFree, 5;
    simple_jit_symbolic: "simple", JitSymbolic, 5;
    simple_aot: "simple", Aot, 5;
    pytorch_operator_interp: "pytorch-operator", Interp, 20;
    pytorch_operator_jit: "pytorch-operator", Jit, 20;
    pytorch_operator_jit_free: "pytorch-operator", JitFree, 30;
    pytorch_operator_jit_symbolic: "pytorch-operator", JitSymbolic, 30;
    pytorch_converted_interp: "pytorch-converted", Interp, 50;
    pytorch_converted_jit: "pytorch-converted", Jit, 50;
    pytorch_converted_jit_free: "pytorch-converted", JitFree, 80;
    pytorch_converted_jit_symbolic: "pytorch-converted", JitSymbolic, 70;
    bugs_interp: "bugs", Interp, 8;
    bugs_jit: "bugs", Jit, 8;
    bugs_jit_without_passes: "bugs", JitNoOpt, 8;
    bugs_jit_free: "bugs", JitFree, 8;
    bugs_jit_symbolic: "bugs", JitSymbolic, 8;
    bugs_aot: "bugs", Aot, 8;
    classical_interp: "classical", Interp, 60;
    classical_jit: "classical", Jit, 60;
    classical_jit_without_passes: "classical", JitNoOpt, 60;
    classical_jit_free: "classical", JitFree, 60;
    classical_jit_symbolic: "classical", JitSymbolic, 60;
    classical_aot: "classical", Aot, 60;
    microsoft_interp: "microsoft", Interp, 160;
    microsoft_jit: "microsoft", Jit, 160;
    microsoft_jit_without_passes: "microsoft", JitNoOpt, 160;
    microsoft_jit_free: "microsoft", JitFree, 130;
    microsoft_jit_symbolic: "microsoft", JitSymbolic, 100;
    microsoft_aot: "microsoft", Aot, 160;
    light_jit: "light", Jit, 9;
    light_jit_free: "light", JitFree, 2;
    light_jit_symbolic: "light", JitSymbolic, 2;
    light_aot: "light", Aot, 9;
}

/// A list that no test reads grows old unseen. Those of what is without a file test are read by `filetests.rs`.
#[test]
fn every_list_is_of_a_suite_that_is_run() {
    let run: Vec<String> =
        RUN.iter().map(|(suite, engine)| format!("{suite}-{}.txt", engine.name())).collect();
    for entry in std::fs::read_dir(root().join("tests/lists")).expect("tests/lists") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(name.contains("-without-") || run.contains(&name), "no test reads tests/lists/{name}");
    }
}
