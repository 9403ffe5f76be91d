//! Laws of quantisation.

mod kit;

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{Precision, Quantization, Reason, Report, Runtime, Verdict, quantize};
use kit::{File, Stored, fixture, floats, int, model, node, tensor};
use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto};
use std::path::Path;

fn to(precision: &str) -> Quantization {
    Quantization::new(precision.parse::<Precision>().expect("a precision"))
}

fn run(path: &Path, x: &Tensor) -> Vec<f32> {
    let graph = egret::source::graph(path, &Default::default()).expect("a graph");
    let run =
        Executable::new(graph, Engine::Interp, &Options::default(), &Default::default()).expect("it runs");
    let out = run.run(&[x.clone().into()]).expect("a run").remove(0);
    out.as_tensor().expect("a tensor").data::<f32>().to_vec()
}

fn random(shape: &[usize]) -> Tensor {
    let mut rng = Rng::new(7);
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
}

/// Relative error of the outputs of a model and its quantised copy.
fn error(file: &File, precision: &str, shape: &[usize]) -> f64 {
    let made = quantize(&file.path(), &to(precision)).expect("it works");
    let x = random(shape);
    let (want, got) = (run(&file.path(), &x), run(&File::new(&made.model).path(), &x));
    relative(&want, &got)
}

/// The norm of the difference, relative to that of what is wanted.
fn relative(want: &[f32], got: &[f32]) -> f64 {
    assert_eq!(want.len(), got.len());
    let square =
        |list: &mut dyn Iterator<Item = f32>| list.map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
    (square(&mut want.iter().zip(got).map(|(a, b)| a - b)) / square(&mut want.iter().copied())).sqrt()
}

