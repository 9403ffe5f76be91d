//! Free dims that a node computes along, cuts or renames: one compilation, with every buffer at an unmapped page, gives what the interpreter
//! gives, and an error of sizes where that has no value.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    (
        r#"%0 "x": f32[N, 3]"#,
        "%9 = cumulative(%0) {axis = 0, exclusive = 0, kind = \"sum\", reverse = 0} : f32[N, 3]",
    ),
    (
        r#"%0 "x": i32[2, N, M]"#,
        "%9 = cumulative(%0) {axis = 1, exclusive = 1, kind = \"sum\", reverse = 1} : i32[2, N, M]",
    ),
    (
        r#"%0 "x": f64[M, N]"#,
        "%9 = cumulative(%0) {axis = 1, exclusive = 1, kind = \"prod\", reverse = 0} : f64[M, N]",
    ),
    (
        r#"%0 "x": f16[N]"#,
        "%9 = cumulative(%0) {axis = 0, exclusive = 0, kind = \"sum\", reverse = 1} : f16[N]",
    ),
    (
        r#"%0 "x": f32[N, M]"#,
        "%9 = arg_reduce(%0) {axis = 0, keepdims = 0, kind = \"max\", last = 0} : i64[M]",
    ),
    (
        r#"%0 "x": i64[3, N, 4]"#,
        "%9 = arg_reduce(%0) {axis = 1, keepdims = 1, kind = \"min\", last = 1} : i64[3, 1, 4]",
    ),
    (
        r#"%0 "x": f16[M, 2, N]"#,
        "%9 = arg_reduce(%0) {axis = 0, keepdims = 0, kind = \"min\", last = 0} : i64[2, N]",
    ),
    // As Hardmax is imported: nothing along an empty axis.
    (
        r#"%0 "x": f32[M, N, 3]"#,
        "%1 = const f32[] [-inf]\n %2 = pad(%0, %1) {high = [0, 1, 0], low = [0, 0, 0], mode = \"constant\"} : f32[M, N + 1, 3]\n \
         %3 = arg_reduce(%2) {axis = 1, keepdims = 1, kind = \"max\", last = 0} : i64[M, 1, 3]\n \
         %4 = iota() {axis = 1, shape = [1, N, 1], to = i64} : i64[1, N, 1]\n %9 = equal(%3, %4) : bool[M, N, 3]",
    ),
    (r#"%0 "x": f32[N, 5]"#, "%9 = layer_norm(%0) {axis = 0, epsilon = 1e-5} : f32[N, 5]"),
    (r#"%0 "x": f32[2, N, M]"#, "%9 = rms_norm(%0) {axis = 1, epsilon = 1e-3} : f32[2, N, M]"),
    (r#"%0 "x": f32[M, N]"#, "%9 = layer_norm(%0) {axis = 1, epsilon = 1e-2} : f32[M, N]"),
    (r#"%0 "x": f32[N, 6]"#, "%9 = softmax(%0) {axis = 0} : f32[N, 6]"),
    (r#"%0 "x": f32[2, N, M]"#, "%9 = softmax(%0) {axis = 1} : f32[2, N, M]"),
    (r#"%0 "x": f64[N, M]"#, "%9 = softmax(%0) {axis = 1} : f64[N, M]"),
    (r#"%0 "x": f64[N, 3, M]"#, "%9 = softmax(%0) {axis = 1} : f64[N, 3, M]"),
    // Lines of more than a task.
    (r#"%0 "x": f32[N, M, 70]"#, "%9 = softmax(%0) {axis = 0} : f32[N, M, 70]"),
    (r#"%0 "x": f64[N, M]"#, "%9 = reduce(%0) {axes = [0], keepdims = 0, kind = \"max\"} : f64[M]"),
    (
        r#"%0 "x": f64[M, 3, N]"#,
        "%9 = reduce(%0) {axes = [0, 2], keepdims = 1, kind = \"sum\"} : f64[1, 3, 1]",
    ),
    (r#"%0 "x": i64[M, N]"#, "%9 = reduce(%0) {axes = [1], keepdims = 0, kind = \"sum\"} : i64[M]"),
    (r#"%0 "x": i32[N, 3, M]"#, "%9 = reduce(%0) {axes = [0, 2], keepdims = 0, kind = \"prod\"} : i32[3]"),
    (r#"%0 "x": i64[N, M]"#, "%9 = reduce(%0) {axes = [0], keepdims = 1, kind = \"max\"} : i64[1, M]"),
    (r#"%0 "x": u32[N, M]"#, "%9 = reduce(%0) {axes = [1], keepdims = 0, kind = \"min\"} : u32[N]"),
    (r#"%0 "x": bool[2, M, N]"#, "%9 = reduce(%0) {axes = [1], keepdims = 0, kind = \"or\"} : bool[2, N]"),
    (r#"%0 "x": bool[N, M]"#, "%9 = reduce(%0) {axes = [0, 1], keepdims = 0, kind = \"and\"} : bool[]"),
    // Products of other types than f32, whose sums are in lanes or single.
    (r#"%0 "x": i32[N, 3, M], %1 "y": i32[N, M, 19]"#, "%9 = matmul(%0, %1) : i32[N, 3, 19]"),
    (r#"%0 "x": i64[3, M], %1 "y": i64[N, M, 5]"#, "%9 = matmul(%0, %1) : i64[N, 3, 5]"),
    (r#"%0 "x": f64[2, N, M], %1 "y": f64[M, N]"#, "%9 = matmul(%0, %1) : f64[2, N, N]"),
    (
        r#"%0 "x": f64[N, 2, M], %1 "y": f64[N, 2, M]"#,
        "%2 = transpose(%1) {perm = [0, 2, 1]} : f64[N, M, 2]\n %9 = matmul(%0, %2) : f64[N, 2, 2]",
    ),
    // Of a column of wider rows, which stands there without being copied: rows and columns of any number.
    (
        r#"%0 "x": f32[M, N, 4]"#,
        "%1 = slice(%0) {sizes = [M, N, 1], starts = [0, 0, 2], steps = [1, 1, 1]}
         %2 = transpose(%1) {perm = [0, 2, 1]}\n %9 = matmul(%1, %2) : f32[M, N, N]",
    ),
    (
        r#"%0 "x": f32[M, N, 4]"#,
        "%1 = slice(%0) {sizes = [M, N, 1], starts = [0, 0, 0], steps = [1, 1, 1]}
         %2 = transpose(%1) {perm = [0, 2, 1]}\n %3 = matmul(%1, %2)\n %4 = softmax(%3) {axis = 2}\n %9 = matmul(%4, %1) : f32[M, N, 1]",
    ),
    (
        r#"%0 "x": f64[M, N, 4]"#,
        "%1 = slice(%0) {sizes = [M, N, 1], starts = [0, 0, 3], steps = [1, 1, 1]}
         %2 = reshape(%1) {shape = [M, 1, N]}\n %9 = matmul(%1, %2) : f64[M, N, N]",
    ),
    (r#"%0 "x": f16[N, M], %1 "y": f16[M, 7]"#, "%9 = matmul(%0, %1) : f16[N, 7]"),
    // Rotations.
    (
        r#"%0 "x": f32[M, 3, N, 40], %1 "c": f32[N, 40], %2 "s": f32[N, 40]"#,
        "%9 = rotary(%0, %1, %2) {interleaved = 0} : f32[M, 3, N, 40]",
    ),
    (
        r#"%0 "x": f16[N, 2*M], %1 "c": f16[1, 2*M], %2 "s": f16[N, 2*M], %3 "m": f16[M]"#,
        "%9 = rotary(%0, %1, %2) {interleaved = 1} : f16[N, 2*M]",
    ),
    // Pads that leave out, or add, what is not there.
    (
        r#"%0 "x": f32[3, N, 2], %2 "y": f32[M]"#,
        "%1 = const f32[] [1.5]\n %9 = pad(%0, %1) {high = [-1, 0, 0], low = [0, M - N, 0], mode = \"constant\"} : f32[2, M, 2]",
    ),
    (
        r#"%0 "x": i64[N, M]"#,
        "%1 = const i64[] [7]\n %9 = pad(%0, %1) {high = [3 - N, 1], low = [0, -2], mode = \"constant\"} : i64[3, M - 1]",
    ),
    // Parts whose begin or length is cut off at the end, or at nothing.
    (
        r#"%0 "x": f32[N, 2]"#,
        "%9 = slice(%0) {sizes = [min(4, N) - min(2, N), 2], starts = [min(2, N), 0], steps = [1, 1]} : f32[min(4, N) - min(2, N), 2]",
    ),
    (
        r#"%0 "x": i64[3, N]"#,
        "%9 = slice(%0) {sizes = [3, max(0, N - 5)], starts = [0, min(5, N)], steps = [1, 1]} : i64[3, max(0, N - 5)]",
    ),
    (
        r#"%0 "x": f32[N, M]"#,
        "%9 = slice(%0) {sizes = [ceildiv(N, 3), M], starts = [0, 0], steps = [3, 1]} : f32[ceildiv(N, 3), M]",
    ),
    (
        r#"%0 "x": u8[M, N]"#,
        "%9 = slice(%0) {sizes = [M, floordiv(N, 2)], starts = [0, 1], steps = [1, 2]} : u8[M, floordiv(N, 2)]",
    ),
    (
        r#"%0 "x": f32[N, 4]"#,
        "%1 = const f32[4, 4] random(1)\n %2 = slice(%1) {sizes = [2, 1], starts = [0, N - 1], steps = [1, 1]} : f32[2, 1]\n \
         %3 = slice(%0) {sizes = [1, 4], starts = [0, 0], steps = [1, 1]} : f32[1, 4]\n %9 = add(%2, %3) : f32[2, 4]",
    ),
    // Slices of slices, which become one: the inner one's part must be there all the same.
    (
        r#"%0 "x": f32[N, 2]"#,
        "%1 = slice(%0) {sizes = [max(0, N - 3), 2], starts = [min(3, N), 0], steps = [1, 1]} : f32[max(0, N - 3), 2]
         %9 = slice(%1) {sizes = [2, 2], starts = [max(0, N - 3) - 2, 0], steps = [1, 1]} : f32[2, 2]",
    ),
    (
        r#"%0 "x": f32[N, 2]"#,
        "%1 = slice(%0) {sizes = [4, 2], starts = [N - 4, 0], steps = [1, 1]} : f32[4, 2]
         %9 = slice(%1) {sizes = [3, 2], starts = [1, 0], steps = [1, 1]} : f32[3, 2]",
    ),
    // As many elements, which only a run knows.
    (
        r#"%0 "x": f32[N, 4]"#,
        "%9 = reshape(%0) {shape = [2, floordiv(N, 2), 4]} : f32[2, floordiv(N, 2), 4]",
    ),
    (r#"%0 "x": i64[N]"#, "%9 = reshape(%0) {shape = [1, 1]} : i64[1, 1]"),
    (r#"%0 "x": f16[N, 70], %1 "y": f16[M]"#, "%9 = reshape(%0) {shape = [M, 70]} : f16[M, 70]"),
    (
        r#"%0 "x": u8[3, N], %1 "y": u8[3, M]"#,
        "%2 = reshape(%0) {shape = [3, M]} : u8[3, M]\n %9 = concat(%2, %1) {axis = 0} : u8[6, M]",
    ),
    // Dims that have to be equal.
    (r#"%0 "x": f32[N, 3], %1 "y": f32[M, 2]"#, "%9 = concat(%0, %1) {axis = 1} : f32[N, 5]"),
    (
        r#"%0 "x": f32[N, 4]"#,
        "%1 = const f32[1, 1, 4] random(1)\n %2 = reshape(%0) {shape = [N, 1, 4]} : f32[N, 1, 4]\n \
         %9 = concat(%1, %2) {axis = 1} : f32[1, 2, 4]",
    ),
    (r#"%0 "x": f32[3, N], %1 "y": f32[M, 20]"#, "%9 = matmul(%0, %1) : f32[3, 20]"),
];

#[test]
fn what_is_along_free_dims_is_right_at_any_size() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 5, 6, 33, 70]);
    assert!(right > 2000 && wrong > 400, "{right} runs and {wrong} errors");
}
