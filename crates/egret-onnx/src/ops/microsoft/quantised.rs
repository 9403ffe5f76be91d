//! Operators on quantised tensors: as on what they stand for, rounded again.

use super::super::contraction::qlinear_conv;
use super::super::emit;
use super::super::quantization::quantize;
use super::super::reduction::{count, mean};
use super::apply::{applied, channels_first};
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("QLinearAdd", |c| qlinear_binary(c, Op::Add)),
    row("QLinearAveragePool", qlinear_average_pool),
    row("QLinearConcat", qlinear_concat),
    row("QLinearConv", |c| {
        let last = c.flag("channels_last", false)?;
        channels_first(c, last, qlinear_conv)
    }),
    row("QLinearGlobalAveragePool", qlinear_global_average_pool),
    row("QLinearLeakyRelu", |c| qlinear_activation(c, "LeakyRelu", 16)),
    row("QLinearMul", |c| qlinear_binary(c, Op::Mul)),
    row("QLinearReduceMean", qlinear_reduce_mean),
    row("QLinearSigmoid", |c| qlinear_activation(c, "Sigmoid", 13)),
    row("QLinearSoftmax", qlinear_softmax),
    row("QLinearWhere", qlinear_where),
];

type Emitted = Result<ValueId, ImportError>;

/// A quantised operand less its zero point, as f32: its value is input `at`, its zero point input `at + 2`.
fn centred(ctx: &mut NodeCtx, at: usize) -> Emitted {
    let (x, zero) = (ctx.input(at)?, ctx.opt_input(at + 2));
    let mut y = ctx.cast(x, DType::I32)?;
    if let Some(zero) = zero {
        let zero = ctx.cast(zero, DType::I32)?;
        let zero = ctx.single(zero)?;
        y = ctx.binary(Op::Sub, y, zero)?;
    }
    ctx.cast(y, DType::F32)
}

/// Input `at`, a scale, as a scalar.
fn scale(ctx: &mut NodeCtx, at: usize) -> Emitted {
    let scale = ctx.input(at)?;
    ctx.single(scale)
}

/// Scales are divided by one another first, and the zero point is added before the rounding: as ONNX Runtime has it, so that what
/// lies halfway between two integers is rounded to the same one.
fn qlinear_binary(ctx: &mut NodeCtx, op: Op) -> OpResult {
    let input = ctx.input(0)?;
    let dtype = ctx.dtype(input)?;
    let (a, b) = (centred(ctx, 0)?, centred(ctx, 3)?);
    let (a_scale, b_scale, unit) = (scale(ctx, 1)?, scale(ctx, 4)?, scale(ctx, 6)?);
    let mut y = if op == Op::Mul {
        let both = ctx.binary(Op::Mul, a_scale, b_scale)?;
        let factor = ctx.binary(Op::Div, both, unit)?;
        let product = ctx.binary(Op::Mul, a, b)?;
        ctx.binary(Op::Mul, product, factor)?
    } else {
        let (a_factor, b_factor) =
            (ctx.binary(Op::Div, a_scale, unit)?, ctx.binary(Op::Div, b_scale, unit)?);
        let (a, b) = (ctx.binary(Op::Mul, a, a_factor)?, ctx.binary(Op::Mul, b, b_factor)?);
        ctx.binary(op, a, b)?
    };
    if let Some(zero) = ctx.opt_input(7) {
        let zero = ctx.cast(zero, DType::F32)?;
        let zero = ctx.single(zero)?;
        y = ctx.binary(Op::Add, y, zero)?;
    }
    let y = ctx.unary(Op::Round, y)?;
    Ok(vec![ctx.cast(y, dtype)?])
}

fn qlinear_softmax(ctx: &mut NodeCtx) -> OpResult {
    let opset = ctx.int("opset", 13)?;
    let axis = ctx.int("axis", if opset < 13 { 1 } else { -1 })?;
    let input = ctx.input(0)?;
    let ty = ctx.tensor(input)?;
    let axis = ctx.axis(axis, ty.rank())?;
    let (x, x_scale) = (centred(ctx, 0)?, scale(ctx, 1)?);
    let x = ctx.binary(Op::Mul, x, x_scale)?;
    let y = if opset < 13 {
        // The old Softmax takes all axes from `axis` on as one.
        let rows =
            ctx.reshape(x, vec![emit::product(&ty.shape[..axis]), emit::product(&ty.shape[axis..])])?;
        let y = ctx.softmax(rows, 1)?;
        ctx.reshape(y, ty.shape)?
    } else {
        ctx.softmax(x, axis)?
    };
    let (unit, zero) = (scale(ctx, 3)?, ctx.opt_input(4));
    let zero = zero.map(|z| ctx.single(z)).transpose()?;
    Ok(vec![quantize(ctx, y, unit, zero, ty.dtype, true)?])
}

/// What the quantised input `at` stands for; its scale and zero point are the next two inputs.
fn dequantised(ctx: &mut NodeCtx, at: usize) -> Emitted {
    let scale = scale(ctx, at + 1)?;
    let x = ctx.input(at)?;
    let mut y = ctx.cast(x, DType::I32)?;
    if let Some(zero) = ctx.opt_input(at + 2) {
        let zero = ctx.cast(zero, DType::I32)?;
        let zero = ctx.single(zero)?;
        y = ctx.binary(Op::Sub, y, zero)?;
    }
    let y = ctx.cast(y, DType::F32)?;
    ctx.binary(Op::Mul, y, scale)
}