/// What it is, its nodes, the dims of its weight, and the shape of the input.
type Case = (&'static str, Vec<NodeProto>, Vec<i64>, Vec<usize>);

/// A contraction as each operator writes it.
fn contractions() -> Vec<Case> {
    let one = |op: &str, inputs: &[&str]| vec![node(op, "layer", inputs, "y")];
    let with = |op: &str, name: &str, value: i64| {
        let mut nodes = one(op, &["x", "w"]);
        nodes[0].attribute.push(int(name, value));
        nodes
    };
    let mut turned = vec![node("Transpose", "turn", &["w"], "wt")];
    turned.extend(one("MatMul", &["x", "wt"]));
    vec![
        ("matmul", one("MatMul", &["x", "w"]), vec![48, 8], vec![3, 48]),
        ("left", one("MatMul", &["w", "x"]), vec![8, 48], vec![48, 3]),
        ("turned", turned, vec![8, 48], vec![3, 48]),
        ("batches", one("MatMul", &["x", "w"]), vec![2, 48, 8], vec![2, 3, 48]),
        ("vector", one("MatMul", &["x", "w"]), vec![96], vec![3, 96]),
        ("gemm", one("Gemm", &["x", "w"]), vec![48, 8], vec![3, 48]),
        ("transB", with("Gemm", "transB", 1), vec![8, 48], vec![3, 48]),
        ("conv", one("Conv", &["x", "w"]), vec![6, 48, 3, 3], vec![1, 48, 5, 5]),
        ("1x1", one("Conv", &["x", "w"]), vec![6, 48, 1, 1], vec![1, 48, 5, 5]),
        ("groups", with("Conv", "group", 2), vec![6, 32, 3, 3], vec![1, 64, 5, 5]),
        ("depthwise", with("Conv", "group", 16), vec![16, 1, 3, 3], vec![1, 16, 5, 5]),
        ("transposed", one("ConvTranspose", &["x", "w"]), vec![48, 6, 3, 3], vec![1, 48, 5, 5]),
        ("transposed groups", with("ConvTranspose", "group", 2), vec![64, 3, 3, 3], vec![1, 64, 5, 5]),
    ]
}

#[test]
fn every_contraction_keeps_its_outputs_within_the_precision() {
    for (what, nodes, dims, x) in contractions() {
        let shape: Vec<i64> = x.iter().map(|&d| d as i64).collect();
        for (stored, precision, most) in
            [(Stored::Raw, "w8", 0.01), (Stored::Raw, "w4:32", 0.12), (Stored::Floats, "w4:16", 0.12)]
        {
            let file = File::of(&model(nodes.clone(), vec![tensor("w", &dims, stored)], &shape, "y"));
            let error = error(&file, precision, &x);
            assert!(error < most, "{what} {precision}: an error of {error}");
        }
    }
}

/// With samples, what rounding changed is made up for: outputs are nearer, whatever the layout of the weight.
#[test]
fn samples_bring_the_outputs_nearer_to_the_original() {
    let mut whole = [0.0; 2];
    for (what, nodes, dims, x) in contractions() {
        let shape: Vec<i64> = x.iter().map(|&d| d as i64).collect();
        let file = File::of(&model(nodes, vec![tensor("w", &dims, Stored::Raw)], &shape, "y"));
        let data = file.0.path().join("x.npy");
        let samples = random(&[&[40], &x[..]].concat());
        npz::write(&data, &[("x".into(), samples.clone())]).expect("a file");
        let made =
            quantize(&file.path(), &Quantization { data: vec![data], ..to("w4:16") }).expect("it works");
        let Verdict::Quantised { form, output, .. } = &made.report.entries[0].verdict else {
            panic!("{what}: {:?}", made.report.entries)
        };
        assert_eq!(output.is_none(), form.contains("not done with data"), "{what}: {form}");
        let outputs = |path: &Path| -> Vec<f32> {
            let each = samples.data::<f32>().chunks(x.iter().product());
            each.flat_map(|c| run(path, &Tensor::new(&x, c.to_vec()))).collect()
        };
        let want = outputs(&file.path());
        let plain = quantize(&file.path(), &to("w4:16")).expect("it works");
        let [rounded, fitted] =
            [&plain, &made].map(|m| relative(&want, &outputs(&File::new(&m.model).path())));
        assert!(fitted < 1.001 * rounded, "{what}: {rounded} rounded, {fitted} fitted; {form}");
        whole[0] += rounded;
        whole[1] += fitted;
    }
    assert!(whole[1] < 0.9 * whole[0], "{whole:?}");
}

/// Weights that saturate nothing.
fn small(name: &str, dims: &[i64]) -> TensorProto {
    let mut out = tensor(name, dims, Stored::Raw);
    let part = |b: &[u8; 4]| (f32::from_le_bytes(*b) / 200.0).to_le_bytes();
    out.raw_data = out.raw_data.as_chunks().0.iter().flat_map(part).collect();
    out
}

#[test]
fn recurrent_weights_have_a_scale_per_gate_row() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let mut layer = node(op, "layer", &["x", "w", "r"], "y");
        layer.attribute.push(int("hidden_size", 32));
        let weights = ["w", "r"].map(|n| small(n, &[1, gates * 32, 32]));
        let file = File::of(&model(vec![layer], weights.to_vec(), &[4, 1, 32], "y"));
        for (precision, most) in [("w8", 0.02), ("w4", 0.2)] {
            let error = error(&file, precision, &[4, 1, 32]);
            assert!(error < most, "{op} {precision}: an error of {error}");
        }
    }
}

