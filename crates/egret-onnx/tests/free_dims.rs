//! A model imported with its dims free is one that is imported for each of their values: it gives the same, or has no value for them.

mod build;

use build::*;
use egret_ir::{Dim, Graph, Op, Tensor, Value, interp, verify};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, ModelProto, NodeProto, TensorProto};

/// Dims of x and y, of `n` and `m`; nodes that make z; and for which of them the free model has no value, though that with dims has one.
struct Case {
    dims: [&'static [&'static str]; 2],
    nodes: Vec<NodeProto>,
    without: fn(i64, i64) -> bool,
}

fn whole(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, 7, dims, &bytes)
}

impl Case {
    fn model(&self) -> ModelProto {
        let inputs = vec![value("x", 1, self.dims[0]), value("y", 1, self.dims[1])];
        let last = self.nodes.last().map_or("z", |n| &n.output[0]);
        let mut g = graph(inputs, vec![value(last, 1, &[])], self.nodes.clone());
        let numbers = [("zero", 0), ("one", 1), ("three", 3), ("less", -2), ("far", i64::MAX)];
        g.initializer = numbers.iter().map(|&(name, v)| whole(name, &[1], &[v])).collect();
        g.initializer
            .extend([("c0", 0), ("c1", 1), ("c3", 3), ("cless", -2)].map(|(n, v)| whole(n, &[], &[v])));
        // Its type is for the importer to tell.
        g.output[0].type_ = None.into();
        model(g)
    }
}

fn cases() -> Vec<Case> {
    let of_y = || node("Shape", &["y"], &["s"], vec![int("end", 1)]);
    let back = || node("Neg", &["s"], &["b"], vec![]);
    let number = || node("Squeeze", &["s", "zero"], &["k"], vec![]);
    let slice = |from: &str, to: &str| node("Slice", &["x", from, to, "zero"], &["z"], vec![]);
    let range = |from: &str, to: &str, by: &str| node("Range", &[from, to, by], &["z"], vec![]);
    let reshape = |shape: &[i64]| {
        let shape = tensor_attr("value", whole("shape", &[shape.len() as i64], shape));
        [node("Constant", &[], &["shape"], vec![shape]), node("Reshape", &["z", "shape"], &["r"], vec![])]
    };
    let added = || vec![node("Add", &["z", "y"], &["a"], vec![]), node("Identity", &["a"], &["w"], vec![])];
    let never: fn(i64, i64) -> bool = |_, _| false;
    let line: [&[&str]; 2] = [&["n", "2"], &["m"]];
    vec![
        // What is 1 or 2.
        Case {
            dims: [&["2", "n"], &["m", "n"]],
            nodes: vec![node("Shape", &["y"], &["s"], vec![]), node("Expand", &["x", "s"], &["z"], vec![])],
            without: never,
        },
        Case { dims: line, nodes: vec![of_y(), back(), slice("b", "far")], without: never },
        Case { dims: line, nodes: vec![of_y(), back(), slice("zero", "b")], without: never },
        Case { dims: line, nodes: vec![of_y(), back(), slice("less", "b")], without: never },
        Case { dims: line, nodes: vec![of_y(), slice("zero", "s")], without: never },
        Case { dims: line, nodes: vec![of_y(), slice("one", "s")], without: never },
        Case { dims: line, nodes: vec![of_y(), slice("s", "far")], without: never },
        Case { dims: line, nodes: vec![slice("less", "far")], without: never },
        Case { dims: line, nodes: vec![slice("three", "less")], without: never },
        // What the bounds 1 and -1 alone cut is taken to be there.
        Case { dims: line, nodes: vec![slice("one", "far")], without: |n, _| n == 0 },
        // What is added to m elements has m, though one alone or none beside one would broadcast.
        Case {
            dims: [&["n"], &["m"]],
            nodes: [vec![of_y(), slice("zero", "s")], added()].concat(),
            without: |n, m| m > n,
        },
        Case {
            dims: [&["n"], &["m"]],
            nodes: [vec![of_y(), back(), slice("b", "far")], added()].concat(),
            without: |n, m| m > n || m == 0,
        },
        Case {
            dims: [&["n"], &["2"]],
            nodes: [vec![slice("less", "far")], added()].concat(),
            without: |n, _| n < 2,
        },
        Case { dims: line, nodes: vec![of_y(), number(), range("c3", "k", "c1")], without: never },
        Case { dims: line, nodes: vec![of_y(), number(), range("k", "c0", "cless")], without: never },
        Case {
            dims: line,
            nodes: vec![
                of_y(),
                number(),
                node("Sub", &["k", "c3"], &["l"], vec![]),
                range("c0", "l", "c1"),
            ],
            without: never,
        },
        // What is reshaped keeps the number of its elements, and none of its dims.
        Case {
            dims: line,
            nodes: [&[slice("less", "far")][..], &reshape(&[2, 1])].concat(),
            without: never,
        },
        Case {
            dims: line,
            nodes: [&[slice("less", "far")][..], &reshape(&[2, -1])].concat(),
            without: never,
        },
        Case {
            dims: line,
            nodes: vec![
                of_y(),
                slice("zero", "s"),
                node("Add", &["s", "s"], &["t"], vec![]),
                node("Reshape", &["z", "t"], &["r"], vec![]),
            ],
            without: never,
        },
        // An axis that is left out where it has one element, however that is asked: the rank behind it is that without.
        Case {
            dims: [&["2", "m"], &["n"]],
            nodes: squeezed(&[], ["squeeze", "keep"]),
            without: |_, m| m != 1,
        },
        Case {
            dims: [&["2", "m"], &["n"]],
            nodes: squeezed(&[node("Not", &["is"], &["not"], vec![])], ["keep", "squeeze"]),
            without: |_, m| m != 1,
        },
    ]
}

