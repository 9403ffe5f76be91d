//! Order among elements: TopK, Unique, NonMaxSuppression.

use super::emit::dim;
use super::gather_scatter::axis_of;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Op, Tensor, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("NonMaxSuppression", 10, non_max_suppression),
    onnx("TopK", 1, top_k),
    onnx("Unique", 11, unique),
];

fn top_k(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let axis = axis_of(ctx, x, -1)?;
    let k = if ctx.opset < 10 {
        dim(ctx.opt_int("k")?.ok_or_else(|| ImportError::invalid("TopK needs its attribute `k`"))?)
    } else {
        let all = ctx.shape_of(x)?[axis as usize].clone();
        let k = ctx.dims_within(ctx.input(1)?, "the k of TopK", Some(&all))?;
        k.first().cloned().ok_or_else(|| ImportError::invalid("the k of TopK is empty"))?
    };
    let (largest, _any_order_will_do) =
        if ctx.opset < 11 { (true, true) } else { (ctx.flag("largest", true)?, ctx.flag("sorted", true)?) };
    ctx.emit_node(Op::TopK, attrs! { k: k, axis: axis, largest: largest }, &[Some(x)], vec![])
}

fn non_max_suppression(ctx: &mut NodeCtx) -> OpResult {
    let (boxes, scores) = (ctx.input(0)?, ctx.input(1)?);
    let center = ctx.flag("center_point_box", false)?;
    let mut operands = vec![Some(boxes), Some(scores)];
    // Left out: no box at all, any overlap is too much, every score counts.
    for (i, default) in
        [(2, Tensor::scalar(0i64)), (3, Tensor::scalar(0f32)), (4, Tensor::scalar(f32::NEG_INFINITY))]
    {
        let value = match ctx.opt_input(i) {
            Some(v) if ctx.tensor(v)?.const_len() != Some(0) => ctx.single(v)?,
            _ => ctx.builder.constant(default),
        };
        operands.push(Some(value));
    }
    ctx.emit_node(Op::Nms, attrs! { center_point_box: center }, &operands, vec![])
}

fn unique(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let sorted = ctx.flag("sorted", true)?;
    let (axis, flat) = match ctx.opt_int("axis")? {
        Some(axis) => (ctx.axis(axis, ctx.rank(x)?)? as i64, false),
        None => (0, true),
    };
    ctx.emit_node(Op::Unique, attrs! { axis: axis, flat: flat, sorted: sorted }, &[Some(x)], vec![])
}
