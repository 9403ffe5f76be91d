//! Layers inside branches and bodies, and recurrent layers there, through the public commands.

mod kit;

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{
    Compressed, Method, Pattern, Precision, Quantization, Reason, Request, Verdict, prune, quantize,
};
use kit::{File, Stored, all, int, model, node, tensor, value};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use std::path::{Path, PathBuf};

fn out(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }
}

fn graph(name: &str, nodes: Vec<NodeProto>, weights: Vec<TensorProto>, outputs: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        type_: AttributeType::GRAPH.into(),
        g: Some(GraphProto {
            name: name.into(),
            node: nodes,
            initializer: weights,
            output: outputs.iter().map(|o| out(o)).collect(),
            ..GraphProto::default()
        })
        .into(),
        ..AttributeProto::default()
    }
}

fn constant(name: &str, value: TensorProto) -> NodeProto {
    let mut node = node("Constant", "", &[], name);
    node.input.clear();
    node.attribute.push(AttributeProto {
        name: "value".into(),
        t: Some(value).into(),
        type_: AttributeType::TENSOR.into(),
        ..AttributeProto::default()
    });
    node
}

fn integers(name: &str, list: &[i64]) -> TensorProto {
    let (dims, int64_data) = (vec![list.len() as i64], list.to_vec());
    TensorProto { name: name.into(), dims, data_type: 7, int64_data, ..TensorProto::default() }
}

/// Weights as they are in networks: of no more than a tenth.
fn small(name: &str, dims: &[i64], seed: u64) -> TensorProto {
    let mut rng = Rng::new(seed);
    let count: i64 = dims.iter().product();
    let raw = (0..count).flat_map(|_| (rng.signed_f64() as f32 * 0.3).to_le_bytes()).collect();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: raw,
        ..TensorProto::default()
    }
}

/// The sum of the input is above zero, or it is not: another network of two layers for either. Nodes and values of both are called alike.
fn two_networks() -> ModelProto {
    let branch = |name: &str, seed: u64| {
        let nodes = vec![
            constant("w", small("", &[12, 16], seed)),
            node("MatMul", "first", &["x", "w"], "h"),
            node("Relu", "", &["h"], "a"),
            node("MatMul", "second", &["a", "v"], "b"),
            node("Relu", "", &["b"], "r"),
            node("MatMul", "third", &["r", "u"], "z"),
        ];
        graph(name, nodes, vec![small("v", &[16, 16], seed + 1), small("u", &[16, 12], seed + 2)], &["z"])
    };
    let mut choice = node("If", "choice", &["positive"], "y");
    choice.attribute = vec![branch("then_branch", 1), branch("else_branch", 5)];
    let mut sum = node("ReduceSum", "", &["x"], "sum");
    sum.attribute.push(int("keepdims", 0));
    let nodes = vec![sum, node("Greater", "", &["sum", "zero"], "positive"), choice];
    let zero =
        TensorProto { name: "zero".into(), data_type: 1, float_data: vec![0.0], ..TensorProto::default() };
    model(nodes, vec![zero], &[4, 12], "y")
}

/// A sample that takes the branch.
fn sample(positive: bool, seed: u64) -> Tensor {
    let mut rng = Rng::new(seed);
    let sign = if positive { 1.0 } else { -1.0 };
    Tensor::new(&[4, 12], (0..48).map(|_| sign * (rng.signed_f64() as f32 + 0.7)).collect())
}

fn samples(file: &File, which: &[bool]) -> PathBuf {
    let path = file.0.path().join("x.npy");
    let all: Vec<f32> =
        which.iter().zip(1..).flat_map(|(&p, seed)| sample(p, seed).data::<f32>().to_vec()).collect();
    npz::write(&path, &[("x".into(), Tensor::new(&[which.len(), 4, 12], all))]).expect("a file");
    path
}

