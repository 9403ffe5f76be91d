//! `examples/ci`: the hook in a repository, and the shell of the workflow.

#![cfg(unix)]

mod kit;

use kit::{model, temp, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ci").join(name)
}

/// A command of git that sees no configuration but the repository's.
fn git(dir: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .env_remove("GIT_WORK_TREE")
        .env("EGRET", env!("CARGO_BIN_EXE_egret"))
        .output()
        .expect("git starts")
}

#[test]
fn the_hook_stops_a_commit_of_a_model_over_its_budget() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("left out: git is not there");
        return;
    }
    let dir = temp();
    let repo = dir.path();
    assert!(git(repo, &["init", "-q"]).status.success());
    let hook = repo.join(".git/hooks/pre-commit");
    std::fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    std::fs::copy(example("pre-commit"), &hook).expect("the hook");
    let models = repo.join("zwei Wörter");
    std::fs::create_dir(&models).expect("a folder");
    std::fs::copy(model("simple_cnn"), models.join("a b.onnx")).expect("a model");
    let gates = |kernels: u32| {
        let text = format!("target = \"x86-64-v3\"\n[budget]\nkernels = {kernels}\n");
        std::fs::write(models.join("egret.toml"), text).expect("gates");
    };
    let commit = || {
        assert!(git(repo, &["add", "-A"]).status.success());
        let out = git(repo, &["commit", "-q", "-m", "a model"]);
        (out.status.success(), format!("{}{}", text(&out.stdout), text(&out.stderr)))
    };
    gates(1);
    let (done, said) = commit();
    assert!(!done && said.contains("is over the budget of 1 by "), "{said}");
    gates(99);
    let (done, said) = commit();
    assert!(done && said.contains("  ok      kernels: "), "{said}");
    // A change of the gates alone is about the models beside them; one of neither asks nothing.
    gates(2);
    let (done, said) = commit();
    assert!(!done && said.contains("is over the budget of 2 by "), "{said}");
    gates(99);
    std::fs::write(repo.join("readme"), "x").expect("a file");
    let (done, said) = commit();
    assert!(done && !said.contains("kernels"), "{said}");
}

/// The commands that the workflow runs, in a shell: the value of every `run:` that begins with egret or loops over formats.
#[test]
fn the_workflow_judges_and_writes_reports() {
    let text_of = std::fs::read_to_string(example("egret-gate.yml")).expect("the workflow");
    let gate = text_of.lines().find_map(|l| l.trim().strip_prefix("run: egret")).expect("the gate");
    let reports: Vec<&str> = text_of
        .lines()
        .skip_while(|l| l.trim() != "run: |")
        .skip(1)
        .take_while(|l| l.starts_with("          "))
        .collect();
    let dir = temp();
    std::fs::create_dir(dir.path().join("models")).expect("a folder");
    std::fs::copy(model("simple_cnn"), dir.path().join("models/net.onnx")).expect("a model");
    let toml = dir.path().join("models/egret.toml");
    std::fs::write(toml, "target = \"x86-64-v3\"\n[budget]\nkernels = 1\n").expect("gates");
    let bin = Path::new(env!("CARGO_BIN_EXE_egret")).parent().expect("a folder").display().to_string();
    let run = |script: &str| {
        Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(dir.path())
            .env("MODELS", "models/*.onnx")
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
            .output()
            .expect("bash starts")
    };
    let out = run(&format!("egret{gate}"));
    assert_eq!(out.status.code(), Some(3));
    assert!(
        text(&out.stdout).starts_with("::error file=models/egret.toml,line=3,"),
        "{}",
        text(&out.stdout)
    );
    let out = run(&reports.join("\n"));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for (file, part) in [("egret.junit", "<failure "), ("egret.sarif", "\"2.1.0\"")] {
        let report = std::fs::read_to_string(dir.path().join(file)).expect(file);
        assert!(report.contains(part), "{report}");
    }
}
