//! `list.append` in a loop, as exporters write it: sequences that a loop inserts into give on every engine what a list gives, and where the
//! elements are alike no sequence is left.

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use build::*;
use egret::ir::{Graph, Tensor, Value, interp};
use egret::{Engine, Executable, Options};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::{Message, NodeProto, ValueInfoProto, type_proto};
use std::collections::BTreeMap;

/// A sequence of floats.
fn sequence(name: &str) -> ValueInfoProto {
    sequence_of(name, 1)
}

/// A sequence of such elements; how many dims they have is left open.
fn sequence_of(name: &str, elem: i32) -> ValueInfoProto {
    let mut info = value(name, 1, &[]);
    let mut element = onnx_protobuf::TypeProto::new();
    let mut tensor = type_proto::Tensor::new();
    tensor.elem_type = elem;
    element.value = Some(type_proto::Value::TensorType(tensor));
    let mut list = type_proto::Sequence::new();
    list.elem_type = Some(element).into();
    let mut ty = onnx_protobuf::TypeProto::new();
    ty.value = Some(type_proto::Value::SequenceType(list));
    info.type_ = Some(ty).into();
    info
}

/// A model of `x: f32[a, b]` and `n` that carries the sequence `s` through `n` rounds: `start` makes `s0`, `body` makes `s_out` of `s` and of
/// `e`, which is x with the number of the round added, and `after` makes `y` of the sequence `out`.
struct Model {
    start: Vec<NodeProto>,
    body: Vec<NodeProto>,
    after: Vec<NodeProto>,
}

impl Model {
    /// As many rounds as a value says, with these dims given values.
    fn graph(&self, rounds: &str, dims: &[(&str, i64)]) -> Graph {
        let mut body = vec![
            node("Identity", &["go"], &["go_out"], vec![]),
            node("Cast", &["i"], &["k"], vec![int("to", 1)]),
            node("Add", &["x", "k"], &["e"], vec![]),
        ];
        body.extend(self.body.clone());
        let body = graph(
            vec![value("i", 7, &[]), value("go", 9, &[]), sequence("s")],
            vec![value("go_out", 9, &[]), sequence("s_out")],
            body,
        );
        let mut nodes = self.start.clone();
        nodes.push(node("Loop", &[rounds, "", "s0"], &["out"], vec![graph_attr("body", body)]));
        nodes.extend(self.after.clone());
        let mut g =
            graph(vec![value("x", 1, &["a", "b"]), value("n", 7, &[])], vec![value("y", 1, &[])], nodes);
        g.output[0].type_ = None.into();
        g.initializer = vec![
            ints("zero", &[], &[0]),
            ints("last", &[], &[-1]),
            ints("three", &[], &[3]),
            ints("axis", &[1], &[0]),
        ];
        let bytes = model(g).write_to_bytes().expect("a model");
        let dims = dims.iter().map(|&(name, size)| (name.to_owned(), size)).collect();
        import_bytes(&bytes, None, &ImportOptions { dims, ..ImportOptions::default() })
            .unwrap_or_else(|e| panic!("{e}"))
    }
}

fn empty() -> Vec<NodeProto> {
    vec![node("SequenceEmpty", &[], &["s0"], vec![])]
}

fn append() -> Vec<NodeProto> {
    vec![node("SequenceInsert", &["s", "e"], &["s_out"], vec![])]
}

fn prepend() -> Vec<NodeProto> {
    vec![node("SequenceInsert", &["s", "e", "zero"], &["s_out"], vec![])]
}

fn join(axis: i64, new_axis: i64) -> Vec<NodeProto> {
    let attributes = vec![int("axis", axis), int("new_axis", new_axis)];
    vec![node("ConcatFromSequence", &["out"], &["y"], attributes)]
}

/// x with a number added.
fn plus(x: &Tensor, k: usize) -> Vec<f32> {
    x.data::<f32>().iter().map(|v| v + k as f32).collect()
}

/// Elements one after another along a first axis.
fn stack(x: &Tensor, of: &[usize]) -> Tensor {
    let shape = [of.len(), x.shape()[0], x.shape()[1]];
    Tensor::new(&shape, of.iter().flat_map(|&k| plus(x, k)).collect::<Vec<f32>>())
}

