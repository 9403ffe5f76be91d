//! `egret partition` and `egret run --plan`: stages are the whole to the bit, and a plan that was edited wrongly is told so.

mod kit;

use egret::npz;
use egret::stages::Plan;
use kit::{egret, model, names, path, refused, temp, text, works};
use std::fs;
use std::path::Path;
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

fn write(dir: &TempDir, name: &str, body: &str) -> String {
    let file = path(dir, name);
    fs::write(&file, body).unwrap();
    file
}

fn partition(dir: &TempDir, model: &str, stages: usize) -> (String, Plan) {
    let (out, stages) = (path(dir, "parts"), stages.to_string());
    works(&["partition", model, "--stages", &stages, "-o", &out]);
    let plan = path(dir, "parts/plan.toml");
    (plan.clone(), Plan::read(Path::new(&plan)).unwrap())
}

#[test]
fn stages_of_real_models_are_the_whole_to_the_bit() {
    for name in ["simple_cnn", "parallel_cnn", "fusion_cnn", "attention_model"] {
        let dir = temp();
        let whole = model(name);
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
            same(&dir, &what, &[&whole, "--random", "7"], &["--plan", &file, "--random", "7"]);
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
    for k in 0..3 {
        let (out, name) = (path(&dir, "built"), format!("stage{k}"));
        let file = path(&dir, &format!("parts/stage{k}.egret"));
        let args = ["compile", &file, "--passes", "", "--out-dir", &out, "--emit", "exe,lib,header"];
        works(&args);
        // Constants are files that the artifact depends on.
        let depends = fs::read_to_string(path(&dir, &format!("built/{name}.d"))).unwrap();
        assert!(depends.contains(&format!("{name}.egret ")), "{depends}");
        assert!(depends.contains("parts/constants/"), "{depends}");
        let result = path(&dir, &format!("{name}.npz"));
        let mut stage = std::process::Command::new(path(&dir, &format!("built/{name}")));
        let done = stage.args([&given, "--output", &result]).output().expect("it starts");
        assert!(done.status.success(), "{name}: {}", text(&done.stderr));
        given = result;
    }
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
fn more_stages_than_kernels_and_values_that_are_bound_are_refused() {
    let dir = temp();
    let out = path(&dir, "parts");
    refused(
        &["partition", &model("simple_cnn"), "--stages", "500", "-o", &out],
        1,
        &["stages, not into 500", "kernel"],
    );
    let body = "graph @g(%0 \"x\": f32[4]) -> (%1 \"y\") {\n  %1 = neg(%0)\n}";
    let file = write(&dir, "g.egret", body);
    refused(
        &["partition", &file, "--stages", "1", "-o", &out, "--bind", "x=[1,2,3,4]"],
        2,
        &["`x` is fixed", "constant"],
    );
    let strings = "graph @s(%0 \"x\": string[2]) -> (%1 \"y\") {\n  %1 = concat(%0, %0) {axis = 0}\n}";
    let file = write(&dir, "s.egret", strings);
    refused(&["partition", &file, "--stages", "1", "-o", &out], 2, &["string"]);
    assert!(!Path::new(&out).exists());
}

/// `early` is used by every stage behind the first, `x` by the last too; outputs come from everywhere; one is an input, and one is crossing.
const FAR: &str = "graph @far(%0 \"x\": f32[n, 16], %9 \"idle\": f32[2]) -> (%10 \"early\", %16 \"y\", %0 \"again\", %12 \"middle\") {
  %3 = const f32[16, 16] random(1)
  %20 = const f32[16, 16] random(2)
  %10 = matmul(%0, %3)
  %11 = matmul(%10, %20)
  %12 = matmul(%11, %3)
  %13 = matmul(%12, %20)
  %14 = add(%13, %10)
  %15 = matmul(%14, %3)
  %16 = add(%15, %0)
}";

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
    for (from, to, parts) in [
        ("version = 1", "version = 2", &["version 2", "egret partition"][..]),
        ("version = 1", "version = ", &["plan.toml", "line 4"]),
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
    refused(&run, 1, &["stage 1", "stage1.egret"]);
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
