//! If, Loop and Scan along free dims: compiled once and run at many sizes, every buffer at an unmapped page, they give what the interpreter
//! gives; sizes and counts that a model does not have end with an error code.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value, interp};
use egret::{Engine, Executable, Options, pipeline};
use egret_runtime::abi::Code;
use egret_workspace::free::{Given, compiled, gives, holds_at, input, parse, sizes};
use std::collections::BTreeMap;

/// Values of N and M.
const SIZES: [(i64, i64); 8] = [(3, 2), (1, 1), (0, 2), (2, 0), (0, 0), (5, 17), (33, 9), (1, 40)];

fn holds(source: &str, given: &[Given<'_>]) {
    holds_at(source, given, &SIZES);
}

fn bool(v: bool) -> Value {
    Tensor::from_bools(&[], &[v]).into()
}

fn int(v: i64) -> Value {
    Tensor::scalar(v).into()
}

/// A branch whose result is what it captures, one that computes; a product with a matrix that is captured; what is the same in every unit.
#[test]
fn branches() {
    holds(
        r#"graph @g(%0 "c": bool[], %1 "x": f32[N, 40], %2 "y": f32[M, N, 6]) -> (%4 "y", %5 "z", %6 "w") {
  %3 = const f32[40, 8] random(3)
  %4, %5, %6 = if(%0, %1, %3, %2) : f32[N, 40], f32[N, 8], f32[M, N, 6]
    then graph @a(%0: f32[a, 40], %1: f32[40, 8], %2: f32[b, a, 6]) -> (%0, %3, %4) {
      %3 = matmul(%0, %1) : f32[a, 8]
      %4 = neg(%2) : f32[b, a, 6]
    }
    else graph @b(%0: f32[a, 40], %1: f32[40, 8], %2: f32[b, a, 6]) -> (%3, %6, %8) {
      %3 = mul(%0, %0) : f32[a, 40]
      %4 = slice(%3) {sizes = [a, 8], starts = [0, 16], steps = [1, 1]} : f32[a, 8]
      %5 = softmax(%4) {axis = 0} : f32[a, 8]
      %6 = tanh(%5) : f32[a, 8]
      %7 = const f32[] [2.5]
      %8 = broadcast(%7) {shape = [b, a, 6]} : f32[b, a, 6]
    }
}"#,
        &[&[bool(true)], &[bool(false)]],
    );
}

/// A branch that leaves an axis out, as importing a `torch.squeeze` of a free size writes it: runs are held to one element, in that branch alone.
/// What it reads is padded by its own elements.
#[test]
fn branches_hold_sizes_of_their_own() {
    holds_at(
        r#"graph @g(%0 "c": bool[], %1 "x": f32[N, M]) -> (%2 "y") {
  %2 = if(%0, %1) : f32[N, 3]
    then graph @a(%0: f32[a, b]) -> (%4) {
      %1 = slice(%0) {sizes = [a, 1], starts = [0, 2*b - 2], steps = [1, 1]} : f32[a, 1]
      %2 = reshape(%1) {shape = [a]} : f32[a]
      %3 = reshape(%2) {shape = [a, 1]} : f32[a, 1]
      %4 = pad(%3, _) {high = [0, 2], low = [0, 0], mode = "reflect"} : f32[a, 3]
    }
    else graph @b(%0: f32[a, b]) -> (%2) {
      %1 = pad(%0, _) {high = [0, 5], low = [0, 2], mode = "wrap"} : f32[a, b + 7]
      %2 = slice(%1) {sizes = [a, 3], starts = [0, b + 2], steps = [1, 1]} : f32[a, 3]
    }
}"#,
        &[&[bool(true)], &[bool(false)]],
        &[(3, 1), (1, 1), (0, 1), (2, 0), (5, 17), (33, 2), (1, 3)],
    );
}

