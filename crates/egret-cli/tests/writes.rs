//! Files that commands write: whole or not at all, and the input among them.

mod kit;

use egret::ir::Tensor;
use egret::npz;
use kit::{egret as command, model, names, path, refused, temp, text, works};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Digits with labels.
fn digits(dir: &TempDir) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits");
    let images = npz::read_npy(&fixtures.join("images.npy")).expect("digits");
    let labels = npz::read_npy(&fixtures.join("labels.npy")).expect("labels");
    let file = path(dir, "data.npz");
    let arrays = [
        ("image".to_owned(), Tensor::new(&[40, 1, 28, 28], images.data::<f32>()[..40 * 784].to_vec())),
        ("labels".to_owned(), Tensor::new(&[40], labels.data::<i64>()[..40].to_vec())),
    ];
    npz::write(file.as_ref(), &arrays).expect("a file");
    file
}

/// Every command that makes a model file of another: its arguments but for the model and the output.
fn commands(data: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["prune", "--to", "sparse:0.5"],
        vec!["prune", "--to", "sparse:0.5", "--method", "obc", "--data", data],
        vec!["prune", "--to", "channels:0.5"],
        vec!["quantize", "--to", "w8"],
        vec!["quantize", "--to", "int8", "--data", data],
        vec!["compress", "--to", "w8", "--data", data, "--size", "40%", "--metric", "mse"],
        vec!["tune", "--data", data, "--loss", "cross_entropy", "--train", "fc2.*", "--epochs", "1"],
        vec!["join"],
    ]
}

fn bytes(file: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(file).expect("a file")
}

/// The command line; `join` needs a second model, of another name.
fn with(args: &[&str], model: &str, out: &str) -> Vec<String> {
    let mut line = vec![args[0].to_owned(), model.to_owned()];
    line.extend((args[0] == "join").then(|| format!("second={model}")));
    line.extend(args[1..].iter().chain(&["-o", out]).map(|&a| a.to_owned()));
    line
}

fn refers(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

#[test]
fn the_output_may_be_the_input_by_any_path() {
    let dir = temp();
    let data = digits(&dir);
    let (elsewhere, own) = (path(&dir, "elsewhere.onnx"), path(&dir, "m.onnx"));
    let inner = path(&dir, "inner");
    std::fs::create_dir(&inner).expect("a folder");
    let turned = format!("{inner}/../m.onnx");
    for args in commands(&data) {
        std::fs::copy(model("simple_cnn"), &own).expect("a copy");
        works(&refers(&with(&args, &own, &elsewhere)));
        let wanted = bytes(&elsewhere);
        assert!(wanted != bytes(&own), "{args:?}");
        works(&refers(&with(&args, &own, &own)));
        assert!(bytes(&own) == wanted, "{args:?}: onto itself");
        std::fs::copy(model("simple_cnn"), &own).expect("a copy");
        works(&refers(&with(&args, &own, &turned)));
        assert!(bytes(&own) == wanted, "{args:?}: by another path");
        #[cfg(unix)]
        {
            let link = path(&dir, "link.onnx");
            std::fs::copy(model("simple_cnn"), &own).expect("a copy");
            std::os::unix::fs::symlink(&own, &link).expect("a link");
            works(&refers(&with(&args, &own, &link)));
            assert!(bytes(&own) == wanted, "{args:?}: through a link");
            assert!(std::fs::symlink_metadata(&link).expect("a link").is_symlink(), "{args:?}");
            std::fs::remove_file(&link).expect("a link");
        }
    }
    let left = names(dir.path());
    assert!(!left.iter().any(|n| n.starts_with(".egret-")), "{left:?}");
}

#[test]
fn what_cannot_be_written_is_told_before_the_work() {
    let dir = temp();
    let data = digits(&dir);
    let nowhere = path(&dir, "no/m.onnx");
    let folder = dir.path().display().to_string();
    for args in commands(&data) {
        let cnn = model("simple_cnn");
        refused(&refers(&with(&args, &cnn, &nowhere)), 1, &[&nowhere, "is no folder"]);
        refused(&refers(&with(&args, &cnn, &folder)), 1, &[&folder, "name a file"]);
        // No sample is read before: here there is none.
        if args.contains(&data.as_str()) {
            let args: Vec<&str> = args.iter().map(|a| if *a == data { "none.npz" } else { a }).collect();
            refused(&refers(&with(&args, &cnn, &nowhere)), 1, &["is no folder"]);
        }
    }
}

/// A limit of the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_what_was_there() {
    let dir = temp();
    let own = path(&dir, "m.onnx");
    let binary = env!("CARGO_BIN_EXE_egret");
    for args in commands("").into_iter().filter(|args| !args.contains(&"--data")) {
        std::fs::copy(model("simple_cnn"), &own).expect("a copy");
        let before = bytes(&own);
        let args = with(&args, &own, &own);
        // 8 blocks of 512 or 1024 bytes.
        let limited = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"", binary])
            .args(&args)
            .output()
            .expect("a shell");
        let said = text(&limited.stderr);
        assert_eq!(limited.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("cannot write") && said.contains("m.onnx"), "{args:?}: {said}");
        assert!(bytes(&own) == before, "{args:?}");
        assert_eq!(names(dir.path()), ["m.onnx"], "{args:?}");
        assert!(command(&refers(&args)).status.success(), "{args:?}: with room");
    }
}

