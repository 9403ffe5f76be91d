//! Normalisation fused with what is before it: a sum, embeddings; and by groups of channels.

use super::super::activation::wide;
use super::super::contraction::per_channel;
use super::super::emit::{dim, product};
use super::super::normalization::inverse_root;
use super::super::reduction::mean;
use super::super::window::spatial_axes;
use super::{OnnxOp, refused_outputs, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, DimOp, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("EmbedLayerNormalization", embed_layer_norm),
    row("GroupNorm", group_norm),
    // ONNX Runtime's optimiser writes it in the domain of ONNX.
    OnnxOp { domain: "", name: "SimplifiedLayerNormalization", since: 1, import: simplified_layer_norm },
    row("SkipGroupNorm", skip_group_norm),
    row("SkipLayerNormalization", |c| skip_norm(c, Op::LayerNorm)),
    row("SkipSimplifiedLayerNormalization", |c| skip_norm(c, Op::RmsNorm)),
];

type Emitted = Result<ValueId, ImportError>;

/// x, which is in the type to compute in, normalised from an axis on, scaled and shifted, in the type `to`.
fn normalised(
    ctx: &mut NodeCtx,
    op: Op,
    x: ValueId,
    (axis, epsilon): (usize, f32),
    [scale, shift]: [Option<ValueId>; 2],
    to: DType,
) -> Emitted {
    let work = ctx.dtype(x)?;
    let mut y = ctx.emit(op, attrs! { axis: axis as i64, epsilon: f64::from(epsilon) }, &[x])?;
    for (op, by) in [(Op::Mul, scale), (Op::Add, shift)] {
        if let Some(by) = by {
            let by = ctx.cast(by, work)?;
            y = ctx.binary(op, y, by)?;
        }
    }
    ctx.cast(y, to)
}

/// Layer or root-mean-square normalisation of the sum of two tensors (and a bias); the sum is the fourth output.
fn skip_norm(ctx: &mut NodeCtx, op: Op) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-12)?;
    refused_outputs(ctx, &[(1, "mean"), (2, "inv_std_var")])?;
    let (x, skip, scale) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    // The form without means has no shift.
    let (shift, bias) = match op {
        Op::LayerNorm => (ctx.opt_input(3), ctx.opt_input(4)),
        _ => (None, ctx.opt_input(3)),
    };
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let axis = ctx.axis(-1, rank)?;
    let work = wide(dtype);
    let mut sum = ctx.cast(x, work)?;
    for more in [Some(skip), bias].into_iter().flatten() {
        let more = ctx.cast(more, work)?;
        sum = ctx.binary(Op::Add, sum, more)?;
    }
    let y = normalised(ctx, op, sum, (axis, epsilon), [Some(scale), shift], dtype)?;
    // Mean and deviation stand between; nothing reads them.
    Ok(vec![y, y, y, ctx.cast(sum, dtype)?])
}

/// RMSNormalization under another name, with 1 over the root mean square as a second output.
fn simplified_layer_norm(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let axis = ctx.int("axis", -1)?;
    let stash = ctx.opt_dtype("stash_type")?.unwrap_or(DType::F32);
    let (x, scale) = (ctx.input(0)?, ctx.input(1)?);
    let (rank, to) = (ctx.rank(x)?, ctx.dtype(scale)?);
    let axis = ctx.axis(axis, rank)?;
    let x = ctx.cast(x, wide(ctx.dtype(x)?))?;
    let mut results = vec![normalised(ctx, Op::RmsNorm, x, (axis, epsilon), [Some(scale), None], to)?];
    if ctx.wanted.get(1) == Some(&true) {
        let square = ctx.binary(Op::Mul, x, x)?;
        let axes: Vec<i64> = (axis as i64..rank as i64).collect();
        let mean = mean(ctx, square, &axes, true)?;
        let inverse = inverse_root(ctx, mean, epsilon)?;
        results.push(ctx.cast(inverse, stash)?);
    }
    Ok(results)
}

