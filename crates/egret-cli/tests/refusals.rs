//! What the command says no to: filters that match nothing, files of the wrong kind, numbers that are no counts, models that
//! contradict themselves, results that cannot be written.

mod kit;

use kit::{Dim, egret, model, onnx, onnx_of, path, refused, temp, tensor_pb, text, works};
use std::process::Command;

const CNN: &str = "simple_cnn";

#[test]
fn nothing_that_matches_is_an_error() {
    let dir = temp();
    let at = |name: &str| path(&dir, name);
    let set = dir.path().join("case/test_data_set_0");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::copy(model(CNN), at("case/model.onnx")).unwrap();
    std::fs::write(set.join("input_0.pb"), tensor_pb(&[1, 1, 28, 28], &[0.5; 784])).unwrap();
    std::fs::write(at("none.rules"), "# a comment\n").unwrap();
    let folder = dir.path().display().to_string();
    refused(&["test", &at("empty")], 1, &["no test case"]);
    refused(&["test", &folder, "--filter", "cnn9"], 1, &["--filter cnn9", "nothing matched", "case"]);
    let out = egret(&["test", &folder]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stdout).contains("nothing to compare with"), "{}", text(&out.stdout));
    refused(&["doctor", "--rules", &at("none.rules")], 1, &["holds no rewrite rule"]);
    refused(&["explain", &model(CNN), "--rules", &at("none.rules")], 1, &["holds no rewrite rule"]);
    std::fs::write(at("none.npz"), egret::npz::npz_bytes(&[]).unwrap()).unwrap();
    refused(&["check", &model(CNN), "--expected", &at("none.npz")], 1, &["nothing to compare with"]);
    let said = works(&["explain", &model(CNN), "--missed", "--at", "conv1"]);
    assert_eq!(said, "nothing to tell\n");
}

#[test]
fn files_of_another_kind_are_refused_with_what_is_wanted() {
    let dir = temp();
    let cnn = model(CNN);
    let tensor = egret::ir::Tensor::new(&[2], vec![1f32, 2.0]);
    let [npy, bytes, ir] = ["x.npy", "bytes", "m.egret"].map(|n| path(&dir, n));
    std::fs::write(&npy, egret::npz::npy_bytes(&tensor)).unwrap();
    for file in [&bytes, &ir] {
        std::fs::write(file, [0xff, 0xfe, 0, 1, 0x80]).unwrap();
    }
    for file in [&npy, &bytes] {
        refused(&["explain", &cnn, "--verify", "--trace", file], 1, &["no Egret trace", "--format trace"]);
        refused(&["doctor", "--rules", file], 1, &["is no text", "rewrite rules"]);
        refused(&["run", &cnn, "--random", "1", "--rules", file], 1, &["is no text"]);
        refused(&["run", file, "--random", "1"], 1, &["not an ONNX file"]);
    }
    refused(&["print", &ir], 1, &["is no text", "text IR"]);
    let folder = dir.path().display().to_string();
    std::fs::copy(&cnn, dir.path().join("model.onnx")).unwrap();
    refused(&["test", &folder, "--list", &bytes], 1, &["is no text", "case-name"]);
}

/// Egret writes modules of WebAssembly and runs none: whoever asks is told what there is, by whichever command.
#[test]
fn modules_of_webassembly_are_not_run() {
    let cnn = model(CNN);
    let said = ["--target wasm32 --emit wasm", "does not run", "such as native"];
    for command in ["run", "bench", "check"] {
        let mut args = vec![command, &cnn, "--target", "wasm32"];
        if command != "bench" {
            args.extend(["--random", "1"]);
        }
        refused(&args, 1, &said);
    }
    refused(&["run", &cnn, "--target", "wasm32", "--random", "1", "--engine", "aot"], 1, &said);
}

/// The bytes of a `.npy` file of f32 whose header states this shape, whatever follows.
fn npy_of(shape: &str) -> Vec<u8> {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes().chain([0; 64]));
    bytes
}