fn run(path: &Path, inputs: &[Value]) -> Vec<Vec<f32>> {
    let graph = egret::source::graph(path, &Default::default()).expect("a graph");
    let code =
        Executable::new(graph, Engine::Jit, &Options::default(), &Default::default()).expect("it compiles");
    let out = code.run(inputs).expect("a run");
    out.iter().map(|v| v.as_tensor().expect("a tensor").data::<f32>().to_vec()).collect()
}

fn relative(want: &[f32], got: &[f32]) -> f64 {
    let square = |list: &mut dyn Iterator<Item = f32>| list.map(|v| f64::from(v).powi(2)).sum::<f64>();
    assert_eq!(want.len(), got.len());
    (square(&mut want.iter().zip(got).map(|(a, b)| a - b)) / square(&mut want.iter().copied())).sqrt()
}

/// Relative error of the outputs where a branch is taken.
fn error(file: &File, made: &Compressed, positive: bool) -> f64 {
    let small = File::new(&made.model);
    let x = [Value::from(sample(positive, 99))];
    relative(&run(&file.path(), &x)[0], &run(&small.path(), &x)[0])
}

fn form<'a>(made: &'a Compressed, name: &str) -> &'a str {
    let entry = made.report.entries.iter().find(|e| e.name == name);
    let Some(Verdict::Quantised { form, .. }) = entry.map(|e| &e.verdict) else {
        panic!(
            "{name}: {entry:?}, of {:?}",
            made.report.entries.iter().map(|e| &e.name).collect::<Vec<_>>()
        )
    };
    form
}

#[test]
fn layers_of_both_branches_become_integers_and_keep_their_outputs() {
    let file = File::of(&two_networks());
    for precision in ["w8", "w4:16"] {
        let to = Quantization::new(precision.parse::<Precision>().expect("a precision"));
        let made = quantize(&file.path(), &to).expect("it works");
        assert!(made.report.bytes < made.report.bytes_before);
        assert_eq!(made.report.entries.len(), 6);
        let names: std::collections::BTreeSet<&String> =
            made.report.entries.iter().map(|e| &e.name).collect();
        assert_eq!(names.len(), 6, "layers that are called alike have names of their own: {names:?}");
        let most = if precision == "w8" { 0.02 } else { 0.2 };
        for positive in [true, false] {
            let error = error(&file, &made, positive);
            assert!(error > 0.0 && error < most, "{precision}, {positive}: {error}");
        }
    }
}

/// Runtimes look for the constants of what makes floats of them in its own graph: they stand together, in the branch or outside, where the weight was.
#[test]
fn integers_stand_where_their_weights_did() {
    fn each(graph: &GraphProto, seen: &mut Vec<bool>) {
        for node in &graph.node {
            if node.op_type == "DequantizeLinear" {
                seen.push(node.input.iter().all(|name| graph.initializer.iter().any(|t| t.name == *name)));
            }
            node.attribute.iter().filter_map(|a| a.g.as_ref()).for_each(|g| each(g, seen));
        }
    }
    let mut outer = two_networks();
    // One weight outside of the branch that reads it.
    let graph = outer.graph.mut_or_insert_default();
    graph.initializer.push(small("outside", &[16, 16], 77));
    if let Some(branch) = graph.node.iter_mut().flat_map(|n| &mut n.attribute).find_map(|a| a.g.as_mut()) {
        branch.node.iter_mut().filter(|n| n.name == "second").for_each(|n| n.input[1] = "outside".into());
    }
    for model in [two_networks(), outer] {
        let file = File::of(&model);
        let to = Quantization::new("w8".parse::<Precision>().expect("a precision"));
        let made = quantize(&file.path(), &to).expect("a copy");
        let made: ModelProto = Message::parse_from_bytes(&made.model).expect("a model");
        let mut seen = vec![];
        each(made.graph.get_or_default(), &mut seen);
        assert_eq!(seen, [true; 6]);
    }
}

