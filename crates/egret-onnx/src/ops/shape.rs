//! Operators that ask for, change or make shapes: Shape, Reshape, Squeeze, ConstantOfShape, Range, OneHot, ...

use super::emit::{dim, product, zero_tensor};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Builder, DType, Dim, DimOp, DimPart, Op, Tensor, Type, ValueId, attrs};
use std::collections::BTreeSet;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ConstantOfShape", 9, constant_of_shape),
    onnx("EyeLike", 9, eye_like),
    onnx("Flatten", 1, flatten),
    onnx("OneHot", 9, one_hot),
    onnx("Range", 11, range),
    onnx("Reshape", 1, reshape),
    onnx("Shape", 1, shape),
    onnx("Size", 1, size),
    onnx("Squeeze", 1, squeeze),
    onnx("Trilu", 14, trilu),
    onnx("Unsqueeze", 1, unsqueeze),
];

fn shape(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let rank = ctx.rank(x)? as i64;
    let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank);
    let start = clamp(ctx.int("start", 0)?);
    let end = clamp(ctx.int("end", rank)?);
    let dims = ctx.dims_value(x)?;
    Ok(vec![ctx.narrow(dims, 0, dim(start), dim((end - start).max(0)))?])
}

fn size(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![ctx.element_count(x)?])
}

fn reshape(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let from = ctx.shape_of(x)?;
    let (target, allow_zero) = if ctx.opset < 5 {
        let ints = ctx
            .opt_ints("shape")?
            .ok_or_else(|| ImportError::invalid("Reshape needs its attribute `shape`"))?;
        (ints.into_iter().map(dim).collect(), false)
    } else {
        (ctx.need_dims(ctx.input(1)?, "the shape of Reshape")?, ctx.flag("allowzero", false)?)
    };
    if let Some((i, d)) = target.iter().enumerate().find(|(_, d)| is_chosen_open(d)) {
        let reason = format!("Reshape whose dim {i} is -1 for some sizes and a number for others");
        return Err(ImportError::open(reason, d));
    }
    let mut to = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, d) in target.iter().enumerate() {
        match d.as_const() {
            Some(0) if !allow_zero => {
                let kept = from.get(i).ok_or_else(|| {
                    ImportError::invalid(format!(
                        "Reshape keeps dim {i}, but its input has rank {}",
                        from.len()
                    ))
                })?;
                to.push(kept.clone());
            }
            Some(-1) if open.is_none() => {
                open = Some(i);
                to.push(dim(1));
            }
            Some(-1) => return Err(ImportError::invalid("Reshape leaves more than one dim (-1) open")),
            Some(c) if c < 0 => return Err(ImportError::invalid(format!("Reshape to the dim {c}"))),
            _ => to.push(d.clone()),
        }
    }
    if let Some(at) = open {
        let others: Vec<Dim> =
            to.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| d.clone()).collect();
        to[at] = rest(&from, &others)?;
    }
    Ok(vec![ctx.reshape(x, to)?])
}

/// Whether a dim is a choice, made by sizes, of which one is -1: a product with what is 0 or 1, less 1.
fn is_chosen_open(d: &Dim) -> bool {
    let one = |part: &DimPart| matches!(part, DimPart::Op(DimOp::Min, a, _) if a.as_const() == Some(1));
    d.as_const().is_none()
        && d.at_least() == Some(-1)
        && d.as_sum()
            .is_some_and(|sum| sum.iter().any(|(_, parts)| parts.len() > 1 && parts.iter().any(one)))
}

/// The dim that is left when the elements of `from` are spread over `others`.
pub(super) fn rest(from: &[Dim], others: &[Dim]) -> Result<Dim, ImportError> {
    // Equal dims on both sides cancel first: a quotient of expressions stays simple only without them.
    let mut from = from.to_vec();
    let mut open = vec![];
    for other in others {
        match from.iter().position(|d| d == other && d.as_const() != Some(0)) {
            Some(at) => {
                from.remove(at);
            }
            None => open.push(other.clone()),
        }
    }
    let (count, divisor) = (product(&from), product(&open));
    match (count.as_const(), divisor.as_const()) {
        (_, Some(0)) => Err(ImportError::invalid("Reshape cannot tell the dim -1 next to a dim of 0")),
        (Some(c), Some(d)) if c % d != 0 => {
            Err(ImportError::invalid(format!("Reshape: {c} elements do not divide into rows of {d}")))
        }
        _ => Ok(count.divide_exactly(&divisor).unwrap_or_else(|| count.op(DimOp::FloorDiv, &divisor))),
    }
}

fn flatten(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let axis = ctx.int("axis", 1)?;
    let rank = dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    if !(0..=rank).contains(&at) {
        return Err(ImportError::invalid(format!("axis {axis} of Flatten is outside a rank of {rank}")));
    }
    let (rows, columns) = dims.split_at(at as usize);
    Ok(vec![ctx.reshape(x, vec![product(rows), product(columns)])?])
}

