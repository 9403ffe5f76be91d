//! Attention over heads: Attention, RotaryEmbedding, FlexAttention.

use super::emit::dim;
use super::inline::inline;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("Attention", 23, attention),
    onnx("RotaryEmbedding", 23, rotary_embedding),
    OnnxOp { domain: "ai.onnx.preview", name: "FlexAttention", since: 1, import: flex_attention },
];

/// [B, L, H * D] as [B, H, L, D].
pub(super) fn split_heads(ctx: &mut NodeCtx, x: ValueId, heads: i64) -> Result<ValueId, ImportError> {
    let shape = ctx.shape_of(x)?;
    let [batch, length, hidden] = shape.as_slice() else {
        return Err(ImportError::invalid(format!("{} takes tensors of rank 3 here", ctx.op_type)));
    };
    if heads < 1 || hidden.as_const().is_some_and(|h| h % heads != 0) {
        return Err(ImportError::invalid(format!(
            "{} has {heads} heads in {hidden} channels",
            ctx.op_type
        )));
    }
    let size = hidden.op(DimOp::FloorDiv, &dim(heads));
    let x = ctx.reshape(x, vec![batch.clone(), length.clone(), dim(heads), size])?;
    ctx.transpose(x, vec![0, 2, 1, 3])
}

/// [B, L, H * D] as [B, H, L, D], by the size D of a head, of which free channels need not say how many they are.
pub(super) fn split_heads_of(ctx: &mut NodeCtx, x: ValueId, size: &Dim) -> Result<ValueId, ImportError> {
    let shape = ctx.shape_of(x)?;
    let [batch, length, hidden] = shape.as_slice() else {
        return Err(ImportError::invalid(format!("{} takes tensors of rank 3 here", ctx.op_type)));
    };
    let uneven = hidden.op(DimOp::Mod, size).as_const().is_some_and(|rest| rest != 0);
    if uneven || size.as_const().is_some_and(|size| size < 1) {
        return Err(ImportError::invalid(format!(
            "{} has heads of {size} channels in {hidden}",
            ctx.op_type
        )));
    }
    let heads = hidden.op(DimOp::FloorDiv, size);
    let x = ctx.reshape(x, vec![batch.clone(), length.clone(), heads, size.clone()])?;
    ctx.transpose(x, vec![0, 2, 1, 3])
}

/// [B, H, L, D] as [B, L, H * D].
pub(super) fn join_heads(ctx: &mut NodeCtx, x: ValueId) -> Result<ValueId, ImportError> {
    let x = ctx.transpose(x, vec![0, 2, 1, 3])?;
    let s = ctx.shape_of(x)?;
    ctx.reshape(x, vec![s[0].clone(), s[1].clone(), s[2].clone() * s[3].clone()])
}

/// Every head along axis 1 `times` times in a row.
pub(super) fn repeat_heads(ctx: &mut NodeCtx, x: ValueId, times: &Dim) -> Result<ValueId, ImportError> {
    if times.as_const() == Some(1) {
        return Ok(x);
    }
    let s = ctx.shape_of(x)?;
    let x = ctx.unsqueeze(x, 2)?;
    let mut spread = s.clone();
    spread.insert(2, times.clone());
    let x = ctx.broadcast(x, spread)?;
    let mut joined = s;
    joined[1] = joined[1].clone() * times.clone();
    ctx.reshape(x, joined)
}

/// How many query heads share a head of the keys.
fn group(ctx: &NodeCtx, q: ValueId, k: ValueId) -> Result<Dim, ImportError> {
    let (q, k) = (ctx.shape_of(q)?[1].clone(), ctx.shape_of(k)?[1].clone());
    match (q.as_const(), k.as_const()) {
        (Some(q), Some(k)) if k < 1 || q % k != 0 => {
            Err(ImportError::invalid(format!("{} has {q} query heads for {k} key heads", ctx.op_type)))
        }
        _ => Ok(q.op(DimOp::FloorDiv, &k)),
    }
}

/// Q, K and V must be [B, H, L, D].
fn expect_rank_4(ctx: &NodeCtx, xs: &[ValueId]) -> Result<(), ImportError> {
    for &x in xs {
        let rank = ctx.rank(x)?;
        if rank != 4 {
            return Err(ImportError::invalid(format!(
                "{} takes Q, K and V of one rank, 3 or 4, not {rank}",
                ctx.op_type
            )));
        }
    }
    Ok(())
}

