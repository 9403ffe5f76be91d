//! Models whose first dim is free: one compilation, run at any size, with every buffer at an unmapped page, gives what the interpreter
//! gives. And what a free dim cannot be is refused with the node and the remedy.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp};
use egret::{Options, pipeline};
use egret_workspace::free::{close, every_size, parse as graph};
use egret_workspace::guarded::Compiled;
use std::collections::BTreeMap;

/// An input of a graph whose symbols have these values.
fn input(rng: &mut Rng, graph: &Graph, i: usize, sizes: &BTreeMap<String, i64>, _: u64) -> Value {
    let ty = graph.tensor_ty(graph.inputs()[i]);
    let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(sizes).expect("a size") as usize).collect();
    let len = shape.iter().product::<usize>();
    let number = |_| (rng.bits() % 17) as f64 / if ty.dtype.is_float() { 8.0 } else { 4.0 };
    let below = if ty.dtype.is_float() { 1.0 } else { 0.0 };
    Tensor::from_f64s(ty.dtype, &shape, (0..len).map(number).map(|v| v - below).collect()).into()
}

/// Compiles a graph once and runs it at several sizes of all its free dims.
fn holds(source: &str) {
    // The second dim differs from the first.
    every_size(source, &[(1, 5), (0, 0), (2, 70), (3, 9), (7, 3), (33, 33)], &[0], input);
}

#[test]
fn perceptron() {
    holds(
        r#"graph @g(%0 "x": f32[N, 24]) -> (%7 "y") {
  %1 = const f32[24, 40] random(1)
  %2 = const f32[40] random(2)
  %3 = matmul(%0, %1) : f32[N, 40]
  %4 = add(%3, %2) : f32[N, 40]
  %5 = tanh(%4) : f32[N, 40]
  %8 = const f32[40, 10] random(3)
  %6 = matmul(%5, %8) : f32[N, 10]
  %7 = softmax(%6) {axis = 1} : f32[N, 10]
}"#,
    );
}

#[test]
fn convolutions_with_halos_and_pools() {
    holds(
        r#"graph @g(%0 "x": f32[N, 3, 9, 10]) -> (%8 "y", %5 "z") {
  %1 = const f32[8, 3, 3, 3] random(1)
  %2 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = "channels_first", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[N, 8, 9, 10]
  %3 = pool(%2) {dilations = [1, 1], high_extra = [0, 0], kernel = [3, 3], kind = "max", layout = "channels_first", pads = [1, 1, 1, 1], strides = [2, 2]} : f32[N, 8, 5, 5]
  %4 = const f32[8, 1, 3, 3] random(2)
  %5 = conv(%3, %4) {dilations = [1, 1], groups = 8, layout = "channels_first", pads = [1, 1, 1, 1], strides = [1, 1]} : f32[N, 8, 5, 5]
  %6 = add(%5, %3) : f32[N, 8, 5, 5]
  %7 = reduce(%6) {axes = [2, 3], keepdims = 0, kind = "sum"} : f32[N, 8]
  %8 = reshape(%7) {shape = [N, 2, 4]} : f32[N, 2, 4]
}"#,
    );
}

#[test]
fn transformers_with_a_class_token() {
    holds(
        r#"graph @g(%0 "x": f32[N, 5, 8]) -> (%15 "y") {
  %1 = const f32[1, 1, 8] random(1)
  %2 = broadcast(%1) {shape = [N, 1, 8]} : f32[N, 1, 8]
  %3 = concat(%2, %0) {axis = 1} : f32[N, 6, 8]
  %4 = layer_norm(%3) {axis = 2, epsilon = 1e-5} : f32[N, 6, 8]
  %5 = const f32[8, 8] random(2)
  %6 = matmul(%4, %5) : f32[N, 6, 8]
  %7 = reshape(%6) {shape = [N, 6, 2, 4]} : f32[N, 6, 2, 4]
  %8 = transpose(%7) {perm = [0, 2, 1, 3]} : f32[N, 2, 6, 4]
  %9 = transpose(%7) {perm = [0, 2, 3, 1]} : f32[N, 2, 4, 6]
  %10 = matmul(%8, %9) : f32[N, 2, 6, 6]
  %11 = softmax(%10) {axis = 3} : f32[N, 2, 6, 6]
  %12 = matmul(%11, %8) : f32[N, 2, 6, 4]
  %13 = transpose(%12) {perm = [0, 2, 1, 3]} : f32[N, 6, 2, 4]
  %14 = reshape(%13) {shape = [N, 6, 8]} : f32[N, 6, 8]
  %15 = slice(%14) {sizes = [N, 1, 8], starts = [0, 0, 0], steps = [1, 1, 1]} : f32[N, 1, 8]
}"#,
    );
}

