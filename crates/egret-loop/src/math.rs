//! Mathematical functions as straight-line arithmetic on f32 or f64, scalar or vector: compiled models need no libm.
//!
//! Everything is range reduction by exact identities and truncated series whose coefficients are computed here, so that
//! there are no tables to trust. Errors (tests hold them, against the host's libm): f32 functions stay within 4e-7, f64 ones
//! within 4e-15, relative to the larger of |result| and the smallest normal number, with the exceptions that their docs name.

use crate::arith::Arith;
use crate::ir::{BinOp, Cmp, Elem, UnOp};

mod erf;
mod trig;

pub use erf::{erf, one_plus_erf};
pub use trig::{cos, sin, tan};

/// Facts about the float format of a value.
struct Format {
    int: Elem,
    mantissa_bits: u32,
    bias: i64,
    /// 1.5 * 2^mantissa_bits: adding and subtracting it rounds to an integer, which then stands in the low mantissa bits.
    magic: f64,
    double: bool,
}

fn format<A: Arith>(a: &A, x: A::V) -> Format {
    match a.elem(x) {
        Elem::F64 => Format {
            int: Elem::I64,
            mantissa_bits: 52,
            bias: 1023,
            magic: 6_755_399_441_055_744.0,
            double: true,
        },
        _ => Format { int: Elem::I32, mantissa_bits: 23, bias: 127, magic: 12_582_912.0, double: false },
    }
}

fn float_bits(f: &Format, value: f64) -> u64 {
    if f.double { value.to_bits() } else { (value as f32).to_bits().into() }
}

/// Horner's rule, lowest coefficient first.
fn poly<A: Arith>(a: &mut A, x: A::V, coefficients: &[f64]) -> A::V {
    let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
    let mut sum = a.num(x, *last);
    for &c in rest.iter().rev() {
        let c = a.num(x, c);
        sum = a.fma(sum, x, c);
    }
    sum
}

fn add<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    a.binary(BinOp::Add, x, y)
}
fn sub<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    a.binary(BinOp::Sub, x, y)
}
fn mul<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    a.binary(BinOp::Mul, x, y)
}
fn div<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    a.binary(BinOp::Div, x, y)
}
fn scale<A: Arith>(a: &mut A, x: A::V, by: f64) -> A::V {
    let c = a.num(x, by);
    a.binary(BinOp::Mul, x, c)
}
fn offset<A: Arith>(a: &mut A, x: A::V, by: f64) -> A::V {
    let c = a.num(x, by);
    a.binary(BinOp::Add, x, c)
}
/// Not above `high` (NaN stays NaN).
fn at_most<A: Arith>(a: &mut A, x: A::V, high: f64) -> A::V {
    let c = a.num(x, high);
    a.binary(BinOp::SelMin, c, x)
}
/// Not below `low` (NaN stays NaN).
fn at_least<A: Arith>(a: &mut A, x: A::V, low: f64) -> A::V {
    let c = a.num(x, low);
    a.binary(BinOp::SelMax, c, x)
}

/// The magnitude of `value` with the sign of `sign`; `value` must not be negative.
pub fn with_sign_of<A: Arith>(a: &mut A, value: A::V, sign: A::V) -> A::V {
    let f = format(a, value);
    let mask = a.bits(value, f.int, 1 << (if f.double { 63 } else { 31 }));
    let s = a.bitcast(f.int, sign);
    let s = a.binary(BinOp::And, s, mask);
    let v = a.bitcast(f.int, value);
    let v = a.binary(BinOp::Or, v, s);
    let elem = a.elem(value);
    a.bitcast(elem, v)
}

/// n = x / ln 2 rounded to a whole number, as a float and as the low bits of one ([`power_of_two`]), and r = x - n * ln 2, for which
/// |r| <= ln(2) / 2 and a little.
struct Reduced<T> {
    n: T,
    shifted: T,
    r: T,
}

/// See [`Reduced`].
fn reduce_exp<A: Arith>(a: &mut A, x: A::V) -> Reduced<A::V> {
    let f = format(a, x);
    let magic = a.num(x, f.magic);
    let per_octave = a.num(x, std::f64::consts::LOG2_E);
    let shifted = a.fma(x, per_octave, magic);
    let n = sub(a, shifted, magic);
    // ln 2 in two parts; the high one has enough zero bits that n * high is exact without FMA.
    let high = if f.double {
        f64::from_bits(std::f64::consts::LN_2.to_bits() & !0x7ff_ffff)
    } else {
        0.693_359_375
    };
    let low = if f.double {
        (std::f64::consts::LN_2 - high) + 2.319_046_813_846_299_6e-17
    } else {
        std::f64::consts::LN_2 - high
    };
    let c = a.num(x, -high);
    let r = a.fma(n, c, x);
    let c = a.num(x, -low);
    let r = a.fma(n, c, r);
    Reduced { n, shifted, r }
}

