//! Dims that data decides within If, Loop and Scan: found in every round anew, or in the branch that is taken, and known behind there.
#![cfg(unix)]

use egret::ir::{Tensor, Value, interp};
use egret::{Options, pipeline};
use egret_workspace::free::parse;
use egret_workspace::guarded::Compiled;
use egret_workspace::lengths::holds;
use std::collections::BTreeMap;

/// Each branch finds a number of its own; both are called as that of the graph around them.
#[test]
fn branches_find_what_they_need() {
    holds(
        r#"graph @g(%0 "x": f32[N, 3], %1 "go": bool[]) -> (%5 "sum", %2 "places") {
  %2 = nonzero(%0) : i64[2, u0]
  %5 = if(%1, %0, %2) : f32[3]
    then graph @then(%0 "x": f32[N, 3], %1 "places": i64[2, u0]) -> (%5) {
      %2 = nonzero(%0) : i64[2, u1]
      %3 = transpose(%2) {perm = [1, 0]} : i64[u1, 2]
      %4 = gather_nd(%0, %3) {batch_dims = 0} : f32[u1]
      %6 = tanh(%4) : f32[u1]
      %7 = reduce(%6) {axes = [0], keepdims = 1, kind = "sum"} : f32[1]
      %5 = broadcast(%7) {shape = [3]} : f32[3]
    }
    else graph @else(%0 "x": f32[N, 3], %1 "places": i64[2, k]) -> (%5) {
      %2 = const f32[] [0.25]
      %3 = reduce(%0) {axes = [1], keepdims = 0, kind = "max"} : f32[N]
      %4 = less(%2, %3) : bool[N]
      %6 = compress(%0, %4) {axis = 0} : f32[u0, 3]
      %5 = reduce(%6) {axes = [0], keepdims = 0, kind = "sum"} : f32[3]
    }
}"#,
    );
}

/// What a round finds is more or less than what the round before it has found, and a second number is found in what is left.
#[test]
fn rounds_find_numbers_of_their_own() {
    holds(
        r#"graph @g(%0 "x": f32[N, 7], %1 "w": f32[7]) -> (%2 "last", %3 "sums") {
  %2, %3 = scan(%1, %0) {carried = 1, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1} : f32[7], f32[N]
    body graph @body(%0 "s": f32[7], %1 "row": f32[7]) -> (%12, %10) {
      %2 = const f32[] [0.25]
      %3 = less(%2, %1) : bool[7]
      %4 = compress(%1, %3) {axis = 0} : f32[u0]
      %5 = compress(%0, %3) {axis = 0} : f32[u1]
      %6 = reshape(%5) {shape = [u1, 1]} : f32[u1, 1]
      %7 = mul(%6, %4) : f32[u1, u0]
      %8 = reduce(%7) {axes = [0, 1], keepdims = 0, kind = "sum"} : f32[]
      %9 = nonzero(%4) : i64[1, u2]
      %13 = cast(%9) {round = "nearest", saturate = 1, to = f32} : f32[1, u2]
      %14 = reduce(%13) {axes = [0, 1], keepdims = 0, kind = "sum"} : f32[]
      %10 = add(%8, %14) : f32[]
      %11 = tanh(%10) : f32[]
      %12 = add(%1, %11) : f32[7]
    }
}"#,
    );
}

/// A branch within a round is held to sizes that are made of what the round has found, where it is taken.
#[test]
fn a_branch_within_a_round_needs_what_was_found() {
    holds(
        r#"graph @g(%0 "x": f32[N, 6]) -> (%2 "sums") {
  %2 = scan(%0) {carried = 0, input_axes = [0], input_reverse = [1], output_axes = [0], output_reverse = [0], scans = 1} : f32[N]
    body graph @body(%0 "row": f32[6]) -> (%9) {
      %1 = nonzero(%0) : i64[1, u0]
      %2 = reshape(%1) {shape = [u0]} : i64[u0]
      %3 = gather(%0, %2) {axis = 0} : f32[u0]
      %4 = shape(%3) : i64[1]
      %5 = reshape(%4) {shape = []} : i64[]
      %6 = const i64[] [2]
      %7 = less(%6, %5) : bool[]
      %9 = if(%7, %3) : f32[]
        then graph @many(%0 "v": f32[k]) -> (%3) {
          %1 = slice(%0) {sizes = [k - 2], starts = [2], steps = [1]} : f32[k - 2]
          %2 = exp(%1) : f32[k - 2]
          %3 = reduce(%2) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
        }
        else graph @few(%0 "v": f32[k]) -> (%3) {
          %3 = reduce(%0) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
        }
    }
}"#,
    );
}