/// Samples that take one branch give its layers bytes; those of the other keep floats as inputs, and the report says why.
#[test]
fn samples_reach_the_branches_that_they_take() {
    let file = File::of(&two_networks());
    let data = vec![samples(&file, &[true; 12])];
    let to = |precision: &str, data: Vec<PathBuf>| Quantization {
        data,
        ..Quantization::new(precision.parse::<Precision>().expect("a precision"))
    };
    let made = quantize(&file.path(), &to("int8", data.clone())).expect("it works");
    assert!(form(&made, "choice/then_branch/second").contains("input uint8"));
    assert!(form(&made, "choice/else_branch/second").contains("no sample takes its branch"));
    for positive in [true, false] {
        let error = error(&file, &made, positive);
        assert!(error > 0.0 && error < 0.05, "{positive}: {error}");
    }
    // With samples for both, both have them; fitted weights are nearer than rounded ones.
    let both = vec![samples(&file, &[true, false].repeat(20))];
    let made = quantize(&file.path(), &to("int8", both.clone())).expect("it works");
    assert!(form(&made, "choice/else_branch/second").contains("input uint8"));
    let [rounded, fitted] =
        [vec![], both].map(|data| quantize(&file.path(), &to("w4:16", data)).expect("it works"));
    for positive in [true, false] {
        let [rounded, fitted] = [&rounded, &fitted].map(|m| error(&file, m, positive));
        assert!(fitted < 1.001 * rounded, "{positive}: {rounded} rounded, {fitted} fitted");
    }
}

#[test]
fn zeros_in_branches_change_no_other_byte() {
    let file = File::of(&two_networks());
    let before = std::fs::read(file.path()).expect("a file");
    let made = file.prune(&all("sparse:0.5")).expect("it works");
    assert_eq!((made.report.zeros(), made.report.weights()), (640, 1280));
    assert_eq!(made.model.len(), before.len());
    let changed = before.iter().zip(&made.model).filter(|(a, b)| a != b).collect::<Vec<_>>();
    assert!(changed.iter().all(|(_, now)| **now == 0), "a byte that is no zero");
    assert!(changed.len() <= 640 * 4 && changed.len() > 640 * 2, "{}", changed.len());
    let again = File::new(&made.model).prune(&all("sparse:0.5")).expect("it works");
    assert!(again.model == made.model, "pruning twice");
    // With samples of one branch, the layers of the other are left, and its outputs stay as they were.
    let request = Request {
        method: "obc".parse::<Method>().expect("a method"),
        data: vec![samples(&file, &[true; 30])],
        ..all("sparse:0.5")
    };
    let made = file.prune(&request).expect("it works");
    let left =
        |e: &&egret_compress::Entry| matches!(e.verdict, Verdict::Left { reason: Reason::NoSamples, .. });
    assert_eq!(made.report.entries.iter().filter(left).count(), 3);
    assert_eq!(error(&file, &made, false), 0.0);
    assert!(error(&file, &made, true) > 0.0);
}

#[test]
fn channels_go_inside_branches() {
    let file = File::of(&two_networks());
    let made = file.prune(&all("channels:0.5")).expect("it works");
    assert!(made.report.bytes < made.report.bytes_before);
    for entry in &made.report.entries {
        let Verdict::Narrowed { was, is, .. } = &entry.verdict else { panic!("{entry:?}") };
        assert_eq!(is.outputs < was.outputs, !entry.name.ends_with("third"), "{entry:?}");
    }
    let small = File::new(&made.model);
    for positive in [true, false] {
        assert_eq!(run(&small.path(), &[sample(positive, 3).into()])[0].len(), 48);
    }
}