/// y rounded to the scale of input `at` and the zero point of the next.
fn requantised(ctx: &mut NodeCtx, y: ValueId, at: usize, to: DType) -> Emitted {
    let unit = scale(ctx, at)?;
    let zero = ctx.opt_input(at + 1).map(|z| ctx.single(z)).transpose()?;
    quantize(ctx, y, unit, zero, to, true)
}

fn qlinear_concat(ctx: &mut NodeCtx) -> OpResult {
    let axis = ctx.int("axis", 0)?;
    let count = ctx.inputs.len();
    if count < 5 || !(count - 2).is_multiple_of(3) {
        return Err(ImportError::invalid(format!(
            "QLinearConcat takes a scale, a zero point, and three inputs a tensor, not {count} inputs"
        )));
    }
    let to = ctx.dtype(ctx.input(1)?)?;
    let mut parts = vec![];
    for at in (2..count).step_by(3) {
        let x = dequantised(ctx, at)?;
        parts.push(requantised(ctx, x, 0, to)?);
    }
    let axis = ctx.axis(axis, ctx.rank(parts[0])?)?;
    Ok(vec![ctx.concat(&parts, axis)?])
}

fn qlinear_average_pool(ctx: &mut NodeCtx) -> OpResult {
    let last = ctx.flag("channels_last", false)?;
    channels_first(ctx, last, |ctx| {
        let to = ctx.dtype(ctx.input(0)?)?;
        let x = dequantised(ctx, 0)?;
        let attrs = std::mem::take(&mut ctx.attrs);
        let y = applied(ctx, "AveragePool", 19, vec![Some(x)], attrs)?;
        Ok(vec![requantised(ctx, y, 3, to)?])
    })
}

/// The mean as an exact sum of integers, times one factor.
fn qlinear_global_average_pool(ctx: &mut NodeCtx) -> OpResult {
    let last = ctx.flag("channels_last", false)?;
    channels_first(ctx, last, |ctx| {
        let x = ctx.input(0)?;
        let to = ctx.dtype(x)?;
        let axes = super::super::window::spatial_axes(ctx, x)?;
        let x = ctx.cast(x, DType::I32)?;
        let zero = ctx.cast(ctx.input(2)?, DType::I32)?;
        let zero = ctx.single(zero)?;
        let centred = ctx.binary(Op::Sub, x, zero)?;
        let sum = ctx.reduce("sum", centred, axes.clone(), true)?;
        let sum = ctx.cast(sum, DType::F32)?;
        let size = count(ctx, x, &axes, DType::F32)?;
        let (x_scale, unit) = (scale(ctx, 1)?, scale(ctx, 3)?);
        let all = ctx.binary(Op::Mul, unit, size)?;
        let factor = ctx.binary(Op::Div, x_scale, all)?;
        let y = ctx.binary(Op::Mul, sum, factor)?;
        let y = ctx.unary(Op::Round, y)?;
        let zero = ctx.cast(ctx.input(4)?, DType::F32)?;
        let zero = ctx.single(zero)?;
        let y = ctx.binary(Op::Add, y, zero)?;
        Ok(vec![ctx.cast(y, to)?])
    })
}

/// An activation of ONNX on what the input stands for.
fn qlinear_activation(ctx: &mut NodeCtx, name: &'static str, opset: i64) -> OpResult {
    let to = ctx.dtype(ctx.input(0)?)?;
    let x = dequantised(ctx, 0)?;
    let attrs = std::mem::take(&mut ctx.attrs);
    let y = applied(ctx, name, opset, vec![Some(x)], attrs)?;
    Ok(vec![requantised(ctx, y, 3, to)?])
}

fn qlinear_reduce_mean(ctx: &mut NodeCtx) -> OpResult {
    let keepdims = ctx.flag("keepdims", true)?;
    let axes = ctx.opt_ints("axes")?;
    let to = ctx.dtype(ctx.input(0)?)?;
    let x = dequantised(ctx, 0)?;
    let rank = ctx.rank(x)?;
    let mut axes: Vec<i64> = match axes {
        Some(axes) => ctx.axes(&axes, rank)?.into_iter().map(|a| a as i64).collect(),
        None => (0..rank as i64).collect(),
    };
    axes.sort();
    axes.dedup();
    let y = mean(ctx, x, &axes, keepdims)?;
    Ok(vec![requantised(ctx, y, 3, to)?])
}

fn qlinear_where(ctx: &mut NodeCtx) -> OpResult {
    let to = ctx.dtype(ctx.input(1)?)?;
    let cond = ctx.input(0)?;
    let (x, y) = (dequantised(ctx, 1)?, dequantised(ctx, 4)?);
    let (x, y) = (requantised(ctx, x, 7, to)?, requantised(ctx, y, 7, to)?);
    Ok(vec![ctx.select(cond, x, y)?])
}
