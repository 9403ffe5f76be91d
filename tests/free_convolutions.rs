//! Convolutions, transposed ones, pools and blocks with any dim free, of any layout, groups and numbers: one compilation, with every
//! buffer at an unmapped page, gives what the interpreter gives, and an error of sizes where that has no value.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Attributes of a convolution.
fn conv(groups: i64, layout: &str, [strides, dilations, pads]: [&str; 3]) -> String {
    format!(
        "{{dilations = [{dilations}], groups = {groups}, layout = \"channels_{layout}\", pads = [{pads}], strides = [{strides}]}}"
    )
}

/// The same of a transposed one.
fn transposed(groups: i64, layout: &str, walk: [&str; 3], extra: &str) -> String {
    conv(groups, layout, walk).replace("pads", &format!("output_padding = [{extra}], pads"))
}

/// Attributes of a pool.
fn pool(
    kind: &str,
    layout: &str,
    kernel: &str,
    extra: &str,
    [strides, dilations, pads]: [&str; 3],
) -> String {
    format!(
        "{{dilations = [{dilations}], high_extra = [{extra}], kernel = [{kernel}], kind = \"{kind}\", layout = \"channels_{layout}\", pads = [{pads}], strides = [{strides}]}}"
    )
}

fn all_right(cases: &[(&str, String)], sizes: &[i64], least: [usize; 2]) {
    let cases: Vec<(&str, &str)> = cases.iter().map(|(inputs, nodes)| (*inputs, nodes.as_str())).collect();
    let [right, wrong] = hold(&cases, sizes);
    println!("{right} runs and {wrong} errors");
    assert!(right >= least[0] && wrong >= least[1], "{right} runs and {wrong} errors");
}

const SIZES: &[i64] = &[0, 1, 2, 5, 17];