/// Windows over images of n by m elements, and by filters of them.
fn windows() -> Vec<Case> {
    let list = |name: &str, v: &[i64]| AttributeProto {
        ints: v.to_vec(),
        type_: AttributeType::INTS.into(),
        ..int(name, 0)
    };
    let same = |auto: &str| vec![string("auto_pad", auto)];
    let pool = |op: &str, kernel: [i64; 2], strides: [i64; 2], more: Vec<AttributeProto>| {
        let attrs = [vec![list("kernel_shape", &kernel), list("strides", &strides)], more].concat();
        Case {
            dims: [&["1", "2", "n", "m"], &["n", "m"]],
            nodes: vec![node(op, &["x"], &["z"], attrs)],
            without: |_, _| false,
        }
    };
    let of_filter = |op: &str, filter: &'static [&'static str], attrs: Vec<AttributeProto>| Case {
        dims: [&["1", "2", "n", "m"], filter],
        nodes: vec![node(op, &["x", "y"], &["z"], attrs)],
        without: |_, _| false,
    };
    let up = || vec![int("ceil_mode", 1)];
    let counted = || vec![int("count_include_pad", 1)];
    let padded = || vec![int("ceil_mode", 1), list("pads", &[1, 0, 1, 1])];
    vec![
        pool("MaxPool", [3, 2], [2, 3], same("SAME_UPPER")),
        pool("MaxPool", [1, 2], [3, 5], same("SAME_LOWER")),
        pool("MaxPool", [1, 2], [3, 5], same("SAME_UPPER")),
        pool("MaxPool", [2, 2], [2, 3], up()),
        pool("AveragePool", [2, 3], [3, 2], [same("SAME_LOWER"), counted()].concat()),
        pool("AveragePool", [3, 2], [2, 3], same("SAME_UPPER")),
        pool("AveragePool", [3, 2], [2, 3], padded()),
        pool("AveragePool", [3, 2], [2, 3], [padded(), counted()].concat()),
        pool("LpPool", [3, 2], [2, 1], [same("SAME_LOWER"), vec![int("p", 1)]].concat()),
        of_filter(
            "Conv",
            &["3", "2", "n", "2"],
            [same("SAME_UPPER"), vec![list("strides", &[2, 1])]].concat(),
        ),
        of_filter(
            "Conv",
            &["3", "2", "n", "1"],
            vec![list("kernel_shape", &[1, 1]), list("pads", &[0, 1, 0, 1])],
        ),
        of_filter("Conv", &["4", "1", "2", "m"], vec![int("group", 2), list("pads", &[1, 1, 0, 2])]),
        of_filter(
            "ConvTranspose",
            &["2", "1", "n", "m"],
            [same("SAME_LOWER"), vec![list("strides", &[2, 2])]].concat(),
        ),
        of_filter(
            "ConvTranspose",
            &["2", "1", "n", "3"],
            [same("SAME_UPPER"), vec![list("strides", &[3, 1])]].concat(),
        ),
        of_filter(
            "ConvTranspose",
            &["2", "1", "2", "3"],
            vec![list("output_shape", &[5, 6]), list("strides", &[2, 1])],
        ),
    ]
}

