//! Laws of joining: the whole computes what its parts compute one after the other, to the bit.

mod kit;

use egret::Options;
use egret::ir::Tensor;
use egret_join::{Head, Request};
use kit::{
    Files, difference, fixture, floats, model, named, node, opset, proto, random, run, same, typed, unary,
    value,
};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, FunctionProto, GraphProto, NodeProto, StringStringEntryProto};
use std::path::Path;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.into()).collect()
}

#[test]
fn networks_with_a_ready_head_compute_what_they_compute_apart() {
    let files = Files::new(&[]);
    let [simple, attention, fusion] = ["simple_cnn", "attention_model", "fusion_cnn"].map(fixture);
    let request = Request {
        models: vec![format!("left={simple}"), format!("right={attention}"), format!("both={fusion}")],
        shares: strings(&["image=left:image,right:image,both:image"]),
        wires: strings(&["left:logits=head:l", "right:logits=head:r", "both:logits=head:b"]),
        keep: strings(&["right:logits"]),
        head: Some(Head::Concat),
        ..files.request(&[], &[])
    };
    let (whole, joined) = files.join(&request);
    let (image, text) = (random(&[1, 1, 28, 28], 1), random(&[1, 1, 28, 28], 2));
    let out = run(&whole, &named(&[("image", &image), ("text", &text)]));
    let one = named(&[("image", &image)]);
    let (left, right) = (run(Path::new(&simple), &one), run(Path::new(&attention), &one));
    let both = run(Path::new(&fusion), &named(&[("image", &image), ("text", &text)]));
    let features: Vec<f32> =
        [&left, &right, &both].into_iter().flat_map(|m| m["logits"].data::<f32>().to_vec()).collect();
    same(&out["features"], &Tensor::new(&[1, 30], features));
    same(&out["logits"], &right["logits"]);
    same(&out["attention"], &right["attention"]);
    assert_eq!(out.len(), 3);
    assert_eq!(
        joined.report.outputs.iter().find(|o| o.name == "features").map(|o| o.ty.as_str()),
        Some("f32[1, 30]")
    );
}

#[test]
fn late_fusion_is_the_sum_with_the_weights() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh"))]);
    let request = Request {
        head: Some("late:0.75,-2".parse().expect("a head")),
        ..files.request(&["a", "b"], &["a:y=head:a", "b:y=head:b"])
    };
    let (whole, _) = files.join(&request);
    let (x, y) = (random(&[2, 3], 1), random(&[2, 3], 2));
    let out = run(&whole, &named(&[("a.x", &x), ("b.x", &y)]));
    let a = run(&files.path("a"), &named(&[("x", &x)]));
    let b = run(&files.path("b"), &named(&[("x", &y)]));
    let sum = a["y"].data::<f32>().iter().zip(b["y"].data::<f32>()).map(|(a, b)| a * 0.75 + b * -2.0);
    same(&out["logits"], &Tensor::new(&[2, 3], sum.collect()));
}

#[test]
fn the_order_of_models_does_not_matter() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh")), ("c", &difference())]);
    let wires = ["a:y=b:x", "b:y=c:x1", "a:y=c:x2"];
    let x = random(&[2, 3], 3);
    let one = |model: &str, value: &Tensor| run(&files.path(model), &named(&[("x", value)]))["y"].clone();
    let e = one("a", &x);
    let want = run(&files.path("c"), &named(&[("x1", &one("b", &e)), ("x2", &e)]))["y"].clone();
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        let (whole, _) = files.join(&files.request(&order, &wires));
        same(&run(&whole, &named(&[("x", &x)]))["y"], &want);
    }
    let request = files.request(&["a", "b", "c"], &wires);
    assert_eq!(files.join(&request).1.model, files.join(&request).1.model);
}

