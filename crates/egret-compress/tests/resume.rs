//! A compression that was ended at any time and is begun again makes the same bytes, and does what is left.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::npz;
use egret_compress::{
    Compressed, Goal, Method, Metric, Outcome, Quantization, Request, Resume, compress, prune_watched,
    quantize_watched, replay,
};
use kit::{File, Stored, model, node, tensor};
use std::cell::RefCell;
use std::path::Path;
use tempfile::TempDir;

/// A net of three products, the last two of which read one value: they are one round.
fn net() -> File {
    let nodes = vec![
        node("MatMul", "one", &["x", "w"], "a"),
        node("Tanh", "bend", &["a"], "h"),
        node("MatMul", "two", &["h", "v"], "b"),
        node("MatMul", "three", &["h", "u"], "c"),
        node("Add", "sum", &["b", "c"], "y"),
    ];
    let weights = vec![
        tensor("w", &[64, 48], Stored::Raw),
        tensor("v", &[48, 40], Stored::Raw),
        tensor("u", &[48, 40], Stored::Raw),
    ];
    File::of(&model(nodes, weights, &[4, 64], "y"))
}

fn samples(dir: &TempDir, seed: u64) -> std::path::PathBuf {
    let path = dir.path().join(format!("data{seed}.npy"));
    let mut rng = Rng::new(seed);
    let x = (0..80 * 4 * 64).map(|_| rng.signed_f64() as f32 / 64.0).collect();
    npz::write(&path, &[("x".into(), Tensor::new(&[80, 4, 64], x))]).expect("a file");
    path
}

fn goal(dir: &TempDir, to: &str, seed: u64) -> Goal {
    Goal {
        to: to.parse().expect("levels"),
        data: vec![samples(dir, seed)],
        stats: vec![],
        eval: vec![],
        metric: Some(Metric::Mse),
        size: None,
        budget: Some("0.05%".parse().expect("a budget")),
        speed: None,
        zeros: None,
        target: None,
        measure: false,
        skip: vec![],
    }
}

/// What is made, what was told, and how often work on a layer or samples began.
fn run(file: &File, goal: &Goal, state: &Path) -> (Outcome, Vec<String>, usize) {
    let told = RefCell::new(vec![]);
    let tell = |text: &str| told.borrow_mut().push(text.to_owned());
    let mut steps = 0;
    let resume = Resume::new(state, &tell);
    let outcome = compress(&file.path(), goal, Some(&resume), &mut |_, _, _| steps += 1).expect("a copy");
    (outcome, told.into_inner(), steps)
}

/// Where records end in a state.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut at = 8 + 4 + 32;
    let mut out = vec![at];
    let length = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
    while at < bytes.len() {
        at += 8 + length(at);
        at += 8 + length(at) + 32;
        out.push(at);
    }
    out
}

#[test]
fn whenever_it_was_ended_the_same_bytes_are_made() {
    let (dir, file) = (tempfile::tempdir().expect("a folder"), net());
    for to in ["dense,w8,w4:32,sparse:0.97,sparse:0.9", "dense,int8,w4:16"] {
        let goal = goal(&dir, to, 3);
        let state = dir.path().join("state");
        let (first, told, _) = run(&file, &goal, &state);
        assert!(told.is_empty());
        let plain = compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy");
        assert!(plain.made.model == first.made.model, "what is kept changes nothing");
        let said = first.to_json();
        // What is not done keeps its file.
        drop(first.made.state);
        let whole = std::fs::read(&state).expect("a state");
        let ends = ends(&whole);
        let tried: Vec<f64> = first.joint.iter().flat_map(|j| &j.points).map(|p| p.score.loss).collect();
        assert!(ends.len() > 12, "{} records, {tried:?}", ends.len() - 1);
        for (count, end) in ends.iter().enumerate() {
            // In the middle of the next record.
            let cut = ends.get(count + 1).map_or(*end, |next| usize::midpoint(*end, *next));
            std::fs::write(&state, &whole[..cut]).expect("a file");
            let (again, told, _) = run(&file, &goal, &state);
            assert!(again.made.model == first.made.model, "{to}: after {count} records");
            assert_eq!(again.to_json(), said, "{to}: after {count} records");
            assert_eq!(again.recipe, first.recipe);
            let taken = told.iter().any(|t| t.contains("they are taken from"));
            assert_eq!(taken, count > 0, "{told:?}");
            drop(again.made.state);
            assert!(
                std::fs::read(&state).expect("a state") == whole,
                "the same is kept, in the same order"
            );
        }
        let (last, told, steps) = run(&file, &goal, &state);
        assert!(
            told[0].contains("the levels of 3 of 3 layers") && told[0].contains("0 layers of another"),
            "{told:?}"
        );
        // Rounds of copies are told; no moments and no samples are.
        let fresh = dir.path().join("fresh");
        let (all, _, most) = run(&file, &goal, &fresh);
        assert!(steps < most, "{steps} of {most}");
        all.made.state.done().expect("removed");
        last.made.state.done().expect("removed");
        assert!(!state.exists() && !fresh.exists());
    }
}

