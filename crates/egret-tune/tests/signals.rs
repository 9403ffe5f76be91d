//! Signals: against hand-written gradients, and what scores are for.

mod kit;

use egret::ir::{DType, Tensor};
use egret::{ErrorKind, npz};
use egret_compress::{Method, Quantization, Request as Pruning, Scope, Scores, prune, quantize};
use egret_tune::{Loss, Signals, Wanted, page, signals};
use kit::{data, digits, fixture, node, port, random, save, weight};
use std::path::{Path, PathBuf};

fn wanted(loss: Loss, data: &[&Path]) -> Wanted {
    let data = data.iter().map(|&p| p.to_owned()).collect();
    Wanted { loss, data, labels: None, of: None, skip: vec![], options: egret::Options::default() }
}

const W: [f32; 6] = [0.5, -0.25, -1.0, 0.75, 1.0, -2.0];
const B: [f32; 3] = [0.1, 0.0, -0.5];
const V: [f32; 3] = [1.5, -0.5, 0.25];

/// `y = relu(x w + b) v` of positive x: the third unit is never on. A batch of 0 is free.
fn net(path: &Path, batch: i64) -> PathBuf {
    let weights = vec![weight("w", &[2, 3], &W), weight("b", &[3], &B), weight("v", &[3, 1], &V)];
    let nodes = vec![
        node("MatMul", &["x", "w"], "p"),
        node("Add", &["p", "b"], "q"),
        node("Relu", &["q"], "h"),
        node("MatMul", &["h", "v"], "y"),
    ];
    save(path, nodes, weights, vec![port("x", 1, &[batch, 2])], vec![port("y", 1, &[batch, 1])])
}

/// The mean loss, the activations of the hidden units, and by weight the mean gradient and the mean of its square.
type Hand = (f64, Vec<f64>, [Vec<[f64; 2]>; 3]);

fn by_hand(x: &[f32], t: &[f32]) -> Hand {
    let n = t.len() as f64;
    let (mut loss, mut hidden) = (0.0, vec![]);
    let mut sums = [vec![[0.0; 2]; 6], vec![[0.0; 2]; 3], vec![[0.0; 2]; 3]];
    for (x, t) in x.chunks(2).zip(t) {
        let x = [f64::from(x[0]), f64::from(x[1])];
        let h: Vec<f64> = (0..3)
            .map(|j| (x[0] * f64::from(W[j]) + x[1] * f64::from(W[3 + j]) + f64::from(B[j])).max(0.0))
            .collect();
        let y: f64 = h.iter().zip(V).map(|(h, v)| h * f64::from(v)).sum();
        let dy = 2.0 * (y - f64::from(*t));
        loss += (y - f64::from(*t)).powi(2) / n;
        let mut add = |which: usize, i: usize, g: f64| {
            sums[which][i][0] += g / n;
            sums[which][i][1] += g * g / n;
        };
        for j in 0..3 {
            let dh = if h[j] > 0.0 { dy * f64::from(V[j]) } else { 0.0 };
            add(0, j, x[0] * dh);
            add(0, 3 + j, x[1] * dh);
            add(1, j, dh);
            add(2, j, dy * h[j]);
        }
        hidden.extend(h);
    }
    (loss, hidden, sums)
}

/// Positive samples and targets.
fn samples(n: usize) -> (Tensor, Tensor) {
    let positive = Tensor::new(&[n, 2], random(&[n, 2], 1).data::<f32>().iter().map(|v| v.abs()).collect());
    (positive, random(&[n, 1], 2))
}

fn near(got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-3), "{got}, not {want}");
}