#[test]
fn every_contraction_has_a_verdict() {
    let nodes = vec![
        node("MatMul", "a", &["x", "w"], "h"),
        node("MatMul", "b", &["h", "shared"], "i"),
        node("MatMul", "c", &["i", "shared"], "j"),
        node("MatMul", "d", &["j", "i"], "k"),
        node("Einsum", "e", &["k", "w2"], "l"),
        node("MatMul", "f", &["l", "w3"], "m"),
        node("MatMul", "g", &["m", "tiny"], "y"),
    ];
    let mut weights = ["w", "shared", "w2", "w3"].map(|n| tensor(n, &[32, 32], Stored::Raw)).to_vec();
    weights.push(tensor("tiny", &[32, 1], Stored::Raw));
    let file = File::of(&model(nodes, weights, &[32, 32], "y"));
    let request = Quantization { skip: vec!["w3".into()], ..to("w8") };
    let report = quantize(&file.path(), &request).expect("it works").report;
    let verdicts: Vec<(&str, Option<Reason>)> = report
        .entries
        .iter()
        .map(|e| match e.verdict {
            Verdict::Left { reason, .. } => (e.name.as_str(), Some(reason)),
            _ => (e.name.as_str(), None),
        })
        .collect();
    let want = [
        ("a", None),
        ("b", Some(Reason::Shared)),
        ("c", Some(Reason::Shared)),
        ("d", Some(Reason::NoConstant)),
        ("e", Some(Reason::NotDone)),
        ("f", Some(Reason::Skipped)),
        ("g", Some(Reason::TooSmall)),
    ];
    assert_eq!(verdicts, want);
}

/// Opset 11 writes axes as attributes, and its softmax joins axes.
#[test]
fn an_older_opset_is_raised_and_means_the_same() {
    let ints = |name: &str, list: &[i64]| onnx_protobuf::AttributeProto {
        name: name.into(),
        ints: list.to_vec(),
        type_: onnx_protobuf::attribute_proto::AttributeType::INTS.into(),
        ..Default::default()
    };
    let with = |op: &str, x: &str, y: &str, a: onnx_protobuf::AttributeProto| NodeProto {
        attribute: vec![a],
        ..node(op, y, &[x], y)
    };
    let mut halves = node("Split", "split", &["n"], "o");
    halves.output.push("p".into());
    halves.attribute.push(int("axis", 2));
    let mut nodes = vec![
        node("MatMul", "layer", &["x", "w"], "h"),
        with("Unsqueeze", "h", "i", ints("axes", &[0])),
        with("Softmax", "i", "j", int("axis", 1)),
        with("ReduceMean", "j", "k", ints("axes", &[0])),
        with("Unsqueeze", "k", "l", ints("axes", &[0])),
        with("ReduceSum", "l", "m", ints("axes", &[0])),
        with("Squeeze", "m", "n", ints("axes", &[0])),
        halves,
        node("Sub", "last", &["o", "p"], "y"),
    ];
    nodes[5].attribute.push(int("keepdims", 1));
    let mut old = model(nodes, vec![small("w", &[48, 8])], &[3, 48], "y");
    old.opset_import[0].version = 11;
    old.ir_version = 6;
    for (precision, opset, most) in [("w8", 13, 0.1), ("w4:32", 21, 0.7)] {
        let file = File::of(&old);
        let made = quantize(&file.path(), &to(precision)).expect("it works");
        assert!(made.report.what.contains(&format!("opset 11 raised to {opset}")), "{}", made.report.what);
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        assert_eq!(now.opset_import[0].version, opset);
        assert!(error(&file, precision, &[3, 48]) < most);
    }
    old.opset_import[0].version = 9;
    let told = quantize(&File::of(&old).path(), &to("w8")).map(|_| ()).expect_err("too old").to_string();
    assert!(told.contains("version_converter"), "{told}");
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    for precision in ["w8", "w4:32"] {
        let made = || quantize(&fixture("models/simple_cnn.onnx"), &to(precision)).expect("it works");
        assert!(made().model == made().model);
    }
}

