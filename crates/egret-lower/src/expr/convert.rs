//! Between what buffers hold and what is computed with, and between dtypes.

use crate::error::Unsupported;
use crate::geometry::dtypes::{buffer_elem, compute_elem};
use crate::geometry::dtypes::{is_direct, is_half};
use egret_ir::{Attrs, DType};
use egret_loop::small_floats::{self as small, SmallFloat};
use egret_loop::{Arith, BinOp, Cmp, Elem, UnOp};

/// What a buffer holds, as it is computed with.
pub fn decode<A: Arith>(a: &mut A, dtype: DType, x: A::V) -> Result<A::V, Unsupported> {
    if is_direct(dtype) {
        return Ok(x);
    }
    if dtype == DType::F16 {
        return Ok(a.convert(Elem::F32, x));
    }
    let code = a.convert(Elem::I32, x);
    unpack(a, dtype, code)
}

/// The float format of a dtype.
fn small_float(dtype: DType) -> Option<SmallFloat> {
    Some(match dtype {
        DType::F16 => SmallFloat::F16,
        DType::BF16 => SmallFloat::BF16,
        DType::F8E4M3FN => SmallFloat::F8E4M3FN,
        DType::F8E4M3FNUZ => SmallFloat::F8E4M3FNUZ,
        DType::F8E5M2 => SmallFloat::F8E5M2,
        DType::F8E5M2FNUZ => SmallFloat::F8E5M2FNUZ,
        DType::F4E2M1 => SmallFloat::F4E2M1,
        _ => return None,
    })
}

/// The f32 that a code stands for.
fn unpack<A: Arith>(a: &mut A, dtype: DType, code: A::V) -> Result<A::V, Unsupported> {
    if dtype == DType::F8E8M0 {
        return Ok(small::unpack_power(a, code));
    }
    let float =
        small_float(dtype).ok_or_else(|| Unsupported::new(format!("has no conversion from {dtype}")))?;
    Ok(small::unpack(a, float, code))
}

/// The code of an f32.
fn pack<A: Arith>(a: &mut A, dtype: DType, x: A::V, saturate: bool) -> Result<A::V, Unsupported> {
    let float =
        small_float(dtype).ok_or_else(|| Unsupported::new(format!("has no conversion to {dtype}")))?;
    Ok(small::pack(a, float, x, saturate))
}

/// What is computed with, as a buffer holds it: rounded to the dtype.
pub fn encode<A: Arith>(a: &mut A, dtype: DType, x: A::V) -> Result<A::V, Unsupported> {
    if is_direct(dtype) {
        return Ok(x);
    }
    if dtype == DType::F16 {
        return Ok(a.convert(Elem::F16, x));
    }
    let code = if dtype == DType::F8E8M0 {
        small::pack_power(a, x, "nearest", true)
    } else {
        pack(a, dtype, x, false)?
    };
    Ok(a.convert(buffer_elem(dtype)?, code))
}

/// Rounds a computed value to what its dtype can hold: the smaller floats, the integers of fewer than 8
/// bits.
pub fn round_to<A: Arith>(a: &mut A, dtype: DType, x: A::V) -> Result<A::V, Unsupported> {
    let narrow = |a: &mut A, bits: u32, signed: bool| {
        if signed {
            let by = a.num(x, f64::from(8 - bits));
            let up = a.binary(BinOp::Shl, x, by);
            a.binary(BinOp::Shr, up, by)
        } else {
            let mask = a.num(x, f64::from((1u32 << bits) - 1));
            a.binary(BinOp::And, x, mask)
        }
    };
    Ok(match dtype {
        DType::I4 => narrow(a, 4, true),
        DType::U4 => narrow(a, 4, false),
        DType::I2 => narrow(a, 2, true),
        DType::U2 => narrow(a, 2, false),
        d if is_direct(d) => x,
        _ => {
            let code = encode(a, dtype, x)?;
            decode(a, dtype, code)?
        }
    })
}

/// Whether a number of an element type may be rounded to f32, and then once more to a smaller float. Whole numbers beyond 2^24, which
/// f32 rounds, are beyond all of these but bf16.
fn is_rounded_twice(from: Elem, to: DType) -> bool {
    let wide = match to {
        DType::BF16 => matches!(from, Elem::F64 | Elem::I32 | Elem::U32 | Elem::I64 | Elem::U64),
        _ => from == Elem::F64,
    };
    wide && small_float(to).is_some()
}

/// The f32 next to a number whose last bit is 1, or the number itself if it is an f32: rounded again to fewer bits, it is as if the
/// number were rounded once (`egret_float::to_odd`).
fn to_odd<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let from = a.elem(x);
    let near = a.convert(Elem::F32, x);
    let back = a.convert(from, near);
    let [size, size_back] =
        [x, back].map(|v| if from.is_float() || from.is_signed() { a.unary(UnOp::Abs, v) } else { v });
    let is_inexact = a.compare(Cmp::Ne, back, x);
    let is_beyond = a.compare(Cmp::Gt, size_back, size);
    let bits = a.bitcast(Elem::I32, near);
    let one = a.num(bits, 1.0);
    let less = a.binary(BinOp::Sub, bits, one);
    let bits = a.select(is_beyond, less, bits);
    let odd = a.binary(BinOp::Or, bits, one);
    let bits = a.select(is_inexact, odd, bits);
    a.bitcast(Elem::F32, bits)
}

/// The op `cast`, between computed values.
pub fn cast<A: Arith>(
    a: &mut A,
    attrs: &Attrs,
    from: DType,
    to: DType,
    x: A::V,
) -> Result<A::V, Unsupported> {
    if from == to {
        return Ok(x);
    }
    let target = compute_elem(to)?;
    if to == DType::Bool {
        let zero = a.num(x, 0.0);
        return Ok(a.compare(Cmp::Ne, x, zero));
    }
    if from == DType::Bool {
        let one = a.bits(x, target, egret_loop::number_bits(target, 1.0));
        let zero = a.bits(x, target, 0);
        return Ok(a.select(x, one, zero));
    }
    // To fewer than 8 bits, floats wrap as integers do.
    let narrow = from.is_float() && matches!(to, DType::I4 | DType::U4 | DType::I2 | DType::U2);
    let x = if narrow { a.convert(Elem::I32, x) } else { x };
    let y = if is_rounded_twice(a.elem(x), to) { to_odd(a, x) } else { a.convert(target, x) };
    if to == DType::F8E8M0 {
        let code = small::pack_power(a, y, attrs.str("round"), attrs.flag("saturate"));
        return Ok(small::unpack_power(a, code));
    }
    if is_direct(to) || is_half(to) {
        return round_to(a, to, y);
    }
    let code = pack(a, to, y, attrs.flag("saturate"))?;
    unpack(a, to, code)
}
