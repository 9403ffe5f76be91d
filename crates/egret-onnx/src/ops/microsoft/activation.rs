//! Activations, and those fused with a bias: Gelu and its kin, BiasSoftmax.

use super::super::activation::{in_f32, scaled_swish, wide};
use super::super::emit::{dim, product};
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DimOp, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("BiasAdd", bias_add),
    row("BiasGelu", |c| gelu(c, "none")),
    row("BiasSoftmax", bias_softmax),
    row("BiasSplitGelu", bias_split_gelu),
    row("FastGelu", |c| gelu(c, "tanh")),
    row("Gelu", |c| gelu(c, "none")),
    row("QuickGelu", quick_gelu),
];

/// Gelu of the sum of the inputs: one or two.
fn gelu(ctx: &mut NodeCtx, form: &str) -> OpResult {
    let Some(bias) = ctx.opt_input(1) else {
        let x = ctx.input(0)?;
        return Ok(vec![ctx.emit(Op::Gelu, attrs! { approximate: form }, &[x])?]);
    };
    // The primitive alone would round smaller floats before it, too.
    in_f32(ctx, |ctx, x| {
        let bias = ctx.cast(bias, ctx.dtype(x)?)?;
        let sum = ctx.binary(Op::Add, x, bias)?;
        ctx.emit(Op::Gelu, attrs! { approximate: form }, &[sum])
    })
}

/// x * sigmoid(alpha * x)
fn quick_gelu(ctx: &mut NodeCtx) -> OpResult {
    let alpha = f64::from(ctx.float("alpha", 1.702)?);
    in_f32(ctx, |ctx, x| scaled_swish(ctx, x, alpha))
}

/// One half of the channels of a sum times the Gelu of the other.
fn bias_split_gelu(ctx: &mut NodeCtx) -> OpResult {
    let bias = ctx.input(1)?;
    in_f32(ctx, |ctx, x| {
        let bias = ctx.cast(bias, ctx.dtype(x)?)?;
        let sum = ctx.binary(Op::Add, x, bias)?;
        let axis = ctx.axis(-1, ctx.rank(sum)?)?;
        let half = ctx.shape_of(sum)?[axis].op(DimOp::FloorDiv, &dim(2));
        let left = ctx.narrow(sum, axis, dim(0), half.clone())?;
        let right = ctx.narrow(sum, axis, half.clone(), half)?;
        let gate = ctx.emit(Op::Gelu, attrs! { approximate: "none" }, &[right])?;
        ctx.binary(Op::Mul, left, gate)
    })
}

fn bias_add(ctx: &mut NodeCtx) -> OpResult {
    let (bias, skip) = (ctx.input(1)?, ctx.input(2)?);
    in_f32(ctx, |ctx, x| {
        let work = ctx.dtype(x)?;
        let (bias, skip) = (ctx.cast(bias, work)?, ctx.cast(skip, work)?);
        let sum = ctx.binary(Op::Add, x, bias)?;
        ctx.binary(Op::Add, sum, skip)
    })
}

/// Softmax of a sum over all axes from `axis` on as one.
fn bias_softmax(ctx: &mut NodeCtx) -> OpResult {
    let axis = ctx.int("axis", 1)?;
    let inner = ctx.flag("is_inner_broadcast", false)?;
    let (x, bias) = (ctx.input(0)?, ctx.input(1)?);
    let (ty, bias_rank) = (ctx.tensor(x)?, ctx.rank(bias)?);
    let axis = ctx.axis(axis, ty.rank())?;
    // Of one rank, 1s in the shape of the bias say along which axes it is repeated, whether the inner or the outer ones.
    if inner && bias_rank != ty.rank() {
        return Err(ImportError::unsupported(format!(
            "attribute `is_inner_broadcast` of BiasSoftmax with a bias of rank {bias_rank} for data of rank {} is not supported",
            ty.rank()
        )));
    }
    let work = wide(ty.dtype);
    let (x, bias): (ValueId, ValueId) = (ctx.cast(x, work)?, ctx.cast(bias, work)?);
    let sum = ctx.binary(Op::Add, x, bias)?;
    let y = if axis + 1 == ty.rank() {
        ctx.softmax(sum, axis)?
    } else {
        let rows = ctx.reshape(sum, vec![product(&ty.shape[..axis]), product(&ty.shape[axis..])])?;
        let y = ctx.softmax(rows, 1)?;
        ctx.reshape(y, ty.shape)?
    };
    Ok(vec![ctx.cast(y, ty.dtype)?])
}
