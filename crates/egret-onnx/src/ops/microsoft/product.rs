//! Matrix products and convolutions with what is fused to them: transposition, a factor, a sum, an activation.

use super::super::contraction::{conv, gemm, numpy_matmul};
use super::apply::{applied, channels_first, renamed};
use super::{OnnxOp, refused_attr, row};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{Op, ValueId};
use std::collections::BTreeMap;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("FusedConv", fused_conv),
    row("FusedGemm", fused_gemm),
    row("FusedMatMul", |c| Ok(vec![fused_matmul(c)?])),
    row("FusedMatMulActivation", fused_matmul_activation),
    row("NhwcMaxPool", |c| channels_first(c, true, |c| renamed(c, "MaxPool", 12))),
    row("TransposeMatMul", |c| Ok(vec![fused_matmul(c)?])),
];

type Emitted = Result<ValueId, ImportError>;

/// An operand, its axes transposed as the attributes say: a batch that stands where the rows do, then rows and columns.
fn transposed(ctx: &mut NodeCtx, x: ValueId, batch: bool, matrix: bool) -> Emitted {
    let rank = ctx.rank(x)?;
    let mut x = x;
    if batch && rank > 2 {
        let last = rank as i64 - 1;
        x = ctx.transpose(x, (1..last).chain([0, last]).collect())?;
    }
    // A vector has nothing to transpose.
    if matrix && rank > 1 { ctx.swap_last(x) } else { Ok(x) }
}

fn fused_matmul(ctx: &mut NodeCtx) -> Emitted {
    let alpha = ctx.float("alpha", 1.0)?;
    let (ta, tb) = (ctx.flag("transA", false)?, ctx.flag("transB", false)?);
    let (batch_a, batch_b) = (ctx.flag("transBatchA", false)?, ctx.flag("transBatchB", false)?);
    let (a, b) = (ctx.input(0)?, ctx.input(1)?);
    let (a, b) = (transposed(ctx, a, batch_a, ta)?, transposed(ctx, b, batch_b, tb)?);
    let y = numpy_matmul(ctx, a, b)?;
    if alpha == 1.0 { Ok(y) } else { ctx.with_scalar(Op::Mul, y, alpha.into()) }
}

/// The operator of ONNX that an attribute `activation` names, its opset, and what its parameters are called there, in order.
fn activation_of(name: &str) -> Option<(&'static str, i64, [Option<&'static str>; 3])> {
    let (alpha, beta) = (Some("alpha"), Some("beta"));
    Some(match name {
        // Before opset 11 the bounds are attributes.
        "Clip" => ("Clip", 6, [Some("min"), Some("max"), None]),
        "Elu" => ("Elu", 6, [alpha, None, None]),
        "HardSigmoid" => ("HardSigmoid", 6, [alpha, beta, None]),
        "HardSwish" => ("HardSwish", 14, [None; 3]),
        "LeakyRelu" => ("LeakyRelu", 16, [alpha, None, None]),
        "Relu" => ("Relu", 14, [None; 3]),
        "Selu" => ("Selu", 6, [alpha, None, Some("gamma")]),
        "Sigmoid" => ("Sigmoid", 13, [None; 3]),
        "Softplus" => ("Softplus", 1, [None; 3]),
        "Softsign" => ("Softsign", 1, [None; 3]),
        "Tanh" => ("Tanh", 13, [None; 3]),
        "ThresholdedRelu" => ("ThresholdedRelu", 10, [alpha, None, None]),
        _ => return None,
    })
}

/// y through the activation `name`, whose parameters are given in order.
fn activated(ctx: &mut NodeCtx, y: ValueId, name: &str, parameters: [Option<f32>; 3]) -> Emitted {
    if name.is_empty() {
        return Ok(y);
    }
    let (op, opset, names) = activation_of(name).ok_or_else(|| {
        ImportError::unsupported(format!(
            "attribute `activation` = {name:?} of {} is not supported",
            ctx.op_type
        ))
    })?;
    let given = names.into_iter().zip(parameters);
    let attrs: BTreeMap<String, OnnxAttr> =
        given.filter_map(|(name, value)| Some((name?.to_owned(), OnnxAttr::Float(value?)))).collect();
    applied(ctx, op, opset, vec![Some(y)], attrs)
}

/// The attributes `activation_alpha`, `_beta` and `_gamma`.
fn parameters(ctx: &mut NodeCtx) -> Result<[Option<f32>; 3], ImportError> {
    Ok([
        ctx.opt_float("activation_alpha")?,
        ctx.opt_float("activation_beta")?,
        ctx.opt_float("activation_gamma")?,
    ])
}

fn fused_matmul_activation(ctx: &mut NodeCtx) -> OpResult {
    let name = ctx.str("activation", "")?;
    let parameters = parameters(ctx)?;
    refused_attr(ctx, "activation_axis", 0)?;
    let y = fused_matmul(ctx)?;
    Ok(vec![activated(ctx, y, &name, parameters)?])
}

fn fused_gemm(ctx: &mut NodeCtx) -> OpResult {
    let name = ctx.str("activation", "")?;
    let parameters = parameters(ctx)?;
    // Gemm as ONNX has it since opset 11.
    let opset = std::mem::replace(&mut ctx.opset, 13);
    let y = gemm(ctx);
    ctx.opset = opset;
    Ok(vec![activated(ctx, y?[0], &name, parameters)?])
}

/// The activation of a convolution plus the fourth input.
fn fused_conv(ctx: &mut NodeCtx) -> OpResult {
    let name = ctx.str("activation", "")?;
    let given = ctx.opt_floats("activation_params")?.unwrap_or_default();
    let mut y = conv(ctx)?[0];
    if let Some(more) = ctx.opt_input(3) {
        y = ctx.binary(Op::Add, y, more)?;
    }
    let parameters = std::array::from_fn(|i| given.get(i).copied());
    Ok(vec![activated(ctx, y, &name, parameters)?])
}
