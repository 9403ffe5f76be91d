//! Copies and steps of stages: the bits and the errors of one process, and a plan that contradicts itself is told so.

mod kit;

use egret::ir::Tensor;
use egret::stages::Plan;
use kit::stages::{PICK, TOWERS, for_towers, numbers, partition, save, with_copies, write};
use kit::{egret, model, names, path, refused, temp, text, works};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The files of a stream of samples, which go.
fn streamed(dir: &TempDir, plan: &str, data: &str, further: &[&str]) -> Vec<Vec<u8>> {
    let out = path(dir, "streamed");
    works(&[&["run", "--plan", plan, "--data", data, "-o", &out], further].concat());
    let all = names(Path::new(&out)).iter().map(|f| fs::read(Path::new(&out).join(f)).unwrap()).collect();
    fs::remove_dir_all(&out).unwrap();
    all
}

#[test]
fn copies_take_samples_in_turn_and_give_the_bits_of_one() {
    let dir = temp();
    let (whole, out) = (model("simple_cnn"), path(&dir, "parts"));
    let plan = path(&dir, "parts/plan.toml");
    let mut one = vec![];
    for (stages, copies) in [("1", "1"), ("1", "2"), ("2", "3"), ("3", "2,1,3"), ("3", "1,4,1")] {
        works(&["partition", &whole, "--stages", stages, "--copies", copies, "-o", &out]);
        let read = Plan::read(Path::new(&plan)).unwrap();
        let given: Vec<usize> = copies.split(',').map(|c| c.parse().unwrap()).collect();
        assert_eq!(
            read.copies(),
            given.iter().copied().cycle().take(read.stages.len()).collect::<Vec<_>>()
        );
        let batch = save(&dir, "batch.npz", &[(&read.inputs[0].name, &numbers(&[14, 1, 28, 28], 0))]);
        for threads in ["1", "4"] {
            let files = streamed(&dir, &plan, &batch, &["--threads", threads]);
            if one.is_empty() {
                one.clone_from(&files);
            }
            assert!(files.len() == 14 && files == one, "{stages} {copies} {threads}");
        }
    }
    let done = egret(&["run", "--plan", &plan, "--random", "1"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    for (copies, parts) in
        [("2,1", "2 numbers of copies for 3 stages"), ("0", "at least 1"), ("2000", "1 to 1000")]
    {
        refused(&["partition", &whole, "--stages", "3", "--copies", copies, "-o", &out], 1, &[parts]);
    }
}

#[test]
fn an_error_is_the_same_with_copies() {
    let dir = temp();
    let (plan, _) = partition(&dir, &write(&dir, "pick.egret", PICK), 3);
    let rows = (0..80).map(|k| if k / 2 == 7 || k / 2 == 8 { 64 } else { k % 64 }).collect();
    let x = numbers(&[40, 64, 64], 0);
    let batch = save(&dir, "batch.npz", &[("x", &x), ("at", &Tensor::new::<i64>(&[40, 2], rows))]);
    let said = |out: &str| {
        let out = path(&dir, out);
        let done = egret(&["run", "--plan", &plan, "--data", &batch, "-o", &out]);
        assert_eq!(names(Path::new(&out)).len(), 7, "samples before it are written");
        (done.status.code(), text(&done.stderr).lines().last().unwrap_or_default().to_owned())
    };
    let alone = said("alone");
    assert!(alone.0 == Some(1) && alone.1.contains("sample 7: stage 1 (stage1.egret): "), "{alone:?}");
    for copies in [[3, 1, 1], [1, 4, 2], [2, 3, 5]] {
        with_copies(&plan, &copies);
        assert_eq!(said(&format!("{copies:?}")), alone);
    }
}

#[test]
fn independent_stages_are_one_step() {
    let dir = temp();
    let file = write(&dir, "towers.egret", TOWERS);
    let data = for_towers(&dir, 12, |_| false);
    let (one, _) = partition(&dir, &file, 1);
    let whole = streamed(&dir, &one, &data, &[]);
    let random = ["--dim", "n=5", "--random", "4", "--input", "at=[3,1]"];
    let alone = path(&dir, "alone.npz");
    works(&[&["run", "--plan", &one], &random[..], &["-o", &alone]].concat());
    for (stages, steps) in [(3, vec![0, 0, 1]), (2, vec![]), (5, vec![0, 0, 1, 1, 2])] {
        let (plan, read) = partition(&dir, &file, stages);
        let is: Vec<usize> = read.stages.iter().filter_map(|s| s.step).collect();
        assert_eq!(is, steps, "{read:?}");
        assert_eq!(read.cuts.len(), read.steps().len() - 1);
        let together = path(&dir, "together.npz");
        for threads in ["1", "3"] {
            let one =
                [&["run", "--plan", &plan, "--threads", threads], &random[..], &["-o", &together]].concat();
            works(&one);
            assert!(fs::read(&alone).unwrap() == fs::read(&together).unwrap(), "{stages}");
            assert!(streamed(&dir, &plan, &data, &["--threads", threads]) == whole, "{stages}");
        }
        with_copies(&plan, &(0..stages).map(|k| 1 + k % 3).collect::<Vec<_>>());
        assert!(streamed(&dir, &plan, &data, &[]) == whole, "{stages} with copies");
    }
    let said = egret(&["partition", &file, "--stages", "3", "-o", &path(&dir, "parts")]);
    let said = text(&said.stdout);
    assert!(
        said.contains("in step 0") && said.contains("No value goes between the stages 0 to 1"),
        "{said}"
    );
}

/// Where two stages of a step fail on a sample, the error is that of the first, as by itself.
#[test]
fn an_error_in_a_step_is_that_of_the_first_stage() {
    let dir = temp();
    let both = TOWERS.replace("%13 \"side\"", "%14 \"side\"");
    let both = both.replace("  %20 =", "  %14 = gather(%13, %2) {axis = 1}\n  %20 =");
    let (plan, read) = partition(&dir, &write(&dir, "towers.egret", &both), 3);
    assert_eq!(read.steps(), [0..2, 2..3]);
    let last = |args: &[&str]| {
        let done = egret(&[&["run", "--plan", &plan], args].concat());
        assert_eq!(done.status.code(), Some(1));
        text(&done.stderr).lines().last().unwrap_or_default().replace("egret: ", "")
    };
    let alone = last(&["--dim", "n=5", "--random", "1", "--input", "at=[64,64]"]);
    assert!(alone.starts_with("stage 0 (stage0.egret): "), "{alone}");
    let data = for_towers(&dir, 30, |k| k == 11 || k == 13);
    for (k, copies) in [[1, 1, 1], [3, 2, 1]].iter().enumerate() {
        with_copies(&plan, copies);
        let out = path(&dir, &format!("out{k}"));
        assert_eq!(last(&["--data", &data, "-o", &out]), format!("sample 11: {alone}"));
        assert_eq!(names(Path::new(&out)).len(), 11);
    }
}

#[test]
fn steps_that_contradict_themselves_are_refused() {
    let dir = temp();
    let (file, read) = partition(&dir, &write(&dir, "towers.egret", TOWERS), 3);
    let whole = fs::read_to_string(&file).unwrap();
    let run = ["run", "--plan", &file, "--dim", "n=2", "--random", "1"];
    let nth = |k: usize, step: &str| {
        let at = whole.match_indices("step = ").nth(k).unwrap().0;
        format!("{}step = {step}{}", &whole[..at], &whole[at + 8..])
    };
    let second = read.cuts[0].values.iter().find(|v| v.made == 1).unwrap();
    for (text, parts) in [
        (nth(0, "1"), &["stage 0 has step 1", "it is 0 here"][..]),
        (nth(1, "2"), &["stage 1 has step 2", "it is 0 or 1 here"]),
        (nth(2, "3"), &["stage 2 has step 3", "it is 0 or 1 here"]),
        (nth(1, "1"), &["between 2 steps there are 1 cuts", "so it does not cross", "stage 1"][2..]),
        (nth(2, "0"), &["between 1 steps there are 0 cuts, and it has 1"]),
        (whole.replacen("step = 1\n", "", 1), &["stage 0 has a step and stage 2 has none"]),
        (
            whole.replacen("step = 0\n", "", 3).replacen("step = 1\n", "", 1),
            &["between 3 stages there are 2 cuts"],
        ),
        (
            whole.replacen("used = [2]", "used = [1, 2]", 1),
            &["used by stage 1, of the same step as stage 0"],
        ),
        (whole.replacen("behind = 0", "behind = 1", 1), &["cut 0", "order of steps"]),
    ] {
        assert_ne!(text, whole);
        fs::write(&file, text).unwrap();
        refused(&run, 1, parts);
    }
    // A stage that takes what its own step makes, whatever the plan says. It was changed on purpose, so the plan has no hash of it.
    let unhashed: String =
        whole.lines().filter(|l| !l.starts_with("blake3 = ")).map(|l| format!("{l}\n")).collect();
    assert_ne!(unhashed, whole);
    fs::write(&file, unhashed).unwrap();
    works(&run);
    let stage = path(&dir, "parts/stage0.egret");
    let body = fs::read_to_string(&stage).unwrap();
    let (head, rest) = body.split_once('(').unwrap();
    fs::write(&stage, format!("{head}(%900 \"{}\": {}, {rest}", second.name, second.ty)).unwrap();
    refused(&run, 1, &["stage 0", &second.name, "in the same step"]);
}