#[test]
fn what_cannot_be_quantised_ends_with_the_reason_and_code_3() {
    let refused = |file: &File, request: &Quantization, code: u8, parts: &[&str]| {
        let error = quantize(&file.path(), request).map(|_| ()).expect_err("refused");
        assert_eq!(error.kind.exit_code(), code, "{error}");
        parts.iter().for_each(|p| assert!(error.to_string().contains(p), "no `{p}` in {error}"));
    };
    let of = |nodes: Vec<NodeProto>, dims: &[i64]| {
        File::of(&model(nodes, vec![tensor("w", dims, Stored::Raw)], &[4, 4], "y"))
    };
    let product = || vec![node("MatMul", "layer", &["x", "w"], "y")];
    refused(&of(vec![node("Add", "sum", &["x", "w"], "y")], &[4, 4]), &to("w8"), 3, &["contracts nothing"]);
    refused(&of(product(), &[4, 4]), &to("w8"), 3, &["nothing to quantise", "layer", "16 weights"]);
    refused(
        &of(product(), &[1, 64]),
        &to("w8"),
        3,
        &["integers and scales take 384 bytes, the weights 256"],
    );
    let large = of(product(), &[2, 64]);
    refused(
        &large,
        &Quantization { skip: vec!["leyer".into()], ..to("w8") },
        1,
        &["--skip", "near it: layer"],
    );
    refused(&large, &to("w4:32"), 3, &["nothing is won"]);
    for (text, part) in [("w4:31", "power of two"), ("w4:8", "from 16"), ("int3", "write w8")] {
        assert!(text.parse::<Precision>().expect_err("refused").to_string().contains(part), "{text}");
    }
}

/// Bytes stand before contractions; what moves them keeps their scale, and activation functions work on floats.
#[test]
fn inputs_become_bytes_where_contractions_read_them() {
    let mut moved = node("Transpose", "moved", &["h"], "i");
    moved.attribute.push(onnx_protobuf::AttributeProto {
        name: "perm".into(),
        ints: vec![1, 0],
        type_: onnx_protobuf::attribute_proto::AttributeType::INTS.into(),
        ..Default::default()
    });
    let nodes = vec![
        node("MatMul", "first", &["x", "w"], "g"),
        node("Relu", "relu", &["g"], "h"),
        moved,
        node("MatMul", "both", &["i", "h"], "j"),
        node("Tanh", "tanh", &["j"], "k"),
        node("MatMul", "last", &["k", "v"], "y"),
    ];
    let weights = ["w", "v"].map(|n| small(n, &[32, 32])).to_vec();
    let file = File::of(&model(nodes, weights, &[32, 32], "y"));
    let data = file.0.path().join("x.npy");
    npz::write(&data, &[("x".into(), random(&[3, 32, 32]))]).expect("a file");
    let request = Quantization { data: vec![data], ..to("int8") };
    let made = quantize(&file.path(), &request).expect("it works");
    assert_eq!(made.report.quantised(), 3);
    let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
    let quantised: Vec<&str> = now
        .graph
        .node
        .iter()
        .filter(|n| n.op_type == "QuantizeLinear")
        .map(|n| n.input[0].as_str())
        .collect();
    assert_eq!(quantised, ["x", "h", "i", "k"]);
    let range = |name: &str| made.report.ranges.iter().find(|r| r.name == name).expect("a range").clone();
    assert_eq!((range("h").low, range("h").high), (range("i").low, range("i").high));
    assert_eq!(range("h").low, 0.0);
    let x = random(&[32, 32]);
    let (want, got) = (run(&file.path(), &x), run(&File::new(&made.model).path(), &x));
    let error = relative(&want, &got);
    assert!(error < 0.05, "{error}");
    assert!(quantize(&file.path(), &request).expect("it works").model == made.model, "the same bytes");
    let told = |r: &Quantization| quantize(&file.path(), r).map(|_| ()).expect_err("refused").to_string();
    assert!(told(&to("int8")).contains("--data"));
}

/// Samples are finite, and so must be what the model makes of them, or there are no ranges.
#[test]
fn layers_that_read_no_finite_number_have_no_range() {
    let nodes = vec![node("Sqrt", "root", &["x"], "r"), node("MatMul", "product", &["r", "w"], "y")];
    let file = File::of(&model(nodes, vec![tensor("w", &[32, 16], Stored::Raw)], &[32, 32], "y"));
    let told = |number: f32| {
        let data = file.0.path().join("data.npy");
        let x = Tensor::new(&[3, 32, 32], vec![number; 3 * 32 * 32]);
        npz::write(&data, &[("x".into(), x)]).expect("a file");
        let request = Quantization { data: vec![data], ..to("int8") };
        quantize(&file.path(), &request).map(|_| ()).expect_err("refused").to_string()
    };
    let (negative, nan) = (told(-1.0), told(f32::NAN));
    assert!(
        negative.contains("`r` and all other inputs of contractions hold what is no finite"),
        "{negative}"
    );
    assert!(nan.contains("sample 0 holds NaN"), "{nan}");
}

