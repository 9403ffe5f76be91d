//! The elements of a sequence as tensors, where the graph says which they are: what is read off the sequence is read off these, and no
//! sequence is left to keep.

use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, TensorType, ValueId, attrs};

/// What the elements of a sequence are.
pub(super) enum Elements {
    /// These tensors.
    List(Vec<ValueId>),
    /// The slices of a tensor along an axis, which they do not have.
    Slices {
        /// The tensor.
        of: ValueId,
        /// The axis.
        axis: usize,
    },
}

impl Elements {
    /// The elements of a sequence; nothing where only a run knows which tensors they are.
    pub(super) fn of(ctx: &mut NodeCtx, seq: ValueId) -> Result<Option<Elements>, ImportError> {
        let Some(node) = ctx.builder.graph.producer(seq).map(|n| ctx.builder.graph.node(n)) else {
            return Ok(None);
        };
        Ok(match node.op {
            Op::SequenceEmpty => Some(Elements::List(vec![])),
            Op::SequenceConstruct => {
                Some(Elements::List(node.operands.iter().flatten().copied().collect()))
            }
            Op::SequenceSplit if !node.attrs.flag("has_split") => {
                let (mut of, axis) = (node.operand(0), node.attrs.index("axis"));
                if node.attrs.flag("keepdims") {
                    of = ctx.unsqueeze(of, axis + 1)?;
                }
                Some(Elements::Slices { of, axis })
            }
            _ => None,
        })
    }

    /// How many there are, an i64 scalar.
    pub(super) fn count(&self, ctx: &mut NodeCtx) -> Result<ValueId, ImportError> {
        let (of, axis) = match self {
            Elements::List(all) => return Ok(ctx.builder.constant(Tensor::scalar(all.len() as i64))),
            Elements::Slices { of, axis } => (*of, *axis),
        };
        if let Some(count) = ctx.shape_of(of)?[axis].as_const() {
            return Ok(ctx.builder.constant(Tensor::scalar(count)));
        }
        let dims = ctx.dims_value(of)?;
        ctx.pick(dims, 0, axis as i64)
    }

    /// All of them as slices of one tensor along an axis; nothing where there are none, or their shapes differ.
    pub(super) fn stack(&self, ctx: &mut NodeCtx) -> Result<Option<(ValueId, usize)>, ImportError> {
        let all = match self {
            Elements::List(all) => all,
            Elements::Slices { of, axis } => return Ok(Some((*of, *axis))),
        };
        let Some((first, rest)) = all.split_first() else { return Ok(None) };
        let ty = ctx.tensor(*first)?;
        for other in rest {
            if ctx.tensor(*other)? != ty {
                return Ok(None);
            }
        }
        Ok(Some((stacked(ctx, all, 0)?, 0)))
    }

    /// The type that each has, where it is the same.
    pub(super) fn ty(&self, ctx: &NodeCtx) -> Result<Option<TensorType>, ImportError> {
        match self {
            Elements::List(all) => {
                let types = all.iter().map(|&v| ctx.tensor(v)).collect::<Result<Vec<_>, _>>()?;
                Ok(types
                    .split_first()
                    .filter(|(a, rest)| rest.iter().all(|b| b == *a))
                    .map(|(a, _)| a.clone()))
            }
            Elements::Slices { of, axis } => {
                let mut ty = ctx.tensor(*of)?;
                ty.shape.remove(*axis);
                Ok(Some(ty))
            }
        }
    }

    /// All of them one after another along an axis, which is a new one if `new_axis` holds; nothing for a list without elements.
    pub(super) fn joined(
        &self,
        ctx: &mut NodeCtx,
        axis: usize,
        new_axis: bool,
    ) -> Result<Option<ValueId>, ImportError> {
        let (of, from) = match self {
            Elements::List(all) if all.is_empty() => return Ok(None),
            Elements::List(all) if new_axis => return stacked(ctx, all, axis).map(Some),
            Elements::List(all) => return ctx.concat(all, axis).map(Some),
            Elements::Slices { of, axis } => (*of, *axis),
        };
        let rank = ctx.rank(of)? as i64;
        let mut perm: Vec<i64> = (0..rank).filter(|&a| a != from as i64).collect();
        perm.insert(axis.min(perm.len()), from as i64);
        let moved = if from == axis { of } else { ctx.transpose(of, perm)? };
        if new_axis {
            return Ok(Some(moved));
        }
        let mut shape = ctx.shape_of(moved)?;
        let count = shape.remove(axis);
        shape[axis] = count * shape[axis].clone();
        ctx.reshape(moved, shape).map(Some)
    }
}

/// Tensors of one shape along a new axis.
pub(super) fn stacked(ctx: &mut NodeCtx, all: &[ValueId], axis: usize) -> Result<ValueId, ImportError> {
    let all = all.iter().map(|&v| ctx.unsqueeze(v, axis)).collect::<Result<Vec<_>, _>>()?;
    ctx.concat(&all, axis)
}

/// The slices along the first axis from the last to the first.
pub(super) fn turned(ctx: &mut NodeCtx, x: ValueId) -> Result<ValueId, ImportError> {
    let count = ctx.shape_of(x)?[0].clone();
    let places = ctx.iota_along(DType::I64, count, 0, 1)?;
    let count = Elements::Slices { of: x, axis: 0 }.count(ctx)?;
    let one = ctx.builder.constant(Tensor::scalar(1i64));
    let last = ctx.binary(Op::Sub, count, one)?;
    let places = ctx.binary(Op::Sub, last, places)?;
    ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[x, places])
}
