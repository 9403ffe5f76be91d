//! A table of operations with operands that hold special values: a new operation is one row.
//!
//! A row is a node in text IR whose operands are written where they are used: `any[31, 5]` (see [`tensor`]), `_` for one that is left
//! out, `i64[2] [0, -1]` for a constant that stands there. `T` is the element type, `BITS` an integer of its size.

use super::{Output, SPECIAL, cast};
use egret::ir::{Builder, DType, Graph, Op, Tensor, Type, Value, text};
use std::collections::BTreeSet;

/// Rows whose results are defined to the bit: elements that only move, and sums of few integers among special values, which no order
/// of additions changes.
pub const EXACT: &[&str] = &[
    // Movement.
    "bit_cast(any[31]) {to = BITS}",
    "shape(any[31, 2])",
    "reshape(any[31, 4]) {shape = [4, 31]}",
    "broadcast(any[31, 1]) {shape = [2, 31, 3]}",
    "transpose(any[31, 5]) {perm = [1, 0]}",
    "transpose(any[3, 31, 4]) {perm = [1, 0, 2]}",
    "slice(any[31, 5]) {starts = [30, 1], sizes = [11, 3], steps = [-3, 1]}",
    "pad(any[31, 5], minus_zero[]) {low = [1, 2], high = [2, -1], mode = \"constant\"}",
    "pad(any[31, 5], nan[]) {low = [0, 1], high = [1, 1], mode = \"constant\"}",
    "pad(any[31, 5], _) {low = [1, 2], high = [2, 1], mode = \"reflect\"}",
    "pad(any[31, 5], _) {low = [1, 2], high = [2, 1], mode = \"edge\"}",
    "pad(any[31, 5], _) {low = [1, 2], high = [2, 1], mode = \"wrap\"}",
    "dilate(any[31, 2], minus_zero[]) {factors = [2, 3]}",
    "dilate(any[31, 2], nan[]) {factors = [1, 2]}",
    "concat(any[31, 2], any[31, 1], any[31, 5]) {axis = 1}",
    "iota() {to = T, shape = [3, 40], axis = 1}",
    "random_uniform() {to = T, shape = [40], low = -1.0, high = 1.0, seed = 5.0}",
    "random_normal() {to = T, shape = [40], mean = 0.0, scale = 2.0, seed = 5.0}",
    // Reads and writes at indices.
    "gather(any[31, 5], i64[2, 2] [0, -1, 30, 7]) {axis = 0}",
    "gather(any[31, 5], at2[6]) {axis = 1}",
    "gather_elements(any[31, 5], at2[31, 2]) {axis = 1}",
    "gather_nd(any[31, 5], at2[7, 2]) {batch_dims = 0}",
    "scatter_elements(any[31, 5], at2[31, 3], any[31, 3]) {axis = 1, reduction = \"none\"}",
    "scatter_elements(sum[10, 5], at2[10, 1], sum[10, 1]) {axis = 1, reduction = \"add\"}",
    "scatter_elements(sum[10, 5], at2[10, 1], few[10, 1]) {axis = 1, reduction = \"mul\"}",
    "scatter_elements(any[31, 5], at2[31, 3], any[31, 3]) {axis = 1, reduction = \"max\"}",
    "scatter_elements(any[31, 5], at2[31, 3], any[31, 3]) {axis = 1, reduction = \"min\"}",
    "scatter_nd(any[31, 5], at2[4, 1], any[4, 5]) {reduction = \"none\"}",
    "scatter_nd(few[31, 5], at2[4, 1], few[4, 5]) {reduction = \"add\"}",
    "scatter_nd(few[31, 5], at2[4, 1], few[4, 5]) {reduction = \"mul\"}",
    "scatter_nd(any[31, 5], at2[4, 1], any[4, 5]) {reduction = \"max\"}",
    "scatter_nd(any[31, 5], at2[4, 1], any[4, 5]) {reduction = \"min\"}",
    "reverse_sequence(any[31, 4], i64[4] [31, 1, 0, 7]) {time_axis = 0, batch_axis = 1}",
    // Sums and products along axes.
    "reduce(sum[10, 37]) {kind = \"sum\", axes = [1], keepdims = 1}",
    "reduce(sum1[37, 10]) {kind = \"sum\", axes = [0], keepdims = 0}",
    "reduce(sum1[3, 10, 7]) {kind = \"sum\", axes = [0, 2], keepdims = 0}",
    "matmul(sum[10, 37], few[37, 19])",
    "matmul(few[3, 37], sum1[37, 10])",
    "matmul(sum[1, 37], few[37, 19])",
    "matmul(sum[10, 2, 7], few[7, 5])",
    "matmul(sum[10, 37], few[37, 1])",
    "matmul(sum[10, 37], constant few[37, 19])",
    "matmul(sum[10, 512], constant few[512, 70])",
    "conv(sum[10, 2, 9], few[4, 2, 3]) {strides = [1], dilations = [1], pads = [1, 1], groups = 1, layout = \"channels_first\"}",
    "conv(sum[10, 2, 9], few[4, 1, 3]) {strides = [2], dilations = [2], pads = [2, 1], groups = 2, layout = \"channels_first\"}",
    "conv(sum[10, 4, 7, 6], constant few[8, 4, 3, 3]) {strides = [1, 1], dilations = [1, 1], pads = [1, 1, 1, 1], groups = 1, layout = \"channels_first\"}",
    "conv(sum[10, 7, 6, 4], constant few[8, 4, 3, 3]) {strides = [1, 1], dilations = [1, 1], pads = [1, 1, 1, 1], groups = 1, layout = \"channels_last\"}",
    "conv(sum[10, 4, 7, 6], constant few[4, 1, 3, 3]) {strides = [1, 1], dilations = [1, 1], pads = [1, 1, 1, 1], groups = 4, layout = \"channels_first\"}",
    "conv(sum[10, 4, 7, 6], constant few[8, 4, 1, 1]) {strides = [1, 1], dilations = [1, 1], pads = [0, 0, 0, 0], groups = 1, layout = \"channels_first\"}",
    "conv_transpose(sum[10, 2, 5], few[2, 3, 3]) {strides = [2], dilations = [1], pads = [1, 0], output_padding = [1], groups = 1, layout = \"channels_first\"}",
    "conv_transpose(sum[10, 2, 4, 3], constant few[2, 3, 2, 2]) {strides = [2, 2], dilations = [1, 1], pads = [0, 0, 0, 0], output_padding = [0, 0], groups = 1, layout = \"channels_first\"}",
    "rotary(sum[10, 6], few[10, 6], few[10, 6]) {interleaved = 0}",
    "rotary(sum[10, 6], few[10, 6], few[6]) {interleaved = 1}",
    // Windows.
    "pool(sum[10, 2, 9]) {kind = \"sum\", kernel = [3], strides = [2], dilations = [1], pads = [1, 1], high_extra = [0], layout = \"channels_first\"}",
    "pool(sum[10, 2, 9]) {kind = \"mean\", kernel = [2], strides = [1], dilations = [1], pads = [0, 0], high_extra = [0], layout = \"channels_first\"}",
    "pool(sum[10, 6, 4, 3]) {kind = \"mean\", kernel = [2, 2], strides = [2, 1], dilations = [1, 1], pads = [0, 0, 0, 0], high_extra = [0, 0], layout = \"channels_last\"}",
    "col2im(sum[10, 2, 3]) {image_shape = [4], block_shape = [2], strides = [1], dilations = [1], pads = [0, 0]}",
    // Resampling that copies.
    "resize(any[31, 5], _) {antialias = 0, coordinate = \"asymmetric\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"nearest\", nearest = \"floor\", scales = [2.0, 1.0], sizes = [62, 5]}",
    "resize(any[31, 5], _) {antialias = 0, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"nearest\", nearest = \"round_prefer_ceil\", scales = [0.625, 1.5], sizes = [19, 7]}",
    "resize(any[31, 5], f32[4] [-0.5, 0.0, 1.25, 1.0]) {antialias = 0, coordinate = \"tf_crop_and_resize\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 2.5, mode = \"nearest\", nearest = \"floor\", scales = [1.0, 1.0], sizes = [31, 5]}",
    "tfidf(i64[2, 7] [1, 1, 3, 3, 3, 7, -9, 8, 6, 7, -9, 6, 8, 1]) {counts = [0, 3], indexes = [0, 4, 1, 2, 3], max_gram = 2, max_skip = 0, min_gram = 1, mode = \"TF\", pool_ints = [3, 7, -9, 7, -9, 6, 1], pool_strings = [], weights = []}",
    "tfidf(i64[2, 7] [1, 1, 3, 3, 3, 7, -9, 8, 6, 7, -9, 6, 8, 1]) {counts = [0, 3], indexes = [0, 4, 1, 2, 3], max_gram = 2, max_skip = 5, min_gram = 2, mode = \"TFIDF\", pool_ints = [3, 7, -9, 7, -9, 6, 1], pool_strings = [], weights = [0.5, 2.0, 4.0, -1.0, 0.25]}",
    "tfidf(i64[2, 7] [1, 1, 3, 3, 3, 7, -9, 8, 6, 7, -9, 6, 8, 1]) {counts = [0, 3], indexes = [0, 4, 1, 2, 3], max_gram = 2, max_skip = 1, min_gram = 1, mode = \"IDF\", pool_ints = [3, 7, -9, 7, -9, 6, 1], pool_strings = [], weights = [0.5, 2.0, 4.0, -1.0, 0.25]}",
    // Two trees of one test each, one of which sends NaN to the side of what holds.
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 0, 0], leaf_weights = T[3] [1.0, 2.0, 4.0], membership_values = T[0] [], n_targets = 1, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 0, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 0, 0], leaf_weights = T[3] [1.0, nan, -0.0], membership_values = T[0] [], n_targets = 1, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 0, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 2, leaf_targetids = [0, 0, 0], leaf_weights = T[3] [1.0, nan, -0.0], membership_values = T[0] [], n_targets = 1, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 0, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 3, leaf_targetids = [0, 0, 0], leaf_weights = T[3] [1.0, nan, -0.0], membership_values = T[0] [], n_targets = 1, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 0, tree_roots = [0, 1]}",
];

