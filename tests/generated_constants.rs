//! Constants that kernels make are no weights: their bytes, and every engine against the interpreter.

use egret::ir::{Graph, Value, interp, text};
use egret::{Engine, Executable, Options, compare, pipeline, source};
use std::collections::BTreeMap;

/// Rows and columns, and bytes of as many floats.
const N: usize = 512;
const WHOLE: usize = N * N * 4;

/// Relative to the largest element, as products are sums of N numbers.
fn tolerance(want: &Value) -> compare::Tolerance {
    let Value::Tensor(t) = want else { panic!("{want:?}") };
    let scale = t.data::<f32>().iter().fold(0f32, |m, x| m.max(x.abs()));
    compare::Tolerance { rtol: 1e-5, atol: 1e-5 * f64::from(scale) }
}

/// A graph of `x`, `%0`, of so many rows and N columns, whose output is `%9`.
fn graph(rows: &str, nodes: &str) -> Graph {
    let nodes = nodes.replace("WHOLE", &format!("{N}, {N}"));
    let text = format!("graph @g(%0 \"x\": f32[{rows}, {N}]) -> (%9 \"y\") {{\n{nodes}\n}}\n");
    text::parse(&text, &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The bytes of a graph's weights; fails where an engine and the interpreter differ.
fn weights(graph: &Graph) -> usize {
    let inputs = source::made_up(graph, 2).expect("inputs");
    let want = interp::run(graph, &inputs).expect("the interpreter");
    for (engine, wide) in [(Engine::Jit, true), (Engine::Jit, false), (Engine::JitNoOpt, true)] {
        let options = Options { wide, ..Options::default() };
        let got = Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
            .and_then(|e| e.run(&inputs))
            .unwrap_or_else(|e| panic!("{e}\n{}", text::print(graph)));
        compare::compare(&want[0], &got[0], tolerance(&want[0]))
            .unwrap_or_else(|e| panic!("{}: {e}\n{}", engine.name(), text::print(graph)));
    }
    let lowered = pipeline::lower(graph.clone(), &Options::default(), &BTreeMap::new()).expect("a program");
    lowered.program.weights.len()
}

/// `0..N` as a column and as a row.
fn ranges() -> String {
    let all = (0..N).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    format!("%1 = const i64[{N}, 1] [{all}]\n%2 = const i64[1, {N}] [{all}]\n")
}

const CAST: &str = "{round = \"nearest\", saturate = 1, to = f32}";

/// What `ConstantOfShape` becomes.
const REPEATED: &str = "%1 = const f32[] [2.5]\n%2 = broadcast(%1) {shape = [WHOLE]} : f32[WHOLE]\n";

#[test]
fn repeated_values_are_read_through() {
    let add = graph(&N.to_string(), &format!("{REPEATED}%9 = add(%0, %2) : f32[WHOLE]"));
    assert!(weights(&add) < 1024);
    let negated = "%3 = neg(%2) : f32[WHOLE]\n%9 = add(%0, %3) : f32[WHOLE]";
    assert!(weights(&graph(&N.to_string(), &format!("{REPEATED}{negated}"))) < 1024);
    let vector = format!(
        "%1 = const f32[{N}] random(1)\n%2 = broadcast(%1) {{shape = [WHOLE]}} : f32[WHOLE]\n%9 = mul(%0, %2) : f32[WHOLE]"
    );
    assert!(weights(&graph(&N.to_string(), &vector)) < 2 * N * 4);
}

/// Rules see that all elements are one number, though they are not evaluated.
#[test]
fn a_repeated_one_multiplies_nothing() {
    let one = REPEATED.replace("2.5", "1.0");
    let nodes = format!("{one}%3 = mul(%0, %2) : f32[WHOLE]\n%9 = exp(%3) : f32[WHOLE]");
    let lowered =
        pipeline::lower(graph(&N.to_string(), &nodes), &Options::default(), &BTreeMap::new()).unwrap();
    assert_eq!(lowered.graph.node_count(), 1, "{}", text::print(&lowered.graph));
}

/// What `EyeLike` and `Trilu` become.
#[test]
fn masks_of_indices_are_made() {
    let eye = format!(
        "{}%3 = equal(%1, %2) : bool[WHOLE]\n%4 = cast(%3) {CAST} : f32[WHOLE]\n%9 = mul(%0, %4) : f32[WHOLE]",
        ranges()
    );
    assert!(weights(&graph(&N.to_string(), &eye)) < WHOLE / 16);
    let lower = format!(
        "{}%3 = less_equal(%2, %1) : bool[WHOLE]\n%4 = const f32[] [0.0]\n%5 = const f32[] [2.5]\n\
         %6 = broadcast(%5) {{shape = [WHOLE]}} : f32[WHOLE]\n%7 = where(%3, %6, %4) : f32[WHOLE]\n\
         %9 = add(%0, %7) : f32[WHOLE]",
        ranges()
    );
    assert!(weights(&graph(&N.to_string(), &lower)) < WHOLE / 16);
}

/// Free dims beside a constant that is made.
#[test]
fn rows_may_be_free() {
    let nodes = format!("{REPEATED}%3 = mul(%0, %2) : f32[M, WHOLE]\n%9 = neg(%3) : f32[M, WHOLE]");
    let free = graph(&format!("M, {N}"), &nodes);
    let program = pipeline::lower(free.clone(), &Options::default(), &BTreeMap::new()).expect("a program");
    assert!(program.program.weights.len() < 1024);
    let executable =
        Executable::new(free.clone(), Engine::Jit, &Options::default(), &BTreeMap::new()).expect("code");
    for m in [0, 1, 3] {
        let mut fixed = free.clone();
        fixed.bind_dims(&[("M".to_owned(), m)].into());
        let inputs = source::made_up(&fixed, 2).expect("inputs");
        let want = interp::run(&fixed, &inputs).expect("the interpreter");
        let got = executable.run(&inputs).expect("a run");
        compare::compare(&want[0], &got[0], tolerance(&want[0])).unwrap_or_else(|e| panic!("{m}: {e}"));
    }
}

/// What is dequantised has as many elements as its codes; products read their weights from memory; sines of a table of angles cost more than
/// reading them.
#[test]
fn weights_stay_folded() {
    let codes = format!(
        "%1 = const i8[WHOLE] random(1)\n%2 = cast(%1) {CAST} : f32[WHOLE]\n%3 = const f32[1, {N}] random(2)\n\
         %4 = mul(%2, %3) : f32[WHOLE]\n%9 = add(%0, %4) : f32[WHOLE]"
    );
    assert!(weights(&graph(&N.to_string(), &codes)) >= WHOLE);
    let product = format!("{REPEATED}%9 = matmul(%0, %2) : f32[WHOLE]");
    assert!(weights(&graph(&N.to_string(), &product)) >= WHOLE);
    let sines = format!(
        "%1 = const f32[{N}, 1] random(1)\n%2 = const f32[1, {N}] random(2)\n%3 = mul(%1, %2) : f32[WHOLE]\n\
         %4 = sin(%3) : f32[WHOLE]\n%9 = add(%0, %4) : f32[WHOLE]"
    );
    assert!(weights(&graph(&N.to_string(), &sines)) >= WHOLE);
}
