//! `egret compress` from outside.

mod kit;

use egret::ir::Tensor;
use egret::npz;
use kit::{egret as command, model, path, refused, temp, text, works};
use std::path::Path;
use tempfile::TempDir;

/// Digits with their labels: every fifth calibrates, some of the others judge.
fn digits(dir: &TempDir) -> (String, String) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits");
    let images = npz::read_npy(&fixtures.join("images.npy")).expect("digits");
    let labels = npz::read_npy(&fixtures.join("labels.npy")).expect("labels");
    let (images, labels) = (images.data::<f32>(), labels.data::<i64>());
    let save = |name: &str, which: Vec<usize>| {
        let file = path(dir, name);
        let image = which.iter().flat_map(|i| images[i * 784..(i + 1) * 784].to_vec()).collect();
        let label = which.iter().map(|i| labels[*i]).collect();
        let arrays = [
            ("image".to_owned(), Tensor::new(&[which.len(), 1, 28, 28], image)),
            ("labels".to_owned(), Tensor::new::<i64>(&[which.len()], label)),
        ];
        npz::write(file.as_ref(), &arrays).expect("a file");
        file
    };
    let data = save("calibration.npz", (0..1000).step_by(5).collect());
    (data, save("judge.npz", (1..1000).step_by(5).collect()))
}

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(file).expect("a file")
}

