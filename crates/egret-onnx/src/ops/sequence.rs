//! Sequences and optionals. What is asked of a sequence whose elements are known as tensors is asked of these ([`Elements`]).

use super::elements::Elements;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, Op, Tensor, Type, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ConcatFromSequence", 11, concat_from_sequence),
    onnx("Optional", 15, optional),
    onnx("OptionalGetElement", 15, optional_get),
    onnx("OptionalHasElement", 15, optional_has),
    onnx("SequenceAt", 11, sequence_at),
    onnx("SequenceConstruct", 11, sequence_construct),
    onnx("SequenceEmpty", 11, sequence_empty),
    onnx("SequenceErase", 11, sequence_erase),
    onnx("SequenceInsert", 11, sequence_insert),
    onnx("SequenceLength", 11, sequence_length),
    onnx("SplitToSequence", 11, split_to_sequence),
];

/// The position that input `i` names; the constant `default` where it is left out.
fn position(ctx: &mut NodeCtx, i: usize, default: i64) -> Result<egret_ir::ValueId, ImportError> {
    match ctx.opt_input(i) {
        Some(v) => {
            let v = ctx.single(v)?;
            ctx.cast(v, DType::I64)
        }
        None => Ok(ctx.builder.constant(Tensor::scalar(default))),
    }
}

fn sequence_construct(ctx: &mut NodeCtx) -> OpResult {
    let operands: Vec<_> = ctx.inputs.iter().copied().filter(Option::is_some).collect();
    ctx.emit_node(Op::SequenceConstruct, attrs! {}, &operands, vec![])
}

fn sequence_empty(ctx: &mut NodeCtx) -> OpResult {
    let to = ctx.opt_dtype("dtype")?.unwrap_or(DType::F32);
    ctx.emit_node(Op::SequenceEmpty, attrs! { to: to }, &[], vec![])
}

/// The constant position that input `i` names.
fn known_position(ctx: &NodeCtx, i: usize) -> Option<i64> {
    ctx.as_const(ctx.opt_input(i)?)?.to_i64s()?.first().copied()
}

/// A sequence of these tensors.
fn list(ctx: &mut NodeCtx, dtype: DType, elements: &[ValueId]) -> OpResult {
    Ok(vec![match elements {
        [] => ctx.emit(Op::SequenceEmpty, attrs! { to: dtype }, &[])?,
        _ => ctx.emit(Op::SequenceConstruct, attrs! {}, elements)?,
    }])
}

fn sequence_insert(ctx: &mut NodeCtx) -> OpResult {
    let (seq, x) = (ctx.input(0)?, ctx.input(1)?);
    if let Some(Elements::List(mut all)) = Elements::of(ctx, seq)? {
        let end = all.len();
        let at = match ctx.opt_input(2) {
            None => Some(end),
            Some(_) => known_position(ctx, 2).and_then(|at| place(at, end + 1, end)),
        };
        if let Some(at) = at {
            all.insert(at, x);
            let dtype = ctx.dtype(x)?;
            return list(ctx, dtype, &all);
        }
    }
    let at = match ctx.opt_input(2) {
        Some(_) => position(ctx, 2, 0)?,
        None => ctx.emit(Op::SequenceLength, attrs! {}, &[seq])?,
    };
    Ok(vec![ctx.emit(Op::SequenceInsert, attrs! {}, &[seq, x, at])?])
}

/// The place, less than `places`, that a position names, which counts back from `end` where it is negative.
fn place(at: i64, places: usize, end: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(end as i64)? } else { at };
    usize::try_from(at).ok().filter(|&at| at < places)
}

fn sequence_erase(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    let at = if ctx.opt_input(1).is_some() { known_position(ctx, 1) } else { Some(-1) };
    if let (Some(Elements::List(mut all)), Some(at)) = (Elements::of(ctx, seq)?, at)
        && let Some(at) = place(at, all.len(), all.len())
    {
        let dtype = ctx.dtype(all.remove(at))?;
        return list(ctx, dtype, &all);
    }
    let at = position(ctx, 1, -1)?;
    Ok(vec![ctx.emit(Op::SequenceErase, attrs! {}, &[seq, at])?])
}

fn sequence_at(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    ctx.input(1)?;
    let elements = Elements::of(ctx, seq)?;
    if let (Some(Elements::List(all)), Some(at)) = (&elements, known_position(ctx, 1))
        && let Some(at) = place(at, all.len(), all.len())
    {
        return Ok(vec![all[at]]);
    }
    let at = position(ctx, 1, 0)?;
    if let Some((stack, axis)) = elements.map(|e| e.stack(ctx)).transpose()?.flatten() {
        return Ok(vec![ctx.emit(Op::Gather, attrs! { axis: axis as i64 }, &[stack, at])?]);
    }
    Ok(vec![ctx.emit(Op::SequenceAt, attrs! {}, &[seq, at])?])
}

