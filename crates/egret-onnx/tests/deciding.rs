//! Branches that are not taken and loops that run in no round, whatever they would do, Ifs whose branches have results of unequal ranks, and inputs
//! whose dims no machine can have.

mod build;

use build::*;
use egret_ir::{Tensor, Value, interp};
use egret_onnx::{ErrorKind, ImportError, ImportOptions, import_bytes};
use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto};

/// A loop that adds the place of the largest of `x`, which has none where `x` is empty. `m` and `go` are inputs where they are no initialisers.
fn largest(given: Vec<TensorProto>) -> ModelProto {
    let body = graph(
        vec![value("i", 7, &[]), value("c", 9, &[]), value("s", 7, &["2"])],
        vec![value("c_out", 9, &[]), value("s_out", 7, &["2"])],
        vec![
            node("Identity", &["c"], &["c_out"], vec![]),
            node("ArgMax", &["x"], &["at"], vec![int("keepdims", 0)]),
            node("Add", &["s", "at"], &["s_out"], vec![]),
        ],
    );
    let inputs = vec![value("m", 7, &[]), value("go", 9, &[])];
    let free = inputs.into_iter().filter(|i| given.iter().all(|t| t.name != i.name));
    let g = graph(
        [value("x", 1, &["n"]), value("s0", 7, &["2"])].into_iter().chain(free).collect(),
        vec![value("y", 7, &["2"])],
        vec![node("Loop", &["m", "go", "s0"], &["y"], vec![graph_attr("body", body)])],
    );
    let mut m = model(g);
    m.graph.as_mut().expect("a graph").initializer = given;
    m
}

fn import(model: &ModelProto, options: &ImportOptions) -> Result<egret_ir::Graph, ImportError> {
    import_bytes(&model.write_to_bytes().expect("serialises"), None, options)
}

fn of_size(n: i64) -> ImportOptions {
    ImportOptions { dims: [("n".to_owned(), n)].into(), ..ImportOptions::default() }
}

#[test]
fn a_loop_of_no_round_asks_nothing_of_its_body() {
    let none = || ints("m", &[], &[0]);
    let stop = || tensor("go", 9, &[], &[0]);
    let s0 = Tensor::new(&[2], vec![3i64, 4]);
    for given in [vec![none()], vec![stop()], vec![none(), stop()], vec![ints("m", &[], &[-1])]] {
        let model = largest(given);
        let graph = import(&model, &of_size(0)).expect("imports");
        let mut inputs = vec![Value::from(Tensor::new(&[0], Vec::<f32>::new())), s0.clone().into()];
        // What is left open is not asked.
        inputs.extend(graph.inputs()[2..].iter().map(|&v| {
            let ty = graph.ty(v).as_tensor().expect("a tensor");
            Value::from(Tensor::from_bytes(ty.dtype, &[], &vec![1; ty.dtype.size()]))
        }));
        let out = interp::run(&graph, &inputs).expect("runs");
        assert_eq!(out[0].as_tensor(), Some(&s0));
    }
}

#[test]
fn a_body_that_does_not_fit_is_refused_where_it_runs() {
    // What decides is asked for, and then decides.
    let e = import(&largest(vec![]), &of_size(0)).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::NeedsValue, "{e}");
    assert_eq!(e.inputs_to_bind.iter().collect::<Vec<_>>(), ["go", "m"]);
    assert!(e.to_string().contains("whether it runs at all"), "{e}");
    let bound = |m: i64, go: bool| {
        let bind = [("m".into(), Tensor::scalar(m)), ("go".into(), Tensor::from_bools(&[], &[go]))].into();
        import(&largest(vec![]), &ImportOptions { bind, ..of_size(0) })
    };
    for (m, go) in [(0, true), (3, false), (0, false)] {
        bound(m, go).expect("imports");
    }
    let e = bound(1, true).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::Invalid, "{e}");
    assert!(e.to_string().contains("is empty"), "{e}");
    // Of an input that has elements nothing has to be known.
    import(&largest(vec![]), &of_size(3)).expect("imports");
}