/// The last of four dims of a value to a power, computed in f64: a factor of scores where the dim is free.
pub(super) fn head_size_to(
    ctx: &mut NodeCtx,
    x: ValueId,
    power: f64,
    dtype: DType,
) -> Result<ValueId, ImportError> {
    let dims = ctx.dims_value(x)?;
    let size = ctx.pick(dims, 0, 3)?;
    let size = ctx.cast(size, DType::F64)?;
    let factor = ctx.with_scalar(Op::Pow, size, power)?;
    ctx.cast(factor, dtype)
}

/// Q and K, each scaled by the root of `scale` (1 / sqrt(head size) where not given), multiplied.
fn scores(ctx: &mut NodeCtx, q: ValueId, k: ValueId, scale: Option<f32>) -> Result<ValueId, ImportError> {
    let dtype = ctx.dtype(q)?;
    let root = match scale {
        Some(s) => ctx.scalar(dtype, f64::from(s).sqrt())?,
        None => head_size_to(ctx, q, -0.25, dtype)?,
    };
    let q = ctx.binary(Op::Mul, q, root)?;
    let k = ctx.binary(Op::Mul, k, root)?;
    let k = ctx.swap_last(k)?;
    ctx.binary(Op::Matmul, q, k)
}

/// What restricts which keys a query sees.
#[derive(Default)]
pub(super) struct Mask {
    /// Keys that take part; `None`: all.
    pub(super) allowed: Option<ValueId>,
    /// Added to the scores.
    pub(super) bias: Option<ValueId>,
    /// Whether a query may be left without any key.
    pub(super) may_be_empty: bool,
}

impl Mask {
    pub(super) fn allow(&mut self, ctx: &mut NodeCtx, also: ValueId) -> Result<(), ImportError> {
        self.allowed = Some(match self.allowed {
            Some(so_far) => ctx.binary(Op::And, so_far, also)?,
            None => also,
        });
        Ok(())
    }
}

fn attention(ctx: &mut NodeCtx) -> OpResult {
    let [mut q, mut k, mut v] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let (q_heads, kv_heads) = (ctx.opt_int("q_num_heads")?, ctx.opt_int("kv_num_heads")?);
    let scale = ctx.opt_float("scale")?;
    let softcap = ctx.float("softcap", 0.0)?;
    let output_mode = ctx.int("qk_matmul_output_mode", 0)?;
    if !(0..=3).contains(&output_mode) {
        return Err(ctx.bad_attr("qk_matmul_output_mode", output_mode));
    }
    let precision = ctx.opt_dtype("softmax_precision")?;
    let packed = ctx.rank(q)? == 3;
    if packed {
        let (Some(q_heads), Some(kv_heads)) = (q_heads, kv_heads) else {
            return Err(ImportError::invalid("Attention of rank 3 needs `q_num_heads` and `kv_num_heads`"));
        };
        q = split_heads(ctx, q, q_heads)?;
        k = split_heads(ctx, k, kv_heads)?;
        v = split_heads(ctx, v, kv_heads)?;
    }
    expect_rank_4(ctx, &[q, k, v])?;
    let past = ctx.opt_input(4);
    if let Some(past) = past {
        k = ctx.concat(&[past, k], 2)?;
    }
    if let Some(past) = ctx.opt_input(5) {
        v = ctx.concat(&[past, v], 2)?;
    }
    let (present_k, present_v) = (k, v);
    let mask = mask(ctx, q, k, past)?;
    let with_scores = ctx.wanted.get(3).is_some_and(|&w| w);
    let form = Form { scale, softcap, precision, with_scores, sink: None };
    let (mut y, scores) = attend(ctx, [q, k, v], mask, &form)?;
    if packed {
        y = join_heads(ctx, y)?;
    }
    let mut results = vec![y, present_k, present_v];
    results.extend(scores.map(|s| s[output_mode as usize]));
    Ok(results)
}

/// How scores become weights, beside the mask.
#[derive(Default)]
pub(super) struct Form {
    /// Factor of the products; 1 / sqrt(head size) where not given.
    pub(super) scale: Option<f32>,
    /// Bound of the scores; 0: none.
    pub(super) softcap: f32,
    /// Element type of the softmax; that of the operands where not given.
    pub(super) precision: Option<DType>,
    /// Whether the scores are wanted beside the result.
    pub(super) with_scores: bool,
    /// The score, one a query head [1, H, 1, 1], of one more key, whose value is 0.
    pub(super) sink: Option<ValueId>,
}

