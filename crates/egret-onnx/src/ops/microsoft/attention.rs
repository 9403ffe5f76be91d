//! Attention over heads that have keys and values of their own: MultiHeadAttention, Attention, QAttention, RotaryEmbedding.

use super::super::attention::{
    Form, Mask, attend, join_heads, per_batch, rotate, split_heads, split_heads_of,
};
use super::super::contraction::numpy_matmul;
use super::super::emit::dim;
use super::grouped::heads;
use super::integer::{Quantised, float_product};
use super::{OnnxOp, refused_attr, refused_inputs, refused_outputs, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("Attention", attention),
    row("MultiHeadAttention", multi_head_attention),
    row("QAttention", quantised_attention),
    row("RotaryEmbedding", rotary_embedding),
];

type Emitted = Result<ValueId, ImportError>;

/// The attributes that the three operators share.
struct Common {
    heads: i64,
    form: Form,
    causal: bool,
    /// Added to the score of a key that the mask leaves out: a number, so that a row without any key is one over all.
    filter: f32,
}

impl Common {
    fn read(ctx: &mut NodeCtx) -> Result<Common, ImportError> {
        let heads = heads(ctx, "num_heads")?;
        let scale = ctx.float("scale", 0.0)?;
        let causal = ctx.flag("unidirectional", false)?;
        let filter = ctx.float("mask_filter_value", -10000.0)?;
        let form = Form { scale: (scale != 0.0).then_some(scale), ..Form::default() };
        Ok(Common { heads, form, causal, filter })
    }

    /// Attention [B, S, D] of q over k and v (all [B, H, .., D]); `mask` and `bias` are the inputs of the node.
    fn apply(
        &self,
        ctx: &mut NodeCtx,
        [q, k, v]: [ValueId; 3],
        mask: Option<ValueId>,
        bias: Option<ValueId>,
        past: Option<ValueId>,
    ) -> Emitted {
        let dtype = ctx.dtype(q)?;
        let (batch, keys) = (ctx.shape_of(q)?[0].clone(), ctx.shape_of(k)?[2].clone());
        let mut all = Mask { bias, ..Mask::default() };
        if let Some(mask) = mask {
            let named = named_keys(ctx, mask, &batch, keys.clone())?;
            let (kept, left_out) = (ctx.zero(dtype), ctx.scalar(dtype, self.filter.into())?);
            let filter = ctx.select(named, kept, left_out)?;
            all.bias = Some(match bias {
                Some(bias) => ctx.binary(Op::Add, bias, filter)?,
                None => filter,
            });
        }
        if self.causal {
            let seen = earlier_keys(ctx, q, keys, past)?;
            // Every query sees the first key, so that what it does not see may be infinitely far.
            match all.bias {
                None => all.allow(ctx, seen)?,
                Some(bias) => {
                    let far = ctx.scalar(dtype, f64::NEG_INFINITY)?;
                    all.bias = Some(ctx.select(seen, bias, far)?);
                }
            }
        }
        let (y, _) = attend(ctx, [q, k, v], all, &self.form)?;
        join_heads(ctx, y)
    }
}

/// Which keys a mask names, as a shape that broadcasts to [B, H, S, T]: by the length of each sequence [B], by ends and starts [2 B],
/// or by a flag a key [B, T] or a query and key [B, S, T].
fn named_keys(ctx: &mut NodeCtx, mask: ValueId, batch: &Dim, keys: Dim) -> Emitted {
    let shape = ctx.shape_of(mask)?;
    match shape.as_slice() {
        [size] if *size == batch.clone() * dim(2) => {
            let columns = ctx.iota_along(DType::I64, keys, 3, 4)?;
            let ends = ctx.narrow(mask, 0, dim(0), batch.clone())?;
            let starts = ctx.narrow(mask, 0, batch.clone(), batch.clone())?;
            let (ends, starts) = (per_batch(ctx, ends)?, per_batch(ctx, starts)?);
            let (after, before) =
                (ctx.binary(Op::LessEqual, starts, columns)?, ctx.binary(Op::Less, columns, ends)?);
            ctx.binary(Op::And, after, before)
        }
        [size] if size == batch || size.as_const().is_none() || batch.as_const().is_none() => {
            let columns = ctx.iota_along(DType::I64, keys, 3, 4)?;
            let ends = per_batch(ctx, mask)?;
            ctx.binary(Op::Less, columns, ends)
        }
        [batch, keys] => flagged(ctx, mask, vec![batch.clone(), dim(1), dim(1), keys.clone()]),
        [batch, queries, keys] => {
            flagged(ctx, mask, vec![batch.clone(), dim(1), queries.clone(), keys.clone()])
        }
        _ => Err(ImportError::unsupported(format!(
            "a mask of type {} of {} is not supported: it may be [B], [2 B], [B, T] or [B, S, T]",
            ctx.tensor(mask)?,
            ctx.op_type
        ))),
    }
}

