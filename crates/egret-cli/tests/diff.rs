//! `egret diff`: equal by proof, where models part, and inputs that tell them apart.

use std::process::Command;

/// Exit code and output for two graphs.
fn diff(a: &str, b: &str, more: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.egret"), a).unwrap();
    std::fs::write(dir.path().join("b.egret"), b).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_egret"))
        .current_dir(dir.path())
        .args(["diff", "a.egret", "b.egret"])
        .args(more)
        .output()
        .unwrap();
    (
        out.status.code(),
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
    )
}

const HALF: &str = r#"graph @g(%0 "x": f32[2, 3]) -> (%3 "y", %4 "z") {
  %1 = const f32[] [2.0]
  %2 = neg(%0) : f32[2, 3] from "Neg:/n"
  %3 = div(%2, %1) : f32[2, 3] from "Div:/d"
  %4 = exp(%2) : f32[2, 3] from "Exp:/e"
}"#;

#[test]
fn equal_models_are_proven_equal() {
    assert_eq!(
        diff(HALF, HALF, &[]),
        (Some(0), "y: equal, the same nodes\nz: equal, the same nodes\n".into())
    );
    // Another name for the graph, and a constant that has yet to be computed.
    let computed = HALF
        .replace("@g", "@h")
        .replace("%1 = const f32[] [2.0]", "%5 = const f32[] [1.0]\n  %1 = add(%5, %5) : f32[]");
    assert_eq!(diff(HALF, &computed, &[]).0, Some(0));
}

#[test]
fn what_rules_make_equal_is_proven() {
    let times = HALF.replace("[2.0]", "[0.5]").replace("div(%2, %1)", "mul(%2, %1)");
    let (code, text) = diff(HALF, &times, &[]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "y: equal, proven by the rules of the passes\nz: equal, the same nodes\n")
    );
    let (code, text) = diff(HALF, &times, &["--without", "halve"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("y: not proven equal") && text.contains("the same bits on 3 made-up inputs"),
        "{text}"
    );
}

#[test]
fn a_difference_is_shown_where_it_begins_and_on_inputs() {
    let (code, text) = diff(HALF, &HALF.replace("neg(%0)", "abs(%0)").replace("Neg:/n", "Abs:/b"), &[]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("A %1 = neg(%0) : f32[2, 3] from Neg:/n")
            && text.contains("B %1 = abs(%0) : f32[2, 3] from Abs:/b"),
        "{text}"
    );
    assert!(text.contains("they differ on made-up inputs (--random 1)"), "{text}");
    let (code, text) = diff(HALF, &HALF.replace("\"x\": f32[2, 3]", "\"w\": f32[2, 3]"), &[]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("different inputs: x: f32[2, 3] against w: f32[2, 3]"), "{text}");
}

/// The same nodes, but one of the models refuses runs that the other one takes.
#[test]
fn conditions_are_compared() {
    let graph = |conditions: &str| {
        format!(
            "graph @g(%0 \"x\": f32[N, M]) -> (%1 \"y\") {{\n{conditions}  %1 = neg(%0) : f32[N, M]\n}}\n"
        )
    };
    let (one, two, other) = ("  require N - 1\n", "  require N - 2\n", "  require M - N\n");
    let said = |a: &str, b: &str| diff(&graph(a), &graph(b), &[]);
    let equal = "y: equal, the same nodes\n";
    let needs =
        |which: &str, dim: &str| format!("conditions: {which} alone needs `{dim}` to be at least 0\n");
    assert_eq!(said(one, ""), (Some(3), needs("A", "N - 1") + equal));
    assert_eq!(said("", one), (Some(3), needs("B", "N - 1") + equal));
    assert_eq!(said(one, two), (Some(3), needs("B", "N - 2") + equal));
    let parts = needs("A", "N - 1") + &needs("B", "M - N") + equal;
    assert_eq!(said(one, other), (Some(3), parts));
    // In another order, and with one that another one tells.
    assert_eq!(said(&[two, other].concat(), &[other, one, two].concat()), (Some(0), equal.into()));
    assert_eq!(diff(&graph(one), &graph(""), &["--dim", "N=3"]), (Some(0), equal.into()));
}
