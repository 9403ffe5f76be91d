//! Normalisations by mean and variance: batch, instance, layer, group, root mean square.

use super::activation::wide;
use super::contraction::per_channel;
use super::emit::{dim, product};
use super::pooling::spatial_axes;
use super::reduction::mean;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("BatchNormalization", 1, batch),
    onnx("GroupNormalization", 18, group),
    onnx("InstanceNormalization", 1, instance),
    onnx("LayerNormalization", 1, layer),
    onnx("RMSNormalization", 23, rms),
];

type Emitted = Result<ValueId, ImportError>;

/// 1 / sqrt(x + epsilon)
fn inverse_root(ctx: &mut NodeCtx, x: ValueId, epsilon: f32) -> Emitted {
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
    super::math::skip_consumed(ctx);
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
    super::math::skip_consumed(ctx);
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
    let axes: Vec<i64> = (ctx.axis(axis, rank)? as i64..rank as i64).collect();
    let work = wide(dtype);
    let x = ctx.cast(x, work)?;
    let square = ctx.binary(Op::Mul, x, x)?;
    let m = mean(ctx, square, &axes, true)?;
    let inverse = inverse_root(ctx, m, epsilon)?;
    let y = ctx.binary(Op::Mul, x, inverse)?;
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
