//! How the dtypes of the graph are kept in buffers and computed with.

use crate::error::Unsupported;
use egret_ir::DType;
use egret_loop::Elem;

/// The element type of a dtype in a buffer; `None` for strings.
pub fn elem_of(dtype: DType) -> Option<Elem> {
    use DType::*;
    Some(match dtype {
        Bool => Elem::Bool,
        I8 | I2 | I4 => Elem::I8,
        I16 => Elem::I16,
        I32 => Elem::I32,
        I64 => Elem::I64,
        U8 | U2 | U4 | F4E2M1 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 => Elem::U8,
        U16 | BF16 => Elem::U16,
        F16 => Elem::F16,
        U32 => Elem::U32,
        U64 => Elem::U64,
        F32 => Elem::F32,
        F64 => Elem::F64,
        String => return None,
    })
}

/// A float of 16 bits: what is computed in f32 and rounded.
pub fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The element type that a dtype is computed in: that of its buffer, or f32 for the smaller floats.
pub fn compute_of(dtype: DType) -> Option<Elem> {
    if dtype.is_float() && dtype != DType::F64 { Some(Elem::F32) } else { elem_of(dtype) }
}

/// Whether a buffer holds the values that are computed with as they are.
pub fn is_direct(dtype: DType) -> bool {
    elem_of(dtype) == compute_of(dtype)
}

/// The element type of a dtype in a buffer, or why there is none.
pub fn buffer_elem(dtype: DType) -> Result<Elem, Unsupported> {
    elem_of(dtype).ok_or_else(|| Unsupported::new(format!("{dtype} is not held by compiled code")))
}

/// The element type that a dtype is computed in, or why there is none.
pub fn compute_elem(dtype: DType) -> Result<Elem, Unsupported> {
    compute_of(dtype)
        .ok_or_else(|| Unsupported::new(format!("{dtype} is not computed with by compiled code")))
}

/// The least value of a dtype: where a maximum starts.
pub fn least(dtype: DType) -> Result<f64, Unsupported> {
    Ok(match dtype {
        DType::I2 => -2.0,
        DType::I4 => -8.0,
        DType::I8 => i8::MIN.into(),
        DType::I16 => i16::MIN.into(),
        DType::I32 => i32::MIN.into(),
        DType::I64 => i64::MIN as f64,
        d if d.is_float() => f64::NEG_INFINITY,
        DType::String => return Err(Unsupported::new("has no least string")),
        _ => 0.0,
    })
}