/// The attention of q [B, H, L, D] over k and v, which may have fewer heads: [B, H, L, Dv], and, where it went over them, the scores: raw,
/// capped, masked, as weights.
pub(super) fn attend(
    ctx: &mut NodeCtx,
    [q, mut k, mut v]: [ValueId; 3],
    mut mask: Mask,
    form: &Form,
) -> Result<(ValueId, Option<[ValueId; 4]>), ImportError> {
    let dtype = ctx.dtype(q)?;
    let Form { scale, softcap, precision, .. } = *form;
    // What the primitive does not do: capped scores, scores as an output, a mask added beside one that chooses, a key of no value,
    // more than one element type, a softmax in a wider type than the products.
    let is_whole = softcap <= 0.0
        && !form.with_scores
        && form.sink.is_none()
        && (mask.allowed.is_none() || mask.bias.is_none())
        && ctx.dtype(v)? == dtype
        && fits_primitive(precision, dtype);
    if is_whole {
        let live = if mask.may_be_empty { Some(filled(ctx, &mut mask, dtype)?) } else { None };
        let mut y = fused(ctx, [q, k, v], scale, mask.allowed.or(mask.bias))?;
        if let Some(live) = live {
            let zero = ctx.zero(dtype);
            y = ctx.select(live, y, zero)?;
        }
        return Ok((y, None));
    }
    let times = group(ctx, q, k)?;
    k = repeat_heads(ctx, k, &times)?;
    v = repeat_heads(ctx, v, &times)?;

    let raw = scores(ctx, q, k, scale)?;
    let capped = if softcap > 0.0 {
        let x = ctx.with_scalar(Op::Div, raw, softcap.into())?;
        let x = ctx.unary(Op::Tanh, x)?;
        ctx.with_scalar(Op::Mul, x, softcap.into())?
    } else {
        raw
    };
    let least = ctx.scalar(dtype, f64::NEG_INFINITY)?;
    let mut masked = capped;
    if let Some(bias) = mask.bias {
        masked = ctx.binary(Op::Add, masked, bias)?;
    }
    if let Some(allowed) = mask.allowed {
        masked = ctx.select(allowed, masked, least)?;
    }
    let wide = ctx.cast(masked, precision.unwrap_or(dtype))?;
    let mut weights = softmax_beside(ctx, wide, form.sink)?;
    if mask.may_be_empty && form.sink.is_none() {
        // The softmax of a row without any key is 0 / 0; ONNX wants a row of zeros.
        let any = live_rows(ctx, &mask, least)?;
        let zero = ctx.zero(precision.unwrap_or(dtype));
        weights = ctx.select(any, weights, zero)?;
    }
    let weights = ctx.cast(weights, dtype)?;
    let v_dtype = ctx.dtype(v)?;
    let narrow = ctx.cast(weights, v_dtype)?;
    let y = ctx.binary(Op::Matmul, narrow, v)?;
    Ok((ctx.cast(y, dtype)?, Some([raw, capped, masked, weights])))
}

/// The softmax over the keys, beside which `sink` may take a share that goes nowhere.
fn softmax_beside(
    ctx: &mut NodeCtx,
    scores: ValueId,
    sink: Option<ValueId>,
) -> Result<ValueId, ImportError> {
    let Some(sink) = sink else { return ctx.softmax(scores, 3) };
    let mut shape = ctx.shape_of(scores)?;
    let keys = std::mem::replace(&mut shape[3], dim(1));
    let sink = ctx.cast(sink, ctx.dtype(scores)?)?;
    let sink = ctx.broadcast(sink, shape)?;
    let all = ctx.concat(&[scores, sink], 3)?;
    let weights = ctx.softmax(all, 3)?;
    ctx.narrow(weights, 3, dim(0), keys)
}

/// Whether `attention`, which computes in f32 at least, is as precise as a softmax in the type that is asked for.
fn fits_primitive(softmax: Option<DType>, operands: DType) -> bool {
    softmax != Some(DType::F64) || operands == DType::F64
}

/// The queries that see any key, as [.., 1]; `least` is -inf.
fn live_rows(ctx: &mut NodeCtx, mask: &Mask, least: ValueId) -> Result<ValueId, ImportError> {
    let live = match (mask.bias, mask.allowed) {
        (Some(bias), None) => ctx.binary(Op::Less, least, bias)?,
        (None, Some(allowed)) => allowed,
        (Some(bias), Some(allowed)) => {
            let live = ctx.binary(Op::Less, least, bias)?;
            ctx.binary(Op::And, live, allowed)?
        }
        (None, None) => return Err(ImportError::invalid("Attention has an empty mask")),
    };
    let last = ctx.rank(live)? as i64 - 1;
    ctx.reduce("or", live, vec![last], true)
}

