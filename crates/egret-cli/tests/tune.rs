//! `egret tune` and `egret signals` from outside.

mod kit;

use kit::{egret, model, names, path, refused, temp, text, works};
use std::path::Path;

fn digits(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits");
    root.join(format!("{name}.npy")).display().to_string()
}

#[test]
fn a_model_is_tuned_and_runs() {
    let dir = temp();
    let (out, state) = (path(&dir, "out.onnx"), path(&dir, "state.npz"));
    let (images, labels, model) = (digits("images"), digits("labels"), model("parallel_cnn"));
    let base = ["tune", &model, "--data", &images, "--labels", &labels, "--loss", "cross_entropy"];
    let more = ["--train", "fc2.*", "--hold-back", "0.9", "--batch", "50", "-o", &out];
    let with = |rest: &[&str]| egret(&[&base[..], &more, rest].concat());
    let one = with(&["--epochs", "2", "--checkpoint", &state]);
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stderr));
    assert_eq!(text(&one.stderr).lines().filter(|l| l.starts_with("epoch ")).count(), 2);
    for part in ["fc2.weight  [10, 50]", "510 trained", "on 900 samples not trained on", "accuracy  "] {
        assert!(text(&one.stdout).contains(part), "no `{part}` in {}", text(&one.stdout));
    }
    let first = std::fs::read(&out).expect("a model");
    let json = with(&["--epochs", "3", "--checkpoint", &state, "--resume", "--format", "json"]);
    assert!(text(&json.stdout).contains("\"resumed\": 2"), "{}", text(&json.stdout));
    let resumed = std::fs::read(&out).expect("a model");
    with(&["--epochs", "3"]);
    assert!(first != resumed && resumed == std::fs::read(&out).expect("a model"));
    works(&["check", &out, "--random", "1", "--dim", "batch=2"]);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let dir = temp();
    let out = path(&dir, "out.onnx");
    let (images, labels, model) = (digits("images"), digits("labels"), model("parallel_cnn"));
    let with = |more: &[&str], parts: &[&str]| {
        let base = ["tune", &model, "--data", &images, "--labels", &labels];
        refused(&[&base[..], more].concat(), 1, parts);
    };
    let loss = ["--loss", "cross_entropy"];
    with(&[&loss[..], &["-o", &out]].concat(), &["--train"]);
    with(&[&loss[..], &["--train", "head.*", "-o", &out]].concat(), &["head.*", "`fc2.weight`"]);
    let copy = path(&dir, "copy.onnx");
    std::fs::copy(&model, &copy).expect("a copy");
    let kl = ["--loss", &format!("kl:{copy}"), "--train", "fc2.*"];
    with(&[&kl[..], &["-o", &copy]].concat(), &["copy.onnx is read here"]);
    with(&[&kl[..], &["-o", &out, "--checkpoint", &copy]].concat(), &["copy.onnx is read here"]);
    with(&[&kl[..], &["-o", &out, "--checkpoint", &out]].concat(), &["--checkpoint and --output are both"]);
    std::fs::remove_file(&copy).expect("removed");
    with(&["--loss", "hinge", "--train", "fc2.*", "-o", &out], &["no loss `hinge`", "mse"]);
    with(&["--loss", "mse", "--train", "fc2.*", "-o", &out], &["`logits`", "[10]"]);
    with(&[&loss[..], &["--train", "*", "--rate", "-1", "-o", &out]].concat(), &["--rate -1"]);
    with(&[&loss[..], &["--train", "*", "--rate", "1e30", "-o", &out]].concat(), &["epoch 1", "--rate"]);
    let nowhere = path(&dir, "none/out.onnx");
    with(&[&loss[..], &["--train", "*", "-o", &nowhere]].concat(), &["is no folder"]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn signals_are_told_and_scores_choose_zeros() {
    let dir = temp();
    let [scores, page, pruned] = ["scores.npz", "page.html", "pruned.onnx"].map(|n| path(&dir, n));
    let (images, labels, model) = (digits("images"), digits("labels"), model("parallel_cnn"));
    let base = ["signals", &model, "--data", &images, "--labels", &labels, "--loss", "cross_entropy"];
    let told = egret(&[&base[..], &["-o", &scores, "--report", &page]].concat());
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    for part in ["the mean of 1000 samples", "16 units were 0", "/conv2/Conv  Conv     5020", "14 of 50"] {
        assert!(text(&told.stdout).contains(part), "no `{part}` in {}", text(&told.stdout));
    }
    assert!(text(&told.stdout).lines().all(|l| l.chars().count() <= 100), "{}", text(&told.stdout));
    let shown = std::fs::read_to_string(&page).expect("a page");
    assert!(shown.contains("<svg") && shown.contains("14 of 50 units dead") && !shown.contains("://"));
    let made = egret(&["prune", &model, "--to", "sparse:0.5", "--all", "--scores", &scores, "-o", &pruned]);
    assert!(text(&made.stdout).contains("by Fisher scores of 1000 samples, over all layers"));
    refused(&[&base[..], &["-o", &images]].concat(), 1, &["images.npy"]);
    refused(&[&base[..], &["-o", &page, "--report", &page]].concat(), 1, &["-o and --report"]);
    refused(&["prune", &model, "--to", "2:4", "--scores", &images, "-o", &pruned], 1, &["images.npy"]);
}