#[test]
fn models_may_feed_each_other_as_long_as_no_value_depends_on_itself() {
    let mut two = unary("Exp");
    let graph = two.graph.mut_or_insert_default();
    graph.node.push(node("Tanh", &["v"], "w"));
    graph.input.push(value("v", &["2", "3"]));
    graph.output.push(value("w", &["2", "3"]));
    let files = Files::new(&[("two", &two), ("n", &unary("Neg"))]);
    let (whole, _) = files.join(&files.request(&["two", "n"], &["two:y=n:x", "n:y=two:v"]));
    let x = random(&[2, 3], 3);
    let want: Vec<f32> = x.data::<f32>().iter().map(|v| (-(f64::from(*v).exp() as f32)).tanh()).collect();
    let got = run(&whole, &named(&[("x", &x)]))["w"].clone();
    assert!(got.data::<f32>().iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
}

#[test]
fn a_shared_computation_is_done_once_behind_the_seam() {
    let files = Files::new(&[]);
    let simple = fixture("simple_cnn");
    let request = Request {
        models: ["left", "right"].map(|n| format!("{n}={simple}")).to_vec(),
        shares: strings(&["image=left:image,right:image"]),
        ..files.request(&[], &[])
    };
    let (whole, joined) = files.join(&request);
    assert_eq!((joined.report.shared, proto(&joined).graph.initializer.len()), (8, 8));
    let graph = egret::source::graph(&whole, &Default::default()).expect("a graph");
    let convolutions = |g: &egret::ir::Graph| egret::ir::text::print(g).matches(" conv(").count();
    assert_eq!(convolutions(&graph), 4);
    let options = Options { passes: Some(vec!["canonicalize".into()]), ..Options::default() };
    let graph = egret::pipeline::optimize(graph, &options, None, &mut Default::default()).expect("a graph");
    assert_eq!(convolutions(&graph), 2);
    assert_eq!(graph.outputs()[0], graph.outputs()[1]);
}

#[test]
fn dims_with_names_become_one_and_others_stay_apart() {
    let rows = |op: &str, name: &str| {
        model(
            vec![node(op, &["x"], "y")],
            vec![],
            vec![value("x", &[name, "3"])],
            vec![value("y", &[name, "3"])],
        )
    };
    let mut fixed = unary("Exp");
    fixed.graph.mut_or_insert_default().output[0] = value("y", &["2", "3"]);
    let files = Files::new(&[
        ("a", &rows("Exp", "n")),
        ("b", &rows("Tanh", "m")),
        ("c", &rows("Abs", "n")),
        ("d", &fixed),
    ]);
    let (_, joined) = files.join(&files.request(&["a", "b", "c"], &["a:y=b:x"]));
    let types: Vec<&str> = joined.report.inputs.iter().map(|p| p.ty.as_str()).collect();
    assert_eq!(types, ["f32[a_n, 3]", "f32[c_n, 3]"]);
    assert_eq!(joined.report.dims.len(), 1);
    assert_eq!(joined.report.dims[0].of, ["a:n", "b:m"]);
    // A size on one side decides it for all.
    let (whole, joined) = files.join(&files.request(&["a", "b", "d"], &["a:y=b:x", "b:y=d:x"]));
    assert_eq!(joined.report.inputs[0].ty, "f32[2, 3]");
    let x = random(&[2, 3], 5);
    assert_eq!(run(&whole, &named(&[("x", &x)])).len(), 1);
}

#[test]
fn values_inside_can_be_wired_and_outputs_dropped() {
    let files = Files::new(&[]);
    let simple = fixture("simple_cnn");
    let request = Request {
        models: vec![format!("net={simple}")],
        wires: strings(&["net:/Relu_2_output_0=head:x"]),
        drop: strings(&["net:logits"]),
        head: Some(Head::Concat),
        ..files.request(&[], &[])
    };
    let (whole, joined) = files.join(&request);
    assert_eq!(joined.report.wires[0].ty, "f32[1, 50]");
    assert_eq!((joined.report.dropped, joined.report.outputs.len()), (1, 1));
    assert!(!proto(&joined).graph.initializer.iter().any(|t| t.name == "net/fc2.weight"));
    let image = random(&[1, 1, 28, 28], 1);
    assert_eq!(run(&whole, &named(&[("image", &image)]))["features"].shape(), [1, 50]);
}

#[test]
fn names_that_models_share_stay_apart() {
    // `w` is an initialiser of both, of other numbers; `h` a value of both; `x` and `y` inputs and outputs.
    let with = |w: &[f32]| {
        let nodes = vec![node("Mul", &["x", "w"], "h"), node("Exp", &["h"], "y")];
        model(
            nodes,
            vec![floats("w", &[3], w)],
            vec![value("x", &["2", "3"])],
            vec![value("y", &["2", "3"])],
        )
    };
    let files = Files::new(&[("a", &with(&[1.0, 2.0, 3.0])), ("b", &with(&[1.0, -2.0, 3.0]))]);
    let (whole, joined) = files.join(&files.request(&["a", "b"], &[]));
    assert_eq!(joined.report.shared, 0);
    let (x, y) = (random(&[2, 3], 1), random(&[2, 3], 2));
    let out = run(&whole, &named(&[("a.x", &x), ("b.x", &y)]));
    same(&out["a.y"], &run(&files.path("a"), &named(&[("x", &x)]))["y"]);
    same(&out["b.y"], &run(&files.path("b"), &named(&[("x", &y)]))["y"]);
}

/// An `If` on `c` whose branches read `x` and `w` from outside and define `inner`.
fn branching() -> onnx_protobuf::ModelProto {
    let branch = |op: &str| {
        let graph = GraphProto {
            name: op.into(),
            node: vec![node(op, &["x", "w"], "inner")],
            output: vec![value("inner", &["2", "3"])],
            ..GraphProto::default()
        };
        let name = if op == "Add" { "then_branch" } else { "else_branch" };
        AttributeProto {
            name: name.into(),
            type_: AttributeType::GRAPH.into(),
            g: Some(graph).into(),
            ..Default::default()
        }
    };
    let mut choice = node("If", &["c"], "y");
    choice.attribute = vec![branch("Add"), branch("Mul")];
    let inputs = vec![typed("c", 9, &[]), value("x", &["2", "3"])];
    model(vec![choice], vec![floats("w", &[3], &[1.0, 2.0, 3.0])], inputs, vec![value("y", &["2", "3"])])
}

#[test]
fn sub_graphs_read_what_is_wired() {
    let files = Files::new(&[("choose", &branching()), ("e", &unary("Exp")), ("n", &unary("Neg"))]);
    let (whole, _) = files.join(&files.request(&["choose", "e", "n"], &["e:y=choose:x", "choose:y=n:x"]));
    let x = random(&[2, 3], 7);
    for c in [true, false] {
        let c = Tensor::from_bools(&[], &[c]);
        let e = run(&files.path("e"), &named(&[("x", &x)]))["y"].clone();
        let y = run(&files.path("choose"), &named(&[("c", &c), ("x", &e)]))["y"].clone();
        let want = run(&files.path("n"), &named(&[("x", &y)]))["y"].clone();
        same(&run(&whole, &named(&[("c", &c), ("x", &x)]))["y"], &want);
    }
}

/// A model that calls `own.F`, which is `op`.
fn calling(op: &str) -> onnx_protobuf::ModelProto {
    let mut call = node("F", &["x"], "y");
    call.domain = "own".into();
    let mut out = model(vec![call], vec![], vec![value("x", &["2", "3"])], vec![value("y", &["2", "3"])]);
    out.opset_import.push(opset("own", 1));
    out.functions.push(FunctionProto {
        name: "F".into(),
        domain: "own".into(),
        input: strings(&["a"]),
        output: strings(&["b"]),
        node: vec![node(op, &["a"], "b")],
        opset_import: vec![opset("", 17)],
        ..FunctionProto::default()
    });
    out
}

#[test]
fn functions_of_one_name_stay_apart_unless_they_are_the_same() {
    let files = Files::new(&[("a", &calling("Exp")), ("b", &calling("Tanh")), ("c", &calling("Exp"))]);
    for (second, count) in [("b", 2), ("c", 1)] {
        let (whole, joined) = files.join(&files.request(&["a", second], &[&format!("a:y={second}:x")]));
        assert_eq!(proto(&joined).functions.len(), count);
        let x = random(&[2, 3], 4);
        let y = run(&files.path("a"), &named(&[("x", &x)]))["y"].clone();
        same(&run(&whole, &named(&[("x", &x)]))["y"], &run(&files.path(second), &named(&[("x", &y)]))["y"]);
    }
}

#[test]
fn older_opsets_are_raised_to_the_newest() {
    // Before opset 13, Softmax was over all axes from 1 on.
    let shape = ["2", "3", "4"];
    let mut old = model(
        vec![node("Softmax", &["x"], "y")],
        vec![],
        vec![value("x", &shape)],
        vec![value("y", &shape)],
    );
    old.opset_import = vec![opset("", 11)];
    let new = model(
        vec![node("Softmax", &["x"], "y")],
        vec![],
        vec![value("x", &shape)],
        vec![value("y", &shape)],
    );
    let files = Files::new(&[("old", &old), ("new", &new)]);
    let (whole, joined) = files.join(&files.request(&["old", "new"], &["old:y=new:x"]));
    assert_eq!((joined.report.opset, joined.report.models[0].opset), (Some(17), Some(11)));
    let x = random(&[2, 3, 4], 4);
    let y = run(&files.path("old"), &named(&[("x", &x)]))["y"].clone();
    same(&run(&whole, &named(&[("x", &x)]))["y"], &run(&files.path("new"), &named(&[("x", &y)]))["y"]);
}

#[test]
fn outputs_that_are_inputs_and_defaults_that_are_wired_work() {
    // `x` goes through; `d` has a default.
    let mut through = difference();
    let graph = through.graph.mut_or_insert_default();
    graph.initializer.push(floats("x2", &[2, 3], &[5.0; 6]));
    graph.output.push(value("x1", &["2", "3"]));
    let files = Files::new(&[("t", &through), ("e", &unary("Exp"))]);
    let x = random(&[2, 3], 4);
    let e = run(&files.path("e"), &named(&[("x", &x)]))["y"].clone();
    // The default stays where nothing is wired to it.
    let (whole, _) = files.join(&files.request(&["t", "e"], &["e:y=t:x1"]));
    let out = run(&whole, &named(&[("x", &x)]));
    same(&out["x1"], &e);
    same(&out["y"], &run(&files.path("t"), &named(&[("x1", &e)]))["y"]);
    // And goes where something is. What goes through feeds another model.
    let (whole, joined) = files.join(&files.request(&["t", "e"], &["t:x1=e:x", "e:y=t:x2"]));
    assert!(proto(&joined).graph.initializer.is_empty());
    let got = run(&whole, &named(&[("x1", &x)]))["y"].clone();
    let want = x.data::<f32>().iter().zip(e.data::<f32>()).map(|(x, e)| x - e);
    same(&got, &Tensor::new(&[2, 3], want.collect()));
}

/// A model that adds `w` from a file beside it.
fn beside(folder: &Path, file: &str) -> onnx_protobuf::ModelProto {
    std::fs::create_dir_all(folder).expect("a folder");
    let values = [0.5f32, -1.5, 2.5];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.join(file), [&[0u8; 8], &bytes[..]].concat()).expect("weights");
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    let mut w = floats("w", &[3], &[]);
    w.data_location = onnx_protobuf::tensor_proto::DataLocation::EXTERNAL.into();
    w.external_data = vec![entry("location", file), entry("offset", "8"), entry("length", "12")];
    model(
        vec![node("Add", &["x", "w"], "y")],
        vec![w],
        vec![value("x", &["2", "3"])],
        vec![value("y", &["2", "3"])],
    )
}

