//! `egret partition` and `egret run --plan`: stages are the whole to the bit, and a plan that was edited wrongly is told so.

mod kit;

use egret::ir::{Tensor, Value};
use egret::stages::{Plan, Staged};
use egret::{Error, Options, npz};
use kit::stages::{FAR, PICK, numbers, partition, save, write};
use kit::{egret, model, names, path, refused, temp, text, works};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The outputs of two runs are the same arrays, bit for bit.
#[track_caller]
fn same(dir: &TempDir, what: &str, whole: &[&str], plan: &[&str]) {
    let run = |args: &[&str], to: &str| {
        let file = path(dir, to);
        works(&[&["run"], args, &["--output", &file]].concat());
        npz::read_npz(Path::new(&file)).unwrap()
    };
    let (whole, staged) = (run(whole, "whole.npz"), run(plan, "staged.npz"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), staged.keys().collect::<Vec<_>>(), "{what}");
    for (name, tensor) in &whole {
        assert_eq!(tensor.shape(), staged[name].shape(), "{what} {name}");
        assert!(tensor.bytes() == staged[name].bytes(), "{what} {name} differs");
    }
}

#[test]
fn stages_of_real_models_are_the_whole_to_the_bit() {
    for name in ["simple_cnn", "parallel_cnn", "fusion_cnn", "attention_model"] {
        let dir = temp();
        let (whole, alone) = (model(name), temp());
        let (one, _) = partition(&alone, &whole, 1);
        for stages in 1..=3 {
            let (file, plan) = partition(&dir, &whole, stages);
            assert_eq!((plan.stages.len(), plan.cuts.len()), (stages, stages - 1));
            let shares: f64 = plan.stages.iter().map(|s| s.share).sum();
            assert!((shares - 1.0).abs() < 0.01 && plan.stages.iter().all(|s| s.kernels > 0), "{plan:?}");
            for cut in &plan.cuts {
                assert!(!cut.why.is_empty() && cut.bytes > 0, "{cut:?}");
                assert_eq!(cut.bytes, cut.values.iter().map(|v| v.bytes).sum::<u64>());
            }
            let what = format!("{name} in {stages}");
            same(&dir, &what, &["--plan", &one, "--random", "7"], &["--plan", &file, "--random", "7"]);
            // A run of the whole is compiled for its sizes: where they are free, sums may have another order.
            let (known, count) = (path(&dir, "known"), stages.to_string());
            let sizes: &[&str] = if name == "parallel_cnn" { &["--dim", "batch=1"] } else { &[] };
            works(&[&["partition", &whole, "--stages", &count, "-o", &known], sizes].concat());
            let known = path(&dir, "known/plan.toml");
            same(&dir, &what, &[&whole, "--random", "7"], &["--plan", &known, "--random", "7"]);
        }
    }
}