/// A normalisation behind a convolution is folded if nothing else reads what is between, and the outputs stay.
#[test]
fn normalisations_are_folded_into_convolutions() {
    let mut variance = small("v", &[32]);
    let positive = |b: &[u8; 4]| (f32::from_le_bytes(*b).abs() + 0.1).to_le_bytes();
    variance.raw_data = variance.raw_data.as_chunks().0.iter().flat_map(positive).collect();
    let norm = |x: &str, y: &str| node("BatchNormalization", y, &[x, "s", "m", "m", "v"], y);
    let with = |op: &str, inputs: &[&str], y: &str| {
        let mut out = node(op, y, inputs, y);
        out.attribute.push(int("group", 2));
        out
    };
    let of = |last: &str| {
        let nodes = vec![
            with("Conv", &["x", "w", "b"], "c"),
            norm("c", "d"),
            node("Relu", "relu", &["d"], "e"),
            with("ConvTranspose", &["e", "t"], "f"),
            norm("f", "g"),
            node("Add", "sum", &["g", last], "y"),
        ];
        let mut constants =
            vec![small("w", &[32, 16, 1, 3]), small("t", &[32, 16, 1, 3]), variance.clone()];
        constants.extend(["s", "m", "b"].map(|n| small(n, &[32])));
        File::of(&model(nodes, constants, &[1, 32, 5, 5], "y"))
    };
    for (last, skip, kept) in [("g", None, 0), ("f", None, 1), ("g", Some("w"), 1)] {
        let file = of(last);
        let data = file.0.path().join("x.npy");
        npz::write(&data, &[("x".into(), random(&[2, 32, 5, 5]))]).expect("a file");
        let request = Quantization {
            data: vec![data],
            skip: skip.map(String::from).into_iter().collect(),
            ..to("int8")
        };
        let made = quantize(&file.path(), &request).expect("it works");
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        let left = now.graph.node.iter().filter(|n| n.op_type == "BatchNormalization").count();
        assert_eq!(left, kept, "{last} {skip:?}");
        let x = random(&[1, 32, 5, 5]);
        let (want, got) = (run(&file.path(), &x), run(&File::new(&made.model).path(), &x));
        let error = relative(&want, &got);
        assert!(error < 0.02, "{last} {skip:?}: an error of {error}");
    }
}

/// How many of the committed digits a network gets right; it takes one at a time.
fn digits(model: &Path) -> usize {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let labels = npz::read_npy(&fixture("digits/labels.npy")).expect("labels").to_i64s().expect("integers");
    let graph = egret::source::graph(model, &Default::default()).expect("a graph");
    let run = Executable::new(graph, Engine::Jit, &Options::default(), &Default::default()).expect("code");
    let best =
        |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("classes") as i64;
    let right = |(image, label): (&[f32], &i64)| {
        let image = Value::from(Tensor::new(&[1, 1, 28, 28], image.to_vec()));
        let out = run.run(&[image]).expect("a run").remove(0);
        best(out.as_tensor().expect("a tensor").data()) == *label
    };
    images.data::<f32>().chunks(28 * 28).zip(&labels).filter(|d| right(*d)).count()
}

