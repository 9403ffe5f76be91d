//! Laws of tuning: where it ends, what it leaves, and that stops and runs do not show.

mod kit;

use egret::ir::Tensor;
use egret_tune::{Loss, Optimizer, Request};
use kit::{data, digits, fixture, linear, node, numbers, port, random, request, save, tuned, weight};
use onnx_protobuf::{Message, ModelProto};
use std::path::Path;

/// The solution of `a x = b`, by elimination.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in (0..n).filter(|j| *j != i) {
            let f = a[j][i] / a[i][i];
            let row = a[i].clone();
            a[j].iter_mut().zip(&row).for_each(|(v, r)| *v -= f * r);
            b[j] -= f * b[i];
        }
    }
    (0..n).map(|i| b[i] / a[i][i]).collect()
}

/// Noisy data whose best linear fit is not exact.
fn fit(path: &Path, samples: usize) -> (std::path::PathBuf, Vec<f64>) {
    let (x, y) = (random(&[samples, 3], 1), random(&[samples, 2], 2));
    let rows: Vec<Vec<f64>> =
        x.data::<f32>().chunks(3).map(|r| r.iter().map(|v| f64::from(*v)).chain([1.0]).collect()).collect();
    let gram = (0..4).map(|i| (0..4).map(|j| rows.iter().map(|r| r[i] * r[j]).sum()).collect()).collect();
    let gram: Vec<Vec<f64>> = gram;
    let mut best = vec![0.0; 8];
    for o in 0..2 {
        let right = (0..4)
            .map(|i| rows.iter().zip(y.data::<f32>().chunks(2)).map(|(r, y)| r[i] * f64::from(y[o])).sum())
            .collect();
        for (i, v) in solve(gram.clone(), right).into_iter().enumerate() {
            best[i * 2 + o] = v;
        }
    }
    (data(path, &[("x", x), ("t", y)]), best)
}

#[test]
fn a_linear_model_ends_at_the_least_squares_solution() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, best) = fit(&dir.path().join("d.npz"), 40);
    // Batches free, and of 1 and 7, of which the gradients are added up; 7 does not divide 40.
    for (batch, optimizer, rate, epochs) in
        [(0, Optimizer::Sgd, 0.2, 400), (1, Optimizer::Sgd, 0.2, 400), (7, Optimizer::AdamW, 0.01, 1500)]
    {
        let model = linear(&dir.path().join("m.onnx"), batch);
        let r = Request {
            optimizer,
            rate: Some(rate),
            decay: Some(0.0),
            epochs,
            batch: 40,
            ..request(Loss::Mse, &file, &["*"])
        };
        let (_, proto, report) = tuned(&model, &r);
        let got = [numbers(&proto, "w"), numbers(&proto, "b")].concat();
        let worst = got.iter().zip(&best).map(|(g, b)| (g - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "batch {batch}: {got:?}, best {best:?}");
        assert!(report.after.loss < report.before.loss && report.after.accuracy.is_none());
        assert_eq!((report.steps, report.numbers()), (epochs as u64, 8));
    }
}