/// Artifacts of the stages, each in a program of its own, one behind the other.
#[test]
fn stages_become_artifacts() {
    let dir = temp();
    let (plan, read) = partition(&dir, &model("simple_cnn"), 3);
    let image: Vec<f32> = (0..28 * 28).map(|i| (i * 7 % 23) as f32 / 23.0).collect();
    let image = npz::npy_bytes(&egret::ir::Tensor::new(&[1, 1, 28, 28], image));
    let mut given = path(&dir, "image.npy");
    fs::write(&given, image).unwrap();
    let whole = path(&dir, "whole.npz");
    works(&[
        "run",
        "--plan",
        &plan,
        "--input",
        &format!("{}={given}", read.inputs[0].name),
        "--output",
        &whole,
    ]);
    let mut with_constants = 0;
    for k in 0..3 {
        let (out, name) = (path(&dir, "built"), format!("stage{k}"));
        let file = path(&dir, &format!("parts/stage{k}.egret"));
        let args = ["compile", &file, "--passes", "", "--out-dir", &out, "--emit", "exe,lib,header"];
        works(&args);
        // Large constants, where a stage has some, are files that the artifact depends on.
        let depends = fs::read_to_string(path(&dir, &format!("built/{name}.d"))).unwrap();
        assert!(depends.contains(&format!("{name}.egret")), "{depends}");
        let has_some = fs::read_to_string(&file).unwrap().contains("] #");
        assert_eq!(depends.contains("parts/constants/"), has_some, "{depends}");
        with_constants += usize::from(has_some);
        let result = path(&dir, &format!("{name}.npz"));
        let mut stage = std::process::Command::new(path(&dir, &format!("built/{name}")));
        let done = stage.args([&given, "--output", &result]).output().expect("it starts");
        assert!(done.status.success(), "{name}: {}", text(&done.stderr));
        given = result;
    }
    assert!(with_constants > 0);
    let of = |file: &str| npz::read_npz(Path::new(file)).unwrap();
    let (whole, last) = (of(&whole), of(&given));
    let bytes = |all: &std::collections::BTreeMap<String, egret::ir::Tensor>| {
        all.values().map(|t| t.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert!(bytes(&whole) == bytes(&last), "{whole:?} {last:?}");
    // A constant that is gone, or another one, is no constant.
    let constants = dir.path().join("parts/constants");
    let one = constants.join(&names(&constants)[0]);
    fs::write(&one, b"nothing").unwrap();
    let damaged = (0..3).any(|k| {
        let file = path(&dir, &format!("parts/stage{k}.egret"));
        let done = egret(&["compile", &file, "--out-dir", &path(&dir, "again")]);
        done.status.code() == Some(1) && text(&done.stderr).contains("constant")
    });
    assert!(damaged);
}

#[test]
fn a_stage_runs_by_itself() {
    let dir = temp();
    let (plan, _) = partition(&dir, &model("simple_cnn"), 2);
    for stage in ["parts/stage0.egret", "parts/stage1.egret"] {
        let file = path(&dir, stage);
        works(&["run", &file, "--random", "1"]);
    }
    // Nothing of it hangs on chance.
    let files = |dir: &Path| names(dir).into_iter().filter(|n| n != "constants").collect::<Vec<_>>();
    let parts = dir.path().join("parts");
    let read = || files(&parts).iter().map(|f| fs::read(parts.join(f)).unwrap()).collect::<Vec<_>>();
    let first = read();
    works(&["partition", &model("simple_cnn"), "--stages", "2", "-o", &parts.display().to_string()]);
    assert_eq!(files(&parts), ["plan.toml", "stage0.egret", "stage1.egret"]);
    assert!(first == read());
    // What `run` is told of a plan decides nothing that passes have decided.
    for option in [&["--passes", ""][..], &["--tier", "exact"], &["--profile"], &["--bind", "x=1"]] {
        refused(
            &[&["run", "--plan", &plan, "--random", "1"], option].concat(),
            1,
            &["cannot be used with"],
        );
    }
    refused(&["run", &model("simple_cnn"), "--plan", &plan], 1, &["cannot be used with"]);
    refused(&["run", "--random", "1"], 1, &["MODEL"]);
}

#[test]
fn more_stages_than_kernels_and_strings_are_refused() {
    let dir = temp();
    let out = path(&dir, "parts");
    refused(
        &["partition", &model("simple_cnn"), "--stages", "500", "-o", &out],
        1,
        &["stages, not into 500", "kernel"],
    );
    let strings = "graph @s(%0 \"x\": string[2]) -> (%1 \"y\") {\n  %1 = concat(%0, %0) {axis = 0}\n}";
    let file = write(&dir, "s.egret", strings);
    refused(&["partition", &file, "--stages", "1", "-o", &out], 2, &["string"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn the_kernel_in_the_way_of_even_stages_is_named() {
    let dir = temp();
    let file = write(&dir, "pick.egret", PICK);
    let said = works(&["partition", &file, "--stages", "3", "-o", &path(&dir, "parts")]);
    let read = Plan::read(&dir.path().join("parts/plan.toml")).unwrap();
    let longest = read.stages.iter().map(|s| s.microseconds).fold(0.0, f64::max);
    let uneven: Vec<_> = read.stages.iter().filter(|s| s.uneven.is_some()).collect();
    assert!(uneven.len() == 1 && uneven[0].microseconds == longest, "{read:?}");
    let why = uneven[0].uneven.as_ref().unwrap();
    assert!(why.contains("stands in the way: the kernel of matmul takes"), "{why}");
    assert!(said.contains(why), "{said}");
    works(&["run", "--plan", &path(&dir, "parts/plan.toml"), "--random", "1", "--input", "at=[1,2]"]);
    // Even stages have nothing in the way.
    let (_, even) = partition(&dir, &write(&dir, "far.egret", FAR), 2);
    assert!(even.stages.iter().all(|s| s.uneven.is_none()), "{even:?}");
}

/// `w` has too many elements to be spelt in a plan; nothing uses `idle`.
const BOUND: &str = "graph @bound(%0 \"x\": f32[n, 8], %1 \"k\": i64[], %2 \"w\": f32[8, 8], %3 \"idle\": bool[1]) -> (%7 \"y\") {
  %4 = matmul(%0, %2)
  %5 = tanh(%4)
  %6 = matmul(%5, %2)
  %7 = gather(%6, %1) {axis = 1}
}";

/// [`BOUND`] in two stages with all inputs but `x` fixed: the plan's file, and the file of `w`.
fn partition_bound(dir: &TempDir) -> (String, String) {
    let (file, parts) = (write(dir, "bound.egret", BOUND), path(dir, "parts"));
    let w = save(dir, "w.npz", &[("w", &numbers(&[8, 8], 3))]);
    let bind = ["--bind", "k=3", "--bind", &format!("w={w}"), "--bind", "idle=[true]"];
    works(&[&["partition", &file, "--stages", "2", "-o", &parts], &bind[..]].concat());
    (path(dir, "parts/plan.toml"), w)
}

#[test]
fn an_input_that_is_bound_takes_its_value_alone() {
    let dir = temp();
    let (plan, w) = partition_bound(&dir);
    let bound: Vec<_> = Plan::read(Path::new(&plan)).unwrap().inputs.into_iter().map(|i| i.bound).collect();
    assert_eq!((bound[0].as_deref(), bound[1].as_deref()), (None, Some("i64[] [3]")));
    assert!(bound[2].as_ref().unwrap().starts_with("f32[8, 8] #"), "{bound:?}");
    // It need not be given, and is never made up.
    let (file, w) = (path(&dir, "bound.egret"), format!("w={w}"));
    let whole =
        [&file, "--random", "7", "--dim", "n=4", "--bind", "k=3", "--bind", &w, "--bind", "idle=[true]"];
    let staged = ["--plan", &plan, "--random", "7", "--dim", "n=4"];
    same(&dir, "bound", &whole, &staged);
    same(&dir, "given", &whole, &[&staged[..], &["--input", "k=3", "--input", &w]].concat());
    let other = "the input `k` has another value than it was bound to when the model was cut: i64[] [3]";
    refused(&[&["run"], &staged[..], &["--input", "k=4"]].concat(), 1, &[other]);
    // Samples are held to it too, whatever runs the stages.
    let x = numbers(&[3, 5, 8], 0);
    let alone = save(&dir, "alone.npz", &[("x", &x)]);
    let wrong = save(&dir, "wrong.npz", &[("x", &x), ("k", &Tensor::new::<i64>(&[3], vec![3, 3, 2]))]);
    for transport in ["thread", "process"] {
        let run = |data| ["run", "--plan", &plan, "--data", data, "--transport", transport];
        assert!(works(&run(&alone)).contains("sample 2: y: f32[5]"), "{transport}");
        refused(&run(&wrong), 1, &["sample 2", other]);
    }
}

#[test]
fn a_bound_value_that_was_edited_is_held_against_its_input() {
    let dir = temp();
    let (plan, _) = partition_bound(&dir);
    let written = fs::read_to_string(&plan).unwrap();
    let edited = |from: &str, to: &str, what: &[&str]| {
        assert!(written.contains(from), "{written}");
        fs::write(&plan, written.replacen(from, to, 1)).unwrap();
        refused(&["run", "--plan", &plan, "--random", "1"], 1, &[&["plan.toml"], what].concat());
    };
    edited("\"i64[] [3]\"", "\"i32[] [3]\"", &["the input `k` is i64[], and is bound to i32[]"]);
    edited("\"i64[] [3]\"", "\"three\"", &["`bound` of the input `k`"]);
    edited("8] #", "8] #0", &["`bound` of the input `w`", "#0"]);
    let output = "name = \"y\"\n";
    edited(output, &format!("{output}bound = \"f32[] [1]\"\n"), &["the output `y` is bound"]);
}

#[test]
fn free_dims_stay_free_and_values_pass_through_stages() {
    let dir = temp();
    let file = write(&dir, "far.egret", FAR);
    for stages in [2, 3, 4] {
        let (plan, _) = partition(&dir, &file, stages);
        for n in ["1", "5", "70"] {
            let dim = format!("n={n}");
            let given = ["--dim", &dim, "--random", "3"];
            same(
                &dir,
                &format!("{stages} stages, n={n}"),
                &[&[file.as_str()], &given[..]].concat(),
                &[&["--plan", plan.as_str()], &given[..]].concat(),
            );
        }
    }
    let (plan, read) = partition(&dir, &file, 4);
    let early = read.cuts.iter().filter(|c| c.values.iter().any(|v| v.name == "early")).count();
    assert!(early > 1, "{read:?}");
    assert!(
        works(&[
            "run",
            "--plan",
            &plan,
            "--input",
            "x=[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]]",
            "--random",
            "1"
        ])
        .contains("f32[1, 16]")
    );
    refused(&["run", "--plan", &plan, "--random", "1", "--dim", "m=2"], 1, &["`m`", "n"]);
    refused(&["run", "--plan", &plan], 1, &["no value for the input `x`"]);
    refused(&["run", "--plan", &plan, "--input", "x=[[1,2]]", "--random", "1"], 1, &["`x`", "f32[1, 2]"]);
}

#[test]
fn a_size_that_passes_leave_out_still_holds_a_run() {
    let body = "graph @short(%0 \"x\": f32[n, 4]) -> (%2 \"y\", %3 \"z\") {
  %1 = slice(%0) {sizes = [n - 3, 4], starts = [3, 0], steps = [1, 1]} : f32[n - 3, 4]
  %2 = neg(%1)
  %3 = abs(%0)
}";
    let dir = temp();
    let file = write(&dir, "short.egret", body);
    let made = egret(&["partition", &file, "--stages", "2", "-o", &path(&dir, "parts")]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let plan = path(&dir, "parts/plan.toml");
    assert!(!Plan::read(Path::new(&plan)).unwrap().not_negative.is_empty());
    works(&["run", "--plan", &plan, "--dim", "n=5", "--random", "1"]);
    refused(&["run", "--plan", &plan, "--dim", "n=2", "--random", "1"], 1, &["no result for n=2", "-1"]);
}

#[test]
fn constants_of_types_that_numpy_lacks_pass() {
    let dir = temp();
    for ty in ["bf16", "f16", "f8e4m3fn", "i4", "u64", "bool"] {
        // Of some types nothing is drawn: their bits are spelt.
        let drawn = !ty.starts_with("f8");
        let bits = (0x30..0x44).map(|b| format!("{b:#x}")).collect::<Vec<_>>().join(", ");
        let elements = if drawn { "random(1)".to_owned() } else { format!("[{bits}]") };
        let body = format!(
            "graph @g(%0 \"x\": f32[20]) -> (%5 \"y\", %1 \"z\") {{\n  %1 = const {ty}[20] {elements}\n  \
             %2 = cast(%1) {{round = \"nearest\", saturate = 0, to = f32}}\n  %3 = mul(%0, %2)\n  %4 = tanh(%3)\n  \
             %5 = cumulative(%4) {{axis = 0, exclusive = 0, kind = \"sum\", reverse = 0}}\n}}"
        );
        let file = write(&dir, "g.egret", &body);
        let (plan, _) = partition(&dir, &file, 2);
        same(&dir, ty, &[&file, "--random", "1"], &["--plan", &plan, "--random", "1"]);
        let stored =
            names(&dir.path().join("parts/constants")).iter().any(|n| n.ends_with(&format!(".{ty}.npy")));
        assert_eq!(stored, !["f16", "u64", "bool"].contains(&ty), "{ty}");
        fs::remove_dir_all(dir.path().join("parts")).unwrap();
    }
}

#[test]
fn a_plan_that_was_edited_is_held_against_its_stages() {
    let dir = temp();
    let (file, read) = partition(&dir, &model("simple_cnn"), 3);
    let whole = fs::read_to_string(&file).unwrap();
    let run = ["run", "--plan", &file, "--random", "1"];
    let crossing = &read.cuts[0].values[0];
    let (name, ty) = (format!("name = \"{}\"", crossing.name), format!("type = \"{}\"", crossing.ty));
    let output = format!("name = \"{}\"", read.outputs[0].name);
    // Comments, estimates and spaces are free.
    let free = whole.replace(&ty, &ty.replace(' ', "")).replace("# Stages", "# My stages");
    fs::write(&file, free.replacen("kernels = ", "kernels = 9", 1)).unwrap();
    works(&run);
    // The version before, which has neither steps nor copies.
    fs::write(&file, whole.replacen("version = 2", "version = 1", 1)).unwrap();
    works(&run);
    let old = whole.replacen("version = 2", "version = 1", 1);
    fs::write(&file, old.replacen("nodes = ", "copies = 2\nnodes = ", 1)).unwrap();
    refused(&run, 1, &["stage 0 has a step or copies", "version 2"]);
    for (from, to, parts) in [
        ("version = 2", "version = 3", &["version 3", "egret partition"][..]),
        ("version = 2", "version = ", &["plan.toml", "line 4"]),
        ("version = 2", "version = 0", &["version 0"]),
        ("[[stage]]", "[[stages]]", &["plan.toml", "stages"]),
        ("stage1.egret", "stage7.egret", &["stage 1", "stage7.egret"]),
        ("stage1.egret", "stage0.egret", &["stage 1"]),
        ("stage1.egret", "plan.toml", &["plan.toml is no text IR"]),
        (&name, "name = \"wrong\"", &["stage 0", &crossing.name]),
        (&ty, "type = \"f64[1, 2]\"", &["the plan says f64[1, 2]", &crossing.name]),
        (&output, "name = \"wrong\"", &["stage 2", &read.outputs[0].name]),
        ("behind = 1", "behind = 0", &["cut 1", "order of stages"]),
        ("used = [1]", "used = [2]", &["cut 0", &crossing.name]),
        ("used = [1]", "used = [5]", &["cut 0", &crossing.name]),
        ("used = [1]", "used = [0]", &["does not cross"]),
        ("nodes = ", "copies = 0\nnodes = ", &["stage 0 has 0 copies"]),
        ("nodes = ", "copies = 1001\nnodes = ", &["stage 0 has 1001 copies"]),
        ("nodes = ", "step = 0\nnodes = ", &["stage 0 has a step and stage 1 has none"]),
        ("denormals = \"flush\"", "denormals = \"some\"", &["neither flush nor keep"]),
        ("not_negative = []", "not_negative = [\"n - 3\"]", &["`n - 3`", "do not tell"]),
    ] {
        assert!(whole.contains(from), "{from}: {whole}");
        fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        refused(&run, 1, parts);
    }
    fs::write(&file, &whole).unwrap();
    works(&run);
    // A stage that is another graph than the plan knows.
    let stage = path(&dir, "parts/stage1.egret");
    let old = fs::read_to_string(&stage).unwrap();
    fs::write(&stage, &old[..old.len() / 2]).unwrap();
    refused(&run, 1, &["stage 1", "stage1.egret is not the file that the plan was written with"]);
    fs::remove_file(&stage).unwrap();
    refused(&run, 1, &["stage 1", "cannot read"]);
    fs::write(&stage, &old).unwrap();
    works(&run);
    // A constant that is another one is not taken.
    let constants = dir.path().join("parts/constants");
    let one = constants.join(&names(&constants)[0]);
    let mut bytes = fs::read(&one).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&one, bytes).unwrap();
    refused(&run, 1, &["there is no constant"]);
}

#[test]
fn a_stream_gives_what_runs_give_one_by_one() {
    let dir = temp();
    for stages in [1, 2, 3] {
        let (plan, read) = partition(&dir, &model("simple_cnn"), stages);
        let input = &read.inputs[0].name;
        let batch = save(&dir, "batch.npz", &[(input, &numbers(&[12, 1, 28, 28], 0))]);
        let out = |threads: &str| path(&dir, &format!("out{stages}-{threads}"));
        for threads in ["1", "2", "5"] {
            let args = ["run", "--plan", &plan, "--data", &batch, "--threads", threads];
            let said = works(&[&args[..], &["-o", &out(threads)]].concat());
            assert!(said.contains("12 samples"), "{said}");
        }
        let files = names(Path::new(&out("1")));
        assert_eq!((files.len(), files[0].as_str(), files[11].as_str()), (12, "00.npz", "11.npz"));
        for (k, name) in files.iter().enumerate() {
            let one = save(&dir, "one.npz", &[(input, &numbers(&[1, 1, 28, 28], k * 28 * 28))]);
            let alone = path(&dir, "alone.npz");
            works(&["run", "--plan", &plan, "--inputs", &one, "-o", &alone]);
            let alone = fs::read(alone).unwrap();
            for threads in ["1", "2", "5"] {
                assert!(
                    alone == fs::read(Path::new(&out(threads)).join(name)).unwrap(),
                    "{name} {threads}"
                );
            }
        }
        // Results of another run are not mixed with those of this one.
        refused(&["run", "--plan", &plan, "--data", &batch, "-o", &out("1")], 1, &["not empty"]);
        // What is printed is in order.
        let done = egret(&["run", "--plan", &plan, "--data", &batch, "-v"]);
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        let lines: Vec<&str> = out.lines().filter_map(|l| l.split(':').next()).collect();
        assert_eq!(lines, (0..12).map(|k| format!("sample {k}")).collect::<Vec<_>>(), "{out}");
        let last = format!("stage {} (stage", stages - 1);
        assert!(err.contains("12 samples in") && err.contains(&last), "{err}");
    }
    refused(&["run", &model("simple_cnn"), "--data", "x.npz"], 1, &["--data", "cannot be used with"]);
}

#[test]
fn samples_of_a_stream_may_have_dims_of_their_own() {
    let dir = temp();
    let file = write(&dir, "far.egret", FAR);
    let (plan, _) = partition(&dir, &file, 3);
    let sizes = [5, 1, 70, 0, 33, 2];
    fs::create_dir(path(&dir, "data")).unwrap();
    for (k, n) in sizes.into_iter().enumerate() {
        save(&dir, &format!("data/{k}.npz"), &[("x", &numbers(&[1, n, 16], k))]);
    }
    let (data, out) = (path(&dir, "data"), path(&dir, "out"));
    let idle = ["--input", "idle=[1,2]"];
    works(&[&["run", "--plan", &plan, "--data", &data, "-o", &out], &idle[..]].concat());
    for (k, n) in sizes.into_iter().enumerate() {
        let one = save(&dir, "one.npy", &[("x", &numbers(&[n, 16], k))]);
        let (x, alone) = (format!("x={one}"), path(&dir, "alone.npz"));
        works(&[&["run", "--plan", &plan, "--input", &x, "-o", &alone], &idle[..]].concat());
        let streamed = fs::read(Path::new(&out).join(format!("{k}.npz"))).unwrap();
        assert!(streamed == fs::read(&alone).unwrap(), "n={n}");
    }
    let run = ["run", "--plan", &plan, "--data", &data];
    refused(&run, 1, &["no array for the input `idle`"]);
    refused(
        &[&run[..], &idle, &["--input", "x=[[1]]"]].concat(),
        1,
        &["sample 0", "`x`", "for all samples"],
    );
    save(&dir, "data/3.npz", &[("x", &numbers(&[1, 4, 15], 0))]);
    refused(&[&run[..], &idle].concat(), 1, &["sample 3", "`x` is f32[4, 15]"]);
}

#[test]
fn an_error_of_a_stage_ends_the_stream_with_stage_and_sample() {
    let dir = temp();
    let file = write(&dir, "pick.egret", PICK);
    let (plan, read) = partition(&dir, &file, 3);
    assert_eq!(read.cuts[0].values[0].ty, "f32[64, 64]", "the stage in the middle picks: {read:?}");
    let batch = |at: i64| {
        let wrong = |k: i64| k / 2 == at || k / 2 == at + 9;
        let rows = (0..80).map(|k| if wrong(k) { 64 } else { k % 64 }).collect();
        let x = numbers(&[40, 64, 64], 0);
        save(&dir, "batch.npz", &[("x", &x), ("at", &Tensor::new::<i64>(&[40, 2], rows))])
    };
    for at in [0, 3, 29] {
        let out = path(&dir, &format!("out{at}"));
        let args = ["run", "--plan", &plan, "--data", &batch(at), "-o", &out];
        let place = format!("sample {at}: stage 1 (stage1.egret): ");
        refused(&args, 1, &[&place]);
        assert_eq!(text(&egret(&args[..5]).stderr).matches("sample").count(), 1);
        assert_eq!(names(Path::new(&out)).len() as i64, at, "samples before it are written");
    }
}

#[test]
fn a_stream_ends_whoever_fails_and_holds_few_samples() {
    let dir = temp();
    let (plan, _) = partition(&dir, &model("simple_cnn"), 2);
    let staged = Staged::open_to_stream(Path::new(&plan), &Options::default()).unwrap();
    let sample = || vec![Value::from(numbers(&[1, 1, 28, 28], 3))];
    let (given, mut most) = (AtomicUsize::new(0), 0);
    let source = |give: &mut egret::stages::Give<'_>| {
        (0..60).try_for_each(|_| {
            give(sample())?;
            given.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let done = staged.stream(source, |number, outputs| {
        std::thread::sleep(Duration::from_millis(1));
        // What is counted here may not be counted there yet.
        most = most.max(given.load(Ordering::SeqCst).saturating_sub(number));
        assert_eq!(outputs.len(), staged.outputs().len());
        Ok(())
    });
    let done = done.unwrap();
    assert_eq!((done.samples, done.stages.len()), (60, 2));
    assert!(done.stages.iter().all(|busy| *busy > Duration::ZERO && *busy < done.time), "{done:?}");
    // One in each of three queues, in each stage, and in the sink.
    assert!((2..=6).contains(&most), "{most} samples at once");
    // A source without an end, and a sink that has enough.
    let endless = |give: &mut egret::stages::Give<'_>| loop {
        give(sample())?;
    };
    let enough = |number, _| if number == 5 { Err(Error::user("enough")) } else { Ok(()) };
    assert_eq!(staged.stream(endless, enough).unwrap_err().message, "enough");
    // A source that fails: what it gave comes out.
    let mut taken = vec![];
    let fails = |give: &mut egret::stages::Give<'_>| {
        (0..3).try_for_each(|_| give(sample()))?;
        Err(Error::user("no more"))
    };
    let failed = staged.stream(fails, |number, _| {
        taken.push(number);
        Ok(())
    });
    assert_eq!((failed.unwrap_err().message.as_str(), taken), ("no more", vec![0, 1, 2]));
    let panics = |_: &mut egret::stages::Give<'_>| panic!("a source of tests");
    assert!(
        staged.stream(panics, |_, _| Ok(())).unwrap_err().message.contains("source of the stream panicked")
    );
    // None is no sample, and no error.
    assert_eq!(staged.stream(|_| Ok(()), |_, _| Ok(())).unwrap().samples, 0);
}

/// The stage of another model that fits in every name and type is not taken for the plan's, unless its hash is taken out of the plan.
#[test]
fn a_stage_of_another_model_is_told_apart() {
    let dir = temp();
    let cut = |name: &str, seed: u32| {
        let body = PICK.replace("random(1)", &format!("random({seed})"));
        works(&[
            "partition",
            &write(&dir, &format!("{name}.egret"), &body),
            "--stages",
            "2",
            "-o",
            &path(&dir, name),
        ]);
    };
    cut("one", 1);
    cut("other", 3);
    let plan = path(&dir, "one/plan.toml");
    let run = ["run", "--plan", &plan, "--random", "1", "--input", "at=[1,2]"];
    let own = works(&run);
    fs::copy(path(&dir, "other/stage0.egret"), path(&dir, "one/stage0.egret")).unwrap();
    for file in fs::read_dir(path(&dir, "other/constants")).unwrap().flatten() {
        fs::copy(file.path(), dir.path().join("one/constants").join(file.file_name())).unwrap();
    }
    refused(&run, 1, &["stage0.egret is not the file that the plan was written with", "blake3"]);
    let text = fs::read_to_string(&plan).unwrap();
    let unhashed: Vec<&str> = text.lines().filter(|l| !l.starts_with("blake3 = ")).collect();
    fs::write(&plan, unhashed.join("\n")).unwrap();
    assert_ne!(works(&run), own);
}

/// The tier is the plan's: zeros of weights that `exact` multiplies are multiplied in stages too, so that an infinity meets them.
#[test]
fn stages_keep_the_tier() {
    let dir = temp();
    let ones: Vec<&str> = (0..64 * 64).map(|i| if i % 65 == 0 { "1" } else { "0" }).collect();
    let body = format!(
        "graph @zeros(%0 \"x\": f32[4, 64]) -> (%3 \"y\") {{\n  %1 = const f32[64, 64] [{}]\n  %2 = matmul(%0, %1)\n  %4 = tanh(%2)\n  %3 = matmul(%4, %1)\n}}",
        ones.join(", ")
    );
    let file = write(&dir, "zeros.egret", &body);
    let mut x = vec![0.5f32; 4 * 64];
    x[3] = f32::INFINITY;
    let given = path(&dir, "x.npy");
    fs::write(&given, npz::npy_bytes(&Tensor::new(&[4, 64], x))).unwrap();
    let tier = ["--tier", "exact"];
    works(&[&["partition", &file, "--stages", "2", "-o", &path(&dir, "parts")], &tier[..]].concat());
    let plan = path(&dir, "parts/plan.toml");
    same(
        &dir,
        "exact",
        &[&[&file, "--inputs", &given], &tier[..]].concat(),
        &["--plan", &plan, "--inputs", &given],
    );
    let whole = npz::read_npz(&dir.path().join("whole.npz")).unwrap();
    assert!(whole["y"].to_f64s().unwrap()[..64].iter().all(|v| v.is_nan()), "infinity times zero");
    let text = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, text.replace("tier = \"exact\"", "tier = \"some\"")).unwrap();
    refused(&["run", "--plan", &plan, "--inputs", &given], 1, &["`some` is no tier"]);
}
