//! Softmax and its kin; normalisation by mean and variance, by length, over channels.

use super::activation::{in_f32, wide};
use super::contraction::per_channel;
use super::emit::{dim, product};
use super::geometry::Window;
use super::reduction::mean;
use super::window::spatial_axes;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("BatchNormalization", 1, batch),
    onnx("GroupNormalization", 18, group),
    onnx("Hardmax", 1, hardmax),
    onnx("InstanceNormalization", 1, instance),
    onnx("LRN", 1, lrn),
    onnx("LayerNormalization", 1, layer),
    onnx("LogSoftmax", 1, |c| softmax_like(c, log_softmax)),
    onnx("LpNormalization", 1, lp_normalization),
    onnx("MeanVarianceNormalization", 9, mean_variance_normalization),
    onnx("RMSNormalization", 23, rms),
    onnx("Softmax", 1, |c| softmax_like(c, |c, x, axis| c.softmax(x, axis))),
];

type Emitted = Result<ValueId, ImportError>;

/// 1 / sqrt(x + epsilon)
pub(super) fn inverse_root(ctx: &mut NodeCtx, x: ValueId, epsilon: f32) -> Emitted {
    let dtype = ctx.dtype(x)?;
    let sum = ctx.with_scalar(Op::Add, x, epsilon.into())?;
    let root = ctx.unary(Op::Sqrt, sum)?;
    let one = ctx.scalar(dtype, 1.0)?;
    ctx.binary(Op::Div, one, root)
}

/// Mean and (population) variance over axes, kept as axes of 1.
fn moments(ctx: &mut NodeCtx, x: ValueId, axes: &[i64]) -> Result<(ValueId, ValueId), ImportError> {
    let m = mean(ctx, x, axes, true)?;
    let centred = ctx.binary(Op::Sub, x, m)?;
    let square = ctx.binary(Op::Mul, centred, centred)?;
    Ok((m, mean(ctx, square, axes, true)?))
}

/// The scale and shift of normalised data.
fn affine(ctx: &mut NodeCtx, y: ValueId, scale: ValueId, shift: ValueId) -> Emitted {
    let scaled = ctx.binary(Op::Mul, y, scale)?;
    ctx.binary(Op::Add, scaled, shift)
}

fn batch(ctx: &mut NodeCtx) -> OpResult {
    super::elementwise::skip_consumed(ctx);
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let momentum = ctx.float("momentum", 0.9)?;
    if ctx.opset < 9 && ctx.int("spatial", 1)? != 1 {
        return Err(ImportError::unsupported(
            "BatchNormalization with statistics for every pixel (spatial = 0) is not supported",
        ));
    }
    let training = if ctx.opset < 7 {
        ctx.int("is_test", 0)? == 0 && ctx.wanted[1..].contains(&true)
    } else {
        ctx.opset >= 14 && ctx.flag("training_mode", false)?
    };
    let x = ctx.input(0)?;
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let work = wide(dtype);
    let mut parameters = vec![];
    for i in 1..5 {
        let v = ctx.input(i)?;
        let v = ctx.cast(v, work)?;
        parameters.push(per_channel(ctx, v, rank)?);
    }
    let (scale, shift, mut m, mut variance) = (parameters[0], parameters[1], parameters[2], parameters[3]);
    let x = ctx.cast(x, work)?;
    let mut running = vec![];
    if training {
        let axes: Vec<i64> = (0..rank as i64).filter(|&a| a != 1).collect();
        let (batch_mean, batch_variance) = moments(ctx, x, &axes)?;
        for (i, (old, new)) in [(m, batch_mean), (variance, batch_variance)].into_iter().enumerate() {
            let input = ctx.input(3 + i)?;
            let ty = ctx.tensor(input)?;
            let new_flat = ctx.reshape(new, ty.shape.clone())?;
            let old_flat = ctx.reshape(old, ty.shape)?;
            let kept = ctx.with_scalar(Op::Mul, old_flat, momentum.into())?;
            let added = ctx.with_scalar(Op::Mul, new_flat, 1.0 - f64::from(momentum))?;
            let sum = ctx.binary(Op::Add, kept, added)?;
            running.push(ctx.cast(sum, ty.dtype)?);
        }
        (m, variance) = (batch_mean, batch_variance);
    }
    // Scale and shift of every channel: constants in a trained model, so that one multiplication and addition are left.
    let inverse = inverse_root(ctx, variance, epsilon)?;
    let factor = ctx.binary(Op::Mul, scale, inverse)?;
    let moved = ctx.binary(Op::Mul, m, factor)?;
    let offset = ctx.binary(Op::Sub, shift, moved)?;
    let y = affine(ctx, x, factor, offset)?;
    let mut results = vec![ctx.cast(y, dtype)?];
    results.extend(running);
    Ok(results)
}