/// The queries that see any key; the others see all keys from now on, so that nothing becomes NaN (neither forwards nor in a
/// gradient) before their results are made 0. The flag `safe` of `attention` would hide the NaN of a query that sees one, too.
fn filled(ctx: &mut NodeCtx, mask: &mut Mask, dtype: DType) -> Result<ValueId, ImportError> {
    let least = ctx.scalar(dtype, f64::NEG_INFINITY)?;
    let live = live_rows(ctx, mask, least)?;
    if let Some(bias) = mask.bias {
        let zero = ctx.zero(dtype);
        mask.bias = Some(ctx.select(live, bias, zero)?);
    }
    if let Some(allowed) = mask.allowed {
        let none = ctx.unary(Op::Not, live)?;
        mask.allowed = Some(ctx.binary(Op::Or, allowed, none)?);
    }
    Ok(live)
}

/// One `attention` of q [B, H, L, D] over k and v, which may have fewer heads.
fn fused(
    ctx: &mut NodeCtx,
    [mut q, mut k, mut v]: [ValueId; 3],
    scale: Option<f32>,
    mut mask: Option<ValueId>,
) -> Result<ValueId, ImportError> {
    let dtype = ctx.dtype(q)?;
    let (shape, times) = (ctx.shape_of(q)?, group(ctx, q, k)?);
    let scale = match (scale, shape[3].as_const()) {
        (Some(scale), _) => f64::from(scale),
        (None, Some(size)) => 1.0 / (size as f64).sqrt(),
        (None, None) => {
            let factor = head_size_to(ctx, q, -0.5, dtype)?;
            q = ctx.binary(Op::Mul, q, factor)?;
            1.0
        }
    };
    let heads = ctx.shape_of(k)?[1].clone();
    let grouped = grouped_mask(ctx, mask, &heads, &times)?;
    let is_grouped = times.as_const() != Some(1) && grouped.is_some();
    if let (true, Some(grouped)) = (is_grouped, grouped) {
        // Query heads that share a head of the keys are an axis of their own, along which keys and values broadcast.
        let by_group = [&[shape[0].clone(), heads, times], &shape[2..]].concat();
        q = ctx.reshape(q, by_group)?;
        (k, v) = (ctx.unsqueeze(k, 2)?, ctx.unsqueeze(v, 2)?);
        mask = grouped;
    } else {
        (k, v) = (repeat_heads(ctx, k, &times)?, repeat_heads(ctx, v, &times)?);
    }
    let attrs = attrs! { scale: scale, fill: f64::NEG_INFINITY, safe: 0i64 };
    let y = ctx.emit_node(Op::Attention, attrs, &[Some(q), Some(k), Some(v), mask], vec![])?[0];
    if !is_grouped {
        return Ok(y);
    }
    let width = ctx.shape_of(y)?[4].clone();
    ctx.reshape(y, [&shape[..3], &[width]].concat())
}

/// A mask over heads as one over `heads` groups of `times`; `None` where it cannot be told whether it differs by head.
fn grouped_mask(
    ctx: &mut NodeCtx,
    mask: Option<ValueId>,
    heads: &Dim,
    times: &Dim,
) -> Result<Option<Option<ValueId>>, ImportError> {
    let Some(mask) = mask else { return Ok(Some(None)) };
    let mut shape = ctx.shape_of(mask)?;
    let Some(at) = shape.len().checked_sub(3) else { return Ok(Some(Some(mask))) };
    if shape[at].as_const() == Some(1) {
        shape.insert(at, dim(1));
    } else if shape[at].as_const().is_some() && heads.as_const().is_some() && times.as_const().is_some() {
        shape.splice(at..=at, [heads.clone(), times.clone()]);
    } else {
        return Ok(None);
    }
    Ok(Some(Some(ctx.reshape(mask, shape)?)))
}

