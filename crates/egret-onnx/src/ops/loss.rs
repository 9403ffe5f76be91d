//! Losses: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("NegativeLogLikelihoodLoss", 12, negative_log_likelihood),
    onnx("SoftmaxCrossEntropyLoss", 12, softmax_cross_entropy),
];

fn negative_log_likelihood(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![loss(ctx, x)?])
}

fn softmax_cross_entropy(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    if ctx.rank(x)? < 2 {
        return Err(ImportError::invalid("SoftmaxCrossEntropyLoss needs scores of rank 2 or more"));
    }
    let peak = ctx.reduce("max", x, vec![1], true)?;
    let shifted = ctx.binary(Op::Sub, x, peak)?;
    let powers = ctx.unary(Op::Exp, shifted)?;
    let sum = ctx.reduce("sum", powers, vec![1], true)?;
    let log_sum = ctx.unary(Op::Log, sum)?;
    let log_prob = ctx.binary(Op::Sub, shifted, log_sum)?;
    Ok(vec![loss(ctx, log_prob)?, log_prob])
}

/// The loss of log-probabilities [N, C, d..] for the targets (input 1) under the class weights (input 2).
fn loss(ctx: &mut NodeCtx, log_prob: ValueId) -> Result<ValueId, ImportError> {
    let target = ctx.input(1)?;
    let reduction = ctx.str("reduction", "mean")?;
    if !["none", "sum", "mean"].contains(&reduction.as_str()) {
        return Err(ctx.bad_attr("reduction", reduction));
    }
    if ctx.rank(log_prob)? < 2 {
        return Err(ImportError::invalid(format!("{} needs scores of rank 2 or more", ctx.op_type)));
    }
    let dtype = ctx.dtype(log_prob)?;
    let target = ctx.cast(target, DType::I64)?;
    // An ignored target may be no class at all: class 0 stands in for it, with a weight of 0.
    let (target, kept) = match ctx.opt_int("ignore_index")? {
        None => (target, None),
        Some(index) => {
            let index = ctx.builder.constant(Tensor::scalar(index));
            let ignored = ctx.binary(Op::Equal, target, index)?;
            let zero = ctx.zero(DType::I64);
            let safe = ctx.select(ignored, zero, target)?;
            (safe, Some(ctx.unary(Op::Not, ignored)?))
        }
    };
    let at = ctx.unsqueeze(target, 1)?;
    let picked = ctx.emit(Op::GatherElements, attrs! { axis: 1i64 }, &[log_prob, at])?;
    let picked = ctx.squeeze(picked, &[1])?;
    let mut losses = ctx.unary(Op::Neg, picked)?;
    let mut weights = match ctx.opt_input(2) {
        Some(w) => Some(ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[w, target])?),
        None => None,
    };
    if let Some(kept) = kept {
        let zero = ctx.zero(dtype);
        let full = match weights {
            Some(w) => w,
            None => ctx.scalar(dtype, 1.0)?,
        };
        weights = Some(ctx.select(kept, full, zero)?);
        losses = ctx.select(kept, losses, zero)?;
    }
    if let Some(w) = weights {
        losses = ctx.binary(Op::Mul, losses, w)?;
    }
    if reduction == "none" {
        return Ok(losses);
    }
    let axes: Vec<i64> = (0..ctx.rank(losses)? as i64).collect();
    let total = ctx.reduce("sum", losses, axes.clone(), false)?;
    if reduction == "sum" {
        return Ok(total);
    }
    let weight = match weights {
        Some(w) => ctx.reduce("sum", w, axes, false)?,
        None => {
            let count = ctx.element_count(losses)?;
            ctx.cast(count, dtype)?
        }
    };
    ctx.binary(Op::Div, total, weight)
}
