//! Whole channels: what goes, what stays, and why.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::npz;
use egret_compress::{Method, Pattern, Reason, Request, Verdict, prune};
use kit::{File, Stored, fixture, model, node, tensor};

fn channels(part: f64) -> Request {
    Request::new(Pattern::Channels(part))
}

#[test]
fn a_network_becomes_smaller_by_whole_channels() {
    let path = fixture("models/simple_cnn.onnx");
    let pruned = prune(&path, &channels(0.5)).expect("it works").report;
    assert!(pruned.bytes < pruned.bytes_before / 2, "{} of {}", pruned.bytes, pruned.bytes_before);
    let [before, now] = pruned.products.expect("sizes");
    assert!(now < before);
    for entry in &pruned.entries {
        let Verdict::Narrowed { was, is, stays, .. } = &entry.verdict else {
            // The first is left, and nothing before it goes.
            assert!(matches!(entry.verdict, Verdict::Left { reason: Reason::End, .. }), "{entry:?}");
            continue;
        };
        assert_eq!(is.outputs < was.outputs, stays.is_none(), "{entry:?}");
    }
    let last = &pruned.entries[pruned.entries.len() - 1].verdict;
    let Verdict::Narrowed { stays: Some(text), .. } = last else { panic!("{last:?}") };
    assert!(text.contains("an output of the model"), "{text}");
}

#[test]
fn no_part_changes_no_byte_and_the_same_request_gives_the_same_bytes() {
    for name in ["simple_cnn", "parallel_cnn", "fusion_cnn"] {
        let path = fixture(&format!("models/{name}.onnx"));
        let Ok(pruned) = prune(&path, &Request { all: true, ..channels(0.0) }) else { continue };
        assert!(pruned.model == std::fs::read(&path).expect("a file"), "{name}");
        let request = Request { all: true, ..channels(0.3) };
        let [a, b] = [(); 2].map(|()| prune(&path, &request).expect("it works").model);
        assert!(a == b, "{name}");
    }
}

#[test]
fn options_name_layers_and_those_that_cannot_lose_channels_are_errors() {
    let path = fixture("models/simple_cnn.onnx");
    let fails = |request: &Request| match prune(&path, request) {
        Ok(_) => panic!("{request:?} works"),
        Err(e) => e.to_string(),
    };
    let own = |name: &str, pattern| Request { layers: vec![(name.into(), pattern)], ..channels(0.5) };
    assert!(fails(&own("/fc2/Gemm", Pattern::Channels(0.5))).contains("an output of the model"));
    assert!(fails(&own("/fc1/Gemm", Pattern::Unstructured(0.5))).contains("other amounts"));
    assert!(fails(&own("/fc9/Gemm", Pattern::Channels(0.5))).contains("no contraction"));
    let zeros = Request { multiple: Some(4), ..Request::new(Pattern::Unstructured(0.5)) };
    assert!(fails(&zeros).contains("--multiple"));
    // A layer that is skipped keeps all of its weights: those before it keep their outputs too.
    let skip = Request { skip: vec!["/fc1/Gemm".into()], all: true, ..channels(0.5) };
    let report = prune(&path, &skip).expect("it works").report;
    let fc1 = report.entries.iter().find(|e| e.name == "/fc1/Gemm").expect("a layer");
    assert!(matches!(fc1.verdict, Verdict::Left { reason: Reason::Skipped, .. }), "{fc1:?}");
}

/// What is not known to keep channels apart leaves them, and is named.
#[test]
fn an_operator_that_mixes_channels_is_the_reason() {
    let nodes = vec![
        node("Conv", "a", &["x", "w"], "h"),
        node("Softmax", "mix", &["h"], "s"),
        node("Conv", "b", &["s", "v"], "g"),
        node("GlobalAveragePool", "pool", &["g"], "y"),
    ];
    let mut nodes = nodes;
    nodes[1].attribute.push(kit::int("axis", 1));
    let weights = [tensor("w", &[8, 3, 1, 1], Stored::Raw), tensor("v", &[2, 8, 1, 1], Stored::Raw)];
    let file = File::of(&model(nodes, weights.to_vec(), &[1, 3, 4, 4], "y"));
    let error = file.prune(&Request { all: true, ..channels(0.5) }).map(|_| ()).expect_err("no channels");
    assert!(error.to_string().contains("Softmax"), "{error}");
}

