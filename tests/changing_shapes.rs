//! Loops that carry values whose shapes change from round to round: compiled once and run at many sizes and counts, every buffer at an unmapped
//! page, they give what the interpreter gives.
#![cfg(unix)]

use egret::ir::{Tensor, Value, interp};
use egret::{Options, pipeline};
use egret_workspace::free::{compiled, holds_at, parse};
use std::collections::BTreeMap;

/// Values of N and M.
const SIZES: [(i64, i64); 6] = [(3, 2), (1, 1), (0, 2), (2, 0), (5, 17), (9, 33)];

fn int(v: i64) -> Value {
    Tensor::scalar(v).into()
}

fn counts(all: &[i64]) -> Vec<[Value; 1]> {
    all.iter().map(|&n| [int(n)]).collect()
}

/// Holds a graph to the interpreter for each of these trip counts.
fn holds(source: &str, trips: &[i64]) {
    let counts = counts(trips);
    let given: Vec<&[Value]> = counts.iter().map(|v| &v[..]).collect();
    holds_at(source, &given, &SIZES);
}

/// Rows are appended until their number or the trip count ends it, in front and behind; what is said limits them.
#[test]
fn rows_are_appended() {
    for concat in ["%4, %5", "%5, %4"] {
        holds(
            &format!(
                r#"graph @g(%0 "x": f32[N, 4], %1 "trips": i64[]) -> (%2 "all", %3 "sum") {{
  %4 = const f32[1, 4] random(3)
  %2, %6 = loop(%1, _, %4, %4, %0) {{at_most = [7*N + 1, -1, -1, -1], carried = 2, dims = [all, _, _, _], has_cond = 0, has_trip_count = 1}} : f32[all, 4], f32[1, 4]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %4 "rows": f32[r, 4], %7 "last": f32[1, 4], %5 "x": f32[n, 4]) -> (%1, %8, %9) {{
      %8 = concat({concat}) {{axis = 0}} : f32[r + n, 4]
      %9 = reduce(%8) {{axes = [0], keepdims = 1, kind = "max"}} : f32[1, 4]
    }}
  %3 = add(%6, %6) : f32[1, 4]
}}"#
            ),
            // More than said ends with a code.
            &[0, 1, 2, 7, 8, -1],
        );
    }
}

/// How long a value becomes is known from the trip count, and no limit is needed: one that grows by what rounds add, one that shrinks.
#[test]
fn trip_counts_made_of_dims_bound_what_grows() {
    holds_at(
        r#"graph @g(%0 "x": f32[N], %1 "y": f32[M, 2]) -> (%6 "grown", %7 "rest", %8 "both") {
  %2 = shape(%0) : i64[1]
  %3 = reshape(%2) {shape = []} : i64[]
  %4, %5 = loop(%3, _, %1, %0, %1) {carried = 2, dims = [grown, _, rest], has_cond = 0, has_trip_count = 1} : f32[grown, 2], f32[rest]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "a": f32[a, 2], %3 "b": f32[b], %4 "y": f32[m, 2]) -> (%1, %5, %6) {
      %5 = concat(%4, %2, %4) {axis = 0} : f32[a + 2*m, 2]
      %6 = slice(%3) {sizes = [b - 1], starts = [1], steps = [1]} : f32[b - 1]
    }
  %6 = tanh(%4) : f32[grown, 2]
  %7 = exp(%5) : f32[rest]
  %8 = concat(%6, %1) {axis = 0} : f32[grown + M, 2]
}"#,
        &[&[]],
        &SIZES,
    );
}

/// A condition ends the loop when nothing is left, halves are taken; another value is stacked meanwhile, and two values change places.
#[test]
fn a_condition_looks_at_what_is_left() {
    holds(
        r#"graph @g(%0 "x": f32[N, 3], %1 "trips": i64[]) -> (%3 "left", %4 "seen", %5 "sums") {
  %3, %4, %5 = loop(%1, _, %0, %0) {at_most = [-1, -1, N, -1, 40, -1], carried = 2, dims = [l, _, s, _, rounds, _], has_cond = 0, has_trip_count = 1} : f32[l, 3], f32[s, 3], f32[rounds, 3]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "left": f32[a, 3], %3 "before": f32[b, 3]) -> (%1, %4, %2, %5) {
      %4 = slice(%2) {sizes = [floordiv(a, 2), 3], starts = [ceildiv(a, 2), 0], steps = [1, 1]} : f32[floordiv(a, 2), 3]
      %5 = reduce(%3) {axes = [0], keepdims = 0, kind = "sum"} : f32[3]
    }
}"#,
        &[0, 1, 2, 5, 40, 41],
    );
}

/// What one value was becomes the other, which takes more room than its own in this round; a value loses its end, where it stands.
#[test]
fn values_change_places() {
    for dtype in ["f32", "u8", "f64", "bool"] {
        holds(
            &format!(
                r#"graph @g(%0 "x": {dtype}[N], %1 "y": {dtype}[M], %2 "trips": i64[]) -> (%3 "a", %4 "b", %5 "c") {{
  %3, %4, %5 = loop(%2, _, %0, %1, %1) {{at_most = [8*N + 13*M, 8*N + 13*M, M], carried = 3, dims = [p, q, r], has_cond = 0, has_trip_count = 1}} : {dtype}[p], {dtype}[q], {dtype}[r]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "a": {dtype}[s], %3 "b": {dtype}[t], %4 "c": {dtype}[u]) -> (%1, %3, %5, %6) {{
      %5 = concat(%2, %3) {{axis = 0}} : {dtype}[s + t]
      %6 = slice(%4) {{sizes = [floordiv(u, 2)], starts = [0], steps = [1]}} : {dtype}[floordiv(u, 2)]
    }}
}}"#
            ),
            &[0, 1, 2, 3, 6],
        );
    }
}

