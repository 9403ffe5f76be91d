//! Inputs and outputs as the caller of compiled code sees them.

use egret_ir::{Tensor, TensorType};
use egret_loop::{Extent, Port};

/// The port of a tensor; its dims.
pub fn port(name: &str, ty: &TensorType, dims: Vec<Extent>, bound: Option<&Tensor>) -> Port {
    Port {
        name: name.to_owned(),
        onnx_dtype: ty.dtype.abi_code() as i32,
        dims,
        found: None,
        elem_size: ty.dtype.size(),
        bound: bound.map(|t| t.bytes().to_vec()),
    }
}
