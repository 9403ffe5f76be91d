//! What messages advise works when it is pasted; what was made up is said, and what it says nothing about.

mod kit;

use kit::{Dim, egret, model, onnx, path, refused, temp, text, works};
use std::process::Command;

/// The options that the command's error advises behind `after`, with 4 for each N, pasted into a shell behind the command.
fn pasted(args: &[&str], after: &str) {
    let out = egret(args);
    let said = text(&out.stderr);
    let (_, advice) = said.split_once(after).unwrap_or_else(|| panic!("{args:?}: {said}"));
    let advice = advice.lines().next().unwrap().replace("=N", "=4");
    let line = format!("\"$0\" \"$@\" {advice}");
    let shell =
        Command::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_egret")]).args(args).output().unwrap();
    assert!(shell.status.success(), "{args:?} {advice}: {}", text(&shell.stderr));
}

#[test]
fn options_for_dims_can_be_pasted() {
    let dir = temp();
    let (out, file) = (path(&dir, "out"), path(&dir, "model.onnx"));
    for name in ["n", "batch size", "past + 1", "a=b", "it's", "$n", "?", "-n", "*"] {
        // Normal numbers along a free dim.
        let dims = [Dim::Is(1), Dim::Is(2), Dim::Free(name)];
        std::fs::write(&file, onnx("RandomNormalLike", &[], 1, ("x", &dims), ("y", &dims))).unwrap();
        pasted(&["compile", &file, "--out-dir", &out], "those of the nodes below: ");
    }
    // What has no name that says anything is called by its place.
    refused(&["compile", &file, "--out-dir", &out], 2, &["--dim x_d2=N"]);
}