fn instance(ctx: &mut NodeCtx) -> OpResult {
    super::elementwise::skip_consumed(ctx);
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let (x, scale, shift) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    spatial_axes(ctx, x)?;
    let (ty, rank) = (ctx.tensor(x)?, ctx.rank(x)?);
    let work = wide(ty.dtype);
    let x = ctx.cast(x, work)?;
    let rows = ctx.reshape(x, vec![ty.shape[0].clone(), ty.shape[1].clone(), product(&ty.shape[2..])])?;
    let y = ctx.emit(Op::LayerNorm, attrs! { axis: 2i64, epsilon: f64::from(epsilon) }, &[rows])?;
    let y = ctx.reshape(y, ty.shape)?;
    let (scale, shift) = (ctx.cast(scale, work)?, ctx.cast(shift, work)?);
    let (scale, shift) = (per_channel(ctx, scale, rank)?, per_channel(ctx, shift, rank)?);
    let y = affine(ctx, y, scale, shift)?;
    Ok(vec![ctx.cast(y, ty.dtype)?])
}

fn layer(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let axis = ctx.int("axis", -1)?;
    // The precision of mean and variance: f32 at least in any case.
    let stash = ctx.opt_dtype("stash_type")?.unwrap_or(egret_ir::DType::F32);
    let (x, scale, shift) = (ctx.input(0)?, ctx.input(1)?, ctx.opt_input(2));
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let axis = ctx.axis(axis, rank)?;
    // The primitive alone would round smaller floats before scale and shift, too.
    let work = wide(dtype);
    let x = ctx.cast(x, work)?;
    let y = ctx.emit(Op::LayerNorm, attrs! { axis: axis as i64, epsilon: f64::from(epsilon) }, &[x])?;
    let scale = ctx.cast(scale, work)?;
    let mut y = ctx.binary(Op::Mul, y, scale)?;
    if let Some(shift) = shift {
        let shift = ctx.cast(shift, work)?;
        y = ctx.binary(Op::Add, y, shift)?;
    }
    let mut results = vec![ctx.cast(y, dtype)?];
    if ctx.wanted.iter().skip(1).any(|&w| w) {
        let axes: Vec<i64> = (axis as i64..rank as i64).collect();
        let (m, variance) = moments(ctx, x, &axes)?;
        let inverse = inverse_root(ctx, variance, epsilon)?;
        results.extend([ctx.cast(m, stash)?, ctx.cast(inverse, stash)?]);
    }
    Ok(results)
}

fn rms(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let axis = ctx.int("axis", -1)?;
    ctx.opt_dtype("stash_type")?;
    let (x, scale) = (ctx.input(0)?, ctx.input(1)?);
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let axis = ctx.axis(axis, rank)?;
    // The primitive alone would round smaller floats before the scale, too.
    let work = wide(dtype);
    let x = ctx.cast(x, work)?;
    let y = ctx.emit(Op::RmsNorm, attrs! { axis: axis as i64, epsilon: f64::from(epsilon) }, &[x])?;
    let to = ctx.dtype(scale)?;
    let scale = ctx.cast(scale, work)?;
    let y = ctx.binary(Op::Mul, y, scale)?;
    Ok(vec![ctx.cast(y, to)?])
}

