//! Branches of a program, which run at the same time where there are threads: the bits of one thread, whatever runs first.

use egret::ir::rng::Rng;
use egret::ir::{Graph, Tensor, Value, text};
use egret::{Engine, Executable, Options, pipeline};
use egret_workspace::guarded::Compiled;
use std::collections::BTreeMap;
use std::fmt::Write;

fn graph(source: &str) -> Graph {
    let graph = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret::ir::verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    graph
}

fn floats(rng: &mut Rng, shape: &[usize]) -> Value {
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n).map(|_| (rng.bits() % 2001) as f32 / 1e3 - 1.0).collect::<Vec<f32>>()).into()
}

/// How many sections of branches its program takes, where it gives the bits of one thread on several.
#[track_caller]
fn sections(source: &str, inputs: &[Vec<Value>]) -> usize {
    let graph = graph(source);
    let one = Options { threads: 1, ..Options::default() };
    let lowered =
        pipeline::lower(graph.clone(), &one, &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret_loop::verify::program(&lowered.program).unwrap_or_else(|e| panic!("{e}\n{source}"));
    let compile = |engine, threads| {
        let options = Options { threads, ..Options::default() };
        Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{e}\n{source}"))
    };
    let alone = compile(Engine::Jit, 1);
    let wanted: Vec<Vec<Value>> = inputs.iter().map(|given| alone.run(given).expect("a run")).collect();
    let shared = compile(Engine::Jit, 2);
    for _ in 0..8 {
        for (given, wanted) in inputs.iter().zip(&wanted) {
            assert_eq!(&shared.run(given).expect("a run"), wanted, "{source}");
        }
    }
    let bytes = |outputs: &[Value]| -> Vec<Vec<u8>> {
        outputs.iter().filter_map(Value::as_tensor).map(|t| t.bytes().to_vec()).collect()
    };
    let mut taken = 0;
    // As many threads as there are branches, whatever cores there are; the last branch runs first.
    for threads in [2, 3, 4, 16] {
        let code = Compiled::new(graph.clone(), &one, &BTreeMap::new()).expect("code").backward(threads);
        for (given, wanted) in inputs.iter().zip(&wanted) {
            assert_eq!(
                code.run_both(given).expect("equal results"),
                (0, bytes(wanted)),
                "{threads}: {source}"
            );
        }
        let takes = |b: &&egret_loop::Branches| (b.threads[0]..=b.threads[1]).contains(&threads);
        taken = taken.max(lowered.program.branches.iter().filter(takes).count());
    }
    taken
}

/// A chain of layers of 96 columns, from a value to the next free number; the last is what it gives.
fn tower(out: &mut String, rng: &mut Rng, next: &mut u32, from: u32) -> u32 {
    let mut at = from;
    for _ in 0..1 + rng.bits() % 4 {
        let (w, y, z) = (*next, *next + 1, *next + 2);
        *next += 3;
        let op = ["tanh", "neg", "abs", "sigmoid"][(rng.bits() % 4) as usize];
        writeln!(
            out,
            "%{w} = const f32[96, 96] random({w})\n%{y} = matmul(%{at}, %{w})\n%{z} = {op}(%{y})"
        )
        .unwrap();
        at = z;
        if rng.bits().is_multiple_of(3) {
            writeln!(out, "%{} = add(%{at}, %{from})", *next).unwrap();
            at = *next;
            *next += 1;
        }
    }
    at
}

#[test]
fn towers_give_the_bits_of_one_thread() {
    let (mut rng, mut with) = (Rng::new(5), 0);
    for case in 0..24 {
        let rows = if case % 3 == 2 { "N" } else { "16" };
        let towers = 2 + (rng.bits() % 3) as usize;
        let (mut body, mut next) = (String::new(), towers as u32 + 1);
        // What some of them read is made first.
        writeln!(body, "%{next} = exp(%0)").unwrap();
        let shared = next;
        next += 1;
        let mut ends = vec![];
        for i in 0..towers {
            let from = if rng.bits().is_multiple_of(2) { shared } else { i as u32 };
            ends.push(tower(&mut body, &mut rng, &mut next, from));
        }
        let list = ends.iter().map(|e| format!("%{e}")).collect::<Vec<_>>().join(", ");
        writeln!(body, "%{next} = concat({list}) {{axis = 1}}").unwrap();
        let inputs =
            (0..towers).map(|i| format!("%{i} \"x{i}\": f32[{rows}, 96]")).collect::<Vec<_>>().join(", ");
        // One of the ends is given out too.
        let source = format!("graph @g({inputs}) -> (%{next} \"y\", %{} \"z\") {{\n{body}}}", ends[0]);
        let sizes: &[usize] = if rows == "N" { &[1, 16, 130] } else { &[16] };
        let given: Vec<Vec<Value>> =
            sizes.iter().map(|&n| (0..towers).map(|_| floats(&mut rng, &[n, 96])).collect()).collect();
        with += usize::from(sections(&source, &given) > 0);
        if rows != "N" {
            // The interpreter of Loop IR runs the last branch first.
            let both = Compiled::new(
                graph(&source),
                &Options { threads: 1, ..Options::default() },
                &BTreeMap::new(),
            );
            let outcome = both.expect("code").run_both(&given[0]).expect("equal results");
            assert_eq!(outcome.0, 0, "{source}");
        }
    }
    assert!(with > 12, "{with} of 24 programs have branches");
}

#[test]
fn directions_of_a_recurrence_are_branches() {
    let mut rng = Rng::new(9);
    for (op, gates, attrs) in [
        (
            "lstm",
            4,
            "activations = [\"Sigmoid\", \"Tanh\", \"Tanh\", \"Sigmoid\", \"Tanh\", \"Tanh\"], input_forget = 0, rounded_state = 0",
        ),
        ("gru", 3, "activations = [\"Sigmoid\", \"Tanh\", \"Sigmoid\", \"Tanh\"], linear_before_reset = 1"),
    ] {
        let rows = gates * 64;
        let (operands, results, types) = match op {
            "lstm" => ("_, _, _, _, _", "%4, %5, %6", ": f32[12, 2, 2, 64], f32[2, 2, 64], f32[2, 2, 64]"),
            _ => ("_, _", "%4, %5", ": f32[12, 2, 2, 64], f32[2, 2, 64]"),
        };
        let source = format!(
            "graph @g(%0 \"x\": f32[12, 2, 48]) -> (%7 \"y\", %5 \"h\") {{
              %1 = const f32[2, {rows}, 48] random(1)
              %2 = const f32[2, {rows}, 64] random(2)
              %3 = const f32[2, {}] random(3)
              {results} = {op}(%0, %1, %2, %3, {operands}) {{{attrs}, alphas = [], betas = [], clip = 0.0, direction = \"bidirectional\", hidden = 64}} {types}
              %7 = neg(%4)
            }}",
            2 * rows
        );
        let given = vec![vec![floats(&mut rng, &[12, 2, 48])]];
        assert_eq!(sections(&source, &given), 1, "{op}");
    }
}

/// Text of a program with branches is read back, and a run that is profiled tells of every call.
#[test]
fn branches_are_in_the_text_and_in_profiles() {
    let layer = |from: u32, at: u32| {
        format!("%{at} = const f32[96, 96] random({at})\n%{} = matmul(%{from}, %{at})\n", at + 1)
    };
    let body = [layer(0, 2), layer(3, 4), layer(1, 6), layer(7, 8)].concat();
    let source = format!(
        "graph @g(%0 \"a\": f32[16, 96], %1 \"b\": f32[16, 96]) -> (%10 \"y\") {{\n{body}%10 = concat(%5, %9) {{axis = 0}}\n}}"
    );
    let options = Options { threads: 2, ..Options::default() };
    let lowered = pipeline::lower(graph(&source), &options, &BTreeMap::new()).unwrap();
    assert_eq!(lowered.program.branches.len(), 1, "{}", lowered.text());
    assert!(lowered.text().contains("branches("), "{}", lowered.text());
    let compiled = Executable::new(graph(&source), Engine::Jit, &options, &BTreeMap::new()).unwrap();
    let mut rng = Rng::new(1);
    let given = [floats(&mut rng, &[16, 96]), floats(&mut rng, &[16, 96])];
    let profiled = compiled.native().unwrap().profile(&given).unwrap();
    assert_eq!(profiled.outputs, compiled.run(&given).unwrap());
    assert_eq!(profiled.kernels.len(), lowered.program.calls.len());
    assert!(profiled.kernels.iter().all(|(_, seconds)| *seconds > 0.0));
}

/// What data decides is found before whoever counts by it, and of two errors the first is told, whichever branches they stand beside.
#[test]
fn lengths_and_errors_keep_their_order() {
    let tower = |from: u32, at: u32| {
        let layer = |from: u32, at: u32| {
            format!("%{at} = const f32[96, 96] random({at})\n%{} = matmul(%{from}, %{at})\n", at + 1)
        };
        [layer(from, at), layer(at + 1, at + 2), layer(at + 3, at + 4)].concat()
    };
    let inputs =
        r#"%0 "a": f32[16, 96], %1 "b": f32[16, 96], %2 "c": f32[8], %3 "i": i64[2], %4 "j": i64[2]"#;
    let mut rng = Rng::new(3);
    let ints = |v: [i64; 2]| Value::from(Tensor::new::<i64>(&[2], v.to_vec()));
    let mut given = |i, j| {
        let picked = Tensor::new::<f32>(&[8], vec![0.0, 1.0, 0.0, 2.0, 3.0, 0.0, 0.0, 4.0]);
        vec![floats(&mut rng, &[16, 96]), floats(&mut rng, &[16, 96]), picked.into(), ints(i), ints(j)]
    };
    let source = format!(
        "graph @g({inputs}) -> (%21 \"y\", %24 \"n\", %25 \"p\", %26 \"q\") {{
{}%22 = nonzero(%2) : i64[1, u0]
%23 = const i64[] [1]
%24 = add(%22, %23) : i64[1, u0]
%25 = gather(%0, %3) {{axis = 0}} : f32[2, 96]
{}%26 = gather(%1, %4) {{axis = 0}} : f32[2, 96]
%21 = concat(%10, %16) {{axis = 0}} : f32[32, 96]
}}",
        tower(0, 5),
        tower(1, 11)
    );
    assert!(sections(&source, &[given([0, 15], [3, 1])]) > 0, "{source}");
    // Both are out of range: that of the first call is told.
    let wrong = given([50, 0], [70, 0]);
    let run = |threads| {
        let options = Options { threads, ..Options::default() };
        let compiled =
            Executable::new(graph(&source), Engine::Jit, &options, &BTreeMap::new()).expect("code");
        compiled.run(&wrong).expect_err("an index out of range").to_string()
    };
    assert!(run(1).contains("50") && run(2) == run(1), "{}", run(1));
}
