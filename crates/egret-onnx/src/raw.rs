//! ONNX's raw form of tensors: little-endian elements, those of less than 8 bits packed.

use crate::error::ImportError;
use egret_ir::{DType, Tensor};

/// Bits of an element in ONNX's packed forms.
pub(crate) fn bits(dtype: DType) -> usize {
    match dtype {
        DType::I2 | DType::U2 => 2,
        DType::I4 | DType::U4 | DType::F4E2M1 => 4,
        other => other.size() * 8,
    }
}

/// Packed 2- or 4-bit elements, the first in the low bits, one per byte; signed ones sign-extended.
fn unpack(dtype: DType, packed: &[u8], count: usize) -> Vec<u8> {
    let width = bits(dtype);
    let per_byte = 8 / width;
    (0..count)
        .map(|i| {
            let raw = packed[i / per_byte] >> (width * (i % per_byte)) & ((1 << width) - 1);
            if dtype.is_signed_int() && raw >> (width - 1) == 1 { raw | (0xffu8 << width) } else { raw }
        })
        .collect()
}

/// A tensor from ONNX's raw form: little-endian, elements of less than 8 bits packed.
pub(crate) fn from_raw(
    dtype: DType,
    shape: &[usize],
    count: usize,
    raw: &[u8],
) -> Result<Tensor, ImportError> {
    let expected = count.checked_mul(bits(dtype)).map(|b| b.div_ceil(8));
    if expected != Some(raw.len()) {
        return Err(ImportError::invalid(format!(
            "{dtype} data of shape {shape:?} has {} bytes",
            raw.len()
        )));
    }
    Ok(match dtype {
        DType::Bool => Tensor::from_bools(shape, &raw.iter().map(|&b| b != 0).collect::<Vec<_>>()),
        _ if bits(dtype) < 8 => Tensor::from_bytes(dtype, shape, &unpack(dtype, raw, count)),
        _ => Tensor::from_bytes(dtype, shape, raw),
    })
}