/// Coefficients of r, r^2, r^3, ... that come to exp(r) - 1 for the r of [`Reduced`]. f64: those of the series, 1 / k!.
fn exp_terms(f: &Format) -> Vec<f64> {
    if !f.double {
        return EXP.to_vec();
    }
    let mut factorial = 1.0;
    let next = |k: i32| {
        factorial *= f64::from(k);
        1.0 / factorial
    };
    (1..=13).map(next).collect()
}

/// Fitted for the least relative error of exp(r) up to |r| = ln(2) / 2, each coefficient to f32, the first two terms as they are:
/// 3.2e-9. The series comes to 7.3e-9 with a term more.
const EXP: [f64; 6] =
    [1.0, 4.999_999_404e-1, 1.666_651_666e-1, 4.166_810_215e-2, 8.369_192_481e-3, 1.383_890_281e-3];

/// e^x.
pub fn exp<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let (low, high) = if f.double { (-746.0, 710.0) } else { (-104.0, 89.0) };
    let x = at_most(a, x, high);
    let x = at_least(a, x, low);
    let Reduced { n, r, .. } = reduce_exp(a, x);
    let p = poly(a, r, &[&[1.0], &exp_terms(&f)[..]].concat());
    // Overflow to infinity and subnormal results, rounded once, are in the meaning of the operation.
    a.binary(BinOp::Scale, p, n)
}

/// e^x times [`SMALL_ONE`], which does not overflow where 1 / e^x is a subnormal number, not 0.
fn small_exp<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let (low, high) = if f.double { (-746.0, 746.0) } else { (-104.0, 104.0) };
    let x = at_most(a, x, high);
    let x = at_least(a, x, low);
    let Reduced { n, r, .. } = reduce_exp(a, x);
    // A power of two in all coefficients changes no digit.
    let terms: Vec<f64> = std::iter::once(1.0).chain(exp_terms(&f)).map(|c| c * SMALL_ONE).collect();
    let p = poly(a, r, &terms);
    a.binary(BinOp::Scale, p, n)
}

/// 2^-64.
const SMALL_ONE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

/// 2^n, where n is in the exponent range, from the low bits of n + 1.5 * 2^mantissa bits: a factor of two.
fn power_of_two<A: Arith>(a: &mut A, shifted: A::V) -> A::V {
    let f = format(a, shifted);
    let bits = a.bitcast(f.int, shifted);
    let by = a.bits(shifted, f.int, f.mantissa_bits.into());
    let exponent = a.binary(BinOp::Shl, bits, by);
    let one = a.bits(shifted, f.int, float_bits(&f, 1.0));
    let bits = a.binary(BinOp::Add, exponent, one);
    let elem = a.elem(shifted);
    a.bitcast(elem, bits)
}

/// e^r - 1 for the r of [`Reduced`], accurate near 0.
fn expm1_reduced<A: Arith>(a: &mut A, r: A::V) -> A::V {
    let f = format(a, r);
    // r + r^2 * q keeps the leading term exact.
    let q = poly(a, r, &exp_terms(&f)[1..]);
    let r2 = mul(a, r, r);
    a.fma(r2, q, r)
}

/// e^x - 1 for x in -30..40, accurate near 0.
fn expm1_small<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let Reduced { shifted, r, .. } = reduce_exp(a, x);
    let p = expm1_reduced(a, r);
    let s = power_of_two(a, shifted);
    let rest = offset(a, s, -1.0);
    a.fma(s, p, rest)
}