#[test]
fn weights_in_other_files_stay_there_or_come_along() {
    let files = Files::new(&[]);
    let sub = files.0.path().join("sub");
    let model = beside(&sub, "w.bin");
    std::fs::write(sub.join("m.onnx"), onnx_protobuf::Message::write_to_bytes(&model).expect("bytes"))
        .expect("a file");
    let x = random(&[2, 3], 4);
    let want = run(&sub.join("m.onnx"), &named(&[("x", &x)]))["y"].clone();
    let path = sub.join("m.onnx").display().to_string();
    // Below the folder of the whole: the file stays. Two models with the same weights have them once.
    let request =
        Request { models: vec![format!("a={path}"), format!("b={path}")], ..files.request(&[], &[]) };
    let (whole, joined) = files.join(&request);
    let tensors = proto(&joined).graph.initializer.clone();
    assert_eq!(tensors.len(), 1);
    assert_eq!(tensors[0].external_data[0].value, "sub/w.bin");
    same(&run(&whole, &named(&[("a.x", &x), ("b.x", &x)]))["b.y"], &want);
    // Elsewhere: they come along.
    let other = Files::new(&[]);
    let (whole, joined) = other.join(&Request { folder: other.0.path().to_owned(), ..request });
    assert_eq!(proto(&joined).graph.initializer[0].raw_data.len(), 12);
    same(&run(&whole, &named(&[("a.x", &x), ("b.x", &x)]))["b.y"], &want);
}

