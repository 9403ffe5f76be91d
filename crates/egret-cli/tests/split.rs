//! Split tensors: stages of steps whose results are near the whole, and the same to the bit however the stages run.

mod kit;

use egret::npz;
use egret::stages::Plan;
use kit::stages::{numbers, save, write};
use kit::{egret, names, path, refused, temp, text, works};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Two layers, large enough that a second worker pays.
const MLP: &str = "graph @mlp(%0 \"x\": f32[n, 64, 512]) -> (%8 \"y\") {
  %1 = const f32[512, 2048] random(1)
  %2 = const f32[2048] random(2)
  %3 = const f32[2048, 512] random(3)
  %4 = matmul(%0, %1)
  %5 = add(%4, %2)
  %6 = tanh(%5)
  %7 \"down\" = matmul(%6, %3)
  %8 = add(%7, %0)
}";

fn split(dir: &TempDir, model: &str, further: &[&str]) -> (String, Plan, String) {
    let out = path(dir, "parts");
    let done = egret(&[&["partition", model, "--split", "2", "-o", &out], further].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let plan = path(dir, "parts/plan.toml");
    (plan.clone(), Plan::read(Path::new(&plan)).unwrap(), text(&done.stderr))
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    names(Path::new(folder)).iter().map(|f| fs::read(Path::new(folder).join(f)).unwrap()).collect()
}

#[test]
fn workers_have_halves_of_the_weights_and_one_adds() {
    let dir = temp();
    let model = write(&dir, "mlp.egret", MLP);
    let (file, plan, said) = split(&dir, &model, &[]);
    assert!(!said.contains("no tensor is split"), "{said}");
    assert_eq!(plan.steps(), [0..2, 2..3]);
    assert_eq!(
        plan.cuts[0].values.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(),
        ["down.0", "down.1"]
    );
    assert!(plan.cuts[0].why.starts_with("Parts are put together behind it"), "{}", plan.cuts[0].why);

    let batch = save(&dir, "batch.npz", &[("x", &numbers(&[6, 1, 64, 512], 0))]);
    let run = |to: &str, further: &[&str]| {
        let out = path(&dir, to);
        works(&[&["run", "--plan", &file, "--data", &batch, "-o", &out], further].concat());
        files(&out)
    };
    let one = run("one", &["--threads", "1"]);
    assert_eq!(one.len(), 6);
    assert!(one == run("three", &["--threads", "3"]));
    if cfg!(unix) {
        assert!(one == run("processes", &["--transport", "process"]));
    }
    // Within the rounding of sums in another order, the whole gives the same.
    let (mine, whole) = (path(&dir, "mine.npz"), path(&dir, "whole.npz"));
    works(&["run", "--plan", &file, "--dim", "n=1", "--random", "3", "-o", &mine]);
    works(&["run", &model, "--dim", "n=1", "--random", "3", "-o", &whole]);
    let [mine, whole] = [mine, whole].map(|f| npz::read_npz(Path::new(&f)).unwrap());
    let (a, b) = (mine["y"].data::<f32>(), whole["y"].data::<f32>());
    let most = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * most));
}

#[test]
fn what_does_not_pay_is_one_stage_and_says_why() {
    let dir = temp();
    // Few rows and columns are through before others could be told of them.
    let small = write(
        &dir,
        "small.egret",
        &MLP.replace("2048", "32").replace("n, 64, 512", "2, 16").replace("512", "16"),
    );
    let (_, plan, said) = split(&dir, &small, &[]);
    assert_eq!((plan.stages.len(), plan.cuts.len()), (1, 0));
    assert!(said.contains("note: no tensor is split: by estimate the model takes"), "{said}");
    let plain =
        write(&dir, "plain.egret", "graph @plain(%0 \"x\": f32[8]) -> (%1 \"y\") {\n  %1 = tanh(%0)\n}");
    let (_, _, said) = split(&dir, &plain, &[]);
    assert!(said.contains("it has no product of floats"), "{said}");
    refused(&["partition", &small, "--split", "2", "--stages", "2", "-o", "x"], 1, &["--stages"]);
    refused(&["partition", &small, "-o", "x"], 1, &["--stages"]);
}