/// A branch that is not taken may have operators that Egret does not have; where it may be taken, the condition is asked for.
#[test]
fn a_branch_that_is_not_taken_may_hold_any_operator() {
    let branch =
        |op: &str| graph(vec![], vec![value("r", 1, &["2"])], vec![node(op, &["x"], &["r"], vec![])]);
    let of = |given: Vec<TensorProto>, then: &str| {
        let free = [value("c", 9, &[])].into_iter().filter(|_| given.is_empty());
        let attrs =
            vec![graph_attr("then_branch", branch(then)), graph_attr("else_branch", branch("Weird"))];
        let mut m = model(graph(
            [value("x", 1, &["2"])].into_iter().chain(free).collect(),
            vec![value("y", 1, &["2"])],
            vec![node("If", &["c"], &["y"], attrs)],
        ));
        m.graph.as_mut().expect("a graph").initializer = given;
        m
    };
    let (yes, no) = (tensor("c", 9, &[], &[1]), tensor("c", 9, &[], &[0]));
    let taken = import(&of(vec![yes], "Neg"), &ImportOptions::default()).expect("imports");
    let x = Value::from(Tensor::new(&[2], vec![1f32, -2.0]));
    let out = interp::run(&taken, &[x]).expect("runs");
    assert_eq!(out[0].as_tensor().expect("a tensor").data::<f32>(), [-1.0, 2.0]);
    // All are told that the model has.
    let e = import(&of(vec![no], "Strange"), &ImportOptions::default()).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::Unsupported);
    let e = e.to_string();
    assert!(e.contains("does not support: Strange (1: ") && e.contains("; Weird (1: "), "{e}");
    let e = import(&of(vec![], "Neg"), &ImportOptions::default()).expect_err("who knows");
    assert_eq!((e.kind, e.inputs_to_bind.len()), (ErrorKind::NeedsValue, 1), "{e}");
    assert!(e.to_string().contains("does not support: Weird (1: ") && e.is_unsupported, "{e}");
    let bind = [("c".into(), Tensor::from_bools(&[], &[true]))].into();
    import(&of(vec![], "Neg"), &ImportOptions { bind, ..ImportOptions::default() }).expect("imports");
}

/// Where the condition is an input: what each branch lacks is refused as a whole, what one lacks is said in full, with the advice to give the condition.
#[test]
fn all_operators_that_branches_lack_are_told() {
    fn branch(ops: &[&str]) -> onnx_protobuf::GraphProto {
        let names: Vec<String> = (0..=ops.len()).map(|i| format!("{}{i}", ops[0])).collect();
        let first = node("Neg", &["x"], &[&names[0]], vec![]);
        let each = ops.iter().zip(names.windows(2)).map(|(op, at)| node(op, &[&at[0]], &[&at[1]], vec![]));
        let nodes = [first].into_iter().chain(each).collect();
        graph(vec![], vec![value(&names[ops.len()], 1, &["2"])], nodes)
    }
    fn either(
        output: &str,
        then: onnx_protobuf::GraphProto,
        other: onnx_protobuf::GraphProto,
    ) -> onnx_protobuf::NodeProto {
        let attrs = vec![graph_attr("then_branch", then), graph_attr("else_branch", other)];
        node("If", &["c"], &[output], attrs)
    }
    let inner = |then: &[&str], other: &[&str]| {
        graph(vec![], vec![value("r", 1, &["2"])], vec![either("r", branch(then), branch(other))])
    };
    let of = |then, other| {
        let inputs = vec![value("x", 1, &["2"]), value("c", 9, &[])];
        let m = model(graph(inputs, vec![value("y", 1, &["2"])], vec![either("y", then, other)]));
        import(&m, &ImportOptions::default()).expect_err("is refused")
    };
    for (then, other) in [
        (branch(&["Weird", "Odd"]), branch(&["Strange"])),
        // The branches of an If within a branch count alike.
        (branch(&["Weird"]), inner(&["Strange"], &["Odd"])),
    ] {
        let e = of(then, other);
        assert_eq!((e.kind, e.inputs_to_bind.len()), (ErrorKind::Unsupported, 0), "{e}");
        let e = e.to_string();
        let all = "operators that Egret does not support: Odd (1: \"Odd1\"); Strange (1: \"Strange1\"); Weird (1: ";
        assert!(e.replace("\"Weird2\"", "\"Odd1\"").contains(all), "{e}");
    }
    for (then, other) in [
        (branch(&["Weird", "Odd"]), branch(&["Abs"])),
        (branch(&["Abs"]), branch(&["Weird", "Odd"])),
        (branch(&["Weird", "Odd"]), inner(&["Strange"], &["Abs"])),
    ] {
        let e = of(then, other);
        assert_eq!((e.kind, e.is_unsupported), (ErrorKind::NeedsValue, true), "{e}");
        let e = e.to_string();
        assert!(e.contains("Odd (1: \"Weird2\"); Weird (1: \"Weird1\")") && e.contains("--bind c="), "{e}");
    }
}

