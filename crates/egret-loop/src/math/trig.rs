//! Sine, cosine and tangent, right for arguments of any size.
//!
//! Arguments up to [`limit`] are reduced by pi/2 in three parts (Cody and Waite). Above it every bit of the reduction
//! matters: the 53 or 24 bits of the argument are multiplied, as integers, by the bits of 2/pi that their exponent
//! leaves over (Payne and Hanek, "Radian reduction for trigonometric functions", 1983). Large arguments are rare, so this
//! happens in a branch of its own ([`Arith::rarely`]).

use super::{Format, add, div, float_bits, format, mul, poly, scale, sub, with_sign_of};
use crate::arith::Arith;
use crate::ir::{BinOp, Cmp, Elem, UnOp};

/// The first bits of 2/pi after the binary point, most significant word first; a test derives them anew.
#[rustfmt::skip]
const TWO_OVER_PI: [u32; 38] = [
    0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a, 0x424dd2e0,
    0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4,
    0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d,
    0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab,
];

/// The largest argument that is reduced by subtraction: its quotient by pi/2 times the first part of pi/2 is exact.
fn limit(f: &Format) -> f64 {
    if f.double { 1_048_576.0 } else { 8192.0 }
}

/// x rounded to the nearest integer n with |n| < 2^(mantissa bits - 2): as a float, and as an integer.
fn round_small<A: Arith>(a: &mut A, x: A::V) -> (A::V, A::V) {
    let f = format(a, x);
    let magic = a.num(x, f.magic);
    let shifted = add(a, x, magic);
    let float = sub(a, shifted, magic);
    let bits = a.bitcast(f.int, shifted);
    let base = a.bits(x, f.int, float_bits(&f, f.magic));
    let int = a.binary(BinOp::Sub, bits, base);
    (float, int)
}

/// x = q * pi/2 + r with |r| <= pi/4: (r, the low bits of q as an integer of x's width). NaN for infinities and NaN.
fn reduce<A: Arith>(a: &mut A, x: A::V) -> (A::V, A::V) {
    let f = format(a, x);
    let near = reduce_near(a, &f, x);
    let magnitude = a.unary(UnOp::Abs, x);
    let [r, q] = a.rarely(magnitude, limit(&f), near, |a| reduce_far(a, &f, x));
    (r, q)
}

/// [`reduce`] by subtraction, for |x| up to [`limit`].
fn reduce_near<A: Arith>(a: &mut A, f: &Format, x: A::V) -> [A::V; 2] {
    let scaled = scale(a, x, std::f64::consts::FRAC_2_PI);
    let (nf, q) = round_small(a, scaled);
    let half_pi = std::f64::consts::FRAC_PI_2;
    let keep = |v: f64, bits: u32| f64::from_bits(v.to_bits() & !((1u64 << (52 - bits)) - 1));
    let parts = if f.double {
        let c1 = keep(half_pi, 27);
        [c1, half_pi - c1, 6.123_233_995_736_766e-17]
    } else {
        let c1 = keep(half_pi, 10);
        let c2 = keep(half_pi - c1, 10);
        [c1, c2, half_pi - c1 - c2]
    };
    let mut r = x;
    for part in parts {
        let c = a.num(x, -part);
        r = a.fma(nf, c, r);
    }
    [r, q]
}

