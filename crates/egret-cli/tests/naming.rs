//! Names of artifacts and in them: models that are called alike, letters that C lacks, arguments as Rust likes them, values in
//! text, depfiles that Make believes.

mod kit;

use egret::ir::Tensor;
use egret::npz;
use kit::{Dim, egret, model, onnx, path, refused, temp, text, works};
use std::path::Path;
use std::process::Command;

/// A C compiler on files in a folder: whether it liked them, and what it said.
fn cc(dir: &Path, args: &[&str]) -> (bool, String) {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let out = Command::new(cc).current_dir(dir).args(flags).args(args).output().unwrap();
    (out.status.success(), text(&out.stderr))
}

#[test]
fn models_called_alike_do_not_become_one() {
    let dir = temp();
    for (folder, name) in [("first", "simple_cnn"), ("second", "fusion_cnn")] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
        let file = path(&dir, &format!("{folder}/model.onnx"));
        std::fs::copy(model(name), &file).unwrap();
        // By itself each has the name of its folder.
        let out = egret(&["compile", &file, "--out-dir", &path(&dir, "gen"), "--emit", "header"]);
        assert!(
            text(&out.stderr).contains(&format!("called `{folder}` like its folder")),
            "{}",
            text(&out.stderr)
        );
        assert!(dir.path().join(format!("gen/{folder}.h")).is_file());
        works(&["compile", &file, "--out-dir", &path(&dir, folder), "--name", "model", "--emit", "header"]);
    }
    std::fs::write(
        dir.path().join("main.c"),
        "#include \"first/model.h\"\n#include \"second/model.h\"\nint main(void) { return 0; }\n",
    )
    .unwrap();
    let (fine, said) = cc(dir.path(), &["-fsyntax-only", "main.c"]);
    assert!(!fine && said.contains("redefin"), "{said}");
    // The same header twice is no harm.
    std::fs::write(
        dir.path().join("main.c"),
        "#include \"first/model.h\"\n#include \"first/model.h\"\n#include \"gen/second.h\"\n\
         int main(void) { return MODEL_IN0_ELEMENTS == 784 && SECOND_OUT0_ELEMENTS == 10 && egret_error_string(0)[0] == 's' ? 0 : 1; }\n",
    )
    .unwrap();
    let (fine, said) = cc(dir.path(), &["main.c", "-o", "main"]);
    assert!(fine, "{said}");
    assert!(Command::new(dir.path().join("main")).status().unwrap().success());
}

#[test]
fn letters_that_symbols_lack_want_a_name() {
    let dir = temp();
    for (stem, wanted) in [
        ("模型", None),
        ("...", None),
        ("größe", None),
        ("my-net.v2", Some("my_net_v2")),
        ("2d", Some("m2d")),
    ] {
        let file = path(&dir, &format!("{stem}.onnx"));
        std::fs::copy(model("simple_cnn"), &file).unwrap();
        let args = ["compile", &file, "--out-dir", &path(&dir, "gen"), "--emit", "header"];
        match wanted {
            Some(name) => {
                works(&args);
                assert!(dir.path().join(format!("gen/{name}.h")).is_file(), "{stem}");
            }
            None => {
                refused(&args, 1, &["--name"]);
                works(&[&args[..], &["--name", "fine"]].concat());
            }
        }
    }
    // `egret_info` is a type of every header.
    let out = path(&dir, "gen");
    refused(&["compile", &model("simple_cnn"), "--out-dir", &out, "--name", "egret"], 1, &["another name"]);
}

