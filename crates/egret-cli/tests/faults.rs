//! Seeded faults: a wrong rule, a rule with a broken guard and a corrupted trace are found and named by `explain --verify` and
//! `bisect`.

use std::path::Path;
use std::process::{Command, Output};

/// A gelu as exporters take it apart, then a maximum and a scale.
const MODEL: &str = r#"graph @g(%0 "x": f32[2, 32]) -> (%12 "y") {
  %1 = const f32[] [1.4142135]
  %2 = div(%0, %1) : f32[2, 32] from "Div:/act/Div"
  %3 = erf(%2) : f32[2, 32] from "Erf:/act/Erf"
  %4 = const f32[] [1.0]
  %5 = add(%3, %4) : f32[2, 32] from "Add:/act/Add"
  %6 = mul(%0, %5) : f32[2, 32] from "Mul:/act/Mul"
  %7 = const f32[] [0.5]
  %8 = mul(%6, %7) : f32[2, 32] from "Mul:/act/Mul_1"
  %9 = const f32[2, 32] random(3)
  %10 = max(%8, %9) : f32[2, 32] from "Max:/clip"
  %11 = const f32[] [3.0]
  %12 = mul(%10, %11) : f32[2, 32] from "Mul:/scale"
}"#;

fn egret(dir: &Path, args: &[&str]) -> (Output, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_egret")).current_dir(dir).args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out, text)
}

/// A folder with the model and a rule file.
fn folder(rules: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("model.egret"), MODEL).unwrap();
    std::fs::write(dir.path().join("mine.rules"), rules).unwrap();
    dir
}

/// The laws and both tools blame `rule` at `node`; what is left reproduces, in at most 15 lines.
fn blamed(rules: &str, rule: &str, node: &str) {
    let dir = folder(rules);
    let run = |args: &[&str]| egret(dir.path(), args);
    let (out, text) = run(&["doctor", "--rules", "mine.rules"]);
    assert_eq!(out.status.code(), Some(3), "{text}");
    assert!(
        text.contains(&format!("rule `{rule}` (mine.rules:2): element "))
            && text.contains("graph @before("),
        "{text}"
    );
    let (out, text) = run(&["explain", "model.egret", "--verify", "--rules", "mine.rules"]);
    assert_eq!(out.status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("rule `{rule}`: on random tensors element")), "{text}");

    let (out, text) = run(&["bisect", "model.egret", "--rules", "mine.rules", "--output", "small.egret"]);
    assert_eq!(out.status.code(), Some(3), "{text}");
    assert!(
        text.starts_with(&format!("rule `{rule}` (mine.rules:2), pass `fuse`, application ")),
        "{text}"
    );
    assert!(
        text.contains(node)
            && text.contains(&format!("without it (--without {rule}) the outputs are right")),
        "{text}"
    );
    let small = std::fs::read_to_string(dir.path().join("small.egret")).unwrap();
    assert!(small.lines().count() <= 15, "{small}");
    let (out, text) = run(&["check", "small.egret", "--passes", "fuse", "--rules", "mine.rules"]);
    assert_eq!(out.status.code(), Some(3), "{text}\n{small}");
    let (out, text) =
        run(&["check", "small.egret", "--passes", "fuse", "--rules", "mine.rules", "--without", rule]);
    assert_eq!(out.status.code(), Some(0), "{text}\n{small}");
}

#[test]
fn a_wrong_rule_is_named() {
    blamed("pass fuse\nwrong: (gelu approximate=?a ?x) => ?x  exact", "wrong", "Mul:/act/Mul_1");
}

#[test]
fn a_broken_guard_is_named() {
    // It should ask for `value(?c) == 1.0`.
    blamed(
        "pass fuse\ntimes-one: (mul ?x ?c) => ?x if keeps(?x, ?c), constant(?c)  exact",
        "times-one",
        "Mul:/",
    );
    // Nothing says that the constant is below the value; it is large, so no rule may look into it.
    blamed(
        "pass fuse\nno-clip: (max ?x ?c) => ?x if keeps(?x, ?c), constant(?c)  exact",
        "no-clip",
        "Max:/clip",
    );
}

#[test]
fn a_bound_that_is_too_small_is_named() {
    blamed("pass fuse\nnear: (gelu approximate=?a ?x) => ?x  approx 1e-6", "near", "Mul:/act/Mul_1");
}

#[test]
fn errors_have_a_budget() {
    let dir = folder("pass fuse\nnear: (add ?x ?c) => ?x if is(?c, 1e-6), keeps(?x, ?c)  approx 1e-5");
    let model = r#"graph @g(%0 "x": f32[2, 32]) -> (%3 "y") {
  %1 = tanh(%0) : f32[2, 32] from "Tanh:/t"
  %2 = const f32[] [1e-6]
  %3 = add(%1, %2) : f32[2, 32] from "Add:/epsilon"
}"#;
    std::fs::write(dir.path().join("model.egret"), model).unwrap();
    let run = |args: &[&str]| {
        egret(dir.path(), &[&["explain", "model.egret", "--rules", "mine.rules"], args].concat())
    };
    let (out, text) = run(&["--verify"]);
    assert!(
        out.status.success()
            && text.contains("pass fuse: 1 proof steps hold, 1 of them run on random tensors; approximations of at most 1e-5")
    );
    assert!(run(&["--format", "trace", "--output", "near.trace"]).0.status.success());
    let (out, text) = run(&["--verify", "--trace", "near.trace", "--budget", "1e-6"]);
    assert!(out.status.code() == Some(3) && text.contains("pass `fuse`"), "{text}");
    let (_, text) = run(&["--missed", "--budget", "1e-6"]);
    assert!(
        text.contains("near x1  /epsilon") && text.contains("allow larger errors with --budget"),
        "{text}"
    );
    let (_, text) = run(&["--missed", "--budget", "1e-6", "-vv"]);
    assert!(
        text.contains(
            "missed near (fuse) at Add:/epsilon: budget: its error of up to 1e-5 is over the budget here"
        ),
        "{text}"
    );
    let (out, text) = run(&["--budget=-1"]);
    assert!(out.status.code() == Some(1) && text.contains("an error is 0 or more"), "{text}");
}

