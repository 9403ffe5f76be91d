//! Random values: uniform, normal, Bernoulli, Multinomial. All come from one generator and are the same on every run.

use super::emit::dim;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("Bernoulli", 15, bernoulli),
    onnx("Multinomial", 7, multinomial),
    onnx("RandomNormal", 1, random_normal),
    onnx("RandomNormalLike", 1, random_normal),
    onnx("RandomUniform", 1, random_uniform),
    onnx("RandomUniformLike", 1, random_uniform),
];

/// The attribute `seed`, as the random operators have it.
fn seed(ctx: &mut NodeCtx) -> Result<f64, ImportError> {
    let seed = ctx.opt_float("seed")?.map(f64::from);
    Ok(seed_or_place(ctx, seed))
}

/// A given seed; without one the node's place in the graph, so that two nodes differ.
pub(super) fn seed_or_place(ctx: &NodeCtx, seed: Option<f64>) -> f64 {
    seed.unwrap_or_else(|| 1e6 + ctx.builder.graph.node_count() as f64)
}

/// Element type and dims of the result: of the input for the operators `..Like`, else of the attributes.
fn result(ctx: &mut NodeCtx) -> Result<(DType, Vec<Dim>), ImportError> {
    let dtype = ctx.opt_dtype("dtype")?;
    if ctx.op_type.ends_with("Like") {
        let ty = ctx.tensor(ctx.input(0)?)?;
        return Ok((dtype.unwrap_or(ty.dtype), ty.shape));
    }
    let shape = ctx
        .opt_ints("shape")?
        .ok_or_else(|| ImportError::invalid(format!("{} needs its `shape`", ctx.op_type)))?;
    Ok((dtype.unwrap_or(DType::F32), shape.into_iter().map(dim).collect()))
}

/// Values of [low, high), all as likely.
pub(super) fn uniform(
    ctx: &mut NodeCtx,
    to: DType,
    shape: Vec<Dim>,
    low: f64,
    high: f64,
    seed: f64,
) -> Result<ValueId, ImportError> {
    ctx.emit(Op::RandomUniform, attrs! { to: to, shape: shape, low: low, high: high, seed: seed }, &[])
}

fn random_uniform(ctx: &mut NodeCtx) -> OpResult {
    let (to, shape) = result(ctx)?;
    let (low, high) = (ctx.float("low", 0.0)?, ctx.float("high", 1.0)?);
    let seed = seed(ctx)?;
    Ok(vec![uniform(ctx, to, shape, low.into(), high.into(), seed)?])
}

fn random_normal(ctx: &mut NodeCtx) -> OpResult {
    let (to, shape) = result(ctx)?;
    let (mean, scale) = (ctx.float("mean", 0.0)?, ctx.float("scale", 1.0)?);
    let attrs =
        attrs! { to: to, shape: shape, mean: f64::from(mean), scale: f64::from(scale), seed: seed(ctx)? };
    Ok(vec![ctx.emit(Op::RandomNormal, attrs, &[])?])
}

fn bernoulli(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let to = ctx.opt_dtype("dtype")?.unwrap_or(ty.dtype);
    let seed = seed(ctx)?;
    let draw = uniform(ctx, ty.dtype, ty.shape, 0.0, 1.0, seed)?;
    let hit = ctx.binary(Op::Less, draw, x)?;
    Ok(vec![ctx.cast(hit, to)?])
}

/// The largest of the log-probabilities, each with Gumbel noise, is distributed as they say.
fn multinomial(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let [batch, classes] = ty.shape.as_slice() else {
        return Err(ImportError::invalid(format!("Multinomial takes a matrix, not {ty}")));
    };
    let to = ctx.opt_dtype("dtype")?.unwrap_or(DType::I32);
    let samples = ctx.int("sample_size", 1)?;
    let seed = seed(ctx)?;
    let wide = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let draw = uniform(ctx, wide, vec![batch.clone(), dim(samples), classes.clone()], 1e-30, 1.0, seed)?;
    let mut noise = draw;
    for _ in 0..2 {
        noise = ctx.unary(Op::Log, noise)?;
        noise = ctx.unary(Op::Neg, noise)?;
    }
    let x = ctx.cast(x, wide)?;
    let x = ctx.unsqueeze(x, 1)?;
    let noisy = ctx.binary(Op::Add, x, noise)?;
    let index = ctx.emit(
        Op::ArgReduce,
        attrs! { kind: "max", axis: 2i64, keepdims: false, last: false },
        &[noisy],
    )?;
    Ok(vec![ctx.cast(index, to)?])
}
