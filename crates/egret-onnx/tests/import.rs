//! Importing: what models may look like, and what is said of those that may not.

mod build;

use build::*;
use egret_ir::{Dim, Graph, Op, Tensor, Value, interp, verify};
use egret_onnx::{ErrorKind, ImportError, ImportOptions, import_bytes, import_path};
use onnx_protobuf::{
    AttributeProto, Message, ModelProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};

fn import(model: &ModelProto) -> Result<Graph, ImportError> {
    import_with(model, &ImportOptions::default())
}

fn import_with(model: &ModelProto, options: &ImportOptions) -> Result<Graph, ImportError> {
    let bytes = model.write_to_bytes().expect("serialises");
    let graph = import_bytes(&bytes, None, options)?;
    verify(&graph).expect("an imported graph verifies");
    Ok(graph)
}

fn refused(model: &ModelProto, parts: &[&str]) {
    let message = import(model).expect_err("is refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let inputs: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
    let outputs = interp::run(graph, &inputs).expect("runs");
    outputs.iter().map(|v| v.as_tensor().expect("a tensor").clone()).collect()
}

/// A model whose output is an initialiser.
fn constant(tensor: TensorProto) -> ModelProto {
    let mut g = graph(vec![], vec![value("k", tensor.data_type, &[])], vec![]);
    g.initializer = vec![TensorProto { name: "k".into(), ..tensor }];
    model(g)
}

#[test]
fn everything_imports_and_runs() {
    let graph = import(&everything()).expect("imports");
    assert_eq!(graph.free_dims(), ["n"]);
    assert_eq!(graph.output_names(), ["looped", "rows", "flat"]);
    let x = Tensor::new(&[2, 3], vec![1.0f32, -1.0, 2.0, 0.0, 3.0, -4.0]);
    let out = run(&graph, &[x, Tensor::from_bools(&[], &[true])]);
    // Three times x + w added to x.
    assert_eq!(out[0].data::<f32>(), [5.5, -2.5, 9.5, -6.0, 6.0, -22.0]);
    assert_eq!(out[1].shape(), [3, 3]);
    assert_eq!(out[2].data::<f32>(), [5.5, -0.625, 9.5, -1.5, 6.0, -5.5]);
}

fn shape(dims: &[i64]) -> Vec<Dim> {
    dims.iter().map(|&d| Dim::constant(d)).collect()
}

/// Shapes may leave dims free, under the names that they give; what they say of a symbol of the model holds wherever it stands.
#[test]
fn shapes_of_inputs_may_have_free_dims() {
    let add = |declared: [ValueInfoProto; 2]| {
        let g = graph(
            declared.into(),
            vec![value("z", 1, &["a", "b"])],
            vec![node("Add", &["x", "y"], &["z"], vec![])],
        );
        model(g)
    };
    let no_rank = |name: &str| {
        let mut info = value(name, 1, &[]);
        info.type_.mut_or_insert_default().mut_tensor_type().shape = Default::default();
        info
    };
    let with = |model: &ModelProto,
                shapes: &[(&str, &[&str])],
                dims: &[(&str, i64)]|
     -> Result<Vec<String>, String> {
        let mut options = ImportOptions::default();
        for (input, dims) in shapes {
            let dim = |d: &&str| match (*d, d.parse::<i64>()) {
                (_, Ok(size)) => Dim::constant(size),
                ("?", _) => Dim::unnamed(),
                (name, _) => Dim::symbol(name),
            };
            options.input_shapes.insert((*input).into(), dims.iter().map(dim).collect());
        }
        options.dims.extend(dims.iter().map(|(n, v)| ((*n).to_owned(), *v)));
        let graph = import_with(model, &options).map_err(|e| e.to_string())?;
        Ok(graph.inputs().iter().map(|&v| graph.ty(v).to_string()).collect::<Vec<_>>())
    };
    let open = add([no_rank("x"), no_rank("y")]);
    let e = with(&open, &[("x", &["2"])], &[]).expect_err("y has no rank");
    assert!(e.contains("input `y`") && e.contains("--shape y=1,3,H,W"), "{e}");
    let both: &[(&str, &[&str])] = &[("x", &["N", "?", "4"]), ("y", &["N", "1", "1"])];
    assert_eq!(with(&open, both, &[]), Ok(vec!["f32[N, x_d1, 4]".into(), "f32[N, 1, 1]".into()]));
    assert_eq!(with(&open, both, &[("N", 3)]), Ok(vec!["f32[3, x_d1, 4]".into(), "f32[3, 1, 1]".into()]));
    let e = with(&open, both, &[("M", 3)]).expect_err("no M");
    assert!(e.contains("no free dim `M`; its free dims are `N`, `x_d1`"), "{e}");
    // What the model declares stays as it is where it is a size, and is called as is said where it is free.
    let declared = add([value("x", 1, &["batch", "4"]), value("y", 1, &["batch", "4"])]);
    let renamed = with(&declared, &[("x", &["B", "4"])], &[]);
    assert_eq!(renamed, Ok(vec!["f32[B, 4]".into(), "f32[B, 4]".into()]));
    let sized = with(&declared, &[("x", &["2", "4"])], &[]);
    assert_eq!(sized, Ok(vec!["f32[2, 4]".into(), "f32[2, 4]".into()]));
    let open = with(&declared, &[("x", &["?", "?"])], &[]);
    assert_eq!(open, Ok(vec!["f32[batch, 4]".into(), "f32[batch, 4]".into()]));
    // What the model calls by one name is one dim, in whatever order it is called.
    let pair =
        |x: &'static str, y: &'static str| with(&declared, &[("x", &[x, "4"]), ("y", &[y, "4"])], &[]);
    for (x, y, is) in [
        ("B", "3", "3"),
        ("3", "B", "3"),
        ("batch", "3", "3"),
        ("?", "3", "3"),
        ("3", "batch", "3"),
        ("B", "?", "B"),
        ("B", "batch", "B"),
        ("?", "B", "B"),
        ("B", "B", "B"),
    ] {
        let one = format!("f32[{is}, 4]");
        assert_eq!(pair(x, y), Ok(vec![one.clone(), one]), "{x}, {y}");
    }
    let e = pair("B", "C").expect_err("two names of one dim");
    assert!(e.contains("input `y`") && e.contains("call both `B`, or both `C`"), "{e}");
    let square = add([value("x", 1, &["n", "n"]), value("y", 1, &["n", "n"])]);
    let e = with(&square, &[("x", &["A", "4"]), ("y", &["A", "5"])], &[]).expect_err("4 and 5");
    assert!(e.contains("the dim `A` is 4 by another input, and 5 by this one"), "{e}");
    let swapped = add([value("x", 1, &["a", "1"]), value("y", 1, &["1", "b"])]);
    let swapped = with(&swapped, &[("x", &["b", "1"]), ("y", &["1", "a"])], &[]);
    assert_eq!(swapped, Ok(vec!["f32[b, 1]".into(), "f32[1, a]".into()]));
    for (shape, says) in [
        (&["B", "C"][..], "[B, C] given for it does not fit: the model declares 4 at axis 1"),
        (&["B"], "the model declares 2 dims"),
        (&["B", "-4"], "neither sizes nor names"),
    ] {
        let e = with(&declared, &[("x", shape)], &[]).expect_err("is refused");
        assert!(e.contains("input `x`") && e.contains(says), "{e}");
    }
    let e = with(&declared, &[("x", &["B", "4"])], &[("batch", 2)]).expect_err("two things of one");
    assert!(e.contains("axis 0 is B, but the dim `batch` was given as 2"), "{e}");
}

#[test]
fn options_bind_dims_and_values() {
    let mut options = ImportOptions::default();
    options.input_shapes.insert("x".into(), shape(&[2, 5]));
    options.bind.insert("cond".into(), Tensor::from_bools(&[], &[false]));
    let graph = import_with(&everything(), &options).expect("imports");
    assert!(graph.free_dims().is_empty());
    assert_eq!(graph.inputs().len(), 2, "a bound input stays an input");
    assert!(graph.node_ids().iter().all(|&n| graph.node(n).op != Op::If), "the branch is chosen at import");

    let wrong =
        |options: &ImportOptions| import_with(&everything(), options).expect_err("is refused").to_string();
    options.input_shapes.insert("x".into(), shape(&[3, 5]));
    assert!(wrong(&options).contains("the model declares 2 at axis 0"));
    let mut options = ImportOptions::default();
    options.dims.insert("q".into(), 1);
    assert!(wrong(&options).contains("no free dim `q`; its free dims are `n`"));
    let mut options = ImportOptions::default();
    options.input_shapes.insert("y".into(), vec![]);
    assert!(wrong(&options).contains("no input `y`; its inputs are `x`, `cond`"));
}

#[test]
fn values_needed_at_compile_time_are_asked_for_together() {
    let nodes =
        vec![node("Reshape", &["x", "s"], &["y"], vec![]), node("Tile", &["y", "t"], &["z"], vec![])];
    let inputs = vec![value("x", 1, &["4"]), value("s", 7, &["2"]), value("t", 7, &["2"])];
    let m = model(graph(inputs, vec![value("z", 1, &["a", "b"])], nodes));
    let e = import(&m).expect_err("needs a value");
    assert_eq!(e.kind, ErrorKind::NeedsValue);
    assert_eq!(e.inputs_to_bind.into_iter().collect::<Vec<_>>(), ["s"]);
    assert!(e.message.contains("Reshape \"y\""), "{}", e.message);
}

#[test]
fn initialisers_in_every_encoding() {
    let content = |t: TensorProto| {
        let g = import(&constant(t)).expect("imports");
        g.as_const(g.outputs()[0]).expect("a constant").clone()
    };
    let typed = |elem: i32, dims: &[i64], data: &[i32]| {
        let mut t = tensor("", elem, dims, &[]);
        t.int32_data = data.to_vec();
        content(t)
    };
    assert_eq!(content(floats("", &[2], &[1.5, 2.5])).data::<f32>(), [1.5, 2.5]);
    assert_eq!(content(tensor("", 1, &[1], &1.5f32.to_le_bytes())).data::<f32>(), [1.5]);
    assert_eq!(typed(10, &[2], &[0x3c00, 0xc000]).bytes(), [0x00, 0x3c, 0x00, 0xc0]);
    assert_eq!(typed(3, &[3], &[-1, 2, -128]).data::<i8>(), [-1, 2, -128]);
    assert_eq!(typed(9, &[2], &[0, 1]).bytes(), [0, 1]);
    // Three signed 4-bit elements in two bytes, five unsigned 2-bit ones in two.
    assert_eq!(content(tensor("", 22, &[3], &[0x7f, 0x08])).bytes(), [0xff, 7, 0xf8]);
    assert_eq!(content(tensor("", 25, &[5], &[0b11_10_01_00, 0b10])).bytes(), [0, 1, 2, 3, 2]);
    let mut strings = tensor("", 8, &[2], &[]);
    strings.string_data = vec![b"a".to_vec(), b"bc".to_vec()];
    assert_eq!(content(strings).strings(), ["a", "bc"]);
}

#[test]
fn dims_and_data_that_disagree() {
    refused(&constant(tensor("", 1, &[3], &[0; 8])), &["tensor `k`", "[3]", "12 bytes", "8"]);
    refused(&constant(floats("", &[2, 2], &[1.0])), &["tensor `k`", "4 entries", "1"]);
    refused(&constant(tensor("", 1, &[-1], &[])), &["tensor `k`", "negative"]);
    refused(&constant(tensor("", 1, &[1 << 40, 1 << 40], &[])), &["tensor `k`", "overflow"]);
    refused(&constant(tensor("", 99, &[1], &[0])), &["99 is not an ONNX element type"]);
    refused(&constant(tensor("", 14, &[1], &[0; 8])), &["complex"]);
}

#[test]
fn graphs_that_break_a_rule() {
    let one = |nodes| model(graph(vec![value("x", 1, &["2"])], vec![value("y", 1, &["2"])], nodes));
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], vec![]);
    refused(&one(vec![relu("z", "y")]), &["Relu \"y\"", "`z` is not defined anywhere"]);
    refused(&one(vec![relu("a", "b"), relu("b", "a"), relu("x", "y")]), &["cycle"]);
    refused(&one(vec![relu("x", "y"), relu("x", "y")]), &["`y` is defined twice"]);
    refused(&one(vec![relu("x", "z")]), &["output `y`", "never computed"]);
    refused(
        &one(vec![node("Relu", &["x"], &["y"], vec![int("fancy", 1)])]),
        &["Relu \"y\"", "`fancy`", "not understood"],
    );
    refused(
        &one(vec![node("Foo", &["x"], &["a"], vec![]), node("Bar", &["a"], &["y"], vec![])]),
        &["Bar (1: \"y\")", "Foo (1: \"a\")"],
    );
    let mut newer = one(vec![relu("x", "y")]);
    newer.opset_import[0].version = 99;
    refused(&newer, &["opset 99", "newer than"]);
    assert!(import(&one(vec![relu("a", "y"), relu("x", "a")])).is_ok(), "out of order, but no cycle");
    refused(&ModelProto::new(), &["empty"]);
}