#[test]
fn files_whose_sizes_overflow_are_refused_by_name_and_shape() {
    let (dir, cnn) = (temp(), model(CNN));
    let [npy, pb] = ["huge.npy", "huge.pb"].map(|n| path(&dir, n));
    for shape in ["(4611686018427387904, 2, 2, 1)", "(4294967296, 4294967296, 0)"] {
        std::fs::write(&npy, npy_of(shape)).unwrap();
        let bind = format!("image={npy}");
        for args in [
            &["run", &cnn, "--inputs", &npy][..],
            &["check", &cnn, "--input", &bind],
            &["bench", &cnn, "--inputs", &npy],
            &["compile", &cnn, "--bind", &bind, "--out-dir", &path(&dir, "out")],
        ] {
            refused(args, 1, &["huge.npy", shape, "overflows the address space"]);
        }
    }
    std::fs::write(&pb, tensor_pb(&[1 << 62, 2, 2, 1], &[0.5])).unwrap();
    refused(&["run", &cnn, "--inputs", &pb], 1, &["huge.pb", "4611686018427387904, 2, 2, 1", "overflow"]);
}

#[test]
fn what_a_compiled_model_is_bound_to_is_not_made_up() {
    let dir = temp();
    let (ir, out) = (path(&dir, "sum.egret"), path(&dir, "out"));
    let sum = "graph @g(%0 \"x\": f32[3], %1 \"k\": f32[3]) -> (%2 \"y\") { %2 = add(%0, %1) }";
    std::fs::write(&ir, sum).unwrap();
    works(&["compile", &ir, "--bind", "k=[1,2,3]", "--out-dir", &out, "--emit", "so"]);
    for args in [&["run", "--random", "1"][..], &["run", "--input", "x=[4,4,4]"], &["bench", "--runs", "1"]]
    {
        refused(&[args, &[&out]].concat(), 1, &["the input `k` was fixed by --bind", "--input k="]);
    }
    let given = |k| ["run", &out, "--input", "x=[4,4,4]", "--input", k];
    assert!(works(&given("k=[1,2,3]")).contains("y: f32[3] = 5 6 7"));
    refused(&given("k=[1,2,4]"), 1, &["the input `k` has another value than it was bound to"]);
    // The model itself takes the value that it is bound to.
    assert!(works(&["run", &ir, "--random", "1", "--bind", "k=[1,2,3]"]).contains("y: f32[3]"));
}

#[test]
fn a_dim_has_one_value() {
    let (cnn, out) = (model(CNN), path(&temp(), "out"));
    for option in ["--dim", "--at-most"] {
        let twice = [option, "a=1", option, "a=2"];
        for args in [
            &["run", &cnn][..],
            &["bench", &cnn],
            &["inspect", &cnn],
            &["gate", &cnn],
            &["diff", &cnn, &cnn],
            &["compile", &cnn, "--out-dir", &out],
        ] {
            refused(&[args, &twice].concat(), 1, &[option, "`a` is given twice"]);
        }
    }
}

#[test]
fn counts_are_counts() {
    let cnn = model(CNN);
    let out = path(&temp(), "out");
    for value in ["0", "-1", "x", "1.5"] {
        for args in [
            &["bench", &cnn, "--threads", value][..],
            &["bench", &cnn, "--runs", value],
            &["run", &cnn, "--random", "1", "--threads", value],
            &["check", &cnn, "--threads", value],
            &["compile", &cnn, "--out-dir", &out, "--threads", value],
            &["test", "nowhere", "--jobs", value],
            &["partition", &cnn, "--out-dir", &out, "--stages", value],
            &["attribute", &cnn, "--method", "integrated-gradients", "--random", "1", "--steps", value],
        ] {
            refused(args, 1, &[&format!("invalid value '{value}'"), "at least 1"]);
        }
    }
    refused(&["run", &cnn, "--random", "-1"], 1, &["a seed is a whole number"]);
    refused(&["bench", &cnn, "--seconds", "-1"], 1, &["--seconds", "0 or more"]);
    refused(&["run", &cnn, "--random", "1", "--budget", "-1"], 1, &["--budget -1"]);
}

