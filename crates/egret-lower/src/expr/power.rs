//! Powers with constant exponents that are a few instructions: quarters, from roots and products.

use egret_loop::{Arith, BinOp, Cmp, UnOp};

/// The largest magnitude of an exponent of a short power: the roundings of longer products add up.
const LARGEST: f64 = 3.0;

/// Whether a power with this exponent is a few instructions: a multiple of 1/4 in -3..=3. The errors of the roots and products
/// stay below three units in the last place.
pub fn is_short(exponent: f64) -> bool {
    exponent.abs() <= LARGEST && (exponent * 4.0).fract() == 0.0
}

/// x to the power of an exponent that [is short](is_short), at special values as IEEE 754 `pow`: `x^-1.75 = (1 / |x|) / (r * q)` of
/// the roots `r = x^(1/2)` and `q = x^(1/4)`.
pub fn short<A: Arith>(a: &mut A, x: A::V, exponent: f64) -> A::V {
    let whole = exponent.abs().trunc() as u32;
    let quarters = (exponent.abs().fract() * 4.0) as u32;
    if quarters == 0 && whole == 0 {
        // Of NaN, too.
        return a.num(x, 1.0);
    }
    let root = part(a, x, quarters);
    let root = if exponent < 0.0 { root.map(|r| inverse(a, r)) } else { root };
    if whole == 0 {
        return root.unwrap_or(x);
    }
    // A power that is not whole has no sign: of -0 it is 0 or infinity.
    let base = if quarters == 0 { x } else { a.unary(UnOp::Abs, x) };
    // The inverse first: the power of a large number is infinite before that of its inverse is 0.
    let base = if exponent < 0.0 { inverse(a, base) } else { base };
    let mut power = base;
    for _ in 1..whole {
        power = a.binary(BinOp::Mul, power, base);
    }
    match root {
        Some(root) => a.binary(BinOp::Mul, power, root),
        None => power,
    }
}

/// x to the power of some quarters, of which there are less than four; nothing for none.
fn part<A: Arith>(a: &mut A, x: A::V, quarters: u32) -> Option<A::V> {
    if quarters == 0 {
        return None;
    }
    let half = half(a, x);
    if quarters == 2 {
        return Some(half);
    }
    let quarter = a.unary(UnOp::Sqrt, half);
    Some(if quarters == 1 { quarter } else { a.binary(BinOp::Mul, half, quarter) })
}

/// x to the power of a half: the root, but of -0 it is 0, and of -infinity infinity (IEEE 754, 9.2.1).
fn half<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let (zero, least) = (a.num(x, 0.0), a.num(x, f64::NEG_INFINITY));
    let positive = a.binary(BinOp::Add, x, zero);
    let root = a.unary(UnOp::Sqrt, positive);
    let infinite = a.compare(Cmp::Eq, x, least);
    let most = a.num(x, f64::INFINITY);
    a.select(infinite, most, root)
}

fn inverse<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let one = a.num(x, 1.0);
    a.binary(BinOp::Div, one, x)
}
