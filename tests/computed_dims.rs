//! Operators whose dims are computed from data, with nothing bound: the conformance cases of which some input would have to be known
//! give what they should, run by run, where their dims are found by the run; in compiled code too, as far as it has room for them.

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use egret::cases::{Case, DataSet};
use egret::compare::{Tolerance, compare};
use egret::frontend::ModelFile;
use egret::ir::{Dim, Graph, Tensor, Value, interp};
use egret::{Engine, Executable, ImportOptions, Options};
use egret_onnx::import_in_memory;
use egret_workspace::free::parse;
use egret_workspace::guarded::Compiled;
use egret_workspace::{classical, conformance};
use onnx_protobuf::*;
use std::collections::BTreeMap;

/// The graph of a case whose inputs have the shapes that a data set says; none where no value would have to be known.
fn computed(model: &ModelFile, set: &DataSet) -> Option<Graph> {
    let shapes = set.inputs.iter().filter_map(|(name, value)| {
        let shape = value.as_tensor()?.shape().iter().map(|&d| Dim::from(d)).collect();
        Some((name.clone(), shape))
    });
    let options = ImportOptions { input_shapes: shapes.collect(), ..ImportOptions::default() };
    let bound = model.import_for_inputs(&BTreeMap::new(), &set.inputs, BTreeMap::new()).ok()?.1.bind;
    if bound.is_empty() {
        return None;
    }
    model.import(&options).ok()
}

fn agrees(expected: &[Value], have: &[Value], tolerance: Tolerance) -> Result<(), String> {
    expected.iter().zip(have).try_for_each(|(e, h)| compare(e, h, tolerance))
}

/// Every dim that data decides has room for so many elements.
const ROOM: i64 = 64;

fn with_room(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let counted = |name: &&str| {
        graph.counted(name).is_some_and(|(id, at)| graph.node(id).attrs.at_most(at).is_none())
    };
    let open: Vec<String> = graph.declarations().into_keys().filter(counted).map(str::to_owned).collect();
    let most = open.into_iter().map(|name| (name, Dim::constant(ROOM))).collect();
    graph.limit_dims(&most).expect("dims that may be limited");
    graph
}

#[test]
fn nothing_has_to_be_bound() {
    let folders = [
        conformance(env!("CARGO_TARGET_TMPDIR")).join("node"),
        classical(env!("CARGO_TARGET_TMPDIR")).join("classical"),
    ];
    let (mut interpreted, mut in_parts, mut compiled, mut refused, mut wrong) =
        (0, 0, 0, BTreeMap::new(), vec![]);
    for case in folders.iter().flat_map(|f| Case::find(f).expect("cases")) {
        let Ok(model) = ModelFile::open_lean(&case.model()) else { continue };
        let tolerance = case.tolerance().expect("a tolerance");
        for set in case.data_sets().expect("data sets") {
            let Some(graph) = computed(&model, &set) else { continue };
            let inputs: Vec<Value> = graph
                .inputs()
                .iter()
                .map(|&v| set.inputs.get(&graph.value(v).name).expect("an input").clone())
                .collect();
            let random = graph.node_ids().iter().any(|&n| graph.node(n).op.is_random());
            match interp::run(&graph, &inputs) {
                Ok(have) if random || agrees(&set.expected, &have, tolerance).is_ok() => interpreted += 1,
                Ok(have) => {
                    wrong.push(format!("{}: {:?}", case.name, agrees(&set.expected, &have, tolerance)))
                }
                Err(e) => {
                    refused.insert(case.name.clone(), format!("interpreter: {e}"));
                    continue;
                }
            }
            let options = Options { threads: 1, ..Options::default() };
            // Without room that anybody tells, the interpreter counts between compiled parts.
            let parts = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new());
            match parts.and_then(|e| e.run(&inputs)) {
                Ok(have) if random || agrees(&set.expected, &have, tolerance).is_ok() => in_parts += 1,
                Ok(have) => wrong.push(format!(
                    "{} (in parts): {:?}",
                    case.name,
                    agrees(&set.expected, &have, tolerance)
                )),
                Err(e) => {
                    refused.insert(case.name.clone(), format!("in parts: {e}"));
                }
            }
            // On its own, not in parts beside the host: a library has no interpreter.
            let native = egret::Native::jit(with_room(&graph), &options, &BTreeMap::new());
            match native.and_then(|_| {
                Executable::new(with_room(&graph), Engine::Jit, &options, &BTreeMap::new())?.run(&inputs)
            }) {
                Ok(have) if random || agrees(&set.expected, &have, tolerance).is_ok() => compiled += 1,
                Ok(have) => wrong.push(format!(
                    "{} (jit): {:?}",
                    case.name,
                    agrees(&set.expected, &have, tolerance)
                )),
                Err(e) => {
                    refused.insert(case.name.clone(), e.to_string());
                }
            }
        }
    }
    println!("{interpreted} by the interpreter, {in_parts} in parts, {compiled} compiled; refused:");
    refused.iter().for_each(|(name, why)| println!("{name}: {why}"));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(interpreted >= 77, "{interpreted}");
    assert!(in_parts >= 77, "{in_parts}");
    assert!(compiled >= 77, "{compiled}");
}