/// Eight sums of three inputs: any four make up for the others, if the layer behind is fitted.
#[test]
fn with_data_the_channels_that_stay_make_up_for_those_that_go() {
    let nodes = vec![node("Conv", "a", &["x", "w"], "h"), node("Conv", "b", &["h", "v"], "y")];
    let weights = [tensor("w", &[8, 3, 1, 1], Stored::Raw), tensor("v", &[2, 8, 3, 3], Stored::Raw)];
    let file = File::of(&model(nodes, weights.to_vec(), &[1, 3, 6, 6], "y"));
    let mut rng = Rng::new(9);
    let values = (0..32 * 108).map(|_| rng.signed_f64() as f32).collect();
    let data = file.0.path().join("x.npy");
    npz::write(&data, &[("x".into(), Tensor::new(&[32, 3, 6, 6], values))]).expect("a file");
    let error = |method: &str| {
        let method = method.parse::<Method>().expect("a method");
        let request = Request { all: true, method, data: vec![data.clone()], ..channels(0.5) };
        let [a, b] = [(); 2].map(|()| file.prune(&request).expect("it works"));
        assert!(a.model == b.model, "{method:?}: other bytes");
        let Verdict::Narrowed { is, output, .. } = &a.report.entries[1].verdict else {
            panic!("{:?}", a.report.entries)
        };
        assert_eq!((is.inputs, is.outputs), (4, 2));
        output.expect("data tell").error
    };
    let (fitted, by_size) = (error("obc"), error("l1"));
    assert!(fitted < 0.01 && fitted < by_size / 10.0, "{fitted}, not far below {by_size}");
    assert!(error("wanda") > fitted);
}

/// Of two groups as large, the one goes whose channels the others make up for; and the model saves as much as if each lost its part.
#[test]
fn over_all_layers_channels_go_where_the_model_loses_least() {
    let nodes = vec![
        node("Conv", "a", &["x", "w"], "h"),
        node("Conv", "b", &["h", "v"], "g"),
        node("Relu", "r", &["g"], "p"),
        node("Conv", "c", &["p", "u"], "y"),
    ];
    let mut rng = Rng::new(10);
    let mut random = |name: &str, dims: &[i64]| {
        let mut out = tensor(name, dims, Stored::Raw);
        out.raw_data =
            (0..dims.iter().product()).flat_map(|_: i64| (rng.signed_f64() as f32).to_le_bytes()).collect();
        out
    };
    let weights = [random("w", &[8, 3, 1, 1]), random("v", &[8, 8, 1, 1]), random("u", &[2, 8, 1, 1])];
    let file = File::of(&model(nodes, weights.to_vec(), &[1, 3, 6, 6], "y"));
    let values = (0..32 * 108).map(|_| rng.signed_f64() as f32).collect();
    let data = file.0.path().join("x.npy");
    npz::write(&data, &[("x".into(), Tensor::new(&[32, 3, 6, 6], values))]).expect("a file");
    let made = |scope: &str| {
        let method = "obc".parse().expect("a method");
        let scope = Some(scope.parse().expect("a scope"));
        let request = Request { all: true, method, scope, data: vec![data.clone()], ..channels(0.25) };
        let [one, again] = [(); 2].map(|()| file.prune(&request).expect("it works"));
        assert!(one.model == again.model, "other bytes");
        one.report
    };
    let (each, all) = (made("layer"), made("global"));
    let outputs = |report: &egret_compress::Report, layer: usize| match &report.entries[layer].verdict {
        Verdict::Narrowed { is, .. } => is.outputs,
        other => panic!("{other:?}"),
    };
    assert_eq!((outputs(&each, 0), outputs(&each, 1)), (6, 6));
    assert!(outputs(&all, 0) <= 4 && outputs(&all, 1) == 8, "{:?}", all.entries);
    let products = |report: &egret_compress::Report| report.products.expect("counted")[1];
    assert!(products(&all) <= products(&each), "{} {}", products(&all), products(&each));
    let error = |report: &egret_compress::Report| match &report.entries[2].verdict {
        Verdict::Narrowed { output, .. } => output.expect("data tell").error,
        other => panic!("{other:?}"),
    };
    assert!(error(&all) < error(&each) / 4.0, "{} {}", error(&all), error(&each));
    let Verdict::Narrowed { stays: Some(why), .. } = &all.entries[1].verdict else { panic!("{all:?}") };
    assert!(why.contains("save as much for less loss"), "{why}");
}

