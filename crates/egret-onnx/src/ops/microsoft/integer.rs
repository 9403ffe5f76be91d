//! Products of integers whose result is a float, an integer or a quantised tensor.

use super::super::contraction::{integer_matmul, numpy_matmul, per_row};
use super::super::quantization::{dynamic_u8, quantize};
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("DynamicQuantizeMatMul", dynamic_quantize_matmul),
    row("MatMulInteger16", matmul_integer16),
    row("MatMulIntegerToFloat", matmul_integer_to_float),
    row("QGemm", quantised_gemm),
];

type Emitted = Result<ValueId, ImportError>;

/// A quantised operand.
pub(super) struct Quantised {
    pub(super) value: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: Option<ValueId>,
}

/// The product of two quantised matrices as what it stands for, with a bias added.
pub(super) fn float_product(
    ctx: &mut NodeCtx,
    a: Quantised,
    b: Quantised,
    bias: Option<ValueId>,
) -> Emitted {
    let sum = integer_matmul(ctx, [a.value, b.value], [a.zero, b.zero])?;
    let to = ctx.dtype(b.scale)?;
    let unit = product_unit(ctx, a.scale, b.scale)?;
    let sum = ctx.cast(sum, DType::F32)?;
    let mut y = ctx.binary(Op::Mul, sum, unit)?;
    if let Some(bias) = bias {
        let bias = ctx.cast(bias, DType::F32)?;
        y = ctx.binary(Op::Add, y, bias)?;
    }
    ctx.cast(y, to)
}

/// What 1 stands for in a product, one for all or one a row and column.
fn product_unit(ctx: &mut NodeCtx, a: ValueId, b: ValueId) -> Emitted {
    let (a, b) = (ctx.cast(a, DType::F32)?, ctx.cast(b, DType::F32)?);
    let one =
        |ctx: &NodeCtx, v| Ok::<_, ImportError>(ctx.shape_of(v)?.iter().all(|d| d.as_const() == Some(1)));
    let a = if one(ctx, a)? { ctx.single(a)? } else { per_row(ctx, a)? };
    let b = if one(ctx, b)? { ctx.single(b)? } else { b };
    ctx.binary(Op::Mul, a, b)
}

fn dynamic_quantize_matmul(ctx: &mut NodeCtx) -> OpResult {
    let (x, b, scale) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    let (value, unit, zero) = dynamic_u8(ctx, x)?;
    let a = Quantised { value, scale: unit, zero: Some(zero) };
    let b = Quantised { value: b, scale, zero: ctx.opt_input(3) };
    let bias = ctx.opt_input(4);
    Ok(vec![float_product(ctx, a, b, bias)?])
}

fn matmul_integer_to_float(ctx: &mut NodeCtx) -> OpResult {
    let a = Quantised { value: ctx.input(0)?, scale: ctx.input(2)?, zero: ctx.opt_input(4) };
    let b = Quantised { value: ctx.input(1)?, scale: ctx.input(3)?, zero: ctx.opt_input(5) };
    let bias = ctx.opt_input(6);
    Ok(vec![float_product(ctx, a, b, bias)?])
}

/// A product of 16-bit integers, in 32 bits, signed where the operands are.
fn matmul_integer16(ctx: &mut NodeCtx) -> OpResult {
    let (a, b) = (ctx.input(0)?, ctx.input(1)?);
    let wide = |d: DType| if d == DType::U16 { DType::U32 } else { DType::I32 };
    let to = wide(ctx.dtype(a)?);
    let (a, b) = (ctx.cast(a, to)?, ctx.cast(b, to)?);
    Ok(vec![numpy_matmul(ctx, a, b)?])
}

/// Gemm of quantised matrices and a sum in the unit of their product; rounded again where there is an output scale.
fn quantised_gemm(ctx: &mut NodeCtx) -> OpResult {
    let (ta, tb) = (ctx.flag("transA", false)?, ctx.flag("transB", false)?);
    let alpha = ctx.float("alpha", 1.0)?;
    let (mut a, mut b) = (ctx.input(0)?, ctx.input(3)?);
    if ta {
        a = ctx.swap_last(a)?;
    }
    if tb {
        b = ctx.swap_last(b)?;
    }
    let zeros = [ctx.opt_input(2), ctx.opt_input(5)];
    let mut sum = integer_matmul(ctx, [a, b], zeros)?;
    if let Some(c) = ctx.opt_input(6) {
        sum = ctx.binary(Op::Add, sum, c)?;
    }
    let sum = ctx.cast(sum, DType::F32)?;
    let unit = product_unit(ctx, ctx.input(1)?, ctx.input(4)?)?;
    let unit = if alpha == 1.0 { unit } else { ctx.with_scalar(Op::Mul, unit, alpha.into())? };
    let Some(scale) = ctx.opt_input(7) else {
        return Ok(vec![ctx.binary(Op::Mul, sum, unit)?]);
    };
    let zero = ctx.input(8)?;
    let to = ctx.dtype(zero)?;
    let (scale, zero) = (ctx.single(scale)?, ctx.single(zero)?);
    // One factor for the whole way.
    let factor = ctx.binary(Op::Div, unit, scale)?;
    let y = ctx.binary(Op::Mul, sum, factor)?;
    let one = ctx.scalar(DType::F32, 1.0)?;
    Ok(vec![quantize(ctx, y, one, Some(zero), to, true)?])
}