#[test]
fn models_that_contradict_themselves() {
    let dir = temp();
    let file = path(&dir, "m.onnx");
    let [two, wide, flat] = [&[Dim::Is(2), Dim::Is(3)][..], &[Dim::Is(2), Dim::Is(4)], &[Dim::Is(6)]];
    let write = |to: &[Dim]| std::fs::write(&file, onnx("Add", &[], 1, ("x", two), ("y", to))).unwrap();
    let commands: [&[&str]; 6] = [
        &["run", "--random", "1"],
        &["check"],
        &["print"],
        &["inspect"],
        &["explain"],
        &["compile", "--emit", "header", "--out-dir", &path(&dir, "out")],
    ];
    for (declared, told) in [(two, None), (wide, Some("[2, 4]")), (flat, Some("[6]"))] {
        write(declared);
        for args in commands {
            let out = egret(&[&[args[0], file.as_str()], &args[1..]].concat());
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(0), "{args:?}: {said}");
            assert_eq!(said.contains("declares the shape"), told.is_some(), "{args:?}: {said}");
            assert!(told.is_none_or(|t| said.contains(t) && said.contains("[2, 3]")), "{args:?}: {said}");
        }
    }
    write(two);
    let bytes = std::fs::read(&file).unwrap();
    // The output's element type: 1 is f32, 7 is i64.
    let at = bytes.windows(4).rposition(|w| w[..2] == [0x08, 1] && w[2] == 0x12).expect("an element type");
    let mut other = bytes.clone();
    other[at + 1] = 7;
    std::fs::write(&file, other).unwrap();
    refused(
        &["run", &file, "--random", "1"],
        1,
        &["Add \"the_node\"", "`y` is declared as i64, but is f32"],
    );
    // The version of the format comes first, the opset last.
    assert_eq!(bytes[..2], [0x08, 8]);
    let mut newer = bytes.clone();
    newer[1] = 99;
    std::fs::write(&file, newer).unwrap();
    refused(&["run", &file, "--random", "1"], 2, &["IR version 99", "ir_version"]);
    let without = &bytes[..bytes.len() - 4];
    assert_eq!(bytes[without.len()..], [0x42, 2, 0x10, 17]);
    std::fs::write(&file, without).unwrap();
    refused(&["run", &file, "--random", "1"], 1, &["imports no opset", "opset_import.append"]);
    let mut old = without.to_vec();
    old[1] = 2;
    std::fs::write(&file, old).unwrap();
    // Models of that time have opset 1, whose Add is another one.
    assert!(!text(&egret(&["run", &file, "--random", "1"]).stderr).contains("imports no opset"));
}

#[test]
fn kernels_are_told_from_nodes_without_onnx_names() {
    let dir = temp();
    let file = path(&dir, "m.egret");
    let ir = "graph @g(%0 \"x\": f32[64, 256]) -> (%3 \"y\") {\n  %1 = const f32[256, 512] random(3)\n  %2 = matmul(%0, %1)\n  \
              %3 = softmax(%2) {axis = 1}\n}\n";
    std::fs::write(&file, ir).unwrap();
    let said = works(&["explain", &file]);
    let times = said.split("where the time goes").nth(1).expect("a table of times");
    assert!(times.contains("matmul x1") && times.contains("softmax x1"), "{said}");
    assert!(times.contains("[64,256] x [256,512]") && !times.contains(" 0 ns"), "{said}");
    let profile = works(&["run", &file, "--random", "1", "--profile"]);
    assert!(profile.contains("matmul f32[64, 256] f32[256, 512] -> f32[64, 512]"), "{profile}");
}

#[test]
fn tiny_models_have_times() {
    let dir = temp();
    let file = path(&dir, "m.egret");
    std::fs::write(&file, "graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") {\n  %1 = neg(%0)\n}\n").unwrap();
    let said = works(&["bench", &file, "--runs", "9", "--threads", "1"]);
    let unit = [" ns", " us"].iter().any(|u| said.lines().next().is_some_and(|l| l.contains(u)));
    assert!(unit && !said.contains("0.000"), "{said}");
}