fn agrees(found: &Signals, (loss, hidden, sums): &Hand) {
    near(found.mean, *loss);
    let [first, last] = &found.layers[..] else { panic!("two layers: {:?}", found.layers) };
    assert_eq!([&first.op, &last.op], ["MatMul", "MatMul"]);
    let names: Vec<&str> = first.weights.iter().chain(&last.weights).map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["w", "b", "v"]);
    for (weight, sums) in first.weights.iter().chain(&last.weights).zip(sums) {
        let [mean, each] = weight.gradient.expect("a gradient");
        near(mean, sums.iter().map(|s| s[0] * s[0]).sum::<f64>().sqrt());
        near(each, sums.iter().map(|s| s[1]).sum::<f64>().sqrt());
        let fisher = found.scores.fisher(&weight.name).expect("scores");
        fisher.iter().zip(sums).for_each(|(got, s)| near(*got, s[1]));
    }
    let a = first.activation.as_ref().expect("an activation");
    assert_eq!((a.name.as_str(), a.units, &a.dead[..]), ("h", 3, &[2][..]));
    let mean = hidden.iter().sum::<f64>() / hidden.len() as f64;
    near(a.values.mean(), mean);
    let variance = hidden.iter().map(|h| (h - mean).powi(2)).sum::<f64>() / hidden.len() as f64;
    near(a.values.deviation(), variance.sqrt());
    assert_eq!(a.values.zeros() as usize, hidden.iter().filter(|h| **h == 0.0).count());
    assert_eq!(
        (a.gradients.count(), last.activation.as_ref().map(|a| a.units)),
        (hidden.len() as u64, Some(1))
    );
}

#[test]
fn figures_are_those_by_hand_in_one_file_or_several() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let (x, t) = samples(12);
    let part = |tensor: &Tensor, from: usize, to: usize| {
        let width = tensor.shape()[1];
        Tensor::new(&[to - from, width], tensor.data::<f32>()[from * width..to * width].to_vec())
    };
    let hand = by_hand(x.data(), t.data());
    let file = |name: &str, from: usize, to: usize| {
        data(&at(name), &[("x", part(&x, from, to)), ("t", part(&t, from, to))])
    };
    let [all, one, two] = [file("all.npz", 0, 12), file("one.npz", 0, 5), file("two.npz", 5, 12)];
    // A free batch, and one of four that is filled with copies.
    for batch in [0, 4] {
        let model = net(&at("m.onnx"), batch);
        let found = signals(&model, &wanted(Loss::Mse, &[&all])).expect("signals");
        agrees(&found, &hand);
        agrees(&signals(&model, &wanted(Loss::Mse, &[&one, &two])).expect("signals"), &hand);
        let again = signals(&model, &wanted(Loss::Mse, &[&all])).expect("signals");
        assert_eq!(found.to_json(), again.to_json());
        assert_eq!(page("m", "egret", &found), page("m", "egret", &again));
        // Scores of parts are merged into those of all.
        let [whole, first, second] = [&all, &one, &two].map(|d| {
            let scores = signals(&model, &wanted(Loss::Mse, &[d])).expect("signals").scores;
            let file = d.with_extension("scores.npz");
            std::fs::write(&file, scores.bytes().expect("bytes")).expect("a file");
            file
        });
        let merged = Scores::open(&[first, second], &model).expect("scores");
        let whole = Scores::open(&[whole], &model).expect("scores");
        assert_eq!((merged.samples(), whole.samples()), (12, 12));
        for name in ["w", "b", "v"] {
            let [m, w] = [&merged, &whole].map(|s| s.fisher(name).expect("scores"));
            m.iter().zip(w).for_each(|(m, w)| near(*m, *w));
        }
    }
    let page = page(
        "<m>",
        "egret signals",
        &signals(&net(&at("m.onnx"), 0), &wanted(Loss::Mse, &[&all])).expect("signals"),
    );
    assert!(
        page.contains("&lt;m&gt;") && page.contains("1 of 3 units dead: 2") && !page.contains("NaN"),
        "{page}"
    );
}

