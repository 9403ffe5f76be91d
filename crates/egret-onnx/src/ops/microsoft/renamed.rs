//! Operators that ONNX has too, or all but has.

use super::apply::renamed;
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("DequantizeLinear", |c| renamed(c, "DequantizeLinear", 21)),
    row("ExpandDims", expand_dims),
    row("GatherND", |c| renamed(c, "GatherND", 12)),
    row("GridSample", |c| renamed(c, "GridSample", 16)),
    row("MulInteger", mul_integer),
    row("Pad", pad),
    row("QuantizeLinear", |c| renamed(c, "QuantizeLinear", 21)),
    row("Range", range),
    row("Trilu", |c| renamed(c, "Trilu", 14)),
    row("Unique", unique),
];

fn expand_dims(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let axis = ctx.need_int(ctx.input(1)?, "the axis of ExpandDims")?;
    let axis = ctx.axis(axis, ctx.rank(x)? + 1)?;
    Ok(vec![ctx.unsqueeze(x, axis)?])
}

/// As ONNX has it, but the pads may be a matrix of one row.
fn pad(ctx: &mut NodeCtx) -> OpResult {
    let pads = ctx.input(1)?;
    if ctx.rank(pads)? == 2 {
        ctx.inputs[1] = Some(ctx.squeeze(pads, &[0])?);
    }
    renamed(ctx, "Pad", 13)
}

/// The product of integers less their zero points, in 32 bits.
fn mul_integer(ctx: &mut NodeCtx) -> OpResult {
    let mut factors = vec![];
    for at in [0, 2] {
        let x = ctx.cast(ctx.input(at)?, DType::I32)?;
        factors.push(match ctx.opt_input(at + 1) {
            Some(zero) => {
                let zero = ctx.cast(zero, DType::I32)?;
                let zero = ctx.single(zero)?;
                ctx.binary(Op::Sub, x, zero)?
            }
            None => x,
        });
    }
    Ok(vec![ctx.binary(Op::Mul, factors[0], factors[1])?])
}

/// As ONNX has it, but its operands may be vectors of one entry, and the step may be left out.
fn range(ctx: &mut NodeCtx) -> OpResult {
    let dtype = ctx.dtype(ctx.input(0)?)?;
    let mut inputs = vec![];
    for at in 0..3 {
        inputs.push(Some(match ctx.opt_input(at) {
            Some(v) => ctx.single(v)?,
            None if at == 2 => ctx.scalar(dtype, 1.0)?,
            None => return Err(ImportError::invalid(format!("Range needs an input {at}"))),
        }));
    }
    ctx.inputs = inputs;
    renamed(ctx, "Range", 11)
}

/// The values in the order in which they come first, which of them each element is, and how often each comes.
fn unique(ctx: &mut NodeCtx) -> OpResult {
    ctx.attrs.insert("sorted".to_owned(), OnnxAttr::Int(0));
    let wanted = std::mem::take(&mut ctx.wanted);
    ctx.wanted = vec![true; 4];
    let outputs = std::mem::replace(&mut ctx.outputs, 4);
    let all = renamed(ctx, "Unique", 11);
    (ctx.wanted, ctx.outputs) = (wanted, outputs);
    match all?.as_slice() {
        // ONNX has the places of the first ones second.
        &[y, _, index, counts, ..] => Ok(vec![y, index, counts]),
        _ => Err(ImportError::invalid("Unique lacks a result")),
    }
}
