//! Time as what is paid for: by the compiler's estimates, with channels and levels together.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::npz;
use egret_compress::{Goal, Level, Metric, Outcome, Recipe, Verdict, compress, replay};
use onnx_protobuf::TensorProto;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Whose estimates: the same on every machine.
const TARGET: &str = "x86-64-v4-vnni";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Some of the digits.
fn digits(dir: &TempDir) -> PathBuf {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let some: Vec<f32> =
        (0..160).flat_map(|i| &images.data::<f32>()[i * 784..(i + 1) * 784]).copied().collect();
    let path = dir.path().join("digits.npy");
    npz::write(&path, &[("image".into(), Tensor::new(&[160, 1, 28, 28], some))]).expect("a file");
    path
}

fn goal(dir: &TempDir, to: &str, speed: Option<&str>) -> Goal {
    Goal {
        to: to.parse().expect("levels"),
        data: vec![digits(dir)],
        stats: vec![],
        eval: vec![],
        metric: Some(Metric::Mse),
        size: None,
        budget: None,
        zeros: None,
        speed: speed.map(|s| s.parse().expect("a speed")),
        target: speed.map(|_| TARGET.to_owned()),
        measure: false,
        skip: vec![],
    }
}

fn model() -> PathBuf {
    fixture("models/simple_cnn.onnx")
}

fn found(goal: &Goal) -> Outcome {
    compress(&model(), goal, None, &mut |_, _, _| {}).expect("a copy")
}

/// That a recipe, as it is written and read, makes the same bytes.
fn again(dir: &TempDir, outcome: &Outcome) {
    let path = dir.path().join("recipe.toml");
    std::fs::write(&path, outcome.recipe.text()).expect("a file");
    let recipe = Recipe::read(&path).expect("a recipe");
    assert_eq!(recipe.channels, outcome.recipe.channels);
    let again = replay(&model(), &recipe, &[], None, &mut |_, _, _| {}).expect("a copy");
    assert!(again.made.model == outcome.made.model, "the same bytes");
    assert_eq!(again.made.report.bytes_before, outcome.made.report.bytes_before);
}

#[test]
fn a_speed_is_reached_by_as_few_channels_as_can_be() {
    let dir = tempfile::tempdir().expect("a folder");
    let outcome = found(&goal(&dir, "auto", Some("1.2x")));
    assert_eq!(outcome.unmet, None);
    let joint = outcome.joint.as_ref().expect("a search");
    let pace = joint.pace.as_ref().expect("times");
    let point = &joint.points[joint.chosen];
    assert_eq!(point.time, Some(pace.now_total()), "the layers and the rest are the whole");
    assert!(pace.now_total() <= pace.most && pace.times(pace.now_total()) >= 1.2, "{pace:?}");
    assert_eq!(pace.before, pace.layers.iter().map(|l| l.1.before).sum::<u64>() + pace.rest.before);
    assert!(pace.layers.iter().all(|(name, s)| !name.is_empty() && s.least <= s.before.min(s.now)));
    // Steps are looked at until channels alone are enough, and of the copies none that loses less is fast enough.
    let (last, others) = pace.rungs.split_last().expect("steps");
    assert!(last.dense <= pace.most && others.iter().all(|s| s.dense > pace.most), "{pace:?}");
    assert!(joint.points.iter().all(|p| !p.fits || p.score.loss >= point.score.loss));
    assert!(point.channels.is_some(), "{point:?}");
    // What went is gone from the file, and the report counts from the original.
    assert!(outcome.made.model.len() < outcome.made.report.bytes_before);
    assert!(outcome.made.report.entries.iter().any(|e| e.bytes.is_some_and(|[was, is]| is < was)));
    assert!(outcome.recipe.text().contains("\nchannels = \"channels:0."));
    again(&dir, &outcome);
}

#[test]
fn what_no_level_and_no_channels_reach_is_told_by_layer() {
    let dir = tempfile::tempdir().expect("a folder");
    let outcome = found(&goal(&dir, "auto", Some("1000x")));
    let text = outcome.unmet.as_deref().expect("not reached");
    assert!(text.starts_with("1000x is not reached: ") && text.contains("layers that no level"), "{text}");
    assert!(outcome.recipe.text().contains("# NOT MET: 1000x"));
    let joint = outcome.joint.as_ref().expect("a search");
    let pace = joint.pace.as_ref().expect("times");
    assert_eq!(joint.points.len(), 1, "only the fastest is made");
    assert!(pace.now_total() < pace.before && pace.now_total() > pace.most, "{pace:?}");
    assert_eq!(pace.rungs.len(), 9);
    let least: u64 = pace.layers.iter().map(|l| l.1.least).sum::<u64>() + pace.rest.least;
    assert!(least > pace.most, "it is what the steps say: {pace:?}");
    let json = outcome.to_json();
    assert_eq!(json["met"], false);
    assert_eq!(json["speed"]["most"], pace.most);
    assert_eq!(json["speed"]["layers"].as_array().map(Vec::len), Some(pace.layers.len()));
}