/// As PyTorch writes it: gates turned by `Slice` and `Concat`, in a branch, from constants outside of it, with states of fixed sizes
/// that come in and go out.
fn lstm(op: &str) -> ModelProto {
    let (gates, h) = (if op == "LSTM" { 4 } else { 3 }, 16);
    let mut nodes = vec![];
    for (name, source) in [("w", "w_torch"), ("r", "r_torch")] {
        for (k, (from, to)) in [("i0", "i1"), ("i1", "i2")].into_iter().enumerate() {
            nodes.push(node("Slice", "", &[source, from, to, "axis"], &format!("{name}{k}")));
        }
        let mut join =
            node("Concat", "", &[&format!("{name}1"), &format!("{name}0")], &format!("{name}_joined"));
        join.attribute.push(int("axis", 0));
        nodes.extend([join, node("Unsqueeze", "", &[&format!("{name}_joined"), "axis"], name)]);
    }
    let mut layer = node(op, "layer", &["x", "w", "r", "b", "", "h"], "all");
    layer.output.push("h_last".into());
    layer.attribute.push(int("hidden_size", h));
    nodes.extend([
        layer,
        node("Squeeze", "", &["all", "one"], "steps"),
        node("Relu", "", &["steps"], "lively"),
        node("MatMul", "decoder", &["lively", "d"], "z"),
    ]);
    let copy = |name: &str| {
        let mut nodes = nodes.clone();
        // Both branches read the same weights; one of them adds to the output.
        if name == "else_branch" {
            nodes.push(node("Neg", "", &["z"], "n"));
        }
        let out = if name == "else_branch" { "n" } else { "z" };
        graph(name, nodes, vec![small("d", &[h, 5], 4)], &[out, "h_last"])
    };
    let mut choice = node("If", "choice", &["positive"], "y");
    choice.output.push("h_out".into());
    choice.attribute = vec![copy("then_branch"), copy("else_branch")];
    let mut sum = node("ReduceSum", "", &["x"], "sum");
    sum.attribute.push(int("keepdims", 0));
    let nodes = vec![sum, node("Greater", "", &["sum", "zero"], "positive"), choice];
    let zero =
        TensorProto { name: "zero".into(), data_type: 1, float_data: vec![0.0], ..TensorProto::default() };
    let rows = gates * h;
    let weights = vec![
        zero,
        small("w_torch", &[rows, 12], 1),
        small("r_torch", &[rows, h], 2),
        small("b", &[1, 2 * rows], 3),
        integers("i0", &[0]),
        integers("i1", &[h]),
        integers("i2", &[rows]),
        integers("axis", &[0]),
        integers("one", &[1]),
    ];
    let mut out = model(nodes, weights, &[4, 1, 12], "y");
    if let Some(graph) = out.graph.as_mut() {
        graph.input.push(value("h", &[1, 1, h]));
        graph.output.push(value("h_out", &[1, 1, h]));
    }
    out
}

fn lstm_inputs(positive: bool, seed: u64) -> [Tensor; 2] {
    let x = sample(positive, seed);
    let mut rng = Rng::new(seed + 500);
    [
        Tensor::new(&[4, 1, 12], x.data::<f32>().to_vec()),
        Tensor::new(&[1, 1, 16], (0..16).map(|_| rng.signed_f64() as f32 * 0.5).collect()),
    ]
}

#[test]
fn recurrent_layers_that_share_their_weights_become_integers_once() {
    for op in ["LSTM", "GRU"] {
        let file = File::of(&lstm(op));
        let to = |skip: &[&str]| Quantization {
            skip: skip.iter().map(|s| (*s).to_owned()).collect(),
            ..Quantization::new("w8".parse::<Precision>().expect("a precision"))
        };
        let made = quantize(&file.path(), &to(&[])).expect("it works");
        assert!(made.report.bytes < made.report.bytes_before * 3 / 4, "{op}: {}", made.report.bytes);
        assert!(form(&made, "choice/then_branch/layer").contains("a scale per output"));
        assert!(form(&made, "choice/else_branch/layer").contains("shares"));
        let small = File::new(&made.model);
        for positive in [true, false] {
            let x = lstm_inputs(positive, 9).map(Value::from);
            for (want, got) in run(&file.path(), &x).iter().zip(run(&small.path(), &x)) {
                let error = relative(want, &got);
                assert!(error > 0.0 && error < 0.02, "{op}, {positive}: {error}");
            }
        }
        // Weights of a layer that is skipped stay, whoever else reads them.
        let made = quantize(&file.path(), &to(&["choice/else_branch/layer"])).expect("decoders are left");
        let layers: Vec<_> = made.report.entries.iter().filter(|e| e.name.ends_with("layer")).collect();
        assert_eq!(layers.len(), 2);
        for entry in layers {
            assert!(matches!(entry.verdict, Verdict::Left { reason: Reason::Skipped, .. }), "{entry:?}");
        }
    }
}