/// The flags that are more than 0, under other dims.
fn flagged(ctx: &mut NodeCtx, mask: ValueId, shape: Vec<Dim>) -> Emitted {
    let mask = ctx.reshape(mask, shape)?;
    let dtype = ctx.dtype(mask)?;
    let zero = ctx.zero(dtype);
    ctx.binary(Op::Less, zero, mask)
}

/// The keys up to the place of each query, which come after those of the cache: [S, T].
fn earlier_keys(ctx: &mut NodeCtx, q: ValueId, keys: Dim, past: Option<ValueId>) -> Emitted {
    let queries = ctx.shape_of(q)?[2].clone();
    let mut rows = ctx.iota_along(DType::I64, queries, 0, 2)?;
    if let Some(past) = past {
        let dims = ctx.dims_value(past)?;
        let before = ctx.pick(dims, 0, 2)?;
        rows = ctx.binary(Op::Add, rows, before)?;
    }
    let columns = ctx.iota_along(DType::I64, keys, 1, 2)?;
    ctx.binary(Op::LessEqual, columns, rows)
}

fn multi_head_attention(ctx: &mut NodeCtx) -> OpResult {
    let common = Common::read(ctx)?;
    refused_inputs(ctx, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    refused_outputs(ctx, &[(3, "qk")])?;
    let (q, Some(k), Some(v)) = (ctx.input(0)?, ctx.opt_input(1), ctx.opt_input(2)) else {
        return Err(packed());
    };
    let (past_k, past_v) = (ctx.opt_input(6), ctx.opt_input(7));
    let ([q, mut k, mut v], bias) = ([q, k, v], ctx.opt_input(3));
    if [q, k].iter().any(|&x| ctx.rank(x).is_ok_and(|r| r == 5)) {
        return Err(packed());
    }
    // Keys and values of rank 4 stand by heads already, and have been biased.
    let by_heads = ctx.rank(k)? == 4;
    if ctx.rank(k)? != ctx.rank(v)? {
        return Err(ImportError::invalid("the keys and values of MultiHeadAttention differ in rank"));
    }
    let width = |x| Ok::<_, ImportError>(ctx.shape_of(x)?.last().cloned().unwrap_or(dim(0)));
    let widths = [width(q)?, width(k)?, width(v)?];
    let mut start = dim(0);
    let mut heads = vec![];
    for (x, width) in [q, k, v].into_iter().zip(widths) {
        if by_heads && !heads.is_empty() {
            heads.push(x);
            continue;
        }
        let mut x = x;
        if let Some(bias) = bias {
            let part = ctx.narrow(bias, 0, start.clone(), width.clone())?;
            x = ctx.binary(Op::Add, x, part)?;
        }
        start = start + width;
        heads.push(split_heads(ctx, x, common.heads)?);
    }
    let q = heads[0];
    (k, v) = (heads[1], heads[2]);
    if let (Some(past_k), Some(past_v)) = (past_k, past_v) {
        k = ctx.concat(&[past_k, k], 2)?;
        v = ctx.concat(&[past_v, v], 2)?;
    }
    let y = common.apply(ctx, [q, k, v], ctx.opt_input(4), ctx.opt_input(5), past_k)?;
    Ok(vec![y, k, v])
}

fn packed() -> ImportError {
    ImportError::unsupported(
        "MultiHeadAttention with Q, K and V (or K and V) in one tensor is not supported: give three inputs",
    )
}

/// Q, K and V by heads: parts of a projection [B, S, Dq + Dk + Dv].
fn split_projection(
    ctx: &mut NodeCtx,
    all: ValueId,
    heads: i64,
    sizes: Option<Vec<i64>>,
) -> Result<[ValueId; 3], ImportError> {
    let width = ctx.shape_of(all)?.last().cloned().unwrap_or(dim(0));
    let sizes: [Dim; 3] = match sizes.as_deref() {
        Some(&[q, k, v]) => [q, k, v].map(dim),
        Some(other) => return Err(ctx.bad_attr("qkv_hidden_sizes", format!("{other:?}"))),
        None => std::array::from_fn(|_| width.op(DimOp::FloorDiv, &dim(3))),
    };
    let mut start = dim(0);
    let mut parts = vec![];
    for size in sizes {
        let part = ctx.narrow(all, 2, start.clone(), size.clone())?;
        parts.push(split_heads(ctx, part, heads)?);
        start = start + size;
    }
    Ok([parts[0], parts[1], parts[2]])
}

/// Attention of a projection over a cache [2, B, H, P, D]; the cache with the new keys and values is the second result.
fn projected(
    ctx: &mut NodeCtx,
    common: &Common,
    [q, mut k, mut v]: [ValueId; 3],
    mask: Option<ValueId>,
    bias: Option<ValueId>,
    past: Option<ValueId>,
) -> OpResult {
    let mut past_k = None;
    if let Some(past) = past {
        let (before_k, before_v) = (ctx.pick(past, 0, 0)?, ctx.pick(past, 0, 1)?);
        past_k = Some(before_k);
        k = ctx.concat(&[before_k, k], 2)?;
        v = ctx.concat(&[before_v, v], 2)?;
    }
    let y = common.apply(ctx, [q, k, v], mask, bias, past_k)?;
    if ctx.wanted.get(1) != Some(&true) {
        return Ok(vec![y, y]);
    }
    let (k, v) = (ctx.unsqueeze(k, 0)?, ctx.unsqueeze(v, 0)?);
    Ok(vec![y, ctx.concat(&[k, v], 0)?])
}

fn attention(ctx: &mut NodeCtx) -> OpResult {
    let common = Common::read(ctx)?;
    let sizes = ctx.opt_ints("qkv_hidden_sizes")?;
    refused_attr(ctx, "past_present_share_buffer", 0)?;
    refused_attr(ctx, "do_rotary", 0)?;
    ctx.int("rotary_embedding_dim", 0)?;
    refused_inputs(ctx, &[(6, "past_sequence_length")])?;
    let (x, weights) = (ctx.input(0)?, ctx.input(1)?);
    let mut all = numpy_matmul(ctx, x, weights)?;
    if let Some(bias) = ctx.opt_input(2) {
        all = ctx.binary(Op::Add, all, bias)?;
    }
    let qkv = split_projection(ctx, all, common.heads, sizes)?;
    let (mask, past, bias) = (ctx.opt_input(3), ctx.opt_input(4), ctx.opt_input(5));
    projected(ctx, &common, qkv, mask, bias, past)
}

fn quantised_attention(ctx: &mut NodeCtx) -> OpResult {
    let common = Common::read(ctx)?;
    refused_attr(ctx, "past_present_share_buffer", 0)?;
    refused_attr(ctx, "do_rotary", 0)?;
    let x = Quantised { value: ctx.input(0)?, scale: ctx.input(3)?, zero: ctx.opt_input(6) };
    let weights = Quantised { value: ctx.input(1)?, scale: ctx.input(4)?, zero: ctx.opt_input(7) };
    let bias = ctx.opt_input(2);
    let all = float_product(ctx, x, weights, bias)?;
    let qkv = split_projection(ctx, all, common.heads, None)?;
    let (mask, past) = (ctx.opt_input(5), ctx.opt_input(8));
    projected(ctx, &common, qkv, mask, None, past)
}

fn rotary_embedding(ctx: &mut NodeCtx) -> OpResult {
    let (given, rotated) = (ctx.int("num_heads", 0)?, ctx.int("rotary_embedding_dim", 0)?);
    let interleaved = ctx.flag("interleaved", false)?;
    refused_attr(ctx, "is_packed_batching", 0)?;
    let scale = ctx.float("scale", 1.0)?;
    if scale != 1.0 {
        return Err(ImportError::unsupported(format!(
            "attribute `scale` = {scale} of RotaryEmbedding is not supported"
        )));
    }
    let (x, positions, cos, sin) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?, ctx.input(3)?);
    let width = match rotated {
        0 => ctx.shape_of(cos)?.last().cloned().unwrap_or(dim(0)) * dim(2),
        _ => dim(rotated),
    };
    let by_heads = if ctx.rank(x)? == 4 {
        x
    } else {
        match given {
            // As many as are turned as a whole.
            0 => split_heads_of(ctx, x, &width)?,
            _ => split_heads(ctx, x, given)?,
        }
    };
    // One place stands for the first token of every sequence; the others follow.
    let positions = if ctx.rank(positions)? == 1 {
        let first = ctx.single(positions)?;
        let length = ctx.shape_of(by_heads)?[2].clone();
        let rows = ctx.iota_along(DType::I64, length, 1, 2)?;
        let first = ctx.cast(first, DType::I64)?;
        ctx.binary(Op::Add, rows, first)?
    } else {
        positions
    };
    let cos = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[cos, positions])?;
    let sin = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[sin, positions])?;
    let y = rotate(ctx, by_heads, [cos, sin], width, interleaved)?;
    Ok(vec![if by_heads == x { y } else { join_heads(ctx, y)? }])
}