/// Natural logarithm.
pub fn log<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let elem = a.elem(x);
    // Denormals are scaled into the normal range.
    let smallest = if f.double { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
    let up = (1u64 << f.mantissa_bits) as f64;
    let limit = a.num(x, smallest);
    let tiny = a.compare(Cmp::Lt, x, limit);
    let scaled = scale(a, x, up);
    let y = a.select(tiny, scaled, x);
    let zero = a.num(x, 0.0);
    let shift = a.num(x, -f64::from(f.mantissa_bits));
    let shift = a.select(tiny, shift, zero);
    // y = m * 2^e with m in [1, 2).
    let bits = a.bitcast(f.int, y);
    let width = a.bits(x, f.int, f.mantissa_bits.into());
    let exponent = a.binary(BinOp::Shr, bits, width);
    let mask = a.bits(x, f.int, if f.double { 0x7ff } else { 0xff });
    let exponent = a.binary(BinOp::And, exponent, mask);
    // Integer to float by writing it below the leading bit of 2^mantissa_bits.
    let lead = a.bits(x, f.int, float_bits(&f, up));
    let e = a.binary(BinOp::Or, exponent, lead);
    let e = a.bitcast(elem, e);
    let e = offset(a, e, -(up + f.bias as f64));
    let e = add(a, e, shift);
    let mask = a.bits(x, f.int, (1u64 << f.mantissa_bits) - 1);
    let m = a.binary(BinOp::And, bits, mask);
    let lead = a.bits(x, f.int, float_bits(&f, 1.0));
    let m = a.binary(BinOp::Or, m, lead);
    let m = a.bitcast(elem, m);
    // m into [sqrt(1/2), sqrt(2)).
    let root = a.num(x, std::f64::consts::SQRT_2);
    let large = a.compare(Cmp::Gt, m, root);
    let halved = scale(a, m, 0.5);
    let m = a.select(large, halved, m);
    let e1 = offset(a, e, 1.0);
    let e = a.select(large, e1, e);
    // log m = 2 atanh(s), s = (m - 1) / (m + 1); written as t - t * (t/2 - ..) would lose nothing: t = m - 1 is exact.
    let t = offset(a, m, -1.0);
    let d = offset(a, m, 1.0);
    let s = div(a, t, d);
    let s2 = mul(a, s, s);
    let terms = if f.double { 11 } else { 5 };
    let coefficients: Vec<f64> = (1..=terms).map(|k| 2.0 / f64::from(2 * k + 1)).collect();
    let q = poly(a, s2, &coefficients);
    let q = mul(a, q, s2);
    // 2s = t - s*t, so log m = t - s * (t - q).
    let inner = sub(a, t, q);
    let correction = mul(a, s, inner);
    let high = if f.double {
        f64::from_bits(std::f64::consts::LN_2.to_bits() & !0x7ff_ffff)
    } else {
        0.693_359_375
    };
    let low = std::f64::consts::LN_2 - high;
    let c = a.num(x, low);
    let small = mul(a, e, c);
    let small = sub(a, small, correction);
    let small = add(a, small, t);
    let c = a.num(x, high);
    let y = a.fma(e, c, small);
    // Special values.
    let inf = a.num(x, f64::INFINITY);
    let is_inf = a.compare(Cmp::Eq, x, inf);
    let y = a.select(is_inf, x, y);
    let is_zero = a.compare(Cmp::Eq, x, zero);
    let minus_inf = a.num(x, f64::NEG_INFINITY);
    let y = a.select(is_zero, minus_inf, y);
    let defined = a.compare(Cmp::Ge, x, zero);
    let nan = a.num(x, f64::NAN);
    a.select(defined, y, nan)
}

/// log(1 + u) for u >= 0.
fn log1p<A: Arith>(a: &mut A, u: A::V) -> A::V {
    let w = offset(a, u, 1.0);
    let l = log(a, w);
    // The rounding of 1 + u is made good to first order: log(1 + u) = log(w) + (u - (w - 1)) / w.
    let back = offset(a, w, -1.0);
    let lost = sub(a, u, back);
    let fix = div(a, lost, w);
    let y = add(a, l, fix);
    // Infinities have no rounding.
    let big = a.num(u, if format(a, u).double { 1e300 } else { 1e30 });
    let ok = a.compare(Cmp::Lt, u, big);
    a.select(ok, y, l)
}

