//! The Gauss error function.

use super::{at_least, at_most, exp, format, mul, offset, poly, scale, with_sign_of};
use crate::arith::Arith;
use crate::ir::{Cmp, UnOp};

/// Gauss error function. f32: within 4e-7 absolutely and of the result (`ERF`); f64: Kummer's series.
pub fn erf<A: Arith>(a: &mut A, x: A::V) -> A::V {
    if format(a, x).double {
        return series(a, x);
    }
    let (m, p) = over_argument(a, x);
    let y = mul(a, p, m);
    // At the end it comes to a little more than 1, which 1 - erf x must not.
    let y = at_most(a, y, 1.0);
    at_least(a, y, -1.0)
}

/// 1 + erf(x), which is not negative: within 4e-7 absolutely (f32), 4e-15 (f64).
pub fn one_plus_erf<A: Arith>(a: &mut A, x: A::V) -> A::V {
    if format(a, x).double {
        let y = series(a, x);
        return offset(a, y, 1.0);
    }
    let (m, p) = over_argument(a, x);
    let one = a.num(x, 1.0);
    let y = a.fma(p, m, one);
    let y = at_most(a, y, 2.0);
    at_least(a, y, 0.0)
}

/// Of f32: x held within [`ERF_END`], and erf(x) over that. The polynomial of its square has no branches, and no division.
fn over_argument<A: Arith>(a: &mut A, x: A::V) -> (A::V, A::V) {
    let m = at_most(a, x, ERF_END);
    let m = at_least(a, m, -ERF_END);
    let square = mul(a, m, m);
    let (slope, minus_one) = (a.num(x, 2.0 / (ERF_END * ERF_END)), a.num(x, -1.0));
    let u = a.fma(square, slope, minus_one);
    let p = poly(a, u, &ERF);
    (m, p)
}

/// erf x = 2/sqrt(pi) * exp(-x^2) * x * sum 2^k x^2k / (2k+1)!!: all terms positive. From 6 on it is 1.
fn series<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let m = a.unary(UnOp::Abs, x);
    let m = at_most(a, m, 6.0);
    let m2 = mul(a, m, m);
    let mut c = 1.0;
    let coefficients: Vec<f64> = (0..120)
        .map(|k| {
            if k > 0 {
                c *= 2.0 / f64::from(2 * k + 1);
            }
            c
        })
        .collect();
    let p = poly(a, m2, &coefficients);
    let n = a.unary(UnOp::Neg, m2);
    let e = exp(a, n);
    let y = mul(a, p, m);
    let y = mul(a, y, e);
    let y = scale(a, y, std::f64::consts::FRAC_2_SQRT_PI);
    let y = at_most(a, y, 1.0);
    // 1 - erf x is a factor elsewhere: what is left of it by rounding would meet large numbers.
    let [one, six] = [1.0, 6.0].map(|v| a.num(x, v));
    let is_far = a.compare(Cmp::Ge, m, six);
    let y = a.select(is_far, one, y);
    with_sign_of(a, y, x)
}

/// From here on the error function of f32 is 1: it is 3.5e-8 less.
const ERF_END: f64 = 3.9;

/// erf(x) / x for |x| up to [`ERF_END`], a polynomial of u = 2 (x / [`ERF_END`])^2 - 1, which is between -1 and 1, so that f32 loses no
/// digits. Fitted for the least relative error of erf: 1.1e-7, with f32 rounding 3.2e-7.
const ERF: [f64; 15] = [
    3.625_839_949e-1,
    -1.810_116_470e-1,
    1.346_894_205e-1,
    -1.095_107_123e-1,
    9.069_821_239e-2,
    -7.404_554_635e-2,
    5.772_798_508e-2,
    -4.159_249_738e-2,
    2.966_456_860e-2,
    -2.252_092_771e-2,
    1.277_661_510e-2,
    -3.145_415_569e-3,
    2.508_176_723e-3,
    -4.157_647_025e-3,
    1.745_691_407e-3,
];