#[test]
fn integers_that_are_multiplied_as_floats_save_no_time_and_are_not_chosen() {
    let dir = tempfile::tempdir().expect("a folder");
    let outcome = found(&goal(&dir, "dense,w8", Some("1.1x")));
    let joint = outcome.joint.as_ref().expect("a search");
    let text = outcome.unmet.as_deref().expect("not reached");
    assert!(text.contains("1.00x"), "{text}");
    assert!(joint.tried.is_empty(), "no layer has a choice");
    assert!(outcome.made.model == std::fs::read(model()).expect("the model"), "it stays as it was");
    for entry in &outcome.made.report.entries {
        let Verdict::Left { text, .. } = &entry.verdict else { panic!("{entry:?}") };
        assert!(text.starts_with("no level is estimated to save time: now "), "{text}");
    }
}

#[test]
fn channels_and_levels_are_searched_together_for_a_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let goal =
        Goal { size: Some("30%".parse().expect("a size")), ..goal(&dir, "dense,w8,channels:-20%", None) };
    let outcome = found(&goal);
    assert_eq!(outcome.unmet, None);
    let joint = outcome.joint.as_ref().expect("a search");
    let channels: Vec<bool> = joint.points.iter().map(|p| p.channels.is_some()).collect();
    assert_eq!(channels, [false, true], "both are judged");
    let [whole, less] = &joint.points[..] else { panic!("two points") };
    assert!(whole.fits && less.fits);
    let best = if less.score.loss < whole.score.loss { less } else { whole };
    assert_eq!(&joint.points[joint.chosen], best, "what loses least");
    again(&dir, &outcome);
    // Channels alone, and what is smaller than w8 can be.
    let small = Goal { size: Some("22%".parse().expect("a size")), ..goal };
    let outcome = found(&small);
    let joint = outcome.joint.as_ref().expect("a search");
    assert_eq!(outcome.unmet, None);
    assert!(joint.points[joint.chosen].channels.is_some(), "{:?}", joint.points);
    again(&dir, &outcome);
}

#[test]
fn what_does_not_go_with_a_speed_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let plain = goal(&dir, "auto", Some("2x"));
    let refused = |goal: Goal, part: &str| {
        let error = compress(&model(), &goal, None, &mut |_, _, _| {}).err().expect("refused").message;
        assert!(error.contains(part), "{error}");
    };
    refused(Goal { size: Some("30%".parse().expect("a size")), ..plain.clone() }, "--speed or --size");
    refused(Goal { speed: None, size: Some("30%".parse().expect("a size")), ..plain.clone() }, "--target");
    refused(Goal { stats: vec![dir.path().join("x")], ..plain.clone() }, "--stats are of the whole model");
    refused(Goal { target: Some("z80".into()), ..plain }, "z80");
}

#[test]
fn where_no_channels_can_go_levels_are_left() {
    let dir = tempfile::tempdir().expect("a folder");
    // One product: its outputs are the model's.
    let file = kit::File::of(&kit::model(
        vec![kit::node("MatMul", "one", &["x", "w"], "y")],
        vec![kit::tensor("w", &[64, 48], kit::Stored::Raw)],
        &[4, 64],
        "y",
    ));
    let path = dir.path().join("x.npy");
    let x = Tensor::new(&[20, 4, 64], (0..20 * 4 * 64).map(|i| (i % 97) as f32 / 97.0).collect());
    npz::write(&path, &[("x".into(), x)]).expect("a file");
    let goal = Goal { data: vec![path], ..goal(&dir, "dense,w8,channels:0.5", Some("2x")) };
    let outcome = compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy");
    let text = outcome.unmet.as_deref().expect("not reached");
    assert!(text.starts_with("2x is not reached") && text.contains("no channels can go: one"), "{text}");
}

/// Weights without order, so that zeros leave no row or column empty.
fn weights(name: &str, dims: &[i64]) -> TensorProto {
    let mut rng = Rng::new(dims[0] as u64);
    let values = (0..dims.iter().product()).flat_map(|_: i64| (rng.unit() - 0.5).to_le_bytes());
    TensorProto { raw_data: values.collect(), ..kit::tensor(name, dims, kit::Stored::Raw) }
}

