//! Slices that are only joined are read where they stand, by one kernel: the taps of a convolution's windows, and what else is written so.
#![cfg(unix)]

use egret::{Options, pipeline};
use egret_workspace::free::{graph, hold};
use std::collections::BTreeMap;

type Case = (&'static str, &'static str);

/// Inputs, and nodes that make `%9` of them.
const CASES: &[Case] = &[
    // Windows of three taps, of which each goes on by two; the first is shorter than the others.
    (
        r#"%0 "x": f32[N, M, 21]"#,
        "%1 = slice(%0) {sizes = [N, floordiv(M, 2), 3], starts = [0, 0, 2], steps = [1, 2, 1]} : f32[N, floordiv(M, 2), 3]
         %2 = slice(%0) {sizes = [N, floordiv(M, 2), 21], starts = [0, 1, 0], steps = [1, 2, 1]} : f32[N, floordiv(M, 2), 21]
         %3 = slice(%0) {sizes = [N, floordiv(M, 2), 20], starts = [0, 1, 1], steps = [1, 2, 1]} : f32[N, floordiv(M, 2), 20]
         %9 = concat(%1, %2, %3) {axis = 2} : f32[N, floordiv(M, 2), 44]",
    ),
    // Of two images, of bytes, in front of further axes.
    (
        r#"%0 "x": i8[3, N, M, 5], %1 "y": i8[3, N, M, 5]"#,
        "%2 = slice(%0) {sizes = [3, N - 1, M - 2, 5], starts = [0, 1, 2, 0], steps = [1, 1, 1, 1]} : i8[3, N - 1, M - 2, 5]
         %3 = slice(%1) {sizes = [3, N - 1, M - 2, 5], starts = [0, 0, 1, 0], steps = [1, 1, 1, 1]} : i8[3, N - 1, M - 2, 5]
         %4 = slice(%0) {sizes = [3, N - 1, M - 2, 5], starts = [0, 1, 0, 0], steps = [1, 1, 1, 1]} : i8[3, N - 1, M - 2, 5]
         %9 = concat(%2, %3, %4) {axis = 3} : i8[3, N - 1, M - 2, 15]",
    ),
    // Of slices of a transposed value, whose rows stand side by side in one case and apart in the other.
    (
        r#"%0 "x": f32[M, N, 6], %1 "y": f32[6, N, M]"#,
        "%2 = transpose(%0) {perm = [1, 0, 2]} : f32[N, M, 6]
         %3 = slice(%2) {sizes = [N, M - 1, 6], starts = [0, 1, 0], steps = [1, 1, 1]} : f32[N, M - 1, 6]
         %4 = slice(%2) {sizes = [N, M - 1, 4], starts = [0, 0, 1], steps = [1, 1, 1]} : f32[N, M - 1, 4]
         %5 = concat(%3, %4) {axis = 2} : f32[N, M - 1, 10]
         %6 = transpose(%1) {perm = [1, 2, 0]} : f32[N, M, 6]
         %7 = slice(%6) {sizes = [N, M - 1, 6], starts = [0, 1, 0], steps = [1, 1, 1]} : f32[N, M - 1, 6]
         %8 = slice(%6) {sizes = [N, M - 1, 4], starts = [0, 0, 1], steps = [1, 1, 1]} : f32[N, M - 1, 4]
         %10 = concat(%7, %8) {axis = 2} : f32[N, M - 1, 10]
         %9 = add(%5, %10) : f32[N, M - 1, 10]",
    ),
    // A slice that is read by another node, too, and one of no elements in a row.
    (
        r#"%0 "x": f32[N, M, 8]"#,
        "%1 = slice(%0) {sizes = [N, M - 2, 8], starts = [0, 2, 0], steps = [1, 1, 1]} : f32[N, M - 2, 8]
         %2 = slice(%0) {sizes = [N, M - 2, 0], starts = [0, 0, 0], steps = [1, 1, 1]} : f32[N, M - 2, 0]
         %3 = concat(%1, %2) {axis = 2} : f32[N, M - 2, 8]
         %9 = mul(%3, %1) : f32[N, M - 2, 8]",
    ),
    // Joined along another axis, and with what is no slice.
    (
        r#"%0 "x": f32[N, M, 8]"#,
        "%1 = slice(%0) {sizes = [N, M - 2, 8], starts = [0, 2, 0], steps = [1, 1, 1]} : f32[N, M - 2, 8]
         %2 = slice(%0) {sizes = [N, M - 2, 8], starts = [0, 1, 0], steps = [1, 1, 1]} : f32[N, M - 2, 8]
         %3 = concat(%1, %2) {axis = 1} : f32[N, 2*M - 4, 8]
         %4 = exp(%3) : f32[N, 2*M - 4, 8]
         %9 = concat(%3, %4) {axis = 2} : f32[N, 2*M - 4, 16]",
    ),
];