#[track_caller]
fn refused<T>(found: egret::Result<T>, parts: &[&str]) {
    let e = found.map(|_| ()).expect_err("a refusal");
    assert_eq!(e.kind, ErrorKind::User, "{e}");
    assert!(!e.message.contains('\n') && parts.iter().all(|p| e.message.contains(p)), "{e}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let model = net(&at("m.onnx"), 0);
    let (x, t) = samples(4);
    let with = |arrays: &[(&str, Tensor)], parts: &[&str]| {
        let file = data(&at("d.npz"), arrays);
        refused(signals(&model, &wanted(Loss::Mse, &[&file])), parts);
    };
    with(&[("x", random(&[0, 2], 1)), ("t", random(&[0, 1], 1))], &["no samples"]);
    with(&[("x", x.clone()), ("t", random(&[4, 2], 1))], &["[2] per sample", "[1]"]);
    with(&[("x", x.clone())], &["no labels"]);
    let bad = Tensor::new(&[2, 2], vec![1.0, 1.0, f32::NAN, 1.0]);
    with(&[("x", bad), ("t", random(&[2, 1], 1))], &["sample 1: its loss is NaN", "leave it out"]);
    refused(signals(&model, &wanted(Loss::Mse, &[])), &["--data"]);
    let file = data(&at("d.npz"), &[("x", x), ("t", t)]);
    let two = Wanted { labels: Some(at("t.npy")), ..wanted(Loss::Mse, &[&file, &file]) };
    refused(signals(&model, &two), &["--labels goes with one --data"]);
    let none = Wanted { skip: vec!["*".into()], ..wanted(Loss::Mse, &[&file]) };
    refused(signals(&model, &none), &["--skip leaves nothing of the weights; there are"]);

    let scores = signals(&model, &wanted(Loss::Mse, &[&file])).expect("signals").scores;
    let good = at("scores.npz");
    std::fs::write(&good, scores.bytes().expect("bytes")).expect("a file");
    let by = |scores: &[&Path]| Pruning {
        scores: scores.iter().map(|&p| p.to_owned()).collect(),
        all: true,
        ..Pruning::new("sparse:0.5".parse().expect("a pattern"))
    };
    refused(prune(&fixture("models/simple_cnn.onnx"), &by(&[&good])), &["another model", "egret signals"]);
    refused(prune(&model, &by(&[&file])), &["no scores of `egret signals`", "`model`"]);
    refused(prune(&model, &by(&[&at("none.npz")])), &["none.npz"]);
    let mut arrays: Vec<(String, Tensor)> = npz::read_npz(&good).expect("scores").into_iter().collect();
    for value in [f32::NAN, -1.0] {
        arrays
            .iter_mut()
            .filter(|a| a.0 == "fisher.v")
            .for_each(|a| a.1 = Tensor::new(&[3, 1], vec![value; 3]));
        npz::write(&at("bad.npz"), &arrays).expect("a file");
        refused(prune(&model, &by(&[&at("bad.npz")])), &["`fisher.v` holds", "0 or more"]);
    }
    for (_, array) in arrays.iter_mut().filter(|a| a.0 == "fisher.v") {
        *array = Tensor::new(&[1, 3], vec![1f32; 3]);
    }
    npz::write(&at("turned.npz"), &arrays).expect("a file");
    refused(prune(&model, &by(&[&at("turned.npz")])), &["`v`", "[1, 3]", "[3, 1]"]);
    arrays.retain(|a| a.0 != "fisher.v");
    npz::write(&at("less.npz"), &arrays).expect("a file");
    refused(prune(&model, &by(&[&at("less.npz")])), &["none of `v`", "--skip 'v'"]);
    refused(prune(&model, &by(&[&at("less.npz"), &good])), &["cannot be merged", "`v`"]);
    let wanda = Pruning { method: "wanda".parse::<Method>().expect("a method"), ..by(&[&good]) };
    refused(prune(&model, &wanda), &["--method wanda"]);
    let channels = Pruning { pattern: "channels:0.5".parse().expect("a pattern"), ..by(&[&good]) };
    refused(prune(&model, &channels), &["--to channels:0.5"]);
    let int8 = Quantization {
        scores: vec![good],
        data: vec![file],
        ..Quantization::new("w8".parse().expect("a precision"))
    };
    refused(quantize(&model, &int8), &["--scores does not go with --data"]);
}

/// Of 500 held-back digits, how many a model reads right.
fn right(model: &[u8], dir: &Path) -> usize {
    let (file, digits) = (dir.join("judged.onnx"), digits(&dir.join("judge.npz"), 500, 1000));
    std::fs::write(&file, model).expect("a model");
    let mut request = egret_tune::Request::new(Loss::CrossEntropy, digits);
    // A step of no length measures alone.
    (request.train, request.epochs, request.rate) = (vec!["fc2.bias".into()], 1, Some(1e-30));
    let report = egret_tune::tune(&file, &request).expect("it is measured").report;
    (report.before.accuracy.expect("labels") * 500.0).round() as usize
}

#[test]
fn scores_find_weights_that_matter_less_than_sizes_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = fixture("models/parallel_cnn.onnx");
    let file = digits(&dir.path().join("d.npz"), 0, 500);
    let found = signals(&model, &wanted(Loss::CrossEntropy, &[&file])).expect("signals");
    let scores = dir.path().join("scores.npz");
    std::fs::write(&scores, found.scores.bytes().expect("bytes")).expect("a file");
    // Among all layers, and of every four neighbours. Layer by layer it does not hold: docs/SIGNALS.md.
    for (pattern, scope) in [("sparse:0.8", Some(Scope::Global)), ("2:4", None)] {
        let pattern = pattern.parse().expect("a pattern");
        let made = |scores| {
            let request = Pruning { scores, scope, all: true, ..Pruning::new(pattern) };
            let made = prune(&model, &request).expect("a pruned model");
            (right(&made.model, dir.path()), made.report.zeros())
        };
        let ((by_size, zeros), (by_scores, same)) = (made(vec![]), made(vec![scores.clone()]));
        // Of 500, measured: 440 and 455, 467 and 479.
        assert!(
            by_scores > by_size + 5 && zeros == same,
            "{pattern}: {by_size} and {by_scores}, {zeros} and {same}"
        );
    }
    // Scales of 4 bits: less of the error that counts, more of that which does not.
    let model_of = |scores: &[&PathBuf]| {
        let scores = scores.iter().map(|&s| s.clone()).collect();
        let to = "w4:16".parse().expect("a precision");
        quantize(&model, &Quantization { scores, ..Quantization::new(to) }).expect("a model").model
    };
    assert!(model_of(&[]) != model_of(&[&scores]) && model_of(&[&scores]) == model_of(&[&scores]));
}