/// Sizes that an axis has no room for; free dims of such sizes: `free_dims.rs`.
#[test]
fn sizes_that_do_not_go_together() {
    let split = |n: &str, more: Vec<AttributeProto>| {
        let nodes = vec![node("Split", &["x"], &["y", "b", "c", "d"], more)];
        model(graph(vec![value("x", 1, &[n])], vec![value("y", 1, &["k"])], nodes))
    };
    for (n, last) in [("5", "-1"), ("2", "-1"), ("1", "-2")] {
        refused(&split(n, vec![int("num_outputs", 4)]), &["Split \"y\"", n, "4 parts", last]);
    }
    for n in ["0", "3", "4", "7", "10"] {
        assert!(import(&split(n, vec![int("num_outputs", 4)])).is_ok(), "{n}");
    }
}

#[test]
fn functions_that_call_themselves() {
    let f = |name: &str, calls: &str| {
        function(name, &["a"], &["b"], &[], vec![call(calls, &["a"], &["b"], vec![])])
    };
    let mut m = model(graph(
        vec![value("x", 1, &["2"])],
        vec![value("y", 1, &["2"])],
        vec![call("F", &["x"], &["y"], vec![])],
    ));
    m.functions = vec![f("F", "G"), f("G", "F")];
    refused(&m, &["`F` calls itself"]);
}

