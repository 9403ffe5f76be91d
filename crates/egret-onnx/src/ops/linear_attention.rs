//! LinearAttention: a recurrence over the tokens whose state is a matrix per head.

use super::attention::{head_size_to, join_heads, repeat_heads, split_heads};
use super::control::{Sequences, emit_scan};
use super::emit::dim;
use super::{OnnxOp, onnx};
use crate::context::{Lengths, NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Builder, DType, Dim, Op, TensorType, Type, ValueId};
use std::collections::BTreeMap;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("LinearAttention", 27, linear_attention)];

/// What one token brings, a row vector per head each: [B, H, 1, D].
struct Token {
    q: ValueId,
    k: ValueId,
    v: ValueId,
    decay: Option<ValueId>,
    beta: Option<ValueId>,
}

/// The state [B, H, Dk, Dv] after a token, and what the token's query reads from it.
fn step(
    ctx: &mut NodeCtx,
    mut state: ValueId,
    t: &Token,
    times: &Dim,
    scale: Option<f64>,
) -> Result<(ValueId, ValueId), ImportError> {
    if let Some(decay) = t.decay {
        let gate = ctx.unary(Op::Exp, decay)?;
        let gate = ctx.swap_last(gate)?;
        state = ctx.binary(Op::Mul, state, gate)?;
    }
    let mut v = t.v;
    if let Some(beta) = t.beta {
        let known = ctx.binary(Op::Matmul, t.k, state)?;
        v = ctx.binary(Op::Sub, v, known)?;
        v = ctx.binary(Op::Mul, v, beta)?;
    }
    let column = ctx.swap_last(t.k)?;
    let write = ctx.binary(Op::Mul, column, v)?;
    state = ctx.binary(Op::Add, state, write)?;
    let shared = repeat_heads(ctx, state, times)?;
    let read = ctx.binary(Op::Matmul, t.q, shared)?;
    let read = match scale {
        Some(scale) => ctx.with_scalar(Op::Mul, read, scale)?,
        None => read,
    };
    Ok((state, read))
}

fn linear_attention(ctx: &mut NodeCtx) -> OpResult {
    let [q, k, v] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let dtype = ctx.dtype(q)?;
    let (q_heads, kv_heads) = match (ctx.opt_int("q_num_heads")?, ctx.opt_int("kv_num_heads")?) {
        (Some(q), Some(k)) if k > 0 && q > 0 && q % k == 0 => (q, k),
        other => {
            return Err(ImportError::invalid(format!("LinearAttention has {other:?} query and key heads")));
        }
    };
    // A hint on speed alone.
    ctx.int("chunk_size", 64)?;
    let rule = ctx.str("update_rule", "gated_delta")?;
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => return Err(ctx.bad_attr("update_rule", rule)),
    };
    let scale = ctx.float("scale", 0.0)?;
    let (decay, beta) = (ctx.opt_input(4), ctx.opt_input(5));
    if decay.is_some() != gated || beta.is_some() != delta {
        return Err(ImportError::invalid(format!(
            "the inputs of LinearAttention do not fit its update rule, {rule}"
        )));
    }
    let mut wide = |x: ValueId, heads: i64| -> Result<ValueId, ImportError> {
        let x = split_heads(ctx, x, heads)?;
        ctx.cast(x, DType::F32)
    };
    let (q, k, v) = (wide(q, q_heads)?, wide(k, kv_heads)?, wide(v, kv_heads)?);
    let decay = decay.map(|g| wide(g, kv_heads)).transpose()?;
    let beta = match beta {
        Some(b) => {
            // One rate for all heads, or one each.
            let heads =
                if ctx.shape_of(b)?.last().and_then(Dim::as_const) == Some(1) { 1 } else { kv_heads };
            let b = split_heads(ctx, b, heads)?;
            Some(ctx.cast(b, DType::F32)?)
        }
        None => None,
    };
    let (k_shape, v_shape) = (ctx.shape_of(k)?, ctx.shape_of(v)?);
    let size = k_shape[3].clone();
    let scale = match (scale, size.as_const()) {
        (0.0, Some(d)) => Some(1.0 / (d as f64).sqrt()),
        // Known when a run begins.
        (0.0, None) => None,
        (given, _) => Some(given.into()),
    };
    let (state, state_dtype) = match ctx.opt_input(3) {
        Some(past) => (ctx.cast(past, DType::F32)?, ctx.dtype(past)?),
        None => {
            let zero = ctx.zero(DType::F32);
            (
                ctx.broadcast(
                    zero,
                    vec![k_shape[0].clone(), k_shape[1].clone(), size, v_shape[3].clone()],
                )?,
                dtype,
            )
        }
    };
    let all = Token { q, k, v, decay, beta };
    let times = dim(q_heads / kv_heads);
    let (state, mut y) = scanned(ctx, state, &all, &times, scale)?;
    if scale.is_none() {
        let scale = head_size_to(ctx, k, -0.5, DType::F32)?;
        y = ctx.binary(Op::Mul, y, scale)?;
    }
    let y = join_heads(ctx, y)?;
    Ok(vec![ctx.cast(y, dtype)?, ctx.cast(state, state_dtype)?])
}

/// A scan whose body takes one token.
fn scanned(
    ctx: &mut NodeCtx,
    state: ValueId,
    all: &Token,
    times: &Dim,
    scale: Option<f64>,
) -> Result<(ValueId, ValueId), ImportError> {
    let mut builder = Builder::new("linear_attention");
    let ty = ctx.builder.graph.ty(state).clone();
    let inner_state = builder.input("state", ty);
    let sequences: Vec<ValueId> =
        [Some(all.q), Some(all.k), Some(all.v), all.decay, all.beta].into_iter().flatten().collect();
    let mut elements = vec![];
    for &s in &sequences {
        let TensorType { dtype, mut shape } = ctx.tensor(s)?;
        shape.remove(2);
        elements.push(builder.input("", Type::tensor(dtype, shape)));
    }
    let mut inner = NodeCtx {
        builder: &mut builder,
        opset: ctx.opset,
        op_type: ctx.op_type,
        inputs: vec![],
        outputs: 0,
        wanted: vec![],
        named: BTreeMap::new(),
        attrs: BTreeMap::new(),
        lengths: &mut Lengths::default(),
        lengths_anywhere: ctx.lengths_anywhere,
        clamped: vec![],
        holding: vec![],
    };
    let mut rows =
        elements.into_iter().map(|e| inner.unsqueeze(e, 2)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut next = || rows.next().ok_or_else(|| ImportError::invalid("LinearAttention lacks an input"));
    let (q, k, v) = (next()?, next()?, next()?);
    let decay = if all.decay.is_some() { Some(next()?) } else { None };
    let beta = if all.beta.is_some() { Some(next()?) } else { None };
    let (after, read) = step(&mut inner, inner_state, &Token { q, k, v, decay, beta }, times, scale)?;
    let read = inner.squeeze(read, &[2])?;
    builder.output("state", after);
    builder.output("read", read);
    let count = sequences.len();
    let along = Sequences {
        count,
        input_axes: vec![2; count],
        input_reverse: vec![0; count],
        output_axes: vec![2],
        output_reverse: vec![0],
    };
    let operands: Vec<ValueId> = std::iter::once(state).chain(sequences).collect();
    let results = emit_scan(ctx, &operands, &along, builder.graph, vec![])?;
    Ok((results[0], results[1]))
}