#[test]
fn metadata_stay() {
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    let (mut a, mut b) = (unary("Exp"), unary("Tanh"));
    a.metadata_props = vec![entry("author", "x"), entry("licence", "MIT")];
    b.metadata_props = vec![entry("author", "y"), entry("licence", "MIT")];
    a.doc_string = "exponentials".into();
    let files = Files::new(&[("a", &a), ("b", &b)]);
    let joined = files.join(&files.request(&["a", "b"], &[])).1;
    let model = proto(&joined);
    let kept: Vec<(&str, &str)> =
        model.metadata_props.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
    assert_eq!(kept, [("a.author", "x"), ("licence", "MIT"), ("b.author", "y")]);
    assert_eq!(model.doc_string, "a: exponentials");
    let nodes: Vec<&NodeProto> = model.graph.node.iter().collect();
    assert_eq!((nodes[0].name.as_str(), nodes[1].name.as_str()), ("a/Exp_y", "b/Tanh_y"));
}

/// The numbers of a weight of the head.
fn weight(whole: &onnx_protobuf::ModelProto, name: &str) -> Vec<f64> {
    let tensor = whole.graph.initializer.iter().find(|t| t.name == format!("head/{name}"));
    let (numbers, rest) = tensor.expect(name).raw_data.as_chunks::<4>();
    assert!(rest.is_empty());
    numbers.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

/// `x @ NAME.weight + NAME.bias` of rows of `from` features.
fn linear(whole: &onnx_protobuf::ModelProto, x: &[f64], name: &str, from: usize) -> Vec<f64> {
    let (w, bias) = (weight(whole, &format!("{name}.weight")), weight(whole, &format!("{name}.bias")));
    let to = bias.len();
    let row = |x: &[f64], j: usize| bias[j] + (0..from).map(|i| x[i] * w[i * to + j]).sum::<f64>();
    x.chunks(from).flat_map(|x| (0..to).map(move |j| row(x, j)).collect::<Vec<_>>()).collect()
}

#[track_caller]
fn near(got: &Tensor, want: &[f64]) {
    let got = got.data::<f32>();
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-5), "{got:?}, {want:?}");
}