#[test]
fn external_data_stays_beside_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("w.bin"), [0, 0, 0, 0, 0, 0, 192, 63, 0, 0, 0, 64]).expect("writes");
    let import_from = |location: &str, offset: &str| {
        let entry = |key: &str, v: &str| StringStringEntryProto {
            key: key.into(),
            value: v.into(),
            ..Default::default()
        };
        let mut t = tensor("", 1, &[2], &[]);
        t.data_location = onnx_protobuf::tensor_proto::DataLocation::EXTERNAL.into();
        t.external_data = vec![entry("location", location), entry("offset", offset), entry("length", "8")];
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, constant(t).write_to_bytes().expect("serialises")).expect("writes");
        import_path(&path, &ImportOptions::default())
    };
    let graph = import_from("w.bin", "4").expect("imports");
    assert_eq!(graph.as_const(graph.outputs()[0]).expect("a constant").data::<f32>(), [1.5, 2.0]);
    let message = |location, offset| import_from(location, offset).expect_err("is refused").to_string();
    for out in ["../../etc/passwd", "/etc/passwd", "a/../../x"] {
        assert!(message(out, "0").contains("leads out of the model's folder"), "{}", message(out, "0"));
    }
    assert!(message("missing.bin", "0").contains("cannot read"));
    assert!(message("w.bin", "8").contains("lie outside"));
    #[cfg(unix)]
    {
        // A pipe would be waited for.
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status();
        assert!(made.expect("mkfifo").success());
        assert!(message("pipe", "0").contains("is not a file"), "{}", message("pipe", "0"));
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).expect("links");
        assert!(message("link", "0").contains("leads out of the model's folder"));
    }
}