/// The axes of Squeeze and Unsqueeze: an attribute before opset 13, an input from it.
fn axes_argument(ctx: &mut NodeCtx) -> Result<Option<Vec<i64>>, ImportError> {
    if ctx.opset < 13 {
        return ctx.opt_ints("axes");
    }
    match ctx.opt_input(1) {
        None => Ok(None),
        Some(v) => Ok(Some(ctx.need_ints(v, &format!("the axes of {}", ctx.op_type))?)),
    }
}

fn squeeze(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let axes = match axes_argument(ctx)? {
        Some(axes) => ctx.axes(&axes, dims.len())?,
        None => (0..dims.len()).filter(|&i| dims[i].as_const() == Some(1)).collect(),
    };
    if let Some(&a) = axes.iter().find(|&&a| dims[a].as_const().is_some_and(|d| d != 1)) {
        return Err(ImportError::invalid(format!("Squeeze of axis {a}, whose size is {}", dims[a])));
    }
    Ok(vec![ctx.squeeze(x, &axes)?])
}

fn unsqueeze(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let mut dims = ctx.shape_of(x)?.into_iter();
    let axes = axes_argument(ctx)?.ok_or_else(|| ImportError::invalid("Unsqueeze needs its axes"))?;
    let rank = dims.len() + axes.len();
    let axes = ctx.axes(&axes, rank)?;
    if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
        return Err(ImportError::invalid("Unsqueeze names an axis twice"));
    }
    let to =
        (0..rank).map(|i| if axes.contains(&i) { dim(1) } else { dims.next().unwrap_or(dim(1)) }).collect();
    Ok(vec![ctx.reshape(x, to)?])
}

fn constant_of_shape(ctx: &mut NodeCtx) -> OpResult {
    let dims = ctx.need_dims(ctx.input(0)?, "the shape of ConstantOfShape")?;
    let value = match ctx.opt_tensor("value")? {
        None => Tensor::scalar(0f32),
        Some(t) if t.len() == 1 => t.reshaped(&[]),
        Some(t) => {
            return Err(ImportError::invalid(format!(
                "the value of ConstantOfShape has {} elements instead of 1",
                t.len()
            )));
        }
    };
    let value = ctx.builder.constant(value);
    Ok(vec![ctx.broadcast(value, dims)?])
}

/// Row and column numbers of the last two axes, broadcasting.
fn rows_and_columns(ctx: &mut NodeCtx, dims: &[Dim]) -> Result<(ValueId, ValueId), ImportError> {
    let [.., n, m] = dims else {
        return Err(ImportError::invalid(format!("{} needs a rank of 2 or more", ctx.op_type)));
    };
    let rows = ctx.iota_along(DType::I64, n.clone(), 0, 2)?;
    let columns = ctx.iota_along(DType::I64, m.clone(), 1, 2)?;
    Ok((rows, columns))
}

fn eye_like(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let to = ctx.opt_dtype("dtype")?.unwrap_or(ty.dtype);
    let k = ctx.int("k", 0)?;
    let (rows, columns) = rows_and_columns(ctx, &ty.shape)?;
    let k = ctx.builder.constant(Tensor::scalar(k));
    let diagonal = ctx.binary(Op::Add, rows, k)?;
    let on = ctx.binary(Op::Equal, diagonal, columns)?;
    Ok(vec![ctx.cast(on, to)?])
}

fn trilu(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let upper = ctx.flag("upper", true)?;
    let (rows, columns) = rows_and_columns(ctx, &ty.shape)?;
    let diagonal = match ctx.opt_input(1) {
        None => rows,
        Some(k) => {
            let k = ctx.single(k)?;
            ctx.binary(Op::Add, rows, k)?
        }
    };
    let (a, b) = if upper { (diagonal, columns) } else { (columns, diagonal) };
    let keep = ctx.binary(Op::LessEqual, a, b)?;
    let zero = ctx.builder.constant(zero_tensor(ty.dtype));
    Ok(vec![ctx.select(keep, x, zero)?])
}

