//! Activation functions: the primitive that computes one, or a composition of elementwise primitives where there is none.

use super::elementwise::{skip_consumed, unary};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("Celu", 12, celu),
    onnx("Clip", 1, clip),
    onnx("Elu", 1, elu),
    onnx("Gelu", 20, gelu),
    onnx("HardSigmoid", 1, hard_sigmoid),
    onnx("HardSwish", 14, |c| {
        let x = c.input(0)?;
        Ok(vec![c.unary(Op::HardSwish, x)?])
    }),
    onnx("LeakyRelu", 1, leaky_relu),
    onnx("Mish", 18, |c| {
        in_f32(c, |c, x| {
            let s = c.unary(Op::Softplus, x)?;
            let t = c.unary(Op::Tanh, s)?;
            c.binary(Op::Mul, x, t)
        })
    }),
    onnx("PRelu", 1, prelu),
    onnx("Relu", 1, relu),
    onnx("Selu", 1, selu),
    onnx("Shrink", 9, shrink),
    onnx("Softplus", 1, |c| unary(c, Op::Softplus)),
    onnx("Softsign", 1, |c| in_f32(c, softsign)),
    onnx("SwiGLU", 1, swiglu),
    onnx("Swish", 24, swish),
    onnx("ThresholdedRelu", 10, thresholded_relu),
];

type Emitted = Result<ValueId, ImportError>;

/// The type to compute in: at least f32.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype.is_float() && dtype.size() < 4 { DType::F32 } else { dtype }
}

/// The first input through `f`, which computes in f32 at least: one rounding instead of one a step.
pub(super) fn in_f32(ctx: &mut NodeCtx, f: impl FnOnce(&mut NodeCtx, ValueId) -> Emitted) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    in_f32_of(ctx, x, f)
}

/// As [`in_f32`], of any value.
pub(super) fn in_f32_of(
    ctx: &mut NodeCtx,
    x: ValueId,
    f: impl FnOnce(&mut NodeCtx, ValueId) -> Emitted,
) -> OpResult {
    let dtype = ctx.dtype(x)?;
    let x = ctx.cast(x, wide(dtype))?;
    let y = f(ctx, x)?;
    Ok(vec![ctx.cast(y, dtype)?])
}

/// A scalar of the type of `x`.
fn like(ctx: &mut NodeCtx, x: ValueId, value: f64) -> Emitted {
    let dtype = ctx.dtype(x)?;
    ctx.scalar(dtype, value)
}

/// `a` where x < limit, else `b`.
fn below(ctx: &mut NodeCtx, x: ValueId, limit: f64, a: ValueId, b: ValueId) -> Emitted {
    let limit = like(ctx, x, limit)?;
    let cond = ctx.binary(Op::Less, x, limit)?;
    ctx.select(cond, a, b)
}

fn relu(ctx: &mut NodeCtx) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    Ok(vec![ctx.with_scalar(Op::Max, x, 0.0)?])
}

fn leaky_relu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 0.01)?);
    in_f32(ctx, |ctx, x| {
        let scaled = ctx.with_scalar(Op::Mul, x, alpha)?;
        below(ctx, x, 0.0, scaled, x)
    })
}

fn prelu(ctx: &mut NodeCtx) -> OpResult {
    skip_consumed(ctx);
    let (x, mut slope) = (ctx.input(0)?, ctx.input(1)?);
    let (rank, shape) = (ctx.rank(x)?, ctx.tensor(slope)?.shape);
    // Before opset 7 a slope vector is one a channel.
    if ctx.opset < 7 && rank > 2 && shape.len() == 1 {
        let mut channels = shape;
        channels.extend(std::iter::repeat_n(Dim::constant(1), rank - 2));
        slope = ctx.reshape(slope, channels)?;
    }
    let scaled = ctx.binary(Op::Mul, x, slope)?;
    Ok(vec![below(ctx, x, 0.0, scaled, x)?])
}

/// exp(x) - 1
fn exp_minus_one(ctx: &mut NodeCtx, x: ValueId) -> Emitted {
    let e = ctx.unary(Op::Exp, x)?;
    ctx.with_scalar(Op::Sub, e, 1.0)
}

fn elu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.0)?);
    in_f32(ctx, |ctx, x| {
        let e = exp_minus_one(ctx, x)?;
        let e = ctx.with_scalar(Op::Mul, e, alpha)?;
        below(ctx, x, 0.0, e, x)
    })
}

fn selu(ctx: &mut NodeCtx) -> OpResult {
    // The defaults of opset 1 were rounded.
    let (default_alpha, default_gamma) =
        if ctx.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let alpha = f64::from(ctx.float("alpha", default_alpha)?);
    let gamma = f64::from(ctx.float("gamma", default_gamma)?);
    in_f32(ctx, |ctx, x| {
        let e = exp_minus_one(ctx, x)?;
        let e = ctx.with_scalar(Op::Mul, e, alpha)?;
        let y = below(ctx, x, 0.0, e, x)?;
        ctx.with_scalar(Op::Mul, y, gamma)
    })
}

