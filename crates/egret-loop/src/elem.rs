//! Element types, and numbers as their bits.

use std::fmt;

/// Element type of values and buffers. f16 is moved, and converted from and to f32, nothing else; it stands among the integers, as its
/// code. Other types that compute in another (bf16, 8-bit floats) are stored as the unsigned integer of their size.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Elem {
    /// One byte in a buffer, 0 or 1. As a vector: a mask with lanes as wide as the vectors it came from.
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Elem {
    /// Bytes in a buffer.
    pub fn size(self) -> usize {
        match self {
            Elem::Bool | Elem::I8 | Elem::U8 => 1,
            Elem::I16 | Elem::U16 | Elem::F16 => 2,
            Elem::I32 | Elem::U32 | Elem::F32 => 4,
            Elem::I64 | Elem::U64 | Elem::F64 => 8,
        }
    }

    /// `f32` or `f64`: a float that is computed with.
    pub fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::F64)
    }

    /// A signed integer.
    pub fn is_signed(self) -> bool {
        matches!(self, Elem::I8 | Elem::I16 | Elem::I32 | Elem::I64)
    }

    /// The spelling.
    pub fn name(self) -> &'static str {
        match self {
            Elem::Bool => "bool",
            Elem::I8 => "i8",
            Elem::I16 => "i16",
            Elem::I32 => "i32",
            Elem::I64 => "i64",
            Elem::U8 => "u8",
            Elem::U16 => "u16",
            Elem::U32 => "u32",
            Elem::U64 => "u64",
            Elem::F16 => "f16",
            Elem::F32 => "f32",
            Elem::F64 => "f64",
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bits of a number in an element type: floats are rounded, integers truncated and wrapped, bool is `value != 0`.
pub fn number_bits(elem: Elem, value: f64) -> u64 {
    match elem {
        Elem::F16 => egret_float::f16_of(value).to_bits().into(),
        Elem::F32 => (value as f32).to_bits().into(),
        Elem::F64 => value.to_bits(),
        Elem::Bool => (value != 0.0).into(),
        _ => {
            let mask = if elem.size() == 8 { u64::MAX } else { (1 << (8 * elem.size())) - 1 };
            (if value < 0.0 { value as i64 as u64 } else { value as u64 }) & mask
        }
    }
}
