//! Models in which data decides dims: compiled once and run on data that decides differently, every buffer at an unmapped page, they give
//! what the interpreter gives. What cannot be compiled of it is refused with the node.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value, interp};
use egret::{Options, pipeline};
use egret_loop::Size;
use egret_runtime::abi::Code;
use egret_workspace::free::parse as graph;
use egret_workspace::guarded::Compiled;
use egret_workspace::lengths::{holds, input};
use std::collections::BTreeMap;

#[test]
fn elements_that_are_not_zero() {
    for dtype in ["f32", "f16", "i64", "u8", "bool", "f64"] {
        holds(&format!(
            r#"graph @g(%0 "x": {dtype}[4, N, 3]) -> (%1 "places", %2 "sums", %3 "sum") {{
  %1 = nonzero(%0) : i64[3, u0]
  %5 = cast(%1) {{round = "nearest", saturate = 1, to = f32}} : f32[3, u0]
  %2 = reduce(%5) {{axes = [1], keepdims = 0, kind = "sum"}} : f32[3]
  %4 = transpose(%1) {{perm = [1, 0]}} : i64[u0, 3]
  %3 = add(%4, %4) : i64[u0, 3]
}}"#
        ));
    }
}

/// A table of features, of which rows are looked up at the places that are found, and go through a layer: for many at once, and one by one.
#[test]
fn rows_that_are_picked_go_through_a_layer() {
    holds(
        r#"graph @g(%0 "x": f32[120, 16], %10 "mask": bool[120]) -> (%7 "y", %8 "mean") {
  %1 = compress(%0, %10) {axis = 0} : f32[u0, 16]
  %2 = const f32[16, 24] random(1)
  %3 = matmul(%1, %2) : f32[u0, 24]
  %4 = const f32[24] random(2)
  %5 = add(%3, %4) : f32[u0, 24]
  %6 = tanh(%5) : f32[u0, 24]
  %7 = softmax(%6) {axis = 1} : f32[u0, 24]
  %8 = reduce(%6) {axes = [0], keepdims = 1, kind = "max"} : f32[1, 24]
}"#,
    );
}

#[test]
fn slices_under_a_condition() {
    for (axis, shape, dims, extent) in
        [(0, "N, 3, 2", "u0, 3, 2", "N"), (1, "2, N, 5", "2, u0, 5", "N"), (2, "N, 3, 9", "N, 3, u0", "9")]
    {
        for dtype in ["f32", "u8", "i64"] {
            holds(&format!(
                r#"graph @g(%0 "x": {dtype}[{shape}], %1 "c": bool[{extent}]) -> (%2 "y") {{
  %2 = compress(%0, %1) {{axis = {axis}}} : {dtype}[{dims}]
}}"#
            ));
        }
    }
}

#[test]
fn distinct_elements_and_slices() {
    for dtype in ["f32", "i32", "f16", "u8", "bool"] {
        for sorted in [0, 1] {
            holds(&format!(
                r#"graph @g(%0 "x": {dtype}[N, 4]) -> (%1 "y", %2 "first", %3 "inverse", %4 "counts") {{
  %1, %2, %3, %4 = unique(%0) {{axis = 0, flat = 1, sorted = {sorted}}} : {dtype}[u0], i64[u1], i64[4*N], i64[u2]
}}"#
            ));
            for (axis, values, all) in [(0, "u0, 3, 2", "N"), (1, "N, u0, 2", "3"), (2, "N, 3, u0", "2")] {
                holds(&format!(
                    r#"graph @g(%0 "x": {dtype}[N, 3, 2]) -> (%1 "y", %2 "first", %3 "inverse", %4 "counts") {{
  %1, %2, %3, %4 = unique(%0) {{axis = {axis}, flat = 0, sorted = {sorted}}} : {dtype}[{values}], i64[u1], i64[{all}], i64[u2]
}}"#
                ));
            }
        }
    }
}

