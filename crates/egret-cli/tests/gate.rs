//! `egret gate`: files of gates, verdicts, exit codes, reports.

mod kit;

use kit::{Dim, egret, model, onnx, path, refused, temp, text, works};
use std::path::Path;

/// A copy of a model in a folder of its own, with an `egret.toml` beside it.
fn with_file(name: &str, gates: &str) -> (tempfile::TempDir, String) {
    let dir = temp();
    let to = path(&dir, &format!("{name}.onnx"));
    std::fs::copy(model(name), &to).expect("a copy");
    std::fs::write(dir.path().join("egret.toml"), gates).expect("egret.toml");
    (dir, to)
}

/// The part of a text between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = &text[text.find(from).unwrap_or_else(|| panic!("no {from} in {text}")) + from.len()..];
    &rest[..rest.find(to).unwrap_or_else(|| panic!("no {to} in {rest}"))]
}

/// That a model is not there is said before what is not asked of it.
#[test]
fn a_model_that_is_not_there_is_no_lack_of_a_file_of_gates() {
    let dir = temp();
    let file = path(&dir, "nope.onnx");
    refused(&["gate", &file], 1, &["cannot read", "nope.onnx"]);
    assert!(!text(&egret(&["gate", &file]).stderr).contains("egret.toml"));
}

#[test]
fn a_model_within_its_budgets_passes() {
    let (_dir, m) = with_file(
        "simple_cnn",
        "target = \"x86-64-v3\"\ndeny = [\"missed:attention\"]\n[budget]\nsize = \"1MB\"\narena = \"100KB\"\nweights = \"200KB\"\nkernels = 30\nestimated-time = \"100ms\"\ncompile-time = \"10min\"\n[expect]\nconv = 2\n",
    );
    let said = works(&["gate", &m]);
    assert!(said.contains("for x86-64-v3"), "{said}");
    for gate in [
        "size: ",
        "arena: ",
        "weights: ",
        "kernels: ",
        "estimated-time: ",
        "compile-time: ",
        "conv: ",
        "missed:attention: ",
    ] {
        assert!(said.contains(&format!("  ok      {gate}")), "no {gate} in {said}");
    }
}