fn group(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let groups = ctx.int("num_groups", 0)?;
    ctx.opt_dtype("stash_type")?;
    if groups < 1 {
        return Err(ctx.bad_attr("num_groups", groups));
    }
    let (x, scale, shift) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    spatial_axes(ctx, x)?;
    let (ty, rank) = (ctx.tensor(x)?, ctx.rank(x)?);
    let work = wide(ty.dtype);
    let x = ctx.cast(x, work)?;
    let (scale, shift) = (ctx.cast(scale, work)?, ctx.cast(shift, work)?);
    let channels = ty.shape[1].op(egret_ir::DimOp::FloorDiv, &dim(groups));
    let rows = vec![ty.shape[0].clone(), dim(groups), channels * product(&ty.shape[2..])];
    let rows = ctx.reshape(x, rows)?;
    let y = ctx.emit(Op::LayerNorm, attrs! { axis: 2i64, epsilon: f64::from(epsilon) }, &[rows])?;
    // Opset 18 has parameters for every group, later ones for every channel.
    let y = if ctx.opset < 21 {
        let (scale, shift) = (per_channel(ctx, scale, 3)?, per_channel(ctx, shift, 3)?);
        let y = affine(ctx, y, scale, shift)?;
        ctx.reshape(y, ty.shape)?
    } else {
        let y = ctx.reshape(y, ty.shape)?;
        let (scale, shift) = (per_channel(ctx, scale, rank)?, per_channel(ctx, shift, rank)?);
        affine(ctx, y, scale, shift)?
    };
    Ok(vec![ctx.cast(y, ty.dtype)?])
}

/// Softmax, LogSoftmax, Hardmax: along one axis, or, before opset 13, over all axes from `axis` on as one.
fn softmax_like(ctx: &mut NodeCtx, f: impl Fn(&mut NodeCtx, ValueId, usize) -> Emitted) -> OpResult {
    let x = ctx.input(0)?;
    let shape = ctx.shape_of(x)?;
    let axis = ctx.int("axis", if ctx.opset < 13 { 1 } else { -1 })?;
    if ctx.opset >= 13 || axis == -1 || axis + 1 == shape.len() as i64 {
        let axis = ctx.axis(axis, shape.len())?;
        return Ok(vec![f(ctx, x, axis)?]);
    }
    // An axis equal to the rank is allowed here: every row has one element then.
    let axis = if axis == shape.len() as i64 { shape.len() } else { ctx.axis(axis, shape.len())? };
    let rows = ctx.reshape(x, vec![product(&shape[..axis]), product(&shape[axis..])])?;
    let y = f(ctx, rows, 1)?;
    Ok(vec![ctx.reshape(y, shape)?])
}

/// x - max - log(sum(exp(x - max)))
fn log_softmax(ctx: &mut NodeCtx, x: ValueId, axis: usize) -> Emitted {
    let dtype = ctx.dtype(x)?;
    let x = ctx.cast(x, wide(dtype))?;
    let axes = vec![axis as i64];
    let max = ctx.reduce("max", x, axes.clone(), true)?;
    let shifted = ctx.binary(Op::Sub, x, max)?;
    let e = ctx.unary(Op::Exp, shifted)?;
    let sum = ctx.reduce("sum", e, axes, true)?;
    let log = ctx.unary(Op::Log, sum)?;
    let y = ctx.binary(Op::Sub, shifted, log)?;
    ctx.cast(y, dtype)
}

/// 1 at the first of the largest elements along an axis, else 0: nothing along an empty one.
fn hardmax(ctx: &mut NodeCtx) -> OpResult {
    softmax_like(ctx, |ctx, x, axis| {
        let ty = ctx.tensor(x)?;
        let asked = match ty.shape[axis].at_least() {
            _ if ty.shape[axis].as_const() == Some(0) => return Ok(x),
            Some(1..) => x,
            // There is an index along an axis that may be empty too, beside one more element, which is no first of the largest.
            _ => {
                let least = ctx.scalar(ty.dtype, f64::NEG_INFINITY)?;
                let none = vec![dim(0); ty.rank()];
                let mut one = none.clone();
                one[axis] = dim(1);
                ctx.pad(x, none, one, "constant", Some(least))?
            }
        };
        let at = ctx.emit(
            Op::ArgReduce,
            attrs! { kind: "max", axis: axis as i64, keepdims: 1i64, last: 0i64 },
            &[asked],
        )?;
        let index = ctx.iota_along(DType::I64, ty.shape[axis].clone(), axis, ty.rank())?;
        let hit = ctx.binary(Op::Equal, at, index)?;
        ctx.cast(hit, ty.dtype)
    })
}