#[test]
fn a_quarter_of_the_bytes_keeps_the_digits_and_a_recipe_makes_it_again() {
    let dir = temp();
    let (data, eval) = digits(&dir);
    let (out, again) = (path(&dir, "out.onnx"), path(&dir, "again.onnx"));
    let base = ["compress", &model("simple_cnn"), "--data", &data, "-o", &out];
    let said = works(&[&base[..], &["--eval", &eval, "--size", "25%", "--budget", "0.5pt"]].concat());
    for part in ["with 200 samples, 200 judge", "judged        top1", "<- this one", "/fc1/Gemm", "uint4"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(bytes(&out).len() * 4 < 88760, "{said}");
    works(&["run", &out, "--random", "1"]);
    let recipe = path(&dir, "out.recipe.toml");
    works(&["compress", &model("simple_cnn"), "--recipe", &recipe, "-o", &again]);
    assert!(bytes(&out) == bytes(&again), "a recipe makes the same bytes");
    // Without samples that judge, every fourth does; the same command makes the same bytes.
    let size = [&base[..], &["--size", "22KB", "--to", "dense,sparse:0.97,sparse:0.9"]].concat();
    let said = works(&size);
    assert!(said.contains("with 150 samples, 50 judge") && said.contains("sparse:0.9"), "{said}");
    let first = bytes(&out);
    assert!(first.len() <= 22_000 && works(&size) == said && bytes(&out) == first);
    works(&["run", &out, "--random", "1"]);
    works(&["compress", &model("simple_cnn"), "--recipe", &recipe, "-o", &again]);
    assert!(bytes(&again) == first, "with sparse tensors too");
    // What a recipe says must fit.
    let with = |from: &str, to: &str, parts: &[&str]| {
        let text = std::fs::read_to_string(&recipe).expect("a recipe").replace(from, to);
        let changed = path(&dir, "changed.toml");
        std::fs::write(&changed, text).expect("a file");
        refused(&["compress", &model("simple_cnn"), "--recipe", &changed, "-o", &again], 1, parts);
    };
    with("model_bytes = 88760", "model_bytes = 1", &["for a model of 1 bytes", "88760"]);
    with("/fc1/Gemm", "/fc9/Gemm", &["/fc9/Gemm", "none of this model"]);
    with("samples = 150", "samples = 151", &["151 samples", "150"]);
    with("version = 2", "version = ", &["changed.toml"]);
    // So are recipes of older forms, and a copy of other bytes.
    let old = path(&dir, "old.toml");
    let text = std::fs::read_to_string(&recipe).expect("a recipe").replace("version = 2", "version = 1");
    std::fs::write(&old, text).expect("a file");
    let again_by = ["compress", &model("simple_cnn"), "--recipe", &old, "-o", &again];
    refused(&again_by, 2, &["another version than 2"]);
    let text = std::fs::read_to_string(&recipe).expect("a recipe");
    let (hash, other) = ("copy_blake3 = \"", "copy_blake3 = \"0");
    std::fs::write(&recipe, text.replace(hash, other)).expect("a file");
    refused(
        &["compress", &model("simple_cnn"), "--recipe", &recipe, "-o", &again],
        3,
        &["other bytes than the recipe's"],
    );
}

#[test]
fn what_cannot_be_met_ends_with_3_and_the_best_is_written() {
    let dir = temp();
    let (data, eval) = digits(&dir);
    let out = path(&dir, "out.onnx");
    let base = ["compress", &model("simple_cnn"), "--data", &data, "--eval", &eval, "-o", &out];
    let unmet = |more: &[&str], parts: &[&str]| {
        let _ = std::fs::remove_file(&out);
        let args = [&base[..], more].concat();
        let result = command(&args);
        let (said, error) = (text(&result.stdout), text(&result.stderr));
        assert_eq!(result.status.code(), Some(3), "{args:?}: {said}{error}");
        for part in parts {
            assert!(said.contains(part) || error.contains(part), "{args:?}: no `{part}` in {said}{error}");
        }
        assert!(bytes(&out).len() < 88760, "the best point is written");
        let recipe = std::fs::read_to_string(path(&dir, "out.recipe.toml")).expect("a recipe");
        assert!(recipe.contains("# NOT MET: "), "{recipe}");
    };
    unmet(&["--size", "1KB"], &["1000 bytes are not reached", "out.onnx"]);
    unmet(&["--size", "1KB", "--format", "json"], &["\"met\": false", "\"unmet\""]);
    unmet(&["--budget", "1e-12", "--metric", "mse"], &["the loss is an mse of", "the budget"]);
    unmet(
        &["--budget", "0pt", "--to", "sparse:0.98", "--skip", "/fc1/Gemm"],
        &["points of top1", "1 skipped"],
    );
    let speed = ["--speed", "1000x", "--target", "x86-64-v4-vnni", "--to", "dense,channels:0.5"];
    unmet(&speed, &["1000x is not reached", "us that stay", "(no layer)", "channels:0.5", "<- this one"]);
}

#[test]
fn bad_input_is_told() {
    let dir = temp();
    let (data, _) = digits(&dir);
    let out = path(&dir, "out.onnx");
    let said = works(&["compress", &model("simple_cnn"), "--plan"]);
    assert!(said.contains("dense 64000, w8 ") && said.contains("w4:128 "), "{said}");
    let base = ["compress", &model("simple_cnn"), "-o", &out];
    let with = |more: &[&str], parts: &[&str]| refused(&[&base[..], more].concat(), 1, parts);
    with(&["--data", &data], &["--size 4MB", "--budget 0.5pt", "--speed 1.5x"]);
    with(&["--data", &data, "--speed", "2"], &["no speed `2`", "2x"]);
    with(&["--data", &data, "--speed", "2x", "--size", "40%"], &["--speed or --size"]);
    with(&["--data", &data, "--size", "40%", "--to", "channels:-2"], &["channels:-2"]);
    with(&["--size", "40%"], &["--data FILE.npz", "--plan"]);
    with(&["--data", &data, "--size", "4TB"], &["no size `4TB`"]);
    with(&["--data", &data, "--size", "200%"], &["177520 bytes", "has 88760", "small enough as it is"]);
    with(&["--data", &data, "--size", "88760"], &["small enough as it is", "--budget"]);
    with(&["--data", &data, "--budget", "0.5"], &["in points", "0.5pt"]);
    with(&["--data", &data, "--budget", "0.5pt", "--metric", "mse"], &["is of top1"]);
    with(&["--data", &data, "--size", "40%", "--to", "2:4"], &["2:4 is for --zeros 40%"]);
    with(&["--data", &data, "--zeros", "100%", "--to", "2:4"], &["no part `100%`"]);
    with(&["--data", &data, "--size", "40%", "--to", "block:4x1:0.5"], &["block:4x1:0.5 is no level"]);
    with(&["--data", &data, "--size", "40%", "--skip", "fc9"], &["--skip fc9"]);
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits/images.npy");
    let images = images.display().to_string();
    with(&["--data", &images, "--size", "40%", "--metric", "top1"], &["needs labels", "`labels`"]);
    let few = path(&dir, "few.npy");
    npz::write(few.as_ref(), &[("image".into(), Tensor::new(&[2, 1, 28, 28], vec![0f32; 2 * 784]))])
        .expect("a file");
    with(&["--data", &few, "--size", "40%"], &["2 samples are too few", "--eval"]);
}

#[test]
fn the_report_is_a_page_that_is_the_same_twice() {
    let dir = temp();
    let (data, eval) = digits(&dir);
    let (out, page) = (path(&dir, "out.onnx"), path(&dir, "out.html"));
    let cnn = model("simple_cnn");
    let read = || std::fs::read_to_string(&page).expect("a page");
    let twice = |args: &[&str]| {
        let args = [args, &["-o", &out, "--report", &page]].concat();
        let said = works(&args);
        let first = read();
        assert!(works(&args) == said && read() == first, "{args:?}");
        assert!(first.starts_with("<!doctype html>") && first.ends_with("</html>\n"), "{args:?}");
        assert!(first.contains("<title>simple_cnn.onnx \u{b7} Egret</title>"), "{args:?}");
        assert!(!first.contains("<script") && !first.contains("http:") && !first.contains("https:"));
        assert!(first.contains(&format!("-o {out}")), "the command is told");
        first
    };
    let goal = ["--data", &data, "--eval", &eval, "--size", "25%", "--budget", "0.5pt"];
    let searched = twice(&[&["compress", &cnn], &goal[..]].concat());
    let again = format!("egret compress {cnn} --recipe {} -o {out}", path(&dir, "out.recipe.toml"));
    for part in
        ["The goal is met.", "budget met", "size met", "<svg", "levels tried", "uint4 in blocks", &again]
    {
        assert!(searched.contains(part), "no `{part}`");
    }
    for args in [
        &["quantize", &cnn, "--to", "w8", "--skip", "/fc1/Gemm"][..],
        &["quantize", &cnn, "--to", "int8", "--data", &data],
        &["prune", &cnn, "--to", "sparse:0.5"],
        &["prune", &cnn, "--to", "channels:0.5"],
    ] {
        let page = twice(args);
        assert!(page.contains(">/fc1/Gemm<") && !page.contains("goal"), "{args:?}");
    }
    // What is not met has a page that says so.
    let args =
        [&["compress", &cnn], &goal[..4], &["--size", "1KB", "-o", &out, "--report", &page]].concat();
    assert_eq!(command(&args).status.code(), Some(3));
    assert!(read().contains("The goal is not met</b>: 1000 bytes are not reached"));
}

#[test]
fn a_run_that_is_killed_is_taken_up_where_it_was() {
    let dir = temp();
    let (data, eval) = digits(&dir);
    let (out, whole) = (path(&dir, "out.onnx"), path(&dir, "whole.onnx"));
    let cnn = model("simple_cnn");
    let goal = ["compress", &cnn, "--data", &data, "--eval", &eval, "--budget", "0.5pt", "-o"];
    let said = works(&[&goal[..], &[&whole]].concat());
    let state = path(&dir, "out.onnx.state");
    let length = || std::fs::metadata(&state).map_or(0, |m| m.len());
    // Longer than the errors of all levels: some layers of a copy are there.
    for least in [200, 4000, 40_000] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_egret"));
        let child = child.args(goal).arg(&out).stdout(std::process::Stdio::null());
        let mut child = child.stderr(std::process::Stdio::null()).spawn().expect("it starts");
        while length() < least {
            assert_eq!(child.try_wait().expect("a process"), None, "it ended before {least} bytes");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(!Path::new(&out).exists(), "nothing is written by halves");
    }
    let before = bytes(&state);
    let result = command(&[&goal[..], &[&out]].concat());
    let (printed, told) = (text(&result.stdout), text(&result.stderr));
    assert!(told.contains("the levels of 4 of 4 layers") && told.contains("out.onnx.state"), "{told}");
    assert_eq!(printed, said);
    assert!(bytes(&out) == bytes(&whole) && !Path::new(&state).exists());
    // Damaged: what stands before is taken. Of another model: nothing is. No state: it stays.
    let mut damaged = before.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let again = |there: &[u8], skip: &[&str], part: &str| {
        std::fs::write(&state, there).expect("a file");
        let result = command(&[&goal[..], &[&out], skip].concat());
        assert_eq!(result.status.code(), Some(0), "{part}");
        assert!(text(&result.stderr).contains(part), "no `{part}` in {}", text(&result.stderr));
        assert!(!Path::new(&state).exists(), "{part}");
    };
    again(&damaged, &[], "is damaged after");
    assert!(bytes(&out) == bytes(&whole), "after damage");
    again(&before, &["--skip", "/conv1/Conv"], "of another model, other data, other options");
    std::fs::write(&state, "notes").expect("a file");
    refused(&[&goal[..], &[&out]].concat(), 1, &["out.onnx.state", "it is another file"]);
    assert_eq!(bytes(&state), b"notes");
}

/// Samples that are no numbers tell nothing: whoever reads them says which they are.
#[test]
fn samples_that_are_not_finite_are_refused_by_name() {
    let dir = temp();
    let (data, eval) = digits(&dir);
    let (cnn, out) = (model("simple_cnn"), path(&dir, "out.onnx"));
    for (number, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let broken = path(&dir, "broken.npz");
        let mut images = vec![0.5; 12 * 784];
        images[7 * 784 + 5] = number;
        npz::write(broken.as_ref(), &[("image".into(), Tensor::new(&[12, 1, 28, 28], images))])
            .expect("a file");
        let broken = broken.as_str();
        let commands: [&[&str]; 7] = [
            &["prune", "--to", "sparse:0.5", "--data", broken],
            &["prune", "--to", "channels:0.2", "--data", broken],
            &["quantize", "--to", "int8", "--data", broken],
            &["quantize", "--to", "w4:32", "--data", broken],
            &["stats", "--data", broken],
            &["compress", "--metric", "mse", "--size", "40%", "--data", broken],
            &["compress", "--metric", "mse", "--size", "40%", "--data", &data, "--eval", broken],
        ];
        for command in commands {
            let args = [command, &[&cnn, "-o", &out]].concat();
            refused(&args, 1, &["broken.npz", "`image`", &format!("sample 7 holds {word}:")]);
        }
    }
    // A size beyond the file is no condition beside a budget, and labels are of any integers.
    let labels = npz::read_npz(eval.as_ref()).expect("samples");
    let classes: Vec<i32> = labels["labels"].data::<i64>().iter().map(|&l| l as i32).collect();
    let arrays = [
        ("image".to_owned(), labels["image"].clone()),
        ("labels".to_owned(), Tensor::new(&[classes.len()], classes)),
    ];
    let other = path(&dir, "labels.npz");
    npz::write(other.as_ref(), &arrays).expect("a file");
    let judged = |eval: &str| {
        let args =
            ["compress", &cnn, "--data", &data, "--eval", eval, "--metric", "top1", "--to", "dense,w8"];
        works(&[&args[..], &["--size", "200%", "--budget", "0.5pt", "-o", &out]].concat())
    };
    assert_eq!(judged(&other), judged(&eval));
}