/// Of three heads, two do the same: one of them goes, and the other makes up for it; the one of the smallest numbers is needed.
#[test]
fn heads_go_whole_and_those_that_stay_make_up_for_them() {
    const WIDTH: usize = 8;
    const EACH: usize = 4;
    let mut rng = Rng::new(12);
    let mut weight = |name: &str, scale: f32| {
        let mut values: Vec<f32> = (0..WIDTH * 3 * EACH).map(|_| rng.signed_f64() as f32).collect();
        for row in values.chunks_exact_mut(3 * EACH) {
            row.copy_within(..EACH, 2 * EACH);
            row[EACH..2 * EACH].iter_mut().for_each(|v| *v *= scale);
        }
        let mut out = tensor(name, &[WIDTH as i64, 3 * EACH as i64], Stored::Raw);
        out.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        out
    };
    let mut weights = vec![weight("q", 0.7), weight("k", 0.7), weight("v", 0.7)];
    weights.push(tensor("o", &[3 * EACH as i64, WIDTH as i64], Stored::Raw));
    let integers = |name: &str, values: &[i64]| onnx_protobuf::TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..onnx_protobuf::TensorProto::default()
    };
    weights.extend([integers("heads", &[0, 0, 3, 4]), integers("whole", &[0, 0, 12])]);
    let mut nodes = vec![];
    for (name, order) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
        let [product, split, turned] = ["m", "s", "t"].map(|step| format!("{name}{step}"));
        nodes.push(node("MatMul", &product, &["x", name], &product));
        nodes.push(node("Reshape", &split, &[&product, "heads"], &split));
        nodes.push(turn(&split, &turned, &order));
    }
    nodes.extend([
        node("MatMul", "scores", &["qt", "kt"], "scores"),
        node("Softmax", "weights", &["scores"], "weights"),
        node("MatMul", "mix", &["weights", "vt"], "mix"),
        turn("mix", "back", &[0, 2, 1, 3]),
        node("Reshape", "rows", &["back", "whole"], "rows"),
        node("MatMul", "out", &["rows", "o"], "y"),
    ]);
    let file = File::of(&model(nodes, weights, &[1, 6, WIDTH as i64], "y"));
    let values = (0..64 * 6 * WIDTH).map(|_| rng.signed_f64() as f32).collect();
    let data = file.0.path().join("x.npy");
    npz::write(&data, &[("x".into(), Tensor::new(&[64, 6, WIDTH], values))]).expect("a file");
    let error = |method: &str| {
        let method = method.parse::<Method>().expect("a method");
        let request = Request { all: true, method, data: vec![data.clone()], ..channels(0.3) };
        let made = file.prune(&request).expect("it works");
        let size = |at: usize| match &made.report.entries[at].verdict {
            Verdict::Narrowed { is, output, .. } => ([is.inputs, is.outputs], output.map(|o| o.error)),
            other => panic!("{other:?}"),
        };
        assert!((0..3).all(|at| size(at).0 == [WIDTH, 2 * EACH]), "{:?}", made.report.entries);
        size(made.report.entries.len() - 1).1.expect("data tell")
    };
    let (fitted, by_size) = (error("obc"), error("l1"));
    assert!(fitted < 0.005 && by_size > 5.0 * fitted, "{fitted}, {by_size}");
}

