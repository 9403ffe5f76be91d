//! The same elements at other places: Slice, Split, Concat, Transpose, Expand, Tile, DepthToSpace, ...

use super::emit::{dim, held};
use super::span::{FAR, span};
use super::{OnnxOp, onnx};
use crate::clamps::Clamped;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::holding::Holding;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("CenterCropPad", 18, center_crop_pad),
    onnx("Concat", 1, concat),
    onnx("DepthToSpace", 1, depth_to_space),
    onnx("Expand", 8, expand),
    onnx("Slice", 1, slice),
    onnx("SpaceToDepth", 1, space_to_depth),
    onnx("Split", 1, split),
    onnx("Tile", 1, tile),
    onnx("Transpose", 1, transpose),
];

fn slice(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let missing = |what: &str| ImportError::invalid(format!("Slice needs its {what}"));
    let (starts, ends, axes, steps) = if ctx.opset < 10 {
        let as_dims = |v: Option<Vec<i64>>| v.map(|v| v.into_iter().map(dim).collect::<Vec<Dim>>());
        let starts = as_dims(ctx.opt_ints("starts")?).ok_or_else(|| missing("starts"))?;
        let ends = as_dims(ctx.opt_ints("ends")?).ok_or_else(|| missing("ends"))?;
        (starts, ends, ctx.opt_ints("axes")?, None)
    } else if ctx.is_computed(ctx.input(1)?) || ctx.is_computed(ctx.input(2)?) {
        return slice_at_run_time(ctx, x, &dims);
    } else {
        let starts = ctx.need_dims(ctx.input(1)?, "the starts of Slice")?;
        let ends = ctx.need_dims(ctx.input(2)?, "the ends of Slice")?;
        let axes = ctx.opt_input(3).map(|v| ctx.need_ints(v, "the axes of Slice")).transpose()?;
        let steps = ctx.opt_input(4).map(|v| ctx.need_ints(v, "the steps of Slice")).transpose()?;
        (starts, ends, axes, steps)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(ImportError::invalid("starts, ends, axes and steps of Slice differ in length"));
    }
    let mut first = vec![dim(0); dims.len()];
    let mut sizes = dims.clone();
    let mut strides = vec![1i64; dims.len()];
    let (mut clamped, mut held) = (vec![], vec![]);
    for (i, axis) in ctx.axes(&axes, dims.len())?.into_iter().enumerate() {
        if steps[i] == 0 {
            return Err(ImportError::invalid("a step of Slice is 0"));
        }
        // A longer step than any axis takes the first element only, as the longest one does.
        let step = steps[i].clamp(-FAR, FAR);
        let span = span(&dims[axis], &starts[i], &ends[i], step, ctx.is_told(&dims[axis]));
        (first[axis], sizes[axis], strides[axis]) = (span.first, span.count, step);
        held.extend((!span.is_exact).then_some(axis));
        if sizes[axis].as_const() == Some(0) {
            // Nothing is read, so any start will do.
            (first[axis], strides[axis]) = (dim(0), 1);
        }
        for hold in span.holds {
            first[axis] = first[axis].clone() + hold;
        }
        clamped.extend((!span.clamps.plain.is_empty()).then_some((axis, span.clamps)));
    }
    if sizes == dims && strides.iter().all(|&s| s == 1) && first.iter().all(|f| f.as_const() == Some(0)) {
        return Ok(vec![x]);
    }
    let y = ctx.emit(Op::Slice, attrs! { starts: first, sizes: sizes, steps: strides }, &[x])?;
    ctx.holding.extend(held.into_iter().map(|axis| Holding::Slice(y, axis)));
    ctx.clamped.extend(clamped.into_iter().map(|(axis, clamps)| Clamped { slice: y, axis, clamps }));
    Ok(vec![y])
}

