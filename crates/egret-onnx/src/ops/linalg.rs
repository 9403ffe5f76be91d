//! Linear algebra beyond products: Det.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use egret_ir::Op;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("Det", 11, det)];

fn det(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![ctx.unary(Op::Det, x)?])
}
