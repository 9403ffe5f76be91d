//! Where quantised values stand, for each runtime that a copy can be for.

mod kit;

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{Compressed, Precision, Quantization, Runtime, Verdict, quantize};
use kit::{File, Stored, fixture, floats, int, model, node, tensor};
use onnx_protobuf::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto};
use std::path::{Path, PathBuf};

/// The shape of the network's input.
const SHAPE: [usize; 4] = [1, 16, 6, 6];

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(seed);
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
}

/// Weights that keep the size of what they multiply.
fn small(name: &str, dims: &[i64], by: f32) -> TensorProto {
    let mut out = tensor(name, dims, Stored::Raw);
    let part = |b: &[u8; 4]| (f32::from_le_bytes(*b) * by).to_le_bytes();
    out.raw_data = out.raw_data.as_chunks().0.iter().flat_map(part).collect();
    out
}

/// A network with what runtimes differ in: clamps, a residual sum, a concatenation of layers, means, and a classifier.
fn network() -> ModelProto {
    let with = |mut node: NodeProto, attribute: AttributeProto| {
        node.attribute.push(attribute);
        node
    };
    let nodes = vec![
        node("Conv", "stem", &["x", "w0", "b0"], "c0"),
        node("Clip", "clip", &["c0", "zero", "six"], "s"),
        node("Conv", "project", &["s", "w1", "b1"], "p"),
        node("Add", "sum", &["s", "p"], "r"),
        node("Relu", "relu", &["r"], "t"),
        node("Conv", "left", &["t", "w2", "b2"], "l"),
        node("Conv", "right", &["t", "w3"], "m"),
        with(node("Concat", "join", &["l", "m"], "j"), int("axis", 1)),
        node("Conv", "mix", &["j", "w4", "b4"], "n"),
        node("HardSwish", "swish", &["n"], "h"),
        node("GlobalAveragePool", "mean", &["h"], "g"),
        node("Flatten", "flat", &["g"], "f"),
        node("Gemm", "classes", &["f", "w5", "b5"], "y"),
    ];
    let scalar = |name: &str, v: f32| TensorProto {
        name: name.into(),
        data_type: 1,
        raw_data: v.to_le_bytes().to_vec(),
        ..TensorProto::default()
    };
    let square = |name: &str, outputs: i64, inputs: i64| small(name, &[outputs, inputs, 1, 1], 0.01);
    let mut weights = vec![
        square("w0", 16, 16),
        square("w1", 16, 16),
        square("w2", 16, 16),
        square("w3", 16, 16),
        small("w4", &[32, 32, 1, 1], 0.1),
        small("w5", &[32, 8], 0.01),
    ];
    let biases = [("b0", 16), ("b1", 16), ("b2", 16), ("b4", 32), ("b5", 8)];
    weights.extend(biases.map(|(n, count)| small(n, &[count], 0.02)));
    weights.extend([scalar("zero", 0.0), scalar("six", 6.0)]);
    model(nodes, weights, &SHAPE.map(|d| d as i64), "y")
}

/// Samples of a shape in a file beside a model.
fn samples(dir: &Path, name: &str, shape: &[usize]) -> PathBuf {
    let path = dir.join("samples.npy");
    npz::write(&path, &[(name.into(), random(&[&[8], shape].concat(), 5))]).expect("a file");
    path
}

fn made(path: &Path, data: &Path, runtime: &Runtime) -> Compressed {
    let request = Quantization {
        data: vec![data.to_owned()],
        runtime: runtime.clone(),
        ..Quantization::new(Precision::Static8)
    };
    quantize(path, &request).expect("it works")
}

fn runtime(name: &str) -> Runtime {
    name.parse().expect("a runtime")
}

fn network_for(runtime: &Runtime) -> (Compressed, GraphProto) {
    let file = File::of(&network());
    let data = samples(file.0.path(), "x", &SHAPE);
    let made = made(&file.path(), &data, runtime);
    let graph = ModelProto::parse_from_bytes(&made.model).expect("a model").graph.unwrap_or_default();
    (made, graph)
}

