//! Pad: elements around a tensor, and fewer of it where a pad is below 0.

use super::emit::dim;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("Pad", 1, pad)];

/// What is taken away at an end is that many elements at most, so that sums of it and a size do not wrap.
const MOST_TAKEN: i64 = 1 << 61;

fn pad(ctx: &mut NodeCtx) -> OpResult {
    let mut x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let rank = ty.rank();
    let mode = ctx.str("mode", "constant")?;
    if !["constant", "reflect", "edge", "wrap"].contains(&mode.as_str()) {
        return Err(ctx.bad_attr("mode", mode));
    }
    let (pads, axes, value) = if ctx.opset < 11 {
        let name = if ctx.opset < 2 { "paddings" } else { "pads" };
        let pads = ctx
            .opt_ints(name)?
            .ok_or_else(|| ImportError::invalid(format!("Pad needs its attribute `{name}`")))?;
        let value = ctx.float("value", 0.0)?;
        let value = ctx.scalar(ty.dtype, value.into())?;
        (pads.into_iter().map(dim).collect(), (0..rank).collect(), Some(value))
    } else {
        let pads = ctx.input(1)?;
        let value = match ctx.opt_input(2) {
            Some(v) if ctx.tensor(v)?.const_len() == Some(0) => None,
            Some(v) => Some(ctx.single(v)?),
            None => None,
        };
        let axes = match ctx.opt_input(3) {
            Some(v) => {
                let axes = ctx.need_ints(v, "the axes of Pad")?;
                ctx.axes(&axes, rank)?
            }
            None => (0..rank).collect(),
        };
        let pads = if ctx.is_computed(pads) {
            of_a_run(ctx, &mut x, pads, &axes)?
        } else {
            ctx.need_dims(pads, "the pads of Pad")?
        };
        (pads, axes, value)
    };
    if pads.len() != 2 * axes.len() {
        return Err(ImportError::invalid(format!("Pad has {} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut low, mut high) = (vec![dim(0); rank], vec![dim(0); rank]);
    for (i, &axis) in axes.iter().enumerate() {
        low[axis] = pads[i].clone();
        high[axis] = pads[i + axes.len()].clone();
    }
    if low.iter().chain(&high).all(|p| p.as_const() == Some(0)) {
        return Ok(vec![x]);
    }
    let x = if mode == "wrap" { crop_first(ctx, x, &mut low, &mut high)? } else { x };
    Ok(vec![ctx.pad(x, low, high, &mode, value)?])
}

/// x without what negative pads take away, which become 0: what is wrapped around is what is left, as in ONNX Runtime.
fn crop_first(
    ctx: &mut NodeCtx,
    x: ValueId,
    low: &mut [Dim],
    high: &mut [Dim],
) -> Result<ValueId, ImportError> {
    let mut sizes = ctx.shape_of(x)?;
    let mut starts = vec![dim(0); sizes.len()];
    let taken = |pad: &mut Dim| match pad.as_const() {
        Some(p) if p < 0 => dim(0) - std::mem::replace(pad, dim(0)),
        _ => dim(0),
    };
    for axis in 0..sizes.len() {
        starts[axis] = taken(&mut low[axis]);
        sizes[axis] = sizes[axis].clone() - starts[axis].clone() - taken(&mut high[axis]);
    }
    if sizes.iter().any(Dim::is_negative) {
        return Err(ImportError::invalid("Pad takes more away than there is"));
    }
    let steps = vec![1i64; sizes.len()];
    ctx.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
}

/// The pads that a run gives: what those above 0 add are dims. x becomes what those below 0 leave of it, and they become 0.
fn of_a_run(
    ctx: &mut NodeCtx,
    x: &mut ValueId,
    pads: ValueId,
    axes: &[usize],
) -> Result<Vec<Dim>, ImportError> {
    let vector = ctx.tensor(pads)?;
    if !vector.dtype.is_int() || vector.rank() != 1 || vector.const_len() != Some(2 * axes.len()) {
        // What fits is said of the dims.
        return ctx.need_dims(pads, "the pads of Pad");
    }
    let added = (0..2 * axes.len()).map(|i| ctx.added(pads, i)).collect::<Result<Vec<_>, _>>()?;
    for (i, &axis) in axes.iter().enumerate() {
        let ends = [i, i + axes.len()];
        let of_data = ends.map(|end| ctx.may_be_below_zero(pads, end));
        if of_data.contains(&true) {
            let left =
                ctx.left(*x, axis, pads, ends.map(|end| of_data[usize::from(end != i)].then_some(end)))?;
            *x = ctx.emit(Op::Gather, attrs! { axis: axis as i64 }, &[*x, left])?;
        }
    }
    Ok(added)
}

impl NodeCtx<'_> {
    /// What a pad adds: itself where it is known, or cannot be below 0.
    fn added(&mut self, pads: ValueId, i: usize) -> Result<Dim, ImportError> {
        if !self.may_be_below_zero(pads, i) {
            return self.dim_of(pads, i);
        }
        let at = self.origin(pads, i);
        if let Some(added) = self.lengths.added.get(&at) {
            return Ok(added.clone());
        }
        let most = self.limit(pads, i);
        let zero = self.zero(DType::I64);
        let pad = self.number(pads, i)?;
        let pad = self.binary(Op::Max, pad, zero)?;
        let range = self.range(pad, most.map(|most| most.op(DimOp::Max, &dim(0))))?;
        let added = self.shape_of(range)?[0].clone();
        self.lengths.added.insert(at, added.clone());
        Ok(added)
    }

    /// The places of an axis that pads of it leave: those at its begin and its end, where they may be below 0.
    fn left(
        &mut self,
        x: ValueId,
        axis: usize,
        pads: ValueId,
        ends: [Option<usize>; 2],
    ) -> Result<ValueId, ImportError> {
        let size = self.shape_of(x)?[axis].clone();
        let key = (size.clone(), ends.map(|end| end.map(|i| self.origin(pads, i))));
        if let Some(&left) = self.lengths.left.get(&key) {
            return Ok(left);
        }
        let (zero, least) = (self.zero(DType::I64), self.builder.constant(Tensor::scalar(-MOST_TAKEN)));
        let shape = self.dims_value(x)?;
        let mut count = self.pick(shape, 0, axis as i64)?;
        let mut before = zero;
        for (nth, i) in ends.into_iter().enumerate() {
            let Some(i) = i else { continue };
            let pad = self.number(pads, i)?;
            let pad = self.binary(Op::Min, pad, zero)?;
            let pad = self.binary(Op::Max, pad, least)?;
            count = self.binary(Op::Add, count, pad)?;
            if nth == 0 {
                before = pad;
            }
        }
        let places = self.range(count, Some(size))?;
        let left = self.binary(Op::Sub, places, before)?;
        self.lengths.left.insert(key, left);
        Ok(left)
    }

    /// An element of a vector of integers, as an i64.
    fn number(&mut self, of: ValueId, i: usize) -> Result<ValueId, ImportError> {
        let one = self.pick(of, 0, i as i64)?;
        self.cast(one, DType::I64)
    }
}