/// A Slice whose bounds change while the model runs: the elements that lie within them, picked axis by axis.
fn slice_at_run_time(ctx: &mut NodeCtx, mut x: ValueId, dims: &[Dim]) -> OpResult {
    let bounds = [ctx.input(1)?, ctx.input(2)?];
    let count = ctx.shape_of(bounds[0])?;
    let count = count
        .first()
        .and_then(Dim::as_const)
        .ok_or_else(|| ImportError::invalid("the starts of Slice must be a vector of known length"))?;
    let axes = ctx.opt_input(3).map(|v| ctx.need_ints(v, "the axes of Slice")).transpose()?;
    let axes = ctx.axes(&axes.unwrap_or_else(|| (0..count).collect()), dims.len())?;
    let steps = ctx.opt_input(4).map(|v| ctx.need_ints(v, "the steps of Slice")).transpose()?;
    let steps = steps.unwrap_or_else(|| vec![1; axes.len()]);
    if steps.len() != axes.len() || axes.len() as i64 != count {
        return Err(ImportError::invalid("starts, axes and steps of Slice differ in length"));
    }
    if let Some(step) = steps.iter().find(|&&s| s < 1) {
        return Err(ImportError::unsupported(format!(
            "Slice by the step {step} with bounds that only the running model knows"
        )));
    }
    for (i, &axis) in axes.iter().enumerate() {
        let shape = ctx.dims_value(x)?;
        let size = ctx.pick(shape, 0, axis as i64)?;
        let mut ends = [size; 2];
        for (end, &bound) in ends.iter_mut().zip(&bounds) {
            let bound = ctx.cast(bound, DType::I64)?;
            let bound = ctx.pick(bound, 0, i as i64)?;
            let zero = ctx.zero(DType::I64);
            let below = ctx.binary(Op::Less, bound, zero)?;
            let wrapped = ctx.binary(Op::Add, bound, size)?;
            *end = ctx.select(below, wrapped, bound)?;
        }
        let places = ctx.iota_along(DType::I64, ctx.shape_of(x)?[axis].clone(), 0, 1)?;
        let after = ctx.binary(Op::LessEqual, ends[0], places)?;
        let before = ctx.binary(Op::Less, places, ends[1])?;
        let mut inside = ctx.binary(Op::And, after, before)?;
        if steps[i] > 1 {
            let (zero, step) = (ctx.zero(DType::I64), ctx.builder.constant(Tensor::scalar(steps[i])));
            let first = ctx.binary(Op::Max, ends[0], zero)?;
            let from = ctx.binary(Op::Sub, places, first)?;
            let rest = ctx.emit(Op::Mod, attrs! { fmod: false }, &[from, step])?;
            let met = ctx.binary(Op::Equal, rest, zero)?;
            inside = ctx.binary(Op::And, inside, met)?;
        }
        x = ctx.emit(Op::Compress, attrs! { axis: axis as i64 }, &[x, inside])?;
    }
    Ok(vec![x])
}

fn split(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let axis = ctx.int("axis", 0)?;
    let axis = ctx.axis(axis, dims.len())?;
    let attr = if ctx.opset < 13 { ctx.opt_ints("split")? } else { None };
    let parts = if ctx.opset >= 18 { ctx.opt_int("num_outputs")? } else { None };
    let sizes: Vec<Dim> = match (attr, ctx.opt_input(1)) {
        (Some(sizes), _) => sizes.into_iter().map(dim).collect(),
        (None, Some(v)) => ctx.need_dims(v, "the sizes of Split")?,
        (None, None) => equal_parts(&dims[axis], parts.unwrap_or(ctx.outputs as i64), ctx.opset >= 18)?,
    };
    if sizes.len() < ctx.outputs {
        return Err(ImportError::invalid(format!(
            "Split has {} sizes for {} outputs",
            sizes.len(),
            ctx.outputs
        )));
    }
    let end = sizes.iter().fold(dim(0), |end, size| end + size.clone());
    if let (Some(end), Some(n)) = (end.as_const(), dims[axis].as_const())
        && end != n
    {
        return Err(ImportError::invalid(format!(
            "the sizes of Split add up to {end}, but the axis has {n}"
        )));
    }
    if let Some(size) = sizes.iter().find(|size| size.as_const().is_some_and(|n| n < 0)) {
        return Err(ImportError::invalid(format!("Split has a part of {size} elements")));
    }
    // A run in which they do not add up has no value for where the first part begins; each part is held to its size by itself.
    let over = end - dims[axis].clone();
    let holds = [held(&over, 0), held(&(dim(0) - over), 0)];
    let first = holds.into_iter().flatten().fold(dim(0), |first, hold| first + hold);
    let mut start = dim(0);
    let mut parts = vec![];
    for (i, size) in sizes.into_iter().enumerate() {
        let from = if i == 0 { first.clone() } else { start.clone() };
        let part = ctx.narrow(x, axis, from, size.clone())?;
        ctx.holding.extend((part != x).then_some(Holding::Slice(part, axis)));
        parts.push(part);
        start = start + size;
    }
    Ok(parts)
}