/// What is kept once for all units, and a part of another value, are copied for the branches: before them, so that both and what is behind
/// them read the copy.
#[test]
fn branches_share_copies() {
    holds(
        r#"graph @g(%0 "c": bool[], %1 "x": f32[N, 8]) -> (%5 "y", %6 "z", %7 "w") {
  %2 = const f32[4] random(1)
  %3 = broadcast(%2) {shape = [N, 4]} : f32[N, 4]
  %4 = slice(%1) {sizes = [N, 4], starts = [0, 4], steps = [1, 1]} : f32[N, 4]
  %5 = if(%0, %3, %4) : f32[N, 4]
    then graph @a(%0: f32[a, 4], %1: f32[a, 4]) -> (%2) {
      %2 = softmax(%0) {axis = 0} : f32[a, 4]
    }
    else graph @b(%0: f32[a, 4], %1: f32[a, 4]) -> (%2) {
      %2 = sub(%1, %0) : f32[a, 4]
    }
  %6 = softmax(%3) {axis = 0} : f32[N, 4]
  %7 = softmax(%4) {axis = 0} : f32[N, 4]
}"#,
        &[&[bool(true)], &[bool(false)]],
    );
}

/// Sizes that only one branch has are refused where it is taken.
#[test]
fn a_branch_that_is_not_taken_refuses_no_sizes() {
    let source = r#"graph @g(%0 "c": bool[], %1 "x": f32[N, 4], %2 "y": f32[M, 4]) -> (%3 "z") {
  %3 = if(%0, %1, %2) : f32[N, 4]
    then graph @a(%0: f32[a, 4], %1: f32[b, 4]) -> (%3) {
      %2 = slice(%1) {sizes = [b - 9, 4], starts = [9, 0], steps = [1, 1]} : f32[b - 9, 4]
      %3 = reshape(%2) {shape = [a, 4]} : f32[a, 4]
    }
    else graph @b(%0: f32[a, 4], %1: f32[b, 4]) -> (%2) {
      %2 = neg(%0) : f32[a, 4]
    }
}"#;
    let graph = parse(source);
    for compiled in compiled(&graph) {
        let mut rng = Rng::new(3);
        for (n, m) in [(3, 12), (3, 11), (1, 10), (0, 9), (0, 4), (2, 1), (5, 0)] {
            for taken in [true, false] {
                let mut inputs = vec![bool(taken)];
                let mut draw = || (rng.bits() % 17) as f64 / 4.0;
                inputs.extend((1..3).map(|i| input(&graph, i, &sizes(n, m), &mut draw)));
                if !taken || n + 9 == m {
                    let want = interp::run(&graph, &inputs).expect("the interpreter");
                    gives(&compiled, &inputs, &want, &format!("{n}, {m}, {taken}"));
                } else {
                    let outcome = compiled.run_both(&inputs).expect("no difference");
                    let code = Code::split(outcome.0).map(|(code, ..)| code);
                    assert_eq!(code, Some(Code::Sizes), "{n}, {m}");
                    compiled.law(&inputs, &outcome).unwrap_or_else(|e| panic!("{n}, {m}: {e}"));
                }
            }
        }
    }
}