fn turn(from: &str, to: &str, order: &[i64]) -> onnx_protobuf::NodeProto {
    let mut out = node("Transpose", to, &[from], to);
    out.attribute.push(onnx_protobuf::AttributeProto {
        name: "perm".into(),
        ints: order.to_vec(),
        type_: onnx_protobuf::attribute_proto::AttributeType::INTS.into(),
        ..onnx_protobuf::AttributeProto::default()
    });
    out
}

/// Units that are zero on every sample go before any that is not, whatever pulls weights to what they were.
#[test]
fn channels_that_never_change_go_first() {
    let mut rng = Rng::new(14);
    let mut of = |name: &str, dims: &[i64], value: &dyn Fn(usize, f32) -> f32| {
        let mut out = tensor(name, dims, Stored::Raw);
        let count = dims.iter().product::<i64>() as usize;
        let values = (0..count).map(|i| value(i, rng.signed_f64() as f32));
        out.raw_data = values.flat_map(|v| v.to_le_bytes()).collect();
        out
    };
    // Every second unit is far below zero; its weights behind are large.
    let weights = vec![
        of("w", &[6, 12], &|_, v| v),
        of("b", &[12], &|i, v| if i % 2 == 0 { -100.0 } else { v }),
        of("v", &[12, 4], &|i, v| if i / 4 % 2 == 0 { 9.0 * v } else { 0.1 * v }),
    ];
    let nodes = vec![
        node("MatMul", "a", &["x", "w"], "h"),
        node("Add", "s", &["h", "b"], "g"),
        node("Relu", "r", &["g"], "p"),
        node("MatMul", "c", &["p", "v"], "y"),
    ];
    let file = File::of(&model(nodes, weights, &[1, 6], "y"));
    let data = file.0.path().join("x.npy");
    let values = (0..256 * 6).map(|_| rng.signed_f64() as f32).collect();
    npz::write(&data, &[("x".into(), Tensor::new(&[256, 6], values))]).expect("a file");
    let method = "obc".parse().expect("a method");
    let request = Request { all: true, method, data: vec![data], ..channels(0.5) };
    let made = file.prune(&request).expect("it works");
    let Verdict::Narrowed { is, output, .. } = &made.report.entries[1].verdict else {
        panic!("{:?}", made.report.entries)
    };
    let error = output.expect("data tell").error;
    assert!(is.inputs == 6 && error < 1e-6, "{is:?}: {error}");
}

/// The option that gives an importer shapes is none of pruning.
#[test]
fn an_input_without_a_number_of_dims_is_refused() {
    let nodes = vec![
        node("MatMul", "one", &["x", "w"], "a"),
        node("Relu", "bend", &["a"], "h"),
        node("MatMul", "two", &["h", "v"], "y"),
    ];
    let weights = vec![tensor("w", &[64, 48], Stored::Raw), tensor("v", &[48, 40], Stored::Raw)];
    let mut open = model(nodes, weights, &[4, 64], "y");
    let input = &mut open.graph.mut_or_insert_default().input[0];
    if let Some(onnx_protobuf::type_proto::Value::TensorType(t)) =
        &mut input.type_.mut_or_insert_default().value
    {
        t.shape = None.into();
    }
    let file = File::of(&open);
    let told = file.prune(&Request { all: true, ..channels(0.5) }).map(|_| ()).expect_err("refused");
    assert_eq!(told.kind, egret::ErrorKind::Unsupported);
    let told = told.to_string();
    assert!(told.contains("how many dims its input `x` has") && !told.contains("--shape"), "{told}");
}