/// Elements side by side.
fn beside(x: &Tensor, of: &[usize]) -> Tensor {
    let (a, b) = (x.shape()[0], x.shape()[1]);
    let rows = (0..a).flat_map(|row| of.iter().map(move |&k| (row, k)));
    let data: Vec<f32> = rows.flat_map(|(row, k)| plus(x, k)[row * b..(row + 1) * b].to_vec()).collect();
    Tensor::new(&[a, b * of.len()], data)
}

/// Whether a graph or one of its bodies has a value that is no tensor.
fn keeps_sequences(graph: &Graph) -> bool {
    let ids = graph.node_ids();
    let nodes = || ids.iter().map(|&n| graph.node(n));
    let mut values = graph.inputs().iter().chain(nodes().flat_map(|n| &n.results));
    values.any(|&v| graph.ty(v).as_tensor().is_none())
        || nodes().any(|n| n.regions.iter().any(keeps_sequences))
}

fn inputs(a: usize, b: usize, n: i64) -> (Tensor, Vec<Value>) {
    let x = Tensor::new(&[a, b], (0..a * b).map(|i| i as f32 * 0.5 - 1.0).collect::<Vec<f32>>());
    (x.clone(), vec![x.into(), Tensor::scalar(n).into()])
}

/// The model gives this on the interpreter and the JIT engines, and leaves sequences or none.
fn check(of: &Model, sequences: bool, want: &dyn Fn(&Tensor, usize) -> Tensor) {
    let free = of.graph("n", &[]);
    assert_eq!(keeps_sequences(&free), sequences, "{free}");
    for (a, b) in [(2, 3), (1, 1), (3, 2)] {
        // How many rounds there are only a run knows: the rest is compiled for the sizes.
        let graph = of.graph("n", &[("a", a), ("b", b)]);
        let engines = [Engine::Jit, Engine::JitNoOpt].map(|engine| {
            let options = Options { threads: 1, ..Options::default() };
            Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
                .unwrap_or_else(|e| panic!("{e}\n{graph}"))
        });
        for n in [1, 2, 5] {
            let (x, inputs) = inputs(a as usize, b as usize, n);
            let want = vec![Value::from(want(&x, n as usize))];
            for graph in [&free, &graph] {
                let have = interp::run(graph, &inputs).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
                assert_eq!(have, want, "{graph}");
            }
            for engine in &engines {
                let have = engine.run(&inputs).unwrap_or_else(|e| panic!("{e}\n{graph}"));
                assert_eq!(have, want, "{graph}");
            }
        }
    }
}

#[test]
fn what_is_appended_is_stacked() {
    let forward = |n: usize| (0..n).collect::<Vec<usize>>();
    let flat = |t: Tensor| {
        let (n, a, b) = (t.shape()[0], t.shape()[1], t.shape()[2]);
        t.reshaped(&[n * a, b])
    };
    let of = |after| Model { start: empty(), body: append(), after };
    check(&of(join(0, 0)), false, &|x, n| flat(stack(x, &forward(n))));
    check(&of(join(1, 0)), false, &|x, n| beside(x, &forward(n)));
    check(&of(join(-1, 0)), false, &|x, n| beside(x, &forward(n)));
    check(&of(join(0, 1)), false, &|x, n| stack(x, &forward(n)));
    check(&of(join(1, 1)), false, &|x, n| {
        beside(x, &forward(n)).reshaped(&[x.shape()[0], n, x.shape()[1]])
    });
    let at = |place: &str| vec![node("SequenceAt", &["out", place], &["y"], vec![])];
    check(&of(at("last")), false, &|x, n| stack(x, &[n - 1]).reshaped(x.shape()));
    check(&of(at("zero")), false, &|x, _| x.clone());
    let length = vec![node("SequenceLength", &["out"], &["y"], vec![])];
    check(&of(length), false, &|_, n| Tensor::scalar(n as i64));
}

#[test]
fn what_goes_to_the_front_is_turned_around() {
    let of = Model { start: empty(), body: prepend(), after: join(0, 1) };
    check(&of, false, &|x, n| stack(x, &(0..n).rev().collect::<Vec<_>>()));
    let start = vec![node("SequenceConstruct", &["x", "x"], &["s0"], vec![])];
    let of = Model { start, body: prepend(), after: join(0, 1) };
    check(&of, false, &|x, n| stack(x, &(0..n).rev().chain([0, 0]).collect::<Vec<_>>()));
}

