//! Windows along free dims, and pixels behind constant ones: one compilation, with every buffer at an unmapped page, gives what the
//! interpreter gives, and an error of sizes where that has no value.
#![cfg(unix)]

use egret::{Options, pipeline};
use egret_workspace::free::{graph, hold};
use std::collections::BTreeMap;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    // One tap, with what can be part of the product's kernel.
    (
        r#"%0 "x": f32[N, 3, M, 20]"#,
        "%1 = const f32[24, 20, 1, 1] random(1)\n %2 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_last\", pads = [0, 0, 0, 0], strides = [1, 1]} : f32[N, 3, M, 24]\n \
         %3 = const f32[24] random(2)\n %4 = add(%2, %3) : f32[N, 3, M, 24]\n %7 = const f32[] [0.0]\n %5 = max(%4, %7) : f32[N, 3, M, 24]\n %6 = const f32[18, 24, 1, 1] random(3)\n \
         %9 = conv(%5, %6) {dilations = [1, 1], groups = 1, layout = \"channels_last\", pads = [0, 0, 0, 0], strides = [1, 1]} : f32[N, 3, M, 18]",
    ),
    (
        r#"%0 "x": f32[1, 9, N, 3]"#,
        "%1 = const f32[8, 3, 3, 3] random(1)\n \
         %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_last\", pads = [1, 1, 1, 1], strides = [2, 2]} : f32[1, 5, floordiv(N + 1, 2), 8]",
    ),
    (
        r#"%0 "x": f32[2, 3, N, M]"#,
        "%1 = const f32[5, 3, 3, 3] random(1)\n \
         %9 = conv(%0, %1) {dilations = [2, 1], groups = 1, layout = \"channels_first\", pads = [2, 1, 2, 1], strides = [1, 1]} : f32[2, 5, N, M]",
    ),
    (
        r#"%0 "x": f32[M, 4, N], %1 "w": f32[6, 4, 5]"#,
        "%9 = conv(%0, %1) {dilations = [1], groups = 1, layout = \"channels_first\", pads = [4, 0], strides = [1]} : f32[M, 6, N]",
    ),
    (
        r#"%0 "x": f32[1, 2, 3, N, 2]"#,
        "%1 = const f32[3, 2, 2, 2, 2] random(1)\n \
         %9 = conv(%0, %1) {dilations = [1, 1, 1], groups = 1, layout = \"channels_last\", pads = [0, 0, 1, 0, 1, 0], strides = [1, 1, 1]} : f32[1, 1, 3, N, 3]",
    ),
    // Depthwise.
    (
        r#"%0 "x": f32[N, 7, M, 37]"#,
        "%1 = const f32[37, 1, 3, 3] random(1)\n \
         %9 = conv(%0, %1) {dilations = [1, 1], groups = 37, layout = \"channels_last\", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[N, 7, M, 37]",
    ),
    (
        r#"%0 "x": f32[1, 20, M, N]"#,
        "%1 = const f32[20, 1, 5, 3] random(1)\n \
         %9 = conv(%0, %1) {dilations = [1, 2], groups = 20, layout = \"channels_first\", pads = [2, 2, 2, 2], strides = [2, 1]} : f32[1, 20, floordiv(M + 1, 2), N]",
    ),
    // Pools.
    (
        r#"%0 "x": f32[2, N, 5, 33]"#,
        "%9 = pool(%0) {dilations = [1, 1], high_extra = [0, 0], kernel = [3, 3], kind = \"max\", layout = \"channels_last\", pads = [1, 1, 1, 1], strides = [1, 2]} : f32[2, N, 3, 33]",
    ),
    (
        r#"%0 "x": f32[N, 3, M, 6]"#,
        "%9 = pool(%0) {dilations = [1, 1], high_extra = [0, 0], kernel = [2, 3], kind = \"mean\", layout = \"channels_first\", pads = [0, 1, 1, 1], strides = [1, 1]} : f32[N, 3, M, 6]",
    ),
    (
        r#"%0 "x": f32[3, 2, N]"#,
        "%9 = pool(%0) {dilations = [2], high_extra = [0], kernel = [3], kind = \"sum\", layout = \"channels_first\", pads = [2, 2], strides = [1]} : f32[3, 2, N]",
    ),
    // Around values.
    (
        r#"%0 "x": f32[N, 3, M], %1 "v": f32[]"#,
        "%9 = pad(%0, %1) {high = [0, 2, 1], low = [1, 0, 20], mode = \"constant\"} : f32[N + 1, 5, M + 21]",
    ),
    (
        r#"%0 "x": u8[N], %1 "v": u8[]"#,
        "%9 = pad(%0, %1) {high = [3], low = [N], mode = \"constant\"} : u8[2*N + 3]",
    ),
    // Pixels behind constant dims, with gates of channels, norms and shares.
    (
        r#"%0 "x": f32[N, 4, M, 18], %1 "g": f32[N, 1, 1, 18]"#,
        "%2 = mul(%0, %1) : f32[N, 4, M, 18]\n %3 = layer_norm(%2) {axis = 3, epsilon = 1e-5} : f32[N, 4, M, 18]\n \
         %4 = const f32[18, 20] random(1)\n %5 = matmul(%3, %4) : f32[N, 4, M, 20]\n %6 = softmax(%5) {axis = 3} : f32[N, 4, M, 20]\n \
         %9 = reduce(%6) {axes = [1, 2], keepdims = 0, kind = \"sum\"} : f32[N, 20]",
    ),
    (
        r#"%0 "x": f32[2, M], %1 "y": f32[2, 1]"#,
        "%2 = add(%0, %1) : f32[2, M]\n %3 = exp(%0) : f32[2, M]\n %9 = sub(%2, %3) : f32[2, M]",
    ),
    // Every axis of an image, and one that is no multiple of the stride.
    (
        r#"%0 "x": f32[N, 3, N, M]"#,
        "%1 = const f32[7, 3, 3, 2] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 0, 2, 1], strides = [2, 3]} : f32[N, 7, floordiv(N, 2) + 1, floordiv(M + 2, 3)]",
    ),
    // Windows that are larger than most images.
    (
        r#"%0 "x": f32[2, N, 4]"#,
        "%1 = const f32[3, 4, 5] random(1)\n %9 = conv(%0, %1) {dilations = [2], groups = 1, layout = \"channels_last\", pads = [0, 0], strides = [2]} : f32[2, floordiv(N - 9, 2) + 1, 3]",
    ),
    // One tap, with strides and with pads.
    (
        r#"%0 "x": f32[2, 5, N, M]"#,
        "%1 = const f32[4, 5, 1, 1] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [2, 3]} : f32[2, 4, floordiv(N - 1, 2) + 1, floordiv(M - 1, 3) + 1]",
    ),
    (
        r#"%0 "x": f32[1, N, M, 3]"#,
        "%1 = const f32[4, 3, 1, 1] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_last\", pads = [1, 0, 1, 1], strides = [1, 1]} : f32[1, N + 2, M + 1, 4]",
    ),
    // Half floats are computed as f32.
    (
        r#"%0 "x": f16[1, 4, N, M]"#,
        "%1 = const f16[4, 4, 3, 3] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]} : f16[1, 4, N, M]",
    ),
    // Depthwise along three axes, and beyond every element.
    (
        r#"%0 "x": f32[2, N, 2, M, 5]"#,
        "%1 = const f32[5, 1, 3, 1, 2] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1, 1], groups = 5, layout = \"channels_last\", pads = [3, 0, 1, 3, 0, 1], strides = [1, 1, 1]} : f32[2, N + 4, 2, M + 1, 5]",
    ),
    // Rooms that only let more windows fit, and windows of pads alone.
    (
        r#"%0 "x": f32[N, 3, M, 9]"#,
        "%9 = pool(%0) {dilations = [1, 1], high_extra = [1, 0], kernel = [2, 2], kind = \"max\", layout = \"channels_last\", pads = [0, 1, 0, 1], strides = [2, 2]} : f32[N, 2, floordiv(M, 2) + 1, 9]",
    ),
    (
        r#"%0 "x": f32[1, 17, N]"#,
        "%9 = pool(%0) {dilations = [1], high_extra = [1], kernel = [3], kind = \"mean\", layout = \"channels_first\", pads = [2, 2], strides = [2]} : f32[1, 17, floordiv(N + 2, 2) + 1]",
    ),
    (
        r#"%0 "x": f32[1, N, 2, M, 4]"#,
        "%9 = pool(%0) {dilations = [1, 1, 1], high_extra = [0, 0, 0], kernel = [2, 2, 3], kind = \"sum\", layout = \"channels_last\", pads = [0, 0, 1, 0, 0, 1], strides = [1, 2, 1]} : f32[1, N - 1, 1, M, 4]",
    ),
    (
        r#"%0 "x": f32[1, 3, N, M]"#,
        "%9 = pool(%0) {dilations = [2, 1], high_extra = [0, 0], kernel = [5, 1], kind = \"max\", layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [3, 1]} : f32[1, 3, floordiv(N - 9, 3) + 1, M]",
    ),
    // Around every axis, of elements of any size.
    (
        r#"%0 "x": f64[N, M, 2], %1 "v": f64[]"#,
        "%9 = pad(%0, %1) {high = [0, M, 0], low = [2, N, 3], mode = \"constant\"} : f64[N + 2, 2*M + N, 5]",
    ),
    (
        r#"%0 "x": f16[3, N], %1 "v": f16[]"#,
        "%9 = pad(%0, %1) {high = [1, 40], low = [0, 0], mode = \"constant\"} : f16[4, N + 40]",
    ),
    // A value's own elements around it, also further out than it has elements.
    (
        r#"%0 "x": f32[N, M]"#,
        "%9 = pad(%0, _) {high = [0, 40], low = [0, 3], mode = \"reflect\"} : f32[N, M + 43]",
    ),
    (
        r#"%0 "x": f32[N, 3, M]"#,
        "%9 = pad(%0, _) {high = [1, 4, N], low = [2, 0, 33], mode = \"reflect\"} : f32[N + 3, 7, M + N + 33]",
    ),
    (
        r#"%0 "x": f64[2, N, M, 3]"#,
        "%9 = pad(%0, _) {high = [0, 5, 0, 0], low = [3, M, 0, 0], mode = \"wrap\"} : f64[5, N + M + 5, M, 3]",
    ),
    (
        r#"%0 "x": u8[N, 40]"#,
        "%9 = pad(%0, _) {high = [7, 0], low = [1, 0], mode = \"wrap\"} : u8[N + 8, 40]",
    ),
    (
        r#"%0 "x": f16[M, N, 2]"#,
        "%9 = pad(%0, _) {high = [0, 2, 1], low = [N, 1, 0], mode = \"edge\"} : f16[M + N, N + 3, 3]",
    ),
    // Samples that a network of windows reads.
    (
        r#"%0 "x": f32[N, M]"#,
        "%1 = pad(%0, _) {high = [0, 4], low = [0, 4], mode = \"reflect\"} : f32[N, M + 8]\n %2 = reshape(%1) {shape = [N, 1, M + 8]} : f32[N, 1, M + 8]\n \
         %3 = const f32[6, 1, 8] random(1)\n %9 = conv(%2, %3) {dilations = [1], groups = 1, layout = \"channels_first\", pads = [0, 0], strides = [4]} : f32[N, 6, floordiv(M, 4) + 1]",
    ),
    // Windows of whole strides.
    (
        r#"%0 "x": f32[N, 2, M]"#,
        "%1 = const f32[6, 2, 144] random(1)\n %9 = conv(%0, %1) {dilations = [1], groups = 1, layout = \"channels_first\", pads = [70, 80], strides = [72]} : f32[N, 6, floordiv(M + 6, 72) + 1]",
    ),
    (
        r#"%0 "x": f32[2, N, M, 3]"#,
        "%1 = const f32[5, 3, 2, 6] random(1)\n %9 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_last\", pads = [1, 0, 0, 2], strides = [1, 3]} : f32[2, N, floordiv(M - 4, 3) + 1, 5]",
    ),
    // A small network.
    (
        r#"%0 "x": f32[N, 1, 8, M]"#,
        "%1 = const f32[16, 1, 3, 3] random(1)\n \
         %2 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[N, 16, 8, M]\n \
         %12 = const f32[] [0.0]\n %3 = max(%2, %12) : f32[N, 16, 8, M]\n \
         %4 = pool(%3) {dilations = [1, 1], high_extra = [0, 0], kernel = [2, 1], kind = \"max\", layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [2, 1]} : f32[N, 16, 4, M]\n \
         %5 = const f32[16, 1, 3, 3] random(2)\n \
         %6 = conv(%4, %5) {dilations = [1, 1], groups = 16, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[N, 16, 4, M]\n \
         %7 = add(%6, %4) : f32[N, 16, 4, M]\n %8 = reduce(%7) {axes = [2], keepdims = 0, kind = \"sum\"} : f32[N, 16, M]\n \
         %10 = transpose(%8) {perm = [0, 2, 1]} : f32[N, M, 16]\n %11 = const f32[16, 20] random(3)\n %9 = matmul(%10, %11) : f32[N, M, 20]",
    ),
];

#[test]
fn images_of_any_size_are_right() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 5, 17, 34]);
    assert!(right > 1000 && wrong > 10, "{right} runs and {wrong} errors");
}

/// What has no kernel along free dims is refused when it is compiled, by name.
#[test]
fn means_of_integers_are_refused() {
    let node = "%9 = pool(%0) {dilations = [1, 1], high_extra = [0, 0], kernel = [2, 1], kind = \"mean\", layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [1, 1]}";
    let graph = graph((r#"%0 "x": i32[1, 4, N, M]"#, node));
    let refused = pipeline::lower(graph, &Options::default(), &BTreeMap::new());
    let said = refused.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(said.contains("(pool)") && said.contains("--dim N=N"), "{said}");
}
