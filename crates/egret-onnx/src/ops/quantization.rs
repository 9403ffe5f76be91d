//! Quantisation: to and from few-bit integers and floats by scale and zero point.

use super::activation::wide;
use super::emit::dim;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("DequantizeLinear", 10, dequantize_linear),
    onnx("DynamicQuantizeLinear", 11, dynamic_quantize_linear),
    onnx("QuantizeLinear", 10, quantize_linear),
];

type Emitted = Result<ValueId, ImportError>;

/// An attribute with the code of an element type, where 0 (undefined) means that it is not given.
fn given_dtype(ctx: &mut NodeCtx, name: &str) -> Result<Option<DType>, ImportError> {
    match ctx.opt_int(name)? {
        None | Some(0) => Ok(None),
        Some(code) => crate::data::dtype(i32::try_from(code).unwrap_or(-1)).map(Some),
    }
}

/// round(x / scale) + zero, saturated; x and scale are floats of one type of 32 bits at least.
pub(super) fn quantize(
    ctx: &mut NodeCtx,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
    saturate: bool,
) -> Emitted {
    let work = ctx.dtype(x)?;
    let mut y = ctx.binary(Op::Div, x, scale)?;
    if to.is_int() {
        y = ctx.unary(Op::Round, y)?;
    }
    if let Some(zero) = zero {
        let zero = ctx.cast(zero, work)?;
        y = ctx.binary(Op::Add, y, zero)?;
    }
    // A cast saturates by itself, except to integers of less than 8 bits.
    let range = match to {
        DType::I2 => Some((-2.0, 1.0)),
        DType::U2 => Some((0.0, 3.0)),
        DType::I4 => Some((-8.0, 7.0)),
        DType::U4 => Some((0.0, 15.0)),
        _ => None,
    };
    if let Some((low, high)) = range {
        y = ctx.with_scalar(Op::Max, y, low)?;
        y = ctx.with_scalar(Op::Min, y, high)?;
    }
    ctx.emit(Op::Cast, attrs! { to: to, saturate: saturate, round: "nearest" }, &[y])
}

/// Output scale and zero point of an operator on quantised tensors.
pub(super) struct Requantize {
    pub(super) scale: ValueId,
    pub(super) zero: ValueId,
}

impl Requantize {
    /// An i32 sum whose unit is `unit` as a quantised tensor.
    pub(super) fn apply(self, ctx: &mut NodeCtx, sum: ValueId, unit: ValueId) -> Emitted {
        let to = ctx.dtype(self.zero)?;
        let (scale, zero) = (one_or_rows(ctx, self.scale)?, one_or_rows(ctx, self.zero)?);
        let scale = ctx.cast(scale, DType::F32)?;
        // One multiplier for the whole way, as the reference and ONNX Runtime have it.
        let multiplier = ctx.binary(Op::Div, unit, scale)?;
        let sum = ctx.cast(sum, DType::F32)?;
        let y = ctx.binary(Op::Mul, sum, multiplier)?;
        let y = ctx.unary(Op::Round, y)?;
        let zero = ctx.cast(zero, DType::F32)?;
        let y = ctx.binary(Op::Add, y, zero)?;
        ctx.cast(y, to)
    }
}

/// A parameter of one element as a scalar; others as they are.
fn one_or_rows(ctx: &mut NodeCtx, v: ValueId) -> Emitted {
    let one = ctx.shape_of(v)?.iter().all(|d| d.as_const() == Some(1));
    if one { ctx.single(v) } else { Ok(v) }
}

/// A scale or zero point in place for x: scalar, along `axis`, or repeated for the elements of a block.
fn in_place(ctx: &mut NodeCtx, v: ValueId, x_shape: &[Dim], axis: i64, block: i64) -> Emitted {
    let shape = ctx.shape_of(v)?;
    let rank = x_shape.len();
    if shape.is_empty() || (shape.len() == 1 && shape[0].as_const() == Some(1)) {
        return ctx.single(v);
    }
    let axis = ctx.axis(axis, rank)?;
    if shape.len() == 1 && (block == 0 || rank != 1) {
        let mut placed = vec![dim(1); rank];
        placed[axis] = shape[0].clone();
        return ctx.reshape(v, placed);
    }
    if shape.len() != rank {
        return Err(ImportError::invalid(format!(
            "the scale or zero point of {} has rank {}, its input {rank}",
            ctx.op_type,
            shape.len()
        )));
    }
    if block == 0 {
        return Ok(v);
    }
    // Each entry `block` times, the last ones cut off where the axis is no multiple.
    let columns = ctx.unsqueeze(v, axis + 1)?;
    let mut repeated = ctx.shape_of(columns)?;
    repeated[axis + 1] = dim(block);
    let columns = ctx.broadcast(columns, repeated)?;
    let mut joined = shape;
    joined[axis] = joined[axis].clone() * dim(block);
    let whole = ctx.reshape(columns, joined)?;
    ctx.narrow(whole, axis, dim(0), x_shape[axis].clone())
}