/// `size` in `count` parts, all of one size or (`ragged`) the last one smaller; of too few elements for that, which a run may have for free
/// dims, it would be negative.
fn equal_parts(size: &Dim, count: i64, ragged: bool) -> Result<Vec<Dim>, ImportError> {
    if !(1..=1 << 20).contains(&count) {
        return Err(ImportError::invalid(format!("Split into {count} parts")));
    }
    let part = size.op(DimOp::CeilDiv, &dim(count));
    let mut parts = vec![part.clone(); count as usize];
    match (size.as_const(), part.as_const()) {
        (Some(n), Some(p)) => {
            if n % count != 0 && !ragged {
                return Err(ImportError::invalid(format!(
                    "Split of {n} elements into {count} equal parts"
                )));
            }
            let last = n - (count - 1) * p;
            if last < 0 {
                return Err(ImportError::invalid(format!(
                    "Split of {n} elements into {count} parts of {p}: {last} are left for the last one"
                )));
            }
            parts[count as usize - 1] = dim(last);
        }
        _ if ragged && part.clone() * dim(count) != *size => {
            let last = size.clone() - part * dim(count - 1);
            parts[count as usize - 1] = last;
        }
        _ => {}
    }
    Ok(parts)
}

fn concat(ctx: &mut NodeCtx) -> OpResult {
    let xs: Vec<ValueId> = ctx.inputs.iter().copied().flatten().collect();
    let Some(&first) = xs.first() else { return Err(ImportError::invalid("Concat needs an input")) };
    let rank = ctx.rank(first)?;
    let axis = ctx.opt_int("axis")?;
    let axis = match axis {
        Some(axis) => ctx.axis(axis, rank)?,
        None if ctx.opset < 4 => ctx.axis(1, rank)?,
        None => return Err(ImportError::invalid("Concat needs its attribute `axis`")),
    };
    Ok(vec![ctx.concat(&xs, axis)?])
}

fn center_crop_pad(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let target = ctx.need_dims(ctx.input(1)?, "the shape of CenterCropPad")?;
    let axes = match ctx.opt_ints("axes")? {
        Some(axes) => ctx.axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    if axes.len() != target.len() {
        return Err(ImportError::invalid(format!(
            "CenterCropPad has {} sizes for {} axes",
            target.len(),
            axes.len()
        )));
    }
    let rank = dims.len();
    let (mut starts, mut sizes) = (vec![dim(0); rank], dims.clone());
    let (mut low, mut high) = (vec![dim(0); rank], vec![dim(0); rank]);
    let half = |d: Dim| d.op(DimOp::FloorDiv, &dim(2));
    for (&axis, want) in axes.iter().zip(target) {
        let have = &dims[axis];
        let kept = have.op(DimOp::Min, &want);
        starts[axis] = half(have.clone() - kept.clone());
        low[axis] = half(want.clone() - kept.clone());
        high[axis] = want - kept.clone() - low[axis].clone();
        sizes[axis] = kept;
    }
    let cropped =
        ctx.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: vec![1i64; rank] }, &[x])?;
    Ok(vec![ctx.pad(cropped, low, high, "constant", None)?])
}

/// The dims of an image and the block size of DepthToSpace and SpaceToDepth.
fn image_and_block(ctx: &mut NodeCtx, x: ValueId) -> Result<([Dim; 4], Dim), ImportError> {
    let block = ctx.opt_int("blocksize")?.filter(|b| (1..=1 << 15).contains(b));
    let block = block
        .ok_or_else(|| ImportError::invalid(format!("{} needs a positive `blocksize`", ctx.op_type)))?;
    let dims: [Dim; 4] = ctx.shape_of(x)?.try_into().map_err(|dims: Vec<Dim>| {
        ImportError::invalid(format!("{} takes images of rank 4, not {}", ctx.op_type, dims.len()))
    })?;
    Ok((dims, dim(block)))
}

/// `a / b`, which must come out even.
fn divide(ctx: &NodeCtx, a: &Dim, b: &Dim) -> Result<Dim, ImportError> {
    if a.op(DimOp::Mod, b).as_const().is_some_and(|r| r != 0) {
        return Err(ImportError::invalid(format!("{} needs blocks of {b} in a dim of {a}", ctx.op_type)));
    }
    Ok(a.op(DimOp::FloorDiv, b))
}

fn depth_to_space(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ([n, c, h, w], b) = image_and_block(ctx, x)?;
    let mode = if ctx.opset < 11 { "DCR".to_owned() } else { ctx.str("mode", "DCR")? };
    let depth = divide(ctx, &c, &(b.clone() * b.clone()))?;
    let (split, perm) = match mode.as_str() {
        "DCR" => (
            vec![n.clone(), b.clone(), b.clone(), depth.clone(), h.clone(), w.clone()],
            vec![0, 3, 4, 1, 5, 2],
        ),
        "CRD" => (
            vec![n.clone(), depth.clone(), b.clone(), b.clone(), h.clone(), w.clone()],
            vec![0, 1, 4, 2, 5, 3],
        ),
        _ => return Err(ctx.bad_attr("mode", mode)),
    };
    let x = ctx.reshape(x, split)?;
    let x = ctx.transpose(x, perm)?;
    Ok(vec![ctx.reshape(x, vec![n, depth, h * b.clone(), w * b])?])
}

