//! Inputs and outputs as the caller of compiled code sees them.

use egret_ir::{DType, Tensor, TensorType};
use egret_loop::Port;

/// The number of a dtype in ONNX's `TensorProto.DataType`, which the C ABI uses.
fn onnx_number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::String => 8,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::F8E4M3FN => 17,
        DType::F8E4M3FNUZ => 18,
        DType::F8E5M2 => 19,
        DType::F8E5M2FNUZ => 20,
        DType::U4 => 21,
        DType::I4 => 22,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::U2 => 25,
        DType::I2 => 26,
    }
}

/// The port of a tensor of constant shape.
pub fn port(name: &str, ty: &TensorType, bound: Option<&Tensor>) -> Port {
    Port {
        name: name.to_owned(),
        onnx_dtype: onnx_number(ty.dtype),
        dims: ty.const_dims().unwrap_or_default().into_iter().map(|d| d as i64).collect(),
        elem_size: ty.dtype.size(),
        bound: bound.map(|t| t.bytes().to_vec()),
    }
}
