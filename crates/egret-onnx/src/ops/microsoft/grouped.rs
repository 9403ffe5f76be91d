//! GroupQueryAttention: causal attention whose query heads share heads of keys and values, over a cache that it writes.

use super::super::attention::{Form, Mask, attend, join_heads, per_batch, rotate, split_heads};
use super::super::emit::dim;
use super::{OnnxOp, refused_attr, refused_inputs, refused_outputs, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[row("GroupQueryAttention", group_query_attention)];

type Emitted = Result<ValueId, ImportError>;

/// Where the tokens of a call stand, one entry a sequence of the batch.
struct Places {
    /// How many keys a sequence has with those of the call: [B, 1, 1, 1], i64.
    totals: ValueId,
    /// How many of them were in the cache: [B, 1, 1, 1], i64.
    before: ValueId,
    /// Where each query stands among the keys: [B, 1, S, 1], i64.
    queries: ValueId,
}

impl Places {
    /// `lengths`: the totals less one, [B].
    fn read(ctx: &mut NodeCtx, lengths: ValueId, q: ValueId) -> Result<Places, ImportError> {
        let lengths = per_batch(ctx, lengths)?;
        let totals = ctx.with_scalar(Op::Add, lengths, 1.0)?;
        let count = ctx.shape_of(q)?[2].clone();
        let dims = ctx.dims_value(q)?;
        let new = ctx.pick(dims, 0, 2)?;
        // A prompt may be longer than a sequence of it, which ends in padding then; nothing is before a prompt.
        let before = ctx.binary(Op::Sub, totals, new)?;
        let before = ctx.with_scalar(Op::Max, before, 0.0)?;
        let rows = ctx.iota_along(DType::I64, count, 2, 4)?;
        let queries = ctx.binary(Op::Add, before, rows)?;
        Ok(Places { totals, before, queries })
    }

    /// Which of `keys` keys each query sees. Padding behind a prompt sees what the last token of the prompt sees.
    fn mask(
        &self,
        ctx: &mut NodeCtx,
        keys: Dim,
        causal: bool,
        window: Option<i64>,
    ) -> Result<Mask, ImportError> {
        let mut mask = Mask::default();
        let columns = ctx.iota_along(DType::I64, keys, 3, 4)?;
        let mut limit = self.totals;
        if causal {
            let after = ctx.with_scalar(Op::Add, self.queries, 1.0)?;
            limit = ctx.binary(Op::Min, after, limit)?;
        }
        let known = ctx.binary(Op::Less, columns, limit)?;
        mask.allow(ctx, known)?;
        if let Some(window) = window {
            let least = ctx.with_scalar(Op::Sub, limit, window as f64)?;
            let near = ctx.binary(Op::LessEqual, least, columns)?;
            mask.allow(ctx, near)?;
        }
        Ok(mask)
    }

    /// The cache of `keys` keys after the call: what was in `past` before each sequence's new tokens, then those, then zeros.
    fn written(&self, ctx: &mut NodeCtx, past: Option<ValueId>, new: ValueId, keys: &Dim) -> Emitted {
        let shape = ctx.shape_of(new)?;
        let high = |size: &Dim| vec![dim(0), dim(0), keys.clone() - size.clone(), dim(0)];
        let Some(past) = past else {
            // A prompt begins the cache.
            return if shape[2] == *keys {
                Ok(new)
            } else {
                ctx.pad(new, vec![dim(0); 4], high(&shape[2]), "constant", None)
            };
        };
        let (size, dtype) = (ctx.shape_of(past)?[2].clone(), ctx.dtype(past)?);
        let columns = ctx.iota_along(DType::I64, size.clone(), 2, 4)?;
        let kept = ctx.binary(Op::Less, columns, self.before)?;
        let zero = ctx.zero(dtype);
        let mut cache = ctx.select(kept, past, zero)?;
        if size != *keys {
            cache = ctx.pad(cache, vec![dim(0); 4], high(&size), "constant", None)?;
        }
        let places = ctx.broadcast(self.queries, shape)?;
        ctx.emit(Op::ScatterElements, attrs! { axis: 2i64, reduction: "none" }, &[cache, places, new])
    }
}

fn group_query_attention(ctx: &mut NodeCtx) -> OpResult {
    let [q_heads, kv_heads] = [heads(ctx, "num_heads")?, heads(ctx, "kv_num_heads")?];
    let scale = ctx.float("scale", 0.0)?;
    let softcap = ctx.float("softcap", 0.0)?;
    let window = ctx.int("local_window_size", -1)?;
    let causal = ctx.flag("causal", true)?;
    let (turned, interleaved) = (ctx.flag("do_rotary", false)?, ctx.flag("rotary_interleaved", false)?);
    let smooth = ctx.int("smooth_softmax", -1)? == 1;
    for (name, usual) in [("kv_cache_bit_width", 0), ("sliding_window_cache", 0), ("qk_output", 0)] {
        refused_attr(ctx, name, usual)?;
    }
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = ctx.str(name, "NONE")?;
        if kind != "NONE" {
            return Err(ImportError::unsupported(format!(
                "attribute `{name}` = {kind:?} of GroupQueryAttention (a quantised cache) is not supported"
            )));
        }
    }
    refused_inputs(ctx, &[(12, "k_scale"), (13, "v_scale"), (16, "query_seqlens")])?;
    refused_outputs(ctx, &[(3, "output_qk")])?;

    let [mut q, mut k, v] = operands(ctx, q_heads, kv_heads)?;
    (q, k) = normalised(ctx, q, k)?;
    let places = Places::read(ctx, ctx.input(5)?, q)?;
    if turned {
        let angles = [ctx.input(7)?, ctx.input(8)?];
        [q, k] = turn(ctx, [q, k], angles, &places, interleaved)?;
    }
    let (past_k, past_v) = (ctx.opt_input(3), ctx.opt_input(4));
    for past in [past_k, past_v].into_iter().flatten() {
        if ctx.rank(past)? != 4 {
            return Err(ImportError::invalid(format!(
                "a cache of GroupQueryAttention has the type {} instead of rank 4",
                ctx.tensor(past)?
            )));
        }
    }
    let keys = cache_size(ctx, past_k)?;
    let present_k = places.written(ctx, past_k, k, &keys)?;
    let present_v = places.written(ctx, past_v, v, &keys)?;

    let mut mask = places.mask(ctx, keys, causal, (window > 0).then_some(window))?;
    if let Some(bias) = ctx.opt_input(10) {
        // Every query sees a key at least, so that what it does not see may be infinitely far.
        let far = ctx.scalar(ctx.dtype(bias)?, f64::NEG_INFINITY)?;
        mask.bias = Some(match mask.allowed.take() {
            Some(allowed) => ctx.select(allowed, bias, far)?,
            None => bias,
        });
    }
    let dtype = ctx.dtype(q)?;
    let sink = match ctx.opt_input(11) {
        Some(sink) => Some(ctx.reshape(sink, vec![dim(1), dim(q_heads), dim(1), dim(1)])?),
        None if smooth => Some(ctx.scalar(dtype, 0.0)?),
        None => None,
    };
    let form = Form {
        scale: (scale != 0.0).then_some(scale),
        softcap,
        precision: Some(DType::F32),
        sink,
        ..Form::default()
    };
    let (y, _) = attend(ctx, [q, present_k, present_v], mask, &form)?;
    Ok(vec![join_heads(ctx, y)?, present_k, present_v])
}

