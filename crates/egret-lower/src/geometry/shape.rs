//! Dims and strides of values.

use egret_ir::{Dim, Graph, TensorType, ValueId};

/// Dims of a tensor.
///
/// # Panics
/// If they are not constant: `plan::legalize` refuses such graphs before anything asks for dims.
pub fn dims(graph: &Graph, v: ValueId) -> Vec<i64> {
    dims_of(graph.tensor_ty(v))
}

/// As [`dims`], of a type.
pub fn dims_of(ty: &TensorType) -> Vec<i64> {
    let dims = ty.const_dims().unwrap_or_else(|| unreachable!("lowering a value of type {ty}"));
    dims.into_iter().map(|d| d as i64).collect()
}

/// Number of elements of a type; panics as [`dims`] does.
pub fn len_of(ty: &TensorType) -> usize {
    ty.const_len().unwrap_or_else(|| unreachable!("lowering a value of type {ty}"))
}

/// Row-major strides, in elements, of dims that `geometry::size` holds to its limit.
pub fn strides(dims: &[i64]) -> Vec<i64> {
    let mut out = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        out[i - 1] = out[i] * dims[i].max(1);
    }
    out
}

/// Number of elements of dims that may be free.
pub fn volume(dims: &[Dim]) -> Dim {
    dims.iter().cloned().fold(Dim::constant(1), |n, d| n * d)
}

/// Row-major strides of dims that may be free.
pub fn free_strides(dims: &[Dim]) -> Vec<Dim> {
    (0..dims.len()).map(|i| volume(&dims[i + 1..])).collect()
}

/// (outer, axis, inner) extents around an axis.
pub fn split_at_axis(dims: &[i64], axis: usize) -> (i64, i64, i64) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}
