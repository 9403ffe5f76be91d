//! Elementwise operations: the derivative at each element. Operands that were broadcast get sums.

use super::Call;
use crate::emit::{Emit, Made, Refusal};
use egret_ir::{Op, ValueId};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

/// Operations of one operand whose derivative is another operation on it.
pub(super) fn slope(call: &mut Call) -> Result<(), Refusal> {
    let egret_ir::Derivative::Slope(slope) = call.op.info().derivative else {
        return Err(Refusal::Reason(format!("{} has no slope", call.op)));
    };
    let (x, g) = (call.x(0), call.g()?);
    let slope = call.e.unary(slope, x)?;
    let dx = call.e.mul(g, slope)?;
    call.give(0, dx)
}

/// Other operations of one operand.
pub(super) fn unary(call: &mut Call) -> Result<(), Refusal> {
    let (x, y, g) = (call.x(0), call.y(), call.g()?);
    let (op, attrs) = (call.op, call.attrs);
    let e = &mut *call.e;
    let dx = match op {
        Op::Neg => e.neg(g)?,
        Op::Abs => {
            let sign = e.unary(Op::Sign, x)?;
            e.mul(g, sign)?
        }
        Op::Sqrt => {
            let half = e.with(Op::Mul, g, 0.5)?;
            e.div(half, y)?
        }
        Op::Exp => e.mul(g, y)?,
        Op::Log => e.div(g, x)?,
        Op::Cos => {
            let sin = e.unary(Op::Sin, x)?;
            let down = e.neg(g)?;
            e.mul(down, sin)?
        }
        Op::Tan => {
            let square = e.square(y)?;
            let slope = e.with(Op::Add, square, 1.0)?;
            e.mul(g, slope)?
        }
        Op::Asin | Op::Acos => {
            let square = e.square(x)?;
            let left = e.from(1.0, Op::Sub, square)?;
            let root = e.unary(Op::Sqrt, left)?;
            let g = if op == Op::Acos { e.neg(g)? } else { g };
            e.div(g, root)?
        }
        Op::Atan => {
            let square = e.square(x)?;
            let sum = e.with(Op::Add, square, 1.0)?;
            e.div(g, sum)?
        }
        Op::Tanh => {
            let square = e.square(y)?;
            let slope = e.from(1.0, Op::Sub, square)?;
            e.mul(g, slope)?
        }
        Op::Asinh | Op::Acosh => {
            let square = e.square(x)?;
            let sum = e.with(Op::Add, square, if op == Op::Asinh { 1.0 } else { -1.0 })?;
            let root = e.unary(Op::Sqrt, sum)?;
            e.div(g, root)?
        }
        Op::Atanh => {
            let square = e.square(x)?;
            let left = e.from(1.0, Op::Sub, square)?;
            e.div(g, left)?
        }
        Op::Erf => {
            let bell = bell(e, x, 1.0, FRAC_2_SQRT_PI)?;
            e.mul(g, bell)?
        }
        Op::Sigmoid => {
            let rest = e.from(1.0, Op::Sub, y)?;
            let slope = e.mul(y, rest)?;
            e.mul(g, slope)?
        }
        Op::Gelu if attrs.str("approximate") == "tanh" => {
            let slope = gelu_tanh(e, x)?;
            e.mul(g, slope)?
        }
        Op::Gelu => {
            let slope = gelu(e, x)?;
            e.mul(g, slope)?
        }
        Op::Silu => {
            let s = e.unary(Op::Sigmoid, x)?;
            let rest = e.from(1.0, Op::Sub, s)?;
            let product = e.mul(x, rest)?;
            let factor = e.with(Op::Add, product, 1.0)?;
            let slope = e.mul(s, factor)?;
            e.mul(g, slope)?
        }
        Op::HardSwish => hard_swish(e, x, g)?,
        other => return Err(Refusal::Reason(format!("{other} has no rule of one operand"))),
    };
    call.give(0, dx)
}

/// factor * exp(-rate * x^2).
fn bell(e: &mut Emit, x: ValueId, rate: f64, factor: f64) -> Made {
    let square = e.square(x)?;
    let down = e.with(Op::Mul, square, -rate)?;
    let exp = e.unary(Op::Exp, down)?;
    e.with(Op::Mul, exp, factor)
}

/// The normal distribution's function and x times its density.
fn gelu(e: &mut Emit, x: ValueId) -> Made {
    let scaled = e.with(Op::Mul, x, FRAC_1_SQRT_2)?;
    let erf = e.unary(Op::Erf, scaled)?;
    let sum = e.with(Op::Add, erf, 1.0)?;
    let below = e.with(Op::Mul, sum, 0.5)?;
    let density = bell(e, x, 0.5, 1.0 / (2.0 * PI).sqrt())?;
    let product = e.mul(x, density)?;
    e.add(below, product)
}

/// With t = tanh(c (x + a x^3)): (1 + t) / 2 + x / 2 (1 - t^2) c (1 + 3 a x^2).
fn gelu_tanh(e: &mut Emit, x: ValueId) -> Made {
    let (c, a) = ((2.0 / PI).sqrt(), 0.044715);
    let square = e.square(x)?;
    let cubic = e.with(Op::Mul, square, a * c)?;
    let cubic = e.with(Op::Add, cubic, c)?;
    let inner = e.mul(x, cubic)?;
    let t = e.unary(Op::Tanh, inner)?;
    let slope = e.with(Op::Mul, square, 3.0 * a * c)?;
    let slope = e.with(Op::Add, slope, c)?;
    let tt = e.square(t)?;
    let rest = e.from(1.0, Op::Sub, tt)?;
    let second = e.mul(rest, slope)?;
    let second = e.mul(second, x)?;
    let first = e.with(Op::Add, t, 1.0)?;
    let sum = e.add(first, second)?;
    e.with(Op::Mul, sum, 0.5)
}