#[test]
fn lists_may_begin_with_elements_and_grow_by_several() {
    let start = vec![node("SequenceConstruct", &["x"], &["s0"], vec![])];
    let of = Model { start, body: append(), after: join(0, 1) };
    check(&of, false, &|x, n| stack(x, &std::iter::once(0).chain(0..n).collect::<Vec<_>>()));
    let twice = vec![
        node("SequenceInsert", &["s", "e"], &["s1"], vec![]),
        node("SequenceLength", &["s1"], &["end"], vec![]),
        node("SequenceInsert", &["s1", "x", "end"], &["s_out"], vec![]),
    ];
    let of = Model { start: empty(), body: twice, after: join(0, 1) };
    check(&of, false, &|x, n| stack(x, &(0..n).flat_map(|i| [i, 0]).collect::<Vec<_>>()));
    // The list of another loop's elements goes on.
    let body = graph(
        vec![value("i", 7, &[]), value("go", 9, &[]), sequence("s")],
        vec![value("go_out", 9, &[]), sequence("s_out")],
        vec![
            node("Identity", &["go"], &["go_out"], vec![]),
            node("SequenceInsert", &["s", "x"], &["s_out"], vec![]),
        ],
    );
    let again = node("Loop", &["n", "", "out"], &["more"], vec![graph_attr("body", body)]);
    let joined = node("ConcatFromSequence", &["more"], &["y"], vec![int("axis", 0), int("new_axis", 1)]);
    let of = Model { start: empty(), body: append(), after: vec![again, joined] };
    check(&of, false, &|x, n| stack(x, &(0..n).chain(std::iter::repeat_n(0, n)).collect::<Vec<_>>()));
}