/// A report is about what it would destroy.
#[test]
fn no_report_takes_the_place_of_what_it_is_about() {
    let dir = temp();
    let (own, data) = (path(&dir, "m.onnx"), path(&dir, "x.npy"));
    let (config, ir) = (path(&dir, "egret.toml"), path(&dir, "m.egret"));
    std::fs::copy(model("simple_cnn"), &own).expect("a copy");
    works(&["print", &own, "-o", &ir]);
    npz::write(data.as_ref(), &[("image".to_owned(), Tensor::new(&[1, 1, 28, 28], vec![0f32; 784]))])
        .expect("a file");
    std::fs::write(&config, "[gates]\nmax = { size = \"2MB\" }\n").expect("a file");
    let turned = path(&dir, "../").clone()
        + dir.path().file_name().and_then(|n| n.to_str()).expect("a name")
        + "/m.onnx";
    let given = format!("image={data}");
    let learnt = path(&dir, "x.stats");
    works(&["stats", &own, "--data", &data, "-o", &learnt]);
    let before = [bytes(&own), bytes(&data), bytes(&config), bytes(&learnt)];
    for (args, out) in [
        (vec!["explain", &own], &own),
        (vec!["explain", &own, "--format", "html"], &turned),
        (vec!["explain", &own, "--format", "json"], &own),
        (vec!["print", &own], &own),
        (vec!["print", &own, "--format", "onnx"], &own),
        (vec!["print", &ir, "--format", "onnx"], &ir),
        (vec!["gate", &own, "--no-config", "--max", "size=2MB"], &own),
        (vec!["gate", &own], &config),
        (vec!["bisect", &own], &own),
        (vec!["run", &own, "--inputs", &data], &data),
        (vec!["stats", &own, "--data", &data], &data),
        (vec!["stats", &own, "--data", &data], &own),
        (vec!["stats", &own, "--stats", &learnt], &learnt),
        (vec!["quantize", &own, "--to", "int8", "--stats", &learnt], &learnt),
        (vec!["prune", &own, "--to", "2:4", "--stats", &learnt], &learnt),
        (vec!["quantize", &own, "--to", "int8", "--data", &data], &data),
        (vec!["prune", &own, "--to", "sparse:0.5", "--data", &data], &data),
        (vec!["compress", &own, "--size", "40%", "--data", &data], &data),
        (
            vec![
                "tune",
                &own,
                "--data",
                &data,
                "--loss",
                "cross_entropy",
                "--train",
                "fc2.*",
                "--epochs",
                "1",
            ],
            &data,
        ),
        (vec!["compress", &own, "--size", "40%", "--data", &data, "--stats", &learnt], &learnt),
        (vec!["run", &own, "--input", &given], &data),
        (vec!["attribute", &own, "--method", "gradient", "--inputs", &data], &data),
        (vec!["attribute", &own, "--method", "integrated-gradients", "--baseline", &given], &data),
        (vec!["grad", &own, "--of", "logits[0,0]", "--run", "--inputs", &data], &data),
        (vec!["explain", &own, "--rules", &config], &config),
    ] {
        let line: Vec<&str> = args.iter().copied().chain(["-o", out]).collect();
        refused(&line, 1, &[out, "name another file"]);
    }
    // A page beside what a command makes: of nothing that it reads or writes.
    let (out, recipe) = (path(&dir, "out.onnx"), path(&dir, "out.recipe.toml"));
    let folder = dir.path().display().to_string();
    for args in [
        vec!["prune", &own, "--to", "sparse:0.5"],
        vec!["prune", &own, "--to", "sparse:0.5", "--data", &folder],
        vec!["quantize", &own, "--to", "int8", "--data", &data],
        vec!["compress", &own, "--size", "40%", "--data", &data],
        vec!["compress", &own, "--size", "40%", "--data", &folder, "--eval", &data],
    ] {
        let refuses = |page: &str| {
            let line: Vec<&str> = args.iter().copied().chain(["-o", &out, "--report", page]).collect();
            refused(&line, 1, &[page, "name another file"]);
        };
        for page in [&own, &turned, &out] {
            refuses(page);
        }
        if args.contains(&"--data") {
            refuses(&data);
        }
        if args[0] == "compress" {
            refuses(&recipe);
        }
        let line: Vec<&str> = args.iter().copied().chain(["-o", &out, "--report", &folder]).collect();
        refused(&line, 1, &[&folder]);
    }
    refused(&["compile", &own, "--out-dir", &path(&dir, "c"), "--report", &own], 1, &["name another file"]);
    assert!(!Path::new(&out).exists(), "nothing is made before it is refused");
    assert!(before == [bytes(&own), bytes(&data), bytes(&config), bytes(&learnt)]);
}

/// What has no end is no file of text.
#[cfg(unix)]
#[test]
fn an_endless_file_is_refused() {
    refused(
        &["gate", &model("simple_cnn"), "--config", "/dev/zero"],
        1,
        &["/dev/zero", "a file of settings and gates"],
    );
}