/// [`reduce`] by exact arithmetic, for |x| of 2^13 and more (f32) or 2^20 and more (f64). Scalars only.
///
/// With x = m * 2^e, only the bits of 2/pi from place e - 1 on matter: those before make multiples of 4 quarter turns.
/// A window of them, as an integer in words of 32 bits, times m is x * 2/pi modulo 4, the first word ahead with two bits
/// before the binary point.
fn reduce_far<A: Arith>(a: &mut A, f: &Format, x: A::V) -> [A::V; 2] {
    let elem = a.elem(x);
    let word = |a: &mut A, bits: u64| a.bits(x, Elem::U64, bits);
    let op = |a: &mut A, op: BinOp, y: A::V, bits: u64| {
        let c = a.bits(x, Elem::U64, bits);
        a.binary(op, y, c)
    };
    let bits = a.bitcast(if f.double { Elem::U64 } else { Elem::U32 }, x);
    let bits = a.convert(Elem::U64, bits);
    let mantissa = op(a, BinOp::And, bits, (1 << f.mantissa_bits) - 1);
    let mantissa = op(a, BinOp::Or, mantissa, 1 << f.mantissa_bits);
    let exponent = op(a, BinOp::Shr, bits, f.mantissa_bits.into());
    let exponent = op(a, BinOp::And, exponent, if f.double { 0x7ff } else { 0xff });
    // Bit e - 1 of 2/pi stands at `place` behind `blank` words of zeros.
    let blank: usize = if f.double { 2 } else { 1 };
    let skipped = f.bias as u64 + u64::from(f.mantissa_bits) + 2 - 32 * blank as u64;
    let place = op(a, BinOp::Sub, exponent, skipped);
    let first = op(a, BinOp::Shr, place, 5);
    let shift = op(a, BinOp::And, place, 31);
    let highest = (if f.double { 2046 } else { 254 } - skipped) / 32;
    let at: Vec<A::V> = (1..=highest)
        .map(|i| {
            let i = word(a, i);
            a.compare(Cmp::Eq, first, i)
        })
        .collect();
    // The words of the window, as they lie and then moved up by `shift`.
    let table = |i: usize| u64::from(i.checked_sub(blank).map_or(0, |i| TWO_OVER_PI[i]));
    let words = if f.double { 6 } else { 4 };
    let lying: Vec<A::V> = (0..=words)
        .map(|j| {
            let mut chosen = word(a, table(j));
            for (i, &here) in at.iter().enumerate() {
                let other = word(a, table(j + i + 1));
                chosen = a.select(here, other, chosen);
            }
            chosen
        })
        .collect();
    let window: Vec<A::V> = (0..words)
        .map(|j| {
            let high = op(a, BinOp::Shl, lying[j], 32);
            let both = a.binary(BinOp::Or, high, lying[j + 1]);
            let moved = a.binary(BinOp::Shl, both, shift);
            op(a, BinOp::Shr, moved, 32)
        })
        .collect();
    // The product's words, from the least that counts to the first.
    let low = op(a, BinOp::And, mantissa, 0xffff_ffff);
    let high = op(a, BinOp::Shr, mantissa, 32);
    let mut product = vec![];
    let mut carry = word(a, 0);
    for c in (0..words - 1).rev() {
        let mut sum = carry;
        let mut take = |a: &mut A, factor: A::V, j: usize, upper: bool| {
            if j < words {
                let p = a.binary(BinOp::Mul, factor, window[j]);
                let part = if upper { op(a, BinOp::Shr, p, 32) } else { op(a, BinOp::And, p, 0xffff_ffff) };
                sum = a.binary(BinOp::Add, sum, part);
            }
        };
        take(a, low, c, false);
        take(a, low, c + 1, true);
        if f.double {
            take(a, high, c + 1, false);
            take(a, high, c + 2, true);
        }
        product.push(op(a, BinOp::And, sum, 0xffff_ffff));
        carry = op(a, BinOp::Shr, sum, 32);
    }
    product.reverse();
    let join = |a: &mut A, high: A::V, low: A::V| {
        let high = op(a, BinOp::Shl, high, 32);
        a.binary(BinOp::Or, high, low)
    };
    // Two bits before the binary point: the nearest quarter turn, and what is left of it, with its sign.
    let whole = join(a, product[0], product[1]);
    let rest = match product[2..] {
        [third, fourth, ..] => join(a, third, fourth),
        _ => op(a, BinOp::Shl, product[2], 32),
    };
    let q = op(a, BinOp::Add, whole, 1 << 61);
    let q = op(a, BinOp::Shr, q, 62);
    let nearest = op(a, BinOp::Shl, q, 62);
    let left = a.binary(BinOp::Sub, whole, nearest);
    let left = a.bitcast(Elem::I64, left);
    let left = a.convert(Elem::F64, left);
    let rest = op(a, BinOp::Shr, rest, 1);
    let rest = a.bitcast(Elem::I64, rest);
    let rest = a.convert(Elem::F64, rest);
    let rest = scale(a, rest, 2f64.powi(-63));
    let left = add(a, left, rest);
    let r = scale(a, left, std::f64::consts::FRAC_PI_2 * 2f64.powi(-62));
    // Only x >= 0 was looked at: a negative x has the opposite of both.
    let zero = a.num(x, 0.0);
    let negative = a.compare(Cmp::Lt, x, zero);
    let r = a.convert(elem, r);
    let minus_r = a.unary(UnOp::Neg, r);
    let r = a.select(negative, minus_r, r);
    let magnitude = a.unary(UnOp::Abs, x);
    let inf = a.num(x, f64::INFINITY);
    let finite = a.compare(Cmp::Lt, magnitude, inf);
    let nan = a.num(x, f64::NAN);
    let r = a.select(finite, r, nan);
    let q = a.bitcast(Elem::I64, q);
    let q = a.convert(f.int, q);
    let minus_q = a.unary(UnOp::Neg, q);
    [r, a.select(negative, minus_q, q)]
}

/// Sine and cosine of |r| <= pi/4.
fn sin_cos_reduced<A: Arith>(a: &mut A, r: A::V) -> (A::V, A::V) {
    let f = format(a, r);
    let r2 = mul(a, r, r);
    let terms = if f.double { 8 } else { 5 };
    let series = |first: u32| -> Vec<f64> {
        // Coefficients of r^2, r^4, .. of sin(r)/r (first = 1) or cos(r) (first = 0).
        let mut c = 1.0;
        (1..=terms)
            .map(|k| {
                let n = 2 * k + first;
                c /= -f64::from(n * (n - 1));
                c
            })
            .collect()
    };
    let p = poly(a, r2, &series(1));
    let p = mul(a, p, r2);
    let s = a.fma(p, r, r);
    // The sum of zeros is +0.
    let s = with_sign_of(a, s, r);
    let p = poly(a, r2, &series(0));
    let one = a.num(r, 1.0);
    let c = a.fma(p, r2, one);
    (s, c)
}