#[test]
fn hidden_units_go_and_states_keep_their_shapes() {
    for op in ["LSTM", "GRU"] {
        let file = File::of(&lstm(op));
        let data = file.0.path().join("data.npz");
        let (mut x, mut h) = (vec![], vec![]);
        for seed in 0..160 {
            let [a, b] = lstm_inputs(seed % 2 == 0, seed);
            x.extend(a.data::<f32>().to_vec());
            h.extend(b.data::<f32>().to_vec());
        }
        let arrays = [
            ("x".to_owned(), Tensor::new(&[160, 4, 1, 12], x)),
            ("h".to_owned(), Tensor::new(&[160, 1, 1, 16], h)),
        ];
        npz::write(&data, &arrays).expect("a file");
        let with = |method: &str, data: Vec<PathBuf>| Request {
            method: method.parse::<Method>().expect("a method"),
            data,
            all: true,
            ..Request::new(Pattern::Channels(0.25))
        };
        let mut errors = vec![];
        for request in [with("l1", vec![]), with("l1", vec![data.clone()]), with("obc", vec![data.clone()])]
        {
            let made = prune(&file.path(), &request).expect("it works");
            let again = prune(&file.path(), &request).expect("it works");
            assert!(made.model == again.model, "{op}: other bytes");
            let told = "zeros for units that went: `h`, `h_out`";
            assert!(made.report.what.contains(told), "{}", made.report.what);
            let layers = made.report.entries.iter().filter(|e| e.name.ends_with("layer"));
            for entry in layers {
                let Verdict::Narrowed { was, is, .. } = &entry.verdict else { panic!("{entry:?}") };
                assert_eq!((was.outputs, is.outputs), (16, 12), "{entry:?}");
            }
            let small = File::new(&made.model);
            let mut error = 0.0;
            for (positive, seed) in [(true, 901), (false, 902), (true, 903), (false, 904)] {
                let x = lstm_inputs(positive, seed).map(Value::from);
                let (want, got) = (run(&file.path(), &x), run(&small.path(), &x));
                error += relative(&want[0], &got[0]);
                assert_eq!(got[1].len(), 16, "the state has its shape");
                assert_eq!(got[1].iter().filter(|v| **v == 0.0).count(), 4, "{:?}", got[1]);
            }
            errors.push(error / 4.0);
        }
        assert!(errors[2] < errors[0], "{op}: fitted units are not nearer: {errors:?}");
    }
}

/// A state that something else reads too would be another one there.
#[test]
fn hidden_units_stay_whose_state_from_outside_has_other_readers() {
    let read_by = |op: &str| {
        let mut read = lstm("LSTM");
        if let Some(graph) = read.graph.as_mut() {
            graph.node.push(node(op, "peek", &["h"], "seen"));
            graph.output.push(out("seen"));
        }
        read
    };
    let all = |model: &ModelProto| {
        prune(&File::of(model).path(), &Request { all: true, ..Request::new(Pattern::Channels(0.25)) })
    };
    assert!(all(&lstm("LSTM")).is_ok());
    // Its shape stays, as exporters ask for to tell whether there is a state.
    assert!(all(&read_by("Shape")).is_ok());
    let error = all(&read_by("Neg")).err().expect("nothing can go").to_string();
    assert!(error.contains("`peek` reads `h` too"), "{error}");
}