/// The mask that the inputs and attributes of Attention make together.
fn mask(ctx: &mut NodeCtx, q: ValueId, k: ValueId, past: Option<ValueId>) -> Result<Mask, ImportError> {
    let dtype = ctx.dtype(q)?;
    let causal = ctx.flag("is_causal", false)?;
    let (left, right) = (ctx.int("left_window_size", -1)?, ctx.int("right_window_size", -1)?);
    let (queries, keys) = (ctx.shape_of(q)?[2].clone(), ctx.shape_of(k)?[2].clone());
    let mut mask = Mask { allowed: None, bias: None, may_be_empty: false };
    if let Some(given) = ctx.opt_input(3) {
        let ty = ctx.tensor(given)?;
        let missing = keys.clone() - ty.shape.last().cloned().unwrap_or(dim(1));
        let given = if missing.as_const().is_none_or(|m| m > 0) && ty.rank() > 0 {
            // Keys that a short mask does not name take no part.
            let fill = if ty.dtype == DType::Bool {
                ctx.zero(DType::Bool)
            } else {
                ctx.scalar(ty.dtype, f64::NEG_INFINITY)?
            };
            let mut high = vec![dim(0); ty.rank()];
            high[ty.rank() - 1] = missing;
            ctx.pad(given, vec![dim(0); ty.rank()], high, "constant", Some(fill))?
        } else {
            given
        };
        if ty.dtype == DType::Bool {
            mask.allowed = Some(given);
        } else {
            mask.bias = Some(ctx.cast(given, dtype)?);
        }
        mask.may_be_empty = true;
    }
    let lengths = ctx.opt_input(6);
    let columns = ctx.iota_along(DType::I64, keys, 1, 2)?;
    if causal || left >= 0 || right >= 0 {
        // Where the first query stands among the keys.
        let rows = ctx.iota_along(DType::I64, queries, 0, 2)?;
        let places = match (past, lengths) {
            (Some(past), _) => {
                let shape = ctx.dims_value(past)?;
                let before = ctx.pick(shape, 0, 2)?;
                ctx.binary(Op::Add, rows, before)?
            }
            (None, Some(lengths)) => {
                let shape = ctx.dims_value(q)?;
                let count = ctx.pick(shape, 0, 2)?;
                let lengths = per_batch(ctx, lengths)?;
                let before = ctx.binary(Op::Sub, lengths, count)?;
                mask.may_be_empty = true;
                ctx.binary(Op::Add, rows, before)?
            }
            (None, None) => rows,
        };
        let behind = ctx.binary(Op::Sub, places, columns)?;
        let mut bound =
            |ctx: &mut NodeCtx, low: Option<i64>, high: Option<i64>| -> Result<(), ImportError> {
                if let Some(low) = low {
                    let low = ctx.builder.constant(Tensor::scalar(low));
                    let inside = ctx.binary(Op::LessEqual, low, behind)?;
                    mask.allow(ctx, inside)?;
                }
                if let Some(high) = high {
                    let high = ctx.builder.constant(Tensor::scalar(high));
                    let inside = ctx.binary(Op::LessEqual, behind, high)?;
                    mask.allow(ctx, inside)?;
                }
                Ok(())
            };
        bound(ctx, causal.then_some(0), None)?;
        bound(ctx, (right >= 0).then(|| right.saturating_neg()), (left >= 0).then_some(left))?;
        mask.may_be_empty |= left >= 0 || right >= 0;
    }
    if let Some(lengths) = lengths {
        let lengths = per_batch(ctx, lengths)?;
        let valid = ctx.binary(Op::Less, columns, lengths)?;
        mask.allow(ctx, valid)?;
        mask.may_be_empty = true;
    }
    Ok(mask)
}

/// A vector over the batch as [B, 1, 1, 1], an i64.
pub(super) fn per_batch(ctx: &mut NodeCtx, x: ValueId) -> Result<ValueId, ImportError> {
    let batch = super::emit::product(&ctx.shape_of(x)?);
    let x = ctx.reshape(x, vec![batch, dim(1), dim(1), dim(1)])?;
    ctx.cast(x, DType::I64)
}

fn rotary_embedding(ctx: &mut NodeCtx) -> OpResult {
    let [x, mut cos, mut sin] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let heads = ctx.opt_int("num_heads")?;
    let interleaved = ctx.flag("interleaved", false)?;
    let rotated = ctx.int("rotary_embedding_dim", 0)?;
    let packed = ctx.rank(x)? == 3;
    let mut heads_first = x;
    if packed {
        let heads = heads
            .filter(|&h| h > 0)
            .ok_or_else(|| ImportError::invalid("RotaryEmbedding of rank 3 needs `num_heads`"))?;
        heads_first = split_heads(ctx, x, heads)?;
    }
    let shape = ctx.shape_of(heads_first)?;
    let [_, _, _, size] = shape.as_slice() else {
        return Err(ImportError::invalid(format!(
            "RotaryEmbedding takes rank 3 or 4, not {}",
            shape.len()
        )));
    };
    if let Some(positions) = ctx.opt_input(3) {
        cos = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[cos, positions])?;
        sin = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[sin, positions])?;
    }
    let width = if rotated == 0 { size.clone() } else { dim(rotated) };
    let y = rotate(ctx, heads_first, [cos, sin], width, interleaved)?;
    Ok(vec![if packed { join_heads(ctx, y)? } else { y }])
}