#[test]
fn units_of_several_rows() {
    holds(
        r#"graph @g(%0 "x": f32[N, 12]) -> (%3 "y", %4 "z") {
  %1 = reshape(%0) {shape = [3*N, 4]} : f32[3*N, 4]
  %2 = const f32[4, 6] random(1)
  %3 = matmul(%1, %2) : f32[3*N, 6]
  %4 = arg_reduce(%3) {axis = 1, keepdims = 0, kind = "max", last = 0} : i64[3*N]
}"#,
    );
}

#[test]
fn rows_of_a_table() {
    holds(
        r#"graph @g(%0 "i": i64[N, 3]) -> (%4 "y", %5 "k") {
  %1 = const f32[9, 4] random(1)
  %2 = gather(%1, %0) {axis = 0} : f32[N, 3, 4]
  %3 = cumulative(%2) {axis = 1, exclusive = 0, kind = "sum", reverse = 0} : f32[N, 3, 4]
  %4, %5 = top_k(%3) {axis = 2, k = 2, largest = 1} : f32[N, 3, 2], i64[N, 3, 2]
}"#,
    );
}

#[test]
fn rows_that_candidates_are_gathered_from() {
    holds(
        r#"graph @g(%0 "x": f32[N, 90], %1 "z": i64[N, 2, 40]) -> (%2 "y", %3 "k", %4 "v", %5 "l", %6 "all", %7 "order") {
  %2, %3 = top_k(%0) {axis = 1, k = 20, largest = 1} : f32[N, 20], i64[N, 20]
  %4, %5 = top_k(%1) {axis = 2, k = 17, largest = 0} : i64[N, 2, 17], i64[N, 2, 17]
  %6, %7 = top_k(%0) {axis = 1, k = 90, largest = 0} : f32[N, 90], i64[N, 90]
}"#,
    );
}

#[test]
fn contractions_without_tiles() {
    holds(
        r#"graph @g(%0 "x": f64[N, 9], %1 "z": i32[N, 7], %2 "w": i32[7, 70]) -> (%4 "y", %5 "i") {
  %3 = const f64[9, 37] random(1)
  %4 = matmul(%0, %3) : f64[N, 37]
  %5 = matmul(%1, %2) : i32[N, 70]
}"#,
    );
}

#[test]
fn outputs_that_are_not_computed() {
    holds(
        r#"graph @g(%0 "x": f32[N, 4]) -> (%0 "same", %1 "part", %3 "fixed", %4 "all", %5 "twice") {
  %1 = slice(%0) {sizes = [N, 2], starts = [0, 1], steps = [1, 1]} : f32[N, 2]
  %2 = const f32[1, 4] random(1)
  %3 = exp(%2) : f32[1, 4]
  %4 = broadcast(%3) {shape = [N, 4]} : f32[N, 4]
  %5 = add(%4, %4) : f32[N, 4]
}"#,
    );
}

#[test]
fn two_free_dims() {
    holds(
        r#"graph @g(%0 "x": f32[N, 4], %1 "y": f32[M, 3]) -> (%2 "a", %4 "b") {
  %2 = neg(%0) : f32[N, 4]
  %3 = exp(%1) : f32[M, 3]
  %4 = reduce(%3) {axes = [1], keepdims = 1, kind = "sum"} : f32[M, 1]
}"#,
    );
}