fn sin_shifted<A: Arith>(a: &mut A, x: A::V, quarter_turns: u64) -> A::V {
    let f = format(a, x);
    let elem = a.elem(x);
    let (r, q) = reduce(a, x);
    let (s, c) = sin_cos_reduced(a, r);
    let turns = a.bits(x, f.int, quarter_turns);
    let q = a.binary(BinOp::Add, q, turns);
    let one = a.bits(x, f.int, 1);
    let odd = a.binary(BinOp::And, q, one);
    let odd = a.compare(Cmp::Eq, odd, one);
    let y = a.select(odd, c, s);
    // Quadrants 2 and 3 are negative: bit 1 of q moves to the sign.
    let two = a.bits(x, f.int, 2);
    let sign = a.binary(BinOp::And, q, two);
    let up = a.bits(x, f.int, if f.double { 62 } else { 30 });
    let sign = a.binary(BinOp::Shl, sign, up);
    let y = a.bitcast(f.int, y);
    let y = a.binary(BinOp::Xor, y, sign);
    a.bitcast(elem, y)
}

/// Sine of radians. Absolute error at any x: 2e-7 (f32), 4e-15 (f64). NaN for infinities.
pub fn sin<A: Arith>(a: &mut A, x: A::V) -> A::V {
    sin_shifted(a, x, 0)
}

/// Cosine of radians; errors as [`sin`].
pub fn cos<A: Arith>(a: &mut A, x: A::V) -> A::V {
    sin_shifted(a, x, 1)
}

/// Tangent of radians: the quotient of [`sin`] and [`cos`], with their errors.
pub fn tan<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let f = format(a, x);
    let (r, q) = reduce(a, x);
    let (s, c) = sin_cos_reduced(a, r);
    let one = a.bits(x, f.int, 1);
    let odd = a.binary(BinOp::And, q, one);
    let odd = a.compare(Cmp::Eq, odd, one);
    let minus_c = a.unary(UnOp::Neg, c);
    let top = a.select(odd, minus_c, s);
    let bottom = a.select(odd, s, c);
    div(a, top, bottom)
}

#[cfg(test)]
mod tests {
    use super::TWO_OVER_PI;

    /// Machin's formula in fixed point of 64 + 1,280 bits: numbers are words, least significant first.
    #[test]
    fn the_bits_of_two_over_pi() {
        const WORDS: usize = 44;
        type Fixed = Vec<u32>;
        let divide = |x: &Fixed, by: u64| -> Fixed {
            let mut rest = 0u64;
            let mut out = vec![0; WORDS];
            for i in (0..WORDS).rev() {
                let digit = rest << 32 | u64::from(x[i]);
                out[i] = (digit / by) as u32;
                rest = digit % by;
            }
            out
        };
        let combine = |x: &Fixed, y: &Fixed, minus: bool| -> Fixed {
            let mut carry = i64::from(minus);
            (0..WORDS)
                .map(|i| {
                    let y = if minus { !y[i] } else { y[i] };
                    carry += i64::from(x[i]) + i64::from(y);
                    let word = carry as u32;
                    carry >>= 32;
                    word
                })
                .collect()
        };
        let times = |x: &Fixed, by: u64| -> Fixed {
            let mut carry = 0u64;
            x.iter()
                .map(|&w| {
                    carry += u64::from(w) * by;
                    let word = carry as u32;
                    carry >>= 32;
                    word
                })
                .collect()
        };
        // One is 2^1,312, in word 41.
        let one: Fixed = (0..WORDS).map(|i| u32::from(i == 41)).collect();
        let arctan_of_inverse = |n: u64| -> Fixed {
            let mut power = divide(&one, n);
            let (mut sum, mut k) = (power.clone(), 1);
            while power.iter().any(|&w| w != 0) {
                power = divide(&power, n * n);
                k += 2;
                sum = combine(&sum, &divide(&power, k), k % 4 == 3);
            }
            sum
        };
        let quarter = combine(&times(&arctan_of_inverse(5), 4), &arctan_of_inverse(239), true);
        let half_pi = times(&quarter, 2);
        // 2/pi is the largest fraction whose product with pi/2 stays below one: bit by bit.
        let mut bits = vec![0u32; TWO_OVER_PI.len()];
        let mut rest = one;
        for i in 0..32 * bits.len() {
            rest = times(&rest, 2);
            let next = combine(&rest, &half_pi, true);
            if next[WORDS - 1] >> 31 == 0 {
                rest = next;
                bits[i / 32] |= 1 << (31 - i % 32);
            }
        }
        assert_eq!(bits, TWO_OVER_PI);
    }
}