fn run(path: &Path, engine: Engine, x: &Tensor) -> Vec<f32> {
    let graph = egret::source::graph(path, &Default::default()).expect("a graph");
    let run = Executable::new(graph, engine, &Options::default(), &Default::default()).expect("it runs");
    let out = run.run(&[Value::from(x.clone())]).expect("a run").remove(0);
    out.as_tensor().expect("a tensor").data::<f32>().to_vec()
}

/// The values that are made bytes, in the order of the graph.
fn quantised(graph: &GraphProto) -> Vec<&str> {
    let nodes = graph.node.iter().filter(|n| n.op_type == "QuantizeLinear");
    nodes.map(|n| n.input[0].as_str()).collect()
}

/// The operator that makes a value.
fn maker<'a>(graph: &'a GraphProto, value: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|n| n.output.iter().any(|o| o == value))
}

/// Which inputs of a node are made floats of bytes right before it.
fn reads_bytes(graph: &GraphProto, name: &str) -> Vec<bool> {
    let node = graph.node.iter().find(|n| n.name == name).expect("the node");
    let of = |i: &String| maker(graph, i).is_some_and(|n| n.op_type == "DequantizeLinear");
    node.input.iter().map(of).collect()
}

#[test]
fn outputs_of_every_copy_are_near_those_of_the_original_on_both_engines() {
    let file = File::of(&network());
    let data = samples(file.0.path(), "x", &SHAPE);
    let dir = tempfile::tempdir().expect("a folder");
    let images = samples(dir.path(), "image", &[1, 28, 28]);
    let cases = [
        (file.path(), &data, SHAPE.to_vec()),
        (fixture("models/simple_cnn.onnx"), &images, vec![1, 1, 28, 28]),
        (fixture("models/parallel_cnn.onnx"), &images, vec![1, 1, 28, 28]),
    ];
    for (path, data, shape) in cases {
        let x = random(&shape, 3);
        let want = run(&path, Engine::Interp, &x);
        let most = want.iter().fold(0.0, |m, v| f32::max(m, v.abs()));
        for runtime in Runtime::all() {
            let made = made(&path, data, runtime);
            let copy = File::new(&made.model);
            let [plain, jit] = [Engine::Interp, Engine::Jit].map(|e| run(&copy.path(), e, &x));
            let off =
                |got: &[f32]| want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / most;
            let (plain, jit) = (off(&plain), off(&jit));
            assert!(plain < 0.05 && jit < 0.05, "{runtime} {}: {plain} {jit}", path.display());
        }
    }
}

/// The form of the copy for Egret is not another one than without `--for`.
#[test]
fn the_copy_for_egret_keeps_its_form() {
    let (_, graph) = network_for(&runtime("egret"));
    assert_eq!(quantised(&graph), ["x", "s", "t", "j", "g", "f"]);
    assert_eq!(reads_bytes(&graph, "sum"), [true, false]);
    assert!(maker(&graph, "b0").is_none() && graph.node.iter().any(|n| n.op_type == "Clip"));
}