#[test]
fn elements_that_indices_of_the_same_unit_name() {
    holds(
        r#"graph @g(%0 "x": f32[N, 6, 5], %1 "i": i64[N, 3, 5], %2 "t": i64[N, 4, 1], %3 "l": i64[N]) -> (%4 "a", %5 "b", %7 "c", %8 "d", %10 "e") {
  %4 = gather_nd(%0, %2) {batch_dims = 1} : f32[N, 4, 5]
  %11 = gather_elements(%0, %1) {axis = 1} : f32[N, 3, 5]
  %5 = scatter_elements(%0, %1, %11) {axis = 1, reduction = "add"} : f32[N, 6, 5]
  %6 = const f32[9, 3] random(1)
  %7 = gather_nd(%6, %2) {batch_dims = 0} : f32[N, 4, 3]
  %8 = reverse_sequence(%0, %3) {batch_axis = 0, time_axis = 1} : f32[N, 6, 5]
  %9 = const i64[5] [3, 1, 6, 0, 2]
  %10 = reverse_sequence(%0, %9) {batch_axis = 2, time_axis = 1} : f32[N, 6, 5]
}"#,
    );
}

#[test]
fn batches_of_attentions_and_indices_along_other_axes() {
    holds(
        r#"graph @g(%0 "q": f32[N, 2, 4, 8], %1 "k": f32[N, 2, 6, 8], %2 "m": f32[4, 6], %3 "x": f32[N, 6]) -> (%4 "y", %6 "z", %7 "i") {
  %4 = attention(%0, %1, %1, %2) {fill = -inf, safe = 0, scale = 0.5} : f32[N, 2, 4, 8]
  %7 = iota() {axis = 1, shape = [N, 6], to = f32} : f32[N, 6]
  %6 = mul(%3, %7) : f32[N, 6]
}"#,
    );
}

#[test]
fn regions_of_a_constant_image() {
    holds(
        r#"graph @g(%0 "r": f32[N, 4], %1 "b": i64[N]) -> (%4 "y") {
  %2 = const f32[5, 2, 9, 9] random(1)
  %4 = roi_align(%2, %0, %1) {half_pixel = 1, mode = "avg", output_height = 2, output_width = 3, sampling_ratio = 2, spatial_scale = 1.0} : f32[N, 2, 2, 3]
}"#,
    );
}

/// Rows, columns and sums of free and of constant numbers: whole blocks, what is left over of them, and sums of more products than are
/// added one after another.
#[test]
fn products_in_blocks() {
    holds(
        r#"graph @g(%0 "x": f32[B, S, 20], %1 "y": f32[B, 20, S], %2 "u": f32[B, 4, S, 5], %3 "v": f32[B, S, 5, 35], %4 "w": f32[B, S, 300], %5 "z": f32[B, 300, S]) -> (%6 "a", %9 "b", %10 "c", %11 "d") {
  %6 = matmul(%0, %1) : f32[B, S, S]
  %7 = reshape(%2) {shape = [B, 4, 5*S]} : f32[B, 4, 5*S]
  %8 = reshape(%3) {shape = [B, 5*S, 35]} : f32[B, 5*S, 35]
  %9 = matmul(%7, %8) : f32[B, 4, 35]
  %10 = matmul(%4, %5) : f32[B, S, S]
  %11 = matmul(%6, %0) : f32[B, S, 20]
}"#,
    );
}

/// Transposes and picks that are read, and written, where they stand: heads of one projection. One of them is also read by what wants a copy
/// of its own, another is an output.
#[test]
fn heads_that_are_read_where_they_stand() {
    holds(
        r#"graph @g(%0 "x": f32[B, S, 48], %30 "m": f32[B, 1, 1, S]) -> (%19 "y", %6 "first", %20 "z") {
  %1 = reshape(%0) {shape = [B, S, 1, 3, 16]} : f32[B, S, 1, 3, 16]
  %2 = transpose(%1) {perm = [3, 0, 1, 2, 4]} : f32[3, B, S, 1, 16]
  %3 = reshape(%2) {shape = [3, B, S, 16]} : f32[3, B, S, 16]
  %4 = const i64[] [0]
  %5 = const i64[] [-2]
  %21 = const i64[] [2]
  %6 = gather(%3, %4) {axis = 0} : f32[B, S, 16]
  %7 = gather(%3, %5) {axis = 0} : f32[B, S, 16]
  %8 = gather(%3, %21) {axis = 0} : f32[B, S, 16]
  %9 = reshape(%6) {shape = [B, S, 2, 8]} : f32[B, S, 2, 8]
  %10 = reshape(%7) {shape = [B, S, 2, 8]} : f32[B, S, 2, 8]
  %11 = reshape(%8) {shape = [B, S, 2, 8]} : f32[B, S, 2, 8]
  %12 = transpose(%9) {perm = [0, 2, 1, 3]} : f32[B, 2, S, 8]
  %13 = transpose(%10) {perm = [0, 2, 3, 1]} : f32[B, 2, 8, S]
  %14 = transpose(%11) {perm = [0, 2, 1, 3]} : f32[B, 2, S, 8]
  %15 = matmul(%12, %13) : f32[B, 2, S, S]
  %16 = add(%15, %30) : f32[B, 2, S, S]
  %17 = matmul(%16, %14) : f32[B, 2, S, 8]
  %18 = transpose(%17) {perm = [0, 2, 1, 3]} : f32[B, S, 2, 8]
  %19 = reshape(%18) {shape = [B, S, 16]} : f32[B, S, 16]
  %22 = reduce(%14) {axes = [2], keepdims = 0, kind = "sum"} : f32[B, 2, 8]
  %20 = exp(%22) : f32[B, 2, 8]
}"#,
    );
}