fn f64s(t: &Tensor) -> Vec<f64> {
    t.data::<f32>().iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn gates_and_shares_are_what_they_are_said_to_be() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh"))]);
    let (x, y) = (random(&[2, 3], 1), random(&[2, 3], 2));
    let e = f64s(&run(&files.path("a"), &named(&[("x", &x)]))["y"]);
    let t = f64s(&run(&files.path("b"), &named(&[("x", &y)]))["y"]);
    let both: Vec<f64> = e.chunks(3).zip(t.chunks(3)).flat_map(|(a, b)| [a, b].concat()).collect();
    let wires = ["a:y=head:a", "b:y=head:b"];
    let with = |head: &str| {
        let request = Request {
            head: Some(head.parse().expect("a head")),
            seed: 7,
            ..files.request(&["a", "b"], &wires)
        };
        let (path, joined) = files.join(&request);
        (run(&path, &named(&[("a.x", &x), ("b.x", &y)])), proto(&joined))
    };
    let (out, whole) = with("gated:4");
    let part = |x: &[f64], name: &str| {
        let z = linear(&whole, &both, &format!("{name}.gate"), 6).into_iter();
        let z: Vec<f64> = z.map(|v| 1.0 / (1.0 + (-v).exp())).collect();
        let h = linear(&whole, x, &format!("{name}.project"), 3);
        (h.iter().zip(&z).map(|(h, z)| z * h.tanh()).collect::<Vec<f64>>(), z)
    };
    let ((h1, z1), (h2, z2)) = (part(&e, "a"), part(&t, "b"));
    near(&out["features"], &h1.iter().zip(&h2).map(|(a, b)| a + b).collect::<Vec<_>>());
    let mean = |z: &[f64], row: usize| z[row * 4..][..4].iter().sum::<f64>() / 4.0;
    near(&out["gates"], &[mean(&z1, 0), mean(&z2, 0), mean(&z1, 1), mean(&z2, 1)]);

    let (out, whole) = with("attention:4");
    let query = weight(&whole, "query");
    let (v1, v2) = (linear(&whole, &e, "a.project", 3), linear(&whole, &t, "b.project", 3));
    let (mut features, mut shares) = (vec![], vec![]);
    for (v1, v2) in v1.chunks(4).zip(v2.chunks(4)) {
        let score = |v: &[f64]| v.iter().zip(&query).map(|(v, q)| v.tanh() * q).sum::<f64>().exp();
        let (s1, s2) = (score(v1), score(v2));
        shares.extend([s1 / (s1 + s2), s2 / (s1 + s2)]);
        features.extend(v1.iter().zip(v2).map(|(a, b)| (s1 * a + s2 * b) / (s1 + s2)));
    }
    near(&out["shares"], &shares);
    near(&out["features"], &features);
}

