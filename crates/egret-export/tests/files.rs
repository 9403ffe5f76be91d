//! Constants in a file of their own, names, and what is refused.

use egret_export::{Options, export};
use egret_ir::interp::run;
use egret_ir::{Builder, DType, Dim, Graph, Op, Tensor, Type, Value, attrs};
use egret_onnx::{ImportOptions, import_bytes, import_path};

/// x times a matrix of `n` rows.
fn product(n: usize) -> Graph {
    let mut b = Builder::new("product");
    let x = b.input("x", Type::tensor(DType::F32, vec![Dim::symbol("rows"), Dim::from(n)]));
    let w = b.constant(Tensor::new(&[n, 3], (0..3 * n).map(|i| i as f32 * 0.25).collect()));
    let y = b.emit(Op::Matmul, attrs! {}, &[x, w]).expect("a product");
    b.output("y", y);
    b.graph
}

#[test]
fn large_constants_lie_beside_the_model_at_whole_pages() {
    let graph = product(512);
    let dir = std::env::temp_dir().join(format!("egret-export-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    let options = Options { data_file: "m.onnx.data".into(), external_bytes: 1000 };
    let exported = export(&graph, &options).expect("exports");
    let data: Vec<u8> = exported.data.pieces().flat_map(|p| p.into_owned()).collect();
    assert_eq!(data.len(), 512 * 3 * 4);
    std::fs::write(dir.join("m.onnx"), &exported.model).expect("room");
    std::fs::write(dir.join("m.onnx.data"), &data).expect("room");
    let again = import_path(&dir.join("m.onnx"), &ImportOptions::default());
    std::fs::remove_dir_all(&dir).expect("our own folder");
    let x: Value = Tensor::new(&[1, 512], vec![1.0f32; 512]).into();
    let [want, got] =
        [&graph, &again.expect("imports")].map(|g| run(g, std::slice::from_ref(&x)).expect("runs"));
    assert_eq!(want[0].as_tensor().map(Tensor::content_hash), got[0].as_tensor().map(Tensor::content_hash));

    let inside = export(&graph, &Options::default()).expect("exports");
    assert!(inside.data.is_empty() && inside.model.len() > data.len());
}

#[test]
fn an_input_that_is_an_output_keeps_both_names() {
    let mut b = Builder::new("names");
    // A dim whose name is no identifier.
    let x = b.input("x", Type::tensor(DType::I64, vec![Dim::symbol("Dynamic.0")]));
    let y = b.emit(Op::Neg, attrs! {}, &[x]).expect("a node");
    for (name, value) in [("same", x), ("first", y), ("second", y)] {
        b.output(name, value);
    }
    let exported = export(&b.graph, &Options::default()).expect("exports");
    let again = import_bytes(&exported.model, None, &ImportOptions::default()).expect("imports");
    assert_eq!(again.output_names(), ["same", "first", "second"]);
    assert_eq!(again.free_dims(), ["Dynamic.0"]);
}

/// As many numbers as a dim says, of x, f32[n, m].
fn as_many(dim: &Dim) -> Graph {
    let mut b = Builder::new("dims");
    b.input("x", Type::tensor(DType::F32, vec![Dim::symbol("n"), Dim::symbol("m")]));
    let iota = attrs! { to: DType::I32, shape: vec![dim.clone()], axis: 0i64 };
    let y = b.emit(Op::Iota, iota, &[]).expect("a node");
    b.output("y", y);
    b.graph
}

#[test]
fn computed_dims_mean_the_same() {
    let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
    let (none, two) = (Dim::constant(0), Dim::constant(2));
    let above = |d: Dim| d.op(egret_ir::DimOp::Max, &none);
    let all = [
        n.clone() * m.clone() + Dim::constant(3),
        n.op(egret_ir::DimOp::FloorDiv, &two) - Dim::constant(1),
        n.op(egret_ir::DimOp::CeilDiv, &two) + m.op(egret_ir::DimOp::Mod, &two),
        n.op(egret_ir::DimOp::Max, &m) - n.op(egret_ir::DimOp::Min, &m),
        (n.clone() - m.clone() + Dim::constant(9)).op(egret_ir::DimOp::FloorDiv, &Dim::constant(4)),
        n.op(egret_ir::DimOp::CeilDiv, &m),
        above(n.clone() - m.clone())
            .op(egret_ir::DimOp::CeilDiv, &(above(m.clone() - two.clone()) + two.clone())),
    ];
    for dim in all {
        let graph = as_many(&dim);
        let exported = export(&graph, &Options::default()).unwrap_or_else(|e| panic!("{dim}: {e}"));
        let again = import_bytes(&exported.model, None, &ImportOptions::default()).expect("imports");
        for shape in [[5usize, 3], [4, 8], [9, 1]] {
            let x: Value = Tensor::new(&shape, vec![0f32; shape[0] * shape[1]]).into();
            let [want, got] = [&graph, &again].map(|g| run(g, std::slice::from_ref(&x)).expect("runs"));
            let shapes = [want, got].map(|v| v[0].as_tensor().map(|t| t.shape().to_vec()));
            assert_eq!(shapes[0], shapes[1], "{dim} at {shape:?}");
        }
    }
}

/// A model whose own functions are of a domain that Egret does not know, so that it reads their bodies.
fn elsewhere(model: &[u8]) -> Vec<u8> {
    use onnx_protobuf::Message;
    let mut model = egret_onnx::parse_model(model).expect("a model");
    let elsewhere = |domain: &mut String| {
        if domain == "egret" {
            *domain = "elsewhere".into();
        }
    };
    model.opset_import.iter_mut().for_each(|o| elsewhere(&mut o.domain));
    for function in &mut model.functions {
        elsewhere(&mut function.domain);
        function.opset_import.iter_mut().for_each(|o| elsewhere(&mut o.domain));
    }
    model.graph.mut_or_insert_default().node.iter_mut().for_each(|n| elsewhere(&mut n.domain));
    model.write_to_bytes().expect("bytes")
}

/// A dim that two dims broadcast to has a value where they fit each other: for other sizes the exported model fails, as the graph does.
#[test]
fn a_dim_of_a_broadcast_keeps_its_condition() {
    let (n, m) = (Dim::symbol("n"), Dim::symbol("m"));
    let both = |a: &Dim, b: &Dim| a.op(egret_ir::DimOp::Broadcast, b);
    let (one, three) = (Dim::constant(1), Dim::constant(3));
    let all = [
        both(&n, &m),
        both(&n, &three),
        both(&both(&n, &m), &three),
        both(&(n.clone() + one.clone()), &(m.clone() * Dim::constant(2))),
        both(&n, &m) * Dim::constant(2) + one,
    ];
    for dim in all {
        let graph = as_many(&dim);
        let exported = export(&graph, &Options::default()).unwrap_or_else(|e| panic!("{dim}: {e}"));
        let again = import_bytes(&exported.model, None, &ImportOptions::default()).expect("imports");
        if dim == both(&n, &m) {
            assert_eq!(
                again.tensor_ty(again.outputs()[0]).shape,
                std::slice::from_ref(&dim),
                "read as the same dim"
            );
        }
        for (n, m) in (0..=4usize).flat_map(|n| (0..=4usize).map(move |m| (n, m))) {
            let x: Value = Tensor::new(&[n, m], vec![0f32; n * m]).into();
            let ran = |g: &Graph| {
                let values = run(g, std::slice::from_ref(&x)).ok()?;
                values[0].as_tensor().map(|t| t.shape().to_vec())
            };
            // Where the sizes are known, what the model computes of them is computed while it is read.
            let dims = [("n".to_owned(), n as i64), ("m".to_owned(), m as i64)].into();
            let options = ImportOptions { dims, ..ImportOptions::default() };
            let known = import_bytes(&exported.model, None, &options).ok();
            let body = import_bytes(&elsewhere(&exported.model), None, &options).ok();
            let want = ran(&graph);
            assert_eq!(ran(&again), want, "{dim} at {n} and {m}");
            assert_eq!(known.as_ref().and_then(ran), want, "{dim} at the known {n} and {m}");
            // What its body looks up beyond an end is an error where it runs, not while it is read.
            if want.is_some() {
                assert_eq!(body.as_ref().and_then(ran), want, "{dim} at {n} and {m}, by the body");
            }
        }
    }
}

#[test]
fn a_free_dim_is_scaled_by_fractions() {
    let n = Dim::symbol("n");
    for (from, scale, size) in [
        (n.clone(), 2.0, n.clone() * Dim::constant(2)),
        (n.clone(), 1.5, (n.clone() * Dim::constant(3)).op(egret_ir::DimOp::FloorDiv, &Dim::constant(2))),
        (n.clone(), 0.25, n.op(egret_ir::DimOp::FloorDiv, &Dim::constant(4))),
        // The f32 above 1 / 300.
        (n.clone() * Dim::constant(300), f64::from(1f32 / 300.0), n.clone()),
    ] {
        let mut b = Builder::new("scaled");
        let rows = b.input("rows", Type::tensor(DType::F32, vec![n.clone()]));
        let iota = attrs! { to: DType::F32, shape: vec![from], axis: 0i64 };
        let x = b.emit(Op::Iota, iota, &[]).expect("a node");
        let resize = attrs! {
            sizes: vec![size.clone()], scales: vec![scale], mode: "linear", coordinate: "half_pixel", nearest: "floor",
            cubic_a: -0.75, exclude_outside: 0i64, antialias: 0i64, extrapolation: 0.0
        };
        let y = b.emit_node(Op::Resize, resize, &[Some(x), None], vec![]).expect("a node")[0];
        b.output("y", y);
        b.output("same", rows);
        let exported = export(&b.graph, &Options::default()).unwrap_or_else(|e| panic!("{size}: {e}"));
        let again = import_bytes(&exported.model, None, &ImportOptions::default()).expect("imports");
        for count in [4usize, 7] {
            let x: Value = Tensor::new(&[count], vec![0f32; count]).into();
            let [want, got] = [&b.graph, &again].map(|g| run(g, std::slice::from_ref(&x)).expect("runs"));
            let hashes = [want, got].map(|v| v[0].as_tensor().map(Tensor::content_hash));
            assert_eq!(hashes[0], hashes[1], "{size} at {count}");
        }
    }
    // The f32 below 1 / 49: ONNX cuts off to one row less.
    let mut b = Builder::new("less");
    let x = b.input("x", Type::tensor(DType::F32, vec![n.clone() * Dim::constant(49)]));
    let resize = attrs! {
        sizes: vec![n], scales: vec![f64::from(1f32 / 49.0)], mode: "linear", coordinate: "half_pixel", nearest: "floor",
        cubic_a: -0.75, exclude_outside: 0i64, antialias: 0i64, extrapolation: 0.0
    };
    let below = f64::from(1f32 / 49.0) * 49.0 < 1.0;
    let y = b.emit_node(Op::Resize, resize, &[Some(x), None], vec![]).expect("a node")[0];
    b.output("y", y);
    assert!(below && export(&b.graph, &Options::default()).is_err(), "a scale that gives another size");
}

/// What is cut off exactly, and by ONNX Runtime behind a rounding to f32, has no scale that both take for the same size.
#[test]
fn scales_of_two_meanings_are_refused() {
    let made = |from: i64, scale: f32, size: i64| {
        let mut b = Builder::new("scaled");
        let x = b.input("x", Type::tensor(DType::F32, vec![Dim::constant(from)]));
        let resize = attrs! {
            sizes: vec![Dim::constant(size)], scales: vec![f64::from(scale)], mode: "linear", coordinate: "half_pixel", nearest: "floor",
            cubic_a: -0.75, exclude_outside: 0i64, antialias: 0i64, extrapolation: 0.0
        };
        let y = b.emit_node(Op::Resize, resize, &[Some(x), None], vec![]).expect("a node")[0];
        b.output("y", y);
        export(&b.graph, &Options::default())
    };
    for (from, scale, size) in [(5, 1.4, 6), (10, 1.3, 12), (20, 2.3, 45)] {
        assert_eq!((scale * from as f32).floor() as i64, size + 1, "the rounded product is another");
        let Err(error) = made(from, scale, size) else { panic!("{from} by {scale}") };
        let says = format!("{from} times the scale {scale} is {size} cut off");
        assert!(error.to_string().contains(&says), "{error}");
    }
    for (from, scale, size) in [(5, 1.5, 7), (10, 1.25, 12), (5, 1.3, 6), (7, 0.6, 4)] {
        made(from, scale, size).unwrap_or_else(|e| panic!("{from} by {scale}: {e}"));
    }
}

/// ONNX's Loop has two inputs or more, left out or not.
#[test]
fn a_loop_names_its_condition_where_there_is_none() {
    let mut body = Builder::new("body");
    let i = body.input("i", Type::tensor(DType::I64, vec![]));
    let go_on = body.input("go_on", Type::tensor(DType::Bool, vec![]));
    body.output("go_on_too", go_on);
    body.output("each", i);
    let mut b = Builder::new("counted");
    let count = b.input("count", Type::tensor(DType::I64, vec![]));
    let always = b.constant(Tensor::from_bools(&[], &[true]));
    let attrs = attrs! { carried: 0i64, has_trip_count: 1i64, has_cond: 0i64 };
    let operands = [Some(count), Some(always)];
    let y = b.emit_node(Op::Loop, attrs, &operands, vec![body.graph]).expect("a loop")[0];
    b.output("y", y);
    let exported = export(&b.graph, &Options::default()).expect("exports");
    let model = egret_onnx::parse_model(&exported.model).expect("a model");
    assert_eq!(model.graph.node[0].input, ["count", ""]);
}

#[test]
fn what_onnx_cannot_say_is_refused_with_the_node_and_what_to_do() {
    let mut b = Builder::new("ceil");
    let x =
        b.input("x", Type::tensor(DType::I32, vec![Dim::constant(1), Dim::constant(1), Dim::constant(8)]));
    let w =
        b.input("w", Type::tensor(DType::I32, vec![Dim::constant(1), Dim::constant(1), Dim::constant(3)]));
    let conv = attrs! {
        strides: vec![1i64], dilations: vec![1i64], pads: vec![0i64, 0], groups: 1i64, layout: "channels_first"
    };
    let y = b.emit(Op::Conv, conv, &[x, w]).expect("a node");
    b.output("y", y);
    let Err(error) = export(&b.graph, &Options::default()) else { panic!("ONNX convolves no i32") };
    let text = error.to_string();
    assert!(
        text.starts_with("conv") && text.contains("i32") && text.contains("keep the original"),
        "{text}"
    );

    let mut b = Builder::new("dims");
    let x = b.input("x", Type::tensor(DType::F32, vec![Dim::symbol("n") * Dim::constant(2)]));
    let shape = vec![Dim::symbol("n"), Dim::constant(1), Dim::symbol("n")];
    let one = b.constant(Tensor::scalar(1f32));
    let y = b.emit(Op::Broadcast, attrs! { shape: shape }, &[one]).expect("a node");
    b.output("y", y);
    b.output("x_again", x);
    let Err(error) = export(&b.graph, &Options::default()) else { panic!("no shape tells n") };
    assert!(error.to_string().contains("--dim n=N"), "{error}");
}

/// Sizes that a movement refuses are refused of what is exported: none of them comes out as another shape.
#[test]
fn movements_keep_what_they_hold_runs_to() {
    let cases = [
        ("f32[N, 4]", "reshape(%0) {shape = [M, 4]} : f32[M, 4]"),
        ("f32[N, 4]", "reshape(%0) {shape = [2, M, 2]} : f32[2, M, 2]"),
        ("f32[N]", "broadcast(%0) {shape = [2, M]} : f32[2, M]"),
        ("f32[3, N]", "broadcast(%0) {shape = [3, M]} : f32[3, M]"),
        ("f32[N, 3]", "slice(%0) {sizes = [0, M - 1], starts = [0, 1], steps = [1, 1]} : f32[0, M - 1]"),
        ("f32[N, 3]", "slice(%0) {sizes = [N - 2, 1], starts = [2, 0], steps = [1, 1]} : f32[N - 2, 1]"),
        ("f32[N, 3]", "slice(%0) {sizes = [N, M], starts = [0, 1], steps = [1, 1]} : f32[N, M]"),
    ];
    let (mut right, mut refused) = (0, 0);
    for (x, node) in cases {
        let source = format!(
            "graph @g(%0 \"x\": {x}, %1 \"y\": f32[M]) -> (%2 \"z\", %1 \"same\") {{\n %2 = {node}\n}}"
        );
        let graph = egret_ir::text::parse(&source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let file = export(&graph, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{source}"));
        let again = import_bytes(&file.model, None, &ImportOptions::default()).expect("imports");
        for (n, m) in (0..4).flat_map(|n| (0..5).map(move |m| (n, m))) {
            let shape: Vec<usize> = graph
                .tensor_ty(graph.inputs()[0])
                .shape
                .iter()
                .map(|d| d.as_const().map_or(n, |d| d as usize))
                .collect();
            let count = shape.iter().product();
            let x = Tensor::new(&shape, (0..count).map(|i| i as f32).collect());
            let inputs: [Value; 2] = [x.into(), Tensor::new(&[m], vec![0f32; m]).into()];
            let [want, got] = [&graph, &again].map(|g| run(g, &inputs).ok());
            assert_eq!(got, want, "{n}, {m} of {source}\n{again}");
            *if want.is_some() { &mut right } else { &mut refused } += 1;
        }
    }
    assert!(right > 20 && refused > 60, "{right} right, {refused} refused");
}
