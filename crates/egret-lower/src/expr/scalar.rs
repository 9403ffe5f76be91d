//! What each elementwise operation computes.

use super::activation;
use super::convert::{cast, round_to};
use super::remainder;
use crate::error::Unsupported;
use crate::geometry::dtypes::compute_elem;
use egret_ir::families::Elementwise as E;
use egret_ir::{Attrs, DType, Member, Op};
use egret_loop::{Arith, BinOp, Cmp, Elem, UnOp, math};

/// Emits one operation on computed values. `from` is the dtype of its operands (of the branches for
/// `where`), `to` that of its result.
pub fn apply<A: Arith>(
    a: &mut A,
    op: Op,
    attrs: &Attrs,
    from: DType,
    to: DType,
    args: &[A::V],
) -> Result<A::V, Unsupported> {
    let x = *args.first().ok_or_else(|| Unsupported::new("has no operand"))?;
    let y = args.get(1).copied().unwrap_or(x);
    let float = from.is_float();
    let is_bool = from == DType::Bool;
    let inexact = |a: &mut A, v: A::V| round_to(a, to, v);
    let Member::Elementwise(op) = op.member() else {
        return Err(Unsupported::new(format!("`{op}` is not elementwise")));
    };
    let v = match op {
        E::Neg => a.unary(UnOp::Neg, x),
        E::Abs if float || from.is_signed_int() => return Ok(a.unary(UnOp::Abs, x)),
        E::Abs => return Ok(x),
        E::Sign => return Ok(sign(a, from, x)),
        E::Floor => return Ok(a.unary(UnOp::Floor, x)),
        E::Ceil => return Ok(a.unary(UnOp::Ceil, x)),
        E::Round => return Ok(a.unary(UnOp::Nearest, x)),
        E::Sqrt => a.unary(UnOp::Sqrt, x),
        E::Exp => math::exp(a, x),
        E::Log => math::log(a, x),
        E::Sin => math::sin(a, x),
        E::Cos => math::cos(a, x),
        E::Tan => math::tan(a, x),
        E::Asin => math::asin(a, x),
        E::Acos => math::acos(a, x),
        E::Atan => math::atan(a, x),
        E::Sinh => math::sinh(a, x),
        E::Cosh => math::cosh(a, x),
        E::Tanh => math::tanh(a, x),
        E::Asinh => math::asinh(a, x),
        E::Acosh => math::acosh(a, x),
        E::Atanh => math::atanh(a, x),
        E::Erf => math::erf(a, x),
        E::Sigmoid => math::sigmoid(a, x),
        E::Softplus => math::softplus(a, x),
        E::Gelu if attrs.str("approximate") == "tanh" => activation::gelu_tanh(a, x),
        E::Gelu => activation::gelu(a, x),
        E::Silu => activation::silu(a, x),
        E::HardSwish => activation::hard_swish(a, x),
        E::Not => return Ok(a.unary(UnOp::Not, x)),
        E::BitNot => a.unary(UnOp::Not, x),
        E::IsNan => return Ok(a.compare(Cmp::Ne, x, x)),
        E::IsInf => return Ok(is_inf(a, attrs, x)),
        E::Cast => return cast(a, attrs, from, to, x),
        E::Add => a.binary(BinOp::Add, x, y),
        E::Sub => a.binary(BinOp::Sub, x, y),
        E::Mul => a.binary(BinOp::Mul, x, y),
        E::Div if float => a.binary(BinOp::Div, x, y),
        E::Div => guarded(a, y, |a, y| a.binary(BinOp::Div, x, y)),
        E::Mod if float => remainder::float_mod(a, attrs.flag("fmod"), x, y),
        E::Mod => int_mod(a, from.is_signed_int() && !attrs.flag("fmod"), x, y),
        // f32 powers of integers are expected to be integers: they need more digits than f32 arithmetic
        // leaves.
        E::Pow if float => {
            let (x, y) = (a.convert(Elem::F64, x), a.convert(Elem::F64, y));
            let power = math::pow(a, x, y);
            let power = settle(a, power);
            a.convert(compute_elem(to)?, power)
        }
        E::Pow => int_pow(a, from, x, y),
        E::Max => return Ok(a.binary(BinOp::Max, x, y)),
        E::Min => return Ok(a.binary(BinOp::Min, x, y)),
        E::And | E::BitAnd => return Ok(a.binary(BinOp::And, x, y)),
        E::Or | E::BitOr => return Ok(a.binary(BinOp::Or, x, y)),
        E::Xor | E::BitXor => return Ok(a.binary(BinOp::Xor, x, y)),
        E::ShiftLeft => shift(a, from, BinOp::Shl, x, y),
        E::ShiftRight => shift(a, from, BinOp::Shr, x, y),
        E::Equal if is_bool => {
            let differ = a.binary(BinOp::Xor, x, y);
            return Ok(a.unary(UnOp::Not, differ));
        }
        E::Equal => return Ok(a.compare(Cmp::Eq, x, y)),
        E::Less => return Ok(a.compare(Cmp::Lt, x, y)),
        E::LessEqual => return Ok(a.compare(Cmp::Le, x, y)),
        E::Where => {
            let z = *args.get(2).ok_or_else(|| Unsupported::new("has no third operand"))?;
            if !is_bool {
                return Ok(a.select(x, y, z));
            }
            let no = a.unary(UnOp::Not, x);
            let (y, z) = (a.binary(BinOp::And, x, y), a.binary(BinOp::And, no, z));
            return Ok(a.binary(BinOp::Or, y, z));
        }
    };
    inexact(a, v)
}