fn range(ctx: &mut NodeCtx) -> OpResult {
    let [start, limit, delta] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let stash = ctx.int("stash_type", 1)?;
    let dtype = ctx.dtype(start)?;
    // Narrow floats are counted in f32 from opset 27 on; before it nothing else is exact either.
    if stash != 1 && matches!(dtype, DType::F16 | DType::BF16) {
        return Err(ImportError::unsupported(format!(
            "Range with the stash_type {stash}; only 1 (float) is done"
        )));
    }
    let compute = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let what = "a bound of Range";
    if dtype.is_int()
        && [start, limit].into_iter().any(|v| ctx.builder.known_dims(v).is_none() && predicted(ctx, v))
        && let Some(delta) = ctx.builder.known_dims(delta).and_then(|d| d.first()?.as_const())
        && delta != 0
    {
        return Ok(vec![counted_range(ctx, start, limit, delta)?]);
    }
    let count = if dtype.is_int() {
        let bound = |v| {
            ctx.need_dims(v, what)?
                .first()
                .cloned()
                .ok_or_else(|| ImportError::invalid("a bound of Range is empty"))
        };
        let (s, l, d) = (bound(start)?, bound(limit)?, bound(delta)?);
        if d.as_const() == Some(0) {
            return Err(ImportError::invalid("the delta of Range is 0"));
        }
        let down = d.as_const().is_some_and(|d| d < 0);
        let (span, d) = if down { (s - l, dim(0) - d) } else { (l - s, d) };
        // None where the limit is not ahead; that of a range such as 0..seq always is.
        span.op(DimOp::CeilDiv, &d).op(DimOp::Max, &dim(0))
    } else {
        let mut bound = |v| {
            ctx.need_floats(v, what)?
                .first()
                .copied()
                .ok_or_else(|| ImportError::invalid("a bound of Range is empty"))
        };
        let (s, l, d) = (bound(start)?, bound(limit)?, bound(delta)?);
        let count = ((l - s) / d).ceil().max(0.0);
        if count.is_nan() || count > f64::from(i32::MAX) {
            return Err(ImportError::invalid(format!("Range from {s} to {l} by {d} does not end")));
        }
        dim(count as i64)
    };
    let steps = ctx.emit(Op::Iota, attrs! { to: compute, shape: vec![count], axis: 0i64 }, &[])?;
    let (start, delta) = (ctx.single(start)?, ctx.single(delta)?);
    let (start, delta) = (ctx.cast(start, compute)?, ctx.cast(delta, compute)?);
    let offsets = ctx.binary(Op::Mul, steps, delta)?;
    let values = ctx.binary(Op::Add, offsets, start)?;
    Ok(vec![ctx.cast(values, dtype)?])
}

/// Whether a value comes out of the network's own arithmetic, a sum of products at least: then binding an input, which would fix
/// it, would fix the network's result too.
fn predicted(ctx: &NodeCtx, value: ValueId) -> bool {
    let graph = &ctx.builder.graph;
    let (mut seen, mut work) = (BTreeSet::new(), vec![value]);
    while let Some(node) = work.pop().and_then(|v| graph.producer(v)) {
        if !seen.insert(node) {
            continue;
        }
        let node = graph.node(node);
        if matches!(node.op, Op::Matmul | Op::Conv | Op::ConvTranspose | Op::Lstm | Op::Gru | Op::Rnn) {
            return true;
        }
        work.extend(node.operands.iter().flatten().filter(|v| graph.producer(**v).is_some()));
    }
    false
}

/// Integers whose number only the running model knows: what a loop counts, stacked.
fn counted_range(
    ctx: &mut NodeCtx,
    start: ValueId,
    limit: ValueId,
    delta: i64,
) -> Result<ValueId, ImportError> {
    let dtype = ctx.dtype(start)?;
    let whole = |ctx: &mut NodeCtx, v: ValueId| {
        let v = ctx.single(v)?;
        ctx.cast(v, DType::I64)
    };
    let (start, limit) = (whole(ctx, start)?, whole(ctx, limit)?);
    let int = |ctx: &mut NodeCtx, v: i64| ctx.builder.constant(Tensor::scalar(v));
    // The quotient rounded away from zero; a loop of less than one round has none.
    let span = ctx.binary(Op::Sub, limit, start)?;
    let (more, step) = (int(ctx, delta - delta.signum()), int(ctx, delta));
    let span = ctx.binary(Op::Add, span, more)?;
    let rounds = ctx.binary(Op::Div, span, step)?;
    let mut body = Builder::new("count");
    let i = body.input("i", Type::tensor(DType::I64, vec![]));
    let going = body.input("going", Type::tensor(DType::Bool, vec![]));
    body.output("going", going);
    body.output("i", i);
    let attrs = attrs! { carried: 0i64, has_trip_count: true, has_cond: false };
    let counted = ctx.emit_node(Op::Loop, attrs, &[Some(rounds), None], vec![body.graph])?;
    let offsets = ctx.binary(Op::Mul, counted[0], step)?;
    let values = ctx.binary(Op::Add, offsets, start)?;
    ctx.cast(values, dtype)
}

fn one_hot(ctx: &mut NodeCtx) -> OpResult {
    let [indices, depth, values] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let rank = ctx.rank(indices)? + 1;
    let axis = ctx.int("axis", -1)?;
    let axis = ctx.axis(axis, rank)?;
    let whole = ctx.cast(depth, DType::I64)?;
    let depth = ctx.need_dims(whole, "the depth of OneHot")?;
    let [depth] = depth.as_slice() else {
        return Err(ImportError::invalid("the depth of OneHot must have one element"));
    };
    let classes = ctx.iota_along(DType::I64, depth.clone(), axis, rank)?;
    // The depth as a value, so that indices count from the end where they are negative.
    let count = ctx.reshape(whole, vec![])?;
    let indices = ctx.cast(indices, DType::I64)?;
    let indices = ctx.unsqueeze(indices, axis)?;
    let zero = ctx.zero(DType::I64);
    let below = ctx.binary(Op::Less, indices, zero)?;
    let wrapped = ctx.binary(Op::Add, indices, count)?;
    let indices = ctx.select(below, wrapped, indices)?;
    let hot = ctx.binary(Op::Equal, indices, classes)?;
    let off = ctx.pick(values, 0, 0)?;
    let on = ctx.pick(values, 0, 1)?;
    Ok(vec![ctx.select(hot, on, off)?])
}