#[test]
fn boxes_that_are_kept() {
    for center in [0, 1] {
        for (least, operands) in
            [("", "%0, %1, %2, %3, _"), (r#", %4 "least": f32[1]"#, "%0, %1, %2, %3, %4")]
        {
            holds(&format!(
                r#"graph @g(%0 "boxes": f32[2, N, 4], %1 "scores": f32[2, 3, N], %2 "most": i64[1], %3 "limit": f32[1]{least}) -> (%5 "kept") {{
  %5 = nms({operands}) {{center_point_box = {center}}} : i64[u0, 3]
}}"#
            ));
        }
    }
    // What is found picks boxes, whose areas are computed.
    holds(
        r#"graph @g(%0 "boxes": f32[1, 30, 4], %1 "scores": f32[1, 2, 30]) -> (%11 "areas") {
  %2 = const i64[1] [4]
  %3 = const f32[1] [0.5]
  %5 = nms(%0, %1, %2, %3, _) {center_point_box = 1} : i64[u0, 3]
  %6 = slice(%5) {sizes = [u0, 1], starts = [0, 2], steps = [1, 1]} : i64[u0, 1]
  %7 = reshape(%6) {shape = [u0]} : i64[u0]
  %8 = reshape(%0) {shape = [30, 4]} : f32[30, 4]
  %9 = gather(%8, %7) {axis = 0} : f32[u0, 4]
  %10 = slice(%9) {sizes = [u0, 2], starts = [0, 2], steps = [1, 1]} : f32[u0, 2]
  %11 = reduce(%10) {axes = [1], keepdims = 0, kind = "prod"} : f32[u0]
}"#,
    );
}

/// Two dims that data decides, one behind the other, and scores of all that are left with all others.
#[test]
fn what_is_found_in_what_is_found() {
    holds(
        r#"graph @g(%0 "x": f32[9, N], %1 "c": bool[9], %9 "d": bool[N]) -> (%8 "y", %3 "z") {
  %2 = compress(%0, %1) {axis = 0} : f32[u0, N]
  %3 = compress(%2, %9) {axis = 1} : f32[u0, u1]
  %4 = transpose(%3) {perm = [1, 0]} : f32[u1, u0]
  %5 = matmul(%3, %4) : f32[u0, u0]
  %6 = softmax(%5) {axis = 1} : f32[u0, u0]
  %7 = matmul(%6, %3) : f32[u0, u1]
  %8 = exp(%7) : f32[u0, u1]
}"#,
    );
}

/// Values that nothing but their dim ties to what finds it: it is found before them, and where nobody reads what is found as well.
#[test]
fn only_the_number_is_used() {
    holds(
        r#"graph @g(%0 "x": f16[N], %1 "y": f16[N]) -> (%6 "zeros", %7 "number", %8 "places") {
  %2 = add(%0, %1) : f16[N]
  %3 = nonzero(%2) : i64[1, u0]
  %4 = const f32[] [0.5]
  %5 = broadcast(%4) {shape = [u0]} : f32[u0]
  %6 = exp(%5) : f32[u0]
  %7 = shape(%6) : i64[1]
  %8 = iota() {axis = 0, shape = [u0], to = i64} : i64[u0]
}"#,
    );
    holds(
        r#"graph @g(%0 "x": f32[6]) -> (%8 "places") {
  %3 = nonzero(%0) : i64[1, u0]
  %8 = iota() {axis = 0, shape = [u0], to = i64} : i64[u0]
}"#,
    );
}

/// As many rounds as a number from data says, which is a dim of what follows; there is room for `most`.
fn counted(most: &str) -> String {
    format!(
        r#"graph @g(%0 "k": i64[], %1 "x": f32[N, 4]) -> (%6 "y", %8 "mean", %2 "places") {{
  %2 = loop(%0, _) {{at_most = [{most}], carried = 0, dims = [u0], has_cond = 0, has_trip_count = 1}} : i64[u0]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {{}}
  %3 = cast(%2) {{round = "nearest", saturate = 1, to = f32}} : f32[u0]
  %4 = reshape(%3) {{shape = [u0, 1, 1]}} : f32[u0, 1, 1]
  %5 = sub(%1, %4) : f32[u0, N, 4]
  %6 = tanh(%5) : f32[u0, N, 4]
  %7 = const f32[4, 5] random(1)
  %8 = matmul(%5, %7) : f32[u0, N, 5]
}}"#
    )
}