#[test]
fn nodes_add_up_what_their_neighbours_tell_them() {
    let files = Files::new(&[("a", &unary("Exp"))]);
    let request = Request {
        head: Some("message-passing:5".parse().expect("a head")),
        ..files.request(&["a"], &["a:y=head:nodes"])
    };
    let (path, joined) = files.join(&request);
    let whole = proto(&joined);
    let x = random(&[2, 3], 3);
    // Node 1 hears node 0 twice and itself once; node 0 hears nobody.
    let edges = Tensor::new(&[2, 3], vec![0i64, 1, 0, 1, 1, 1]);
    let out = run(&path, &named(&[("x", &x), ("edges", &edges)]));
    let e = f64s(&run(&files.path("a"), &named(&[("x", &x)]))["y"]);
    let own = linear(&whole, &e, "own", 3);
    let w = weight(&whole, "message.weight");
    let told = |node: usize, j: usize| (0..3).map(|i| e[node * 3 + i] * w[i * 5 + j]).sum::<f64>();
    let heard = |node: usize, j: usize| if node == 1 { 2.0 * told(0, j) + told(1, j) } else { 0.0 };
    let want: Vec<f64> = (0..10).map(|i| (own[i] + heard(i / 5, i % 5)).max(0.0)).collect();
    assert!(want.iter().any(|v| *v > 0.0) && want.contains(&0.0));
    near(&out["features"], &want);
}

#[test]
fn layers_stand_behind_a_head_and_a_seed_means_the_same_weights() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh"))]);
    let request = |seed: u64| Request {
        head: Some(Head::Concat),
        layers: vec![5, 4],
        seed,
        ..files.request(&["a", "b"], &["a:y=head:a", "b:y=head:b"])
    };
    let (path, joined) = files.join(&request(3));
    let whole = proto(&joined);
    let (x, y) = (random(&[2, 3], 1), random(&[2, 3], 2));
    let out = run(&path, &named(&[("a.x", &x), ("b.x", &y)]));
    let e = f64s(&run(&files.path("a"), &named(&[("x", &x)]))["y"]);
    let t = f64s(&run(&files.path("b"), &named(&[("x", &y)]))["y"]);
    let both: Vec<f64> = e.chunks(3).zip(t.chunks(3)).flat_map(|(a, b)| [a, b].concat()).collect();
    let hidden: Vec<f64> = linear(&whole, &both, "layers.0", 6).iter().map(|v| v.max(0.0)).collect();
    near(&out["logits"], &linear(&whole, &hidden, "layers.1", 5));
    assert_eq!(out.len(), 1);
    assert_eq!(joined.report.outputs[0].ty, "f32[2, 4]");
    assert_eq!(joined.report.shared, 0);
    assert!(weight(&whole, "layers.0.weight").iter().all(|v| v.abs() <= 1.0 / 6f64.sqrt()));
    assert_eq!(files.join(&request(3)).1.model, joined.model);
    assert_ne!(files.join(&request(4)).1.model, joined.model);
}

#[test]
fn encoders_behind_a_head_compute_what_they_compute_apart() {
    let files = Files::new(&[]);
    let [simple, attention] = ["simple_cnn", "attention_model"].map(fixture);
    let inner = "/Relu_2_output_0";
    let kept = |name: &str| format!("{name}:{inner}");
    let request = Request {
        models: vec![format!("a={simple}"), format!("b={attention}")],
        shares: strings(&["image=a:image,b:image"]),
        wires: vec![format!("{}=head:a", kept("a")), format!("{}=head:b", kept("b"))],
        keep: vec![kept("a"), kept("b")],
        head: Some(Head::Attention(16)),
        layers: vec![10],
        ..files.request(&[], &[])
    };
    let (whole, joined) = files.join(&request);
    let given = random(&[1, 1, 28, 28], 1);
    let out = run(&whole, &named(&[("image", &given)]));
    let port =
        |of: &str| joined.report.outputs.iter().find(|o| o.of[0] == of).expect("an output").name.clone();
    for (name, file) in [("a", &simple), ("b", &attention)] {
        let alone = Request {
            models: vec![format!("{name}={file}")],
            keep: vec![kept(name)],
            ..files.request(&[], &[])
        };
        let apart = run(&files.join(&alone).0, &named(&[("image", &given)]));
        same(&out[&port(&kept(name))], &apart[inner]);
        same(&out[&port(&format!("{name}:logits"))], &apart["logits"]);
    }
    let shares = f64s(&out["shares"]);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6 && shares[0] != shares[1], "{shares:?}");
}
