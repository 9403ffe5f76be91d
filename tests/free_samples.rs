//! Images along free dims that are read between their elements, and what is sorted, reversed or counted along them: one compilation, with
//! every buffer at an unmapped page, gives what the interpreter gives, and an error of sizes where that has no value.
#![cfg(unix)]

use egret_workspace::free::hold;

/// Dims, scales and sizes of resizes: by sizes alone, and by scales.
const RESIZED: &[(&str, &str, &str)] = &[
    ("N", "0.0", "M"),
    ("3, N", "1.0, 0.0", "3, M"),
    ("N, 20", "0.0, 1.0", "M, 20"),
    ("2, N, M", "1.0, 1.75, 0.5", "2, floordiv(7*N, 4), floordiv(M, 2)"),
    ("N, M", "0.0, 0.6", "5, floordiv(3*M, 5)"),
];

/// Modes, whether neighbours are smoothed, and whether those outside are left out.
const MODES: [(&str, i64, i64); 7] = [
    ("nearest", 0, 0),
    ("linear", 0, 0),
    ("linear", 1, 0),
    ("linear", 0, 1),
    ("cubic", 0, 0),
    ("cubic", 1, 0),
    ("cubic", 1, 1),
];

const COORDINATES: [&str; 6] = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
];

#[test]
fn resizes_are_right_at_any_size() {
    let mut cases = vec![];
    for (i, (mode, antialias, exclude)) in MODES.into_iter().enumerate() {
        for (j, coordinate) in COORDINATES.into_iter().enumerate() {
            // Each mode and coordinate meets two of the shapes, and one way to round.
            for (dims, scales, sizes) in [0, 2].map(|more| RESIZED[(i + j + more) % RESIZED.len()]) {
                let dtype = match mode {
                    "nearest" => ["f32", "i64", "u8"][j % 3],
                    _ => ["f32", "f64", "f16"][(i + j) % 3],
                };
                let nearest = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][(i + j) % 4];
                let rank = dims.split(", ").count();
                let (roi, region) = match coordinate {
                    "tf_crop_and_resize" => {
                        let roi: Vec<&str> =
                            (0..2 * rank).map(|i| if i < rank { "0.25" } else { "1.125" }).collect();
                        ("%5", format!("%5 = const f32[{}] [{}]\n ", 2 * rank, roi.join(", ")))
                    }
                    _ => ("_", String::new()),
                };
                let node = format!(
                    "{region}%9 = resize(%0, {roi}) {{antialias = {antialias}, coordinate = \"{coordinate}\", cubic_a = -0.75, \
                     exclude_outside = {exclude}, extrapolation = 7.0, mode = \"{mode}\", nearest = \"{nearest}\", \
                     scales = [{scales}], sizes = [{sizes}]}} : {dtype}[{sizes}]"
                );
                let beside = if dims.contains('M') { "" } else { ", %1 \"y\": f32[M]" };
                cases.push((format!("%0 \"x\": {dtype}[{dims}]{beside}"), node));
            }
        }
    }
    let cases: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let [right, wrong] = hold(&cases, &[0, 1, 3, 8]);
    assert!(right > 4000 && wrong > 100, "{right} runs and {wrong} errors");
}

/// A grid that reaches beyond the image: twice the numbers of an input.
const GRIDS: &[(&str, &str)] = &[
    ("%0 \"x\": f32[2, 3, N, M], %1 \"g\": f32[2, M, N, 2]", "f32[2, 3, M, N]"),
    ("%0 \"x\": f64[N, 1, M, 4], %1 \"g\": f64[N, 5, M, 2]", "f64[N, 1, 5, M]"),
    ("%0 \"x\": f32[1, N, M], %1 \"g\": f32[1, 70, 1]", "f32[1, N, 70]"),
    ("%0 \"x\": f16[1, 2, N, M, 3], %1 \"g\": f16[1, M, 2, 2, 3]", "f16[1, 2, M, 2, 2]"),
];

