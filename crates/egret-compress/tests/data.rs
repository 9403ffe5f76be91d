//! Laws of pruning with data.

mod kit;

use egret::compare::{Tolerance, compare};
use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{Method, Request, Scope, Verdict, prune};
use kit::{File, Stored, all, fixture, int, model, node, numbers, tensor};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, NodeProto, TensorProto};
use std::path::{Path, PathBuf};

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(seed);
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
}

fn save(dir: &Path, tensor: Tensor) -> PathBuf {
    let path = dir.join("data.npy");
    npz::write(&path, &[("x".into(), tensor)]).expect("a file");
    path
}

fn with(pattern: &str, method: &str, data: PathBuf) -> Request {
    Request { method: method.parse::<Method>().expect("a method"), data: vec![data], ..all(pattern) }
}

fn run(path: &Path, x: &Tensor) -> Value {
    let graph = egret::source::graph(path, &Default::default()).expect("a graph");
    let run =
        Executable::new(graph, Engine::Interp, &Options::default(), &Default::default()).expect("it runs");
    run.run(&[x.clone().into()]).expect("a run").remove(0)
}

fn list(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        type_: AttributeType::INTS.into(),
        ..AttributeProto::default()
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, type_: AttributeType::FLOAT.into(), ..AttributeProto::default() }
}

fn word(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: s.as_bytes().to_vec(),
        type_: AttributeType::STRING.into(),
        ..AttributeProto::default()
    }
}

