//! Models that are right for some sizes only: whatever is read of what stands behind a slice or a squeeze, its shape or rank alone too, every engine
//! refuses the other sizes.
#![cfg(unix)]

use egret::ir::{DType, Dim, Graph, Tensor, Value, interp, text, verify};
use egret::{Native, Options, export};
use egret_onnx::{ImportOptions, import_bytes, import_in_memory};
use egret_runtime::abi::Code;
use egret_workspace::free::{compiled, gives};
use onnx_protobuf::{ModelProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;
use build::*;

/// Nodes that make `h` of x, f32[N, 3], and y, f32[M], and the shape that it has in ONNX where the model has a result.
struct Held {
    nodes: fn() -> Vec<NodeProto>,
    shape: fn(i64, i64) -> Option<Vec<i64>>,
}

fn slice(start: &str, end: &str) -> Vec<NodeProto> {
    vec![node("Slice", &["x", start, end, "zero"], &["h"], vec![])]
}

/// x without its first axis where that has one element, asked for by these nodes behind the comparison.
fn squeezed(branches: [(&str, &[&str]); 2], more: Vec<NodeProto>) -> Vec<NodeProto> {
    let branch = |(op, inputs): (&str, &[&str])| {
        graph(vec![], vec![value("r", 1, &[])], vec![node(op, inputs, &["r"], vec![])])
    };
    let [then, other] = branches.map(branch);
    let mut nodes = vec![
        node("Shape", &["x"], &["sx"], vec![int("start", 0), int("end", 1)]),
        node("Equal", &["sx", "one"], &["is"], vec![]),
    ];
    nodes.extend(more);
    let cond = nodes.last().map_or(String::new(), |n| n.output[0].clone());
    let attributes = vec![graph_attr("then_branch", then), graph_attr("else_branch", other)];
    nodes.push(node("If", &[&cond], &["h"], attributes));
    nodes
}

const SQUEEZE: (&str, &[&str]) = ("Squeeze", &["x", "zero"]);
const KEEP: (&str, &[&str]) = ("Identity", &["x"]);

fn held() -> Vec<Held> {
    let one: fn(i64, i64) -> Option<Vec<i64>> = |n, _| (n == 1).then(|| vec![3]);
    vec![
        Held { nodes: || slice("less", "far"), shape: |n, _| (n > 0).then(|| vec![1, 3]) },
        Held { nodes: || slice("one", "less"), shape: |n, _| (n > 1).then(|| vec![n - 2, 3]) },
        Held { nodes: || squeezed([SQUEEZE, KEEP], vec![]), shape: one },
        Held {
            nodes: || squeezed([KEEP, SQUEEZE], vec![node("Not", &["is"], &["not"], vec![])]),
            shape: one,
        },
        Held {
            nodes: || {
                let inputs = &["table", "zero", "sy", "zero"];
                vec![node("Shape", &["y"], &["sy"], vec![]), node("Slice", inputs, &["h"], vec![])]
            },
            shape: |_, m| (m <= 2).then(|| vec![m, 3]),
        },
        Held {
            nodes: || vec![node("Split", &["x", "parts"], &["h", "rest"], vec![int("axis", 0)])],
            shape: |n, _| (n == 3).then(|| vec![2, 3]),
        },
        // 0 keeps the dim of what is reshaped: [3, 0] to [0, -1] is [3, 0].
        Held {
            nodes: || {
                vec![
                    node("Transpose", &["x"], &["turned"], vec![]),
                    node("Shape", &["x"], &["sx"], vec![int("start", 0), int("end", 1)]),
                    node("Concat", &["sx", "less"], &["to"], vec![int("axis", 0)]),
                    node("Reshape", &["turned", "to"], &["h"], vec![]),
                ]
            },
            shape: |n, _| (n > 0).then(|| vec![n, 3]),
        },
        // [0, 3, 0] to [0, 0, 3] is [0, 3, 3], and [2, 3, 0] to [2, 0, 3] has no result in ONNX.
        Held {
            nodes: || {
                vec![
                    node("Unsqueeze", &["x", "less"], &["column"], vec![]),
                    node("Mul", &["column", "y"], &["cube"], vec![]),
                    node("Shape", &["x"], &["sx"], vec![int("start", 0), int("end", 1)]),
                    node("Shape", &["y"], &["sy"], vec![]),
                    node("Concat", &["sx", "sy", "three"], &["to"], vec![int("axis", 0)]),
                    node("Reshape", &["cube", "to"], &["h"], vec![]),
                ]
            },
            shape: |n, m| (n + m > 0).then(|| vec![n, m, 3]),
        },
        // From element 1 - M on, which is taken to count from the front, as it does for M of 0 and 1.
        Held {
            nodes: || {
                vec![
                    node("Shape", &["y"], &["sy"], vec![]),
                    node("Sub", &["one", "sy"], &["back"], vec![]),
                    node("Slice", &["x", "back", "far", "zero", "one"], &["part"], vec![]),
                    node("Slice", &["part", "zero", "one", "zero"], &["h"], vec![]),
                ]
            },
            shape: |n, m| (m <= 1 && n + m >= 1).then(|| vec![(n + m - 1).min(1), 3]),
        },
    ]
}

/// Nodes that make `z` of `h` of this rank, and what z is where h has a shape.
type Reader = (fn(usize) -> Vec<NodeProto>, fn(&[i64]) -> (Vec<usize>, Vec<i64>));

fn readers() -> Vec<Reader> {
    vec![
        (|_| vec![node("Shape", &["h"], &["z"], vec![])], |s| (vec![s.len()], s.to_vec())),
        (|_| vec![node("Size", &["h"], &["z"], vec![])], |s| (vec![], vec![s.iter().product()])),
        (
            |_| vec![node("Shape", &["h"], &["s"], vec![]), node("Gather", &["s", "last"], &["z"], vec![])],
            |s| (vec![], s.last().copied().into_iter().collect()),
        ),
        (
            |_| {
                let zeros = node("ConstantOfShape", &["s"], &["c"], vec![]);
                let to = node("Cast", &["c"], &["z"], vec![int("to", 7)]);
                vec![node("Shape", &["h"], &["s"], vec![]), zeros, to]
            },
            |s| (s.iter().map(|&d| d as usize).collect(), vec![0; s.iter().product::<i64>() as usize]),
        ),
        // The rank.
        (
            |_| vec![node("Shape", &["h"], &["s"], vec![]), node("Size", &["s"], &["z"], vec![])],
            |s| (vec![], vec![s.len() as i64]),
        ),
    ]
}

fn imported(nodes: Vec<NodeProto>, output: &str, elem: i32) -> Graph {
    let graph = import_in_memory(&model_of(nodes, output, elem), &ImportOptions::default())
        .unwrap_or_else(|e| panic!("{e}"));
    verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
    graph
}

fn model_of(nodes: Vec<NodeProto>, output: &str, elem: i32) -> ModelProto {
    let inputs = vec![value("x", 1, &["N", "3"]), value("y", 1, &["M"]), value("trips", 7, &[])];
    let mut g = graph(inputs, vec![value(output, elem, &[])], nodes);
    g.output[0].type_ = None.into();
    let vectors: [(&str, &[i64]); 6] = [
        ("zero", &[0]),
        ("one", &[1]),
        ("three", &[3]),
        ("less", &[-1]),
        ("far", &[i64::MAX]),
        ("parts", &[2, 1]),
    ];
    g.initializer = vectors.iter().map(|(name, v)| ints(name, &[v.len() as i64], v)).collect();
    g.initializer.push(ints("last", &[], &[-1]));
    g.initializer.push(floats("table", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    g.initializer.push(floats("nothing", &[], &[0.0]));
    model(g)
}

fn inputs(n: i64, m: i64, trips: i64) -> Vec<Value> {
    let zeros = |shape: &[i64]| {
        let shape: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
        Tensor::from_f64s(DType::F32, &shape, vec![0.0; shape.iter().product()]).into()
    };
    vec![zeros(&[n, 3]), zeros(&[m]), Tensor::scalar(trips).into()]
}

fn sizes() -> impl Iterator<Item = (i64, i64)> {
    (0..5).flat_map(|n| (0..4).map(move |m| (n, m)))
}

#[test]
fn what_reads_shapes_only_is_refused_too() {
    let (mut right, mut refused) = (0, 0);
    for held in held() {
        for (nodes, wanted) in readers() {
            let rank = sizes().find_map(|(n, m)| (held.shape)(n, m)).expect("a size").len();
            let graph = imported([(held.nodes)(), nodes(rank)].concat(), "z", 7);
            let engines = compiled(&graph);
            for (n, m) in sizes() {
                let (inputs, what) = (inputs(n, m, 0), format!("{n}, {m} of\n{graph}"));
                let told = interp::run(&graph, &inputs);
                let Some(shape) = (held.shape)(n, m) else {
                    assert!(told.is_err(), "{what}");
                    for engine in &engines {
                        let code = Code::split(engine.plan_code(&inputs));
                        assert!(matches!(code, Some((Code::Sizes, 1.., _))), "{code:?}: {what}");
                    }
                    refused += 1;
                    continue;
                };
                let (dims, numbers) = wanted(&shape);
                let want = Value::from(Tensor::new(&dims, numbers));
                assert_eq!(
                    told.unwrap_or_else(|e| panic!("{e}: {what}")),
                    std::slice::from_ref(&want),
                    "{what}"
                );
                engines.iter().for_each(|e| gives(e, &inputs, std::slice::from_ref(&want), &what));
                right += 1;
            }
        }
    }
    assert!(right > 100 && refused > 100, "{right} right, {refused} refused");
}

/// A library says which dim is wrong; an import for one size is decided there.
#[test]
fn what_is_refused_is_said() {
    let nodes = || [slice("less", "far"), readers()[0].0(2)].concat();
    let graph = imported(nodes(), "z", 7);
    let all = [
        Native::aot(graph.clone(), &Options::default(), &BTreeMap::new()).expect("a library"),
        Native::jit(graph.clone(), &Options::default(), &BTreeMap::new()).expect("compiles"),
    ];
    for native in all {
        let refused = native.run(&inputs(0, 1, 0)).expect_err("no row").to_string();
        assert!(refused.contains("`N` (0) to be at least 1"), "{refused}");
        assert!(native.run(&inputs(1, 1, 0)).is_ok());
    }
    let refused = interp::run(&graph, &inputs(0, 1, 0)).expect_err("no row").to_string();
    assert!(refused.contains("`N - 1` to be at least 0"), "{refused}");
    for (n, shape) in [(0, [0i64, 3]), (2, [1, 3])] {
        let dims = [("N".to_owned(), n)].into();
        let options = ImportOptions { dims, ..ImportOptions::default() };
        let graph = import_in_memory(&model_of(nodes(), "z", 7), &options).expect("imports");
        assert!(graph.conditions().is_empty());
        let out = interp::run(&graph, &inputs(n, 1, 0)).expect("runs");
        assert_eq!(out[0].as_tensor().expect("a tensor").data::<i64>(), shape);
    }
}

/// Text, every pass, and an ONNX file keep them.
#[test]
fn conditions_stay() {
    let mut some = 0;
    for held in held() {
        for (nodes, _) in readers() {
            let graph = imported([(held.nodes)(), nodes(2)].concat(), "z", 7);
            let conditions = graph.conditions().to_vec();
            some += conditions.len();
            let printed = text::print(&graph);
            let again = text::parse(&printed, &|_| None).unwrap_or_else(|e| panic!("{e}\n{printed}"));
            assert_eq!(text::print(&again), printed);
            assert_eq!(again.conditions(), conditions);
            for passes in [None, Some(vec!["fold".to_owned(), "cleanup".to_owned()])] {
                let options = Options { passes, ..Options::default() };
                let after = egret::pipeline::lower(graph.clone(), &options, &BTreeMap::new());
                assert_eq!(after.unwrap_or_else(|e| panic!("{e}\n{graph}")).graph.conditions(), conditions);
            }
            let portable = export::optimized(graph.clone(), &Options::default(), None).expect("optimises");
            assert_eq!(portable.conditions(), conditions);
            let file = egret_export::export(&portable, &egret_export::Options::default())
                .unwrap_or_else(|e| panic!("{e}\n{portable}"));
            let again = import_bytes(&file.model, None, &ImportOptions::default())
                .unwrap_or_else(|e| panic!("{e}\n{portable}"));
            let sorted = |all: &[Dim]| all.iter().map(Dim::to_string).collect::<BTreeSet<_>>();
            assert_eq!(sorted(again.conditions()), sorted(&conditions), "{portable}\n{again}");
            for (n, m) in sizes() {
                let (one, other) =
                    (interp::run(&graph, &inputs(n, m, 0)), interp::run(&again, &inputs(n, m, 0)));
                assert_eq!(one.ok(), other.ok(), "{n}, {m} of {graph}\n{again}");
            }
        }
    }
    assert!(some > 20, "{some} conditions");
}

/// A body that runs is held to sizes as what is around it, and one that does not run refuses none.
#[test]
fn bodies_hold_sizes_where_they_run() {
    for (nodes, count) in [(slice("less", "far"), 3.0), (squeezed([SQUEEZE, KEEP], vec![]), 3.0)] {
        let mut inside = vec![node("Identity", &["go"], &["on"], vec![])];
        inside.extend(nodes.clone());
        inside.push(node("Size", &["h"], &["k"], vec![]));
        inside.push(node("Cast", &["k"], &["f"], vec![int("to", 1)]));
        inside.push(node("Add", &["sum", "f"], &["next"], vec![]));
        let ports = vec![value("i", 7, &[]), value("go", 9, &[]), value("sum", 1, &[])];
        let body = graph(ports, vec![value("on", 9, &[]), value("next", 1, &[])], inside);
        let repeat = node("Loop", &["trips", "", "nothing"], &["z"], vec![graph_attr("body", body)]);
        let graph = imported(vec![repeat], "z", 1);
        assert!(graph.conditions().is_empty(), "{graph}");
        let engine = compiled(&graph);
        let is_squeeze = nodes.len() > 1;
        for (n, trips) in (0..4).flat_map(|n| [0, 1, 3].map(|trips| (n, trips))) {
            let (inputs, what) = (inputs(n, 1, trips), format!("{n}, {trips} of\n{graph}"));
            let told = interp::run(&graph, &inputs);
            if trips > 0 && (n == 0 || is_squeeze && n != 1) {
                assert!(told.is_err(), "{what}");
                for engine in &engine {
                    assert_ne!(
                        engine.run_both(&inputs).unwrap_or_else(|e| panic!("{e}: {what}")).0,
                        0,
                        "{what}"
                    );
                }
                continue;
            }
            let want = Value::from(Tensor::scalar(count as f32 * trips as f32));
            assert_eq!(
                told.unwrap_or_else(|e| panic!("{e}: {what}")),
                std::slice::from_ref(&want),
                "{what}"
            );
            engine.iter().for_each(|e| gives(e, &inputs, std::slice::from_ref(&want), &what));
        }
    }
}

/// x, f32[N, M], without elements along one axis: what is read along the other one is there, or the run fails.
#[test]
fn nothing_along_one_axis_lets_no_other_go() {
    let row = || node("Slice", &["x", "less", "far", "one"], &["h"], vec![]);
    let squeezed = || {
        let branch = |op: &str, inputs: &[&str]| {
            graph(vec![], vec![value("r", 1, &[])], vec![node(op, inputs, &["r"], vec![])])
        };
        let branches = vec![
            graph_attr("then_branch", branch("Squeeze", &["x", "one"])),
            graph_attr("else_branch", branch("Identity", &["x"])),
        ];
        vec![
            node("Shape", &["x"], &["sx"], vec![int("start", 1), int("end", 2)]),
            node("Equal", &["sx", "one"], &["is"], vec![]),
            node("If", &["is"], &["k"], branches),
            node("ReduceSum", &["k", "zero"], &["h"], vec![int("keepdims", 0)]),
        ]
    };
    let shape = || node("Shape", &["h"], &["r"], vec![]);
    let negated = || node("Neg", &["h"], &["r"], vec![]);
    let summed = || node("ReduceSum", &["h"], &["r"], vec![int("keepdims", 0)]);
    type Wanted = fn(i64, i64) -> Option<Vec<usize>>;
    let zeros =
        || vec![node("Shape", &["h"], &["s"], vec![]), node("ConstantOfShape", &["s"], &["r"], vec![])];
    let cases: [(Vec<NodeProto>, i32, Wanted); 5] = [
        (vec![row(), negated()], 1, |n, m| (m > 0).then(|| vec![n as usize, 1])),
        (vec![row(), summed()], 1, |_, m| (m > 0).then(Vec::new)),
        (vec![row(), shape()], 7, |_, m| (m > 0).then(|| vec![2])),
        ([vec![row()], zeros()].concat(), 1, |n, m| (m > 0).then(|| vec![n as usize, 1])),
        ([squeezed(), vec![negated()]].concat(), 1, |_, m| (m == 1).then(Vec::new)),
    ];
    let mut refused = 0;
    for (nodes, elem, wanted) in cases {
        let other = match (elem, wanted(1, 1).expect("a shape").len()) {
            (7, _) => "numbers",
            (_, 0) => "number",
            _ => "some",
        };
        let other = node("Identity", &[other], &["r"], vec![]);
        let branch = |nodes| graph(vec![], vec![value("r", elem, &[])], nodes);
        let branches =
            vec![graph_attr("then_branch", branch(nodes)), graph_attr("else_branch", branch(vec![other]))];
        let mut g = graph(
            vec![value("x", 1, &["N", "M"]), value("go", 9, &[])],
            vec![value("z", elem, &[])],
            vec![node("If", &["go"], &["z"], branches)],
        );
        g.output[0].type_ = None.into();
        g.initializer = [("zero", 0), ("one", 1), ("less", -1), ("far", i64::MAX), ("numbers", 7)]
            .map(|(name, v)| ints(name, &[1], &[v]))
            .into();
        g.initializer.extend([floats("some", &[1, 1], &[0.0]), floats("number", &[], &[0.0])]);
        let graph = import_in_memory(&model(g), &ImportOptions::default()).expect("imports");
        verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
        let portable = export::optimized(graph.clone(), &Options::default(), None).expect("optimises");
        let file = egret_export::export(&portable, &egret_export::Options::default())
            .unwrap_or_else(|e| panic!("{e}\n{portable}"));
        let again = import_bytes(&file.model, None, &ImportOptions::default())
            .unwrap_or_else(|e| panic!("{e}\n{portable}"));
        let engines = compiled(&graph);
        for (n, m) in (0..3).flat_map(|n| (0..3).map(move |m| (n, m))) {
            let what = format!("{n}, {m} of\n{graph}");
            let x = Tensor::new(&[n as usize, m as usize], vec![1f32; (n * m) as usize]);
            let inputs = [x.into(), Tensor::from_bytes(DType::Bool, &[], &[1]).into()];
            let told = interp::run(&graph, &inputs);
            let back = interp::run(&again, &inputs);
            let dims = [("N".to_owned(), n), ("M".to_owned(), m)].into();
            let options = ImportOptions { dims, ..ImportOptions::default() };
            let known = import_bytes(&file.model, None, &options).map_err(|e| e.to_string());
            let known = known.and_then(|g| interp::run(&g, &inputs).map_err(|e| e.to_string()));
            assert_eq!(known.ok(), back.as_ref().ok().cloned(), "{what}\n{again}");
            let Some(dims) = wanted(n, m) else {
                assert!(told.is_err() && back.is_err(), "{what}\n{again}");
                for engine in &engines {
                    assert_ne!(
                        engine.run_both(&inputs).unwrap_or_else(|e| panic!("{e}: {what}")).0,
                        0,
                        "{what}"
                    );
                }
                refused += 1;
                continue;
            };
            let told = told.unwrap_or_else(|e| panic!("{e}: {what}"));
            assert_eq!(told[0].as_tensor().expect("a tensor").shape(), dims, "{what}");
            assert_eq!(back.unwrap_or_else(|e| panic!("{e}: {what}\n{again}")), told, "{what}");
            engines.iter().for_each(|e| gives(e, &inputs, &told, &what));
        }
    }
    assert!(refused > 10, "{refused}");
}

/// For which sizes a value would be right that no output needs does not matter.
#[test]
fn what_no_output_needs_refuses_nothing() {
    let nodes = [slice("less", "far"), vec![node("Neg", &["x"], &["z"], vec![])]].concat();
    let graph = imported(nodes, "z", 1);
    assert!(graph.conditions().is_empty(), "{graph}");
    assert!(interp::run(&graph, &inputs(0, 1, 0)).is_ok());
}
