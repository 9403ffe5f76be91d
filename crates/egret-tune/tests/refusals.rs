//! What does not fit is refused with one message that says what helps.

mod kit;

use egret::ErrorKind;
use egret::ir::Tensor;
use egret_tune::{Loss, Request, tune};
use kit::{data, digits, fixture, linear, node, port, random, request, save, weight};
use std::path::Path;

#[track_caller]
fn refused(model: &Path, request: &Request, kind: ErrorKind, parts: &[&str]) {
    let e = tune(model, request).map(|_| ()).expect_err("a refusal");
    assert_eq!(e.kind, kind, "{e}");
    assert!(!e.message.contains('\n') && parts.iter().all(|p| e.message.contains(p)), "{e}");
}

#[test]
fn data_that_do_not_fit() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let model = linear(&at("m.onnx"), 0);
    let with = |arrays: &[(&str, Tensor)], loss: Loss, parts: &[&str]| {
        let file = data(&at("d.npz"), arrays);
        refused(&model, &request(loss, &file, &["*"]), ErrorKind::User, parts);
    };
    let x = |n: usize| ("x", random(&[n, 3], 1));
    let classes = |list: &[i64]| ("y", Tensor::new(&[list.len()], list.to_vec()));
    with(&[x(0), ("y", random(&[0, 2], 1))], Loss::Mse, &["no samples"]);
    with(&[("y", random(&[4, 2], 1))], Loss::Mse, &["no array for the input `x`"]);
    with(&[("x", random(&[4, 3, 1], 1)), ("y", random(&[4, 2], 1))], Loss::Mse, &["[4, 3, 1]", "2 axes"]);
    with(&[("x", random(&[4, 5], 1)), ("y", random(&[4, 2], 1))], Loss::Mse, &["5"]);
    with(&[x(4)], Loss::Mse, &["no labels", "--labels"]);
    with(&[x(4), ("y", random(&[4, 3], 1))], Loss::Mse, &["[3] per sample", "[2]", "--of"]);
    with(
        &[x(4), ("y", random(&[5, 2], 1))],
        Loss::Mse,
        &["d.npz: the labels: 5 samples", "another array has 4"],
    );
    with(&[x(4), ("y", random(&[4, 2], 1)), ("z", random(&[4], 1))], Loss::Mse, &["`y`, `z`", "no inputs"]);
    with(&[x(2), classes(&[0, 2])], Loss::CrossEntropy, &["label of sample 1 is 2", "2 classes, 0 to 1"]);
    with(&[x(2), classes(&[0, -1])], Loss::CrossEntropy, &["sample 1 is -1"]);
    with(&[x(4), ("y", random(&[4], 1))], Loss::CrossEntropy, &["whole numbers", "--loss mse"]);
    let nan = Tensor::new(&[1, 2], vec![0f32, f32::NAN]);
    with(&[x(1), ("y", nan)], Loss::Mse, &["target of sample 0 is NaN"]);
    // Labels in a file of their own: it is named for what is wrong with them, and the data for what is wrong with those.
    let file = data(&at("d.npz"), &[x(2)]);
    for (labels, parts) in [
        (Tensor::new(&[3], vec![0i64; 3]), ["t.npy: the labels: 3 samples", "d.npz has 2"]),
        (Tensor::new(&[2], vec![0i64, 2]), ["t.npy: the label of sample 1 is 2", "2 classes"]),
        (random(&[2, 2], 1), ["t.npy: the labels are f32", "--loss mse"]),
    ] {
        std::fs::write(at("t.npy"), egret::npz::npy_bytes(&labels)).expect("written");
        let wanted = Request { labels: Some(at("t.npy")), ..request(Loss::CrossEntropy, &file, &["*"]) };
        refused(&model, &wanted, ErrorKind::User, &parts);
    }
    let nothing = request(Loss::Mse, &at("none.npz"), &["*"]);
    refused(&model, &nothing, ErrorKind::User, &["does not exist"]);
    let other = request(Loss::Mse, &model, &["*"]);
    refused(&model, &other, ErrorKind::User, &[".npz file"]);
    let file = data(&at("d.npz"), &[x(2), ("y", random(&[2, 2], 1))]);
    let part = Request { hold_back: 0.1, ..request(Loss::Mse, &file, &["*"]) };
    refused(&model, &part, ErrorKind::User, &["--hold-back 0.1", "2 to train on"]);
}

#[test]
fn weights_that_cannot_be_trained() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let model = linear(&at("m.onnx"), 0);
    let file = data(&at("d.npz"), &[("x", random(&[4, 3], 1)), ("y", random(&[4, 2], 2))]);
    refused(&model, &request(Loss::Mse, &file, &["v*"]), ErrorKind::User, &["--train 'v*'", "`w`, `b`"]);
    refused(&model, &request(Loss::Mse, &file, &[]), ErrorKind::User, &["--train", "`w`, `b`"]);
    let skipped = |skip: &str| Request { skip: vec![skip.into()], ..request(Loss::Mse, &file, &["*"]) };
    refused(&model, &skipped("v"), ErrorKind::User, &["--skip 'v'", "`w`, `b`"]);
    refused(&model, &skipped("?"), ErrorKind::User, &["--skip leaves nothing"]);
    let tuned = tune(&model, &skipped("b")).expect("a tuned model");
    assert_eq!(tuned.report.weights.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["w"]);
    // `b` decides the sign only, which has no derivative but zero.
    let weights = vec![weight("w", &[3, 2], &[1.0; 6]), weight("b", &[2], &[1.0; 2])];
    let nodes =
        vec![node("MatMul", &["x", "w"], "p"), node("Sign", &["b"], "s"), node("Mul", &["p", "s"], "y")];
    let ports = (vec![port("x", 1, &[0, 3])], vec![port("y", 1, &[0, 2])]);
    let model = save(&at("s.onnx"), nodes, weights, ports.0, ports.1);
    refused(
        &model,
        &request(Loss::Mse, &file, &["*"]),
        ErrorKind::User,
        &["`b` is zero", "sign", "--skip"],
    );
}