#[test]
fn what_is_over_names_budget_figure_excess_and_command() {
    let (_dir, m) = with_file(
        "simple_cnn",
        "target = \"x86-64-v3\"\n[budget]\nkernels = 2\nweights = \"200KB\"\narena = 28000\n",
    );
    let out = egret(&["gate", &m]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    let kernels: u64 = between(&said, "kernels: ", " is over").parse().expect("a number");
    for part in [
        &format!("is over the budget of 2 by {} (", kernels - 2),
        "egret.toml:3)",
        &format!("`egret explain {m} --target x86-64-v3 --missed -v` tells why"),
        "is over the budget of 28000 bytes by ",
        &format!("`egret explain {m} --target x86-64-v3` tells why"),
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(!said.contains("weights"), "what passes is no error: {said}");
    // The commands work as they are written.
    works(&["explain", &m, "--target", "x86-64-v3", "--missed", "-v"]);
    let told = works(&["explain", &m, "--target", "x86-64-v3"]);
    assert!(
        told.contains(&format!("compiled: {kernels} kernels, "))
            && told.contains("kB of weights, 28.8 kB of arena"),
        "{told}"
    );
}

/// A figure that a gate reports is the one that `compile` reaches.
#[test]
fn figures_are_those_of_the_compilation() {
    let dir = temp();
    let (m, target) = (model("simple_cnn"), "x86-64-v3");
    let compiled =
        works(&["compile", &m, "--out-dir", &path(&dir, "o"), "--target", target, "--emit", "lib"]);
    let library = std::fs::metadata(dir.path().join("o/libsimple_cnn.a")).expect("the library").len();
    let max: Vec<&str> =
        vec!["--max", "size=0", "--max", "kernels=0", "--max", "arena=0", "--max", "weights=0"];
    let args = [vec!["gate", &m, "--no-config", "--target", target, "--format", "json"], max].concat();
    let out = egret(&args);
    assert_eq!(out.status.code(), Some(3));
    let said = text(&out.stdout);
    let found = |id: &str| {
        between(&said[said.find(&format!("\"id\": \"budget/{id}\"")).expect(id)..], "\"found\": ", ",")
            .to_owned()
    };
    assert_eq!(found("size"), library.to_string());
    let line = compiled.lines().last().expect("a summary");
    assert_eq!(
        line,
        format!(
            "{} kernels, {} bytes of arena, {} bytes of weights, for {target}",
            found("kernels"),
            found("arena"),
            found("weights")
        )
    );
}

#[test]
fn files_that_are_wrong_are_refused_at_their_line() {
    for (gates, said) in [
        ("[budget]\nkernel = 3\n", "egret.toml:2:1: [budget] has no `kernel`; the nearest is `kernels`"),
        ("\n[model.\"simple_cn.onnx\"]\n", "egret.toml:2:8: there is no "),
        ("target = \"x86-64-v3\"\n", "asks nothing of it"),
        ("target = \"x86-65\"\n[budget]\nkernels = 1\n", "x86-65"),
    ] {
        let (_dir, m) = with_file("simple_cnn", gates);
        refused(&["gate", &m], 1, &[said]);
    }
    let dir = temp();
    let m = path(&dir, "m.onnx");
    std::fs::copy(model("simple_cnn"), &m).expect("a copy");
    refused(&["gate", &m], 1, &["there is no egret.toml beside it", "egret help gate"]);
    refused(&["gate", &m, "--no-config"], 1, &["give --max, --expect or --deny"]);
    refused(&["gate", &m, "--config", &path(&dir, "none.toml")], 1, &["none.toml"]);
    refused(&["gate", &m, "--max", "sise=3"], 1, &["no budget is called `sise`"]);
    refused(&["gate", &m, "--max", "size=3", "--max", "size=4"], 1, &["budget/size is asked twice"]);
    refused(&["gate", &m, "--deny", "missed=atention"], 1, &["the nearest is `attention`"]);
    refused(&["gate"], 1, &["<MODELS>"]);
}

/// Several models share a file; a part for one of them goes before the rest, and the command line before both.
#[test]
fn models_share_a_file() {
    let (dir, first) = with_file(
        "simple_cnn",
        "target = \"x86-64-v3\"\n[budget]\nkernels = 1\n[model.\"sub/parallel_cnn.onnx\".budget]\nkernels = 99\n",
    );
    std::fs::create_dir(dir.path().join("sub")).expect("a folder");
    let second = path(&dir, "sub/parallel_cnn.onnx");
    std::fs::copy(model("parallel_cnn"), &second).expect("a copy");
    let file = path(&dir, "egret.toml");
    let out = egret(&["gate", &first, &second, "--config", &file]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert_eq!((said.matches("FAILED").count(), said.matches("  ok  ").count()), (1, 1), "{said}");
    assert!(said.contains(" of 99"), "{said}");
    works(&["gate", &first, &second, "--config", &file, "--max", "kernels=99"]);
    // The file beside the first model is not beside the second.
    refused(&["gate", &second], 1, &["there is no egret.toml beside it"]);
}

/// A model that cannot be compiled fails its own gate, and the others are judged all the same.
#[test]
fn a_model_that_cannot_be_judged_is_an_error_among_the_others() {
    let (dir, good) = with_file("simple_cnn", "target = \"x86-64-v3\"\n[budget]\nkernels = 1\n");
    let bad = path(&dir, "bad.onnx");
    std::fs::write(&bad, b"no model").expect("written");
    let out = egret(&["gate", &bad, &good, "--format", "junit"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stdout);
    assert!(said.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{said}");
    assert!(said.contains("<error type=\"exit code 1\""), "{said}");
}

#[test]
fn free_dims_have_no_arena_until_they_are_given() {
    let dir = temp();
    let m = path(&dir, "free.onnx");
    let dims = [Dim::Free("rows \"n\""), Dim::Is(4)];
    std::fs::write(&m, onnx("Softmax", &[], 1, ("x", &dims), ("y", &dims))).expect("written");
    let args = ["gate", &m, "--no-config", "--target", "x86-64-v3", "--max", "arena=1MB"];
    refused(&args, 1, &["the arena has no size while dims are free", "--dim 'rows \"n\"=N'"]);
    works(&[&args[..], &["--dim", "rows \"n\"=3"]].concat());
    works(&["gate", &m, "--no-config", "--target", "x86-64-v3", "--max", "kernels=3", "--max", "size=1MB"]);
}

/// The report goes to a file and its text to the log; two runs write the same bytes.
#[test]
fn reports_go_to_files_and_are_the_same_again() {
    let (dir, m) =
        with_file("simple_cnn", "target = \"x86-64-v3\"\n[budget]\nkernels = 1\nsize = \"1MB\"\n");
    for format in ["json", "github", "sarif", "junit", "text"] {
        let report = path(&dir, format);
        let mut seen = vec![];
        for _ in 0..2 {
            let out = egret(&["gate", &m, "--format", format, "-o", &report]);
            assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
            assert!(text(&out.stdout).contains("FAILED  kernels"), "{}", text(&out.stdout));
            seen.push(std::fs::read(&report).expect("a report"));
        }
        assert!(!seen[0].is_empty() && seen[0] == seen[1], "{format}");
    }
    let github = std::fs::read_to_string(dir.path().join("github")).expect("a report");
    let file = Path::new(&m).with_file_name("egret.toml");
    assert!(
        github.starts_with(&format!(
            "::error file={},line=3,title=egret gate%3A budget/kernels::",
            file.display()
        )),
        "{github}"
    );
}

/// `--deny` of both commands says what `explain --missed` does.
#[test]
fn what_explain_tells_as_missed_can_be_denied() {
    let m = model("simple_cnn");
    let with = |rest: &[&'static str]| {
        [&["explain", &m, "--target", "x86-64-v4"], rest]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| egret(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let missed = text(&run(with(&["--missed", "-v"])).stdout);
    assert!(missed.contains("full vectors x"), "{missed}");
    let text_of = |out: std::process::Output| (out.status.code(), text(&out.stdout), text(&out.stderr));
    for rest in [
        &["--deny", "missed=full vectors"][..],
        &["--deny", "missed=full vectors", "--format", "json", "--expect", "conv=2"],
    ] {
        let (code, said, error) = text_of(run(with(rest)));
        assert_eq!(code, Some(3), "{said}{error}");
        assert!(
            error.contains("missed:full vectors: missed ")
                && error.contains("Do: a width that is a multiple"),
            "{error}"
        );
    }
    let (code, said, error) = text_of(run(with(&["--deny", "missed:attention", "--expect", "conv=2"])));
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "the optimised graph has 2 conv, as expected\nmissed:attention: nothing missed\n"),
        "{error}"
    );
    let (code, _, error) = text_of(run(with(&["--deny", "missed=full vectors", "--expect", "conv=3"])));
    assert_eq!(code, Some(3));
    assert!(error.contains("2 conv instead of 3") && error.contains("missed:full vectors"), "{error}");
    refused(
        &["gate", &m, "--no-config", "--target", "x86-64-v4", "--deny", "missed=full vectors"],
        3,
        &["missed:full vectors: missed ", "(the command line)", "--missed -v` tells why"],
    );
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_unicode_is_told_and_judged() {
    use std::os::unix::ffi::OsStrExt;
    let dir = temp();
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n]]>.onnx");
    std::fs::copy(model("simple_cnn"), dir.path().join(name)).expect("a copy");
    for format in ["text", "json", "github", "sarif", "junit"] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_egret"))
            .current_dir(dir.path())
            .arg("gate")
            .arg(name)
            .args(["--no-config", "--target", "x86-64-v3", "--max", "kernels=1", "--format", format])
            .output()
            .expect("egret starts");
        assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
        assert!(String::from_utf8(out.stdout).is_ok());
    }
}
