//! Remainders. Those of floats are exact on every target: their parts are products that no rounding changes, fused or not.

use egret_loop::{Arith, BinOp, Cmp, Elem, UnOp, math};

/// The largest quotient that one [`step`] is enough for.
const FEW: f64 = 1_048_576.0;

/// x less y times a whole number. A quotient beyond [`FEW`] is taken apart: the remainder by y times ever smaller powers of two, of f32 as
/// far as 2^24 at a time, in f64; of f64 as far as 2^50.
pub(super) fn float_mod<A: Arith>(a: &mut A, sign_of_dividend: bool, x: A::V, y: A::V) -> A::V {
    let (px, py) = (a.unary(UnOp::Abs, x), a.unary(UnOp::Abs, y));
    let infinity = a.num(x, f64::INFINITY);
    let near = step(a, px, py);
    let quotient = a.binary(BinOp::Div, px, py);
    let [r, _] = a.rarely(quotient, FEW, [near, near], |a| {
        let r = far(a, px, py);
        // Nothing is left of infinities, and nothing divides by zero.
        let zero = a.num(px, 0.0);
        let nan = a.num(px, f64::NAN);
        let proper = a.compare(Cmp::Gt, py, zero);
        let r = a.select(proper, r, nan);
        let finite = a.compare(Cmp::Lt, px, infinity);
        let r = a.select(finite, r, nan);
        [r, r]
    });
    let endless = a.compare(Cmp::Eq, py, infinity);
    let finite = a.compare(Cmp::Lt, px, infinity);
    let whole = a.binary(BinOp::And, endless, finite);
    let r = a.select(whole, px, r);
    let r = math::with_sign_of(a, r, x);
    if sign_of_dividend {
        return r;
    }
    let moved = follow_divisor(a, r, y);
    let zero = a.num(x, 0.0);
    let none = a.compare(Cmp::Eq, moved, zero);
    let signed = math::with_sign_of(a, zero, y);
    a.select(none, signed, moved)
}

/// A remainder with the sign of the dividend, moved to that of the divisor.
pub(super) fn follow_divisor<A: Arith>(a: &mut A, r: A::V, y: A::V) -> A::V {
    let zero = a.num(y, 0.0);
    let some = a.compare(Cmp::Ne, r, zero);
    let (r_below, y_below) = (a.compare(Cmp::Lt, r, zero), a.compare(Cmp::Lt, y, zero));
    let differ = a.binary(BinOp::Xor, r_below, y_below);
    let moved = a.binary(BinOp::Add, r, y);
    let both = a.binary(BinOp::And, some, differ);
    a.select(both, moved, r)
}

/// The remainder of positive numbers with any quotient.
fn far<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let double = a.elem(x) == Elem::F64;
    let mut r = a.convert(Elem::F64, x);
    let y = a.convert(Elem::F64, y);
    let (bits, range) = if double { (50, 2100) } else { (24, 300) };
    for i in (0..=range / bits).rev() {
        // 2^(i * bits) may lie beyond the range of f64: what it makes infinite is no divisor.
        let mut part = y;
        let mut left = i * bits;
        while left > 0 {
            let by = left.min(1000);
            let scale = a.num(part, 2f64.powi(by));
            part = a.binary(BinOp::Mul, part, scale);
            left -= by;
        }
        let next = if double { step(a, r, part) } else { short_step(a, r, part) };
        let fits = a.compare(Cmp::Le, part, r);
        r = a.select(fits, next, r);
    }
    let elem = a.elem(x);
    a.convert(elem, r)
}

/// x - y * trunc(x / y) of positive f64 that are f32, with a quotient of up to 2^25: its product with y is an f64.
fn short_step<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let q = a.binary(BinOp::Div, x, y);
    let q = a.unary(UnOp::Trunc, q);
    let q = a.unary(UnOp::Neg, q);
    let r = a.fma(q, y, x);
    mended(a, r, y)
}

/// x - y * trunc(x / y) of positive numbers with a quotient of up to [`FEW`] (f32) or 2^51 (f64). The product is the sum of its rounded
/// value and of what that lacks, found from halves of the factors' digits (Dekker, "A floating-point technique for extending the
/// available precision", 1971); the difference from x is a number of the format, and so is the one from y.
fn step<A: Arith>(a: &mut A, x: A::V, y: A::V) -> A::V {
    let double = a.elem(x) == Elem::F64;
    // The digits of small divisors must not be subnormal, which may be flushed. A dividend that this makes infinite has too large a
    // quotient.
    let (small, up) =
        if double { (2f64.powi(-900), 2f64.powi(200)) } else { (2f64.powi(-100), 2f64.powi(64)) };
    let limit = a.num(y, small);
    let is_small = a.compare(Cmp::Lt, y, limit);
    let one = a.num(y, 1.0);
    let scales = |a: &mut A, by: f64| {
        let by = a.num(y, by);
        a.select(is_small, by, one)
    };
    let (up, down) = (scales(a, up), scales(a, 1.0 / up));
    let (x, y) = (a.binary(BinOp::Mul, x, up), a.binary(BinOp::Mul, y, up));
    let q = a.binary(BinOp::Div, x, y);
    let q = a.unary(UnOp::Trunc, q);
    let product = a.binary(BinOp::Mul, q, y);
    // The quotient may be one too large, and its product beyond the largest number.
    let most = a.num(x, if double { f64::MAX } else { f32::MAX.into() });
    let product = a.binary(BinOp::SelMin, most, product);
    let ((q_high, q_low), (y_high, y_low)) = (halves(a, q), halves(a, y));
    let mut lacks = a.unary(UnOp::Neg, product);
    for (q, y) in [(q_high, y_high), (q_high, y_low), (q_low, y_high), (q_low, y_low)] {
        lacks = a.fma(q, y, lacks);
    }
    let r = a.binary(BinOp::Sub, x, product);
    let r = a.binary(BinOp::Sub, r, lacks);
    let r = mended(a, r, y);
    a.binary(BinOp::Mul, r, down)
}

/// A number as the sum of its first half of digits and the others.
fn halves<A: Arith>(a: &mut A, x: A::V) -> (A::V, A::V) {
    let elem = a.elem(x);
    let (int, first) = match elem {
        Elem::F64 => (Elem::I64, !((1u64 << 27) - 1)),
        _ => (Elem::I32, u64::from(!((1u32 << 12) - 1))),
    };
    let bits = a.bitcast(int, x);
    let mask = a.bits(x, int, first);
    let bits = a.binary(BinOp::And, bits, mask);
    let high = a.bitcast(elem, bits);
    let low = a.binary(BinOp::Sub, x, high);
    (high, low)
}

/// A remainder by y of a quotient that was rounded and may be one too large or too small.
fn mended<A: Arith>(a: &mut A, r: A::V, y: A::V) -> A::V {
    let zero = a.num(r, 0.0);
    let low = a.compare(Cmp::Lt, r, zero);
    let up = a.binary(BinOp::Add, r, y);
    let r = a.select(low, up, r);
    let high = a.compare(Cmp::Ge, r, y);
    let down = a.binary(BinOp::Sub, r, y);
    a.select(high, down, r)
}