/// `s.append(len(s))`: what is inserted is read off the sequence, wherever it goes.
#[test]
fn the_length_of_a_list_may_be_its_element() {
    for place in [&["s", "len"][..], &["s", "len", "zero"], &["s", "len", "len"]] {
        let body = graph(
            vec![value("i", 7, &[]), value("go", 9, &[]), sequence_of("s", 7)],
            vec![value("go_out", 9, &[]), sequence_of("s_out", 7)],
            vec![
                node("Identity", &["go"], &["go_out"], vec![]),
                node("SequenceLength", &["s"], &["len"], vec![]),
                node("SequenceInsert", place, &["s_out"], vec![]),
            ],
        );
        let nodes = vec![
            node("SequenceEmpty", &[], &["s0"], vec![int("dtype", 7)]),
            node("Loop", &["n", "", "s0"], &["out"], vec![graph_attr("body", body)]),
            node("ConcatFromSequence", &["out"], &["y"], vec![int("axis", 0), int("new_axis", 1)]),
        ];
        let mut g = graph(vec![value("n", 7, &[])], vec![value("y", 7, &[])], nodes);
        g.output[0].type_ = None.into();
        g.initializer = vec![ints("zero", &[], &[0])];
        let bytes = model(g).write_to_bytes().expect("a model");
        let imported =
            import_bytes(&bytes, None, &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let front = place.last() == Some(&"zero");
        let want: Vec<i64> = if front { vec![3, 2, 1, 0] } else { vec![0, 1, 2, 3] };
        let want = vec![Value::from(Tensor::new(&[4], want))];
        let inputs = [Tensor::scalar(4i64).into()];
        assert_eq!(interp::run(&imported, &inputs).expect("a run"), want, "{place:?}");
        let engine = Executable::new(imported, Engine::Jit, &Options::default(), &BTreeMap::new());
        assert_eq!(engine.and_then(|e| e.run(&inputs)).expect("a run"), want, "{place:?}");
    }
}

#[test]
fn a_body_reads_the_elements_of_a_list_outside() {
    let start = vec![
        node("SequenceEmpty", &[], &["s0"], vec![]),
        node("SequenceConstruct", &["x", "x"], &["pair"], vec![]),
    ];
    let body = vec![
        node("SequenceAt", &["pair", "last"], &["one"], vec![]),
        node("Add", &["one", "k"], &["f"], vec![]),
        node("SequenceInsert", &["s", "f"], &["s_out"], vec![]),
    ];
    let of = Model { start, body, after: join(0, 1) };
    check(&of, false, &|x, n| stack(x, &(0..n).collect::<Vec<_>>()));
}

/// Rows of their own number in each round: these stay values of a sequence.
#[test]
fn elements_of_their_own_sizes_stay_a_sequence() {
    let rows = |from: &str| {
        vec![
            node("Unsqueeze", &["i", "axis"], &["r"], vec![]),
            node("Slice", &["e", from, "far", "axis"], &["f"], vec![]),
            node("SequenceInsert", &["s", "f"], &["s_out"], vec![]),
        ]
    };
    let start = vec![
        node("SequenceEmpty", &[], &["s0"], vec![]),
        node(
            "Constant",
            &[],
            &["far"],
            vec![{
                let mut a = int("value_ints", 0);
                a.type_ = onnx_protobuf::attribute_proto::AttributeType::INTS.into();
                a.ints = vec![i64::MAX];
                a
            }],
        ),
    ];
    let of = Model { start, body: rows("r"), after: join(0, 0) };
    check(&of, true, &|x, n| {
        let (a, b) = (x.shape()[0], x.shape()[1]);
        let data: Vec<f32> = (0..n).flat_map(|k| plus(x, k)[(k.min(a) * b)..].to_vec()).collect();
        Tensor::new(&[data.len() / b, b], data)
    });
    // What a branch appends.
    let branch = |op: NodeProto| graph(vec![], vec![sequence("b")], vec![op]);
    let body = vec![
        node("Greater", &["k", "half"], &["is"], vec![]),
        node(
            "If",
            &["is"],
            &["s_out"],
            vec![
                graph_attr("then_branch", branch(node("SequenceInsert", &["s", "e"], &["b"], vec![]))),
                graph_attr("else_branch", branch(node("Identity", &["s"], &["b"], vec![]))),
            ],
        ),
    ];
    let start = vec![
        node("SequenceEmpty", &[], &["s0"], vec![]),
        node("Constant", &[], &["half"], vec![float("value_float", -0.5)]),
    ];
    let of = Model { start, body, after: join(0, 1) };
    check(&of, true, &|x, n| stack(x, &(0..n).collect::<Vec<_>>()));
}

/// Rounds that are written out, as there are few.
#[test]
fn loops_that_are_written_out_keep_no_list() {
    let of = Model { start: empty(), body: append(), after: join(1, 0) };
    let graph = of.graph("three", &[]);
    assert!(!keeps_sequences(&graph) && graph.node_ids().iter().all(|&n| graph.node(n).regions.is_empty()));
    let (x, given) = inputs(2, 3, 0);
    assert_eq!(interp::run(&graph, &given).expect("a run"), [Value::from(beside(&x, &[0, 1, 2]))]);
}

/// As many rounds as x has rows: an artifact has the stack.
#[test]
fn artifacts_stack_as_often_as_a_dim_says() {
    for body in [append(), prepend()] {
        let turned = body[0].input.len() == 3;
        let mut start = empty();
        start.push(node("Shape", &["x"], &["dims"], vec![int("end", 1)]));
        start.push(node("Squeeze", &["dims"], &["rows"], vec![]));
        let graph = Model { start, body, after: join(0, 1) }.graph("rows", &[]);
        let options = Options { threads: 1, ..Options::default() };
        for engine in [Engine::Jit, Engine::JitSymbolic, Engine::Aot] {
            let made = Executable::new(graph.clone(), engine, &options, &BTreeMap::new());
            let made = made.unwrap_or_else(|e| panic!("{} {e}\n{graph}", engine.name()));
            assert!(matches!(made, Executable::Native(_)), "{graph}");
            for (a, b) in [(1, 1), (4, 3), (2, 5), (7, 2)] {
                let (x, inputs) = inputs(a, b, 0);
                let order: Vec<usize> = if turned { (0..a).rev().collect() } else { (0..a).collect() };
                assert_eq!(made.run(&inputs).expect("a run"), [Value::from(stack(&x, &order))], "{graph}");
            }
        }
    }
}