/// A range in the rounds of a loop, of which there is room for so many: as long as the number of the round.
fn triangle(most: &str) -> String {
    format!(
        r#"graph @g(%0 "n": i64[], %1 "x": f32[N]) -> (%2 "sum") {{
  %3 = const f32[] [0.0]
  %2 = loop(%0, _, %3) {{carried = 1, has_cond = 0, has_trip_count = 1}} : f32[]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "s": f32[]) -> (%1, %6) {{
      %3 = range(%0) {{{most}dims = [u0]}} : i64[u0] from "Range:/count"
      %4 = cast(%3) {{round = "nearest", saturate = 1, to = f32}} : f32[u0]
      %5 = reduce(%4) {{axes = [0], keepdims = 0, kind = "sum"}} : f32[]
      %6 = add(%2, %5) : f32[]
    }}
}}"#
    )
}

#[test]
fn rounds_that_count() {
    holds(&triangle("at_most = [3], "));
    let graph = parse(&triangle("at_most = [4], "));
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("it compiles");
    for (n, fits) in [(0, true), (5, true), (6, false)] {
        let inputs: Vec<Value> =
            vec![Tensor::scalar(n as i64).into(), Tensor::new(&[1], vec![1f32]).into()];
        assert_eq!(compiled.run_both(&inputs).expect("alike").0 == 0, fits, "{n} rounds");
        assert_eq!(interp::run(&graph, &inputs).is_ok(), fits, "{n} rounds");
    }
}

/// The remedy names the ONNX node: symbols of sub-graphs are their own.
#[test]
fn a_range_without_a_bound_is_refused() {
    let options = Options { threads: 1, ..Options::default() };
    let Err(e) = pipeline::lower(parse(&triangle("")), &options, &BTreeMap::new()) else {
        panic!("is compiled")
    };
    assert!(e.to_string().contains("say how large it may be, --at-most /count=N"), "{e}");
}

/// Branches of different sizes: the one that is taken decides how long the result is, and what follows is as long.
#[test]
fn a_branch_decides_how_long_the_result_is() {
    for (of_else, else_nodes) in [
        ("%2", "%2 = const i64[0, 2] []"),
        ("%2", "%2 = const i64[5, 2] [0, 0, 1, 1, 2, 2, 0, 2, 1, 0]"),
        (
            "%4",
            "%2 = nonzero(%0) : i64[2, u0]\n      %3 = transpose(%2) {perm = [1, 0]} : i64[u0, 2]\n      %4 = concat(%3, %3) {axis = 0} : i64[2*u0, 2]",
        ),
        ("%3", "%2 = const i64[2] [0, 1]\n      %3 = broadcast(%2) {shape = [N, 2]} : i64[N, 2]"),
    ] {
        holds(&format!(
            r#"graph @g(%0 "x": f32[N, 3], %1 "go": bool[], %9 "w": f32[3, 4]) -> (%2 "places", %6 "rows", %8 "number") {{
  %2 = if(%1, %0) {{dims = [u1]}} : i64[u1, 2]
    then graph @then(%0 "x": f32[N, 3]) -> (%5) {{
      %2 = const f32[] [0.25]
      %3 = less(%2, %0) : bool[N, 3]
      %4 = nonzero(%3) : i64[2, u1]
      %5 = transpose(%4) {{perm = [1, 0]}} : i64[u1, 2]
    }}
    else graph @else(%0 "x": f32[N, 3]) -> ({of_else}) {{
      {else_nodes}
    }}
  %3 = cast(%2) {{round = "nearest", saturate = 1, to = f32}} : f32[u1, 2]
  %4 = const f32[2, 8] random(1)
  %5 = matmul(%3, %4) : f32[u1, 8]
  %6 = tanh(%5) : f32[u1, 8]
  %7 = shape(%6) : i64[2]
  %8 = add(%7, %7) : i64[2]
}}"#
        ));
    }
}