/// What a layer of both directions reads costs what it costs both; where no sample comes by, it stays.
#[test]
fn layers_of_both_directions_say_what_their_inputs_are_worth() {
    let mut layer = node("LSTM", "layer", &["t", "w", "r"], "all");
    layer.attribute.push(int("hidden_size", 4));
    layer.attribute.push(AttributeProto {
        name: "direction".into(),
        s: b"bidirectional".to_vec(),
        type_: AttributeType::STRING.into(),
        ..AttributeProto::default()
    });
    let nodes = vec![node("MatMul", "into", &["x", "m"], "t"), layer];
    // Of eight channels, those that the second direction alone reads are worth most.
    let mut w = small("w", &[2, 16, 8], 1);
    let values: Vec<f32> = w
        .raw_data
        .as_chunks()
        .0
        .iter()
        .enumerate()
        .map(|(i, b)| {
            let (direction, channel) = (i / 128, i % 8);
            let worth = match (direction, channel < 4) {
                (0, true) => 0.0,
                (1, true) => 3.0,
                (0, false) => 0.3,
                _ => 0.0,
            };
            f32::from_le_bytes(*b) * worth
        })
        .collect();
    w.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let weights = vec![small("m", &[6, 8], 2), w, small("r", &[2, 16, 4], 3)];
    let file = File::of(&model(nodes, weights, &[5, 1, 6], "all"));
    let data = file.0.path().join("x.npy");
    let mut rng = Rng::new(40);
    let x = (0..64 * 30).map(|_| rng.signed_f64() as f32).collect();
    npz::write(&data, &[("x".into(), Tensor::new(&[64, 5, 1, 6], x))]).expect("a file");
    for method in ["wanda", "obc"] {
        let request = Request {
            method: method.parse().expect("a method"),
            data: vec![data.clone()],
            all: true,
            ..Request::new(Pattern::Channels(0.5))
        };
        let made = prune(&file.path(), &request).expect("it works");
        let small = onnx_protobuf::ModelProto::parse_from_bytes(&made.model).expect("a model");
        let w = small.graph.initializer.iter().find(|t| t.name == "w").expect("a weight");
        assert_eq!(w.dims, [2, 16, 4], "{method}");
        let left: Vec<f32> = w.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let energy = |list: &[f32]| list.iter().map(|v| v * v).sum::<f32>();
        assert!(energy(&left[64..]) > 5.0 * energy(&left[..64]), "{method}: {left:?}");
    }
}

/// Bodies of loops have no samples: weights alone become integers there, and channels inside stay.
#[test]
fn layers_in_loops_are_told_apart() {
    let body_nodes = vec![
        node("MatMul", "inside", &["carried", "w"], "m"),
        node("Tanh", "", &["m"], "next"),
        node("Identity", "", &["going"], "on"),
    ];
    let mut body = graph("body", body_nodes, vec![], &["on", "next"]);
    if let Some(g) = body.g.as_mut() {
        let mut scalar = |name: &str, data_type: i32| {
            let mut port = value(name, &[]);
            if let Some(onnx_protobuf::type_proto::Value::TensorType(t)) =
                port.type_.as_mut().and_then(|t| t.value.as_mut())
            {
                t.elem_type = data_type;
            }
            g.input.push(port);
        };
        scalar("round", 7);
        scalar("going", 9);
        g.input.push(value("carried", &[4, 12]));
    }
    let mut repeat = node("Loop", "repeat", &["count", "", "x"], "z");
    repeat.attribute.push(body);
    let nodes = vec![repeat, node("MatMul", "behind", &["z", "v"], "y")];
    let count =
        TensorProto { name: "count".into(), data_type: 7, int64_data: vec![3], ..TensorProto::default() };
    let weights = vec![count, small("w", &[12, 12], 1), tensor("v", &[12, 12], Stored::Raw)];
    let file = File::of(&model(nodes, weights, &[4, 12], "y"));
    let data = samples(&file, &[true, false].repeat(8));
    let to = Quantization {
        data: vec![data.clone()],
        ..Quantization::new("int8".parse::<Precision>().expect("a precision"))
    };
    let made = quantize(&file.path(), &to).expect("it works");
    assert!(form(&made, "inside").contains("bodies of loops"), "{}", form(&made, "inside"));
    assert!(form(&made, "behind").contains("input uint8"));
    let error = error(&file, &made, true);
    assert!(error > 0.0 && error < 0.05, "{error}");
    let request = Request {
        method: "obc".parse::<Method>().expect("a method"),
        data: vec![data],
        ..all("sparse:0.5")
    };
    let report = file.prune(&request).expect("it works").report;
    let inside = report.entries.iter().find(|e| e.name == "inside").expect("an entry");
    assert!(matches!(inside.verdict, Verdict::Left { reason: Reason::NoSamples, .. }), "{inside:?}");
    let none = file.prune(&all("channels:0.5")).map(|_| ()).expect_err("no channels can go").to_string();
    assert!(none.contains("inside"), "{none}");
}