/// The larger (or smaller) of x and a constant that is not NaN, in an instruction or two: NaN in x comes out. `zero` is the
/// constant where it is one of the zeros.
pub fn extreme_with_constant<A: Arith>(
    a: &mut A,
    op: Op,
    constant: A::V,
    zero: Option<f64>,
    x: A::V,
) -> A::V {
    let select = if op == Op::Max { BinOp::SelMax } else { BinOp::SelMin };
    match zero.map(f64::is_sign_negative) {
        // A zero in x comes out as it is, but the larger of -0 and 0 is 0: adding 0 changes nothing else.
        Some(false) if op == Op::Max => {
            let y = a.binary(select, constant, x);
            a.binary(BinOp::Add, y, constant)
        }
        Some(true) if op == Op::Min => a.binary(BinOp::Min, constant, x),
        _ => a.binary(select, constant, x),
    }
}

fn sign<A: Arith>(a: &mut A, dtype: DType, x: A::V) -> A::V {
    let (zero, one) = (a.num(x, 0.0), a.num(x, 1.0));
    let above = a.compare(Cmp::Gt, x, zero);
    // What is neither above nor below zero (zeros, NaN) is its own sign. So is the zero of a subnormal number that is flushed: 0 times it.
    let mut rest = if dtype.is_float() { a.binary(BinOp::Mul, x, zero) } else { x };
    if dtype.is_float() || dtype.is_signed_int() {
        let below = a.compare(Cmp::Lt, x, zero);
        let minus = a.num(x, -1.0);
        rest = a.select(below, minus, rest);
    }
    a.select(above, one, rest)
}

fn is_inf<A: Arith>(a: &mut A, attrs: &Attrs, x: A::V) -> A::V {
    let (up, down) = (a.num(x, f64::INFINITY), a.num(x, f64::NEG_INFINITY));
    let (positive, negative) = (a.compare(Cmp::Eq, x, up), a.compare(Cmp::Eq, x, down));
    match (attrs.flag("positive"), attrs.flag("negative")) {
        (true, true) => a.binary(BinOp::Or, positive, negative),
        (true, false) => positive,
        (false, true) => negative,
        (false, false) => a.compare(Cmp::Lt, x, x),
    }
}