/// Graphs within one another call what they find alike, and like names that others are given beside them: each is a dim of its own.
#[test]
fn dims_of_one_name_are_not_one() {
    for outer in ["u0", "u0_", "u0__", "u1", "u1_"] {
        holds(&format!(
            r#"graph @g(%0 "x": f32[N, 3, 7], %1 "s": f32[2]) -> (%2 "sums", %4 "places") {{
  %4 = nonzero(%1) {{dims = [_, {outer}]}} : i64[1, {outer}]
  %2 = scan(%0) {{carried = 0, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1}} : f32[N]
    body graph @a(%0 "m": f32[3, 7]) -> (%10) {{
      %5 = slice(%0) {{sizes = [1, 2], starts = [0, 0], steps = [1, 1]}} : f32[1, 2]
      %6 = nonzero(%5) : i64[2, u0]
      %7 = cast(%6) {{round = "nearest", saturate = 1, to = f32}} : f32[2, u0]
      %8 = reduce(%7) {{axes = [0, 1], keepdims = 0, kind = "sum"}} : f32[]
      %2 = scan(%0) {{carried = 0, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1}} : f32[3]
        body graph @b(%0 "row": f32[7]) -> (%10) {{
          %1 = reduce(%0) {{axes = [0], keepdims = 0, kind = "sum"}} : f32[]
          %2 = const f32[] [0.5]
          %3 = less(%2, %1) : bool[]
          %4 = if(%3, %0) {{dims = [u1]}} : f32[u1]
            then graph @found(%0 "row": f32[7]) -> (%3) {{
              %1 = nonzero(%0) : i64[1, u0]
              %2 = reshape(%1) {{shape = [u0]}} : i64[u0]
              %3 = gather(%0, %2) {{axis = 0}} : f32[u0]
            }}
            else graph @all(%0 "row": f32[7]) -> (%1) {{
              %1 = const f32[2] [0.5, -0.5]
            }}
          %8 = tanh(%4) : f32[u1]
          %10 = reduce(%8) {{axes = [0], keepdims = 0, kind = "sum"}} : f32[]
        }}
      %9 = reduce(%2) {{axes = [0], keepdims = 0, kind = "sum"}} : f32[]
      %10 = add(%9, %8) : f32[]
    }}
}}"#
        ));
    }
}

/// A dim of the graph around, put into a graph whose nodes declare one of its name, stays what it is.
#[test]
fn what_is_put_in_is_not_what_a_node_declares() {
    holds(
        r#"graph @g(%0 "x": f32[N], %1 "go": bool[], %9 "y": f32[M]) -> (%6 "sum") {
  %2 = nonzero(%0) : i64[1, u0]
  %3 = reshape(%2) {shape = [u0]} : i64[u0]
  %4 = gather(%0, %3) {axis = 0} : f32[u0]
  %6 = if(%1, %4, %1, %9) : f32[]
    then graph @t(%0 "v": f32[k], %1 "go": bool[], %2 "y": f32[m]) -> (%4) {
      %3 = if(%1, %2) : f32[]
        then graph @tt(%0 "y": f32[n]) -> (%9) {
          %1 = nonzero(%0) : i64[1, u0]
          %2 = const f32[] [1.0]
          %3 = broadcast(%2) {shape = [k]} : f32[k]
          %4 = reduce(%3) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
          %5 = cast(%1) {round = "nearest", saturate = 1, to = f32} : f32[1, u0]
          %6 = const f32[] [1000.0]
          %7 = reduce(%5) {axes = [0, 1], keepdims = 0, kind = "sum"} : f32[]
          %8 = mul(%7, %6) : f32[]
          %9 = add(%8, %4) : f32[]
        }
        else graph @te(%0 "y": f32[n]) -> (%1) {
          %1 = const f32[] [7.0]
        }
      %5 = reduce(%0) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
      %4 = add(%3, %5) : f32[]
    }
    else graph @e(%0 "v": f32[k], %1 "go": bool[], %2 "y": f32[m]) -> (%3) {
      %3 = const f32[] [5.0]
    }
}"#,
    );
}

/// Two results of an If in a round, whose lengths are found anew in each: one of a branch that finds, one along a dim of the graph.
#[test]
fn a_branch_of_a_round_decides_how_long_a_result_is() {
    holds(
        r#"graph @g(%0 "x": f32[N, 6]) -> (%2 "sums") {
  %2 = scan(%0) {carried = 0, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1} : f32[N]
    body graph @body(%0 "row": f32[6]) -> (%13) {
      %1 = reduce(%0) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
      %2 = const f32[] [0.5]
      %3 = less(%2, %1) : bool[]
      %4, %5 = if(%3, %0) {dims = [u0, u1]} : f32[u0], f32[u1]
        then graph @found(%0 "row": f32[6]) -> (%3, %6) {
          %1 = nonzero(%0) : i64[1, u0]
          %2 = reshape(%1) {shape = [u0]} : i64[u0]
          %3 = gather(%0, %2) {axis = 0} : f32[u0]
          %4 = const f32[] [1.0]
          %5 = less(%4, %0) : bool[6]
          %6 = compress(%0, %5) {axis = 0} : f32[u1]
        }
        else graph @all(%0 "row": f32[6]) -> (%0, %1) {
          %1 = const f32[2] [0.5, -0.5]
        }
      %6 = reshape(%5) {shape = [u1, 1]} : f32[u1, 1]
      %7 = mul(%6, %4) : f32[u1, u0]
      %8 = tanh(%7) : f32[u1, u0]
      %9 = reduce(%8) {axes = [0, 1], keepdims = 0, kind = "sum"} : f32[]
      %10 = reduce(%4) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
      %13 = add(%9, %10) : f32[]
    }
}"#,
    );
}