/// 0 up to -3, 1 from 3 on, x / 3 + 1/2 between.
fn hard_swish(e: &mut Emit, x: ValueId, g: ValueId) -> Made {
    let third = e.with(Op::Div, x, 3.0)?;
    let slope = e.with(Op::Add, third, 0.5)?;
    let (low, high) = (e.scalar(e.dtype(x), -3.0)?, e.scalar(e.dtype(x), 3.0)?);
    let one = e.scalar(e.dtype(x), 1.0)?;
    let (below, above) = (e.binary(Op::LessEqual, x, low)?, e.binary(Op::LessEqual, high, x)?);
    let slope = e.select(above, one, slope)?;
    let slope = e.unless(below, slope)?;
    e.mul(g, slope)
}

/// Operations of two operands.
pub(super) fn binary(call: &mut Call) -> Result<(), Refusal> {
    let (a, b, y, g) = (call.x(0), call.x(1), call.y(), call.g()?);
    let op = call.op;
    for i in 0..2 {
        if !call.wants(i) {
            continue;
        }
        let e = &mut *call.e;
        let gradient = match (op, i) {
            (Op::Add, _) | (Op::Sub, 0) | (Op::Mod, 0) => g,
            (Op::Sub, _) => e.neg(g)?,
            (Op::Mul, 0) => e.mul(g, b)?,
            (Op::Mul, _) => e.mul(g, a)?,
            (Op::Div, 0) => e.div(g, b)?,
            (Op::Div, _) => {
                let product = e.mul(g, y)?;
                let quotient = e.div(product, b)?;
                e.neg(quotient)?
            }
            (Op::Mod, _) => {
                // a - y is a whole multiple of b, whichever way the quotient was rounded.
                let whole = e.sub(a, y)?;
                let quotient = e.div(whole, b)?;
                let quotient = e.unary(Op::Round, quotient)?;
                let down = e.neg(g)?;
                e.mul(down, quotient)?
            }
            (Op::Pow, 0) => pow_base(e, a, b, g)?,
            (Op::Pow, _) => pow_exponent(e, a, b, y, g)?,
            (Op::Max | Op::Min, _) => extremum(e, op, [a, b], y, i, g)?,
            (other, _) => return Err(Refusal::Reason(format!("{other} has no rule of two operands"))),
        };
        call.give_summed(i, gradient)?;
    }
    Ok(())
}

/// g b a^(b - 1), 0 where b is.
fn pow_base(e: &mut Emit, a: ValueId, b: ValueId, g: ValueId) -> Made {
    let lower = e.with(Op::Sub, b, 1.0)?;
    let power = e.binary(Op::Pow, a, lower)?;
    let scaled = e.mul(b, power)?;
    let slope = e.mul(g, scaled)?;
    let zero = e.scalar(e.dtype(b), 0.0)?;
    let flat = e.binary(Op::Equal, b, zero)?;
    e.unless(flat, slope)
}

/// g a^b log a, 0 where a is 0 and b not negative.
fn pow_exponent(e: &mut Emit, a: ValueId, b: ValueId, y: ValueId, g: ValueId) -> Made {
    let log = e.unary(Op::Log, a)?;
    let slope = e.mul(y, log)?;
    let slope = e.mul(g, slope)?;
    let (none, nought) = (e.scalar(e.dtype(a), 0.0)?, e.scalar(e.dtype(b), 0.0)?);
    let (zero, up) = (e.binary(Op::Equal, a, none)?, e.binary(Op::LessEqual, nought, b)?);
    let flat = e.binary(Op::And, zero, up)?;
    e.unless(flat, slope)
}

/// g where operand `i` is the larger (the smaller). Equal operands have half each, but a constant has it all: there the result `y` says as
/// much as the operand, which then need not be kept beside it.
fn extremum(e: &mut Emit, op: Op, x: [ValueId; 2], y: ValueId, i: usize, g: ValueId) -> Made {
    let (own, other) = (x[i], x[1 - i]);
    let ends = |own: ValueId| if op == Op::Max { (own, other) } else { (other, own) };
    if e.b.graph.as_const(other).is_some() {
        let (low, high) = ends(y);
        let loses = e.binary(Op::LessEqual, low, high)?;
        return e.unless(loses, g);
    }
    let (low, high) = ends(own);
    let loses = e.binary(Op::Less, low, high)?;
    let equal = e.binary(Op::Equal, own, other)?;
    let half = e.with(Op::Mul, g, 0.5)?;
    let share = e.select(equal, half, g)?;
    e.unless(loses, share)
}

/// `where`: to the operand that was chosen.
pub(super) fn select(call: &mut Call) -> Result<(), Refusal> {
    let (cond, g) = (call.x(0), call.g()?);
    if call.wants(1) {
        let gradient = call.e.only(cond, g)?;
        call.give_summed(1, gradient)?;
    }
    if call.wants(2) {
        let gradient = call.e.unless(cond, g)?;
        call.give_summed(2, gradient)?;
    }
    Ok(())
}

/// `cast` between floats: back to the operand's type.
pub(super) fn cast(call: &mut Call) -> Result<(), Refusal> {
    let g = call.g()?;
    call.give(0, g)
}
