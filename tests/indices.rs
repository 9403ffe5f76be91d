//! Indices and lengths in the data, right ones and wrong ones, through every operation that takes them, on every engine.
//!
//! The interpreter says what is right: a result, or an error that names the number. Compiled code gives the same result, or the same
//! error, on any number of threads. No engine brings a wrong number into its range.

use egret::ir::{DType, Graph, Tensor, Value, text};
use egret::source::{graph, made_up};
use egret::{Engine, ErrorKind, Executable, ImportOptions, Options};
use egret_workspace::fixture;
use std::collections::BTreeMap;

/// An operation on indices or lengths.
struct Case {
    /// Its other inputs, `%0` to `%7`.
    inputs: &'static str,
    /// The dims of the indices, `%8`.
    dims: &'static [usize],
    /// The node or nodes that make `%10`.
    nodes: &'static str,
    /// The right numbers: `low..high`.
    low: i64,
    high: i64,
}

const fn case(
    inputs: &'static str,
    dims: &'static [usize],
    nodes: &'static str,
    low: i64,
    high: i64,
) -> Case {
    Case { inputs, dims, nodes, low, high }
}

const CASES: [Case; 18] = [
    // 40 indices of 8,192 elements each are 20 tasks.
    case("%0: f32[6, 8192]", &[40], "%10 = gather(%0, %8) {axis = 0}", -6, 6),
    case("%0: f32[3, 5, 2]", &[4, 2], "%10 = gather(%0, %8) {axis = 1}", -5, 5),
    case("%0: u8[7]", &[9], "%10 = gather(%0, %8) {axis = 0}", -7, 7),
    case("%0: f32[4, 3]", &[], "%10 = gather(%0, %8) {axis = 0}", -4, 4),
    // Nothing to copy, but indices that can be wrong.
    case("%0: f32[4, 0]", &[3], "%10 = gather(%0, %8) {axis = 0}", -4, 4),
    case("%0: f32[0, 4]", &[3], "%10 = gather(%0, %8) {axis = 1}", -4, 4),
    case("%0: f32[0, 4]", &[3], "%10 = gather(%0, %8) {axis = 0}", 0, 0),
    // As a part of an expression.
    case(
        "%0: f32[3, 6]",
        &[4],
        "%9 = transpose(%0) {perm = [1, 0]} %10 = gather(%9, %8) {axis = 0}",
        -6,
        6,
    ),
    case("%0: f32[6, 3]", &[4], "%9 = gather(%0, %8) {axis = 0} %10 = tanh(%9)", -6, 6),
    case("%0: f32[3, 4]", &[3, 5], "%10 = gather_elements(%0, %8) {axis = 1}", -4, 4),
    case("%0: f32[3, 3, 5]", &[4, 2], "%10 = gather_nd(%0, %8) {batch_dims = 0}", -3, 3),
    case("%0: f32[2, 4, 5]", &[2, 3, 1], "%10 = gather_nd(%0, %8) {batch_dims = 1}", -4, 4),
    case(
        "%0: f32[4, 3], %1: f32[2, 3]",
        &[2, 3],
        "%10 = scatter_elements(%0, %8, %1) {axis = 0, reduction = \"none\"}",
        -4,
        4,
    ),
    case(
        "%0: f32[9], %1: f32[6]",
        &[6],
        "%10 = scatter_elements(%0, %8, %1) {axis = 0, reduction = \"add\"}",
        -9,
        9,
    ),
    case(
        "%0: f32[3, 3, 2], %1: f32[4, 2]",
        &[4, 2],
        "%10 = scatter_nd(%0, %8, %1) {reduction = \"none\"}",
        -3,
        3,
    ),
    case(
        "%0: f32[5, 2], %1: f32[3, 2]",
        &[3, 1],
        "%10 = scatter_nd(%0, %8, %1) {reduction = \"max\"}",
        -5,
        5,
    ),
    case("%0: f32[4, 3, 2]", &[3], "%10 = reverse_sequence(%0, %8) {batch_axis = 1, time_axis = 0}", 0, 5),
    case(
        "%0: f32[4, 3, 2], %1: f32[1, 5, 2], %2: f32[1, 5, 5]",
        &[3],
        "%10, %11 = rnn(%0, %1, %2, _, %8, _) {activations = [\"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 5}",
        0,
        5,
    ),
];