#[test]
fn rounds_that_data_counts() {
    holds(&counted("3"));
    holds(&counted("N + 3"));
}

/// What was found is scanned from either end, and stacked so: the last round's place is that of the number found, not of the most.
#[test]
fn what_is_found_is_scanned_from_either_end() {
    for reverse in ["0", "1"] {
        for axis in [0, 1] {
            let all = ["f32[u0, 1]", "f32[1, u0]"][axis];
            holds(&format!(
                r#"graph @g(%0 "k": i64[], %1 "x": f32[1]) -> (%4 "last", %5 "all") {{
  %2 = loop(%0, _) {{at_most = [5], carried = 0, dims = [u0], has_cond = 0, has_trip_count = 1}} : i64[u0]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {{}}
  %3 = cast(%2) {{round = "nearest", saturate = 1, to = f32}} : f32[u0]
  %4, %5 = scan(%1, %3) {{carried = 1, input_axes = [0], input_reverse = [{reverse}], output_axes = [{axis}], output_reverse = [{reverse}], scans = 1}} : f32[1], {all}
    body graph @sum(%0 "s": f32[1], %1 "e": f32[]) -> (%2, %2) {{
      %2 = sub(%0, %1) : f32[1]
    }}
}}"#
            ));
        }
    }
}

/// Half of the rounds, the larger of two numbers of them, products of those: what follows has room for the most of it.
#[test]
fn quotients_of_rounds_have_room() {
    for (steps, dim) in [
        ("%9 = slice(%3) {sizes = [ceildiv(u0, 2)], starts = [0], steps = [2]}", "ceildiv(u0, 2)"),
        (
            "%10 = const f32[] [1.5]\n  %9 = pad(%3, %10) {high = [max(u0, 2) - u0], low = [0], mode = \"constant\"}",
            "max(u0, 2)",
        ),
    ] {
        holds(&format!(
            r#"graph @g(%0 "k": i64[], %1 "x": f32[N, 4]) -> (%6 "y") {{
  %2 = loop(%0, _) {{at_most = [5], carried = 0, dims = [u0], has_cond = 0, has_trip_count = 1}} : i64[u0]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {{}}
  %3 = cast(%2) {{round = "nearest", saturate = 1, to = f32}} : f32[u0]
  {steps} : f32[{dim}]
  %4 = reshape(%9) {{shape = [{dim}, 1, 1]}} : f32[{dim}, 1, 1]
  %5 = sub(%1, %4) : f32[{dim}, N, 4]
  %6 = tanh(%5) : f32[{dim}, N, 4]
}}"#
        ));
    }
}

/// More rounds than there is room for: an error on every engine, and the interpreter names the dim.
#[test]
fn more_rounds_than_there_is_room_for() {
    let graph = graph(&counted("N"));
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("it compiles");
    for (k, n) in [(0, 0), (1, 1), (5, 4), (4, 5), (1, 0), (i64::MAX, 3), (i64::MIN, 3)] {
        let x = Tensor::new(&[n as usize, 4], vec![0.5f32; 4 * n as usize]);
        let inputs: Vec<Value> = vec![Tensor::scalar(k).into(), x.into()];
        let (code, _) = compiled.run_both(&inputs).expect("alike");
        assert_eq!(code == 0, k <= n, "{k} rounds of {n}");
        if k > 1 << 20 {
            continue;
        }
        match interp::run(&graph, &inputs) {
            Ok(_) => assert!(k <= n, "{k} rounds of {n}"),
            Err(e) => assert!(k > n && e.to_string().contains(&format!("{n} at most")), "{e}"),
        }
    }
}