/// Numbers from 0 to the most are dims; those below and above are errors of the run, in every engine.
#[test]
fn a_range_counts_to_its_most() {
    let graph = parse(
        r#"graph @g(%0 "n": i64[], %1 "x": f32[3]) -> (%2 "places", %4 "rows") {
  %2 = range(%0) {at_most = [9], dims = [u0]} : i64[u0]
  %3 = reshape(%1) {shape = [3, 1]} : f32[3, 1]
  %4 = broadcast(%3) {shape = [3, u0]} : f32[3, u0]
}"#,
    );
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("compiled");
    let x = Tensor::new(&[3], vec![1f32, 2.0, 3.0]);
    for n in [0i64, 1, 7, 9] {
        let inputs: [Value; 2] = [Tensor::scalar(n).into(), x.clone().into()];
        let want = interp::run(&graph, &inputs).expect("a dim");
        let (code, have) = compiled.run_both(&inputs).expect("a run");
        assert_eq!(code, 0, "{n}");
        for (want, have) in want.iter().zip(&have) {
            assert_eq!(want.as_tensor().expect("a tensor").bytes(), &have[..], "{n}");
        }
    }
    for n in [-1i64, 10, i64::MIN, i64::MAX] {
        let inputs: [Value; 2] = [Tensor::scalar(n).into(), x.clone().into()];
        let refused = interp::run(&graph, &inputs).expect_err("no dim").to_string();
        assert!(refused.contains("range"), "{refused}");
        assert_ne!(compiled.run_both(&inputs).expect("a run").0, 0, "{n}");
    }
}

/// A model of opset 21 with these inputs (name, code of the element type, dims) and outputs, compiled with room for 16 of what data decides.
struct Made {
    graph: Graph,
    compiled: Compiled,
}

impl Made {
    fn new(inputs: &[(&str, i32, &[&str])], nodes: Vec<NodeProto>, outputs: &[&str]) -> Made {
        let any = |name: &&str| ValueInfoProto { type_: None.into(), ..build::value(name, 1, &[]) };
        let proto = GraphProto {
            name: "g".into(),
            input: inputs.iter().map(|(name, elem, dims)| build::value(name, *elem, dims)).collect(),
            output: outputs.iter().map(any).collect(),
            node: nodes,
            ..GraphProto::new()
        };
        let opset = OperatorSetIdProto { version: 21, ..OperatorSetIdProto::new() };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![opset],
            graph: Some(proto).into(),
            ..ModelProto::new()
        };
        let options = ImportOptions { computed_dims: true, ..ImportOptions::default() };
        let mut graph = import_in_memory(&model, &options).expect("imports");
        let open = graph.declarations().into_keys().filter(|name| graph.counted(name).is_some());
        let most = open.map(|name| (name.to_owned(), Dim::constant(16))).collect();
        graph.limit_dims(&most).expect("dims that may be limited");
        let options = Options { threads: 1, ..Options::default() };
        let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("compiles");
        Made { graph, compiled }
    }

    /// The shapes of the outputs of a run, which compiled code gives the same elements of; none where both refuse it.
    fn shapes(&self, inputs: Vec<Tensor>) -> Option<Vec<Vec<usize>>> {
        let inputs: Vec<Value> = inputs.into_iter().map(Value::from).collect();
        let want = interp::run(&self.graph, &inputs);
        let plan = self.compiled.plan_code(&inputs);
        let ran = if plan == 0 { self.compiled.run_both(&inputs) } else { Ok((plan, vec![])) };
        match want {
            Ok(want) => {
                let (code, have) = ran.expect("a run");
                assert_eq!(code, 0, "{inputs:?}: {want:?}");
                let tensors: Vec<&Tensor> = want.iter().map(|v| v.as_tensor().expect("a tensor")).collect();
                for (want, have) in tensors.iter().zip(&have) {
                    assert_eq!(want.bytes(), &have[..], "{inputs:?}");
                }
                Some(tensors.iter().map(|t| t.shape().to_vec()).collect())
            }
            Err(e) => {
                assert!(ran.map_or(true, |(code, _)| code != 0), "{inputs:?}: {e}");
                None
            }
        }
    }
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::new(&[values.len()], values.to_vec())
}