#[test]
fn results_that_cannot_be_written_are_no_success() {
    let dir = temp();
    let (cnn, out) = (model(CNN), path(&dir, "out"));
    works(&["compile", &cnn, "--out-dir", &out, "--emit", "exe,header"]);
    std::fs::write(path(&dir, "x.npy"), egret::npz::npy_bytes(&image())).unwrap();
    // No file may grow. The signal that tells of it is ignored: writing fails as on a full disk.
    let limited = |command: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 0; exec {command} > full");
        Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap()
    };
    let egret = env!("CARGO_BIN_EXE_egret");
    for args in [
        "--help".to_owned(),
        "--version".to_owned(),
        "help run".to_owned(),
        "doctor".to_owned(),
        "completions bash".to_owned(),
        format!("run '{cnn}' --random 1"),
        format!("run '{cnn}' --random 1 --profile"),
        format!("print '{cnn}'"),
        format!("inspect '{cnn}'"),
        format!("explain '{cnn}'"),
        format!("explain '{cnn}' --verify"),
        format!("opt '{cnn}'"),
        format!("bench '{cnn}' --runs 1"),
        format!("check '{cnn}'"),
        format!("diff '{cnn}' '{cnn}'"),
        format!("bisect '{cnn}'"),
        format!("grad '{cnn}' --of 'logits[3]'"),
        format!("attribute '{cnn}' --method saliency --random 1"),
    ] {
        let done = limited(&format!("'{egret}' {args}"));
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{args}: {said}");
        assert!(said.contains("cannot write to standard output"), "{args}: {said}");
    }
    for args in ["x.npy", "--help"] {
        let done = limited(&format!("out/simple_cnn {args}"));
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{args}: {said}");
        assert!(said.contains("standard output: cannot be written"), "{args}: {said}");
    }
    for n in ["-1", "", "x", "1x"] {
        let done = Command::new(path(&dir, "out/simple_cnn"))
            .args(["x.npy", "--show", n])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = text(&done.stderr);
        assert!(done.status.code() == Some(1) && said.contains("--show: takes a whole number"), "{said}");
    }
}

fn image() -> egret::ir::Tensor {
    egret::ir::Tensor::new(&[1, 1, 28, 28], (0..784).map(|i| i as f32 / 784.0).collect())
}