/// What a loop carries unchanged is captured: the weights of TensorFlow's loops stay constants. It comes out as it went in, also if no round runs.
#[test]
fn what_a_loop_only_reads_is_captured() {
    let body = graph(
        vec![
            value("i", 7, &[]),
            value("c", 9, &[]),
            value("a", 1, &["2"]),
            value("b", 1, &["2"]),
            value("d", 1, &["2"]),
        ],
        vec![
            value("c_out", 9, &[]),
            value("a_out", 1, &["2"]),
            value("b_out", 1, &["2"]),
            value("d_out", 1, &["2"]),
            value("row", 1, &["2"]),
        ],
        vec![
            node("Identity", &["c"], &["c_out"], vec![]),
            node("Identity", &["a"], &["a_out"], vec![]),
            node("Mul", &["b", "a"], &["b_out"], vec![]),
            node("Identity", &["d"], &["d_out"], vec![]),
            node("Sub", &["b_out", "d"], &["row"], vec![]),
        ],
    );
    let g = graph(
        vec![value("n", 7, &[]), value("x", 1, &["2"]), value("y", 1, &["2"])],
        vec![
            value("a_last", 1, &["2"]),
            value("b_last", 1, &["2"]),
            value("d_last", 1, &["2"]),
            value("rows", 1, &["k", "2"]),
        ],
        vec![node(
            "Loop",
            &["n", "", "w", "x", "y"],
            &["a_last", "b_last", "d_last", "rows"],
            vec![graph_attr("body", body)],
        )],
    );
    let mut m = model(g);
    m.graph.as_mut().expect("a graph").initializer = vec![floats("w", &[2], &[0.5, -2.0])];
    let graph = import(&m).expect("imports");
    let loops: Vec<_> = graph.node_ids().into_iter().filter(|&n| graph.node(n).op == Op::Loop).collect();
    let node = graph.node(loops[0]);
    assert_eq!((loops.len(), node.attrs.int("carried"), node.regions[0].outputs().len()), (1, 1, 3));
    let pair = |v: [f32; 2]| Tensor::new(&[2], v.to_vec());
    for (n, b, rows) in
        [(0, [3.0, 1.0], vec![]), (2, [0.75, 4.0], vec![1.5f32 - 9.0, -2.0 - 8.0, 0.75 - 9.0, 4.0 - 8.0])]
    {
        let out = run(&graph, &[Tensor::scalar::<i64>(n), pair([3.0, 1.0]), pair([9.0, 8.0])]);
        let rows = Tensor::new(&[rows.len() / 2, 2], rows);
        assert_eq!(out, [pair([0.5, -2.0]), pair(b), pair([9.0, 8.0]), rows], "{n} rounds");
    }
}

