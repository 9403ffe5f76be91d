//! `egret grad` from outside.

use std::path::Path;
use std::process::{Command, Output};

fn grad(args: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/simple_cnn.onnx");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    command.arg("grad").arg(model).args(args).output().expect("egret starts")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn prints_runs_and_compiles() {
    let printed = grad(&["--of", "logits[3]"]);
    assert_eq!(printed.status.code(), Some(0), "{}", said(&printed.stderr));
    let text = said(&printed.stdout);
    assert!(text.contains("conv_transpose") && text.contains("\"grad.image\""), "{text}");
    let run = |engine| {
        let out = grad(&["--of", "logits", "--seeded", "--run", "--random", "1", "--engine", engine]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out.stderr));
        said(&out.stdout)
    };
    let lines = run("jit");
    assert!(
        lines.contains("logits: f32[1, 10]") && lines.contains("grad.image: f32[1, 1, 28, 28]"),
        "{lines}"
    );
    assert!(run("interp").contains("grad.image"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().display().to_string();
    let out = grad(&["--of", "logits[3]", "--out-dir", &path, "--emit", "lib,header"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out.stderr));
    let header = std::fs::read_to_string(dir.path().join("grad_simple_cnn.h")).expect("a header");
    assert!(header.contains("grad_simple_cnn_run"), "{header}");
}

#[test]
fn wrong_requests_have_one_message() {
    for (args, part) in [
        (&["--of", "logits[10]"][..], "the index 10 is out of range of axis 1 of `logits`"),
        (&["--of", "logits[a]"], "write the index as in logits[3]"),
        (&["--of", "[0,9]"], "no value ``"),
        (&["--of", "nothing"], "no value `nothing`; its inputs and outputs are `image`, `logits`"),
        (&["--of", "logits", "--wrt", "nothing"], "no value `nothing`"),
        (&["--of", "logits", "--wrt", "fc1.weight"], "`fc1.weight` is not in the graph any more"),
        (&["--of", "image[0]", "--wrt", "logits"], "`image` does not depend on `logits`"),
        (&["--of", "logits[1]", "--seeded"], "a seed weighs all elements"),
        (&["--of", "logits", "--run"], "no value for the input `image`"),
    ] {
        let out = grad(args);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", said(&out.stderr));
        assert!(said(&out.stderr).contains(part), "{args:?}: {}", said(&out.stderr));
    }
}