/// A bound of what data decides that is too small, as no graph gives it, ends a run with a code: the sum of a length and 1 has room for 6
/// elements, and is held to what that room is said to be.
#[test]
fn a_bound_that_is_too_small_ends_a_run() {
    let graph = graph(
        r#"graph @g(%0 "k": i64[]) -> (%5 "y") {
  %1 = const bool[] [true]
  %2 = loop(%0, _) {at_most = [5], carried = 0, dims = [u0], has_cond = 0, has_trip_count = 1} : i64[u0]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {}
  %3 = cast(%2) {round = "nearest", saturate = 1, to = f32} : f32[u0]
  %4 = const f32[] [1.5]
  %6 = pad(%3, %4) {high = [1], low = [0], mode = "constant"} : f32[u0 + 1]
  %5 = reduce(%6) {axes = [0], keepdims = 0, kind = "sum"} : f32[]
}"#,
    );
    let options = Options { threads: 1, ..Options::default() };
    for (room, fails) in [(6, false), (4, true)] {
        let mut program =
            pipeline::lower(graph.clone(), &options, &BTreeMap::new()).expect("kernels").program;
        let said = |size: &&mut Size| **size == Size::Const(6);
        let all: Vec<_> = program.sizes.iter_mut().filter(said).collect();
        assert!(!all.is_empty(), "no size says that there is room for 6");
        all.into_iter().for_each(|size| *size = Size::Const(room));
        let compiled = Compiled::of(program, &options).expect("it compiles");
        let (code, _) = compiled.run_both(&[Tensor::scalar(5i64).into()]).expect("alike");
        let failed = Code::split(code).map(|(code, ..)| code);
        assert_eq!(failed, fails.then_some(Code::Sizes), "room for {room}");
    }
}

/// Boxes and scores whose numbers only may be equal are held to it, before either is read.
#[test]
fn boxes_without_scores_are_refused() {
    let graph = graph(
        r#"graph @g(%0 "boxes": f32[A, N, 4], %1 "scores": f32[B, 2, M], %2 "most": i64[1], %3 "limit": f32[1]) -> (%5 "kept") {
  %5 = nms(%0, %1, %2, %3, _) {center_point_box = 0} : i64[u0, 3]
}"#,
    );
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("it compiles");
    for (dims, fits) in [
        ([1, 4, 1, 4], true),
        ([1, 4, 1, 6], false),
        ([1, 6, 1, 4], false),
        ([1, 4, 2, 4], false),
        ([2, 0, 2, 0], true),
    ] {
        let sizes: BTreeMap<String, i64> =
            ["A", "N", "B", "M"].map(String::from).into_iter().zip(dims).collect();
        let mut rng = Rng::new(1);
        let inputs: Vec<Value> = (0..4).map(|i| input(&mut rng, &graph, i, &sizes, 4)).collect();
        assert_eq!(compiled.plan_code(&inputs) == 0, fits, "{dims:?}");
        if fits {
            assert_eq!(compiled.run_both(&inputs).expect("alike").0, 0, "{dims:?}");
        }
    }
}

/// The remedy is the option; tests/lengths_within.rs has that of sub-graphs.
#[test]
fn rounds_without_a_bound_are_refused() {
    let source = counted("3").replace("at_most = [3], ", "");
    let options = Options { threads: 1, ..Options::default() };
    let Err(e) = pipeline::lower(graph(&source), &options, &BTreeMap::new()) else {
        panic!("is compiled: {source}")
    };
    assert!(e.to_string().contains("say how large it may be, --at-most u0=N"), "{e}");
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let refused = |source: &str| {
        let options = Options { threads: 1, ..Options::default() };
        match pipeline::lower(graph(source), &options, &BTreeMap::new()) {
            Ok(_) => panic!("is compiled: {source}"),
            Err(e) => e.to_string(),
        }
    };
    let e = refused(
        r#"graph @g(%0 "x": f32[6]) -> (%4 "y") {
  %1 = nonzero(%0) : i64[1, u0]
  %2 = cast(%1) {round = "nearest", saturate = 1, to = f64} : f64[1, u0]
  %4 = rms_norm(%2) {axis = 1, epsilon = 1e-5} : f64[1, u0]
}"#,
    );
    assert!(e.contains("(rms_norm") && e.contains("free dims"), "{e}");
}

#[test]
fn what_is_found_is_read_backwards() {
    holds(
        r#"graph @g(%0 "x": f32[N]) -> (%4 "y") {
  %1 = nonzero(%0) : i64[1, u0]
  %4 = slice(%1) {sizes = [1, u0], starts = [0, u0 - 1], steps = [1, -1]} : i64[1, u0]
}"#,
    );
}