#[test]
fn grids_are_right_at_any_size() {
    let mut cases = vec![];
    for (i, mode) in ["nearest", "linear", "cubic"].into_iter().enumerate() {
        for (j, padding) in ["zeros", "border", "reflection"].into_iter().enumerate() {
            for align in [0, 1] {
                let (ports, result) = GRIDS[(i + j + align) % GRIDS.len()];
                // 64 elements of f16 that are summed one after the other are no test of where they are.
                let (ports, result) =
                    if mode == "cubic" { GRIDS[(j + align) % 3] } else { (ports, result) };
                let grid = ports.split("\"g\": ").nth(1).expect("a grid");
                let nodes = format!(
                    "%2 = add(%1, %1) : {grid}\n %9 = grid_sample(%0, %2) {{align_corners = {align}, mode = \"{mode}\", \
                     padding = \"{padding}\"}} : {result}"
                );
                cases.push((ports, nodes));
            }
        }
    }
    let cases: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (*a, b.as_str())).collect();
    let [right, wrong] = hold(&cases, &[0, 1, 2, 7]);
    assert!(right > 800 && wrong > 300, "{right} runs and {wrong} errors");
}

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    // The largest, the smallest and all; of rows of any stride.
    (r#"%0 "x": f32[N, M]"#, "%9, %8 = top_k(%0) {axis = 1, k = 2, largest = 1} : f32[N, 2], i64[N, 2]"),
    (r#"%0 "x": f32[N, M]"#, "%8, %9 = top_k(%0) {axis = 0, k = N, largest = 0} : f32[N, M], i64[N, M]"),
    (
        r#"%0 "x": i32[2, N, M]"#,
        "%8, %9 = top_k(%0) {axis = 2, k = floordiv(M, 2), largest = 1} : i32[2, N, floordiv(M, 2)], i64[2, N, floordiv(M, 2)]",
    ),
    (
        r#"%0 "x": f16[3, N, M]"#,
        "%9, %8 = top_k(%0) {axis = 1, k = 3, largest = 0} : f16[3, 3, M], i64[3, 3, M]",
    ),
    (
        r#"%0 "x": u8[N], %1 "y": u8[M]"#,
        "%8, %9 = top_k(%0) {axis = 0, k = M, largest = 1} : u8[M], i64[M]",
    ),
    // Sequences.
    (
        r#"%0 "x": f32[4, N, M]"#,
        "%1 = const i64[1] [3]\n %2 = broadcast(%1) {shape = [N]} : i64[N]\n \
         %9 = reverse_sequence(%0, %2) {batch_axis = 1, time_axis = 0} : f32[4, N, M]",
    ),
    (
        r#"%0 "x": u8[M, N]"#,
        "%1 = iota() {axis = 0, shape = [N], to = i64} : i64[N]\n \
         %9 = reverse_sequence(%0, %1) {batch_axis = 0, time_axis = 1} : u8[M, N]",
    ),
    (
        r#"%0 "x": f16[N, N, M]"#,
        "%1 = iota() {axis = 0, shape = [N], to = i64} : i64[N]\n \
         %9 = reverse_sequence(%0, %1) {batch_axis = 1, time_axis = 0} : f16[N, N, M]",
    ),
    // Matrices that a run says are square.
    (r#"%0 "x": f64[M, N, N]"#, "%9 = det(%0) : f64[M]"),
    (r#"%0 "x": f64[M, N]"#, "%9 = det(%0) : f64[]"),
    // Tokens 0 to 3.
    (
        r#"%0 "x": i64[M, N]"#,
        "%1 = const i64[] [50]\n %2 = div(%0, %1) : i64[M, N]\n \
         %9 = tfidf(%2) {counts = [0, 2], indexes = [2, 0, 1, 3], max_gram = 2, max_skip = 3, min_gram = 1, mode = \"TFIDF\", \
         pool_ints = [1, 2, 0, 1, 3, 3], pool_strings = [], weights = [1.0, 2.0, 0.5, 3.0]} : f32[M, 4]",
    ),
    (
        r#"%0 "x": i32[N], %1 "y": i32[M]"#,
        "%2 = const i32[] [50]\n %3 = div(%0, %2) : i32[N]\n \
         %9 = tfidf(%3) {counts = [0, 2], indexes = [2, 0, 1, 3], max_gram = 2, max_skip = 100, min_gram = 2, mode = \"IDF\", \
         pool_ints = [1, 2, 0, 1, 3, 3], pool_strings = [], weights = []} : f32[4]",
    ),
    // Pairs that stand side by side or half the axis apart; angles that are the same for some.
    (
        r#"%0 "x": f32[2, N, M, 8], %1 "c": f32[M, 8], %2 "s": f32[M, 8]"#,
        "%9 = rotary(%0, %1, %2) {interleaved = 0} : f32[2, N, M, 8]",
    ),
    (
        r#"%0 "x": f64[N, M], %1 "c": f64[M], %2 "s": f64[N, 1]"#,
        "%9 = rotary(%0, %1, %2) {interleaved = 1} : f64[N, M]",
    ),
    (
        r#"%0 "x": f16[3, M, N], %1 "c": f16[3, 1, N], %2 "s": f16[M, N]"#,
        "%9 = rotary(%0, %1, %2) {interleaved = 0} : f16[3, M, N]",
    ),
    // Numbers that a seed makes.
    (
        r#"%0 "x": f32[N, M]"#,
        "%1 = random_uniform() {high = 3.0, low = -1.0, seed = 7.0, shape = [N, M], to = f32} : f32[N, M]\n \
         %9 = add(%0, %1) : f32[N, M]",
    ),
    (
        r#"%0 "x": f64[N], %1 "y": f32[M]"#,
        "%9 = random_uniform() {high = 1.0, low = 0.0, seed = 0.5, shape = [M, 7, N], to = f64} : f64[M, 7, N]",
    ),
    (r#"%0 "x": f32[3, N], %1 "y": f32[M]"#, "%9 = bit_cast(%0) {to = i32} : i32[3, N]"),
    // Trees that ask for two features.
    (
        r#"%0 "x": f32[N, M]"#,
        "%9 = tree_ensemble(%0) {aggregate = 1, leaf_targetids = [0, 1, 0], leaf_weights = f32[3] [1.0, 2.0, 4.0], \
         membership_values = f32[0] [], n_targets = 2, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], \
         nodes_featureids = [0, 1], nodes_missing = [], nodes_modes = u8[2] [0, 0], nodes_splits = f32[2] [0.25, 0.0], \
         nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 0, tree_roots = [0, 1]} : f32[N, 2]",
    ),
    // Regions of one image.
    (
        r#"%0 "x": f32[2, 3, N, M], %1 "r": f32[M, 4]"#,
        "%2 = const i64[1] [1]\n %3 = broadcast(%2) {shape = [M]} : i64[M]\n \
         %9 = roi_align(%0, %1, %3) {half_pixel = 1, mode = \"avg\", output_height = 2, output_width = 3, sampling_ratio = 2, \
         spatial_scale = 4.0} : f32[M, 3, 2, 3]",
    ),
    (
        r#"%0 "x": f64[1, N, 5, M], %1 "r": f64[3, 4]"#,
        "%2 = const i64[3] [0, -1, 0]\n %3 = const f64[] [1.0]\n %4 = max(%1, %3) : f64[3, 4]\n %6 = const f64[] [4.0]\n \
         %5 = min(%4, %6) : f64[3, 4]\n \
         %9 = roi_align(%0, %5, %2) {half_pixel = 0, mode = \"max\", output_height = 1, output_width = 2, sampling_ratio = 0, \
         spatial_scale = 2.0} : f64[3, N, 1, 2]",
    ),
];

#[test]
fn what_is_sampled_along_free_dims_is_right_at_any_size() {
    let [right, wrong] = hold(CASES, &[0, 1, 2, 4, 9, 70]);
    assert!(right > 2000 && wrong > 300, "{right} runs and {wrong} errors");
}