/// LayerNormalization of the sum of the embeddings of words, places and segments; how many tokens a mask names; the sum.
fn embed_layer_norm(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-12)?;
    // Whether the second output is wanted, which the node says itself.
    ctx.int("mask_index_type", 0)?;
    let words = ctx.input(0)?;
    let shape = ctx.shape_of(words)?;
    let [batch, length] = shape.as_slice() else {
        return Err(ImportError::invalid("the words of EmbedLayerNormalization are no matrix"));
    };
    let gather = |ctx: &mut NodeCtx, table: ValueId, ids: ValueId| {
        ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[table, ids])
    };
    let mut sum = gather(ctx, ctx.input(2)?, words)?;
    let dtype = ctx.dtype(sum)?;
    let places = match ctx.opt_input(8) {
        Some(ids) => gather(ctx, ctx.input(3)?, ids)?,
        None => ctx.narrow(ctx.input(3)?, 0, dim(0), length.clone())?,
    };
    let work = wide(dtype);
    let mut terms = vec![places];
    if let (Some(ids), Some(table)) = (ctx.opt_input(1), ctx.opt_input(4)) {
        terms.push(gather(ctx, table, ids)?);
    }
    sum = ctx.cast(sum, work)?;
    for term in terms {
        let term = ctx.cast(term, work)?;
        sum = ctx.binary(Op::Add, sum, term)?;
    }
    let affine = [Some(ctx.input(5)?), Some(ctx.input(6)?)];
    let y = normalised(ctx, Op::LayerNorm, sum, (2, epsilon), affine, dtype)?;
    let counts = match ctx.opt_input(7) {
        Some(mask) => {
            let one = ctx.scalar(ctx.dtype(mask)?, 1.0)?;
            let named = ctx.binary(Op::Equal, mask, one)?;
            let named = ctx.cast(named, DType::I32)?;
            ctx.reduce("sum", named, vec![1], false)?
        }
        None => {
            let zero = ctx.zero(DType::I32);
            ctx.broadcast(zero, vec![batch.clone()])?
        }
    };
    Ok(vec![y, counts, ctx.cast(sum, dtype)?])
}

/// x, whose channels are axis 1 or the last, over the mean and deviation of each group of channels.
fn by_groups(ctx: &mut NodeCtx, x: ValueId, to: DType) -> Emitted {
    let epsilon = ctx.float("epsilon", 1e-5)?;
    let groups = ctx.int("groups", 0)?;
    let activation = ctx.int("activation", 0)?;
    let last = ctx.flag("channels_last", true)?;
    if groups < 1 {
        return Err(ctx.bad_attr("groups", groups));
    }
    spatial_axes(ctx, x)?;
    let rank = ctx.rank(x)? as i64;
    let first =
        if last { ctx.transpose(x, [0, rank - 1].into_iter().chain(1..rank - 1).collect())? } else { x };
    let shape = ctx.shape_of(first)?;
    let channels = shape[1].op(DimOp::FloorDiv, &dim(groups));
    let rows = ctx.reshape(first, vec![shape[0].clone(), dim(groups), channels * product(&shape[2..])])?;
    let y = ctx.emit(Op::LayerNorm, attrs! { axis: 2i64, epsilon: f64::from(epsilon) }, &[rows])?;
    let mut y = ctx.reshape(y, shape)?;
    let work = ctx.dtype(y)?;
    for (op, at) in [(Op::Mul, 1), (Op::Add, 2)] {
        let by = ctx.cast(ctx.input(at)?, work)?;
        let by = per_channel(ctx, by, rank as usize)?;
        y = ctx.binary(op, y, by)?;
    }
    match activation {
        0 => {}
        1 => y = ctx.unary(Op::Silu, y)?,
        other => return Err(ctx.bad_attr("activation", other)),
    }
    let y = if last { ctx.transpose(y, [0].into_iter().chain(2..rank).chain([1]).collect())? } else { y };
    ctx.cast(y, to)
}

fn group_norm(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let x = ctx.cast(x, wide(dtype))?;
    Ok(vec![by_groups(ctx, x, dtype)?])
}

/// GroupNorm of the sum of x, `skip` (as x, or an entry a channel of each image) and a bias; the sum is the second output.
fn skip_group_norm(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    spatial_axes(ctx, x)?;
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let last = !matches!(ctx.attrs.get("channels_last"), Some(crate::context::OnnxAttr::Int(0)));
    let work = wide(dtype);
    let mut sum = ctx.cast(x, work)?;
    for (at, in_place) in [(3, rank), (4, 1)] {
        let Some(more) = ctx.opt_input(at) else { continue };
        let mut more = ctx.cast(more, work)?;
        let shape = ctx.shape_of(more)?;
        if shape.len() == 2 && in_place == rank {
            let ones = vec![dim(1); rank - 2];
            let [batch, channels] = [shape[0].clone(), shape[1].clone()];
            let shape = if last {
                [vec![batch], ones, vec![channels]].concat()
            } else {
                [vec![batch, channels], ones].concat()
            };
            more = ctx.reshape(more, shape)?;
        } else if shape.len() == 1 && !last {
            more = per_channel(ctx, more, rank)?;
        }
        sum = ctx.binary(Op::Add, sum, more)?;
    }
    let y = by_groups(ctx, sum, dtype)?;
    Ok(vec![y, ctx.cast(sum, dtype)?])
}