/// Sizes that a sub-graph does not have are told in words: the node within it, and what it needs.
#[test]
fn what_a_sub_graph_needs_is_named() {
    let source = r#"graph @g(%0 "c": bool[], %1 "x": f32[N, 4], %2 "y": f32[M, 4]) -> (%3 "z") {
  %3 = if(%0, %1, %2) : f32[N, 4] from "If:/choice"
    then graph @a(%0: f32[a, 4], %1: f32[b, 4]) -> (%4) {
      %2 = slice(%1) {sizes = [b - 9, 4], starts = [9, 0], steps = [1, 1]} : f32[b - 9, 4] from "Slice:/tail"
      %3 = add(%2, %0) : f32[broadcast(b - 9, a), 4] from "Add:/sum"
      %4 = reshape(%3) {shape = [a, 4]} : f32[a, 4] from "Reshape:/like"
    }
    else graph @b(%0: f32[a, 4], %1: f32[b, 4]) -> (%4) {
      %3 = const i64[] [1]
      %2 = loop(%3, _, %0, %1) {carried = 1, has_cond = 0, has_trip_count = 1} : f32[a, 4]
        body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[a, 4], %3: f32[b, 4]) -> (%1, %5) {
          %4 = mul(%2, %3) : f32[broadcast(a, b), 4] from "Mul:/weigh"
          %5 = reshape(%4) {shape = [a, 4]} : f32[a, 4] from "Reshape:/like"
        }
      %4 = neg(%2) : f32[a, 4]
    }
}"#;
    let graph = parse(source);
    let engine = Executable::new(graph.clone(), Engine::Jit, &Options::default(), &BTreeMap::new());
    let engine = engine.expect("an executable");
    for (taken, (n, m), want) in [
        (true, (3, 8), "node `Slice:/tail` needs `M` (8) to be at least 9"),
        (true, (3, 11), "node `Add:/sum` needs"),
        (true, (1, 11), "node `Reshape:/like` needs"),
        (false, (3, 2), "node `Mul:/weigh` needs"),
    ] {
        let mut inputs = vec![bool(taken)];
        inputs.extend((1..3).map(|i| input(&graph, i, &sizes(n, m), &mut || 1.0)));
        let message = engine.run(&inputs).expect_err("no value").to_string();
        assert!(message.contains(want), "{n}, {m}: {message}");
    }
    for (taken, (n, m)) in [(true, (3, 12)), (true, (3, 10)), (false, (3, 3))] {
        let mut inputs = vec![bool(taken)];
        inputs.extend((1..3).map(|i| input(&graph, i, &sizes(n, m), &mut || 1.0)));
        engine.run(&inputs).unwrap_or_else(|e| panic!("{n}, {m}: {e}"));
    }
}

/// A value becomes what another one was; a product, and a row of what is captured, in every round; the rounds are counted by a dim, or by data.
#[test]
fn loops_carry_values() {
    let body = |trips: &str, more: &str| {
        format!(
            r#"graph @g(%0 "x": f32[N, M, 6], %1 "h": f32[M, 6], %2 "n": i64[]) -> (%6 "a", %7 "b") {{
  %3 = const f32[6, 6] random(2)
  {more}
  %6, %7 = loop({trips}, _, %1, %1, %0, %3) {{carried = 2, has_cond = 0, has_trip_count = 1}} : f32[M, 6], f32[M, 6]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[k, 6], %3: f32[k, 6], %4: f32[l, k, 6], %5: f32[6, 6]) -> (%1, %3, %9) {{
      %6 = gather(%4, %0) {{axis = 0}} : f32[k, 6]
      %7 = matmul(%2, %5) : f32[k, 6]
      %8 = add(%6, %7) : f32[k, 6]
      %9 = tanh(%8) : f32[k, 6]
    }}
}}"#
        )
    };
    let by_dim = body(
        "%5",
        "%4 = shape(%0) : i64[3]\n  %8 = slice(%4) {sizes = [1], starts = [0], steps = [1]} : i64[1]\n  %5 = reshape(%8) {shape = []} : i64[]",
    );
    holds(&by_dim, &[&[int(0)]]);
    // Rounds beyond the last row are an index out of range.
    holds(&body("%2", ""), &[&[int(0)], &[int(1)], &[int(2)], &[int(40)], &[int(-3)]]);
}