/// Inverse tangent.
pub fn atan<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let m = a.unary(UnOp::Abs, x);
    // |x| > 1: atan x = pi/2 - atan(1/x); then above tan(pi/8): atan t = pi/4 + atan((t - 1) / (t + 1)).
    let one = a.num(x, 1.0);
    let zero = a.num(x, 0.0);
    let inverted = a.compare(Cmp::Gt, m, one);
    let inverse = div(a, one, m);
    let t = a.select(inverted, inverse, m);
    let limit = a.num(x, std::f64::consts::SQRT_2 - 1.0);
    let upper = a.compare(Cmp::Gt, t, limit);
    let top = offset(a, t, -1.0);
    let bottom = offset(a, t, 1.0);
    let turned = div(a, top, bottom);
    let t = a.select(upper, turned, t);
    let t2 = mul(a, t, t);
    let terms = if f.double { 21 } else { 9 };
    let coefficients: Vec<f64> =
        (1..=terms).map(|k| if k % 2 == 1 { -1.0 } else { 1.0 } / f64::from(2 * k + 1)).collect();
    let p = poly(a, t2, &coefficients);
    let p = mul(a, p, t2);
    let y = a.fma(p, t, t);
    let quarter = a.num(x, std::f64::consts::FRAC_PI_4);
    let base = a.select(upper, quarter, zero);
    let y = add(a, y, base);
    let half = a.num(x, std::f64::consts::FRAC_PI_2);
    let mirrored = sub(a, half, y);
    let y = a.select(inverted, mirrored, y);
    with_sign_of(a, y, x)
}

/// Inverse sine; NaN outside -1..1.
pub fn asin<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let one = a.num(x, 1.0);
    let below = sub(a, one, x);
    let above = add(a, one, x);
    let product = mul(a, below, above);
    let root = a.unary(UnOp::Sqrt, product);
    let t = div(a, x, root);
    atan(a, t)
}

/// Inverse cosine; NaN outside -1..1.
pub fn acos<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let one = a.num(x, 1.0);
    let below = sub(a, one, x);
    let above = add(a, one, x);
    let quotient = div(a, below, above);
    let root = a.unary(UnOp::Sqrt, quotient);
    let y = atan(a, root);
    scale(a, y, 2.0)
}

/// Hyperbolic sine.
pub fn sinh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let small = at_most(a, m, 20.0);
    let t = expm1_small(a, small);
    let d = offset(a, t, 1.0);
    let q = div(a, t, d);
    let near = add(a, t, q);
    let near = scale(a, near, 0.5);
    // exp(|x|) overflows before sinh does.
    let h = scale(a, m, 0.5);
    let e = exp(a, h);
    let far = scale(a, e, 0.5);
    let far = mul(a, far, e);
    let limit = a.num(x, 20.0);
    let is_far = a.compare(Cmp::Gt, m, limit);
    let y = a.select(is_far, far, near);
    with_sign_of(a, y, x)
}

/// Hyperbolic cosine.
pub fn cosh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let h = scale(a, m, 0.5);
    let e = exp(a, h);
    let big = scale(a, e, 0.5);
    let big = mul(a, big, e);
    let quarter = a.num(x, 0.25);
    let small = div(a, quarter, big);
    add(a, big, small)
}

/// Hyperbolic tangent.
pub fn tanh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let m = a.unary(UnOp::Abs, x);
    let m = at_most(a, m, 20.0);
    // (e^2m - 1) / (e^2m + 1) with 2m = n * ln 2 + r, both sides over 2^n: additions are what is left beside e^r - 1.
    let twice = add(a, m, m);
    let magic = a.num(x, f.magic);
    let per_octave = a.num(x, -std::f64::consts::LOG2_E);
    let shifted = a.fma(twice, per_octave, magic);
    let minus_n = sub(a, shifted, magic);
    // ln 2 in one part: the error of r grows as n, and what r counts for in the result falls as 4^-n.
    let octave = a.num(x, std::f64::consts::LN_2);
    let r = a.fma(minus_n, octave, twice);
    let p = expm1_reduced(a, r);
    let s = power_of_two(a, shifted);
    let one = a.num(x, 1.0);
    let less = sub(a, one, s);
    let top = add(a, p, less);
    // From the numerator as it was rounded, so that the quotient is close to 1 wherever both are.
    let more = add(a, s, s);
    let bottom = add(a, top, more);
    let y = div(a, top, bottom);
    with_sign_of(a, y, x)
}

/// Inverse hyperbolic sine.
pub fn asinh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let limit = if format(a, x).double { 1e150 } else { 1e15 };
    let near = at_most(a, m, limit);
    let sq = mul(a, near, near);
    let r = offset(a, sq, 1.0);
    let r = a.unary(UnOp::Sqrt, r);
    let r = offset(a, r, 1.0);
    let q = div(a, sq, r);
    let u = add(a, near, q);
    let y = log1p(a, u);
    let far = log(a, m);
    let far = offset(a, far, std::f64::consts::LN_2);
    let c = a.num(x, limit);
    let is_far = a.compare(Cmp::Ge, m, c);
    let y = a.select(is_far, far, y);
    with_sign_of(a, y, x)
}