fn sequence_length(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    Ok(vec![match Elements::of(ctx, seq)? {
        Some(elements) => elements.count(ctx)?,
        None => ctx.emit(Op::SequenceLength, attrs! {}, &[seq])?,
    }])
}

fn concat_from_sequence(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    let axis = ctx
        .opt_int("axis")?
        .ok_or_else(|| ImportError::invalid("ConcatFromSequence needs its attribute `axis`"))?;
    let new_axis = ctx.flag("new_axis", false)?;
    let rank = match ctx.builder.graph.ty(seq) {
        Type::Sequence(s) => s.shape.as_ref().map(Vec::len),
        _ => return Err(ImportError::invalid("ConcatFromSequence takes a sequence")),
    };
    // The rank of the elements of an empty sequence, say, is open; a non-negative axis does not need it.
    let axis = match rank {
        Some(rank) => ctx.axis(axis, rank + usize::from(new_axis))? as i64,
        None if axis >= 0 => axis,
        None => {
            return Err(ImportError::unsupported(
                "ConcatFromSequence along a negative axis of elements whose rank is not known",
            ));
        }
    };
    let joined = match (Elements::of(ctx, seq)?, rank) {
        (Some(elements), Some(_)) => elements.joined(ctx, axis as usize, new_axis)?,
        _ => None,
    };
    Ok(vec![match joined {
        Some(joined) => joined,
        None => ctx.emit(Op::SequenceConcat, attrs! { axis: axis, new_axis: new_axis }, &[seq])?,
    }])
}

/// The most parts that a tensor is written out into.
const MAX_PARTS: usize = 64;

/// The sizes of the parts of x along an axis, where they are given, known, few, and together the axis.
fn known_parts(
    ctx: &NodeCtx,
    x: ValueId,
    axis: usize,
    split: Option<ValueId>,
) -> Result<Option<Vec<i64>>, ImportError> {
    let known = split.and_then(|v| ctx.as_const(v));
    let (Some(known), Some(all)) = (known, ctx.shape_of(x)?[axis].as_const()) else { return Ok(None) };
    let Some(sizes) = known.to_i64s() else { return Ok(None) };
    let parts = match (known.rank(), &sizes[..]) {
        (0, &[size]) if size > 0 && all.div_euclid(size) < MAX_PARTS as i64 => {
            (0..all).step_by(size as usize).map(|start| size.min(all - start)).collect()
        }
        (0, _) => return Ok(None),
        _ => sizes,
    };
    let sum = parts.iter().try_fold(0i64, |sum, &size| sum.checked_add(size).filter(|_| size >= 0));
    let few = (1..=MAX_PARTS).contains(&parts.len());
    Ok((few && sum == Some(all)).then_some(parts))
}

fn split_to_sequence(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let axis = ctx.int("axis", 0)?;
    let axis = ctx.axis(axis, ctx.rank(x)?)? as i64;
    let split = ctx.opt_input(1);
    // Sizes are given: the axis stays.
    let keep = ctx.flag("keepdims", true)? || split.is_some();
    if let Some(parts) = known_parts(ctx, x, axis as usize, split)? {
        let mut start = 0;
        let mut all = vec![];
        for size in parts {
            all.push(ctx.narrow(x, axis as usize, Dim::constant(start), Dim::constant(size))?);
            start += size;
        }
        return list(ctx, ctx.dtype(x)?, &all);
    }
    let attrs = attrs! { axis: axis, keepdims: keep, has_split: split.is_some() };
    ctx.emit_node(Op::SequenceSplit, attrs, &[Some(x), split], vec![])
}

fn optional(ctx: &mut NodeCtx) -> OpResult {
    let of = ctx.take("type");
    match (ctx.opt_input(0), of) {
        (Some(x), _) => Ok(vec![ctx.emit(Op::OptionalSome, attrs! {}, &[x])?]),
        (None, Some(OnnxAttr::Type(of))) => ctx.emit_node(Op::OptionalNone, attrs! { of: of }, &[], vec![]),
        _ => Err(ImportError::invalid("Optional needs an input or its attribute `type`")),
    }
}

fn optional_get(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    match ctx.builder.graph.ty(x) {
        Type::Optional(_) => Ok(vec![ctx.emit(Op::OptionalGet, attrs! {}, &[x])?]),
        _ => Ok(vec![x]),
    }
}

fn optional_has(ctx: &mut NodeCtx) -> OpResult {
    match ctx.opt_input(0) {
        Some(x) if matches!(ctx.builder.graph.ty(x), Type::Optional(_)) => {
            Ok(vec![ctx.emit(Op::OptionalHas, attrs! {}, &[x])?])
        }
        present => Ok(vec![ctx.builder.constant(Tensor::from_bools(&[], &[present.is_some()]))]),
    }
}
