//! The `egret` command from outside: exit codes, messages, and that nothing is left behind.

mod kit;

use kit::{Dim, model, names, onnx, path, refused, temp, text, works};
use std::path::Path;
use std::process::Command;

#[test]
fn arguments_have_their_exit_codes() {
    refused(&["no-such-command"], 1, &["no-such-command"]);
    refused(&["run"], 1, &["MODEL"]);
    refused(&["run", &model("simple_cnn"), "--engine", "gpu"], 1, &["no engine `gpu`", "jit-noopt"]);
    refused(
        &["compile", &model("simple_cnn"), "--out-dir", "x", "--emit", "dll"],
        1,
        &["`dll`", "lib, header"],
    );
    refused(&["opt", &model("simple_cnn"), "--tier", "wild"], 1, &["`wild` is no tier", "reassoc"]);
    refused(
        &["explain", &model("simple_cnn"), "--expect", "attention=2"],
        3,
        &["0 attention instead of 2"],
    );
    assert_eq!(
        works(&["explain", &model("simple_cnn"), "--expect", "conv=2"]),
        "the optimised graph has 2 conv, as expected\n"
    );
    let kernels = works(&["print", &model("simple_cnn"), "--after", "lower"]);
    assert!(kernels.starts_with("program ") && kernels.contains("kernel k0 "), "{kernels}");
    assert!(works(&["--help"]).contains("Exit codes: 0 ok"));
    assert!(works(&["compile", "--help"]).contains("Exit codes: 0 ok"));
    assert!(works(&["completions", "bash"]).contains("egret"));
    assert!(works(&["doctor"]).contains("targets"));
}

#[test]
fn damaged_models_leave_nothing_behind() {
    let dir = temp();
    let whole = std::fs::read(model("simple_cnn")).expect("the fixture");
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.onnx", b"", "empty"),
        ("text.onnx", b"this is no model\n", "text.onnx"),
        ("cut.onnx", &whole[..whole.len() / 2], "cut.onnx"),
        ("noise.onnx", &[0xff; 300], "noise.onnx"),
    ];
    for (name, bytes, part) in cases {
        let (file, out) = (path(&dir, name), path(&dir, "out"));
        std::fs::write(&file, bytes).expect("a file");
        refused(&["compile", &file, "--out-dir", &out], 1, &[part]);
        refused(&["inspect", &file], 1, &[part]);
        assert!(!Path::new(&out).exists(), "{name} left a folder behind");
    }
    refused(&["compile", &path(&dir, "none.onnx"), "--out-dir", &path(&dir, "out")], 1, &["none.onnx"]);
}

#[test]
fn folders_that_cannot_be_written_are_refused() {
    let dir = temp();
    let file = path(&dir, "file");
    std::fs::write(&file, b"").expect("a file");
    refused(&["compile", &model("simple_cnn"), "--out-dir", &format!("{file}/out")], 1, &["file/out"]);
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let dir = temp();
    let npy = |name: &str, descr: &str, shape: &str, len: usize| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        header += &" ".repeat(64 - (11 + header.len()) % 64);
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; len]);
        std::fs::write(dir.path().join(name), bytes).expect("a file");
        path(&dir, name)
    };
    let good = npy("good.npy", "<f4", "(1, 1, 28, 28)", 3136);
    let input = works(&["inspect", &model("simple_cnn")]);
    let name = input
        .lines()
        .find_map(|l| l.strip_prefix("input    ")?.split(':').next())
        .expect("an input")
        .to_owned();
    let with = |file: &str| format!("{name}={file}");
    let cnn = model("simple_cnn");
    works(&["run", &cnn, "--input", &with(&good)]);
    refused(&["run", &cnn], 1, &["no value for the input", "--random"]);
    refused(&["run", &cnn, "--input", &format!("nonsense={good}")], 1, &["nonsense", &name]);
    refused(
        &["run", &cnn, "--input", &with(&npy("int.npy", "<i4", "(1, 1, 28, 28)", 3136))],
        1,
        &["f32", "i32"],
    );
    refused(&["run", &cnn, "--input", &with(&npy("shape.npy", "<f4", "(1, 1, 28, 27)", 3024))], 1, &["28"]);
    refused(
        &["run", &cnn, "--input", &with(&npy("cut.npy", "<f4", "(1, 1, 28, 28)", 100))],
        1,
        &["cut.npy", "cut off"],
    );
    refused(&["run", &cnn, "--input", &with(&path(&dir, "none.npy"))], 1, &["none.npy"]);
}

