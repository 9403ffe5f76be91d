//! Products whose rows are free: a tile for every number of rows, blocks of rows, and units of a few rows each.
#![cfg(unix)]

use egret_workspace::free::hold;

const WEIGHTS: &str = "%3 = const f32[37, 50] random(7)\n";

/// Inputs, and nodes that make `%9` of them and of the weights `%3`.
const CASES: &[(&str, &str)] = &[
    (r#"%0 "x": f32[N, 37]"#, "%9 = matmul(%0, %3) : f32[N, 50]"),
    (r#"%0 "x": f32[N, M, 37]"#, "%9 = matmul(%0, %3) : f32[N, M, 50]"),
    (r#"%0 "x": f32[N, 3, 37]"#, "%9 = matmul(%0, %3) : f32[N, 3, 50]"),
    (r#"%0 "x": f32[N, 20, 37]"#, "%9 = matmul(%0, %3) : f32[N, 20, 50]"),
    (r#"%0 "x": f32[2, N, 37]"#, "%9 = matmul(%0, %3) : f32[2, N, 50]"),
    // Operands of the expression on the sums: one for all rows, one a row, one an element; the last may be written in place.
    (
        r#"%0 "x": f32[N, 37], %1 "r": f32[N, 48], %2 "s": f32[N, 1]"#,
        "%4 = const f32[48] random(8)
         %10 = const f32[37, 48] random(7)
         %5 = matmul(%0, %10) : f32[N, 48]
         %6 = add(%5, %4) : f32[N, 48]
         %7 = mul(%6, %2) : f32[N, 48]
         %8 = add(%1, %1) : f32[N, 48]
         %9 = add(%7, %8) : f32[N, 48]",
    ),
    // A part of each unit of another value.
    (
        r#"%0 "x": f32[N, 100]"#,
        "%4 = slice(%0) {sizes = [N, 37], starts = [0, 40], steps = [1, 1]} : f32[N, 37]
         %9 = matmul(%4, %3) : f32[N, 50]",
    ),
    // One row for each of several that are read for it.
    (
        r#"%0 "x": f32[N, 1, 37], %1 "r": f32[N, 4, 50]"#,
        "%5 = matmul(%0, %3) : f32[N, 1, 50]
         %9 = add(%5, %1) : f32[N, 4, 50]",
    ),
    // An expression that tiles do not run, and a result of another type.
    (
        r#"%0 "x": f32[N, 37]"#,
        "%5 = matmul(%0, %3) : f32[N, 50]
         %9 = erf(%5) : f32[N, 50]",
    ),
    (
        r#"%0 "x": f32[N, 37]"#,
        "%5 = matmul(%0, %3) : f32[N, 50]
         %9 = cast(%5) {round = \"nearest\", saturate = 1, to = i32} : i32[N, 50]",
    ),
    // Bytes, in steps of four.
    (
        r#"%0 "x": u8[N, 36]"#,
        "%4 = const i8[36, 50] random(9)
         %9 = matmul(%0, %4) : i32[N, 50]",
    ),
    (
        r#"%0 "x": u8[N, 35]"#,
        "%4 = const i8[35, 50] random(9)
         %9 = matmul(%0, %4) : i32[N, 50]",
    ),
    // The matrix is computed, once for all rows.
    (
        r#"%0 "x": f32[N, 37], %1 "w": f32[37, 50]"#,
        "%5 = add(%1, %3) : f32[37, 50]
         %9 = matmul(%0, %5) : f32[N, 50]",
    ),
];

#[test]
fn rows_are_cut_as_their_number_allows() {
    let cases: Vec<(&str, String)> =
        CASES.iter().map(|(i, nodes)| (*i, format!("{WEIGHTS}{nodes}"))).collect();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(i, nodes)| (*i, nodes.as_str())).collect();
    let [right, wrong] = hold(&cases, &[0, 1, 2, 9, 15, 44, 123]);
    assert!(right > 1000 && wrong == 0, "{right} runs right, {wrong} of sizes");
}