/// x [B, H, L, D] with its first `width` channels turned by angles whose cosines and sines are [B, L, width / 2].
pub(super) fn rotate(
    ctx: &mut NodeCtx,
    x: ValueId,
    [cos, sin]: [ValueId; 2],
    width: Dim,
    interleaved: bool,
) -> Result<ValueId, ImportError> {
    let size = ctx.shape_of(x)?[3].clone();
    // [B, 1, L, half]: the same for all heads.
    let (cos, sin) = (ctx.unsqueeze(cos, 1)?, ctx.unsqueeze(sin, 1)?);
    let turning = ctx.narrow(x, 3, dim(0), width.clone())?;
    let (cos, sin) = (both_of_a_pair(ctx, cos, interleaved)?, both_of_a_pair(ctx, sin, interleaved)?);
    let turned =
        ctx.emit(Op::Rotary, attrs! { interleaved: i64::from(interleaved) }, &[turning, cos, sin])?;
    let rest = size - width.clone();
    if rest.as_const() == Some(0) {
        return Ok(turned);
    }
    let still = ctx.narrow(x, 3, width, rest)?;
    ctx.concat(&[turned, still], 3)
}

/// One factor a pair of elements as one an element: [.., half] as [.., 2 * half].
fn both_of_a_pair(ctx: &mut NodeCtx, x: ValueId, interleaved: bool) -> Result<ValueId, ImportError> {
    let mut shape = ctx.shape_of(x)?;
    let last = shape.len() - 1;
    if !interleaved {
        return ctx.concat(&[x, x], last);
    }
    let pairs = ctx.unsqueeze(x, last + 1)?;
    let pairs = ctx.concat(&[pairs, pairs], last + 1)?;
    shape[last] = shape[last].clone() * dim(2);
    ctx.reshape(pairs, shape)
}

/// Attention whose scores and probabilities pass through sub-graphs, which become part of the graph.
fn flex_attention(ctx: &mut NodeCtx) -> OpResult {
    let [q, mut k, mut v] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    expect_rank_4(ctx, &[q, k, v])?;
    let scale = ctx.opt_float("scale")?;
    let dtype = ctx.dtype(q)?;
    let compute = match ctx.opt_dtype("softmax_precision")? {
        Some(to) => to,
        None if matches!(dtype, DType::F16 | DType::BF16) => DType::F32,
        None => dtype,
    };
    let out = ctx.dtype(v)?;
    let is_modified = ctx.attrs.contains_key("score_mod") || ctx.attrs.contains_key("prob_mod");
    if !is_modified && out == dtype && fits_primitive(Some(compute), dtype) {
        return Ok(vec![fused(ctx, [q, k, v], scale, None)?]);
    }
    let times = group(ctx, q, k)?;
    k = repeat_heads(ctx, k, &times)?;
    v = repeat_heads(ctx, v, &times)?;
    let x = scores(ctx, q, k, scale)?;
    let x = ctx.cast(x, compute)?;
    let x = modified(ctx, "score_mod", x)?;
    let x = ctx.softmax(x, 3)?;
    let x = modified(ctx, "prob_mod", x)?;
    let v = ctx.cast(v, compute)?;
    let y = ctx.binary(Op::Matmul, x, v)?;
    Ok(vec![ctx.cast(y, out)?])
}

/// x through the sub-graph `name`, if there is one.
fn modified(ctx: &mut NodeCtx, name: &str, x: ValueId) -> Result<ValueId, ImportError> {
    if !ctx.attrs.contains_key(name) {
        return Ok(x);
    }
    let (graph, captures) = ctx.graph(name)?;
    let operands: Vec<ValueId> = std::iter::once(x).chain(captures).collect();
    let dtype = ctx.dtype(x)?;
    match inline(ctx.builder, &graph, &operands)?.as_slice() {
        [y] => ctx.cast(*y, dtype),
        other => Err(ImportError::invalid(format!(
            "`{name}` of FlexAttention gives {} values instead of 1",
            other.len()
        ))),
    }
}
