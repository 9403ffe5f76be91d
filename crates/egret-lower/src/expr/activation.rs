//! Activations of neural networks, in the form that takes the fewest instructions and loses no digits.

use egret_loop::{Arith, BinOp, UnOp, math};

/// 0.5 * x * (1 + erf(x / sqrt(2))): a product, which has the sign of x where the sum is 0.
pub fn gelu<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let scaled = scale(a, x, std::f64::consts::FRAC_1_SQRT_2);
    let sum = math::one_plus_erf(a, scaled);
    let half = scale(a, x, 0.5);
    a.binary(BinOp::Mul, half, sum)
}

/// 0.5 * x * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 * x^3): since (1 + tanh(u)) / 2 is the
/// logistic function of 2u, one exponential and no difference of nearly equal numbers.
pub fn gelu_tanh<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let twice = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let square = a.binary(BinOp::Mul, x, x);
    let (linear, cubic) = (a.num(x, -twice), a.num(x, -twice * 0.044715));
    let factor = a.fma(square, cubic, linear);
    let minus = a.binary(BinOp::Mul, factor, x);
    over_one_plus_exp(a, x, minus)
}

/// x / (1 + exp(-x)).
pub fn silu<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let minus = a.unary(UnOp::Neg, x);
    over_one_plus_exp(a, x, minus)
}

/// x * min(max(x / 6 + 0.5, 0), 1).
pub fn hard_swish<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let half = a.num(x, 0.5);
    // Not a multiply-add, which some targets round once and some twice: quantised models give the same bits on all.
    let line = scale(a, x, 1.0 / 6.0);
    let line = a.binary(BinOp::Add, line, half);
    // NaN in x comes out of the product whatever these make of it.
    let (zero, one) = (a.num(x, 0.0), a.num(x, 1.0));
    let line = a.binary(BinOp::SelMax, line, zero);
    let line = a.binary(BinOp::SelMin, line, one);
    a.binary(BinOp::Mul, x, line)
}

/// x / (1 + exp(e)).
fn over_one_plus_exp<A: Arith>(a: &mut A, x: A::V, e: A::V) -> A::V {
    let power = math::exp(a, e);
    let one = a.num(x, 1.0);
    let sum = a.binary(BinOp::Add, power, one);
    a.binary(BinOp::Div, x, sum)
}

fn scale<A: Arith>(a: &mut A, x: A::V, by: f64) -> A::V {
    let by = a.num(x, by);
    a.binary(BinOp::Mul, x, by)
}