#[test]
fn machines_are_files_of_known_keys_whose_tiles_fit() {
    let dir = temp();
    let (cnn, file, out) = (model(CNN), path(&dir, "mine.toml"), path(&dir, "out"));
    for (text, words) in [
        ("isa = \"x86-64-v9\"", vec!["mine.toml:1: ", "`isa`", "x86-64-v4"]),
        (
            "isa = \"x86-64-v4\"\n[contractions]\ntile = [[8, 16]]",
            vec!["mine.toml:3: ", "`tile`", "block_rows"],
        ),
        (
            "isa = \"x86-64-v4\"\n\n[contractions]\ntiles = [[40, 64]]",
            vec!["mine.toml:4: ", "[40, 64]", "32 registers"],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        for [command, option, value] in
            [["compile", "--out-dir", &out], ["run", "--random", "1"], ["bench", "--seconds", "0"]]
        {
            refused(&[command, &cnn, "--target", &file, option, value], 1, &words);
        }
    }
    refused(
        &["run", &model(CNN), "--random", "1", "--target", &path(&dir, "none.toml")],
        1,
        &["none.toml"],
    );
    // Other tiles are other kernels with the same results.
    std::fs::write(&file, "isa = \"x86-64-v2\"\n[contractions]\ntiles = [[2, 4], [1, 8]]\n").unwrap();
    let kernels = |target: &str| works(&["print", &model(CNN), "--after", "lower", "--target", target]);
    assert_ne!(kernels(&file), kernels("x86-64-v2"));
    let said = works(&["compile", &model(CNN), "--out-dir", &out, "--target", &file]);
    assert!(said.contains("for x86-64-v2, with the tiles of mine"), "{said}");
    #[cfg(target_arch = "x86_64")]
    works(&["check", &model(CNN), "--target", &file]);
}

#[test]
fn what_is_measured_has_a_file_of_its_own() {
    let dir = temp();
    let text = path(&dir, "mine.txt");
    refused(&["doctor", "--measure", "-o", &text], 1, &["mine.txt", "NAME.toml"]);
    refused(&["doctor", "-o", &path(&dir, "mine.toml")], 1, &["--measure"]);
}

/// What a model says of its outputs is not needed to run it; what it says of its inputs is.
#[test]
fn only_inputs_need_a_type() {
    let dir = temp();
    let file = path(&dir, "model.onnx");
    let typed = |from: Option<u64>, to: Option<u64>| {
        let dims = [Dim::Free("n")];
        std::fs::write(&file, onnx_of("Add", &[], [from, to], ("x", &dims), ("y", &dims))).unwrap();
    };
    for none in [None, Some(0)] {
        typed(Some(1), none);
        assert!(works(&["run", &file, "--input", "x=[1,2]"]).contains("y: f32[2] = 2 4"));
        works(&["check", &file, "--input", "x=[1,2]"]);
        let said = works(&["inspect", &file]);
        assert!(said.contains("output   y: f32[n]"), "{said}");
        typed(none, Some(1));
        let says = [&*file, "input `x`", "its type is not declared", "make_tensor_value_info"];
        refused(&["run", &file, "--input", "x=[1,2]"], 1, &says);
        refused(&["inspect", &file], 1, &says);
        refused(&["compile", &file, "--out-dir", &path(&dir, "out")], 1, &says);
    }
}

/// Infinities and NaN have no words in JSON.
#[test]
fn lists_hold_what_floats_are() {
    let dir = temp();
    let file = path(&dir, "model.onnx");
    let dims = [Dim::Free("n")];
    std::fs::write(&file, onnx("Abs", &[], 1, ("x", &dims), ("y", &dims))).unwrap();
    works(&["check", &file, "--input", "x=[nan, -inf,Inf ,-2.5]"]);
    let said = works(&["run", &file, "--input", "x=[NaN, -inf,Inf ,-2.5]"]);
    assert!(said.to_lowercase().contains("y: f32[4] = nan inf inf 2.5"), "{said}");
    refused(&["run", &file, "--input", "x=[1, none]"], 1, &["`none` is neither a number", "-inf"]);
}

/// A page is called as one, in every command that writes it.
#[test]
fn pages_end_with_html() {
    let dir = temp();
    let [page, out, folder] = ["x.txt", "out.onnx", "out"].map(|n| path(&dir, n));
    let (cnn, induction) = (model(CNN), model("induction"));
    let digits = |n: &str| format!("{}/../../fixtures/digits/{n}.npy", env!("CARGO_MANIFEST_DIR"));
    let (images, labels) = (digits("images"), digits("labels"));
    for args in [
        vec!["compile", &cnn, "--out-dir", &folder],
        vec!["prune", &cnn, "--to", "sparse:0.5", "-o", &out],
        vec!["quantize", &cnn, "--to", "w8", "-o", &out],
        vec!["compress", &cnn, "--size", "40%", "--data", &images, "-o", &out],
        vec!["attention", &induction, "--random", "1"],
        vec!["attribute", &cnn, "--random", "1", "--method", "saliency"],
        vec!["signals", &cnn, "--data", &images, "--labels", &labels, "--loss", "cross_entropy"],
    ] {
        refused(&[&args[..], &["--report", &page]].concat(), 1, &["x.txt", "ends with .html"]);
    }
    let scores =
        ["signals", &cnn, "--data", &images, "--labels", &labels, "--loss", "cross_entropy", "-o", &page];
    refused(&scores, 1, &["scores are a .npz file, not ", "x.txt"]);
    assert!(kit::names(dir.path()).is_empty());
}

/// What cannot be read or written is named once, as the user spells it, with the cause alone.
#[test]
#[cfg(target_os = "linux")]
fn files_that_cannot_be_opened_are_named_once() {
    let cnn = model(CNN);
    for (args, parts) in [
        (vec!["run", &cnn, "--random", "1", "--output", "/proc/y.npz"], "cannot write /proc/y.npz: "),
        (vec!["compile", &cnn, "--out-dir", "/proc"], "cannot write into /proc: "),
        (vec!["run", &cnn, "--inputs", "/proc/none.npz"], "cannot read /proc/none.npz: "),
    ] {
        let said = text(&egret(&args).stderr);
        assert!(said.contains(parts) && !said.contains(".egret-") && !said.contains("no .npz"), "{said}");
        assert_eq!(said.matches("/proc").count(), 1, "{said}");
    }
}

/// This machine's compiler links no code of another architecture, and what it says of that is of no use.
#[test]
#[cfg(target_arch = "x86_64")]
fn linking_for_another_architecture_needs_its_compiler() {
    if !Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success()) {
        eprintln!("left out: executables for another architecture (cc is not there)");
        return;
    }
    let dir = temp();
    for (target, emit) in [("aarch64", "exe"), ("riscv64", "so"), ("aarch64", "so")] {
        let out = Command::new(env!("CARGO_BIN_EXE_egret"))
            .args([
                "compile",
                &model(CNN),
                "--target",
                target,
                "--emit",
                emit,
                "--out-dir",
                &path(&dir, "out"),
            ])
            .env_remove("CC")
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("set CC to a cross compiler, e.g. CC={target}-linux-gnu-gcc")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