impl Case {
    fn graph(&self, dtype: DType, constant: Option<&[i64]>) -> Graph {
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        let ty = format!("{}[{}]", dtype.name(), dims.join(", "));
        let (input, given) = match constant {
            None => (format!(", %8: {ty}"), String::new()),
            Some(indices) => (String::new(), format!("%8 = const {ty} {indices:?}\n")),
        };
        let nodes = self.nodes.replace("} %10", "}\n%10").replace(") %10", ")\n%10");
        let source = format!("graph @g({}{input}) -> (%10) {{\n{given}{nodes}\n}}", self.inputs);
        text::parse(&source, &|_| None).unwrap_or_else(|e| panic!("{source}: {e}"))
    }

    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Right numbers, the extremes among them.
    fn right(&self) -> Vec<i64> {
        let n = (self.high - self.low).max(1);
        (0..self.len() as i64).map(|i| self.low + (i * 7 + n - 1) % n).collect()
    }

    /// Lists of one number beside right ones, at the first, a middle and the last place.
    fn lists(&self, dtype: DType) -> Vec<Vec<i64>> {
        let mut odd = vec![self.high, self.low - 1, i32::MAX.into(), i32::MIN.into(), 0, -1, self.low];
        if dtype == DType::I64 {
            odd.extend([i64::MAX, i64::MIN, i64::MIN + self.high, 1 << 32, -(1 << 32) - 1, 1 << 61]);
        }
        let mut lists = vec![self.right()];
        for at in [0, self.len() / 2, self.len() - 1] {
            for &v in &odd {
                let mut list = self.right();
                list[at] = v;
                lists.push(list);
            }
        }
        lists
    }
}

fn tensor(dtype: DType, shape: &[usize], numbers: &[i64]) -> Value {
    match dtype {
        DType::I64 => Tensor::new(shape, numbers.to_vec()),
        DType::I32 => Tensor::new(shape, numbers.iter().map(|&v| v as i32).collect()),
        other => panic!("no indices of {other}"),
    }
    .into()
}

/// Compiled code with and without passes, from memory and from disk, on one thread and on several.
const COMPILED: [(Engine, usize); 5] =
    [(Engine::Jit, 1), (Engine::Jit, 4), (Engine::JitNoOpt, 1), (Engine::Aot, 1), (Engine::Aot, 4)];

fn executable(graph: &Graph, engine: Engine, threads: usize) -> egret::Result<Executable> {
    Executable::new(graph.clone(), engine, &Options { threads, ..Options::default() }, &BTreeMap::new())
}

fn assert_same(want: &[Value], have: &[Value], what: &str) {
    for (w, h) in want.iter().zip(have) {
        let (w, h) = (w.as_tensor().expect("a tensor"), h.as_tensor().expect("a tensor"));
        assert_eq!(w.shape(), h.shape(), "{what}");
        if w.bytes() == h.bytes() {
            continue;
        }
        // Only tanh and sums, which the interpreter rounds once, are not exact.
        assert!(["anh", "\"add\""].iter().any(|w| what.contains(w)), "{what}: {w:?}, compiled {h:?}");
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(w.data::<f32>().iter().zip(h.data::<f32>()).all(near), "{what}: {w:?}, compiled {h:?}");
    }
}

/// What the message says of a wrong number; the interpreter lists all lengths.
fn complaint(case: &Case, number: i64) -> String {
    if case.low < 0 || case.high == 0 {
        format!("index {number} is out of range for {} elements", case.high)
    } else {
        format!("{number} is out of range, {} to {} is right", case.low, case.high - 1)
    }
}

