//! Floats of 16 bits and fewer: their codes computed to and from f32 by integer arithmetic.

use crate::{Arith, BinOp, Cmp, Elem, UnOp};

/// A float format of 16 bits and fewer, but for the powers of two.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum SmallFloat {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 4 bits of exponent, 3 of mantissa, no infinities.
    F8E4M3FN,
    /// As before, with one zero, one NaN, and another bias.
    F8E4M3FNUZ,
    /// The upper half of an f16.
    F8E5M2,
    /// As before, with one zero, one NaN, and another bias.
    F8E5M2FNUZ,
    /// 2 bits of exponent, 1 of mantissa, no infinities, no NaN.
    F4E2M1,
}

/// The layout of a float format with a sign bit above exponent and mantissa.
#[derive(Copy, Clone, Debug)]
struct Format {
    /// Bits of a code.
    bits: u32,
    /// Mantissa bits.
    mantissa: u32,
    /// Exponent bias.
    bias: i32,
    /// Code of the largest finite value.
    max: i32,
    /// Code of infinity.
    infinity: Option<i32>,
    /// Code of NaN, if there is one. With the sign bit alone set, zero has no sign.
    nan: Option<i32>,
}

fn format(float: SmallFloat) -> Format {
    let f = |bits, mantissa, bias, max, infinity, nan| Format { bits, mantissa, bias, max, infinity, nan };
    match float {
        SmallFloat::F16 => f(16, 10, 15, 0x7bff, Some(0x7c00), Some(0x7e00)),
        SmallFloat::BF16 => f(16, 7, 127, 0x7f7f, Some(0x7f80), Some(0x7fc0)),
        SmallFloat::F8E4M3FN => f(8, 3, 7, 0x7e, None, Some(0x7f)),
        SmallFloat::F8E4M3FNUZ => f(8, 3, 8, 0x7f, None, Some(0x80)),
        SmallFloat::F8E5M2 => f(8, 2, 15, 0x7b, Some(0x7c), Some(0x7f)),
        SmallFloat::F8E5M2FNUZ => f(8, 2, 16, 0x7f, None, Some(0x80)),
        SmallFloat::F4E2M1 => f(4, 1, 1, 7, None, None),
    }
}

/// Shorthands on i32 values.
struct Int<'a, A: Arith>(&'a mut A);

impl<A: Arith> Int<'_, A> {
    fn num(&mut self, like: A::V, v: i64) -> A::V {
        self.0.bits(like, Elem::I32, u64::from(v as u32))
    }
    fn with(&mut self, op: BinOp, x: A::V, v: i64) -> A::V {
        let c = self.num(x, v);
        self.0.binary(op, x, c)
    }
    fn test(&mut self, op: Cmp, x: A::V, v: i64) -> A::V {
        let c = self.num(x, v);
        self.0.compare(op, x, c)
    }
    /// `v` where `cond` holds, else x.
    fn put(&mut self, cond: A::V, v: i64, x: A::V) -> A::V {
        let c = self.num(x, v);
        self.0.select(cond, c, x)
    }
}

/// 2^n as f32 bits; also where it is subnormal.
fn power_of_two(n: i32) -> u64 {
    u64::from(2f32.powi(n).to_bits())
}

/// The f32 that a code (i32) stands for.
pub fn unpack<A: Arith>(a: &mut A, float: SmallFloat, code: A::V) -> A::V {
    let f = format(float);
    let sign_bit = 1i64 << (f.bits - 1);
    let mut i = Int(a);
    let sign = i.with(BinOp::And, code, sign_bit);
    let sign = i.with(BinOp::Shl, sign, i64::from(32 - f.bits));
    let magnitude = i.with(BinOp::And, code, sign_bit - 1);
    let shifted = i.with(BinOp::Shl, magnitude, i64::from(23 - f.mantissa));
    // Read as f32, the code is off by the difference of the biases. A subnormal is given the leading one that it has not, and that
    // is subtracted: no step has a subnormal f32, which might be flushed.
    let value = if f.bias == 127 {
        shifted
    } else {
        let normal = i.with(BinOp::Add, shifted, i64::from(127 - f.bias) << 23);
        let led = i.with(BinOp::Add, shifted, i64::from(128 - f.bias) << 23);
        let led = i.0.bitcast(Elem::F32, led);
        let one = i.0.bits(code, Elem::F32, power_of_two(1 - f.bias));
        let subnormal = i.0.binary(BinOp::Sub, led, one);
        let subnormal = i.0.bitcast(Elem::I32, subnormal);
        let is_subnormal = i.test(Cmp::Lt, magnitude, 1 << f.mantissa);
        i.0.select(is_subnormal, subnormal, normal)
    };
    let mut value = i.0.binary(BinOp::Or, value, sign);
    if f.bias != 127 {
        if let Some(infinity) = f.infinity {
            let special = i.test(Cmp::Ge, magnitude, infinity.into());
            let bits = i.with(BinOp::Or, value, 0x7f80_0000);
            value = i.0.select(special, bits, value);
        }
        if let Some(nan) = f.nan.filter(|_| f.infinity.is_none()) {
            let which = if i64::from(nan) == sign_bit { code } else { magnitude };
            let is_nan = i.test(Cmp::Eq, which, nan.into());
            value = i.put(is_nan, 0x7fc0_0000, value);
        }
    }
    a.bitcast(Elem::F32, value)
}