/// Weights that start equal, beside one that stays: each has its own gradient, is written in its own place, and starts nothing else anew.
#[test]
fn equal_weights_are_tuned_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = |bs: &[f32]| {
        let nodes = vec![
            node("Mul", &["x", "a"], "p"),
            node("Add", &["p", "b"], "q"),
            node("Mul", &["q", "c"], "r"),
            node("Exp", &["c"], "e"),
            node("Sub", &["r", "e"], "y"),
        ];
        let weights =
            vec![weight("a", &[2], &[1.0; 2]), weight("b", &[2], bs), weight("c", &[2], &[1.0; 2])];
        let path = dir.path().join(format!("{}.onnx", bs[0]));
        save(&path, nodes, weights, vec![port("x", 1, &[0, 2])], vec![port("y", 1, &[0, 2])])
    };
    let file = data(&dir.path().join("d.npz"), &[("x", random(&[8, 2], 1)), ("t", random(&[8, 2], 2))]);
    let r = Request {
        optimizer: Optimizer::Sgd,
        rate: Some(0.1),
        momentum: 0.0,
        decay: Some(0.0),
        epochs: 1,
        batch: 8,
        ..request(Loss::Mse, &file, &["a", "b"])
    };
    let [(_, one, _), (_, near, _)] = [1.0, 1.0 + 1e-3].map(|b| tuned(&model(&[b; 2]), &r));
    assert_eq!(numbers(&one, "c"), [1.0, 1.0]);
    for (name, start) in [("a", [1.0, 1.0]), ("b", [1.0, 1.0 + 1e-3])] {
        let step = |proto, start: f64| numbers(proto, name).iter().map(|v| v - start).collect::<Vec<f64>>();
        let (one, near) = (step(&one, start[0]), step(&near, f64::from(start[1] as f32)));
        // A step is as large as it is for weights that nearly start equal.
        for (one, near) in one.iter().zip(&near) {
            assert!(
                one.abs() > 1e-3 && (one - near).abs() < 2e-2 * one.abs() + 2e-4,
                "{name}: {one}, not {near}"
            );
        }
    }
    assert_ne!(numbers(&one, "a"), numbers(&one, "b"));
}

#[test]
fn only_the_chosen_weights_change() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = digits(&dir.path().join("d.npz"), 0, 40);
    let path = fixture("models/simple_cnn.onnx");
    let r = Request { epochs: 1, ..request(Loss::CrossEntropy, &file, &["fc2.*", "conv1.bias"]) };
    let (_, mut made, report) = tuned(&path, &r);
    let names: Vec<&str> = report.weights.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["conv1.bias", "fc2.weight", "fc2.bias"]);
    assert!(report.weights.iter().all(|w| w.change > 0.0), "{report:?}");
    assert_eq!(report.batch, [32, 1], "the model's batch is fixed");
    let before = ModelProto::parse_from_bytes(&std::fs::read(&path).expect("a model")).expect("a model");
    for (now, was) in
        made.graph.mut_or_insert_default().initializer.iter_mut().zip(&before.graph.initializer)
    {
        assert_eq!(names.contains(&now.name.as_str()), now != was, "{}", now.name);
        *now = was.clone();
    }
    assert_eq!(made, before);
}

/// Five epochs in one go, with a stop after two, and on other threads.
#[test]
fn stops_and_threads_do_not_show() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = digits(&dir.path().join("d.npz"), 0, 50);
    let model = fixture("models/parallel_cnn.onnx");
    for optimizer in [Optimizer::Sgd, Optimizer::AdamW] {
        let whole = Request {
            optimizer,
            epochs: 5,
            batch: 16,
            seed: 3,
            ..request(Loss::CrossEntropy, &file, &["fc2.*"])
        };
        let (bytes, _, report) = tuned(&model, &whole);
        let mut other = whole.clone();
        other.options.threads = 2;
        assert!(tuned(&model, &other).0 == bytes);
        let checkpoint = Some(dir.path().join("state.npz"));
        tuned(&model, &Request { epochs: 2, checkpoint: checkpoint.clone(), ..whole.clone() });
        let rest = Request { resume: true, checkpoint, ..whole.clone() };
        let (resumed, _, told) = tuned(&model, &rest);
        assert!(resumed == bytes);
        assert_eq!((told.epochs, told.steps, told.after), ([5, 2], report.steps, report.after));
        // Nothing is left to do.
        assert!(tuned(&model, &rest).0 == bytes);
        assert!(tuned(&model, &Request { seed: 4, ..whole }).0 != bytes);
    }
}