/// `f(y)` where y is not 0, else 0; f is always given a divisor that is not 0.
fn guarded<A: Arith>(a: &mut A, y: A::V, f: impl FnOnce(&mut A, A::V) -> A::V) -> A::V {
    let (zero, one) = (a.num(y, 0.0), a.num(y, 1.0));
    let none = a.compare(Cmp::Eq, y, zero);
    let safe = a.select(none, one, y);
    let q = f(a, safe);
    a.select(none, zero, q)
}

fn int_mod<A: Arith>(a: &mut A, sign_of_divisor: bool, x: A::V, y: A::V) -> A::V {
    guarded(a, y, |a, y| {
        let r = a.binary(BinOp::Rem, x, y);
        if sign_of_divisor { remainder::follow_divisor(a, r, y) } else { r }
    })
}

/// The integer that an f64 is within its error of, else itself: 9^3 is often truncated to an integer
/// afterwards.
fn settle<A: Arith>(a: &mut A, x: A::V) -> A::V {
    let near = a.unary(UnOp::Nearest, x);
    let off = a.binary(BinOp::Sub, x, near);
    let off = a.unary(UnOp::Abs, off);
    let error = a.num(x, 1e-14);
    let size = a.unary(UnOp::Abs, x);
    let bound = a.binary(BinOp::Mul, size, error);
    let close = a.compare(Cmp::Le, off, bound);
    a.select(close, near, x)
}

/// Square and multiply over all bits of the exponent.
fn int_pow<A: Arith>(a: &mut A, dtype: DType, x: A::V, y: A::V) -> A::V {
    let (zero, one) = (a.num(x, 0.0), a.num(x, 1.0));
    let signed = dtype.is_signed_int();
    let bits = 8 * dtype.size() - usize::from(signed);
    let (mut power, mut square, mut rest) = (one, x, y);
    for i in 0..bits {
        let low = a.binary(BinOp::And, rest, one);
        let odd = a.compare(Cmp::Ne, low, zero);
        let times = a.binary(BinOp::Mul, power, square);
        power = a.select(odd, times, power);
        if i + 1 < bits {
            square = a.binary(BinOp::Mul, square, square);
            rest = a.binary(BinOp::Shr, rest, one);
        }
    }
    if !signed {
        return power;
    }
    // 1 / x^n truncated: x itself is its inverse where it is 1 or -1, and nothing else leaves an integer
    // part.
    let negative = a.compare(Cmp::Lt, y, zero);
    let minus = a.num(x, -1.0);
    let low = a.binary(BinOp::And, y, one);
    let odd = a.compare(Cmp::Ne, low, zero);
    let is_one = a.compare(Cmp::Eq, x, one);
    let is_minus = a.compare(Cmp::Eq, x, minus);
    let of_minus = a.select(odd, minus, one);
    let inverse = a.select(is_minus, of_minus, zero);
    let inverse = a.select(is_one, one, inverse);
    a.select(negative, inverse, power)
}

fn shift<A: Arith>(a: &mut A, dtype: DType, op: BinOp, x: A::V, y: A::V) -> A::V {
    let width = 8 * dtype.size();
    let (zero, bound) = (a.num(x, 0.0), a.num(x, width as f64));
    let mut fits = a.compare(Cmp::Lt, y, bound);
    if dtype.is_signed_int() {
        let positive = a.compare(Cmp::Ge, y, zero);
        fits = a.binary(BinOp::And, fits, positive);
    }
    let keeps_sign = op == BinOp::Shr && dtype.is_signed_int();
    let beyond = if keeps_sign { a.num(x, (width - 1) as f64) } else { zero };
    let by = a.select(fits, y, beyond);
    let moved = a.binary(op, x, by);
    if keeps_sign { moved } else { a.select(fits, moved, zero) }
}
