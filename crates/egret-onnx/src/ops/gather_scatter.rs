//! Operators at places that only the data name: Gather, Scatter, Compress, NonZero, ReverseSequence, ...

use super::emit::dim;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("Compress", 9, compress),
    onnx("Gather", 1, gather),
    onnx("GatherElements", 11, gather_elements),
    onnx("GatherND", 11, gather_nd),
    onnx("NonZero", 9, non_zero),
    onnx("ReverseSequence", 10, reverse_sequence),
    onnx("Scatter", 9, scatter_elements),
    onnx("ScatterElements", 11, scatter_elements),
    onnx("ScatterND", 11, scatter_nd),
    onnx("TensorScatter", 24, tensor_scatter),
];

/// The axis attribute, checked against the rank of x.
pub(super) fn axis_of(ctx: &mut NodeCtx, x: ValueId, default: i64) -> Result<i64, ImportError> {
    let axis = ctx.int("axis", default)?;
    Ok(ctx.axis(axis, ctx.rank(x)?)? as i64)
}

fn gather(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, x, 0)?;
    Ok(vec![ctx.emit(Op::Gather, attrs! { axis: axis }, &[x, indices])?])
}

fn gather_elements(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, x, 0)?;
    Ok(vec![ctx.emit(Op::GatherElements, attrs! { axis: axis }, &[x, indices])?])
}

fn gather_nd(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let batch = ctx.int("batch_dims", 0)?;
    Ok(vec![ctx.emit(Op::GatherNd, attrs! { batch_dims: batch }, &[x, indices])?])
}

/// How a scatter combines what meets at one place.
fn reduction(ctx: &mut NodeCtx) -> Result<String, ImportError> {
    let reduction = ctx.str("reduction", "none")?;
    if ["none", "add", "mul", "max", "min"].contains(&reduction.as_str()) {
        Ok(reduction)
    } else {
        Err(ctx.bad_attr("reduction", reduction))
    }
}

fn scatter_elements(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let axis = axis_of(ctx, operands[0], 0)?;
    let reduction = reduction(ctx)?;
    Ok(vec![ctx.emit(Op::ScatterElements, attrs! { axis: axis, reduction: reduction }, &operands)?])
}

fn scatter_nd(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let reduction = reduction(ctx)?;
    Ok(vec![ctx.emit(Op::ScatterNd, attrs! { reduction: reduction }, &operands)?])
}

/// The cache with `update` written from the batch's write index on, as a scatter along the axis of the sequence.
fn tensor_scatter(ctx: &mut NodeCtx) -> OpResult {
    let (cache, update) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, cache, -2)? as usize;
    let circular = match ctx.str("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => return Err(ctx.bad_attr("mode", other)),
    };
    let shape = ctx.shape_of(update)?;
    if axis == 0 || axis >= shape.len() {
        return Err(ImportError::invalid(
            "TensorScatter's axis is the batch, or its inputs differ in rank",
        ));
    }
    let mut places = ctx.iota_along(DType::I64, shape[axis].clone(), axis, shape.len())?;
    if let Some(start) = ctx.opt_input(2) {
        let start = ctx.cast(start, DType::I64)?;
        let mut to = vec![dim(1); shape.len()];
        to[0] = shape[0].clone();
        let start = ctx.reshape(start, to)?;
        places = ctx.binary(Op::Add, places, start)?;
    }
    if circular {
        let dims = ctx.dims_value(cache)?;
        let length = ctx.pick(dims, 0, axis as i64)?;
        places = ctx.emit(Op::Mod, attrs! { fmod: false }, &[places, length])?;
    }
    let places = ctx.broadcast(places, shape)?;
    let attrs = attrs! { axis: axis as i64, reduction: "none" };
    Ok(vec![ctx.emit(Op::ScatterElements, attrs, &[cache, places, update])?])
}

fn compress(ctx: &mut NodeCtx) -> OpResult {
    let (mut x, cond) = (ctx.input(0)?, ctx.input(1)?);
    let dims = ctx.shape_of(x)?;
    let axis = match ctx.opt_int("axis")? {
        Some(axis) => ctx.axis(axis, dims.len())?,
        None => {
            x = ctx.reshape(x, vec![super::emit::product(&dims)])?;
            0
        }
    };
    Ok(vec![ctx.emit(Op::Compress, attrs! { axis: axis as i64 }, &[x, cond])?])
}

fn non_zero(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![ctx.unary(Op::Nonzero, x)?])
}

fn reverse_sequence(ctx: &mut NodeCtx) -> OpResult {
    let (x, lengths) = (ctx.input(0)?, ctx.input(1)?);
    let rank = ctx.rank(x)?;
    let time = ctx.int("time_axis", 0)?;
    let batch = ctx.int("batch_axis", 1)?;
    let (time, batch) = (ctx.axis(time, rank)?, ctx.axis(batch, rank)?);
    let lengths = ctx.cast(lengths, DType::I64)?;
    let attrs = attrs! { time_axis: time as i64, batch_axis: batch as i64 };
    Ok(vec![ctx.emit(Op::ReverseSequence, attrs, &[x, lengths])?])
}