/// A network that pruning has damaged, and its last layers trained again on other digits than those that it is measured on.
#[test]
fn the_last_layers_of_a_pruned_network_recover() {
    let dir = tempfile::tempdir().expect("a folder");
    let (train, eval) =
        (digits(&dir.path().join("t.npz"), 0, 700), digits(&dir.path().join("e.npz"), 700, 1000));
    let model = dir.path().join("pruned.onnx");
    let harsh = egret_compress::Request::new("sparse:0.9".parse().expect("a pattern"));
    let pruned = egret_compress::prune(&fixture("models/parallel_cnn.onnx"), &harsh).expect("a model");
    std::fs::write(&model, pruned.model).expect("a file");
    let r =
        Request { eval: Some(eval), keep_zeros: true, ..request(Loss::CrossEntropy, &train, &["fc2.*"]) };
    let (_, _, report) = tuned(&model, &r);
    let [before, after] = [report.before, report.after].map(|q| q.accuracy.expect("labels"));
    println!("last layer {before:.3} -> {after:.3}");
    assert!(before < 0.4 && after > 0.9, "{before} {after}");
    assert_eq!(report.measured, (300, false));
    // The intact network as the teacher, without labels to train on; all layers.
    let images = egret::npz::read_npz(&train).expect("digits")["image"].clone();
    let plain = data(&dir.path().join("p.npz"), &[("image", images)]);
    let loss = Loss::Kl(fixture("models/simple_cnn.onnx"));
    let r = Request { loss, data: plain, train: vec!["*".into()], ..r };
    let (_, proto, taught) = tuned(&model, &r);
    let [before, after] = [taught.before, taught.after].map(|q| q.accuracy.expect("labels"));
    println!("taught {before:.3} -> {after:.3}, loss {} -> {}", taught.before.loss, taught.after.loss);
    assert!(before < 0.4 && after > 0.95, "{before} {after}");
    assert!(taught.after.loss >= 0.0 && taught.after.loss < taught.before.loss / 10.0);
    let zeros = numbers(&proto, "fc1.weight").iter().filter(|v| **v == 0.0).count();
    assert_eq!(zeros, 14_400, "what was pruned is still zero");
}

#[test]
fn a_teacher_like_the_model_leaves_it_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = digits(&dir.path().join("d.npz"), 0, 20);
    let model = fixture("models/parallel_cnn.onnx");
    let r = Request { epochs: 1, ..request(Loss::Kl(model.clone()), &file, &["fc2.bias"]) };
    let (_, _, report) = tuned(&model, &r);
    assert!(report.before.loss.abs() < 1e-6 && report.weights[0].change < 1e-5, "{report:?}");
}

/// Cross entropy of tokens: a class for each of several positions, and weights of 16 bits.
#[test]
fn every_position_has_its_class() {
    use kit::{node, port, save};
    let dir = tempfile::tempdir().expect("a folder");
    let bits: Vec<i32> = (0..12).map(|i| if i % 5 == 0 { 0x3800 } else { 0xb400 }).collect();
    let half = onnx_protobuf::TensorProto {
        name: "w".into(),
        dims: vec![3, 4],
        data_type: 10,
        int32_data: bits,
        ..Default::default()
    };
    let model = save(
        &dir.path().join("m.onnx"),
        vec![node("MatMul", &["x", "w"], "y")],
        vec![half],
        vec![port("x", 10, &[0, 5, 3])],
        vec![port("y", 10, &[0, 5, 4])],
    );
    // The class is the place of the one.
    let classes: Vec<i64> = (0..40).map(|i| (i * 7 % 3) as i64).collect();
    let ones = classes.iter().flat_map(|c| (0..3).map(move |i| if i == *c { 1.0 } else { 0.0 }));
    let x = Tensor::from_f64s(egret::ir::DType::F16, &[8, 5, 3], ones.collect());
    let file = data(&dir.path().join("d.npz"), &[("x", x), ("y", Tensor::new(&[8, 5], classes))]);
    let r = Request { rate: Some(0.5), epochs: 30, batch: 3, ..request(Loss::CrossEntropy, &file, &["w"]) };
    let (_, proto, report) = tuned(&model, &r);
    assert_eq!(report.after.accuracy, Some(1.0));
    assert!(report.after.loss < 0.1, "{report:?}");
    assert_eq!(proto.graph.initializer[0].data_type, 10);
}