/// ONNX Runtime takes an operator for one of integers if every input is dequantised for it alone, its result is quantised, and nothing
/// else reads the result.
#[test]
fn units_of_onnx_runtime_are_whole() {
    let (made, graph) = network_for(&runtime("ort"));
    // The clamps are the ranges of the bytes.
    assert!(graph.node.iter().all(|n| n.op_type != "Clip" && n.op_type != "Relu"));
    assert!(graph.initializer.iter().all(|t| t.name != "six"), "bounds that nothing reads");
    for name in ["stem", "project", "left", "right", "mix", "sum", "join", "mean"] {
        assert!(reads_bytes(&graph, name).iter().all(|b| *b), "{name}");
        let node = graph.node.iter().find(|n| n.name == name).expect("the node");
        let readers: Vec<&str> = (graph.node.iter())
            .filter(|n| n.input.contains(&node.output[0]))
            .map(|n| n.op_type.as_str())
            .collect();
        assert_eq!(readers, ["QuantizeLinear"], "{name}");
    }
    // A classifier gives floats.
    assert_eq!(reads_bytes(&graph, "classes"), [true; 3]);
    assert!(!quantised(&graph).contains(&"y"));
    for node in graph.node.iter().filter(|n| n.op_type == "DequantizeLinear") {
        let readers = graph.node.iter().flat_map(|n| &n.input).filter(|i| **i == node.output[0]).count();
        assert_eq!(readers, 1, "{}", node.output[0]);
    }
    let bias = maker(&graph, "b0").expect("a bias of integers");
    let find = |name: &str| graph.initializer.iter().find(|t| t.name == name).expect("a tensor");
    assert_eq!((find(&bias.input[0]).data_type, find(&bias.input[2]).data_type), (6, 6));
    let floats = |name: &str| -> Vec<f32> {
        find(name).raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let stem = graph.node.iter().find(|n| n.name == "stem").expect("the node");
    let scale = |slot: usize| floats(&maker(&graph, &stem.input[slot]).expect("it").input[1]);
    let products: Vec<f32> = scale(1).iter().map(|w| w * scale(0)[0]).collect();
    assert_eq!(scale(2), products);
    // Codes for what HardSwish makes zeros of would be wasted.
    let range = made.report.ranges.iter().find(|r| r.name == "n").expect("a range");
    assert!((range.low + 3.0).abs() < 0.1 && range.high > 3.0, "{range:?}");
    let why = |value: &str| made.report.quantisers.iter().find(|q| q.value == value).expect("a reason");
    assert!(why("p").placed && why("p").why.contains("QLinear"), "{:?}", why("p"));
    assert!(!why("y").placed && why("y").why.contains("output of the model"), "{:?}", why("y"));
}

/// A bias far beyond its weights would be no `int32` with the scale of their products.
#[test]
fn weights_make_room_for_a_great_bias() {
    let weights = vec![small("w", &[8, 16, 3, 3], 1e-9), small("b", &[8], 0.02)];
    let nodes = vec![node("Conv", "first", &["x", "w", "b"], "c"), node("Sigmoid", "s", &["c"], "y")];
    let file = File::of(&model(nodes, weights, &SHAPE.map(|d| d as i64), "y"));
    let data = samples(file.0.path(), "x", &SHAPE);
    let copy = File::new(&made(&file.path(), &data, &runtime("ort")).model);
    let x = random(&SHAPE, 3);
    let (want, got) = (run(&file.path(), Engine::Interp, &x), run(&copy.path(), Engine::Interp, &x));
    want.iter().zip(&got).for_each(|(a, b)| assert!((a - b).abs() < 0.01, "{a} {b}"));
}

/// One side of a sum stays in floats, operands of a concatenation have one scale, and clamps stay.
#[test]
fn sums_of_openvino_and_tensorrt_have_one_side_of_bytes() {
    for runtime in [runtime("openvino"), runtime("tensorrt")] {
        let (made, graph) = network_for(&runtime);
        assert_eq!(reads_bytes(&graph, "sum"), [true, false], "{runtime}");
        assert_eq!(reads_bytes(&graph, "join"), [true, true], "{runtime}");
        let range = |name: &str| {
            let of = made.report.ranges.iter().find(|r| r.name == name).expect("a range");
            (of.low, of.high)
        };
        assert_eq!(range("l"), range("j"));
        assert_eq!(range("m"), range("j"));
        assert!(graph.node.iter().any(|n| n.op_type == "Clip"));
        assert!(maker(&graph, "b0").is_none(), "biases are floats");
        let why = made.report.quantisers.iter().find(|q| q.value == "p").expect("a reason");
        assert!(!why.placed && why.why.contains("summed"), "{why:?}");
    }
}

/// A sum of two layers: the one that is made first becomes bytes.
#[test]
fn a_sum_of_two_layers_keeps_the_last_in_floats() {
    let nodes = vec![
        node("Conv", "a", &["x", "u"], "p"),
        node("Conv", "b", &["x", "v"], "q"),
        node("Add", "sum", &["q", "p"], "r"),
        node("Conv", "c", &["r", "w"], "y"),
    ];
    let weights = ["u", "v", "w"].map(|n| small(n, &[16, 16, 1, 1], 0.01)).to_vec();
    let file = File::of(&model(nodes, weights, &SHAPE.map(|d| d as i64), "y"));
    let data = samples(file.0.path(), "x", &SHAPE);
    for (runtime, want) in [
        (runtime("egret"), [false, false]),
        (runtime("openvino"), [false, true]),
        (runtime("ort"), [true, true]),
    ] {
        let made = made(&file.path(), &data, &runtime);
        let now = ModelProto::parse_from_bytes(&made.model).expect("a model");
        assert_eq!(reads_bytes(&now.graph, "sum"), want, "{runtime}");
    }
}

/// TensorRT takes bytes with a sign and the zero point 0, one scale for an activation and one per output for weights.
#[test]
fn bytes_of_tensorrt_are_symmetric() {
    let (_, graph) = network_for(&runtime("tensorrt"));
    let find = |name: &str| graph.initializer.iter().find(|t| t.name == name).expect("a tensor");
    let mut seen = 0;
    for node in &graph.node {
        if ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str()) {
            let zero = find(&node.input[2]);
            assert!(zero.data_type == 3 && zero.raw_data.iter().all(|b| *b == 0), "{}", node.name);
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
    let weights = maker(&graph, "w5").expect("its node");
    assert_eq!(weights.attribute.iter().map(|a| (a.name.as_str(), a.i)).collect::<Vec<_>>(), [("axis", 1)]);
    assert_eq!(find(&weights.input[1]).dims, [8]);
}

/// A user's own file says where bytes stand as Egret's own do.
#[test]
fn a_file_of_a_user_places_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("convolutions.toml");
    let text = "title = 'convolutions alone'\ncodes = 'uint8'\nbiases = 'floats'\nclamps = 'stay'\nreaders = 'rows'\n\
                [[row]]\nops = ['Conv']\ndoes = 'multiplies'\nwhy = 'a unit of bytes'\n";
    std::fs::write(&path, text).expect("a file");
    let (made, graph) = network_for(&runtime(&path.to_string_lossy()));
    assert_eq!(quantised(&graph), ["x", "s", "t", "j"]);
    assert!(made.report.what.contains("for convolutions"), "{}", made.report.what);
    let why = made.report.quantisers.iter().find(|q| q.value == "j").expect("a reason");
    assert!(why.placed && why.why.contains("a unit of bytes"), "{why:?}");
}

/// Movers behind each other to the end of the model are followed once each: a walk from every one of them would take minutes.
#[test]
fn a_long_way_to_the_end_is_walked_once() {
    const COUNT: usize = 20_000;
    let mut nodes = vec![node("Conv", "first", &["x", "w"], "v0")];
    nodes.extend((0..COUNT).map(|i| {
        let to = if i + 1 == COUNT { "y".to_owned() } else { format!("v{}", i + 1) };
        node("Identity", &format!("n{i}"), &[&format!("v{i}")], &to)
    }));
    let weights = vec![small("w", &[64, 16, 3, 3], 0.01)];
    let file = File::of(&model(nodes, weights, &SHAPE.map(|d| d as i64), "y"));
    let data = samples(file.0.path(), "x", &SHAPE);
    let made = made(&file.path(), &data, &runtime("ort"));
    let why = made.report.quantisers.iter().find(|q| q.value == "v0").expect("a reason");
    assert!(!why.placed && why.why.contains("leads to an output of the model alone"), "{why:?}");
}

/// A depthwise convolution between two others, whose input has channels of very different sizes, and with `both` one of the others reads
/// that input too.
fn depthwise(both: bool) -> ModelProto {
    let mut dw = node("Conv", "dw", &["s", "w1"], "d");
    dw.attribute.push(int("group", 16));
    let (reads, kernel) = if both { ("s", 3) } else { ("d", 1) };
    let nodes = vec![
        node("Conv", "expand", &["x", "w0", "b0"], "c"),
        node("Relu", "relu", &["c"], "s"),
        dw,
        node("Conv", "project", &["d", "w2"], "y0"),
        node("Conv", "other", &[reads, "w3"], "y1"),
        node("Add", "sum", &["y0", "y1"], "y"),
    ];
    let expand = (0..256).map(|i| 2f32.powi(-(i / 32)) * ((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
    let back = (0..144).map(|i| 2f32.powi(i / 18) * ((i * 29 % 31) as f32 / 30.0 - 0.4)).collect();
    let weights = vec![
        floats("w0", &[16, 16, 1, 1], expand),
        small("b0", &[16], 1e-4),
        floats("w1", &[16, 1, 3, 3], back),
        small("w2", &[256, 16, 1, 1], 0.001),
        small("w3", &[256, 16, kernel, kernel], 0.0001),
    ];
    model(nodes, weights, &SHAPE.map(|d| d as i64), "y")
}

/// Inputs of depthwise layers have a scale for each channel where the runtime takes it, and other layers do not read them.
#[test]
fn inputs_of_depthwise_layers_have_a_scale_for_each_channel() {
    let lost = |both: bool, runtime: &Runtime| {
        let file = File::of(&depthwise(both));
        let data = samples(file.0.path(), "x", &SHAPE);
        let made = made(&file.path(), &data, runtime);
        let graph = ModelProto::parse_from_bytes(&made.model).expect("a model").graph.unwrap_or_default();
        let by_channel = runtime.name() == "egret" && !both;
        let find = |name: &str| graph.initializer.iter().find(|t| t.name == name).expect("a tensor");
        let read = graph.node.iter().find(|n| n.name == "dw").expect("the layer").input[0].clone();
        let [from, to] = [maker(&graph, &read), graph.node.iter().find(|n| n.input[0] == "s")]
            .map(|n| n.expect("a node"));
        for (at, node) in [from, to].into_iter().enumerate() {
            let dims: &[i64] = if by_channel { &[16] } else { &[] };
            assert_eq!(
                (&find(&node.input[1]).dims[..], &find(&node.input[2]).dims[..]),
                (dims, dims),
                "{runtime} {at}"
            );
            let axes: Vec<i64> = node.attribute.iter().filter(|a| a.name == "axis").map(|a| a.i).collect();
            assert_eq!(axes, if by_channel { vec![1] } else { vec![] }, "{runtime} {at}");
        }
        let why = &made.report.quantisers.iter().find(|q| q.value == "s").expect("a reason").why;
        assert_eq!(why.contains("a scale for each of 16 channels"), by_channel, "{why}");
        let dw = made.report.entries.iter().find(|e| e.name == "dw").expect("a verdict");
        let Verdict::Quantised { form, .. } = &dw.verdict else { panic!("{dw:?}") };
        assert_eq!(form.contains("input uint8, a scale per channel"), by_channel, "{form}");
        let x = random(&SHAPE, 3);
        let copy = File::new(&made.model);
        let want = run(&file.path(), Engine::Interp, &x);
        let [plain, jit] = [Engine::Interp, Engine::Jit].map(|e| run(&copy.path(), e, &x));
        let off = |got: &[f32]| want.iter().zip(got).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let (plain, jit) = (off(&plain), off(&jit));
        assert!((plain - jit).abs() <= 0.1 * plain.max(jit), "{plain} {jit}");
        plain / want.iter().map(|v| v * v).sum::<f32>()
    };
    let [own, one] = ["egret", "tensorrt"].map(|name| lost(false, &runtime(name)));
    assert!(own < 0.5 * one, "{own}, {one} with one scale");
    for runtime in Runtime::all() {
        lost(false, runtime);
        assert!(lost(true, runtime) > own, "{runtime}");
    }
}

#[test]
fn a_runtime_is_of_bytes_between_layers() {
    let request = Quantization { runtime: runtime("ort"), ..Quantization::new(Precision::Weights8) };
    let told = quantize(&fixture("models/simple_cnn.onnx"), &request).map(|_| ()).expect_err("refused");
    assert!(told.to_string().contains("--for ort is of --to int8"), "{told}");
}