/// As many rounds as an input says are a dim that nothing else bounds.
#[test]
fn there_is_room_for_what_a_loop_decides() {
    let dir = temp();
    let ir = path(&dir, "model.egret");
    let body = r#"graph @g(%0 "k": i64[]) -> (%1 "y") {
  %1 = loop(%0, _) {carried = 0, dims = [rounds], has_cond = 0, has_trip_count = 1} : i64[rounds]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {}
}"#;
    std::fs::write(&ir, body).unwrap();
    let run = |most: &str| egret(&["run", &ir, "--input", "k=3", "--at-most", most]);
    assert!(text(&run("rounds=3").stdout).contains("y: i64[3] = 0 1 2"));
    let said = text(&run("rounds=2").stderr);
    assert!(said.contains("data gives a dim of 3 or more, and there is room for 2"), "{said}");
    // What is made of dims that the inputs tell.
    let of_n = path(&dir, "of_n.egret");
    std::fs::write(&of_n, body.replace(r#""k": i64[])"#, r#""k": i64[], %2 "x": f32[n])"#)).unwrap();
    let run =
        |most: &str| egret(&["run", &of_n, "--input", "k=3", "--input", "x=[1,2]", "--at-most", most]);
    assert!(text(&run("rounds=2*n").stdout).contains("y: i64[3] = 0 1 2"));
    assert!(text(&run("rounds=n").stderr).contains("there is room for 2, as --at-most"));
    refused(&["run", &ir, "--input", "k=3", "--at-most", "n=2"], 1, &["no dim `n`", "those are `rounds`"]);
    // No run can have so many, but one of no round has what is at most 0.
    let out = path(&dir, "out");
    let huge = "rounds=4611686018427387904";
    refused(
        &["compile", &ir, "--out-dir", &out, "--at-most", huge],
        1,
        &["`rounds` at most", "really needs"],
    );
    refused(&["run", &ir, "--input", "k=0", "--at-most", huge], 1, &["`rounds` at most"]);
    // Memory holds fewer than can be counted: one of them has 8 bytes, one of `wide` 4 MiB.
    let wide = path(&dir, "wide.egret");
    let rows = body.replace(r#""k": i64[])"#, r#""k": i64[], %2 "x": f32[1048576])"#);
    let rows = rows.replace("(%0, _)", "(%0, _, %2)").replace("i64[rounds]", "f32[rounds, 1048576]");
    let rows = rows
        .replace(r#""go": bool[]) -> (%1, %0)"#, r#""go": bool[], %2 "row": f32[1048576]) -> (%1, %2)"#);
    std::fs::write(&wide, rows).unwrap();
    // What this process cannot have is compiled for another; 128 TiB and 32 EiB nobody has.
    for (file, most, code) in [
        (&wide, "rounds=10000000", 5),
        (&ir, "rounds=17592186044416", 1),
        (&wide, "rounds=8796093022208", 1),
    ] {
        let run = ["--input", "k=3", "--random", "1", "--at-most", most];
        let named = [&format!("with --at-most {most} a run"), "really needs"];
        refused(&[&["run", file][..], &run].concat(), code, &named);
        refused(&[&["run", "--engine", "aot", file][..], &run].concat(), code, &named);
        assert!(works(&[&["run", "--engine", "interp", file][..], &run].concat()).contains("y: "));
        let compile = ["compile", file, "--out-dir", &out, "--at-most", most];
        if code == 5 {
            works(&compile);
        } else {
            refused(&compile, code, &named);
        }
    }
    assert!(works(&["run", &ir, "--input", "k=0", "--at-most", "rounds=0"]).contains("y: i64[0]"));
    refused(&["run", &ir, "--input", "k=3", "--at-most", "rounds=2*"], 1, &["is no size"]);
    refused(&["run", &ir, "--input", "k=3", "--at-most", "rounds=7//2"], 1, &["write floordiv(a, b)"]);
}

/// As many rows as an input counts.
const ROWS: &str = r#"graph @g(%0 "n": i64[], %1 "x": f32[k]) -> (%3 "all") {
  %2, %3 = loop(%0, _, %1) {carried = 1, dims = [_, u0], has_cond = 0, has_trip_count = 1} : f32[k], f32[u0, k]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[r]) -> (%1, %3, %2) {
      %3 = add(%2, %2) : f32[r]
    }
}"#;

#[test]
fn no_dim_is_asked_for_where_none_helps() {
    let dir = temp();
    let (ir, file, out) = (path(&dir, "model.egret"), path(&dir, "model.onnx"), path(&dir, "out"));
    std::fs::write(&ir, ROWS).unwrap();
    works(&["print", &ir, "--format", "onnx", "-o", &file]);
    for dims in [&[][..], &["--dim", "k=3"]] {
        let args = [&["compile", &file, "--out-dir", &out], dims].concat();
        refused(&args, 2, &["`u0` is known only while the model runs", "`egret run`"]);
        assert!(!text(&egret(&args).stderr).contains("--dim"));
        pasted(&args, "say how large it may be, ");
    }
    // What is advised works.
    assert!(
        works(&["run", &file, "--input", "n=2", "--input", "x=[1,2]"]).contains("all: f32[2, 2] = 1 2 2 4")
    );
}

/// A loop that stacks what a loop stacks. What the inner one decides has no option, and limits of the outer one do not help.
#[test]
fn a_stack_of_stacks_is_refused_by_name() {
    let body = r#"graph @g(%0 "n": i64[], %1 "m": i64[], %2 "x": f32[s]) -> (%3 "y") {
  %3 = loop(%0, _, %1, %2) {carried = 0, dims = [rows, inner], has_cond = 0, has_trip_count = 1} : f32[rows, inner, s] from "Loop:/outer"
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "m": i64[], %3 "x": f32[s]) -> (%1, %4) {
      %4 = loop(%2, _, %3) {carried = 0, dims = [u0], has_cond = 0, has_trip_count = 1} : f32[u0, s] from "Loop:/inner"
        body graph @round(%0 "j": i64[], %1 "go": bool[], %2 "x": f32[s]) -> (%1, %3) {
          %3 = add(%2, %2) : f32[s]
        }
    }
}"#;
    let dir = temp();
    let (ir, out) = (path(&dir, "model.egret"), path(&dir, "out"));
    std::fs::write(&ir, body).unwrap();
    let compile = ["compile", &ir, "--out-dir", &out];
    for limits in [&[][..], &["--at-most", "rows=9"], &["--at-most", "rows=9", "--at-most", "u0=9"]] {
        let args = [&compile[..], limits].concat();
        refused(&args, 2, &["`inner`", "within the rounds of Loop:/outer", "cannot be compiled yet"]);
        assert!(!text(&egret(&args).stderr).contains("--at-most"), "no option is advised");
    }
    let said = works(&["run", &ir, "--input", "n=2", "--input", "m=1", "--input", "x=[1,2]"]);
    assert!(said.contains("y: f32[2, 1, 2] = 2 4 2 4"), "{said}");
}

