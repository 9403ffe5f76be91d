//! Spellings of operations, types and accesses.

use crate::ir::{Access, BinOp, Cmp, Elem, Ty, UnOp};

macro_rules! names {
    ($($ty:ident { $($variant:ident $name:literal),* $(,)? })*) => {
        $(impl Name for $ty {
            fn name(self) -> &'static str {
                match self { $($ty::$variant => $name),* }
            }
            fn of(name: &str) -> Option<$ty> {
                match name { $($name => Some($ty::$variant),)* _ => None }
            }
        })*
    };
}

/// What is spelt as one word.
pub(super) trait Name: Sized {
    /// The word.
    fn name(self) -> &'static str;
    /// What the word stands for.
    fn of(name: &str) -> Option<Self>;
}

names! {
    UnOp {
        Neg "neg", Abs "abs", Sqrt "sqrt", Floor "floor", Ceil "ceil", Trunc "trunc", Nearest "nearest",
        Not "not",
    }
    BinOp {
        Add "add", Sub "sub", Mul "mul", Div "div", Rem "rem", Min "min", Max "max", SelMin "selmin",
        SelMax "selmax", And "and", Or "or", Xor "xor", Scale "scale", Shl "shl", Shr "shr",
    }
    Cmp { Eq "eq", Ne "ne", Lt "lt", Le "le", Gt "gt", Ge "ge" }
    Access { Read "read", Write "write", ReadWrite "readwrite" }
    Elem {
        Bool "bool", I8 "i8", I16 "i16", I32 "i32", I64 "i64", U8 "u8", U16 "u16", U32 "u32", U64 "u64",
        F16 "f16", F32 "f32", F64 "f64",
    }
}

/// A type of values: `f32`, `f32x4`.
pub(super) fn ty(name: &str) -> Option<Ty> {
    let (elem, lanes) = match name.split_once('x') {
        Some((elem, lanes)) => (elem, lanes.parse().ok().filter(|n| *n > 1)?),
        None => (name, 1),
    };
    Ty::new(Elem::of(elem)?, lanes)
}

/// A number of a type, or the bits in hexadecimal.
pub(super) fn spell_const(elem: Elem, bits: u64) -> String {
    let spelt = match elem {
        Elem::Bool => (if bits == 0 { "false" } else { "true" }).to_owned(),
        Elem::F32 => format!("{:?}", f32::from_bits(bits as u32)),
        Elem::F64 => format!("{:?}", f64::from_bits(bits)),
        _ if elem.is_signed() => {
            let unused = 64 - 8 * elem.size() as u32;
            ((bits << unused) as i64 >> unused).to_string()
        }
        _ => bits.to_string(),
    };
    if parse_const(elem, &spelt) == Some(bits) { spelt } else { format!("0x{bits:x}") }
}

/// The bits that [`spell_const`] spells.
pub(super) fn parse_const(elem: Elem, word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    let mask = u64::MAX >> (64 - 8 * elem.size() as u32);
    match elem {
        Elem::Bool => word.parse::<bool>().ok().map(u64::from),
        // Which of the many NaNs is said by bits.
        Elem::F32 => word.parse::<f32>().ok().filter(|x| !x.is_nan()).map(|x| x.to_bits().into()),
        Elem::F64 => word.parse::<f64>().ok().filter(|x| !x.is_nan()).map(f64::to_bits),
        _ if elem.is_signed() => {
            let value = word.parse::<i64>().ok()?;
            let unused = 64 - 8 * elem.size() as u32;
            (value << unused >> unused == value).then_some(value as u64 & mask)
        }
        _ => word.parse::<u64>().ok().filter(|v| v & mask == *v),
    }
}