#[test]
fn convolutions_of_weights_that_are_inputs() {
    let of = |attrs: String| format!("%9 = conv(%0, %1) {attrs}");
    let cases = [
        (
            r#"%0 "x": f32[N, 4, M, 9], %1 "w": f32[6, 2, N, 3]"#,
            of(conv(2, "first", ["1, 2", "1, 1", "2, 1, 0, 1"])),
        ),
        (r#"%0 "x": f32[2, M, N], %1 "w": f32[5, M, 3]"#, of(conv(1, "first", ["2", "1", "1, 2"]))),
        (
            r#"%0 "x": f32[N, M, 5, 6], %1 "w": f32[4, 3, 2, 2]"#,
            of(conv(2, "last", ["1, 1", "1, 2", "1, 0, 0, 1"])),
        ),
        (r#"%0 "x": f32[1, 3, N], %1 "w": f32[N, 3, M]"#, of(conv(1, "first", ["1", "2", "3, 3"]))),
        (
            r#"%0 "x": f32[M, 2, 3, N, 4], %1 "w": f32[3, 2, 2, 3, 3]"#,
            of(conv(1, "first", ["1, 1, 2", "1, 2, 1", "1, 2, 1, 0, 2, 1"])),
        ),
        // Groups that may not divide the filters.
        (r#"%0 "x": f32[1, 2, N], %1 "w": f32[M, 1, 2]"#, of(conv(2, "first", ["1", "1", "0, 0"]))),
        (r#"%0 "x": f64[1, 4, N], %1 "w": f64[M, 4, 3]"#, of(conv(1, "first", ["1", "1", "1, 1"]))),
        (r#"%0 "x": u8[N, 2, M], %1 "w": i8[3, 2, 4]"#, of(conv(1, "first", ["1", "1", "3, 2"]))),
        (r#"%0 "x": i8[N, M, 4], %1 "w": i8[6, 2, 2]"#, of(conv(2, "last", ["1", "1", "1, 0"]))),
        (r#"%0 "x": i64[1, 2, N], %1 "w": i64[3, 2, M]"#, of(conv(1, "first", ["3", "1", "4, 4"]))),
        (
            r#"%0 "x": i16[1, 2, N, M], %1 "w": i16[2, 2, 2, 2]"#,
            of(conv(1, "first", ["1, 1", "1, 1", "0, 0, 0, 0"])),
        ),
        (
            r#"%0 "x": f16[1, 2, N, M], %1 "w": f16[4, 1, 2, 2]"#,
            of(conv(2, "first", ["1, 1", "1, 1", "1, 1, 1, 1"])),
        ),
        (r#"%0 "x": f32[N, M], %1 "w": f32[3, M]"#, of(conv(1, "first", ["", "", ""]))),
    ];
    all_right(&cases, SIZES, [800, 100]);
    // Channels that are not those of the filters.
    let channels =
        (r#"%0 "x": f32[1, N, 5], %1 "w": f32[4, M, 2]"#, of(conv(2, "first", ["1", "1", "0, 0"])));
    all_right(&[channels], &[1, 2, 4, 8, 16], [20, 100]);
}

#[test]
fn convolutions_of_known_weights() {
    let of = |weights: &str, attrs: String| format!("%1 = const {weights}\n %9 = conv(%0, %1) {attrs}");
    let same = ["1, 1", "1, 1", "1, 1, 1, 1"];
    let cases = [
        (r#"%0 "x": f32[1, 6, N, M]"#, of("f32[8, 3, 3, 3] random(1)", conv(2, "first", same))),
        (r#"%0 "x": f32[1, N, M, 8]"#, of("f32[40, 4, 3, 3] random(1)", conv(2, "last", same))),
        (
            r#"%0 "x": f32[N, 2, M]"#,
            of("f32[2, 1, 3] [1.0, inf, 0.5, -inf, 0.0, 2.0]", conv(2, "first", ["1", "1", "2, 1"])),
        ),
        (
            r#"%0 "x": f32[N, M, 2]"#,
            of("f32[2, 1, 3] [1.0, inf, 0.5, -inf, 0.0, 2.0]", conv(2, "last", ["2", "1", "2, 1"])),
        ),
        (r#"%0 "x": f64[1, 3, N, M]"#, of("f64[4, 3, 2, 2] random(1)", conv(1, "first", same))),
        (r#"%0 "x": f64[1, N, M, 3]"#, of("f64[11, 3, 2, 2] random(1)", conv(1, "last", same))),
        (
            r#"%0 "x": f32[1, 1, N, M]"#,
            of("f32[3, 1, 1, 129] random(1)", conv(1, "first", ["1, 1", "1, 1", "0, 128, 0, 5"])),
        ),
        (
            r#"%0 "x": i32[M, N, 2]"#,
            of(
                "i32[5, 2, 2] [1, 2, 3, -4, 5, 6, 7, 8, 9, -1, 1, 1, 2, 2, 2, 2, 3, 1, 2, 3]",
                conv(1, "last", ["1", "1", "1, 1"]),
            ),
        ),
    ];
    all_right(&cases, SIZES, [600, 10]);
    // Rows of several vectors.
    all_right(&cases[..4], &[3, 70, 131], [150, 0]);
}

#[test]
fn transposed_convolutions() {
    let of = |attrs: String| format!("%9 = conv_transpose(%0, %1) {attrs}");
    let known = |weights: &str, attrs: String| format!("%1 = const {weights}\n {}", of(attrs));
    let cases = [
        (
            r#"%0 "x": f32[N, 3, M], %1 "w": f32[3, 2, 4]"#,
            of(transposed(1, "first", ["2", "1", "1, 1"], "1")),
        ),
        (
            r#"%0 "x": f32[1, 4, N, M], %1 "w": f32[4, 3, N, 2]"#,
            of(transposed(2, "first", ["1, 1", "1, 2", "0, 1, 1, 0"], "0, 0")),
        ),
        (
            r#"%0 "x": f32[2, N, M, 4]"#,
            known(
                "f32[4, 20, 3, 2] random(1)",
                transposed(1, "last", ["1, 3", "1, 1", "1, 0, 1, 0"], "0, 2"),
            ),
        ),
        (
            r#"%0 "x": f32[2, N, M, 4]"#,
            known(
                "f32[4, 18, 2, 2] random(1)",
                transposed(2, "last", ["2, 2", "1, 1", "0, 0, 0, 0"], "0, 0"),
            ),
        ),
        (
            r#"%0 "x": f64[1, M, N], %1 "w": f64[M, 2, 3]"#,
            of(transposed(1, "first", ["2", "2", "2, 1"], "0")),
        ),
        (
            r#"%0 "x": i32[1, 2, N, M], %1 "w": i32[2, 1, 2, 3]"#,
            of(transposed(2, "first", ["2, 1", "1, 1", "0, 0, 0, 0"], "1, 0")),
        ),
        (
            r#"%0 "x": f32[1, 2, N, M], %1 "w": f32[2, 1, 2, 3]"#,
            of(transposed(1, "first", ["3, 1", "1, 1", "-1, 2, 0, -2"], "0, 0")),
        ),
        (
            r#"%0 "x": f16[1, 2, N], %1 "w": f16[2, 2, M]"#,
            of(transposed(1, "first", ["1", "1", "0, 0"], "0")),
        ),
        // A filter of its own for each channel, which is no depthwise convolution.
        (
            r#"%0 "x": f32[1, M, 6]"#,
            known("f32[6, 1, 3] random(2)", transposed(6, "last", ["2", "1", "1, 0"], "1")),
        ),
    ];
    all_right(&cases, SIZES, [700, 20]);
    all_right(&cases[1..2], &[3, 70, 131], [40, 0]);
}

#[test]
fn pools_of_any_numbers() {
    let of = |attrs: String| format!("%9 = pool(%0) {attrs}");
    let (both, row) = (["1, 2", "1, 1", "1, 0, 0, 1"], ["1", "2", "2, 2"]);
    let cases = [
        (r#"%0 "x": u8[N, 2, M, 5]"#, of(pool("max", "first", "2, 2", "0, 0", both))),
        (r#"%0 "x": i8[2, M, N]"#, of(pool("max", "last", "3", "0", row))),
        (r#"%0 "x": i64[N, 1, M, 3]"#, of(pool("sum", "last", "2, 2", "0, 1", both))),
        (r#"%0 "x": i32[1, N, M]"#, of(pool("max", "first", "3", "0", row))),
        (r#"%0 "x": f64[2, N, M]"#, of(pool("mean", "first", "3", "0", row))),
        (r#"%0 "x": f64[N, 4, M, 7]"#, of(pool("max", "last", "2, 2", "1, 0", both))),
        (
            r#"%0 "x": f64[1, 2, 3, N, M]"#,
            of(pool("sum", "first", "2, 1, 3", "0, 0, 0", ["1, 1, 1", "1, 1, 1", "0, 0, 1, 0, 0, 1"])),
        ),
        (r#"%0 "x": f16[1, 2, N, M]"#, of(pool("max", "first", "2, 3", "0, 0", both))),
        (r#"%0 "x": bf16[1, N, M]"#, of(pool("mean", "first", "3", "0", row))),
        (r#"%0 "x": f8e4m3fn[1, N, M]"#, of(pool("max", "first", "3", "0", row))),
    ];
    all_right(&cases, SIZES, [900, 50]);
    all_right(&cases[3..5], &[3, 70, 131], [80, 0]);
}

#[test]
fn places_of_the_largest() {
    let attrs = |kernel: &str, column_major: i64, [strides, dilations, pads]: [&str; 3], extra: &str| {
        format!(
            "{{column_major = {column_major}, dilations = [{dilations}], high_extra = [{extra}], kernel = [{kernel}], pads = [{pads}], strides = [{strides}]}}"
        )
    };
    let places = |attrs: String| format!("%8, %9 = max_pool_indices(%0) {attrs}");
    let values = |attrs: String| format!("%9, %8 = max_pool_indices(%0) {attrs}");
    let plane = ["1, 2", "1, 1", "1, 0, 0, 1"];
    let cases = [
        (r#"%0 "x": f32[N, 2, M, 5]"#, places(attrs("2, 2", 0, plane, "0, 0"))),
        (r#"%0 "x": f32[N, 2, M, 5]"#, values(attrs("2, 2", 0, plane, "0, 0"))),
        (r#"%0 "x": u8[1, 2, N, M]"#, places(attrs("2, 3", 1, ["2, 1", "1, 2", "0, 1, 0, 1"], "0, 0"))),
        (r#"%0 "x": f64[1, N, M]"#, places(attrs("3", 0, ["1", "1", "1, 1"], "0"))),
        (
            r#"%0 "x": f16[1, N, 3, 3, M]"#,
            places(attrs("2, 2, 2", 1, ["1, 1, 1", "1, 1, 1", "0, 0, 0, 0, 0, 0"], "0, 0, 0")),
        ),
    ];
    all_right(&cases, &[1, 2, 5, 17], [300, 50]);
}

#[test]
fn blocks_of_an_image() {
    let attrs = |image: &str, block: &str, [strides, dilations, pads]: [&str; 3]| {
        format!(
            "%9 = col2im(%0) {{block_shape = [{block}], dilations = [{dilations}], image_shape = [{image}], pads = [{pads}], strides = [{strides}]}}"
        )
    };
    let cases = [
        (r#"%0 "x": f32[M, N, 16]"#, attrs("5, 5", "2, 2", ["1, 1", "1, 1", "0, 0, 0, 0"])),
        (r#"%0 "x": f64[M, N, 15]"#, attrs("5, 6", "2, 2", ["2, 1", "2, 1", "1, 0, 1, 0"])),
        (r#"%0 "x": f32[M, N, 3]"#, attrs("9", "4", ["3", "1", "1, 2"])),
    ];
    all_right(&cases, &[1, 3, 4, 8, 20], [150, 100]);
}

#[test]
fn convolutions_of_points() {
    let attrs = |groups: i64, offset_groups: i64| {
        format!(
            "{{dilations = [1, 1], groups = {groups}, offset_groups = {offset_groups}, pads = [1, 0, 1, 1], strides = [1, 2]}}"
        )
    };
    let cases = [
        (
            r#"%0 "x": f32[M, 4, 3, 4], %1 "w": f32[N, 2, 2, 2], %2 "o": f32[M, 16, 4, 2], %3 "m": f32[M, 8, 4, 2]"#,
            format!("%9 = deform_conv(%0, %1, %2, %3) {}", attrs(2, 2)),
        ),
        (
            r#"%0 "x": f32[1, N, 3, 4], %1 "w": f32[3, N, 2, 2], %2 "o": f32[1, 8, 4, M]"#,
            format!("%9 = deform_conv(%0, %1, %2, _) {}", attrs(1, 1)),
        ),
        (
            r#"%0 "x": f64[1, 2, N, M], %1 "w": f64[3, 2, 2, 2], %2 "o": f64[1, 8, N + 1, floordiv(M - 1, 2) + 1]"#,
            format!("%9 = deform_conv(%0, %1, %2, _) {}", attrs(1, 1)),
        ),
    ];
    all_right(&cases, &[1, 2, 4, 5], [100, 100]);
}