/// Strings beside numbers of free dims: no size of theirs lets them be compiled.
#[test]
fn no_dim_is_asked_for_where_strings_are_in_the_way() {
    let dir = temp();
    let (ir, out) = (path(&dir, "model.egret"), path(&dir, "out"));
    for (words, op) in [
        ("string[n]", "string_concat(%1, %1) : string[n]"),
        ("string[n, 2]", "slice(%1) {starts = [0, 0], sizes = [n, 1], steps = [1, 1]} : string[n, 1]"),
    ] {
        let body = format!(
            "graph @g(%0 \"x\": f32[n, 4], %1 \"s\": {words}, %5 \"v\": f32[k]) -> (%3 \"y\", %4 \"t\", %6 \"z\") {{\n  \
             %2 = neg(%0) : f32[n, 4]\n  %3 = cumulative(%2) {{axis = 0, exclusive = 0, kind = \"sum\", reverse = 0}} : f32[n, 4]\n  \
             %4 = {op}\n  %6 = softmax(%5) {{axis = 0}} : f32[k]\n}}\n"
        );
        std::fs::write(&ir, body).unwrap();
        let args = ["compile", &ir, "--out-dir", &out];
        refused(&args, 2, &["input `s`", "strings", "cannot be compiled"]);
        let said = text(&egret(&args).stderr);
        assert!(!said.contains("--dim") && !said.contains("free dims"), "{said}");
    }
}

#[test]
fn that_no_pass_was_run_is_said() {
    let said = |passes: &str| text(&egret(&["opt", &model("simple_cnn"), "--passes", passes]).stderr);
    assert_eq!(said(""), "no pass was run\n");
    assert!(said("fold").contains("fold"), "{}", said("fold"));
}

#[test]
fn text_ir_has_dims_as_onnx_models_have() {
    let dir = temp();
    let ir = path(&dir, "model.egret");
    let body =
        "graph @g(%0 \"x\": f32[n, 2]) -> (%2 \"y\") { %1 = reshape(%0) {shape = [2*n]} %2 = neg(%1) }";
    std::fs::write(&ir, body).unwrap();
    assert!(works(&["run", &ir, "--random", "1", "--dim", "n=3"]).contains("y: f32[6]"));
    assert!(works(&["run", &ir, "--input", "x=[[1,2],[3,4]]"]).contains("y: f32[4] = -1 -2 -3 -4"));
    refused(&["run", &ir, "--random", "1", "--dim", "k=3"], 1, &["no free dim `k`; its free dims are n"]);
    refused(
        &["run", &ir, "--input", "x=[[1,2],[3,4]]", "--dim", "n=3"],
        1,
        &["axis 0 is 2, but the dim `n` was given as 3"],
    );
    let said = text(&egret(&["check", &ir]).stderr);
    assert!(said.contains("free dims were set to 1: n; give them with --dim n=N, or by --input"), "{said}");
}

#[test]
fn nobody_is_blamed_for_a_graph_that_the_user_wrote() {
    let dir = temp();
    let ir = path(&dir, "model.egret");
    std::fs::write(&ir, "graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") {\n  %1 = neg(%0) : f32[3]\n}").unwrap();
    refused(&["run", &ir, "--random", "1"], 1, &["model.egret: %1 = neg(%0)", "inference finds f32[2]"]);
    let said = text(&egret(&["run", &ir, "--random", "1"]).stderr);
    assert!(!said.contains("fault") && !said.contains("bug"), "{said}");
}

/// The variance of numbers that are almost alike, as a difference of means: rounding decides it.
const VARIANCE: &str = r#"graph @g(%0 "x": f32[3000]) -> (%9 "y") {
  %1 = const f32[] [0.00033333333]
  %2 = const f32[] [1000.3]
  %3 = mul(%0, %1)
  %4 = add(%3, %2)
  %5 = reduce(%4) {axes = [0], keepdims = 0, kind = "sum"}
  %6 = mul(%5, %1)
  %7 = mul(%4, %4)
  %8 = reduce(%7) {axes = [0], keepdims = 0, kind = "sum"}
  %10 = mul(%8, %1)
  %11 = mul(%6, %6)
  %9 = sub(%10, %11)
}"#;

#[test]
fn made_up_inputs_condemn_no_unstable_model() {
    let dir = temp();
    let (ir, x) = (path(&dir, "model.egret"), path(&dir, "x.npy"));
    std::fs::write(&ir, VARIANCE).unwrap();
    let said = works(&["check", &ir]);
    assert!(
        said.contains("ok   y: unstable at these made-up inputs") && said.contains("--inputs"),
        "{said}"
    );
    // Of inputs that the user gave a difference counts.
    let values = (0..3000).map(|i| (i * 37 % 101) as f32 * 0.01).collect();
    std::fs::write(&x, egret::npz::npy_bytes(&egret::ir::Tensor::new(&[3000], values))).unwrap();
    let out = egret(&["check", &ir, "--input", &format!("x={x}")]);
    let said = text(&out.stdout);
    assert!(
        out.status.code() == Some(3) && said.contains("DIFF y") && said.contains("unstable at"),
        "{said}"
    );
}