#[test]
fn parts_have_to_add_up() {
    let split = build::node("Split", &["x", "s"], &["a", "b"], vec![build::int("axis", 0)]);
    let made = Made::new(&[("x", 1, &["n"]), ("s", 7, &["2"])], vec![split], &["a", "b"]);
    let x = Tensor::new(&[5], vec![1f32, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(made.shapes(vec![x.clone(), ints(&[2, 3])]), Some(vec![vec![2], vec![3]]));
    assert_eq!(made.shapes(vec![x.clone(), ints(&[5, 0])]), Some(vec![vec![5], vec![0]]));
    for wrong in [[2, 2], [0, 0], [4, 2], [-1, 6]] {
        assert_eq!(made.shapes(vec![x.clone(), ints(&wrong)]), None, "{wrong:?}");
    }
}

/// What is only part of a sum may be below 0; sums of narrow integers wrap before they are dims.
#[test]
fn parts_of_sums_are_numbers() {
    let ten = build::tensor("ten", 7, &[1], &10i64.to_le_bytes());
    let constant = build::node("Constant", &[], &["ten"], vec![build::tensor_attr("value", ten)]);
    let sum = build::node("Add", &["n", "ten"], &["m"], vec![]);
    let zeros = build::node("ConstantOfShape", &["m"], &["y"], vec![]);
    let made = Made::new(&[("n", 7, &["1"])], vec![constant, sum, zeros], &["y"]);
    assert_eq!(made.shapes(vec![ints(&[-3])]), Some(vec![vec![7]]));
    assert_eq!(made.shapes(vec![ints(&[6])]), Some(vec![vec![16]]));
    assert_eq!(made.shapes(vec![ints(&[7])]), None);
    assert_eq!(made.shapes(vec![ints(&[-11])]), None);

    let square = build::node("Mul", &["n", "n"], &["s"], vec![]);
    let wide = build::node("Cast", &["s"], &["m"], vec![build::int("to", 7)]);
    let zeros = build::node("ConstantOfShape", &["m"], &["y"], vec![]);
    let made = Made::new(&[("n", 2, &["1"])], vec![square, wide, zeros], &["y"]);
    assert_eq!(made.shapes(vec![Tensor::new(&[1], vec![16u8])]), Some(vec![vec![0]]));
    assert_eq!(made.shapes(vec![Tensor::new(&[1], vec![3u8])]), Some(vec![vec![9]]));
}

/// A -1 beside a computed dim is what is left, if that comes out even.
#[test]
fn what_is_left_beside_a_computed_dim() {
    let left = build::tensor("left", 7, &[1], &(-1i64).to_le_bytes());
    let constant = build::node("Constant", &[], &["left"], vec![build::tensor_attr("value", left)]);
    let target = build::node("Concat", &["k", "left"], &["to"], vec![build::int("axis", 0)]);
    let reshape = build::node("Reshape", &["x", "to"], &["y"], vec![]);
    let made = Made::new(&[("x", 1, &["12"]), ("k", 7, &["1"])], vec![constant, target, reshape], &["y"]);
    let x = Tensor::new(&[12], (0..12).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(made.shapes(vec![x.clone(), ints(&[3])]), Some(vec![vec![3, 4]]));
    assert_eq!(made.shapes(vec![x.clone(), ints(&[12])]), Some(vec![vec![12, 1]]));
    assert_eq!(made.shapes(vec![x.clone(), ints(&[0])]), Some(vec![vec![12, 1]]), "as it was");
    for wrong in [5, -1, -3] {
        assert_eq!(made.shapes(vec![x.clone(), ints(&[wrong])]), None, "{wrong}");
    }
}

/// A shape that a run gives means what a constant one means: 0 is the dim that was there, or none with `allowzero`, and one -1 is what is left.
#[test]
fn shapes_that_a_run_gives() {
    let made = |attrs: Vec<AttributeProto>, of: &'static str| {
        let reshape = build::node("Reshape", &["x", "to"], &["y"], attrs);
        Made::new(&[("x", 1, &["2", "n"]), ("to", 7, &[of])], vec![reshape], &["y"])
    };
    let x = |n: usize| Tensor::new(&[2, n], (0..2 * n).map(|i| i as f32).collect::<Vec<_>>());
    let three = made(vec![], "3");
    for (n, to, want) in [
        (6, [2, 3, 2], Some([2, 3, 2])),
        (6, [-1, 3, 2], Some([2, 3, 2])),
        (6, [2, -1, 1], Some([2, 6, 1])),
        (6, [0, 0, 1], Some([2, 6, 1])),
        (6, [0, -1, 3], Some([2, 2, 3])),
        (0, [2, 0, 5], Some([2, 0, 5])),
        (6, [0, 0, 0], None),
        (6, [-1, -1, 3], None),
        (0, [-1, 0, 3], None),
        (6, [-1, 5, 1], None),
        (6, [2, 3, 3], None),
        (6, [-2, -3, 2], None),
        (6, [i64::MIN, 1, 1], None),
        (6, [i64::MAX, i64::MAX, -1], None),
    ] {
        let want = want.map(|shape| vec![shape.to_vec()]);
        assert_eq!(three.shapes(vec![x(n), ints(&to)]), want, "{n}, {to:?}");
    }
    let one = made(vec![], "1");
    assert_eq!(one.shapes(vec![x(6), ints(&[-1])]), Some(vec![vec![12]]));
    assert_eq!(one.shapes(vec![x(0), ints(&[0])]), None, "2 is kept, and there is nothing");
    let zeros = made(vec![build::int("allowzero", 1)], "2");
    assert_eq!(zeros.shapes(vec![x(0), ints(&[0, 7])]), Some(vec![vec![0, 7]]));
    assert_eq!(zeros.shapes(vec![x(3), ints(&[0, 7])]), None);
    for beside_zero in [[0, -1], [-1, 0]] {
        assert_eq!(zeros.shapes(vec![x(0), ints(&beside_zero)]), None, "{beside_zero:?}");
    }
}

/// Steps are counted where differences of bounds do not fit 64 bits, and none are 0.
#[test]
fn steps_between_bounds_that_are_far_apart() {
    let range = build::node("Range", &["a", "b", "d"], &["y"], vec![]);
    let made = |elem| {
        Made::new(&[("a", elem, &[]), ("b", elem, &[]), ("d", elem, &[])], vec![range.clone()], &["y"])
    };
    let of_i64 = made(7);
    let (low, high) = (i64::MIN, i64::MAX);
    for (bounds, count) in [
        ([0, high, -1], Some(0)),
        ([high, low, 1], Some(0)),
        ([low, high, high], Some(3)),
        ([high, low, -high], Some(3)),
        ([high, low, low], Some(2)),
        ([0, low, low], Some(1)),
        ([0, low + 1, low], Some(1)),
        ([1, low, low], Some(2)),
        ([low, high, 1 << 61], Some(8)),
        ([low, high, high / 7], Some(15)),
        ([low, 0, 1 << 60], Some(8)),
        ([low, 1, 1 << 60], Some(9)),
        ([-3, 4, 3], Some(3)),
        ([5, 5, 1], Some(0)),
        ([low, high, 1], None),
        ([low, high, 2], None),
        ([0, 1, 0], None),
        ([1, 1, 0], None),
    ] {
        let want = count.map(|n: usize| vec![vec![n]]);
        assert_eq!(of_i64.shapes(bounds.map(Tensor::scalar).to_vec()), want, "{bounds:?}");
    }
    let of_i32 = made(6);
    for (bounds, count) in
        [([i32::MIN, i32::MAX, i32::MAX], Some(3)), ([i32::MAX, 0, i32::MIN], Some(1)), ([0, 9, 0], None)]
    {
        let want = count.map(|n: usize| vec![vec![n]]);
        assert_eq!(of_i32.shapes(bounds.map(Tensor::scalar).to_vec()), want, "{bounds:?}");
    }
    let of_f32 = made(1);
    for (bounds, count) in
        [([0.0, 1.0, 0.25], Some(4)), ([0.0, 1.0, 0.0], None), ([0.0, f32::INFINITY, 1.0], None)]
    {
        let want = count.map(|n: usize| vec![vec![n]]);
        assert_eq!(of_f32.shapes(bounds.map(Tensor::scalar).to_vec()), want, "{bounds:?}");
    }
}

/// A range from a number to as many more as a dim says has as many elements as that dim: artifacts have no length for it, and rows go into a cache at a
/// position that is an input.
#[test]
fn ranges_from_a_position_are_as_long_as_what_is_added() {
    let add = |a, b, to| build::node("Add", &[a, b], &[to], vec![]);
    let constant = |name: &'static str, v: i64| {
        let value = build::tensor(name, 7, &[], &v.to_le_bytes());
        build::node("Constant", &[], &[name], vec![build::tensor_attr("value", value)])
    };
    let shape = build::node("Shape", &["new"], &["shape"], vec![]);
    let size = build::node("Gather", &["shape", "zero"], &["t"], vec![]);
    let begin = [constant("zero", 0), constant("one", 1), constant("three", 3), shape, size];
    let range = |from, to, step| build::node("Range", &[from, to, step], &["at"], vec![]);
    let one = build::tensor("last", 7, &[1], &1i64.to_le_bytes());
    let last = build::node("Constant", &[], &["last"], vec![build::tensor_attr("value", one)]);
    let rows = build::node("Unsqueeze", &["at", "last"], &["rows"], vec![]);
    let scatter = build::node("ScatterND", &["cache", "rows", "new"], &["y"], vec![]);
    let inputs: [(&str, i32, &[&str]); 3] =
        [("cache", 1, &["M", "2"]), ("new", 1, &["T", "2"]), ("pos", 7, &[])];
    let made = |nodes: Vec<NodeProto>, outputs: &[&str]| {
        Made::new(&inputs, begin.iter().cloned().chain(nodes).collect(), outputs)
    };
    let given = |m: usize, t: usize, pos: i64| {
        let new = Tensor::new(&[t, 2], (0..2 * t).map(|i| i as f32 + 1.0).collect::<Vec<_>>());
        vec![Tensor::new(&[m, 2], vec![0f32; 2 * m]), new, Tensor::scalar(pos)]
    };
    let cached =
        made(vec![add("pos", "t", "end"), range("pos", "end", "one"), last, rows, scatter], &["y"]);
    for (m, t, pos) in [(8, 3, 2), (8, 3, 5), (8, 8, 0), (8, 0, 4), (1, 1, 0), (300, 17, 200)] {
        assert_eq!(cached.shapes(given(m, t, pos)), Some(vec![vec![m, 2]]), "{m}, {t}, {pos}");
    }
    for (m, t, pos) in [(8, 3, 6), (8, 9, 0), (8, 1, i64::MAX)] {
        assert_eq!(cached.shapes(given(m, t, pos)), None, "{m}, {t}, {pos}");
    }
    // Every third number from one behind the position, as far as there are some.
    let behind = vec![add("pos", "one", "from"), add("t", "pos", "to"), range("from", "to", "three")];
    let thirds = made(behind, &["at"]);
    for (t, count) in [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (200, 67)] {
        assert_eq!(thirds.shapes(given(1, t, -5)), Some(vec![vec![count]]), "{t}");
    }
}

/// A step that dims say is below 0 for some sizes, above it for others and 0 for some more: none of the ranges is empty where it should not be.
#[test]
fn ranges_of_steps_that_dims_say() {
    let of = |op, a, b, to| build::node(op, &[a, b], &[to], vec![]);
    let constant = |name: &str, v: i64| {
        let value = build::tensor(name, 7, &[], &v.to_le_bytes());
        build::node("Constant", &[], &[name], vec![build::tensor_attr("value", value)])
    };
    let size = |x: &str, n: &str| {
        let shape = format!("{x}_shape");
        let first = build::node("Gather", &[&shape, "zero"], &[n], vec![]);
        [build::node("Shape", &[x], &[&shape], vec![]), first]
    };
    let mut begin = vec![constant("zero", 0), constant("five", 5)];
    begin.extend([size("x", "n"), size("y", "m")].concat());
    begin.push(of("Sub", "zero", "n", "back"));
    begin.push(of("Sub", "n", "m", "apart"));
    begin.push(of("Sub", "m", "five", "far"));
    begin.push(of("Add", "pos", "m", "behind"));
    let value = |name: &str, n: i64, m: i64, pos: i64| match name {
        "zero" => 0,
        "n" => n,
        "m" => m,
        "back" => -n,
        "apart" => n - m,
        "far" => m - 5,
        "pos" => pos,
        "behind" => pos + m,
        _ => 5,
    };
    let inputs: [(&str, i32, &[&str]); 3] = [("x", 1, &["N"]), ("y", 1, &["M"]), ("pos", 7, &[])];
    let (mut empty, mut some, mut refused) = (0, 0, 0);
    for bounds in [
        ["zero", "n", "m"],
        ["n", "zero", "far"],
        ["m", "zero", "back"],
        ["zero", "m", "back"],
        ["zero", "m", "apart"],
        ["n", "m", "apart"],
        ["five", "m", "far"],
        ["five", "back", "apart"],
        ["pos", "behind", "n"],
        ["behind", "pos", "back"],
        ["behind", "pos", "apart"],
        ["pos", "behind", "far"],
    ] {
        let range = build::node("Range", &bounds, &["at"], vec![]);
        let made = Made::new(&inputs, begin.iter().cloned().chain([range]).collect(), &["at"]);
        for (n, m) in [0, 1, 2, 3, 5, 7, 12].into_iter().flat_map(|n| [0, 1, 4, 5, 6, 9].map(|m| (n, m))) {
            let x = |n: i64| Tensor::new(&[n as usize], vec![0f32; n as usize]);
            let given = vec![x(n), x(m), Tensor::scalar(40i64)];
            let [from, to, step] = bounds.map(|name| value(name, n, m, 40));
            let mut want = vec![];
            let mut at = from;
            while step != 0 && (at < to && step > 0 || at > to && step < 0) {
                want.push(at);
                at += step;
            }
            let what = format!("{bounds:?}: {from} to {to} by {step}");
            let shapes = made.shapes(given.clone());
            assert_eq!(shapes, (step != 0).then(|| vec![vec![want.len()]]), "{what}");
            let values: Vec<Value> = given.into_iter().map(Value::from).collect();
            match interp::run(&made.graph, &values) {
                Ok(have) => {
                    assert_eq!(have[0].as_tensor().expect("a tensor").data::<i64>(), want, "{what}");
                    if want.is_empty() { empty += 1 } else { some += 1 }
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(empty > 50 && some > 150 && refused > 30, "{empty} {some} {refused}");
}

/// What a loop carries has the dims that its body gives, or the run fails: never others of which there are as many elements.
#[test]
fn carried_values_keep_each_dim() {
    let any = |name: &str, elem| ValueInfoProto { type_: None.into(), ..build::value(name, elem, &[]) };
    let to: Vec<u8> = [3i64, 4].iter().flat_map(|d| d.to_le_bytes()).collect();
    let to = build::tensor_attr("value", build::tensor("to", 7, &[2], &to));
    let to = build::node("Constant", &[], &["to"], vec![to]);
    let node = |op, from: &[&str], y| build::node(op, from, &[y], vec![]);
    let made = |nodes: &[NodeProto]| {
        let body = GraphProto {
            input: vec![build::value("i", 7, &[]), build::value("go", 9, &[]), any("s", 1)],
            output: vec![any("on", 9), any("t", 1)],
            node: [&[node("Identity", &["go"], "on")], nodes].concat(),
            ..GraphProto::new()
        };
        let body = build::graph_attr("body", body);
        let looped = build::node("Loop", &["rounds", "", "x"], &["y"], vec![body]);
        let inputs: [(&str, i32, &[&str]); 3] =
            [("x", 1, &["N", "M"]), ("b", 1, &["K", "L"]), ("rounds", 7, &[])];
        Made::new(&inputs, vec![to.clone(), looped], &["y"])
    };
    let wide = |a: usize, b: usize| if a == 1 { Some(b) } else { (b == 1 || a == b).then_some(a) };
    let add = made(&[node("Add", &["s", "b"], "t")]);
    let turn = made(&[node("Transpose", &["s"], "r"), node("Add", &["s", "r"], "t")]);
    let (flat, wider) = (node("Reshape", &["s", "to"], "r"), node("Expand", &["s", "to"], "e"));
    let spread = made(&[flat.clone(), wider, node("Add", &["r", "e"], "t")]);
    let reshape = made(&[flat, node("Neg", &["r"], "t")]);
    for (made, what) in [(add, "add"), (turn, "turn"), (reshape, "reshape"), (spread, "spread")] {
        let mut ran = 0;
        for (n, m) in [0, 1, 2, 3, 4, 6, 12].into_iter().flat_map(|n| [0, 1, 2, 4, 6, 12].map(|m| (n, m))) {
            for (k, l, rounds) in [(1, 1, 1i64), (0, 0, 1), (1, 0, 2), (n, m, 2), (m, n, 1), (1, m, 0)] {
                let twelve = (n * m == 12).then_some([3, 4]);
                let want = match what {
                    _ if rounds == 0 => Some([n, m]),
                    "add" => wide(n, k).zip(wide(m, l)).map(|(a, b)| [a, b]),
                    "turn" => wide(n, m).map(|a| [a, a]),
                    "reshape" => twelve,
                    _ => twelve.filter(|_| (n, m) == (3, 4)),
                };
                let x = |a: usize, b: usize| Tensor::new(&[a, b], vec![1f32; a * b]);
                let shapes = made.shapes(vec![x(n, m), x(k, l), Tensor::scalar(rounds)]);
                if shapes.is_some() || want == Some([n, m]) {
                    assert_eq!(shapes, want.map(|w| vec![w.to_vec()]), "{what} {n} {m} {k} {l} {rounds}");
                    ran += 1;
                }
            }
        }
        assert!(ran > 40, "{what}: {ran}");
    }
}

/// A pad below 0 takes elements away whoever gives it, and then the other end is padded with what is left.
#[test]
fn pads_that_a_run_gives() {
    let x = || Tensor::new(&[4], vec![1f32, 2.0, 3.0, 4.0]);
    let wants: [(&str, &[f32], &[f32]); 4] = [
        ("constant", &[2.0, 3.0, 4.0, 0.0, 0.0], &[0.0, 1.0, 2.0, 3.0]),
        ("edge", &[2.0, 3.0, 4.0, 4.0, 4.0], &[1.0, 1.0, 2.0, 3.0]),
        ("reflect", &[2.0, 3.0, 4.0, 3.0, 2.0], &[2.0, 1.0, 2.0, 3.0]),
        ("wrap", &[2.0, 3.0, 4.0, 2.0, 3.0], &[3.0, 1.0, 2.0, 3.0]),
    ];
    for (mode, before, behind) in wants {
        let pad = build::node("Pad", &["x", "p"], &["y"], vec![build::string("mode", mode)]);
        let made = Made::new(&[("x", 1, &["n"]), ("p", 7, &["2"])], vec![pad], &["y"]);
        for (pads, want) in [([-1, 2], before), ([1, -1], behind), ([-1, -2], &[2.0]), ([0, 0], x().data())]
        {
            let inputs = vec![x(), ints(&pads)];
            let values: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
            let have = interp::run(&made.graph, &values).expect("runs");
            assert_eq!(have[0].as_tensor().expect("a tensor").data::<f32>(), want, "{mode} {pads:?}");
            assert_eq!(made.shapes(inputs), Some(vec![vec![want.len()]]), "{mode} {pads:?}");
        }
        for wrong in [[0, -5], [-3, -2], [i64::MIN, i64::MIN], [i64::MAX, 1]] {
            assert_eq!(made.shapes(vec![x(), ints(&wrong)]), None, "{mode} {wrong:?}");
        }
    }
}

/// What is padded alike is as long: two values of one size, by pads of the same number.
#[test]
fn values_that_are_padded_alike_are_as_long() {
    let pad = |x: &str, y: &str| build::node("Pad", &[x, "p"], &[y], vec![]);
    let sum = build::node("Add", &["a", "b"], &["y"], vec![]);
    let inputs: [(&str, i32, &[&str]); 3] = [("x", 1, &["n"]), ("z", 1, &["n"]), ("p", 7, &["2"])];
    let made = Made::new(&inputs, vec![pad("x", "a"), pad("z", "b"), sum], &["y"]);
    let x = |from: f32| Tensor::new(&[2], vec![from, from + 1.0]);
    assert_eq!(made.shapes(vec![x(1.0), x(5.0), ints(&[-1, 3])]), Some(vec![vec![4]]));
}

/// Slices of what data decides are clamped by 1 and -1 as by other bounds: of nothing they are nothing, also in a branch.
#[test]
fn slices_of_what_may_be_nothing() {
    let bound = |name: &str, value: i64| {
        let tensor = build::tensor(name, 7, &[1], &value.to_le_bytes());
        build::node("Constant", &[], &[name], vec![build::tensor_attr("value", tensor)])
    };
    let slices = |from: &str, prefix: &str| -> Vec<NodeProto> {
        let one = |name: &str, start: &str, end: &str| {
            build::node("Slice", &[from, start, end, "axis"], &[&format!("{prefix}{name}")], vec![])
        };
        vec![one("tail", "one", "far"), one("head", "zero", "back"), one("last", "back", "far")]
    };
    let shape = |from: &str, to: &str| build::node("Shape", &[from], &[to], vec![]);
    let mut nodes = vec![
        bound("zero", 0),
        bound("one", 1),
        bound("back", -1),
        bound("far", i64::MAX),
        bound("axis", 1),
        build::node("NonZero", &["x"], &["places"], vec![]),
    ];
    nodes.extend(slices("places", ""));
    // Differences of neighbours: both slices are as long.
    nodes.push(build::node("Sub", &["tail", "head"], &["steps"], vec![]));
    let branch = |name: &str, result: &str| {
        let mut nodes = slices("places", name);
        nodes.push(shape(&format!("{name}{result}"), &format!("{name}out")));
        let out = ValueInfoProto { type_: None.into(), ..build::value(&format!("{name}out"), 7, &[]) };
        GraphProto { name: name.into(), node: nodes, output: vec![out], ..GraphProto::new() }
    };
    let branches = vec![
        build::graph_attr("then_branch", branch("a", "tail")),
        build::graph_attr("else_branch", branch("b", "last")),
    ];
    nodes.push(build::node("If", &["go"], &["size"], branches));
    let made =
        Made::new(&[("x", 1, &["5"]), ("go", 9, &[])], nodes, &["tail", "head", "last", "steps", "size"]);
    for some in 0..=5usize {
        for go in [false, true] {
            let x: Vec<f32> = (0..5).map(|i| if i < some { 1.0 } else { 0.0 }).collect();
            let less = some.saturating_sub(1);
            let want = [vec![1, less], vec![1, less], vec![1, some.min(1)], vec![1, less], vec![2]];
            let given = vec![Tensor::new(&[5], x), Tensor::from_bools(&[], &[go])];
            assert_eq!(made.shapes(given), Some(want.to_vec()), "{some} {go}");
        }
    }
}