/// Parts of x, of which one alone is asked for: sizes that an axis has no room for are none of any run's.
fn parts() -> Vec<Case> {
    let of_y = || node("Shape", &["y"], &["s"], vec![int("end", 1)]);
    let split = |sizes: &[&str], outputs: &[&str], more: &[AttributeProto]| {
        node("Split", &[&["x"], sizes].concat(), outputs, [&[int("axis", 0)], more].concat())
    };
    let line: [&[&str]; 2] = [&["n", "2"], &["m"]];
    let four = |first: &'static str, rest: [&'static str; 3]| Case {
        dims: line,
        nodes: vec![split(&[], &[&[first], &rest[..]].concat(), &[int("num_outputs", 4)])],
        without: |_, _| false,
    };
    vec![
        four("z", ["b", "c", "d"]),
        Case {
            nodes: vec![
                of_y(),
                node("Sub", &["s", "three"], &["left"], vec![]),
                node("Shape", &["x"], &["all"], vec![int("end", 1)]),
                node("Sub", &["all", "left"], &["rest"], vec![]),
                node("Concat", &["rest", "left"], &["sizes"], vec![int("axis", 0)]),
                split(&["sizes"], &["z", "w"], &[]),
            ],
            ..four("z", ["b", "c", "d"])
        },
    ]
}

/// x without its last axis, if that has one element, and else x, by an If on what these nodes make of the condition; with what can be done
/// behind it at the smaller rank.
fn squeezed(more: &[NodeProto], branches: [&str; 2]) -> Vec<NodeProto> {
    let branch = |which: &str| {
        let (op, inputs): (_, &[&str]) = match which {
            "squeeze" => ("Squeeze", &["x", "one"]),
            _ => ("Identity", &["x"]),
        };
        graph(vec![], vec![value("r", 1, &[])], vec![node(op, inputs, &["r"], vec![])])
    };
    let mut nodes = vec![
        node("Shape", &["x"], &["s"], vec![int("start", 1)]),
        node("Equal", &["s", "one"], &["is"], vec![]),
    ];
    nodes.extend_from_slice(more);
    let cond = nodes.last().map_or(String::new(), |n| n.output[0].clone());
    let [then, other] = branches.map(branch);
    let attributes = vec![graph_attr("then_branch", then), graph_attr("else_branch", other)];
    nodes.push(node("If", &[&cond], &["z"], attributes));
    nodes.push(node("Neg", &["z"], &["w"], vec![]));
    nodes
}

fn import(model: &ModelProto, options: &ImportOptions) -> Result<Graph, String> {
    let bytes = model.write_to_bytes().expect("serialises");
    let graph = import_bytes(&bytes, None, options).map_err(|e| e.to_string())?;
    verify(&graph).expect("an imported graph verifies");
    Ok(graph)
}

/// The dims of what is sliced, and of what is made of it.
#[test]
fn slices_are_clamped_where_nothing_asks_for_another_size() {
    let shape = |case: &Case| {
        let free = import(&case.model(), &ImportOptions::default()).expect("imports");
        free.ty(free.outputs()[0]).to_string()
    };
    let all: Vec<String> = cases().iter().skip(1).take(12).map(shape).collect();
    assert_eq!(
        all,
        [
            "f32[n - n*min(1, m) + min(m, n), 2]",
            "f32[n*min(1, m) - min(m, n), 2]",
            "f32[n*min(1, m) - min(m, n) - min(n - min(2, n), n*min(1, m) - min(m, n)), 2]",
            "f32[min(m, n), 2]",
            "f32[min(m, n) - min(min(1, n), min(m, n)), 2]",
            "f32[n - min(m, n), 2]",
            "f32[min(2, n), 2]",
            "f32[n - min(2, n) - min(n - min(2, n), min(3, n)), 2]",
            "f32[n - 1, 2]",
            "f32[m]",
            "f32[m]",
            "f32[2]",
        ]
    );
}

