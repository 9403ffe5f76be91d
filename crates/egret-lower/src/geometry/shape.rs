//! Dims and strides of values.

use egret_ir::{Graph, ValueId};

/// Dims of a value whose shape is constant.
pub fn dims(graph: &Graph, v: ValueId) -> Vec<i64> {
    graph.tensor_ty(v).const_dims().unwrap_or_default().into_iter().map(|d| d as i64).collect()
}

/// Row-major strides, in elements.
pub fn strides(dims: &[i64]) -> Vec<i64> {
    let mut out = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i] * dims[i].max(1);
    }
    out
}

/// (outer, axis, inner) extents around an axis.
pub fn split_at_axis(dims: &[i64], axis: usize) -> (i64, i64, i64) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}