/// Elements that can be counted, and their bits cannot: a wrapped number of bytes would be one that the data has.
#[test]
fn dims_whose_bits_cannot_be_counted_are_refused() {
    for (elem, dims) in
        [(11, &[1i64 << 58][..]), (1, &[1 << 59]), (2, &[(1 << 60) + 1]), (22, &[0, 1 << 60])]
    {
        for raw in [&[][..], &[0; 8]] {
            let e = egret_onnx::data::decode_tensor(&tensor("w", elem, dims, raw)).expect_err("too many");
            assert!(e.to_string().contains("overflow the address space"), "{elem} {dims:?}: {e}");
        }
    }
}

/// Dims of no element are counted too: the interpreter and compiled code go along some of the axes alone.
#[test]
fn dims_beyond_any_machine_are_refused_without_elements_too() {
    for dims in [&[1i64 << 62, 4, 0][..], &[0, 1 << 62, 4], &[1 << 62, 0, 4], &[i64::MAX, i64::MAX, 0]] {
        refused(&constant(tensor("w", 1, dims, &[])), &["tensor `k`", "overflow the address space"]);
        let names: Vec<String> = dims.iter().map(i64::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of_input = graph(
            vec![value("x", 1, &names)],
            vec![value("y", 1, &[])],
            vec![node("Identity", &["x"], &["y"], vec![])],
        );
        refused(&model(of_input), &["input `x`", "too large for any machine"]);
    }
}

/// Along an axis of no element Hardmax gives nothing; ArgMax has no index to give, unless none is asked for.
#[test]
fn along_an_empty_axis_there_is_no_extremum() {
    let imported = |op: &str, version: i64, axis: i64, dims: &[&str]| {
        let n = node(op, &["x"], &["y"], vec![int("axis", axis)]);
        let mut m = model(graph(vec![value("x", 1, dims)], vec![value("y", 0, &[])], vec![n]));
        m.graph.as_mut().expect("a graph").output[0].type_.take();
        m.opset_import = vec![opset("", version)];
        import(&m)
    };
    let full = Tensor::new(&[1, 3, 1], vec![-2f32, f32::NEG_INFINITY, -1.0]);
    for (version, axis) in [(1, 1), (1, 0), (11, 1), (13, 1)] {
        for dims in [["2", "0", "3"], ["a", "b", "c"]] {
            let graph = imported("Hardmax", version, axis, &dims).expect("imports");
            let empty = Tensor::new(&[2, 0, 3], Vec::<f32>::new());
            assert_eq!(run(&graph, std::slice::from_ref(&empty)), [empty], "{version} {dims:?}");
            if dims[0] == "a" {
                let hit = Tensor::new(&[1, 3, 1], vec![0f32, 0.0, 1.0]);
                assert_eq!(run(&graph, std::slice::from_ref(&full)), [hit], "{version}");
                let lowest = Tensor::new(&[1, 2, 1], vec![f32::NEG_INFINITY; 2]);
                assert_eq!(run(&graph, &[lowest]), [Tensor::new(&[1, 2, 1], vec![1f32, 0.0])], "{version}");
            }
        }
    }
    for op in ["ArgMax", "ArgMin"] {
        let e = imported(op, 13, 1, &["2", "0", "3"]).expect_err("no index").to_string();
        assert!(e.contains(op) && e.contains("is empty and has no extremum"), "{e}");
        let graph = imported(op, 13, 1, &["0", "0", "3"]).expect("imports");
        let empty = Tensor::new(&[0, 0, 3], Vec::<f32>::new());
        assert_eq!(run(&graph, &[empty]), [Tensor::new(&[0, 1, 3], Vec::<i64>::new())]);
    }
}