/// Rows whose results have a tolerance: they hold functions, or weights that are rounded.
pub const NEAR: &[&str] = &[
    "softmax(sum[10, 37]) {axis = 1}",
    "softmax(sum1[37, 10]) {axis = 0}",
    "layer_norm(sum[10, 37]) {axis = 1, epsilon = 1e-5}",
    "rms_norm(sum[10, 37]) {axis = 1, epsilon = 1e-5}",
    "attention(sum[10, 3, 5], few[1, 7, 5], few[1, 7, 4], _) {scale = 0.5, fill = 0.0, safe = 0}",
    "attention(few[10, 3, 5], sum[10, 7, 5], few[10, 7, 4], _) {scale = 0.5, fill = 0.0, safe = 1}",
    "attention(few[10, 3, 5], few[1, 7, 5], sum[10, 7, 4], _) {scale = 0.5, fill = 0.0, safe = 0}",
    "attention(few[10, 3, 5], few[1, 7, 5], few[1, 7, 4], sum[10, 3, 7]) {scale = 0.5, fill = 0.0, safe = 0}",
    "attention(few[10, 3, 5], few[1, 7, 5], few[1, 7, 4], sum[10, 3, 7]) {scale = 0.5, fill = 0.0, safe = 1}",
    "attention(few[2, 3, 5], few[1, 7, 5], few[1, 7, 4], bool[3, 7] [true, true, true, true, true, true, true, false, false, false, false, false, false, false, true, false, true, false, true, false, true]) {scale = 0.5, fill = -inf, safe = 0}",
    "attention(sum[10, 3, 5], few[1, 7, 5], few[1, 7, 4], bool[3, 7] [true, true, true, true, true, true, true, false, false, false, false, false, false, false, true, false, true, false, true, false, true]) {scale = 0.5, fill = -inf, safe = 1}",
    "pool(sum[10, 2, 9]) {kind = \"mean\", kernel = [3], strides = [1], dilations = [1], pads = [1, 1], high_extra = [0], layout = \"channels_first\"}",
    "resize(sum[10, 1, 9], _) {antialias = 0, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"linear\", nearest = \"floor\", scales = [1.0, 1.0, 1.5], sizes = [10, 1, 13]}",
    "resize(sum[10, 1, 5, 4], _) {antialias = 0, coordinate = \"align_corners\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"linear\", nearest = \"floor\", scales = [1.0, 1.0, 1.8, 1.75], sizes = [10, 1, 9, 7]}",
    "resize(sum[10, 1, 9], _) {antialias = 0, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"cubic\", nearest = \"floor\", scales = [1.0, 1.0, 1.5], sizes = [10, 1, 13]}",
    "resize(sum[10, 1, 9], _) {antialias = 0, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"linear\", nearest = \"floor\", scales = [0.0, 1.0, 0.0], sizes = [10, 1, 13]}",
    "resize(sum[10, 1, 9], _) {antialias = 1, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"linear\", nearest = \"floor\", scales = [1.0, 1.0, 0.5], sizes = [10, 1, 4]}",
    // Coordinates outside the image, and that are not finite.
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"nearest\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"nearest\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"nearest\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"nearest\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"nearest\", padding = \"reflection\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"nearest\", padding = \"reflection\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"linear\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"linear\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"linear\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"linear\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"linear\", padding = \"reflection\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"linear\", padding = \"reflection\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"cubic\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"cubic\", padding = \"zeros\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"cubic\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"cubic\", padding = \"border\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 0, mode = \"cubic\", padding = \"reflection\"}",
    "grid_sample(sum[10, 9, 3, 5], any[10, 7, 5, 2]) {align_corners = 1, mode = \"cubic\", padding = \"reflection\"}",
    "grid_sample(any[1, 1, 5, 7], f32[1, 2, 1, 2] [0.25, nan, -0.5, 1.5]) {align_corners = 0, mode = \"nearest\", padding = \"border\"}",
    "grid_sample(sum[10, 2, 1, 3], any[10, 35, 1, 2]) {align_corners = 1, mode = \"linear\", padding = \"reflection\"}",
    "grid_sample(sum[10, 2, 2, 3, 4], any[10, 3, 5, 7, 3]) {align_corners = 0, mode = \"linear\", padding = \"zeros\"}",
    "grid_sample(sum[10, 2, 2, 3, 4], any[10, 3, 5, 7, 3]) {align_corners = 1, mode = \"linear\", padding = \"border\"}",
    "grid_sample(sum[10, 2, 2, 3, 4], any[10, 3, 5, 7, 3]) {align_corners = 0, mode = \"nearest\", padding = \"reflection\"}",
    "grid_sample(sum[10, 2, 9], any[10, 35, 1]) {align_corners = 1, mode = \"cubic\", padding = \"zeros\"}",
    "roi_align(sum[10, 2, 6, 5], few[10, 4], i64[10] [0, 1, 2, 3, 4, 5, 6, 7, 8, -1]) {half_pixel = 0, mode = \"avg\", output_height = 2, output_width = 3, sampling_ratio = 2, spatial_scale = 0.75}",
    "roi_align(sum[10, 2, 6, 5], few[10, 4], i64[10] [0, 1, 2, 3, 4, 5, 6, 7, 8, -1]) {half_pixel = 1, mode = \"avg\", output_height = 2, output_width = 3, sampling_ratio = 0, spatial_scale = 0.75}",
    "roi_align(sum[10, 2, 6, 5], few[10, 4], i64[10] [0, 1, 2, 3, 4, 5, 6, 7, 8, -1]) {half_pixel = 0, mode = \"max\", output_height = 2, output_width = 3, sampling_ratio = 2, spatial_scale = 0.75}",
    "roi_align(sum[10, 2, 6, 5], few[10, 4], i64[10] [0, 1, 2, 3, 4, 5, 6, 7, 8, -1]) {half_pixel = 1, mode = \"max\", output_height = 2, output_width = 3, sampling_ratio = 0, spatial_scale = 0.75}",
    "roi_align(sum[1, 9, 6, 5], any[35, 4], i64[35] [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) {half_pixel = 1, mode = \"avg\", output_height = 2, output_width = 3, sampling_ratio = 1, spatial_scale = 1.0}",
    "deform_conv(sum[10, 2, 4, 5], few[3, 2, 1, 1], any[10, 4, 4, 5], few[10, 2, 4, 5]) {dilations = [1, 1], groups = 1, offset_groups = 2, pads = [0, 0, 0, 0], strides = [1, 1]}",
    "deform_conv(few[10, 4, 4, 5], few[6, 2, 2, 2], few[10, 8, 2, 3], _) {dilations = [2, 2], groups = 2, offset_groups = 1, pads = [1, 1, 1, 1], strides = [2, 2]}",
    "det(sum[11, 2, 2])",
    "det(sum[10, 3, 3])",
    "det(few[10, 4, 4])",
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 2, 1], leaf_weights = T[3] [1.0, nan, 4.0], membership_values = T[0] [], n_targets = 3, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 1, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 2, 1], leaf_weights = T[3] [1.0, nan, 4.0], membership_values = T[0] [], n_targets = 3, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 3, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 2, 1], leaf_weights = T[3] [1.0, inf, -inf], membership_values = T[0] [], n_targets = 3, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 1, tree_roots = [0, 1]}",
    "tree_ensemble(any[31, 2]) {aggregate = 1, leaf_targetids = [0, 2, 1], leaf_weights = T[3] [1.0, inf, -inf], membership_values = T[0] [], n_targets = 3, nodes_falseleafs = [1, 1], nodes_falsenodeids = [1, 2], nodes_featureids = [0, 1], nodes_missing = [0, 1], nodes_modes = u8[2] [0, 1], nodes_splits = T[2] [0.0, 2.0], nodes_trueleafs = [1, 1], nodes_truenodeids = [0, 1], post_transform = 3, tree_roots = [0, 1]}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"Relu\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[2, 4, 2], few[2, 4, 4], few[2, 8], _, sum1[2, 10, 4]) {activations = [\"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"bidirectional\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"Tanh\"], alphas = [], betas = [], clip = 2.0, direction = \"reverse\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"ThresholdedRelu\"], alphas = [1.0], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"LeakyRelu\"], alphas = [0.5], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"Elu\"], alphas = [1.0], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"Softsign\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "rnn(sum1[3, 10, 2], few[1, 4, 2], few[1, 4, 4], _, _, _) {activations = [\"Softplus\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4}",
    "gru(sum1[3, 10, 2], few[1, 12, 2], few[1, 12, 4], _, _, _) {activations = [\"Sigmoid\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4, linear_before_reset = 0}",
    "gru(sum1[3, 10, 2], few[1, 12, 2], few[1, 12, 4], few[1, 24], _, sum1[1, 10, 4]) {activations = [\"HardSigmoid\", \"Relu\"], alphas = [], betas = [], clip = 0.0, direction = \"reverse\", hidden = 4, linear_before_reset = 1}",
    "lstm(sum1[3, 10, 2], few[1, 16, 2], few[1, 16, 4], _, _, _, _, _, _) {activations = [\"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4, input_forget = 0, rounded_state = 0}",
    "lstm(sum1[3, 10, 2], few[1, 16, 2], few[1, 16, 4], few[1, 32], _, sum1[1, 10, 4], sum1[1, 10, 4], few[1, 12], _) {activations = [\"HardSigmoid\", \"Relu\", \"Relu\"], alphas = [], betas = [], clip = 3.0, direction = \"reverse\", hidden = 4, input_forget = 0, rounded_state = 0}",
    "lstm(few[3, 10, 2], few[1, 16, 2], few[1, 16, 4], _, _, sum1[1, 10, 4], _, _, _) {activations = [\"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 4, input_forget = 1, rounded_state = 1}",
    "lstm(sum1[3, 10, 12], _, i8[1, 12, 3] [3, -2, 1, -128, 0, 1, -1, 2, -2, -128, 0, 127, 2, 0, 1, 0, 127, 3, -1, 127, -1, 2, -1, -128, -1, -1, 1, 1, 0, 0, -1, -1, 3, -2, 0, 0], _, _, sum1[1, 10, 3], _, _, few[1, 12]) {activations = [\"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = 3, input_forget = 0, rounded_state = 1}",
    "lstm(sum1[3, 10, 2], few[2, 12, 2], i8[2, 12, 3] [3, -2, 1, -128, 0, 1, -1, 2, -2, 0, 127, 2, 0, 1, -3, 0, 2, 3, -1, 5, -1, 2, -1, -7, -1, -1, 1, 1, 0, 0, -1, -1, 3, -2, 0, 0, -3, 2, -1, -128, 0, -1, 1, -2, 2, 0, -127, -2, 0, -1, 3, 0, -2, -3, 1, -5, 1, -2, 1, 7, 1, 1, -1, -1, 0, 0, 1, 1, -3, 2, 0, 0], few[2, 24], i32[10] [3, 0, 2, 1, 3, 3, 2, 1, 0, 3], sum1[2, 10, 3], sum1[2, 10, 3], few[2, 9], few[2, 12]) {activations = [\"Sigmoid\", \"Tanh\", \"Tanh\", \"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"bidirectional\", hidden = 3, input_forget = 0, rounded_state = 1}",
];

/// What compiled code computes for some element types only: an operation, what a row's attributes hold where that is so, and
/// the types. [`compiled`] leaves the others out; that they are refused is a test of its own.
pub const ONLY: &[(Op, &str, &[DType])] = &[
    (Op::Rnn, "", &[DType::F32]),
    (Op::Gru, "", &[DType::F32]),
    (Op::Lstm, "", &[DType::F32]),
    (Op::Det, "", &[DType::F32, DType::F64]),
    (Op::Col2im, "", &[DType::F32, DType::F64]),
    (Op::Resize, "mode = \"linear\"", &[DType::F16, DType::BF16, DType::F32, DType::F64]),
    (Op::Resize, "mode = \"cubic\"", &[DType::F16, DType::BF16, DType::F32, DType::F64]),
    (Op::GridSample, "", &[DType::F16, DType::BF16, DType::F32, DType::F64]),
    (Op::DeformConv, "", &[DType::F16, DType::BF16, DType::F32]),
    (Op::Pool, "kind = \"mean\"", &[DType::F16, DType::BF16, DType::F32, DType::F64]),
];

/// The places in [`ONLY`] of what keeps a row from being compiled for an element type.
pub fn refusals(row: &str, dtype: DType) -> Vec<usize> {
    let (op, _, attrs) = parts(row);
    let refuses = |&(o, held, types): &(Op, &str, &[DType])| {
        o == op && attrs.contains(held) && !types.contains(&dtype)
    };
    (0..ONLY.len()).filter(|&i| refuses(&ONLY[i])).collect()
}

/// The rows that are compiled for an element type.
pub fn compiled(rows: &[&'static str], dtype: DType) -> Vec<&'static str> {
    rows.iter().copied().filter(|row| refusals(row, dtype).is_empty()).collect()
}

/// What a row's operand holds, by its spelling: KIND[DIMS].
///
/// - `any`: the special values in turn.
/// - `sum`: numbers to be added, of which each place of the first axis has one kind: integers, zeros, a NaN among integers, ..;
///   `sum1` has one kind for each place of the second.
/// - `few`: small integers, and zeros of either sign; an infinity and a NaN at two places of the first axis, where it has as many.
/// - `at2`: indices, 0 to 1.
/// - `nan`, `minus_zero`: that.
fn tensor(spelling: &str, dtype: DType) -> Tensor {
    let (kind, dims) = spelling.split_once('[').expect("KIND[DIMS]");
    let shape: Vec<usize> = dims
        .trim_end_matches(']')
        .split(',')
        .filter(|d| !d.trim().is_empty())
        .map(|d| d.trim().parse().expect("a dim"))
        .collect();
    let n: usize = shape.iter().product();
    let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let sums = kinds_of_sums(dtype);
    let value = |i: usize| match kind {
        "any" => SPECIAL[(i + i / SPECIAL.len()) % SPECIAL.len()],
        "sum" => sums[i / inner(0) % sums.len()](i % inner(0)),
        "sum1" => sums[i / inner(1) % shape[1] % sums.len()](i % inner(1) + i / (inner(1) * shape[1])),
        "few" => match (i / inner(0), i % inner(0)) {
            (2, 0) if shape[0] > 3 => f64::NAN,
            (3, 0) if shape[0] > 3 => f64::INFINITY,
            _ => [1.0, 2.0, -1.0, 0.0, 3.0, -2.0, -0.0][i % 7],
        },
        "at2" => [0.0, 1.0, 1.0, 0.0, 1.0][i % 5],
        "nan" => f64::NAN,
        "minus_zero" => -0.0,
        _ => panic!("no kind of operand `{kind}`"),
    };
    let dtype = if kind == "at2" { DType::I64 } else { dtype };
    cast(&(0..n).map(value).collect::<Vec<_>>(), dtype, &shape)
}

/// Numbers of one kind by their place, of which no sum of products with small integers depends on the order.
fn kinds_of_sums(dtype: DType) -> [fn(usize) -> f64; 11] {
    type Power = fn(usize) -> f64;
    let (tiny, huge): (Power, Power) = match dtype {
        DType::F16 => (|i| [6e-8, 0.0, 1.2e-7, -6e-8, 0.0][i % 5], |i| if i == 0 { 65504.0 } else { 0.0 }),
        DType::F64 => {
            (|i| [5e-324, 0.0, 1e-323, -5e-324, 0.0][i % 5], |i| if i == 0 { f64::MAX } else { 0.0 })
        }
        _ => (
            |i| [1, 0, 2, -1, 0].map(|k| f64::from(k) * 2f64.powi(-126))[i % 5],
            |i| if i == 0 { 1.5 * 2f64.powi(127) } else { 0.0 },
        ),
    };
    [
        |i| [1.0, 2.0, -3.0, 4.0, -1.0][i % 5],
        |i| [0.0, -0.0, -0.0, 0.0, -0.0][i % 5],
        |_| -0.0,
        |i| [2.0, f64::NAN, 3.0, -1.0, 4.0][i % 5],
        |i| [-2.0, 3.0, f64::INFINITY, 1.0, 4.0][i % 5],
        |i| [1.0, f64::NEG_INFINITY, 2.0, 1.0, 1.0][i % 5],
        |i| [f64::INFINITY, 1.0, f64::NEG_INFINITY, 1.0, 1.0][i % 5],
        |_| f64::NEG_INFINITY,
        |i| [0.0, f64::INFINITY, -0.0, 1.0, 1.0][i % 5],
        tiny,
        huge,
    ]
}

/// The operation, operands and attributes of a row.
fn parts(row: &str) -> (Op, Vec<&str>, &str) {
    let (op, rest) = row.split_once('(').expect("OP(OPERANDS)");
    let (operands, attrs) = rest.split_once(')').expect("OP(OPERANDS)");
    // Commas within brackets part dims.
    let mut depth = 0;
    let outside = |c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ',' && depth == 0
    };
    let operands = operands.split(outside).map(str::trim).filter(|o| !o.is_empty()).collect();
    (Op::from_name(op).unwrap_or_else(|| panic!("no operation `{op}`")), operands, attrs)
}

/// The operations of rows.
pub fn operations(rows: &[&str]) -> BTreeSet<Op> {
    rows.iter().map(|row| parts(row).0).collect()
}

/// An integer type of the same size.
fn bits(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "u8",
        2 => "i16",
        4 => "i32",
        _ => "u64",
    }
}

/// A graph of every row that takes an element type, with its outputs and inputs.
pub fn graph(rows: &[&str], dtype: DType, exact: bool) -> (Graph, Vec<Output>, Vec<Value>) {
    let mut b = Builder::new("rows");
    let (mut outputs, mut inputs) = (vec![], vec![]);
    for row in rows {
        let (op, operands, attrs) = parts(row);
        // The graph of this node alone, whose text has the attributes.
        let attrs = attrs.replace("BITS", bits(dtype)).replace("= T", &format!("= {dtype}"));
        let tensors: Vec<Option<Tensor>> = operands.iter().map(|o| operand(o, dtype)).collect();
        let held = || tensors.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref()?)));
        let head = held().map(|(i, t)| format!("%{i}: {}", t.ty())).collect::<Vec<_>>().join(", ");
        let names =
            tensors.iter().enumerate().map(|(i, t)| t.as_ref().map_or("_".into(), |_| format!("%{i}")));
        let names = names.collect::<Vec<_>>().join(", ");
        let results =
            (0..op.info().results).map(|i| format!("%{}", 100 + i)).collect::<Vec<_>>().join(", ");
        let alone = format!("graph @row({head}) -> ({results}) {{ {results} = {op}({names}) {attrs} }}");
        let node = match text::parse(&alone, &|_| None) {
            Ok(g) => g.node(g.node_ids()[0]).clone(),
            // Some types have no such operation.
            Err(e) => {
                assert!(dtype != DType::F32, "{row}: {e}");
                continue;
            }
        };
        let mut value = |t: Tensor, spelling: &str| {
            if spelling.starts_with("constant ") || spelling.contains("] [") {
                return b.constant(t);
            }
            inputs.push(Value::Tensor(t.clone()));
            b.input(&format!("x{}", inputs.len()), Type::Tensor(t.ty()))
        };
        let values: Vec<_> =
            tensors.into_iter().zip(&operands).map(|(t, spelling)| Some(value(t?, spelling))).collect();
        for v in b.emit_node(op, node.attrs, &values, vec![]).expect("a node that was parsed") {
            b.output(&format!("{op}{}", outputs.len()), v);
            outputs.push(Output { op, what: (*row).to_owned(), exact });
        }
    }
    (b.graph, outputs, inputs)
}

/// What is held by an operand as a row spells it; nothing where it is left out.
fn operand(spelling: &str, dtype: DType) -> Option<Tensor> {
    match spelling.trim_start_matches("constant ") {
        "_" => None,
        o if o.contains("] [") => Some(text::parse_tensor(o, &|_| None).expect("a constant")),
        o => Some(tensor(o, dtype)),
    }
}
