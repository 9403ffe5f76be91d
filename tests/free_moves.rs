//! Transposes along free dims: one compilation, with every buffer at an unmapped page, gives what the interpreter gives, whether there is room
//! for a block of elements, for several and a rest, or for none.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    // The last axis becomes another one.
    (r#"%0 "x": f32[N, M]"#, "%9 = transpose(%0) {perm = [1, 0]} : f32[M, N]"),
    (r#"%0 "x": u8[N, M]"#, "%9 = transpose(%0) {perm = [1, 0]} : u8[M, N]"),
    (r#"%0 "x": f16[3, N, M]"#, "%9 = transpose(%0) {perm = [0, 2, 1]} : f16[3, M, N]"),
    (r#"%0 "x": i64[N, 2, M]"#, "%9 = transpose(%0) {perm = [2, 1, 0]} : i64[M, 2, N]"),
    (r#"%0 "x": bool[N, 2, M]"#, "%9 = transpose(%0) {perm = [2, 0, 1]} : bool[M, N, 2]"),
    // Axes that are constant, and more than a block of them.
    (r#"%0 "x": f32[N, 37, M]"#, "%9 = transpose(%0) {perm = [0, 2, 1]} : f32[N, M, 37]"),
    (r#"%0 "x": f32[M, N, 20]"#, "%9 = transpose(%0) {perm = [2, 0, 1]} : f32[20, M, N]"),
    (r#"%0 "x": i32[N, 9, 5, M]"#, "%9 = transpose(%0) {perm = [3, 1, 0, 2]} : i32[M, 9, N, 5]"),
    // Rows of a few elements.
    (r#"%0 "x": f32[2, 3, N, M]"#, "%9 = transpose(%0) {perm = [0, 2, 3, 1]} : f32[2, N, M, 3]"),
    (r#"%0 "x": f64[N, 3, M]"#, "%9 = transpose(%0) {perm = [0, 2, 1]} : f64[N, M, 3]"),
    (r#"%0 "x": i16[4, N, M]"#, "%9 = transpose(%0) {perm = [1, 2, 0]} : i16[N, M, 4]"),
    (r#"%0 "x": f64[8, M, N]"#, "%9 = transpose(%0) {perm = [1, 2, 0]} : f64[M, N, 8]"),
    (r#"%0 "x": f32[8, M, N]"#, "%9 = transpose(%0) {perm = [2, 1, 0]} : f32[N, M, 8]"),
    (
        r#"%0 "x": f32[N, 2, 2, 3, M, 5]"#,
        "%9 = transpose(%0) {perm = [0, 3, 4, 1, 5, 2]} : f32[N, 3, M, 2, 5, 2]",
    ),
    (r#"%0 "x": u8[3, 2, 2, N, M]"#, "%9 = transpose(%0) {perm = [0, 3, 1, 4, 2]} : u8[3, N, 2, M, 2]"),
    // Rows that stay.
    (r#"%0 "x": f32[N, M, 3, 64]"#, "%9 = transpose(%0) {perm = [0, 2, 1, 3]} : f32[N, 3, M, 64]"),
    (r#"%0 "x": f16[N, 3, M]"#, "%9 = transpose(%0) {perm = [1, 0, 2]} : f16[3, N, M]"),
    (r#"%0 "x": i64[N, M, 2, 5]"#, "%9 = transpose(%0) {perm = [1, 0, 2, 3]} : i64[M, N, 2, 5]"),
    (r#"%0 "x": u8[2, N, M, 1]"#, "%9 = transpose(%0) {perm = [1, 3, 0, 2]} : u8[N, 1, 2, M]"),
];

#[test]
fn transposes_are_right_at_any_size() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 3, 7, 16, 29, 70]);
    assert!(wrong == 0 && right >= CASES.len() * 64 * 4, "{right} runs and {wrong} errors");
}

#[test]
fn transposes_of_many_parts_are_right() {
    // Several tasks, of which the last one has more than the others, and parts of more columns.
    let cases = [
        (r#"%0 "x": f32[2100, N]"#, "%9 = transpose(%0) {perm = [1, 0]} : f32[N, 2100]"),
        (r#"%0 "x": f32[N, 2100]"#, "%9 = transpose(%0) {perm = [1, 0]} : f32[2100, N]"),
        (r#"%0 "x": u8[3, N, 2100]"#, "%9 = transpose(%0) {perm = [1, 2, 0]} : u8[N, 2100, 3]"),
        (r#"%0 "x": f32[4, N, 2100]"#, "%9 = transpose(%0) {perm = [1, 2, 0]} : f32[N, 2100, 4]"),
        (r#"%0 "x": f32[N, 3, 2100]"#, "%9 = transpose(%0) {perm = [0, 2, 1]} : f32[N, 2100, 3]"),
        (r#"%0 "x": i64[2100, 2, N]"#, "%9 = transpose(%0) {perm = [1, 0, 2]} : i64[2, 2100, N]"),
        // Elements of a long row, and of one that a run may repeat.
        (r#"%0 "x": f32[N, 9001]"#, "%9 = neg(%0) : f32[N, 9001]"),
        (r#"%0 "x": f32[5, 2, 901, N], %1 "y": f32[5, 1, 901, 1]"#, "%9 = add(%0, %1) : f32[5, 2, 901, N]"),
        (
            r#"%0 "x": f32[N, 90, 90, 3]"#,
            "%9 = slice(%0) {sizes = [N, 45, 88, 3], starts = [0, 1, 2, 0], steps = [1, 2, 1, 1]} : f32[N, 45, 88, 3]",
        ),
    ];
    let [right, wrong] = hold(&cases, &[1, 35]);
    assert!(wrong == 0 && right > 0, "{right} runs and {wrong} errors");
}