/// Two products of 64 rows, and samples for them.
fn products(dir: &TempDir) -> (kit::File, PathBuf) {
    let file = kit::File::of(&kit::model(
        vec![
            kit::node("MatMul", "one", &["x", "v"], "h"),
            kit::node("Relu", "relu", &["h"], "r"),
            kit::node("MatMul", "two", &["r", "w"], "y"),
        ],
        vec![weights("v", &[256, 512]), weights("w", &[512, 384])],
        &[64, 256],
        "y",
    ));
    let path = dir.path().join("x.npy");
    let of = |i: usize| (i * i % 8191) as f32 / 8191.0 - 0.5;
    let x = Tensor::new(&[12, 64, 256], (0..12 * 64 * 256).map(of).collect());
    npz::write(&path, &[("x".into(), x)]).expect("a file");
    (file, path)
}

/// What the compiler estimates of a model by itself.
fn estimated(dir: &TempDir, model: &[u8]) -> egret::Estimate {
    let path = dir.path().join("copy.onnx");
    std::fs::write(&path, model).expect("a file");
    let mut options = egret::Options::default();
    options.set_target(TARGET).expect("a target");
    let file = egret::frontend::ModelFile::open(&path).expect("a model");
    let graph = file.import(&Default::default()).expect("a graph");
    egret::estimate(graph, &options).expect("an estimate")
}

#[test]
fn measured_times_take_the_place_of_estimates() {
    let dir = tempfile::tempdir().expect("a folder");
    let asked = Goal { target: None, measure: true, ..goal(&dir, "dense,channels:0.5", Some("1.1x")) };
    let outcome = found(&asked);
    let pace = outcome.joint.as_ref().and_then(|j| j.pace.as_ref()).expect("times");
    assert!(pace.measured && pace.by() == "measured");
    assert!(pace.before > 1000 && pace.layers.iter().filter(|l| l.1.before > 0).count() > 2, "{pace:?}");
    again(&dir, &outcome);
    let refused = |goal: Goal| {
        let e = compress(&model(), &goal, None, &mut |_, _, _| {}).err().expect("an error").to_string();
        assert!(e.contains("--measure goes with --speed, and without --target"), "{e}");
    };
    refused(Goal { target: Some(TARGET.into()), ..asked.clone() });
    refused(Goal { speed: None, size: Some("50%".parse().expect("a size")), ..asked });
}

#[test]
fn zeros_are_taken_where_only_they_reach_a_speed_and_cost_what_the_compiler_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, data) = products(&dir);
    let asked = |to: &str, speed: &str| {
        let goal = Goal { data: vec![data.clone()], ..goal(&dir, to, Some(speed)) };
        compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy")
    };
    for (to, speed) in [
        ("dense,w8,sparse:0.9", "2x"),
        ("dense,1:8,sparse:0.5", "2x"),
        ("dense,sparse:0.8,sparse:0.9", "1.2x"),
    ] {
        let outcome = asked(to, speed);
        assert_eq!(outcome.unmet, None, "{to}");
        let joint = outcome.joint.as_ref().expect("a search");
        let (pace, point) = (joint.pace.as_ref().expect("times"), &joint.points[joint.chosen]);
        assert!(point.levels.iter().any(|l| matches!(l, Level::Zeros(_))), "{point:?}");
        let alone = estimated(&dir, &outcome.made.model);
        assert_eq!(point.time, Some(alone.total()), "{to}: one source of truth");
        let near = |a: u64, b: u64| a.abs_diff(b) * 50 <= a.max(b);
        assert!(near(pace.now_total(), alone.total()), "{to}: {} {}", pace.now_total(), alone.total());
    }
    // The price of a level, before anything is fitted, is that of the copy that has it in every layer.
    let outcome = asked("dense,sparse:0.9", "1000x");
    let pace = outcome.joint.as_ref().and_then(|j| j.pace.as_ref()).expect("times");
    let alone = estimated(&dir, &outcome.made.model).total();
    let planned = pace.rungs[0].least;
    assert!(planned.abs_diff(alone) * 20 <= alone, "{planned} {alone}: but for the biases that are fitted");
    // Half of the weights are too many for code of their own.
    for to in ["dense,w8", "dense,2:4"] {
        let text = asked(to, "1.2x").unmet.expect("not reached");
        assert!(text.contains("1.00x"), "{to}: {text}");
    }
}