/// Masks of infinity and factors of no axis are no weights; what the loss does not depend on has no scores.
#[test]
fn transformers_and_other_outputs_have_signals() {
    let dir = tempfile::tempdir().expect("a folder");
    let hidden = Tensor::from_bytes(DType::Bool, &[3, 5], &[0; 15]);
    let arrays = [("x", random(&[3, 5, 8], 1)), ("hidden", hidden), ("t", random(&[3, 3], 2))];
    let file = data(&dir.path().join("d.npz"), &arrays);
    let found = signals(&fixture("models/masked.onnx"), &wanted(Loss::Mse, &[&file])).expect("signals");
    assert!(
        found.scores.fisher("never").is_none() && found.scores.fisher("layers.1.linear2.bias").is_some()
    );
    let gelu = found.layers.iter().find(|l| l.weights.iter().any(|w| w.name == "layers.0.linear1.weight"));
    let gelu = gelu.expect("the layer");
    let names: Vec<&str> = gelu.weights.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["layers.0.linear1.weight", "layers.0.linear1.bias"]);
    let a = gelu.activation.as_ref().expect("an activation");
    assert_eq!((a.name.as_str(), a.units, a.values.count()), ("layers.0.gelu", 16, 3 * 5 * 16));

    let file = digits(&dir.path().join("digits.npz"), 0, 3);
    let attention = fixture("models/attention_model.onnx");
    let found = signals(&attention, &wanted(Loss::CrossEntropy, &[&file])).expect("signals");
    let last = found.layers.last().expect("a layer");
    assert!(last.name == "/attention/Gemm" && last.gradient().is_none() && last.activation.is_none());
    assert!(
        found.scores.fisher("attention.weight").is_none() && found.scores.fisher("fc2.weight").is_some()
    );
}