/// Inverse hyperbolic cosine; NaN below 1.
pub fn acosh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let limit = if format(a, x).double { 1e150 } else { 1e15 };
    let near = at_most(a, x, limit);
    let t = offset(a, near, -1.0);
    let t2 = offset(a, t, 2.0);
    let sq = mul(a, t, t2);
    let r = a.unary(UnOp::Sqrt, sq);
    let u = add(a, t, r);
    let y = log1p(a, u);
    let far = log(a, x);
    let far = offset(a, far, std::f64::consts::LN_2);
    let c = a.num(x, limit);
    let is_far = a.compare(Cmp::Ge, x, c);
    let y = a.select(is_far, far, y);
    let one = a.num(x, 1.0);
    let valid = a.compare(Cmp::Ge, x, one);
    let nan = a.num(x, f64::NAN);
    a.select(valid, y, nan)
}

/// Inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond.
pub fn atanh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let one = a.num(x, 1.0);
    let d = sub(a, one, m);
    let n = scale(a, m, 2.0);
    let u = div(a, n, d);
    let y = log1p(a, u);
    let y = scale(a, y, 0.5);
    let valid = a.compare(Cmp::Le, m, one);
    let nan = a.num(x, f64::NAN);
    let y = a.select(valid, y, nan);
    with_sign_of(a, y, x)
}

/// Logistic function 1 / (1 + e^-x).
pub fn sigmoid<A: Arith>(a: &mut A, x: A::V) -> A::V {
    // Both sides of the quotient are small, so that its divisor does not overflow before it is subnormal.
    let n = a.unary(UnOp::Neg, x);
    let e = small_exp(a, n);
    let d = offset(a, e, SMALL_ONE);
    let one = a.num(x, SMALL_ONE);
    div(a, one, d)
}

/// log(1 + e^x), as max(x, 0) + log(1 + e^-|x|): nothing overflows, and below zero no digit is lost.
pub fn softplus<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let n = a.unary(UnOp::Neg, m);
    let e = exp(a, n);
    let l = log1p(a, e);
    let p = at_least(a, x, 0.0);
    add(a, p, l)
}

/// x to the power y, at special values as IEEE 754 `pow`. Relative error 4e-7 * max(1, |y log x|) (f32), 4e-15 likewise (f64).
pub fn pow<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let f = format(a, x);
    let m = a.unary(UnOp::Abs, x);
    let l = log(a, m);
    let product = mul(a, y, l);
    let p = exp(a, product);
    let zero = a.num(x, 0.0);
    let one = a.num(x, 1.0);
    // |x| = 1: 1 for infinite y, too, where the product is NaN.
    let unit = a.compare(Cmp::Eq, m, one);
    let p = a.select(unit, one, p);
    let whole = a.unary(UnOp::Floor, y);
    let is_whole = a.compare(Cmp::Eq, whole, y);
    let h = scale(a, y, 0.5);
    let hf = a.unary(UnOp::Floor, h);
    let is_odd = a.compare(Cmp::Ne, hf, h);
    // A base with a minus sign, be it -0 or -inf: whole odd exponents give the sign to the result. (A NaN passes here, too.)
    let negated = a.unary(UnOp::Neg, p);
    let bits = a.bitcast(f.int, x);
    let mask = a.bits(x, f.int, 1 << (if f.double { 63 } else { 31 }));
    let sign = a.binary(BinOp::And, bits, mask);
    let minus = a.compare(Cmp::Eq, sign, mask);
    let signed = a.select(minus, negated, p);
    let signed = a.select(is_odd, signed, p);
    let p = a.select(is_whole, signed, p);
    // A negative finite base has no other real powers.
    let below = a.compare(Cmp::Lt, x, zero);
    let inf = a.num(x, f64::INFINITY);
    let finite = a.compare(Cmp::Lt, m, inf);
    let nan = a.num(x, f64::NAN);
    let undefined = a.select(is_whole, p, nan);
    let undefined = a.select(finite, undefined, p);
    let p = a.select(below, undefined, p);
    // x^0 and 1^y are 1 whatever the other is.
    let y_zero = a.compare(Cmp::Eq, y, zero);
    let p = a.select(y_zero, one, p);
    let x_one = a.compare(Cmp::Eq, x, one);
    a.select(x_one, one, p)
}