#[test]
fn integers_keep_the_digits() {
    let path = fixture("models/simple_cnn.onnx");
    let dense = digits(&path);
    assert!(dense > 970, "{dense}");
    for (precision, lost, smaller) in [("w8", 2, 0.3), ("w4:32", 10, 0.27)] {
        let made = quantize(&path, &to(precision)).expect("it works");
        assert_eq!(made.report.quantised(), 4);
        let part = made.report.bytes as f64 / made.report.bytes_before as f64;
        assert!(part < smaller, "{precision}: {part} of the bytes");
        let now = digits(&File::new(&made.model).path());
        assert!(now + lost >= dense, "{precision}: {dense} before, {now} now");
    }
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("images.npy");
    let some = images.data::<f32>().chunks(784).step_by(20).flatten().copied().collect();
    npz::write(&data, &[("image".into(), Tensor::new(&[50, 1, 28, 28], some))]).expect("a file");
    for (precision, lost) in [("int8", 3), ("w4:32", 4), ("w8", 2)] {
        let made = || {
            quantize(&path, &Quantization { data: vec![data.clone()], ..to(precision) }).expect("it works")
        };
        let model = made().model;
        assert!(made().model == model, "{precision}: the same bytes");
        let now = digits(&File::new(&model).path());
        assert!(now + lost >= dense, "{precision}: {dense} before, {now} now");
    }
}

/// A channel of a hundred times the range of the others leaves them a hundredth of the codes, unless its factor moves into the weights.
#[test]
fn smoothing_gives_small_channels_their_codes() {
    const WIDTH: usize = 64;
    let mut rng = Rng::new(3);
    let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.signed_f64() as f32).collect() };
    let mut scale = vec![1.0; WIDTH];
    scale[2] = 100.0;
    let mut weight = random(WIDTH * WIDTH);
    weight[2 * WIDTH..3 * WIDTH].iter_mut().for_each(|w| *w /= 100.0);
    let nodes = vec![
        node("LayerNormalization", "norm", &["x", "scale"], "t"),
        node("MatMul", "layer", &["t", "w"], "y"),
    ];
    let square = [WIDTH as i64; 2];
    let weights = vec![floats("scale", &square[..1], scale), floats("w", &square, weight)];
    let file = File::of(&model(nodes, weights, &[1, WIDTH as i64], "y"));
    let data = file.0.path().join("x.npy");
    let samples = Tensor::new(&[256, WIDTH], random(256 * WIDTH));
    npz::write(&data, &[("x".into(), samples)]).expect("a file");
    let x = Tensor::new(&[1, WIDTH], random(WIDTH));
    let want = run(&file.path(), &x);
    let error = |smooth: bool| {
        let request = Quantization { data: vec![data.clone()], smooth, ..to("int8") };
        let [made, again] = [(); 2].map(|()| quantize(&file.path(), &request).expect("it works"));
        assert!(made.model == again.model, "other bytes");
        assert_eq!(made.report.what.contains("the inputs of 1 layers smoothed"), smooth);
        let copy = File::new(&made.model);
        let got = run(&copy.path(), &x);
        let square = |list: Vec<f32>| list.iter().map(|v| v * v).sum::<f32>();
        square(want.iter().zip(&got).map(|(a, b)| a - b).collect()) / square(want.clone())
    };
    let (plain, smoothed) = (error(false), error(true));
    assert!(smoothed < plain / 20.0, "{smoothed}, and {plain} without");
    let refused =
        quantize(&file.path(), &Quantization { smooth: true, ..to("w8") }).err().expect("an error");
    assert!(refused.to_string().contains("--smooth goes with"), "{refused}");
}