#[test]
fn free_dims_mean_what_their_values_mean() {
    for case in cases().into_iter().chain(windows()).chain(parts()) {
        let model = case.model();
        let free = import(&model, &ImportOptions::default()).expect("imports");
        let (mut right, mut wrong) = (0, 0);
        for (n, m) in (0..6).flat_map(|n| (0..6).map(move |m| (n, m))) {
            let size = |d: &&str| match *d {
                "n" => n,
                "m" => m,
                d => d.parse().expect("a number"),
            };
            let mut options = ImportOptions::default();
            let mut inputs: Vec<Value> = vec![];
            for (name, dims) in ["x", "y"].into_iter().zip(case.dims) {
                let dims: Vec<i64> = dims.iter().map(size).collect();
                let shape: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
                let numbers = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
                inputs.push(Tensor::new::<f32>(&shape, numbers).into());
                options.input_shapes.insert(name.into(), dims.into_iter().map(Dim::constant).collect());
            }
            let what = format!("{n}, {m} of\n{free}");
            let have = interp::run(&free, &inputs);
            let bound = import(&model, &options);
            let want = bound.and_then(|g| interp::run(&g, &inputs).map_err(|e| e.to_string()));
            assert_eq!(have.is_err(), want.is_err() || (case.without)(n, m), "{what}");
            match have {
                Ok(have) => {
                    assert_eq!(have, want.expect("a value"), "{what}");
                    right += 1;
                }
                Err(_) => wrong += 1,
            }
        }
        assert!(right >= 6, "{right} runs and {wrong} errors of\n{free}");
    }
}

/// What holds the dim of a carried value to what it was is the loop's own, by its name.
#[test]
fn a_loop_is_named_that_keeps_a_dim() {
    for (dim, kept) in [("m", true), ("3", true), ("n", false)] {
        let body = graph(
            vec![value("i", 7, &[]), value("c", 9, &[]), value("s", 1, &[])],
            vec![value("c_out", 9, &[]), value("s_out", 1, &[])],
            vec![
                node("Identity", &["c"], &["c_out"], vec![]),
                node("Add", &["s", "y"], &["s_out"], vec![]),
            ],
        );
        let mut g = graph(
            vec![value("t", 7, &[]), value("x", 1, &["n"]), value("y", 1, &[dim])],
            vec![value("z", 1, &["k"])],
            vec![node("Loop", &["t", "", "x"], &["z"], vec![graph_attr("body", body)])],
        );
        g.node[0].name = "the_loop".into();
        g.output[0].type_ = None.into();
        let graph = import(&model(g), &ImportOptions::default()).expect("imports");
        let ids = graph.node_ids();
        let body = ids.iter().find_map(|&n| graph.node(n).regions.first()).expect("a body");
        let named = body
            .node_ids()
            .into_iter()
            .any(|n| body.node(n).op == Op::Broadcast && body.node(n).sources.contains("Loop:the_loop"));
        assert_eq!(named, kept, "{dim}");
    }
}

