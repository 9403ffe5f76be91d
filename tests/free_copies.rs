//! What is the same in every unit, or a part of another value, where a kernel along free dims wants all elements one after the other.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    // A class token in front of a sequence.
    (
        r#"%0 "x": f32[N, M, 8]"#,
        "%1 = const f32[1, 1, 8] random(1)
         %2 = broadcast(%1) {shape = [N, 1, 8]} : f32[N, 1, 8]
         %9 = concat(%2, %0) {axis = 1} : f32[N, M + 1, 8]",
    ),
    (
        r#"%0 "x": f32[N, 6], %1 "y": i64[M, 6]"#,
        "%2 = slice(%0) {sizes = [N, 4], starts = [0, 1], steps = [1, 1]} : f32[N, 4]
         %3 = slice(%1) {sizes = [M, 4], starts = [0, 2], steps = [1, 1]} : i64[M, 4]
         %4 = cast(%3) {round = \"nearest\", saturate = 1, to = f32} : f32[M, 4]
         %9 = concat(%2, %4) {axis = 0} : f32[M + N, 4]",
    ),
    (
        r#"%0 "x": f32[N, M]"#,
        "%1 = const f32[1, 5] random(1)
         %2 = broadcast(%1) {shape = [N, 5]} : f32[N, 5]
         %3 = transpose(%2) {perm = [1, 0]} : f32[5, N]
         %4 = matmul(%3, %0) : f32[5, M]
         %5 = slice(%3) {sizes = [5, ceildiv(N, 2)], starts = [0, 0], steps = [1, 2]} : f32[5, ceildiv(N, 2)]
         %9 = concat(%4, %5) {axis = 1} : f32[5, M + ceildiv(N, 2)]",
    ),
    (
        r#"%0 "x": f32[N, M]"#,
        "%1 = const f32[1, 1] random(1)
         %2 = broadcast(%1) {shape = [M, N]} : f32[M, N]
         %3 = softmax(%2) {axis = 0} : f32[M, N]
         %4 = matmul(%3, %0) : f32[M, M]
         %9 = reduce(%4) {axes = [0], keepdims = 0, kind = \"sum\"} : f32[M]",
    ),
    (
        r#"%0 "x": f32[N, M, 3]"#,
        "%1 = const f32[1, 3] random(1)
         %2 = broadcast(%1) {shape = [N, 3]} : f32[N, 3]
         %3 = reduce(%2) {axes = [0], keepdims = 1, kind = \"sum\"} : f32[1, 3]
         %4 = layer_norm(%2) {axis = 0, epsilon = 1e-3} : f32[N, 3]
         %5 = cumulative(%2) {axis = 0, exclusive = 0, kind = \"sum\", reverse = 0} : f32[N, 3]
         %6 = concat(%3, %4, %5) {axis = 0} : f32[2*N + 1, 3]
         %7 = reduce(%0) {axes = [0], keepdims = 0, kind = \"max\"} : f32[M, 3]
         %9 = concat(%6, %7) {axis = 0} : f32[2*N + M + 1, 3]",
    ),
];

#[test]
fn what_is_not_there_as_a_whole_is_copied() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 5, 33]);
    assert!(right > 0 && right % (5 * 25) == 0 && wrong == 0, "{right} runs right, {wrong} of sizes");
}