/// Tokens of free number in a batch of free size: embeddings, scores of each with each under a mask, projections.
#[test]
fn tokens() {
    holds(
        r#"graph @g(%0 "ids": i64[B, S], %1 "mask": i64[B, S]) -> (%33 "y") {
  %2 = const f32[9, 16] random(1)
  %3 = gather(%2, %0) {axis = 0} : f32[B, S, 16]
  %4 = layer_norm(%3) {axis = 2, epsilon = 1e-5} : f32[B, S, 16]
  %5 = const f32[16, 16] random(2)
  %6 = matmul(%4, %5) : f32[B, S, 16]
  %7 = reshape(%6) {shape = [B, S, 2, 8]} : f32[B, S, 2, 8]
  %8 = transpose(%7) {perm = [0, 2, 1, 3]} : f32[B, 2, S, 8]
  %9 = transpose(%7) {perm = [0, 2, 3, 1]} : f32[B, 2, 8, S]
  %10 = matmul(%8, %9) : f32[B, 2, S, S]
  %11 = cast(%1) {round = "nearest", saturate = 0, to = f32} : f32[B, S]
  %12 = const f32[] splat(1.0)
  %13 = sub(%12, %11) : f32[B, S]
  %14 = const f32[] splat(-3.0)
  %15 = mul(%13, %14) : f32[B, S]
  %16 = reshape(%15) {shape = [B, 1, 1, S]} : f32[B, 1, 1, S]
  %17 = add(%10, %16) : f32[B, 2, S, S]
  %18 = softmax(%17) {axis = 3} : f32[B, 2, S, S]
  %19 = matmul(%18, %8) : f32[B, 2, S, 8]
  %20 = transpose(%19) {perm = [0, 2, 1, 3]} : f32[B, S, 2, 8]
  %21 = reshape(%20) {shape = [B, S, 16]} : f32[B, S, 16]
  %22 = add(%21, %3) : f32[B, S, 16]
  %23 = const f32[16, 40] random(3)
  %24 = matmul(%22, %23) : f32[B, S, 40]
  %25 = const f32[40] random(4)
  %26 = add(%24, %25) : f32[B, S, 40]
  %33 = tanh(%26) : f32[B, S, 40]
}"#,
    );
}

#[test]
fn places_along_free_dims() {
    holds(
        r#"graph @g(%0 "x": f32[B, 3, S]) -> (%2 "turned", %3 "part", %5 "sum", %7 "wide") {
  %2 = transpose(%0) {perm = [2, 0, 1]} : f32[S, B, 3]
  %3 = slice(%0) {sizes = [B, 2, S], starts = [0, 1, 0], steps = [1, 1, 1]} : f32[B, 2, S]
  %4 = const f32[3, 1] random(1)
  %5 = add(%0, %4) : f32[B, 3, S]
  %6 = const f32[1, 1, 1] splat(2.5)
  %7 = broadcast(%6) {shape = [S, 2, B]} : f32[S, 2, B]
}"#,
    );
}

