//! Inputs and outputs as the caller of compiled code sees them.

use crate::geometry::shape::dims_of;
use egret_ir::{Tensor, TensorType};
use egret_loop::Port;

/// The port of a tensor of constant shape.
pub fn port(name: &str, ty: &TensorType, bound: Option<&Tensor>) -> Port {
    Port {
        name: name.to_owned(),
        onnx_dtype: ty.dtype.abi_code() as i32,
        dims: dims_of(ty),
        elem_size: ty.dtype.size(),
        bound: bound.map(|t| t.bytes().to_vec()),
    }
}
