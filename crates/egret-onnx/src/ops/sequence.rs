//! Sequences and optionals.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, Type, attrs};

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

fn sequence_insert(ctx: &mut NodeCtx) -> OpResult {
    let (seq, x) = (ctx.input(0)?, ctx.input(1)?);
    // The type of an empty sequence does not tell the rank of its elements; that of a new one does.
    if let Some(n) = ctx.builder.graph.producer(seq)
        && ctx.builder.graph.node(n).op == Op::SequenceEmpty
    {
        return Ok(vec![ctx.emit(Op::SequenceConstruct, attrs! {}, &[x])?]);
    }
    let at = match ctx.opt_input(2) {
        Some(_) => position(ctx, 2, 0)?,
        None => ctx.emit(Op::SequenceLength, attrs! {}, &[seq])?,
    };
    Ok(vec![ctx.emit(Op::SequenceInsert, attrs! {}, &[seq, x, at])?])
}

fn sequence_erase(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    let at = position(ctx, 1, -1)?;
    Ok(vec![ctx.emit(Op::SequenceErase, attrs! {}, &[seq, at])?])
}

fn sequence_at(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    ctx.input(1)?;
    let at = position(ctx, 1, 0)?;
    Ok(vec![ctx.emit(Op::SequenceAt, attrs! {}, &[seq, at])?])
}

fn sequence_length(ctx: &mut NodeCtx) -> OpResult {
    let seq = ctx.input(0)?;
    Ok(vec![ctx.emit(Op::SequenceLength, attrs! {}, &[seq])?])
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
    Ok(vec![ctx.emit(Op::SequenceConcat, attrs! { axis: axis, new_axis: new_axis }, &[seq])?])
}

fn split_to_sequence(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let axis = ctx.int("axis", 0)?;
    let axis = ctx.axis(axis, ctx.rank(x)?)? as i64;
    let split = ctx.opt_input(1);
    // Sizes are given: the axis stays.
    let keep = ctx.flag("keepdims", true)? || split.is_some();
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