/// Parts of each token, which are read where they stand.
#[test]
fn parts_of_units() {
    holds(
        r#"graph @g(%0 "x": f32[B, S, 12]) -> (%3 "y", %4 "z") {
  %1 = slice(%0) {sizes = [B, S, 4], starts = [0, 0, 4], steps = [1, 1, 1]} : f32[B, S, 4]
  %2 = reshape(%1) {shape = [B, S, 2, 2]} : f32[B, S, 2, 2]
  %3 = transpose(%1) {perm = [2, 0, 1]} : f32[4, B, S]
  %4 = transpose(%2) {perm = [0, 2, 1, 3]} : f32[B, 2, S, 2]
}"#,
    );
}

#[test]
fn sums_and_joins_over_free_dims() {
    holds(
        r#"graph @g(%0 "x": f32[B, S, 5], %1 "i": i64[S, 2]) -> (%2 "sum", %3 "most", %4 "all", %6 "joined", %8 "rows", %9 "count", %10 "dims") {
  %2 = reduce(%0) {axes = [1], keepdims = 0, kind = "sum"} : f32[B, 5]
  %3 = reduce(%0) {axes = [0, 2], keepdims = 1, kind = "max"} : f32[1, S, 1]
  %4 = reduce(%0) {axes = [0, 1, 2], keepdims = 0, kind = "min"} : f32[]
  %5 = transpose(%0) {perm = [0, 2, 1]} : f32[B, 5, S]
  %6 = concat(%5, %5) {axis = 1} : f32[B, 10, S]
  %7 = const f32[2, 9, 3] random(1)
  %8 = gather(%7, %1) {axis = 1} : f32[2, S, 2, 3]
  %9 = iota() {axis = 1, shape = [B, S], to = i64} : i64[B, S]
  %10 = shape(%0) : i64[3]
}"#,
    );
    holds(
        r#"graph @g(%0 "x": f32[N, 4]) -> (%1 "y") {
  %1 = iota() {axis = 0, shape = [N, 4], to = f32} : f32[N, 4]
}"#,
    );
    holds(
        r#"graph @g(%0 "x": f32[N, 4]) -> (%1 "sum", %2 "twice", %3 "squares") {
  %1 = reduce(%0) {axes = [0], keepdims = 0, kind = "sum"} : f32[4]
  %2 = concat(%0, %0) {axis = 0} : f32[2*N, 4]
  %4 = transpose(%0) {perm = [1, 0]} : f32[4, N]
  %3 = matmul(%0, %4) : f32[N, N]
}"#,
    );
}

/// A table of places that is shorter than what a run asks for: the run fails before it reads one.
#[test]
fn slices_end_where_their_operand_does() {
    let graph = graph(
        r#"graph @g(%0 "x": f32[B, S, 2]) -> (%3 "y") {
  %1 = const f32[1, 5, 2] random(1)
  %2 = slice(%1) {sizes = [1, S, 2], starts = [0, 0, 0], steps = [1, 1, 1]} : f32[1, S, 2]
  %3 = add(%0, %2) : f32[B, S, 2]
}"#,
    );
    let lowered = pipeline::lower(graph.clone(), &Options::default(), &BTreeMap::new()).expect("a program");
    let symbols = &lowered.program.symbols;
    assert_eq!(symbols.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["B", "S"]);
    let values = |s: i64| egret_loop::sizes::values(&lowered.program.sizes, &[3, s], &[]);
    assert!(values(5).is_ok() && values(6).is_err() && values(i64::MAX / 64).is_err());
    let compiled = Compiled::new(graph.clone(), &Options::default(), &BTreeMap::new()).expect("code");
    for n in [0, 1, 5] {
        let sizes = [("B".to_owned(), 2), ("S".to_owned(), n)].into();
        let x = input(&mut Rng::new(1), &graph, 0, &sizes, 0);
        let want = interp::run(&graph, std::slice::from_ref(&x)).expect("the interpreter");
        let (code, have) = compiled.run_both(&[x]).expect("equal results");
        let want = want[0].as_tensor().expect("a tensor");
        assert!(code == 0 && close(want, &Tensor::from_bytes(DType::F32, want.shape(), &have[0])));
    }
}