/// What rounds stack, as many as a dim says or fewer, and what is behind it: its last row, a product of all rows.
#[test]
fn loops_stack_values() {
    for (dims, used) in [
        ("5, M, 6", "%12 = neg(%11) : f32[5, M, 6]"),
        ("u0, M, 6", "%12 = matmul(%11, %4) : f32[u0, M, 6]"),
        (
            "u0, M, 6",
            "%12 = slice(%11) {sizes = [1, M, 6], starts = [u0 - 1, 0, 0], steps = [1, 1, 1]} : f32[1, M, 6]",
        ),
    ] {
        // Of a row before the first one compiled code says that there is none; the interpreter lets it pass if the rows are empty.
        let empty_row = |&(n, m): &(i64, i64)| used.contains("u0 - 1") && (n, m) == (0, 0);
        let all: Vec<(i64, i64)> = SIZES.into_iter().filter(|s| !empty_row(s)).collect();
        holds_at(
            &format!(
                r#"graph @g(%0 "x": f32[N, M, 6], %1 "h": f32[M, 6], %2 "limit": i64[]) -> (%10 "a", %12 "b") {{
  %3 = const bool[] [true]
  %4 = const f32[6, 6] random(2)
  %5 = shape(%0) : i64[3]
  %6 = slice(%5) {{sizes = [1], starts = [0], steps = [1]}} : i64[1]
  %7 = reshape(%6) {{shape = []}} : i64[]
  %10, %11 = loop(%7, %3, %1, %0, %4, %2) {{carried = 1, dims = [_, _, u0], has_cond = 1, has_trip_count = 1}} : f32[M, 6], f32[{dims}]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[k, 6], %3: f32[l, k, 6], %4: f32[6, 6], %5: i64[]) -> (%12, %9, %8) {{
      %6 = gather(%3, %0) {{axis = 0}} : f32[k, 6]
      %7 = matmul(%2, %4) : f32[k, 6]
      %8 = add(%6, %7) : f32[k, 6]
      %9 = tanh(%8) : f32[k, 6]
      %10 = const i64[] [1]
      %11 = add(%0, %10) : i64[]
      %12 = less(%11, %5) : bool[]
    }}
  {used}
}}"#
            ),
            &[&[int(100)], &[int(2)], &[int(1)]],
            &all,
        );
    }
}

/// The rounds are counted by the dim of what a loop carries, or by what is made of it: nothing in its body says how many there are.
#[test]
fn loops_stack_as_often_as_their_state_is_long() {
    for (op, by) in [("mul", 1), ("mul", 3), ("sub", 1), ("sub", 2), ("max", 2), ("div", 2)] {
        for outputs in [r#"%9 "sums", %10 "all""#, r#"%10 "all""#] {
            holds(
                &format!(
                    r#"graph @g(%0 "x": f32[N]) -> ({outputs}) {{
  %1 = const bool[] [true]
  %2 = shape(%0) : i64[1]
  %3 = const i64[] [0]
  %4 = gather(%2, %3) {{axis = 0}} : i64[]
  %5 = const i64[] [{by}]
  %6 = {op}(%4, %5) : i64[]
  %9, %10 = loop(%6, %1, %0) {{carried = 1, dims = [_, u0], has_cond = 1, has_trip_count = 1}} : f32[N], f32[u0, N]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[k]) -> (%1, %4, %4) {{
      %3 = const f32[] [0.5]
      %4 = add(%2, %3) : f32[k]
    }}
}}"#
                ),
                &[&[]],
            );
        }
    }
}

/// A running sum from the end, whose rounds are counted by a free dim; its partial sums stand along another axis.
#[test]
fn scans_read_and_write_along_axes() {
    holds(
        r#"graph @g(%0 "s": f32[M, 9], %1 "x": f32[M, N, 9], %2 "c": f32[9]) -> (%3 "last", %4 "all", %5 "back") {
  %3, %4, %5 = scan(%0, %1, %2) {carried = 1, input_axes = [1], input_reverse = [1], output_axes = [2, 0], output_reverse = [0, 1], scans = 1} : f32[M, 9], f32[M, 9, N], f32[N, M, 9]
    body graph @body(%0: f32[a, 9], %1: f32[a, 9], %2: f32[9]) -> (%3, %3, %4) {
      %3 = add(%0, %1) : f32[a, 9]
      %4 = mul(%3, %2) : f32[a, 9]
    }
}"#
        // Along the last axis a round's elements are not neighbours: the axis of a result is the one before.
        .replace("[2, 0]", "[1, 0]")
        .replace("f32[M, 9, N]", "f32[M, N, 9]")
        .as_str(),
        &[&[Tensor::new(&[9], (0..9).map(|i| i as f32 * 0.5 - 2.0).collect::<Vec<_>>()).into()]],
    );
}

