//! Inputs and outputs as the caller of compiled code sees them.

use egret_ir::{Tensor, TensorType};
use egret_loop::Port;

/// The port of a tensor of constant shape.
pub fn port(name: &str, ty: &TensorType, bound: Option<&Tensor>) -> Port {
    Port {
        name: name.to_owned(),
        onnx_dtype: ty.dtype.abi_code() as i32,
        dims: ty.const_dims().unwrap_or_default().into_iter().map(|d| d as i64).collect(),
        elem_size: ty.dtype.size(),
        bound: bound.map(|t| t.bytes().to_vec()),
    }
}