/// What the report says of the layer behind a recurrent one of both directions is what happens: units that went are gone from the states too.
#[test]
fn the_error_behind_a_layer_of_both_directions_is_the_real_one() {
    const SAMPLES: usize = 48;
    for op in ["LSTM", "GRU", "RNN"] {
        let gates = [("LSTM", 4), ("GRU", 3), ("RNN", 1)].iter().find(|g| g.0 == op).map_or(0, |g| g.1);
        let mut layer = node(op, "layer", &["x", "w", "r"], "all");
        layer.attribute.push(int("hidden_size", 8));
        layer.attribute.push(AttributeProto {
            name: "direction".into(),
            s: b"bidirectional".to_vec(),
            type_: AttributeType::STRING.into(),
            ..AttributeProto::default()
        });
        let nodes = vec![layer, node("MatMul", "decoder", &["all", "d"], "y")];
        let large = |name: &str, dims: &[i64], seed| {
            let mut out = small(name, dims, seed);
            let values: Vec<f32> =
                out.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) * 4.0).collect();
            out.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            out
        };
        let weights = vec![
            large("w", &[2, gates * 8, 5], 1),
            large("r", &[2, gates * 8, 8], 2),
            small("d", &[8, 3], 3),
        ];
        let file = File::of(&model(nodes, weights, &[6, 1, 5], "y"));
        let data = file.0.path().join("x.npy");
        let mut rng = Rng::new(41);
        let x: Vec<f32> = (0..SAMPLES * 30).map(|_| rng.signed_f64() as f32).collect();
        npz::write(&data, &[("x".into(), Tensor::new(&[SAMPLES, 6, 1, 5], x.clone()))]).expect("a file");
        let request = Request {
            method: "obc".parse().expect("a method"),
            data: vec![data],
            all: true,
            ..Request::new(Pattern::Channels(0.5))
        };
        let made = prune(&file.path(), &request).expect("it works");
        let entry = made.report.entries.iter().find(|e| e.name == "decoder").expect("a decoder");
        let Verdict::Narrowed { is, output: Some(told), .. } = &entry.verdict else { panic!("{entry:?}") };
        assert_eq!(is.inputs, 4);
        let copy = File::new(&made.model);
        let (mut want, mut got) = (vec![], vec![]);
        for x in x.chunks(30) {
            let x = [Value::from(Tensor::new(&[6, 1, 5], x.to_vec()))];
            want.extend(run(&file.path(), &x).remove(0));
            got.extend(run(&copy.path(), &x).remove(0));
        }
        let column = |list: &[f32], c: usize| -> Vec<f64> {
            list.iter().skip(c).step_by(3).map(|v| f64::from(*v)).collect()
        };
        let (mut lost, mut whole) = (0.0, 0.0);
        for c in 0..3 {
            let (a, b) = (column(&want, c), column(&got, c));
            let mean = a.iter().sum::<f64>() / a.len() as f64;
            lost += a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            whole += a.iter().map(|a| (a - mean) * (a - mean)).sum::<f64>();
        }
        let real = lost / whole;
        assert!((told.error - real).abs() < 0.02 * real + 1e-4, "{op}: told {}, {real}", told.error);
    }
}