#[test]
fn engines_agree_on_right_and_wrong_numbers() {
    let (mut right, mut wrong) = (0, 0);
    for case in &CASES {
        for dtype in [DType::I32, DType::I64] {
            let graph = case.graph(dtype, None);
            let interp = executable(&graph, Engine::Interp, 1).expect("interpreted");
            let compiled = COMPILED.map(|(engine, threads)| {
                let made = executable(&graph, engine, threads);
                (engine, threads, made.unwrap_or_else(|e| panic!("{} on {engine:?}: {e}", case.nodes)))
            });
            let mut inputs = made_up(&graph, 1).expect("inputs");
            let last = inputs.len() - 1;
            for list in case.lists(dtype) {
                inputs[last] = tensor(dtype, case.dims, &list);
                let want = interp.run(&inputs);
                let bad = list.iter().find(|v| !(case.low..case.high).contains(v));
                assert_eq!(want.is_err(), bad.is_some(), "{} of {list:?}: {:?}", case.nodes, want.err());
                for (engine, threads, e) in &compiled {
                    let what = format!("{} of {list:?} on {engine:?}, {threads} threads", case.nodes);
                    match (&want, e.run(&inputs)) {
                        (Ok(want), Ok(have)) => {
                            right += 1;
                            assert_same(want, &have, &what);
                        }
                        (Err(_), Err(e)) => {
                            wrong += 1;
                            assert_eq!(e.kind, ErrorKind::User, "{what}: {e}");
                            let complaint = complaint(case, *bad.expect("a wrong number"));
                            assert!(e.message.contains(&complaint), "{what}: {e}; expected: {complaint}");
                        }
                        (want, have) => panic!("{what}: interpreter {want:?}, compiled {have:?}"),
                    }
                }
            }
        }
    }
    assert!(right > 500 && wrong > 2000, "{right} right, {wrong} wrong");
}

#[test]
fn the_first_wrong_number_is_named_on_any_threads() {
    let case = &CASES[0];
    let graph = case.graph(DType::I64, None);
    let e = executable(&graph, Engine::Jit, 4).expect("compiled");
    let mut inputs = made_up(&graph, 1).expect("inputs");
    let mut list = case.right();
    for (i, v) in list.iter_mut().enumerate().skip(3) {
        *v = 1000 + i as i64;
    }
    inputs[1] = tensor(DType::I64, case.dims, &list);
    for _ in 0..200 {
        let message = e.run(&inputs).expect_err("wrong numbers").message;
        assert!(message.contains("index 1003 is out of range for 6 elements"), "{message}");
    }
    // A failed run leaves nothing that harms the next.
    inputs[1] = tensor(DType::I64, case.dims, &case.right());
    assert!(e.run(&inputs).is_ok());
}

#[test]
fn wrong_constants_are_refused() {
    for case in &CASES {
        for dtype in [DType::I32, DType::I64] {
            let mut list = case.right();
            if list.len() > 16 {
                continue; // Not spelt out in text.
            }
            let at = list.len() - 1;
            for v in [case.high, case.low - 1] {
                list[at] = v;
                let graph = case.graph(dtype, Some(&list));
                let interp = executable(&graph, Engine::Interp, 1).expect("interpreted");
                interp.run(&made_up(&graph, 1).expect("inputs")).expect_err("a wrong constant");
                for (engine, threads) in COMPILED {
                    let Err(e) = executable(&graph, engine, threads) else {
                        panic!("{} of {list:?} compiles on {engine:?}", case.nodes)
                    };
                    assert_eq!(e.kind, ErrorKind::User, "{e}");
                    let bad = list.iter().find(|v| !(case.low..case.high).contains(v)).expect("one");
                    assert!(e.message.contains(&complaint(case, *bad)), "{}: {e}", case.nodes);
                }
            }
        }
    }
}