/// A branch in a loop in a branch, which knows dims of the graphs around it.
#[test]
fn sub_graphs_nest() {
    holds(
        r#"graph @g(%0 "c": bool[], %1 "x": f32[N, 7], %2 "n": i64[]) -> (%3 "y") {
  %3 = if(%0, %1, %2) : f32[N, 7]
    then graph @then(%0: f32[N, 7], %1: i64[]) -> (%3) {
      %2 = abs(%0) : f32[N, 7]
      %3 = loop(%1, _, %0, %2) {carried = 1, has_cond = 0, has_trip_count = 1} : f32[N, 7]
        body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[k, 7], %3: f32[k, 7]) -> (%1, %8) {
          %4 = const i64[] [2]
          %5 = mod(%0, %4) {fmod = 0}
          %6 = const i64[] [0]
          %7 = equal(%5, %6)
          %8 = if(%7, %2, %3) : f32[k, 7]
            then graph @even(%0: f32[N, 7], %1: f32[N, 7]) -> (%2) {
              %2 = sub(%0, %1) : f32[N, 7]
            }
            else graph @odd(%0: f32[N, 7], %1: f32[N, 7]) -> (%2) {
              %2 = mul(%0, %1) : f32[N, 7]
            }
        }
    }
    else graph @else(%0: f32[m, 7], %1: i64[]) -> (%0) {}
}"#,
        &[&[bool(true), int(0)], &[bool(true), int(3)], &[bool(false), int(2)]],
    );
}

/// Huge sizes end with an error code, whether the branch that has them is taken or not.
#[test]
fn huge_sizes_end_with_a_code() {
    let source = r#"graph @g(%0 "c": bool[], %1 "x": f32[N, M, 4]) -> (%2 "z") {
  %2 = if(%0, %1) : f32[N, M, 4]
    then graph @a(%0: f32[a, b, 4]) -> (%1) {
      %1 = cumulative(%0) {axis = 0, exclusive = 0, kind = "sum", reverse = 0} : f32[a, b, 4]
    }
    else graph @b(%0: f32[a, b, 4]) -> (%0) {}
}"#;
    let graph = parse(source);
    for compiled in compiled(&graph) {
        for (n, m) in [(i64::MAX, 1), (i64::MAX / 4, 8), (1 << 31, 1 << 31), (3, 1 << 62)] {
            let code = compiled.plan_code_of(&[vec![], vec![n, m, 4]]);
            assert_eq!(Code::split(code).map(|(code, ..)| code), Some(Code::Sizes), "{n}, {m}");
        }
    }
}

/// Rounds that only data count have no bound, and so what they stack has no room: the loop is named.
#[test]
fn stacks_without_a_bound_are_refused() {
    let source = r#"graph @g(%0 "n": i64[], %1 "x": f32[N, 3]) -> (%2 "y", %3 "all") {
  %2, %3 = loop(%0, _, %1) {carried = 1, dims = [_, _, u0], has_cond = 0, has_trip_count = 1} : f32[N, 3], f32[u0, N, 3]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[k, 3]) -> (%1, %3, %2) {
      %3 = add(%2, %2) : f32[k, 3]
    }
}"#;
    let refused = pipeline::lower(parse(source), &Options::default(), &BTreeMap::new());
    let message = refused.err().expect("no bound").to_string();
    assert!(message.contains("n0 (loop)") && message.contains("--at-most u0=N"), "{message}");
    // Under the JIT engine the interpreter runs it.
    let beside = Executable::new(parse(source), Engine::Jit, &Options::default(), &BTreeMap::new());
    let x = Tensor::new(&[2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let results = beside.and_then(|e| e.run(&[Tensor::scalar(2i64).into(), x.into()])).expect("a run");
    let all = results[1].as_tensor().expect("a tensor");
    assert_eq!(all.shape(), [2, 2, 3]);
    assert_eq!(all.to_f64s().expect("numbers")[6..9], [2.0, 4.0, 6.0]);
}