/// The attributes `axis` and `block_size`, checked against the scale.
fn axis_and_block(ctx: &mut NodeCtx, x: ValueId, scale: ValueId) -> Result<(i64, i64), ImportError> {
    let (axis, block) = (ctx.int("axis", 1)?, ctx.int("block_size", 0)?);
    if block < 0 {
        return Err(ctx.bad_attr("block_size", block));
    }
    let (x_shape, s_shape) = (ctx.shape_of(x)?, ctx.shape_of(scale)?);
    if block > 0 && x_shape.len() == s_shape.len() {
        let at = ctx.axis(axis, x_shape.len())?;
        let blocks = x_shape[at].op(DimOp::CeilDiv, &dim(block));
        if matches!((blocks.as_const(), s_shape[at].as_const()), (Some(a), Some(b)) if a != b) {
            return Err(ImportError::invalid(format!(
                "a scale of {} entries does not fit an axis of {} in blocks of {block}",
                s_shape[at], x_shape[at]
            )));
        }
    }
    Ok((axis, block))
}

fn quantize_linear(ctx: &mut NodeCtx) -> OpResult {
    let (x, scale, zero) = (ctx.input(0)?, ctx.input(1)?, ctx.opt_input(2));
    let (axis, block) = axis_and_block(ctx, x, scale)?;
    let saturate = ctx.flag("saturate", true)?;
    let output = given_dtype(ctx, "output_dtype")?;
    given_dtype(ctx, "precision")?;
    let to = match (zero, output) {
        (Some(z), _) => ctx.dtype(z)?,
        (None, Some(to)) => to,
        (None, None) => DType::U8,
    };
    let shape = ctx.shape_of(x)?;
    let work = wide(ctx.dtype(scale)?);
    let (x, scale) = (ctx.cast(x, work)?, ctx.cast(scale, work)?);
    let scale = in_place(ctx, scale, &shape, axis, block)?;
    let zero = zero.map(|z| in_place(ctx, z, &shape, axis, block)).transpose()?;
    Ok(vec![quantize(ctx, x, scale, zero, to, saturate)?])
}

fn dequantize_linear(ctx: &mut NodeCtx) -> OpResult {
    let (x, scale, zero) = (ctx.input(0)?, ctx.input(1)?, ctx.opt_input(2));
    let (axis, block) = axis_and_block(ctx, x, scale)?;
    let scale_type = ctx.dtype(scale)?;
    let to = given_dtype(ctx, "output_dtype")?.unwrap_or(scale_type);
    let shape = ctx.shape_of(x)?;
    let work = wide(scale_type);
    // The difference of integers is exact only in integers.
    let between = if ctx.dtype(x)?.is_int() { DType::I32 } else { work };
    let mut y = ctx.cast(x, between)?;
    if let Some(zero) = zero {
        let zero = ctx.cast(zero, between)?;
        let zero = in_place(ctx, zero, &shape, axis, block)?;
        y = ctx.binary(Op::Sub, y, zero)?;
    }
    let y = ctx.cast(y, work)?;
    let scale = ctx.cast(scale, work)?;
    let scale = in_place(ctx, scale, &shape, axis, block)?;
    let y = ctx.binary(Op::Mul, y, scale)?;
    Ok(vec![ctx.cast(y, to)?])
}

fn dynamic_quantize_linear(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let (y, scale, zero) = dynamic_u8(ctx, x)?;
    Ok(vec![y, scale, zero])
}

/// x as u8 over its own range, with the scale and zero point of that.
pub(super) fn dynamic_u8(
    ctx: &mut NodeCtx,
    x: ValueId,
) -> Result<(ValueId, ValueId, ValueId), ImportError> {
    let axes: Vec<i64> = (0..ctx.rank(x)? as i64).collect();
    let low = ctx.reduce("min", x, axes.clone(), false)?;
    let high = ctx.reduce("max", x, axes, false)?;
    // The range includes zero.
    let (low, high) = (ctx.with_scalar(Op::Min, low, 0.0)?, ctx.with_scalar(Op::Max, high, 0.0)?);
    let range = ctx.binary(Op::Sub, high, low)?;
    let scale = ctx.with_scalar(Op::Div, range, 255.0)?;
    // Nothing but zeros, or numbers so small that a step of them is none: ONNX does not say what the scale is, and exporters divide
    // biases by it. ONNX Runtime has 1.
    let (nothing, one) = (ctx.scalar(DType::F32, 0.0)?, ctx.scalar(DType::F32, 1.0)?);
    let empty = ctx.binary(Op::Equal, scale, nothing)?;
    let scale = ctx.emit(Op::Where, attrs! {}, &[empty, one, scale])?;
    let steps = ctx.binary(Op::Div, low, scale)?;
    let zero = ctx.unary(Op::Neg, steps)?;
    let zero = ctx.unary(Op::Round, zero)?;
    let zero = ctx.cast(zero, DType::U8)?;
    let y = quantize(ctx, x, scale, Some(zero), DType::U8, true)?;
    Ok((y, scale, zero))
}