fn space_to_depth(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ([n, c, h, w], b) = image_and_block(ctx, x)?;
    // Opset 28 lets the blocks be laid out as PyTorch's pixel_unshuffle does.
    let mode = if ctx.opset < 28 { "DCR".to_owned() } else { ctx.str("mode", "DCR")? };
    let perm = match mode.as_str() {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        _ => return Err(ctx.bad_attr("mode", mode)),
    };
    let (h, w) = (divide(ctx, &h, &b)?, divide(ctx, &w, &b)?);
    let x = ctx.reshape(x, vec![n.clone(), c.clone(), h.clone(), b.clone(), w.clone(), b.clone()])?;
    let x = ctx.transpose(x, perm)?;
    Ok(vec![ctx.reshape(x, vec![n, c * b.clone() * b, h, w])?])
}

fn transpose(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let rank = ctx.rank(x)?;
    let perm = match ctx.opt_ints("perm")? {
        Some(perm) => ctx.axes(&perm, rank)?.into_iter().map(|a| a as i64).collect(),
        None => (0..rank as i64).rev().collect(),
    };
    Ok(vec![ctx.transpose(x, perm)?])
}

fn expand(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let from = ctx.shape_of(x)?;
    let target = ctx.need_dims(ctx.input(1)?, "the shape of Expand")?;
    let rank = from.len().max(target.len());
    let at =
        |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(dim(1), |i| dims[i].clone());
    let (mut to, mut fit) = (Vec::with_capacity(rank), vec![]);
    for i in 0..rank {
        let (a, b) = (at(&from, i), at(&target, i));
        to.push(match (a.as_const(), b.as_const()) {
            (Some(1), _) => b,
            (_, Some(1)) => a,
            (Some(x), Some(y)) if x != y => {
                return Err(ImportError::invalid(format!("Expand of a dim of {x} to {y}")));
            }
            // The other is 1 or the same, which the result does not say any more.
            (Some(_), None) => {
                fit.push(a.op(DimOp::Broadcast, &b));
                a
            }
            (_, Some(_)) => b,
            _ if a == b => a,
            _ => a.op(DimOp::Broadcast, &b),
        });
    }
    let x = ctx.fitting(x, &fit)?;
    Ok(vec![ctx.broadcast(x, to)?])
}

fn tile(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let repeats = if ctx.opset < 6 {
        // Tile 1: one axis, repeated some number of times.
        let tiles = ctx.need_dims(ctx.input(1)?, "the tiles of Tile")?;
        let axis = ctx.axis(ctx.need_int(ctx.input(2)?, "the axis of Tile")?, dims.len())?;
        let mut repeats = vec![dim(1); dims.len()];
        repeats[axis] = tiles.first().cloned().unwrap_or(dim(1));
        repeats
    } else {
        ctx.need_dims(ctx.input(1)?, "the repeats of Tile")?
    };
    if repeats.len() != dims.len() {
        return Err(ImportError::invalid(format!(
            "Tile has {} repeats for a rank of {}",
            repeats.len(),
            dims.len()
        )));
    }
    let (mut split, mut spread, mut joined) = (vec![], vec![], vec![]);
    for (d, r) in dims.into_iter().zip(repeats) {
        if r.as_const() != Some(1) {
            split.push(dim(1));
            spread.push(r.clone());
        }
        split.push(d.clone());
        spread.push(d.clone());
        joined.push(r * d);
    }
    if spread == joined {
        return Ok(vec![x]);
    }
    let x = ctx.reshape(x, split)?;
    let x = ctx.broadcast(x, spread)?;
    Ok(vec![ctx.reshape(x, joined)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uneven_parts_end_small() {
        let sizes = |n, k| {
            equal_parts(&dim(n), k, true).map(|p| p.iter().filter_map(Dim::as_const).collect::<Vec<_>>())
        };
        assert_eq!(sizes(7, 4).ok(), Some(vec![2, 2, 2, 1]));
        assert_eq!(sizes(8, 4).ok(), Some(vec![2, 2, 2, 2]));
        assert!(equal_parts(&dim(7), 4, false).is_err());
    }
}