#[test]
fn free_dims_get_values_or_stay_free() {
    let dir = temp();
    let out = path(&dir, "out");
    let dims = works(&["inspect", &model("parallel_cnn")]);
    let name = dims
        .lines()
        .find_map(|l| l.strip_prefix("dims     ")?.split(' ').next())
        .expect("a free dim")
        .to_owned();
    refused(
        &["compile", &model("parallel_cnn"), "--out-dir", &out, "--dim", "nonsense=2"],
        1,
        &["nonsense", &name],
    );
    refused(
        &["compile", &model("parallel_cnn"), "--out-dir", &out, "--dim", &format!("{name}=-2")],
        1,
        &["-2"],
    );
    assert!(!Path::new(&out).exists());
    let said =
        works(&["compile", &model("parallel_cnn"), "--out-dir", &out, "--dim", &format!("{name}=4")]);
    assert!(said.contains("bytes of arena"), "{said}");
    let said = works(&["compile", &model("parallel_cnn"), "--out-dir", &path(&dir, "free")]);
    assert!(said.contains(&format!("arena for any {name}")), "{said}");
    // A dim that cannot stay free: of normal numbers.
    let ir = path(&dir, "noise.onnx");
    let dims = [Dim::Is(1), Dim::Is(2), Dim::Free("n")];
    std::fs::write(&ir, onnx("RandomNormalLike", &[], 1, ("x", &dims), ("y", &dims))).expect("a file");
    refused(
        &["compile", &ir, "--out-dir", &path(&dir, "other")],
        2,
        &["free dims", "--dim n=N", "random_normal"],
    );
}

#[test]
fn two_compilations_are_equal_and_run_from_their_folder() {
    let dir = temp();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for out in [&a, &b] {
        let out = out.display().to_string();
        works(&[
            "compile",
            &model("simple_cnn"),
            "--out-dir",
            &out,
            "--emit",
            "lib,header,hpp,rs,obj,so,exe,pc",
            "--name",
            "m",
        ]);
    }
    let files = [
        "libm.a",
        "libm.so",
        "m",
        "m.d",
        "m.h",
        "m.hpp",
        "m.manifest.json",
        "m.o",
        "m.pc",
        "m.rs",
        "m.trace",
    ];
    assert_eq!(names(&a), files);
    for file in files {
        let read = |dir: &Path| std::fs::read(dir.join(file)).expect(file);
        if file == "m.d" {
            // Its targets are spelt as Make knows them.
            let (a_text, b_text) = (text(&read(&a)), text(&read(&b)));
            assert_eq!(a_text.replace(&a.display().to_string(), &b.display().to_string()), b_text);
            continue;
        }
        assert!(read(&a) == read(&b), "{file} differs");
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(a.join("m.manifest.json")).unwrap()).unwrap();
    assert!(
        manifest["kernels"].as_array().unwrap().iter().any(|k| k["sources"].to_string().contains("Conv"))
    );
    refused(&["run", &a.display().to_string()], 1, &["no value for the input"]);
    refused(&["run", &dir.path().display().to_string()], 1, &["no compiled model"]);
}