/// Values that are the same in every unit are kept once: what moves them, or joins them to others, does so with a copy that has them all.
#[test]
fn what_is_kept_once_is_copied_to_be_moved_along() {
    for body in [
        "%1 = iota() {axis = 1, shape = [N, 4], to = f32} : f32[N, 4]\n  %2 = transpose(%1) {perm = [1, 0]} : f32[4, N]",
        "%9 = const f32[3, 4] random(1)\n  %1 = broadcast(%9) {shape = [N, 3, 4]} : f32[N, 3, 4]\n  \
             %2 = transpose(%1) {perm = [1, 0, 2]} : f32[3, N, 4]",
        "%9 = const f32[2, 4] random(1)\n  %1 = broadcast(%9) {shape = [N, 2, 4]} : f32[N, 2, 4]\n  \
             %2 = reshape(%1) {shape = [2, N, 4]} : f32[2, N, 4]",
    ] {
        let source = format!("graph @g(%0 \"x\": f32[N, 4]) -> (%2 \"y\") {{\n  {body}\n}}");
        holds(&source);
    }
}

/// Rows that have no element are none, however many the dims say.
#[test]
fn rows_without_elements_are_not_gone_through() {
    let graph = graph(
        r#"graph @g(%0 "x": f32[N, M]) -> (%1 "y", %2 "z") {
  %1 = softmax(%0) {axis = 1} : f32[N, M]
  %2 = transpose(%0) {perm = [1, 0]} : f32[M, N]
}"#,
    );
    let compiled = Compiled::new(graph, &Options::default(), &BTreeMap::new()).expect("code");
    let x = Tensor::from_bytes(DType::F32, &[1 << 40, 0], &[]);
    assert_eq!(compiled.run_both(&[x.into()]).expect("equal results").0, 0);
}

#[test]
fn neighbours_in_other_units_are_right() {
    // A walk backwards along the free dim, and along both.
    for walk in [
        "starts = [N - 1, 0], steps = [-1, 1]",
        "starts = [N - 1, 3], steps = [-1, -1]",
        "starts = [0, 3], steps = [1, -1]",
    ] {
        holds(&format!(
            "graph @g(%0 \"x\": f32[N, 4]) -> (%1 \"y\") {{\n  %1 = slice(%0) {{sizes = [N, 4], {walk}}} : f32[N, 4]\n}}"
        ));
    }
}

/// A kernel for one unit takes every free dim to be 1, wherever it stands.
#[test]
fn attributes_that_hold_a_free_dim_are_numbers_of_the_run() {
    for (node, ty) in [
        ("slice(%9) {sizes = [2, 4], starts = [N - N + 1, 0], steps = [1, 1]}", "f32[2, 4]"),
        ("slice(%9) {sizes = [2, 1], starts = [0, 3 - min(3, N)], steps = [1, -1]}", "f32[2, 1]"),
        ("pad(%9, %8) {high = [0, 2 - N], low = [0, N], mode = \"constant\"}", "f32[4, 6]"),
    ] {
        holds(&format!(
            "graph @g(%0 \"x\": f32[N, 4]) -> (%0 \"x\", %1 \"y\") {{\n  %9 = const f32[4, 4] random(1)\n  \
             %8 = const f32[] splat(0.0)\n  %1 = {node} : {ty}\n}}"
        ));
    }
}

#[test]
fn what_counts_or_reads_through_the_batch_is_right() {
    for node in [
        "resize(%0, %7) {antialias = 0, coordinate = \"tf_crop_and_resize\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"linear\", nearest = \"floor\", scales = [0.0, 0.0, 0.0, 0.0], sizes = [N, 2, 4, 4]}",
        "reverse_sequence(%0, %4) {batch_axis = 1, time_axis = 0}",
    ] {
        holds(&format!(
            "graph @g(%0 \"x\": f32[N, 2, 4, 4]) -> (%1 \"y\") {{\n  %7 = const f32[8] [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]\n  \
             %4 = const i64[2] [0, 0]\n  %1 = {node} : f32[N, 2, 4, 4]\n}}"
        ));
    }
}