#[test]
fn make_knows_the_targets_of_the_depfile() {
    let dir = temp();
    let run = |out_dir: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_egret"))
            .args(["compile", &model("simple_cnn"), "--name", "m", "--out-dir", out_dir])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    for out_dir in ["gen", "deep/er gen", "."] {
        let printed = run(out_dir);
        let depfile = std::fs::read_to_string(dir.path().join(out_dir).join("m.d")).unwrap();
        let (targets, sources) = depfile.split_once(": ").unwrap();
        for file in printed.lines().filter(|l| l.ends_with(".a") || l.ends_with(".h") || l.ends_with(".rs"))
        {
            assert!(targets.contains(&file.replace(' ', "\\ ")), "{file} is no target of {depfile}");
        }
        assert!(sources.contains("simple_cnn.onnx"));
        let before = depfile.clone();
        run(out_dir);
        assert_eq!(std::fs::read_to_string(dir.path().join(out_dir).join("m.d")).unwrap(), before);
    }
}

#[test]
fn rust_has_nothing_to_warn_of() {
    let dir = temp();
    let n = [Dim::Is(4)];
    for (i, name) in
        ["inputIds", "Input__X", "_a", "x:0", "HTTPServer", "größe", "type", "a.B.c_"].iter().enumerate()
    {
        let (file, m) = (path(&dir, "net.onnx"), format!("net{i}"));
        std::fs::write(&file, onnx("Add", &[], 1, (name, &n), ("Out Put", &n))).unwrap();
        works(&["compile", &file, "--out-dir", &path(&dir, "gen"), "--name", &m]);
        let main = format!(
            "#[path = \"{m}.rs\"]\nmod {m};\n\nfn main() {{\n    let model = {m}::Model::bind().expect(\"bound\");\n    \
             let mut arena = {m}::Arena::new();\n    let mut out = [0f32; 4];\n    \
             model.run(&mut arena, &[1.0, 2.0, 3.0, 4.0], &mut out).expect(\"run\");\n    assert_eq!(out[3], 8.0);\n}}\n"
        );
        std::fs::write(dir.path().join("gen/main.rs"), main).unwrap();
        let out = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))
            .current_dir(dir.path().join("gen"))
            .args([
                "--edition",
                "2024",
                "-D",
                "warnings",
                "-L",
                ".",
                "-l",
                &format!("static={m}"),
                "main.rs",
                "-o",
                "main",
            ])
            .output()
            .unwrap();
        assert!(out.status.success(), "{name}: {}", text(&out.stderr));
        assert!(Command::new(dir.path().join("gen/main")).status().unwrap().success(), "{name}");
    }
}

#[test]
fn the_executable_prints_values_as_they_are() {
    let dir = temp();
    let n = [Dim::Is(3)];
    // int64, uint64 and float16, with what a double or an i8 does not hold.
    let cases: [(u64, &str, Tensor, &str); 3] = [
        (
            7,
            "int64",
            Tensor::new(&[3], vec![1i64, -4_503_599_627_370_497, 4_611_686_018_427_387_903]),
            "2 -9007199254740994 9223372036854775806",
        ),
        (
            13,
            "uint64",
            Tensor::new(&[3], vec![1u64, 9_223_372_036_854_775_807, 5]),
            "2 18446744073709551614 10",
        ),
        (
            10,
            "float16",
            Tensor::new(&[3], [0.25f32, -1.5, 1e-7].map(half::f16::from_f32).to_vec()),
            "0.5 -3 2.38419e-07",
        ),
    ];
    for (elem, name, input, wanted) in cases {
        let file = path(&dir, "net.onnx");
        std::fs::write(&file, onnx("Add", &[], elem, ("x", &n), ("y", &n))).unwrap();
        works(&["compile", &file, "--out-dir", &path(&dir, "gen"), "--name", "net", "--emit", "exe"]);
        let x = path(&dir, "x.npy");
        std::fs::write(&x, npz::npy_bytes(&input)).unwrap();
        let out = Command::new(dir.path().join("gen/net")).arg(&x).output().unwrap();
        let said = text(&out.stdout);
        assert!(out.status.success(), "{said}{}", text(&out.stderr));
        assert!(said.contains(&format!("y: {name} [3] = {wanted}\n")), "{said}");
    }
}