fn lp_normalization(ctx: &mut NodeCtx) -> OpResult {
    let (axis, p) = (ctx.int("axis", -1)?, ctx.int("p", 2)?);
    if p != 1 && p != 2 {
        return Err(ctx.bad_attr("p", p));
    }
    in_f32(ctx, |ctx, x| {
        let rank = ctx.rank(x)?;
        let axes = vec![ctx.axis(axis, rank)? as i64];
        let powers = if p == 1 { ctx.unary(Op::Abs, x)? } else { ctx.binary(Op::Mul, x, x)? };
        let sum = ctx.reduce("sum", powers, axes, true)?;
        let norm = if p == 1 { sum } else { ctx.unary(Op::Sqrt, sum)? };
        let quotient = ctx.binary(Op::Div, x, norm)?;
        // What has no length stays zero.
        let dtype = ctx.dtype(x)?;
        let zero = ctx.scalar(dtype, 0.0)?;
        let empty = ctx.binary(Op::Equal, norm, zero)?;
        ctx.select(empty, zero, quotient)
    })
}

fn mean_variance_normalization(ctx: &mut NodeCtx) -> OpResult {
    let axes = ctx.opt_ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    in_f32(ctx, |ctx, x| {
        let rank = ctx.rank(x)?;
        let mut axes: Vec<i64> = ctx.axes(&axes, rank)?.into_iter().map(|a| a as i64).collect();
        axes.sort();
        let m = mean(ctx, x, &axes, true)?;
        let centred = ctx.binary(Op::Sub, x, m)?;
        let square = ctx.binary(Op::Mul, centred, centred)?;
        let variance = mean(ctx, square, &axes, true)?;
        let deviation = ctx.unary(Op::Sqrt, variance)?;
        let deviation = ctx.with_scalar(Op::Add, deviation, 1e-9)?;
        ctx.binary(Op::Div, centred, deviation)
    })
}

/// x / (bias + alpha / size * sum of squares over neighbouring channels) ^ beta
fn lrn(ctx: &mut NodeCtx) -> OpResult {
    let (alpha, beta, bias) =
        (ctx.float("alpha", 1e-4)?, ctx.float("beta", 0.75)?, ctx.float("bias", 1.0)?);
    let size = ctx.int("size", 0)?;
    if !(1..=i64::from(i32::MAX)).contains(&size) {
        return Err(ctx.bad_attr("size", size));
    }
    in_f32(ctx, |ctx, x| {
        let rank = spatial_axes(ctx, x)?.len() as i64 + 2;
        // Channels become the spatial axis of a pool: last, as they stand between convolutions.
        let last = ctx.transpose(x, [0].into_iter().chain(2..rank).chain([1]).collect())?;
        let shape = ctx.shape_of(last)?;
        let (channels, pixels) = (shape[shape.len() - 1].clone(), product(&shape[..shape.len() - 1]));
        let rows = ctx.reshape(last, vec![pixels, dim(1), channels])?;
        let square = ctx.binary(Op::Mul, rows, rows)?;
        let low = (size - 1) / 2;
        let window = Window {
            kernel: vec![dim(size)],
            strides: vec![1],
            dilations: vec![1],
            pads: vec![dim(low), dim(size - 1 - low)],
            cuts: vec![dim(0); 2],
            high_extra: vec![dim(0)],
            holds: vec![],
        };
        let attrs = window.pool_attrs_of(ctx, "sum")?;
        let sum = ctx.emit(Op::Pool, attrs, &[square])?;
        let scaled = ctx.with_scalar(Op::Mul, sum, f64::from(alpha) / size as f64)?;
        let base = ctx.with_scalar(Op::Add, scaled, bias.into())?;
        let power = ctx.with_scalar(Op::Pow, base, beta.into())?;
        let quotient = ctx.binary(Op::Div, rows, power)?;
        let quotient = ctx.reshape(quotient, shape)?;
        ctx.transpose(quotient, [0, rank - 1].into_iter().chain(1..rank - 1).collect())
    })
}