/// What inputs tell is told in a sub-graph too, whether or not a value of that dim was captured before.
#[test]
fn inputs_tell_dims_in_sub_graphs_whatever_is_captured() {
    let starts = |captures: bool| {
        let branch = |more: &str| {
            let nodes = vec![
                node("ReduceSum", &[more], &["a"], vec![int("keepdims", 0)]),
                node("ConstantOfShape", &["s"], &["t"], vec![]),
                node("Slice", &["t", "less", "far", "zero"], &["u"], vec![]),
                node("ReduceSum", &["u"], &["b"], vec![int("keepdims", 0)]),
                node("Add", &["a", "b"], &["r"], vec![]),
            ];
            graph_attr("else_branch", graph(vec![], vec![value("r", 1, &[])], nodes))
        };
        let other = branch(if captures { "x" } else { "y" });
        let mut then = branch("y");
        then.name = "then_branch".into();
        let nodes =
            vec![node("Shape", &["x"], &["s"], vec![]), node("If", &["c"], &["z"], vec![then, other])];
        let inputs = vec![value("x", 1, &["N", "3"]), value("y", 1, &["2"]), value("c", 9, &[])];
        let mut g = graph(inputs, vec![value("z", 1, &[])], nodes);
        g.initializer =
            vec![whole("zero", &[1], &[0]), whole("less", &[1], &[-1]), whole("far", &[1], &[i64::MAX])];
        let graph = import(&model(g), &ImportOptions::default()).expect("imports");
        let all = graph.node_ids().into_iter().flat_map(|n| graph.node(n).regions.clone());
        let slices = all.flat_map(|region| {
            let of = |n| {
                (region.node(n).op == Op::Slice).then(|| region.node(n).attrs.dims("starts")[0].clone())
            };
            region.node_ids().into_iter().filter_map(of).collect::<Vec<_>>()
        });
        slices.map(|d| d.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(starts(true), ["N - 1", "N - 1"]);
    assert_eq!(starts(false), starts(true));
}

/// Numbers that PyTorch pads by are followed through the matrix that it turns them round in: those of free dims are dims, and only what data
/// gives is a number of a run. In a branch too, whether the matrix is made there or around it.
#[test]
fn pads_by_free_dims_are_dims() {
    // Up to a multiple of 4 at the end of the last axis, and as many as the other axis has before that one.
    let numbers = |first: &str| {
        vec![
            node("Shape", &["x"], &["s"], vec![]),
            node("Neg", &["s"], &["back"], vec![]),
            node("Mod", &["back", "four"], &["most"], vec![]),
            node("Gather", &["most", "one"], &["end"], vec![]),
            node("Gather", &["s", "zero"], &["size"], vec![]),
            node("Concat", &[first, "end", "size"], &["pads"], vec![int("axis", 0)]),
        ]
    };
    let padded = |first| [numbers(first), torch_pad("x", "pads", 3, 2, "constant", "z")].concat();
    // The last of the nodes in both branches of an If.
    let branched = |inside: usize| {
        let mut nodes = padded("zero");
        let of_branch = nodes.split_off(nodes.len() - inside);
        let branch =
            |name: &str| graph_attr(name, graph(vec![], vec![value("z", 1, &[])], of_branch.clone()));
        let branches = vec![branch("then_branch"), branch("else_branch")];
        nodes.push(node("If", &["go"], &["w"], branches));
        nodes
    };
    // Of all graphs how many ranges there are, and the pads.
    fn found(graph: &Graph) -> (usize, Vec<String>) {
        let (mut ranges, mut pads) = (0, vec![]);
        for n in graph.node_ids() {
            let node = graph.node(n);
            ranges += usize::from(node.op == Op::Range);
            if node.op == Op::Pad {
                let sides = ["low", "high"].map(|side| node.attrs.dims(side).to_vec());
                pads.push(sides.concat().iter().map(Dim::to_string).collect::<Vec<_>>().join(", "));
            }
            for region in &node.regions {
                let (more, inside) = found(region);
                ranges += more;
                pads.extend(inside);
            }
        }
        (ranges, pads)
    }
    let told = ["n, 0, 0, mod(3*m, 4)"];
    let cases = [
        (padded("zero"), 0, told.to_vec()),
        (padded("k"), 1, vec!["n, u0, 0, mod(3*m, 4)"]),
        // All of it, what is behind the matrix, and what is behind the vector.
        (branched(13), 0, [told, told].concat()),
        (branched(6), 0, [told, told].concat()),
        (branched(1), 0, [told, told].concat()),
    ];
    for (nodes, ranges, pads) in cases {
        let last = nodes.last().map_or(String::new(), |n| n.output[0].clone());
        let inputs = vec![value("x", 1, &["n", "m"]), value("k", 7, &["1"]), value("go", 9, &[])];
        let mut g = graph(inputs, vec![value(&last, 1, &[])], nodes);
        g.output[0].type_ = None.into();
        g.initializer = [("zero", 0), ("one", 1), ("four", 4)].map(|(n, v)| whole(n, &[1], &[v])).into();
        let options = ImportOptions { computed_dims: true, ..ImportOptions::default() };
        let graph = import(&model(g), &options).expect("imports");
        let (have, made) = found(&graph);
        assert_eq!(made, pads, "{graph}");
        // What is below 0 takes away, which is another one.
        assert!(have == if ranges == 0 { 0 } else { 2 }, "{have} ranges in\n{graph}");
    }
}