/// In a branch they matter where it is taken, whether they stand in it or are captured.
#[test]
fn wrong_constants_in_branches_fail_where_they_are_taken() {
    for case in &CASES {
        let mut list = case.right();
        if list.len() > 16 {
            continue; // Not spelt out in text.
        }
        list[0] = case.high;
        let whole = case.graph(DType::I64, Some(&list));
        let result = whole.ty(whole.outputs()[0]).to_string();
        let zeros = vec![
            0;
            whole
                .ty(whole.outputs()[0])
                .as_tensor()
                .expect("a tensor")
                .const_dims()
                .expect("constant")
                .iter()
                .product()
        ];
        let dims: Vec<String> = case.dims.iter().map(usize::to_string).collect();
        let indices = format!("i64[{}]", dims.join(", "));
        let names: Vec<&str> = case.inputs.split(", ").filter_map(|p| Some(p.split_once(':')?.0)).collect();
        let nodes = case.nodes.replace("} %10", "}\n%10").replace(") %10", ")\n%10");
        let constant = format!("%8 = const {indices} {list:?}\n");
        for (around, port, given, within) in
            [("", "", "", constant.as_str()), (constant.as_str(), &*format!(", %8: {indices}"), ", %8", "")]
        {
            let source = format!(
                "graph @g(%20: bool[], {inputs}) -> (%21) {{
                {around}%21 = if(%20, {names}{given}) : {result}
                  then graph @a({inputs}{port}) -> (%10) {{
                    {within}{nodes}
                  }}
                  else graph @b({inputs}{port}) -> (%12) {{
                    %12 = const {result} {zeros:?}
                  }}
                }}",
                inputs = case.inputs,
                names = names.join(", "),
            );
            let graph = text::parse(&source, &|_| None).unwrap_or_else(|e| panic!("{source}: {e}"));
            let mut inputs = made_up(&graph, 1).expect("inputs");
            for (engine, threads) in [(Engine::Interp, 1)].into_iter().chain(COMPILED) {
                let e = executable(&graph, engine, threads).unwrap_or_else(|e| panic!("{source}: {e}"));
                for taken in [false, true, false] {
                    inputs[0] = Tensor::from_bools(&[], &[taken]).into();
                    match e.run(&inputs) {
                        Ok(out) => {
                            assert!(!taken, "{source} on {engine:?}");
                            let out = out[0].as_tensor().expect("a tensor");
                            assert!(out.bytes().iter().all(|b| *b == 0), "{source} on {engine:?}");
                        }
                        Err(e) => {
                            let is = complaint(case, case.high);
                            assert!(taken && e.kind == ErrorKind::User, "{source} on {engine:?}: {e}");
                            // The interpreter lists all lengths.
                            let listed = engine == Engine::Interp && e.message.contains("lengths");
                            assert!(
                                listed || e.message.contains(&is),
                                "{source} on {engine:?}: {e}; expected: {is}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_onnx_node_is_named() {
    let path = fixture("refused/92-gather-out-of-range.onnx");
    let graph = graph(&path, &ImportOptions::default()).expect("imported");
    for (engine, threads) in [(Engine::Interp, 1)].into_iter().chain(COMPILED) {
        let e = executable(&graph, engine, threads).expect("an engine");
        for (index, right) in [(2i64, true), (-3, true), (3, false), (-4, false), (1_000_000_000, false)] {
            let inputs = [Tensor::new(&[3], vec![1f32, 2.0, 3.0]), Tensor::new(&[2], vec![1i64, index])];
            match e.run(&inputs.map(Value::from)) {
                Ok(_) => assert!(right, "{index} on {engine:?}"),
                Err(e) => {
                    let end = format!("gather (Gather:y): index {index} is out of range for 3 elements");
                    assert!(!right && e.message.ends_with(&end), "{index} on {engine:?}: {e}");
                }
            }
        }
    }
}