/// An attribute with a number of heads, which must be there.
pub(super) fn heads(ctx: &mut NodeCtx, name: &str) -> Result<i64, ImportError> {
    match ctx.opt_int(name)? {
        Some(heads) if heads > 0 => Ok(heads),
        other => Err(ImportError::invalid(format!(
            "attribute `{name}` of {} must be a positive number of heads, not {}",
            ctx.op_type,
            other.map_or("left out".to_owned(), |h| h.to_string())
        ))),
    }
}

/// Q [B, H, S, D], K and V [B, Hkv, S, D], each an input or all packed in the first.
fn operands(ctx: &mut NodeCtx, q_heads: i64, kv_heads: i64) -> Result<[ValueId; 3], ImportError> {
    let q = ctx.input(0)?;
    if let (Some(k), Some(v)) = (ctx.opt_input(1), ctx.opt_input(2)) {
        return Ok([
            split_heads(ctx, q, q_heads)?,
            split_heads(ctx, k, kv_heads)?,
            split_heads(ctx, v, kv_heads)?,
        ]);
    }
    // A packed tensor has the heads of Q, those of K and those of V in a row.
    let all = split_heads(ctx, q, q_heads + 2 * kv_heads)?;
    let mut part = |start: i64, size: i64| ctx.narrow(all, 1, dim(start), dim(size));
    Ok([part(0, q_heads)?, part(q_heads, kv_heads)?, part(q_heads + kv_heads, kv_heads)?])
}

/// Q and K, each head over its root mean square where the model has weights for that.
fn normalised(ctx: &mut NodeCtx, q: ValueId, k: ValueId) -> Result<(ValueId, ValueId), ImportError> {
    let epsilon = ctx.float("qk_norm_epsilon", 1e-6)?;
    let mut by = |x: ValueId, weight: usize, name: &str| -> Emitted {
        let epsilon = ctx.float(name, epsilon)?;
        let Some(weight) = ctx.opt_input(weight) else { return Ok(x) };
        let dtype = ctx.dtype(x)?;
        let x = ctx.cast(x, DType::F32)?;
        let y = ctx.emit(Op::RmsNorm, attrs! { axis: 3i64, epsilon: f64::from(epsilon) }, &[x])?;
        let weight = ctx.cast(weight, DType::F32)?;
        let y = ctx.binary(Op::Mul, y, weight)?;
        ctx.cast(y, dtype)
    };
    Ok((by(q, 14, "q_norm_epsilon")?, by(k, 15, "k_norm_epsilon")?))
}

/// Q and K turned by the angles of their places (or of those that the model names).
fn turn(
    ctx: &mut NodeCtx,
    [q, k]: [ValueId; 2],
    angles: [ValueId; 2],
    places: &Places,
    interleaved: bool,
) -> Result<[ValueId; 2], ImportError> {
    let positions = match ctx.opt_input(9) {
        Some(given) => given,
        None => ctx.squeeze(places.queries, &[1, 3])?,
    };
    let width = ctx.shape_of(angles[0])?.last().cloned().unwrap_or(dim(0)) * dim(2);
    let [cos, sin] = angles;
    let cos = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[cos, positions])?;
    let sin = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[sin, positions])?;
    let mut turned = |x: ValueId| rotate(ctx, x, [cos, sin], width.clone(), interleaved);
    Ok([turned(q)?, turned(k)?])
}

/// How many keys the caches have room for after the call: as many as before, or as there are in all.
fn cache_size(ctx: &mut NodeCtx, past: Option<ValueId>) -> Result<Dim, ImportError> {
    let total = ctx.need_dims(ctx.input(6)?, "the total sequence length of GroupQueryAttention")?;
    let [total] = total.as_slice() else {
        return Err(ImportError::invalid("the total sequence length of GroupQueryAttention is no number"));
    };
    Ok(match past {
        Some(past) => ctx.shape_of(past)?.get(2).unwrap_or(total).op(DimOp::Max, total),
        None => total.clone(),
    })
}
