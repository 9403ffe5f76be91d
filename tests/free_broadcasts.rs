//! Free dims that only may be equal: `x: f32[N, 3]` plus `y: f32[M, 3]` has a value where N = M, N = 1 or M = 1. One compilation, with every
//! buffer at an unmapped page, gives what the interpreter gives at such sizes, and an error of sizes at all others.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    (r#"%0 "x": f32[N, 3], %1 "y": f32[M, 3]"#, "%9 = add(%0, %1) : f32[broadcast(M, N), 3]"),
    // A constant dim decides.
    (r#"%0 "x": f32[5, N], %1 "y": f32[M]"#, "%9 = sub(%0, %1) : f32[5, broadcast(M, N)]"),
    (r#"%0 "x": f32[N, M], %1 "y": f32[N, 5]"#, "%9 = mul(%0, %1) : f32[N, 5]"),
    (r#"%0 "x": f32[N], %1 "y": f32[5]"#, "%9 = div(%0, %1) : f32[5]"),
    // Rows of vectors and a rest.
    (r#"%0 "x": f32[2, N, M], %1 "y": f32[N, 70]"#, "%9 = max(%0, %1) : f32[2, N, 70]"),
    (
        r#"%0 "x": i64[N, M], %1 "y": i64[M, N]"#,
        "%9 = less(%0, %1) : bool[broadcast(M, N), broadcast(M, N)]",
    ),
    (r#"%0 "x": u8[N, 1, M], %1 "y": u8[M, N]"#, "%9 = bit_and(%0, %1) : u8[N, M, broadcast(M, N)]"),
    (r#"%0 "x": f16[M, N], %1 "y": f16[N, N]"#, "%9 = add(%0, %1) : f16[broadcast(M, N), N]"),
    // Three operands, and a value that is used on.
    (
        r#"%0 "x": bool[N], %1 "y": f32[M], %2 "z": f32[3, 5]"#,
        "%3 = where(%0, %1, %2) : f32[3, 5]\n %9 = softmax(%3) {axis = 1} : f32[3, 5]",
    ),
    (
        r#"%0 "x": f32[N, 4], %1 "y": f32[M, 1]"#,
        "%3 = add(%0, %1) : f32[broadcast(M, N), 4]\n %4 = const f32[4, 20] random(1)\n \
         %5 = matmul(%3, %4) : f32[broadcast(M, N), 20]\n %9 = tanh(%5) : f32[broadcast(M, N), 20]",
    ),
    // Batches of products.
    (r#"%0 "x": f32[N, 3, 4], %1 "y": f32[M, 4, 18]"#, "%9 = matmul(%0, %1) : f32[broadcast(M, N), 3, 18]"),
    // What is the same in every unit, whose dim has to broadcast all the same.
    (
        r#"%0 "x": f32[N, 3], %1 "y": f32[M, 3]"#,
        "%2 = const f32[1, 3] random(1)\n %3 = broadcast(%2) {shape = [N, 3]} : f32[N, 3]\n %9 = add(%3, %1) : f32[broadcast(M, N), 3]",
    ),
    // By itself.
    (r#"%0 "x": f32[N, 3], %1 "y": f32[M]"#, "%9 = broadcast(%0) {shape = [M, 3]} : f32[M, 3]"),
    (r#"%0 "x": f32[M, N]"#, "%9 = broadcast(%0) {shape = [70, 2]} : f32[70, 2]"),
    (r#"%0 "x": i64[N, 1, 5]"#, "%9 = broadcast(%0) {shape = [2, 33, 70, 5]} : i64[2, 33, 70, 5]"),
    // Sums of dims.
    (
        r#"%0 "x": f32[N + M, 2], %1 "y": f32[N, 2], %2 "z": f32[M, 2]"#,
        "%9 = add(%0, %1) : f32[broadcast(M + N, N), 2]",
    ),
];

#[test]
fn sizes_that_broadcast_are_right_and_others_are_errors() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 5, 33, 70]);
    assert!(right > 400 && wrong > 400, "{right} runs and {wrong} errors");
}