#[test]
fn another_goal_takes_what_it_can_and_other_data_take_nothing() {
    let (dir, file) = (tempfile::tempdir().expect("a folder"), net());
    let state = dir.path().join("state");
    let one = goal(&dir, "dense,w8,w4:32", 3);
    drop(run(&file, &one, &state).0);
    // The errors of levels do not depend on what they are for.
    let small = Goal { budget: None, size: Some("30%".parse().expect("a size")), ..one.clone() };
    let (outcome, told, _) = run(&file, &small, &state);
    assert!(told[0].contains("the levels of 3 of 3 layers"), "{told:?}");
    let plain = compress(&file.path(), &small, None, &mut |_, _, _| {}).expect("a copy");
    assert!(outcome.made.model == plain.made.model);
    drop(outcome.made.state);
    for other in [
        goal(&dir, "dense,w8,w4:32", 4),
        goal(&dir, "dense,w8", 3),
        Goal { skip: vec!["two".into()], ..one.clone() },
    ] {
        drop(run(&file, &one, &state).0);
        let (outcome, told, _) = run(&file, &other, &state);
        assert!(told.len() == 1 && told[0].contains("is of another model, other data"), "{told:?}");
        let plain = compress(&file.path(), &other, None, &mut |_, _, _| {}).expect("a copy");
        assert!(outcome.made.model == plain.made.model);
    }
}

#[test]
fn a_recipe_is_taken_up_too() {
    let (dir, file) = (tempfile::tempdir().expect("a folder"), net());
    let goal = goal(&dir, "dense,w8,w4:32", 3);
    let first = compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy");
    let state = dir.path().join("state");
    let again = |told: &RefCell<Vec<String>>| {
        let tell = |text: &str| told.borrow_mut().push(text.to_owned());
        let resume = Resume::new(&state, &tell);
        replay(&file.path(), &first.recipe, &[], Some(&resume), &mut |_, _, _| {}).expect("a copy")
    };
    let told = RefCell::new(vec![]);
    drop(again(&told).made.state);
    let whole = std::fs::read(&state).expect("a state");
    std::fs::write(&state, &whole[..ends(&whole)[2]]).expect("a file");
    let second = again(&told);
    assert!(second.made.model == first.made.model);
    assert!(told.borrow()[0].contains("2 layers of another"), "{told:?}");
}

#[test]
fn prunings_and_quantisations_are_taken_up_too() {
    let (dir, file) = (tempfile::tempdir().expect("a folder"), net());
    let (data, state) = (vec![samples(&dir, 3)], dir.path().join("state"));
    let pruning = |to: &str| {
        let method: Method = "obc".parse().expect("a method");
        Request { data: data.clone(), method, all: true, ..Request::new(to.parse().expect("a pattern")) }
    };
    type Work<'a> = dyn Fn(Option<&Resume<'_>>) -> egret::Result<Compressed> + 'a;
    let (half, channels) = (pruning("sparse:0.5"), pruning("channels:0.25"));
    let blocks = Quantization { data: data.clone(), ..Quantization::new("w4:16".parse().expect("bits")) };
    let works: [(&str, &Work<'_>); 3] = [
        ("sparse:0.5", &|resume| prune_watched(&file.path(), &half, resume, &mut |_, _, _| {})),
        ("channels:0.25", &|resume| prune_watched(&file.path(), &channels, resume, &mut |_, _, _| {})),
        ("w4:16", &|resume| quantize_watched(&file.path(), &blocks, resume, &mut |_, _, _| {})),
    ];
    for (what, work) in works {
        let told = RefCell::new(vec![]);
        let tell = |text: &str| told.borrow_mut().push(text.to_owned());
        let resume = Resume::new(&state, &tell);
        let plain = work(None).expect("it works");
        let first = work(Some(&resume)).expect("it works");
        assert!(told.borrow().is_empty() && first.model == plain.model, "{what}: {told:?}");
        drop(first.state);
        let whole = std::fs::read(&state).expect("a state");
        let ends = ends(&whole);
        assert!(ends.len() > 2, "{what}: {} layers", ends.len() - 1);
        for (count, end) in ends.iter().enumerate() {
            std::fs::write(&state, &whole[..*end]).expect("a file");
            let again = work(Some(&resume)).expect("it works");
            assert!(again.model == plain.model, "{what}: after {count} layers");
            assert_eq!(again.report.to_json(), plain.report.to_json(), "{what}: after {count} layers");
            let said = told.take();
            let wanted = format!("{count} of {} layers are taken from", ends.len() - 1);
            assert!(
                said.len() == usize::from(count > 0) && said.iter().all(|s| s.starts_with(&wanted)),
                "{said:?}"
            );
        }
        work(Some(&resume)).expect("it works").state.done().expect("removed");
        assert!(!state.exists(), "{what}");
    }
}

/// The same run would end the same way: what it has found is of no use.
#[test]
fn nothing_is_left_of_a_run_that_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    // What is made of a weight repeats its name.
    let name = "w".repeat(400);
    let small = vec![tensor(&name, &[64, 1], Stored::Raw)];
    let file = File::of(&model(vec![node("MatMul", "one", &["x", &name], "y")], small, &[4, 64], "y"));
    let state = dir.path().join("state");
    let request =
        Quantization { data: vec![samples(&dir, 3)], ..Quantization::new("w4:16".parse().expect("bits")) };
    let resume = Resume::new(&state, &|text| panic!("{text}"));
    // Integers save less than that takes, which is known when the layer is made.
    let begun = std::cell::Cell::new(false);
    let mut watch = |_: usize, _: usize, _: &str| begun.set(begun.get() || state.exists());
    let told = quantize_watched(&file.path(), &request, Some(&resume), &mut watch).map(|_| ());
    let told = told.expect_err("refused").to_string();
    assert!(told.contains("nothing is won") && begun.get(), "{told}");
    assert!(!state.exists());
    // A file that is not this run's stays.
    std::fs::write(&state, "notes").expect("a file");
    quantize_watched(&file.path(), &request, Some(&resume), &mut watch).map(|_| ()).expect_err("refused");
    assert_eq!(std::fs::read(&state).expect("a file"), b"notes");
}