#[test]
fn joined_slices_are_right() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 3, 40]);
    assert!(right > 0 && wrong > 0, "{right} runs right, {wrong} of sizes");
}

/// A convolution of three taps, with what is computed of its sums.
const CONV: Case = (
    r#"%0 "x": f32[N, 20, M]"#,
    r#"%1 = const f32[7, 20, 3] random(1)
         %2 = const f32[7, 1] random(2)
         %3 = conv(%0, %1) {dilations = [1], groups = 1, layout = "channels_first", pads = [1, 1], strides = [1]} : f32[N, 7, M]
         %4 = const f32[] [0.0]
         %5 = add(%3, %2) : f32[N, 7, M]
         %9 = max(%5, %4) : f32[N, 7, M]"#,
);

/// A recurrence whose states are picked of an input.
const STATES: Case = (
    r#"%0 "x": f32[1, N, 5], %1 "state": f32[2, N, 7]"#,
    r#"%2 = const f32[1, 28, 5] random(1)
         %3 = const f32[1, 28, 7] random(2)
         %4 = const i64[] [0]
         %5 = const i64[] [1]
         %6 = gather(%1, %4) {axis = 0} : f32[N, 7]
         %7 = gather(%1, %5) {axis = 0} : f32[N, 7]
         %8 = reshape(%6) {shape = [1, N, 7]} : f32[1, N, 7]
         %10 = reshape(%7) {shape = [1, N, 7]} : f32[1, N, 7]
         %9, %11, %12 = lstm(%0, %2, %3, _, _, %8, %10, _, _) {activations = ["Sigmoid", "Tanh", "Tanh"], alphas = [], betas = [], clip = 0.0, direction = "forward", hidden = 7, input_forget = 0, rounded_state = 0} : f32[1, 1, N, 7], f32[1, N, 7], f32[1, N, 7]"#,
);

#[test]
fn a_convolution_is_right_whatever_joins_its_taps() {
    let [right, _] = hold(&[CONV], &[0, 1, 2, 3, 17, 40]);
    assert!(right > 0);
}

#[test]
fn what_is_read_where_it_stands_has_no_kernel() {
    // The convolution is a pad, its taps, and their product, with the bias and `max` in it, between two transposes.
    for (case, gone, most) in
        [(CONV, ["slice", "max", "copy"], 6), (STATES, ["gather", "slice", "copy"], 2)]
    {
        let lowered =
            pipeline::lower(graph(case), &Options::default(), &BTreeMap::new()).expect("a program");
        let kernels = &lowered.program.kernels;
        let names: Vec<&str> =
            lowered.program.calls.iter().map(|c| kernels[c.kernel.0 as usize].name.as_str()).collect();
        let none = |name: &str| names.iter().all(|k| !k.contains(name));
        assert!(gone.iter().all(|name| none(name)) && names.len() <= most, "{names:?} of {case:?}");
    }
}