/// Where dims decide whether a branch is taken that holds an operator that Egret does not have, their values are the remedy.
#[test]
fn dims_that_decide_about_an_operator_are_asked_for() {
    let branch =
        |op: &str| graph(vec![], vec![value("r", 1, &["n"])], vec![node(op, &["x"], &["r"], vec![])]);
    let attrs = vec![graph_attr("then_branch", branch("Weird")), graph_attr("else_branch", branch("Neg"))];
    let mut m = model(graph(
        vec![value("x", 1, &["n"])],
        vec![value("y", 1, &["n"])],
        vec![
            node("Size", &["x"], &["size"], vec![]),
            node("Greater", &["size", "most"], &["c"], vec![]),
            node("If", &["c"], &["y"], attrs),
        ],
    ));
    m.graph.as_mut().expect("a graph").initializer = vec![ints("most", &[], &[100])];
    let e = import(&m, &ImportOptions::default()).expect_err("who knows");
    assert_eq!(e.kind, ErrorKind::Unsupported, "{e}");
    assert!(
        e.to_string().ends_with("Weird (1: \"r\"); where dims decide the condition, give --dim n=N"),
        "{e}"
    );
    import(&m, &of_size(3)).expect("imports");
}

#[test]
fn branches_of_unequal_ranks_need_the_condition() {
    let branch = |op: &str, inputs: &[&str]| {
        graph(vec![], vec![value("b", 1, &[])], vec![node(op, inputs, &["b"], vec![])])
    };
    let branches = vec![
        graph_attr("then_branch", branch("Identity", &["x"])),
        graph_attr("else_branch", branch("Reshape", &["x", "six"])),
    ];
    let mut g = graph(
        vec![value("c", 9, &[]), value("x", 1, &["2", "3"])],
        vec![value("y", 1, &[])],
        vec![node("If", &["c"], &["y"], branches)],
    );
    g.node[0].name = "the_if".into();
    g.output[0].type_.take();
    g.initializer.push(ints("six", &[1], &[6]));
    let model = model(g);
    // One message says where, what does not fit, and what to do.
    let e = import(&model, &ImportOptions::default()).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::NeedsValue, "{e}");
    assert_eq!(e.inputs_to_bind.iter().collect::<Vec<_>>(), ["c"]);
    for part in ["If \"the_if\"", "f32[2, 3]", "f32[6]", "rank", "the value of `c`"] {
        assert!(e.to_string().contains(part), "{part:?} is not in: {e}");
    }
    let x = Tensor::new(&[2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (c, shape) in [(true, &[2, 3][..]), (false, &[6])] {
        let c = Tensor::from_bools(&[], &[c]);
        let bind = [("c".into(), c.clone())].into();
        let graph = import(&model, &ImportOptions { bind, ..ImportOptions::default() }).expect("imports");
        let out = interp::run(&graph, &[c.into(), x.clone().into()]).expect("runs");
        assert_eq!(out[0].as_tensor().expect("a tensor").shape(), shape);
    }
}

/// Columns of x that a mask picks, without their axis where there is one column; `behind` that, and what is given.
fn squeezed_by_data(behind: Vec<NodeProto>, given: &[&str]) -> ModelProto {
    let branch = |node| graph(vec![], vec![value("r", 1, &[])], vec![node]);
    let branches = vec![
        graph_attr("then_branch", branch(node("Squeeze", &["d", "one"], &["r"], vec![]))),
        graph_attr("else_branch", branch(node("Identity", &["d"], &["r"], vec![]))),
    ];
    let mut nodes = vec![
        node("Compress", &["x", "mask"], &["d"], vec![int("axis", 1)]),
        node("Shape", &["d"], &["sizes"], vec![]),
        node("Gather", &["sizes", "one"], &["size"], vec![]),
        node("Equal", &["size", "one"], &["is"], vec![]),
        node("If", &["is"], &["y"], branches),
    ];
    nodes[4].name = "the_if".into();
    nodes.extend(behind);
    let inputs = vec![value("x", 1, &["2", "n"]), value("mask", 9, &["n"])];
    let mut g = graph(inputs, given.iter().map(|o| value(o, 1, &[])).collect(), nodes);
    g.output.iter_mut().for_each(|o| o.type_ = None.into());
    g.initializer = vec![ints("one", &[1], &[1]), ints("row", &[1], &[-1])];
    model(g)
}

/// The shapes of what a graph gives where the mask picks so many columns of three.
fn shapes(graph: &egret_ir::Graph, x: &Tensor, some: usize) -> Vec<(Vec<usize>, Tensor)> {
    let mask = Tensor::from_bools(&[3], &[0, 1, 2].map(|i| i < some));
    let out = interp::run(graph, &[x.clone().into(), mask.into()]).expect("runs");
    let of = |v: &Value| v.as_tensor().map(|t| (t.shape().to_vec(), t.clone())).expect("a tensor");
    out.iter().map(of).collect()
}

/// An axis that is left out where it has one element, of a size that data decides: in each run of that data the result has the rank that ONNX says.
#[test]
fn a_squeeze_by_data_needs_the_data_for_its_rank() {
    // It is right even where nothing but the shape is read.
    let behind =
        vec![node("Neg", &["y"], &["negative"], vec![]), node("Shape", &["negative"], &["shape"], vec![])];
    let model = squeezed_by_data(behind, &["y", "shape"]);
    let e = import(&model, &ImportOptions::default()).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::NeedsValue, "{e}");
    assert!(e.to_string().contains("If \"the_if\"") && e.inputs_to_bind.contains("mask"), "{e}");
    let x = Tensor::new(&[2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (some, shape) in [(0, &[2usize, 0][..]), (1, &[2]), (2, &[2, 2]), (3, &[2, 3])] {
        let mask = Tensor::from_bools(&[3], &[0, 1, 2].map(|i| i < some));
        let bind = [("mask".into(), mask), ("x".into(), x.clone())].into();
        let graph = import(&model, &ImportOptions { bind, ..of_size(3) }).expect("imports");
        let out = shapes(&graph, &x, some);
        assert_eq!(out[0].0, shape);
        assert_eq!(out[1].1.data::<i64>(), shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
    }
}

/// Where what is given has one rank either way, nothing has to be known.
#[test]
fn what_is_made_of_a_squeeze_by_data_may_have_one_rank() {
    let behind = vec![
        node("Neg", &["y"], &["negative"], vec![]),
        node("Reshape", &["negative", "row"], &["line"], vec![]),
        node("ReduceMax", &["negative"], &["most"], vec![int("keepdims", 0)]),
        // Of this nothing hangs on the If.
        node("Abs", &["x"], &["other"], vec![]),
        node("Add", &["most", "other"], &["both"], vec![]),
    ];
    let model = squeezed_by_data(behind, &["line", "other", "both"]);
    let x = Tensor::new(&[2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for options in [ImportOptions::default(), of_size(3)] {
        let graph = import(&model, &options).expect("imports");
        for some in 1..4 {
            let [line, other, both] = &shapes(&graph, &x, some)[..] else { panic!("three") };
            assert_eq!((&line.0[..], &other.0[..]), (&[2 * some][..], &[2, 3][..]));
            assert_eq!(line.1.data::<f32>()[0], -1.0);
            assert_eq!(both.1.data::<f32>(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        }
    }
    // Two in a row have ranks that only the data tells.
    let again = |given: &str| {
        let branch = |node| graph(vec![], vec![value("r", 1, &[])], vec![node]);
        let branches = vec![
            graph_attr("then_branch", branch(node("Squeeze", &["y", "row"], &["r"], vec![]))),
            graph_attr("else_branch", branch(node("Identity", &["y"], &["r"], vec![]))),
        ];
        let sum = node("ReduceSum", &["z"], &["sum"], vec![int("keepdims", 0)]);
        squeezed_by_data(vec![node("If", &["is"], &["z"], branches), sum], &[given])
    };
    let e = import(&again("sum"), &ImportOptions::default()).expect_err("is refused");
    assert_eq!(e.kind, ErrorKind::NeedsValue, "{e}");
}

#[test]
fn inputs_that_no_machine_can_hold_are_refused_by_name() {
    let g = graph(
        vec![value("x", 1, &["n", "k"])],
        vec![value("y", 1, &["n", "k"])],
        vec![node("Identity", &["x"], &["y"], vec![])],
    );
    let model = model(g);
    for dims in [&[("n", 1i64 << 62)][..], &[("n", 1 << 61)], &[("n", 1 << 40), ("k", 1 << 40)]] {
        let dims = dims.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        let e = import(&model, &ImportOptions { dims, ..ImportOptions::default() }).expect_err("too large");
        assert_eq!(e.kind, ErrorKind::Invalid);
        assert!(e.to_string().contains("input `x`") && e.to_string().contains("too large"), "{e}");
    }
    import(&model, &of_size(1 << 60)).expect("imports");
}