#[test]
fn damaged_code_is_not_loaded() {
    let dir = temp();
    let (folder, cnn) = (path(&dir, "out"), model("simple_cnn"));
    works(&["compile", &cnn, "--out-dir", &folder, "--emit", "so", "--name", "m"]);
    let (library, manifest) = (path(&dir, "out/libm.so"), path(&dir, "out/m.manifest.json"));
    let (code, stated) = (std::fs::read(&library).unwrap(), std::fs::read(&manifest).unwrap());
    let run = |parts: &[&str]| {
        refused(&["run", &folder], 1, &[parts, &["compile it again"]].concat());
    };
    for size in [0, 100, 20000, code.len() - 1] {
        std::fs::write(&library, &code[..size]).unwrap();
        run(&["libm.so", &format!("it has {size} bytes of {}", code.len())]);
    }
    let mut other = code.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&library, other).unwrap();
    run(&["libm.so", "does not have the hash"]);
    std::fs::write(&library, &code).unwrap();
    for size in [0, 100, stated.len() - 2] {
        std::fs::write(&manifest, &stated[..size]).unwrap();
        run(&["m.manifest.json is damaged"]);
    }
    std::fs::write(&manifest, "{}").unwrap();
    run(&["m.manifest.json states no size and hash of libm.so"]);
    std::fs::write(&manifest, &stated).unwrap();
    refused(&["run", &folder], 1, &["no value for the input"]);
}

#[test]
fn weights_may_stand_beside_the_code() {
    let dir = temp();
    let out = dir.path().join("out");
    let folder = out.display().to_string();
    works(&[
        "compile",
        &model("simple_cnn"),
        "--out-dir",
        &folder,
        "--emit",
        "so",
        "--weights",
        "file",
        "--name",
        "m",
    ]);
    assert!(names(&out).contains(&"m.weights".to_owned()));
    let bytes = std::fs::read(out.join("m.weights")).unwrap();
    std::fs::write(out.join("m.weights"), &bytes[..bytes.len() - 8]).unwrap();
    refused(&["run", &folder], 1, &["weights"]);
    refused(
        &["compile", &model("simple_cnn"), "--out-dir", &folder, "--emit", "exe", "--weights", "file"],
        1,
        &["--weights embed"],
    );
}

#[test]
fn without_a_c_compiler_only_linking_fails() {
    let dir = temp();
    let out = dir.path().join("out");
    let run = |emit: &str| {
        Command::new(env!("CARGO_BIN_EXE_egret"))
            .args(["compile", &model("simple_cnn"), "--emit", emit, "--out-dir"])
            .arg(&out)
            .env("CC", "/nonexistent/cc")
            .output()
            .expect("egret starts")
    };
    let failed = run("lib,exe");
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("/nonexistent/cc"), "{}", text(&failed.stderr));
    assert!(!out.exists());
    assert_eq!(run("lib,header,rs").status.code(), Some(0));
}

/// Whatever machine this is.
#[test]
fn every_target_that_doctor_lists_is_compiled_for() {
    let told = works(&["doctor"]);
    let targets = told.lines().find_map(|l| l.strip_prefix("targets")).expect("a line of targets");
    let targets: Vec<&str> = targets.split([':', ',']).map(str::trim).filter(|t| !t.is_empty()).collect();
    for wanted in ["native", "x86-64-v2", "x86-64-v4-amx", "aarch64", "riscv64", "wasm32"] {
        assert!(targets.contains(&wanted), "{told}");
    }
    for target in targets {
        let dir = temp();
        let emit = if target == "wasm32" { "wasm" } else { "lib,header" };
        let out = path(&dir, "out");
        works(&["compile", &model("simple_cnn"), "--out-dir", &out, "--target", target, "--emit", emit]);
    }
}

#[test]
fn what_has_nothing_that_flushes_keeps_denormals() {
    let dir = temp();
    let out = path(&dir, "out");
    let args = ["compile", &model("simple_cnn"), "--out-dir", &out, "--target", "riscv64", "--denormals"];
    refused(&[&args[..], &["flush"]].concat(), 1, &["riscv64", "use --denormals keep"]);
    works(&[&args[..], &["keep"]].concat());
}

#[test]
fn check_and_bench_say_what_they_measured() {
    assert!(works(&["check", &model("attention_model")]).contains("ok   "));
    assert!(works(&["check", &model("attention_model"), "--strict"]).contains("ok   "));
    let out = works(&["bench", &model("simple_cnn"), "--seconds", "0.05", "--threads", "1", "--json"]);
    let line: serde_json::Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    let keys: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = "median_ms min_ms p95_ms runs compile_ms load_ms kernels arena_bytes weights_bytes peak_rss_bytes threads p25_ms p75_ms p99_ms max_ms warm_up_runs noisy";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
}