#[test]
fn outputs_that_have_no_such_loss() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let file = data(&at("d.npz"), &[("x", random(&[4, 3], 1)), ("y", random(&[4, 2], 2))]);
    let weights = || vec![weight("w", &[3, 2], &[1.0; 6])];
    // The sum over the batch has no axis for it; whole numbers have no loss.
    let nodes = vec![node("MatMul", &["x", "w"], "p"), node("ReduceSum", &["p"], "y")];
    let model =
        save(&at("a.onnx"), nodes, weights(), vec![port("x", 1, &[0, 3])], vec![port("y", 1, &[1, 1])]);
    refused(&model, &request(Loss::Mse, &file, &["w"]), ErrorKind::User, &["`y`", "batch", "--of"]);
    let nodes = vec![node("MatMul", &["x", "w"], "p"), node("ArgMax", &["p"], "y")];
    let model =
        save(&at("b.onnx"), nodes, weights(), vec![port("x", 1, &[0, 3])], vec![port("y", 7, &[1, 2])]);
    refused(&model, &request(Loss::Mse, &file, &["w"]), ErrorKind::User, &["no output is of floats"]);
    let linear = linear(&at("m.onnx"), 0);
    let of = Request { of: Some("z".into()), ..request(Loss::Mse, &file, &["w"]) };
    refused(&linear, &of, ErrorKind::User, &["--of z", "`y`"]);
    let taught = request(Loss::Kl(fixture("models/simple_cnn.onnx")), &file, &["w"]);
    refused(&linear, &taught, ErrorKind::User, &["teacher", "`image`"]);
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_good_checkpoint() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let model = linear(&at("m.onnx"), 0);
    let file = data(&at("d.npz"), &[("x", random(&[16, 3], 1)), ("y", random(&[16, 2], 2))]);
    let state = at("state.npz");
    let wild = Request {
        rate: Some(1e5),
        batch: 16,
        epochs: 20,
        checkpoint: Some(state.clone()),
        ..request(Loss::Mse, &file, &["w"])
    };
    let e = tune(&model, &wild).map(|_| ()).expect_err("a loss out of bounds").message;
    assert!(e.contains("--rate") && e.contains("keeps the state after epoch"), "{e}");
    // What the message names is a state that ends in a model.
    let epochs: usize = e
        .split("after epoch ")
        .nth(1)
        .and_then(|s| s.split(',').next())
        .and_then(|s| s.parse().ok())
        .expect("its number");
    let kept = Request { epochs, resume: true, ..wild.clone() };
    let good = tune(&model, &kept);
    assert!(good.is_ok_and(|t| t.report.epochs == [epochs, epochs]));
    // Of another tuning, of none, and of more epochs than asked.
    refused(
        &model,
        &Request { batch: 8, ..kept.clone() },
        ErrorKind::User,
        &["batch=16", "batch=8", "--resume"],
    );
    refused(&model, &Request { epochs: epochs - 1, ..kept.clone() }, ErrorKind::User, &["epochs already"]);
    std::fs::remove_file(&state).expect("the checkpoint");
    refused(&model, &kept, ErrorKind::User, &["no checkpoint"]);
    data(&state, &[("x", random(&[1], 1))]);
    refused(&model, &kept, ErrorKind::User, &["no checkpoint of `egret tune`"]);
    refused(&model, &Request { checkpoint: None, ..kept }, ErrorKind::User, &["--checkpoint FILE"]);
}

#[test]
fn settings_out_of_range() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = digits(&dir.path().join("d.npz"), 0, 2);
    let model = fixture("models/parallel_cnn.onnx");
    let base = request(Loss::CrossEntropy, &file, &["fc2.*"]);
    let with = |r: Request, parts: &[&str]| refused(&model, &r, ErrorKind::User, parts);
    with(Request { rate: Some(0.0), ..base.clone() }, &["--rate 0"]);
    with(Request { rate: Some(f64::NAN), ..base.clone() }, &["--rate NaN"]);
    with(Request { decay: Some(-1.0), ..base.clone() }, &["--decay -1"]);
    with(Request { momentum: 1.0, ..base.clone() }, &["--momentum 1"]);
    with(Request { hold_back: 1.0, ..base.clone() }, &["--hold-back 1"]);
    with(Request { eval: Some(file.clone()), hold_back: 0.5, ..base.clone() }, &["--eval", "one of them"]);
    assert!("hinge".parse::<Loss>().is_err_and(|e| e.contains("cross_entropy")));
    assert!("kl".parse::<Loss>().is_err_and(|e| e.contains("kl:teacher.onnx")));
    assert!("adam".parse::<egret_tune::Optimizer>().is_err_and(|e| e.contains("adamw")));
}