/// What it is, nodes, weights, and the shape of the input.
type Case = (&'static str, Vec<NodeProto>, Vec<TensorProto>, Vec<i64>);

/// A contraction as each operator and attribute writes it.
fn contractions() -> Vec<Case> {
    let w = |dims: &[i64]| tensor("w", dims, Stored::Raw);
    let b = |dims: &[i64]| tensor("b", dims, Stored::Raw);
    let one = |op: &str, inputs: &[&str], attributes: Vec<AttributeProto>| {
        vec![NodeProto { attribute: attributes, ..node(op, "layer", inputs, "y") }]
    };
    let image = || vec![1, 4, 7, 6];
    let added = |mut nodes: Vec<NodeProto>, constant: &str| {
        nodes[0].output = vec!["product".into()];
        nodes.push(node("Add", "sum", &[constant, "product"], "y"));
        nodes
    };
    vec![
        ("matmul", one("MatMul", &["x", "w"], vec![]), vec![w(&[5, 3])], vec![1, 4, 5]),
        ("add", added(one("MatMul", &["x", "w"], vec![]), "b"), vec![w(&[5, 3]), b(&[3])], vec![4, 5]),
        (
            "column",
            added(one("MatMul", &["x", "w"], vec![]), "b"),
            vec![w(&[5, 3]), b(&[3, 1])],
            vec![3, 5],
        ),
        ("left", one("MatMul", &["w", "x"], vec![]), vec![w(&[3, 5])], vec![1, 5, 4]),
        ("vector", one("MatMul", &["x", "w"], vec![]), vec![w(&[5])], vec![4, 5]),
        (
            "gemm",
            one("Gemm", &["x", "w", "b"], vec![int("transA", 1), float("alpha", 0.5), float("beta", 2.0)]),
            vec![w(&[5, 3]), b(&[1, 3])],
            vec![5, 4],
        ),
        ("transB", one("Gemm", &["x", "w"], vec![int("transB", 1)]), vec![w(&[3, 5])], vec![4, 5]),
        (
            "conv",
            one("Conv", &["x", "w"], vec![list("strides", &[2, 1]), list("pads", &[0, 1, 2, 1])]),
            vec![w(&[3, 4, 3, 2])],
            image(),
        ),
        (
            "groups",
            one("Conv", &["x", "w", "b"], vec![int("group", 2), list("dilations", &[2, 1])]),
            vec![w(&[6, 2, 2, 3]), b(&[6])],
            image(),
        ),
        ("depthwise", one("Conv", &["x", "w"], vec![int("group", 4)]), vec![w(&[4, 1, 3, 3])], image()),
        (
            "same",
            one("Conv", &["x", "w"], vec![word("auto_pad", "SAME_LOWER"), list("strides", &[2, 2])]),
            vec![w(&[3, 4, 3, 4])],
            image(),
        ),
        (
            "transposed",
            one(
                "ConvTranspose",
                &["x", "w"],
                vec![list("strides", &[2, 3]), list("pads", &[1, 0, 0, 1]), int("group", 2)],
            ),
            vec![w(&[4, 3, 3, 2])],
            image(),
        ),
        (
            "one axis",
            one("Conv", &["x", "w"], vec![list("pads", &[1, 1])]),
            vec![w(&[3, 4, 3])],
            vec![1, 4, 9],
        ),
    ]
}

#[test]
fn fitting_all_weights_finds_the_weights_whatever_the_contraction() {
    for (what, nodes, weights, shape) in contractions() {
        let file = File::of(&model(nodes, weights, &shape, "y"));
        let sizes: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
        let batch = [&[40][..], &sizes[usize::from(sizes[0] == 1)..]].concat();
        // Models whose first axis is 1 take it as the samples'.
        let data = save(file.0.path(), random(&batch, 3));
        let pruned = file.prune(&with("sparse:0", "obc", data)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let Verdict::Pruned { error, output: Some(output), .. } = pruned.report.entries[0].verdict else {
            panic!("{what}: {:?}", pruned.report.entries);
        };
        assert!(error < 1e-3 && output.error < 1e-5, "{what}: {error} {output:?}");
        let x = random(&sizes, 4);
        let (want, got) = (run(&file.path(), &x), run(&File::new(&pruned.model).path(), &x));
        compare(&want, &got, Tolerance { rtol: 1e-3, atol: 1e-2 })
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

#[test]
fn wanda_takes_the_smallest_products_of_size_and_norm() {
    let nodes = vec![node("MatMul", "layer", &["x", "w"], "y")];
    let file = File::of(&model(nodes, vec![tensor("w", &[12, 8], Stored::Raw)], &[1, 12], "y"));
    let mut x = random(&[50, 12], 1).data::<f32>().to_vec();
    x.chunks_mut(12)
        .for_each(|row| row.iter_mut().enumerate().for_each(|(i, v)| *v *= (i * 5 % 12 + 1) as f32));
    let norm = |i: usize| x.chunks(12).map(|row| f64::from(row[i]).powi(2)).sum::<f64>().sqrt();
    let data = save(file.0.path(), Tensor::new(&[50, 12], x.clone()));
    let pruned = file.prune(&with("sparse:0.5", "wanda", data)).expect("it works");
    let old = numbers(&std::fs::read(file.path()).expect("a file"), 0);
    let new = numbers(&pruned.model, 0);
    for output in 0..8 {
        let at = |i: usize| i * 8 + output;
        let mut scores: Vec<(f64, usize)> =
            (0..12).map(|i| (f64::from(old[at(i)].abs()) * norm(i), i)).collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (place, (_, i)) in scores.iter().enumerate() {
            assert_eq!(new[at(*i)] == 0.0, place < 6, "output {output}, input {i}");
        }
        // What stays is scaled as a row.
        let ratios: Vec<f32> = scores[6..].iter().map(|(_, i)| new[at(*i)] / old[at(*i)]).collect();
        assert!(ratios.iter().all(|r| (r - ratios[0]).abs() < 1e-4 && *r > 0.4), "{ratios:?}");
    }
}

#[test]
fn every_method_and_pattern_has_its_zeros_and_the_same_bytes_at_every_run() {
    let path = fixture("models/simple_cnn.onnx");
    let dir = tempfile::tempdir().expect("a folder");
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let data = save(dir.path(), Tensor::new(&[24, 1, 28, 28], images.data::<f32>()[..24 * 784].to_vec()));
    for method in ["l1", "wanda", "obc"] {
        for (pattern, scope) in [
            ("sparse:0.5", None),
            ("sparse:0.5", Some(Scope::Row)),
            ("sparse:0.5", Some(Scope::Global)),
            ("2:4", None),
            ("block:4x1:0.5", None),
        ] {
            let request = Request { scope, ..with(pattern, method, data.clone()) };
            let pruned = prune(&path, &request).expect("it works");
            let (zeros, weights) = (pruned.report.zeros() as f64, pruned.report.weights() as f64);
            let what = format!("{method} {pattern} {scope:?}: {zeros} of {weights}");
            // Groups of 2:4 that end early lose less, and blocks of one network are not all as large.
            let least = if pattern.starts_with("sparse") { 0.5 } else { 0.47 };
            assert!((least..0.505).contains(&(zeros / weights)), "{what}");
            let again = prune(&path, &request).expect("it works");
            assert!(pruned.model == again.model, "{what}: other bytes at the second run");
        }
    }
}

/// How many of the digits that did not calibrate a model gets right.
fn right(model: &Path) -> usize {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let labels = npz::read_npy(&fixture("digits/labels.npy")).expect("labels").to_i64s().expect("integers");
    let graph = egret::source::graph(model, &Default::default()).expect("a graph");
    let run = Executable::new(graph, Engine::Jit, &Options::default(), &Default::default()).expect("code");
    let mut right = 0;
    for (image, label) in images.data::<f32>().chunks(784).zip(labels).skip(200) {
        let out = run.run(&[Tensor::new(&[1, 1, 28, 28], image.to_vec()).into()]).expect("a run").remove(0);
        let row = out.as_tensor().expect("a tensor").data::<f32>();
        let best = (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("classes");
        right += usize::from(best as i64 == label);
    }
    right
}

#[test]
fn data_keep_the_digits_where_sizes_alone_lose_them() {
    let path = fixture("models/simple_cnn.onnx");
    let dir = tempfile::tempdir().expect("a folder");
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let data = save(dir.path(), Tensor::new(&[200, 1, 28, 28], images.data::<f32>()[..200 * 784].to_vec()));
    let dense = right(&path);
    let accuracy =
        |request: &Request| right(&File::new(&prune(&path, request).expect("it works").model).path());
    let half = accuracy(&with("sparse:0.5", "l1", data.clone()));
    assert!(half >= 780 && dense >= 780, "{half} of 800 with half of the weights, {dense} with all");
    let global = Request { scope: Some(Scope::Global), ..with("sparse:0.8", "obc", data) };
    let (sizes, fitted) = (accuracy(&all("sparse:0.8")), accuracy(&global));
    assert!(
        fitted + 12 >= dense && sizes + 100 < dense,
        "{dense}; a fifth of it: {sizes}, fitted {fitted}"
    );
}

#[test]
fn data_that_cannot_be_used_are_refused() {
    let path = fixture("models/simple_cnn.onnx");
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |request: &Request, parts: &[&str]| {
        let message = prune(&path, request).map(|_| ()).expect_err("refused").to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "no `{part}` in {message}"));
    };
    refused(
        &Request { data: vec![], ..with("sparse:0.5", "obc", "".into()) },
        &["obc needs samples", "--data"],
    );
    let at = |shape: &[usize]| with("sparse:0.5", "obc", save(dir.path(), random(shape, 0)));
    refused(&at(&[0, 1, 28, 28]), &["no samples"]);
    refused(&at(&[3, 1, 27, 28]), &["sample 0", "image", "27"]);
    refused(&at(&[3, 5]), &["[3, 5]", "4 axes"]);
    let holes = Tensor::new(&[1, 1, 28, 28], vec![f32::NAN; 784]);
    refused(&with("sparse:0.5", "obc", save(dir.path(), holes)), &["`image`: sample 0 holds NaN"]);
    assert!("l7".parse::<Method>().expect_err("refused").to_string().contains("l1, wanda, obc"));
}
