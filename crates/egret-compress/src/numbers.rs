//! The numbers of a weight, as f64: read, and written.

use half::{bf16, f16};
use onnx_protobuf::TensorProto;

/// `TensorProto.DataType` of the float types.
const FLOAT: i32 = 1;
const FLOAT16: i32 = 10;
const DOUBLE: i32 = 11;
const BFLOAT16: i32 = 16;

/// Whether the elements are floats that can be pruned.
pub fn is_float(tensor: &TensorProto) -> bool {
    [FLOAT, FLOAT16, DOUBLE, BFLOAT16].contains(&tensor.data_type)
}

/// Whether scales can have the type of the elements.
pub fn has_scales(tensor: &TensorProto) -> bool {
    [FLOAT, FLOAT16, BFLOAT16].contains(&tensor.data_type)
}

/// Bytes of an element.
pub fn width(tensor: &TensorProto) -> usize {
    match tensor.data_type {
        DOUBLE => 8,
        FLOAT => 4,
        _ => 2,
    }
}

/// The elements; `None` if there are not as many as the shape says.
pub fn read(tensor: &TensorProto) -> Option<Vec<f64>> {
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let count = egret::ir::checked_len(&shape)?;
    let raw = &tensor.raw_data;
    let half = |bits: u16| match tensor.data_type {
        FLOAT16 => f16::from_bits(bits).to_f64(),
        _ => bf16::from_bits(bits).to_f64(),
    };
    let out: Vec<f64> = match tensor.data_type {
        FLOAT if raw.is_empty() => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
        FLOAT => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        DOUBLE if raw.is_empty() => tensor.double_data.clone(),
        DOUBLE => raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        FLOAT16 | BFLOAT16 if raw.is_empty() => tensor.int32_data.iter().map(|&v| half(v as u16)).collect(),
        FLOAT16 | BFLOAT16 => raw.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
        _ => return None,
    };
    (out.len() == count).then_some(out)
}

/// Make these the elements of a float tensor, rounded to its type.
pub fn write(tensor: &mut TensorProto, values: &[f64]) {
    tensor.raw_data = match tensor.data_type {
        DOUBLE => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        FLOAT16 => values.iter().flat_map(|&v| egret::ir::f16_of(v).to_le_bytes()).collect(),
        BFLOAT16 => values.iter().flat_map(|&v| egret::ir::bf16_of(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
    };
    tensor.float_data.clear();
    tensor.double_data.clear();
    tensor.int32_data.clear();
}