/// A step of a decoder: new keys and values behind those of before, each token beside all of them.
#[test]
fn a_cache_and_what_comes_behind_it() {
    holds(
        r#"graph @g(%0 "x": f32[seq, 2, 8], %1 "keys": f32[2, past, 8], %2 "values": f32[2, past, 8]) -> (%12 "y", %4 "present_keys", %5 "present_values", %13 "n") {
  %3 = transpose(%0) {perm = [1, 0, 2]} : f32[2, seq, 8]
  %4 = concat(%1, %3) {axis = 1} : f32[2, past + seq, 8]
  %5 = concat(%2, %3) {axis = 1} : f32[2, past + seq, 8]
  %6 = transpose(%4) {perm = [0, 2, 1]} : f32[2, 8, past + seq]
  %7 = matmul(%3, %6) : f32[2, seq, past + seq]
  %8 = const f32[] [0.25]
  %9 = mul(%7, %8) : f32[2, seq, past + seq]
  %10 = softmax(%9) {axis = 2} : f32[2, seq, past + seq]
  %11 = matmul(%10, %5) : f32[2, seq, 8]
  %12 = transpose(%11) {perm = [1, 0, 2]} : f32[seq, 2, 8]
  %13 = shape(%10) : i64[3]
}"#,
    );
}

/// Rows of two inputs one behind the other go through a layer, as units of a sum; half of them, rounded, as those of a quotient.
#[test]
fn units_of_sums_and_quotients() {
    holds(
        r#"graph @g(%0 "a": f32[N, 12], %1 "b": f32[M, 12]) -> (%5 "y", %8 "z") {
  %2 = concat(%0, %1) {axis = 0} : f32[M + N, 12]
  %3 = const f32[12, 20] random(1)
  %4 = matmul(%2, %3) : f32[M + N, 20]
  %5 = tanh(%4) : f32[M + N, 20]
  %6 = slice(%5) {sizes = [floordiv(M + N + 1, 2), 20], starts = [0, 0], steps = [1, 1]} : f32[floordiv(M + N + 1, 2), 20]
  %7 = const f32[20, 6] random(2)
  %8 = matmul(%6, %7) : f32[floordiv(M + N + 1, 2), 6]
}"#,
    );
}

/// Sizes that a model does not have for small numbers, and some that there are for none of the numbers that are likely.
#[test]
fn slices_from_far_behind() {
    let graph = graph(
        r#"graph @g(%0 "x": f32[N, 3]) -> (%2 "y") {
  %1 = slice(%0) {sizes = [N - 20, 3], starts = [20, 0], steps = [1, 1]} : f32[N - 20, 3]
  %2 = exp(%1) : f32[N - 20, 3]
}"#,
    );
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("it compiles");
    for (n, fits) in [(21, true), (60, true), (20, true), (19, false), (0, false)] {
        let sizes = BTreeMap::from([("N".to_owned(), n)]);
        let inputs = vec![input(&mut Rng::new(2), &graph, 0, &sizes, 0)];
        assert_eq!(compiled.plan_code(&inputs) == 0, fits, "{n}");
        if fits {
            let want = interp::run(&graph, &inputs).expect("a result");
            let (code, have) = compiled.run_both(&inputs).expect("alike");
            let want = want[0].as_tensor().expect("a tensor");
            assert!(
                code == 0 && close(want, &Tensor::from_bytes(want.dtype(), want.shape(), &have[0])),
                "{n}"
            );
        }
    }
}

/// A slice of which only the number of its rows is used: where it would be negative the run is refused, as it is where the slice is read.
#[test]
fn numbers_of_rows_that_there_are_not() {
    let graph = graph(
        r#"graph @g(%0 "x": f32[N, 4], %1 "q": f32[1, 4]) -> (%3 "y") {
  %2 = slice(%0) {sizes = [N - 3, 4], starts = [3, 0], steps = [1, 1]} : f32[N - 3, 4]
  %3 = broadcast(%1) {shape = [N + 7, 4]} : f32[N + 7, 4]
}"#,
    );
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("it compiles");
    for n in [0, 1, 2, 3, 9] {
        let sizes = BTreeMap::from([("N".to_owned(), n)]);
        let inputs: Vec<Value> = (0..2).map(|i| input(&mut Rng::new(2), &graph, i, &sizes, 0)).collect();
        assert_eq!(compiled.plan_code(&inputs) == 0, n >= 3, "{n}");
    }
}