/// What it is, its nodes and constants, and the shape of a sample.
type OneSided = (&'static str, Vec<NodeProto>, Vec<TensorProto>, Vec<usize>);

/// Layers of inputs that are never negative, in which rounding errors of the weights have a mean; their kinds, and the shape of a sample.
fn one_sided() -> Vec<OneSided> {
    let mut depthwise = node("Conv", "layer", &["x", "w", "b"], "y");
    depthwise.attribute.push(int("group", 64));
    let product = vec![node("MatMul", "layer", &["x", "w"], "p"), node("Add", "sum", &["p", "b"], "y")];
    vec![
        (
            "depthwise",
            vec![depthwise],
            vec![small("w", &[64, 1, 3, 3]), small("b", &[64])],
            vec![1, 64, 6, 6],
        ),
        (
            "rows",
            vec![node("Gemm", "layer", &["x", "w", "b"], "y")],
            vec![small("w", &[64, 64]), small("b", &[64])],
            vec![1, 64],
        ),
        ("product", product, vec![small("w", &[64, 64]), small("b", &[64])], vec![1, 64]),
    ]
}

/// Whether a sample is held back when means are put right.
fn held(number: usize) -> bool {
    number % 4 == Rng::new(number as u64 / 4).below(4)
}

/// A mean that rounding moves is put back, and is not where it moves the other way on samples that are held back.
#[test]
fn means_are_put_right_where_held_back_samples_gain() {
    for (name, nodes, weights, shape) in one_sided() {
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let file = File::of(&model(nodes, weights, &dims, "y"));
        let size: usize = shape.iter().product();
        let mut rng = Rng::new(11);
        let mut sample = |sign: f32| -> Vec<f32> {
            (0..size).map(|_| sign * (0.5 + 0.5 * rng.signed_f64().abs() as f32)).collect()
        };
        let others: Vec<Tensor> = (0..32).map(|_| Tensor::new(&shape, sample(1.0))).collect();
        // The norm of the mean of what a copy changes in the outputs of other samples.
        let moved = |copy: &File| -> f32 {
            let mut sum = vec![];
            for x in &others {
                let (want, got) = (run(&file.path(), x), run(&copy.path(), x));
                sum.resize(want.len(), 0.0);
                sum.iter_mut().zip(got.iter().zip(&want)).for_each(|(s, (a, b))| *s += a - b);
            }
            sum.iter().map(|s| s * s).sum::<f32>().sqrt()
        };
        for runtime in ["egret", "ort"].map(|name| name.parse::<Runtime>().expect("a runtime")) {
            let mut copy = |count: usize, sign: &dyn Fn(usize) -> f32| {
                let data = file.0.path().join("x.npy");
                let all: Vec<f32> = (0..count).flat_map(|i| sample(sign(i))).collect();
                let mut dims = shape.clone();
                dims[0] = count;
                npz::write(&data, &[("x".into(), Tensor::new(&dims, all))]).expect("a file");
                let request = Quantization { data: vec![data], runtime: runtime.clone(), ..to("int8") };
                let made = quantize(&file.path(), &request).expect("it works");
                (moved(&File::new(&made.model)), made.report)
            };
            let (plain, report) = copy(3, &|_| 1.0);
            assert!(report.what.ends_with("means stay: there are fewer than 4 samples"), "{}", report.what);
            let (right, report) = copy(64, &|_| 1.0);
            assert!(report.what.contains("means of 1 layers put right"), "{name}: {}", report.what);
            assert!(right < 0.5 * plain, "{name} for {runtime}: {right}, {plain} without");
            let form = |r: &Report| match &r.entries[0].verdict {
                Verdict::Quantised { form, .. } => form.clone(),
                other => panic!("{other:?}"),
            };
            assert!(form(&report).contains("mean put right"), "{}", form(&report));
            let (_, report) = copy(64, &|i| if held(i) { -1.0 } else { 1.0 });
            let why = "means stay: held-back samples have other means";
            assert!(report.what.contains(why), "{name} for {runtime}: {}", report.what);
            assert!(!form(&report).contains("mean"));
        }
    }
}

/// Layers without a bias have no place for a mean, and the report says so.
#[test]
fn means_stay_where_no_layer_has_a_bias() {
    let nodes = vec![node("Gemm", "layer", &["x", "w"], "y")];
    let file = File::of(&model(nodes, vec![small("w", &[64, 64])], &[1, 64], "y"));
    let data = file.0.path().join("x.npy");
    npz::write(&data, &[("x".into(), random(&[16, 64]))]).expect("a file");
    let made = quantize(&file.path(), &Quantization { data: vec![data], ..to("int8") }).expect("it works");
    assert!(made.report.what.ends_with("means stay: no layer has a bias"), "{}", made.report.what);
}