/// Elements that data picks in each round are appended, in a loop within a loop that begins anew.
#[test]
fn loops_that_grow_nest() {
    holds(
        r#"graph @g(%0 "x": f32[N], %1 "trips": i64[]) -> (%3 "all") {
  %2 = const f32[0] []
  %3 = loop(%1, _, %2, %0, %1) {at_most = [16*N], carried = 1, dims = [all], has_cond = 0, has_trip_count = 1} : f32[all]
    body graph @outer(%0 "i": i64[], %1 "go": bool[], %2 "rows": f32[r], %3 "x": f32[n], %4 "trips": i64[]) -> (%1, %7) {
      %5 = const f32[0] []
      %6 = loop(%0, _, %5, %3) {at_most = [9*n], carried = 1, dims = [inner], has_cond = 0, has_trip_count = 1} : f32[inner]
        body graph @inner(%0 "j": i64[], %1 "go": bool[], %2 "some": f32[s], %3 "x": f32[k]) -> (%1, %7) {
          %4 = const f32[] [0.25]
          %5 = less(%4, %3) : bool[k]
          %6 = compress(%3, %5) {axis = 0} : f32[found]
          %7 = concat(%2, %6) {axis = 0} : f32[s + found]
        }
      %7 = concat(%2, %6) {axis = 0} : f32[r + inner]
    }
}"#,
        &[0, 1, 2, 3, 4],
    );
}

/// A dim in the middle, of what is computed with in the round, and as many steps as a branch decides.
#[test]
fn dims_in_the_middle_change() {
    holds(
        r#"graph @g(%0 "x": f32[2, M, 3], %1 "trips": i64[]) -> (%2 "keys", %3 "last") {
  %2, %3 = loop(%1, _, %0, %0, %0) {at_most = [-1, 9*M, -1, -1, -1, -1], carried = 2, dims = [_, t, _, _, _, _], has_cond = 0, has_trip_count = 1} : f32[2, t, 3], f32[2, M, 3]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "keys": f32[2, k, 3], %3 "last": f32[2, m, 3], %4 "x": f32[2, m, 3]) -> (%1, %5, %9) {
      %5 = concat(%2, %3) {axis = 1} : f32[2, k + m, 3]
      %6 = transpose(%5) {perm = [0, 2, 1]} : f32[2, 3, k + m]
      %7 = matmul(%4, %6) : f32[2, m, k + m]
      %8 = softmax(%7) {axis = 2} : f32[2, m, k + m]
      %9 = matmul(%8, %5) : f32[2, m, 3]
    }
}"#,
        &[0, 1, 3, 8, 9],
    );
}

/// What a round gives has a size of its own, whatever it began with: a constant, another value's, a window of the last elements. What that is at most
/// needs no limit.
#[test]
fn sizes_that_rounds_do_not_keep() {
    holds(
        r#"graph @g(%0 "x": f32[N], %1 "y": f32[M], %2 "trips": i64[]) -> (%4 "a", %5 "b", %6 "c", %7 "d", %8 "e") {
  %3 = const f32[3] random(3)
  %4, %5, %6, %7, %8 = loop(%2, _, %0, %1, %3, %3, %0, %0) {carried = 5, dims = [p, q, r, s, t], has_cond = 0, has_trip_count = 1} : f32[p], f32[q], f32[r], f32[s], f32[t]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "a": f32[a], %3 "b": f32[b], %4 "c": f32[c], %5 "d": f32[d], %6 "e": f32[e], %7 "x": f32[n]) -> (%1, %8, %7, %9, %10, %12) {
      %8 = const f32[5] random(4)
      %9 = concat(%8, %8, %8) {axis = 0} : f32[15]
      %10 = slice(%9) {sizes = [1], starts = [3], steps = [1]} : f32[1]
      %11 = concat(%6, %7, %2) {axis = 0} : f32[a + e + n]
      %12 = slice(%11) {sizes = [min(12, a + e + n)], starts = [0], steps = [1]} : f32[min(12, a + e + n)]
    }
}"#,
        &[0, 1, 2, 7],
    );
}

/// A loop whose value has no limit is refused with the option that gives one.
#[test]
fn what_grows_without_a_bound_is_refused() {
    let source = |limit: &str| {
        format!(
            r#"graph @g(%0 "x": f32[N], %1 "trips": i64[]) -> (%2 "y") {{
  %2 = loop(%1, _, %0, %0) {{{limit}carried = 1, dims = [long], has_cond = 0, has_trip_count = 1}} : f32[long] from "Loop:/grow"
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "y": f32[k], %3 "x": f32[n]) -> (%1, %4) {{
      %4 = concat(%2, %3) {{axis = 0}} : f32[k + n]
    }}
}}"#
        )
    };
    let graph = parse(&source(""));
    let Err(e) = pipeline::lower(graph, &Options::default(), &BTreeMap::new()) else {
        panic!("it has no limit")
    };
    let e = e.to_string();
    assert!(e.contains("/grow") && e.contains("--at-most long=N"), "{e}");
    // A run that needs more ends with a code, and the interpreter says what.
    let graph = parse(&source("at_most = [3*N], "));
    let x: Value = Tensor::new(&[2], vec![1.0f32, 2.0]).into();
    let error = interp::run(&graph, &[x.clone(), int(3)]).expect_err("8 of 6");
    assert!(error.to_string().contains("long"), "{error}");
    for compiled in compiled(&graph) {
        for (trips, fits) in [(2, true), (3, false)] {
            let (code, _) = compiled.run_both(&[x.clone(), int(trips)]).expect("no difference");
            assert_eq!(code == 0, fits, "{trips}");
        }
    }
}