fn celu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.0)?);
    in_f32(ctx, |ctx, x| {
        let scaled = ctx.with_scalar(Op::Div, x, alpha)?;
        let e = exp_minus_one(ctx, scaled)?;
        let e = ctx.with_scalar(Op::Mul, e, alpha)?;
        let low = ctx.with_scalar(Op::Min, e, 0.0)?;
        let high = ctx.with_scalar(Op::Max, x, 0.0)?;
        ctx.binary(Op::Add, high, low)
    })
}

fn gelu(ctx: &mut NodeCtx) -> OpResult {
    let form = ctx.str("approximate", "none")?;
    if form != "none" && form != "tanh" {
        return Err(ctx.bad_attr("approximate", format!("{form:?}")));
    }
    let x = ctx.input(0)?;
    Ok(vec![ctx.emit(Op::Gelu, attrs! { approximate: form.as_str() }, &[x])?])
}

/// max(0, min(1, alpha * x + beta))
fn hard_sigmoid(ctx: &mut NodeCtx) -> OpResult {
    let (alpha, beta) = (ctx.float("alpha", 0.2)?, ctx.float("beta", 0.5)?);
    in_f32(ctx, |ctx, x| {
        let scaled = ctx.with_scalar(Op::Mul, x, alpha.into())?;
        let line = ctx.with_scalar(Op::Add, scaled, beta.into())?;
        let low = ctx.with_scalar(Op::Min, line, 1.0)?;
        ctx.with_scalar(Op::Max, low, 0.0)
    })
}

/// x * sigmoid(alpha * x): `silu` where alpha is 1, the only one that the primitive knows.
pub(super) fn scaled_swish(ctx: &mut NodeCtx, x: ValueId, alpha: f64) -> Emitted {
    if alpha == 1.0 {
        return ctx.unary(Op::Silu, x);
    }
    let scaled = ctx.with_scalar(Op::Mul, x, alpha)?;
    let gate = ctx.unary(Op::Sigmoid, scaled)?;
    ctx.binary(Op::Mul, x, gate)
}

fn swish(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.0)?);
    if alpha == 1.0 {
        let x = ctx.input(0)?;
        return Ok(vec![ctx.unary(Op::Silu, x)?]);
    }
    in_f32(ctx, |ctx, x| scaled_swish(ctx, x, alpha))
}

fn swiglu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.0)?);
    let other = ctx.input(1)?;
    in_f32(ctx, |ctx, x| {
        let dtype = ctx.dtype(x)?;
        let other = ctx.cast(other, dtype)?;
        let gate = scaled_swish(ctx, x, alpha)?;
        ctx.binary(Op::Mul, gate, other)
    })
}

fn softsign(ctx: &mut NodeCtx, x: ValueId) -> Emitted {
    let magnitude = ctx.unary(Op::Abs, x)?;
    let sum = ctx.with_scalar(Op::Add, magnitude, 1.0)?;
    ctx.binary(Op::Div, x, sum)
}

fn thresholded_relu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.0)?);
    let x = ctx.input(0)?;
    let (limit, zero) = (like(ctx, x, alpha)?, like(ctx, x, 0.0)?);
    let cond = ctx.binary(Op::Less, limit, x)?;
    Ok(vec![ctx.select(cond, x, zero)?])
}

fn shrink(ctx: &mut NodeCtx) -> OpResult {
    let (bias, limit) = (f64::from(ctx.float("bias", 0.0)?), f64::from(ctx.float("lambd", 0.5)?));
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    // Integers compare and shift as the floats of the attributes do.
    let work = if dtype.is_float() { wide(dtype) } else { DType::F64 };
    let x = ctx.cast(x, work)?;
    let zero = like(ctx, x, 0.0)?;
    let (up, down) = (ctx.with_scalar(Op::Add, x, bias)?, ctx.with_scalar(Op::Sub, x, bias)?);
    let high = like(ctx, x, limit)?;
    let above = ctx.binary(Op::Less, high, x)?;
    let rest = ctx.select(above, down, zero)?;
    let y = below(ctx, x, -limit, up, rest)?;
    Ok(vec![ctx.cast(y, dtype)?])
}

fn clip(ctx: &mut NodeCtx) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let (low, high) = if ctx.opset < 11 {
        let (low, high) = (ctx.opt_float("min")?, ctx.opt_float("max")?);
        let mut scalar = |v: Option<f32>| v.map(|v| ctx.scalar(dtype, v.into())).transpose();
        (scalar(low)?, scalar(high)?)
    } else {
        (ctx.opt_input(1), ctx.opt_input(2))
    };
    let mut y = x;
    for (op, bound) in [(Op::Max, low), (Op::Min, high)] {
        if let Some(bound) = bound {
            let bound = ctx.single(bound)?;
            y = ctx.binary(op, y, bound)?;
        }
    }
    Ok(vec![y])
}