/// The code (i32) of an f32, rounded to nearest, ties to even. Beyond the largest value: that value if
/// `saturate`, else infinity or NaN.
pub fn pack<A: Arith>(a: &mut A, float: SmallFloat, x: A::V, saturate: bool) -> A::V {
    let f = format(float);
    let magnitude = a.unary(UnOp::Abs, x);
    let bits = a.bitcast(Elem::I32, magnitude);
    let all = a.bitcast(Elem::I32, x);
    let drop = i64::from(23 - f.mantissa);
    let mut i = Int(a);
    let odd = i.with(BinOp::Shr, bits, drop);
    let odd = i.with(BinOp::And, odd, 1);
    let half = i.with(BinOp::Add, bits, (1 << (drop - 1)) - 1);
    let rounded = i.0.binary(BinOp::Add, half, odd);
    let rounded = i.with(BinOp::Shr, rounded, drop);
    let mut code = i.with(BinOp::Sub, rounded, i64::from(127 - f.bias) << f.mantissa);
    if f.bias != 127 {
        // Below the least normal value, adding a number whose last bit is the least subnormal rounds to it.
        let step = 1 - f.bias - f.mantissa as i32 + 23;
        let magic = i.0.bits(x, Elem::F32, power_of_two(step));
        let sum = i.0.binary(BinOp::Add, magnitude, magic);
        let sum = i.0.bitcast(Elem::I32, sum);
        let subnormal = i.with(BinOp::Sub, sum, power_of_two(step) as i64);
        let is_subnormal = i.test(Cmp::Lt, bits, power_of_two(1 - f.bias) as i64);
        code = i.0.select(is_subnormal, subnormal, code);
    }
    let beyond = i.test(Cmp::Gt, code, f.max.into());
    let limit = if saturate { f.max } else { f.infinity.or(f.nan).unwrap_or(f.max) };
    code = i.put(beyond, limit.into(), code);
    let sign = i.with(BinOp::Shr, all, i64::from(32 - f.bits));
    let sign = i.with(BinOp::And, sign, 1 << (f.bits - 1));
    let unsigned_zero = f.nan == Some(1 << (f.bits - 1));
    let signed = i.0.binary(BinOp::Or, code, sign);
    let is_nan = i.test(Cmp::Gt, bits, 0x7f80_0000);
    let mut out = signed;
    if unsigned_zero {
        let is_zero = i.test(Cmp::Eq, code, 0);
        out = i.put(is_zero, 0, out);
        if !saturate {
            let is_limit = i.test(Cmp::Eq, code, limit.into());
            out = i.put(is_limit, limit.into(), out);
        }
    }
    match f.nan {
        Some(nan) => i.put(is_nan, nan.into(), out),
        // Without a NaN: -0, as in ONNX's reference.
        None => i.put(is_nan, 1 << (f.bits - 1), out),
    }
}

/// The power of two that a `f8e8m0` code stands for.
pub fn unpack_power<A: Arith>(a: &mut A, code: A::V) -> A::V {
    let mut i = Int(a);
    let bits = i.with(BinOp::Shl, code, 23);
    let is_least = i.test(Cmp::Eq, code, 0);
    // 2^-127 is subnormal in f32.
    let bits = i.put(is_least, 0x0040_0000, bits);
    let is_nan = i.test(Cmp::Eq, code, 255);
    let bits = i.put(is_nan, 0x7fc0_0000, bits);
    a.bitcast(Elem::F32, bits)
}

/// The `f8e8m0` code of an f32's magnitude, rounded `nearest` (ties away from zero), `up` or `down`.
pub fn pack_power<A: Arith>(a: &mut A, x: A::V, round: &str, saturate: bool) -> A::V {
    let all = a.bitcast(Elem::I32, x);
    let mut i = Int(a);
    let bits = i.with(BinOp::And, all, 0x7fff_ffff);
    let bump = match round {
        "up" => 0x007f_ffff,
        "down" => 0,
        _ => 0x0040_0000,
    };
    let sum = i.with(BinOp::Add, bits, bump);
    let mut code = i.with(BinOp::Shr, sum, 23);
    let beyond = i.test(Cmp::Ge, code, 255);
    code = i.put(beyond, if saturate { 254 } else { 255 }, code);
    let is_nan = i.test(Cmp::Gt, bits, 0x7f80_0000);
    i.put(is_nan, 255, code)
}
