//! How values of Loop IR stand in WebAssembly's.
//!
//! A scalar `Bool` is an i32 of 0 or 1, and integers of fewer than 32 bits are an i32, extended by their sign. A vector of `Bool` has lanes
//! that are all ones or all zeros. All vectors of so many lanes have 16 bytes: smaller integers stand in wider lanes, extended by their sign. For
//! example, a `u8x4` is four 32-bit numbers below 256. (f16 counts among the unsigned integers, as its code.)

use egret_loop::{BASE_VECTOR_BYTES, Elem, Ty};
use wasm_encoder::ValType;

use crate::error::{Result, broken};

/// Bytes of a lane of a vector of so many lanes.
pub fn lane_bytes(lanes: u8) -> usize {
    BASE_VECTOR_BYTES / usize::from(lanes)
}

/// The type of a scalar.
pub fn scalar_type(elem: Elem) -> ValType {
    match elem {
        Elem::Bool | Elem::I8 | Elem::U8 | Elem::I16 | Elem::U16 | Elem::F16 | Elem::I32 | Elem::U32 => {
            ValType::I32
        }
        Elem::I64 | Elem::U64 => ValType::I64,
        Elem::F32 => ValType::F32,
        Elem::F64 => ValType::F64,
    }
}

/// The type of a value.
pub fn value_type(ty: Ty) -> Result<ValType> {
    let lane = lane_bytes(ty.lanes.max(1));
    let fits = match ty.elem {
        Elem::F32 | Elem::F64 => lane == ty.elem.size(),
        Elem::Bool => true,
        _ => ty.elem.size() <= lane && (lane < 8 || ty.elem.size() == 8),
    };
    match ty.lanes {
        1 => Ok(scalar_type(ty.elem)),
        2 | 4 | 8 | 16 if fits => Ok(ValType::V128),
        _ => Err(broken(format!("there are no vectors of the type {ty}"))),
    }
}

/// The element type of the lanes that a vector's integers stand in: as wide as so many lanes are in 16 bytes, of their sign.
pub fn lane_elem(ty: Ty) -> Elem {
    if ty.lanes == 1 || ty.elem.is_float() || ty.elem == Elem::Bool {
        return ty.elem;
    }
    match (lane_bytes(ty.lanes), ty.elem.is_signed()) {
        (2, true) => Elem::I16,
        (2, false) => Elem::U16,
        (4, true) => Elem::I32,
        (4, false) => Elem::U32,
        _ => ty.elem,
    }
}

/// The bits of an integer, extended by its sign.
pub fn extended(elem: Elem, bits: u64) -> u64 {
    let shift = 64 - 8 * elem.size() as u32;
    if elem.is_signed() { ((bits << shift) as i64 >> shift) as u64 } else { (bits << shift) >> shift }
}

/// The least and the largest integer of 8 or 16 bits.
pub fn small_range(elem: Elem) -> [i32; 2] {
    let bits = 8 * elem.size() as u32;
    if elem.is_signed() { [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] } else { [0, (1 << bits) - 1] }
}