#[test]
fn a_corrupted_trace_is_found() {
    let dir = folder("");
    let run = |args: &[&str]| egret(dir.path(), args);
    assert!(
        run(&["explain", "model.egret", "--format", "trace", "--output", "good.trace"]).0.status.success()
    );
    let (out, text) = run(&["explain", "model.egret", "--verify", "--trace", "good.trace"]);
    assert!(out.status.success() && text.ends_with("verified\n"), "{text}");
    let good = std::fs::read(dir.path().join("good.trace")).unwrap();
    let verify = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len(), "protobuf lengths stay");
        let at: Vec<usize> = (0..good.len()).filter(|&i| good[i..].starts_with(from.as_bytes())).collect();
        assert!(!at.is_empty(), "{from}");
        let mut bad = good.clone();
        at.iter().for_each(|&i| bad[i..i + to.len()].copy_from_slice(to.as_bytes()));
        std::fs::write(dir.path().join("bad.trace"), bad).unwrap();
        let (out, text) = run(&["explain", "model.egret", "--verify", "--trace", "bad.trace"]);
        assert_eq!(out.status.code(), Some(3), "{text}");
        text
    };
    assert!(verify("gelu-half-last", "gelu-half-lost").contains("there is no such rule"));
    assert!(verify("gelu-half-last", "silu-of-sigmoi").contains("step 1, rule `silu-of-sigmoi`"));
    assert!(verify("approximate = \"none\"", "approximate = \"tanh\"").contains("pass `fuse`"));
    // Cut in the middle of an event it is no trace any more: a wrong file, of which nothing was verified.
    std::fs::write(dir.path().join("bad.trace"), &good[..good.len() / 2]).unwrap();
    let (out, text) = run(&["explain", "model.egret", "--verify", "--trace", "bad.trace"]);
    assert!(out.status.code() == Some(1) && text.contains("bad.trace: no Egret trace"), "{text}");
}

#[test]
fn nothing_is_blamed_where_nothing_differs() {
    let dir = folder("");
    let each = "nothing differs: the interpreter gives the same after each pass";
    for (engine, says) in [
        (&[][..], format!("{each}, and so does the engine jit\n")),
        (&["--engine", "interp"], format!("{each}\n")),
    ] {
        let (out, text) = egret(dir.path(), &[&["bisect", "model.egret"], engine].concat());
        assert_eq!((out.status.code(), text), (Some(0), says));
    }
    let (out, text) = egret(dir.path(), &["explain", "model.egret", "--without", "none-such"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text.contains("no rule is called `none-such`"), "{text}");
}

/// A step that its tier allows (0 for -0, a last digit), which what follows makes large: `bisect` names the rule without which it does not.
#[test]
fn a_small_difference_that_is_magnified_is_named() {
    let dir = folder(
        "pass fuse\nplus: (add ?x ?c) => ?x if value(?c) == 0.0, keeps(?x, ?c)  reassoc\n\
         last-digit: (mul (mul ?x ?c) ?d) => (mul ?x (mul ?c ?d)) if constant(?c), constant(?d), keeps(?x, ?c), keeps(?x, ?d)  reassoc",
    );
    let zero = r#"graph @g(%0 "x": f32[2]) -> (%5 "y") {
  %1 = const f32[2] [-0.0, 1.0]
  %2 = const f32[] [0.0]
  %3 = mul(%0, %1) : f32[2] from "Mul:/zero"
  %4 = add(%3, %2) : f32[2] from "Add:/plus"
  %5 = div(%1, %4) : f32[2] from "Div:/by"
}"#;
    let digit = r#"graph @g(%0 "x": f32[64]) -> (%7 "y") {
  %1 = const f32[] [0.1]
  %2 = const f32[] [0.3]
  %3 = mul(%0, %1) : f32[64] from "Mul:/a"
  %4 = mul(%3, %2) : f32[64] from "Mul:/b"
  %5 = const f32[] [1e10]
  %6 = mul(%4, %5) : f32[64] from "Mul:/c"
  %7 = sin(%6) : f32[64] from "Sin:/sin"
}"#;
    for (model, rule) in
        [(zero.replace("div(%1, %4)", "div(%0, %4)"), "plus"), (digit.to_owned(), "last-digit")]
    {
        std::fs::write(dir.path().join("small.egret"), model).unwrap();
        let (out, text) = egret(
            dir.path(),
            &["bisect", "small.egret", "--rules", "mine.rules", "--output", "reduced.egret"],
        );
        assert_eq!(out.status.code(), Some(3), "{text}");
        assert!(text.starts_with(&format!("rule `{rule}` (mine.rules:")), "{text}");
        assert!(text.contains("what follows magnifies it"), "{text}");
    }
}
