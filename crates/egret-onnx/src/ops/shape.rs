//! Operators that ask for, change or make shapes: Shape, Reshape, Squeeze, ConstantOfShape, Range, OneHot, ...

use super::emit::{dim, product, zero_tensor};
use super::{OWN_DOMAIN, OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::holding::Holding;
use egret_ir::{DType, Dim, DimOp, DimPart, Op, Tensor, ValueId};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ConstantOfShape", 9, constant_of_shape),
    onnx("EyeLike", 9, eye_like),
    onnx("Flatten", 1, flatten),
    onnx("OneHot", 9, one_hot),
    onnx("Range", 11, super::range::range),
    onnx("Reshape", 1, reshape),
    onnx("Shape", 1, shape),
    onnx("Size", 1, size),
    onnx("Squeeze", 1, squeeze),
    onnx("Trilu", 14, trilu),
    onnx("Unsqueeze", 1, unsqueeze),
    OnnxOp { domain: OWN_DOMAIN, name: "Require", since: 1, import: required },
];

/// What the conditions of a graph are exported as: its outputs go through it.
fn required(ctx: &mut NodeCtx) -> OpResult {
    let (x, conditions) = (ctx.input(0)?, ctx.input(1)?);
    let dims = ctx.told_dims(conditions, "what Require holds runs to")?;
    ctx.holding.push(Holding::Dims(dims));
    Ok(vec![x])
}

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
        let (target, allow_zero) = (ctx.input(1)?, ctx.flag("allowzero", false)?);
        if ctx.is_given_by_a_run(target) {
            let to = given_shape(ctx, x, target, allow_zero)?;
            return Ok(vec![ctx.reshape(x, to)?]);
        }
        (ctx.need_dims(target, "the shape of Reshape")?, allow_zero)
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
        to[at] =
            match others.iter().all(|d| ctx.is_told(d)) || target.iter().any(|d| d.as_const() == Some(0)) {
                true => rest(&from, &others)?,
                false => computed_rest(ctx, x)?,
            };
    }
    Ok(vec![ctx.reshape(x, to)?])
}

/// The dims of a shape whose elements an input of the run gives: -1 and 0 are what they are in ONNX there too. A run with a second -1, with a -1 beside a dim of 0, or a 0 for a
/// dim that there is none of, fails, as for any dim below 0.
fn given_shape(
    ctx: &mut NodeCtx,
    x: ValueId,
    target: ValueId,
    allow_zero: bool,
) -> Result<Vec<Dim>, ImportError> {
    let number = |ctx: &mut NodeCtx, v: i64| ctx.builder.constant(Tensor::scalar(v));
    let from = ctx.shape_of(x)?;
    let len = ctx.tensor(target)?.const_len().unwrap_or(0);
    let mut dims = ctx.cast(target, DType::I64)?;
    let (open, one, no_dim) = (number(ctx, -1), number(ctx, 1), number(ctx, -2));
    if !allow_zero {
        let mut kept = vec![];
        if !from.is_empty() {
            let own = ctx.dims_value(x)?;
            kept.push(ctx.narrow(own, 0, dim(0), dim(from.len().min(len) as i64))?);
        }
        if len > from.len() {
            kept.push(
                ctx.builder.constant(Tensor::new(&[len - from.len()], vec![-2i64; len - from.len()])),
            );
        }
        let (kept, zero) = (ctx.concat(&kept, 0)?, ctx.zero(DType::I64));
        let is_kept = ctx.binary(Op::Equal, dims, zero)?;
        dims = ctx.select(is_kept, kept, dims)?;
    }
    // What the dim -1 has to be beside the others, of which there are no two.
    let is_open = ctx.binary(Op::Equal, dims, open)?;
    let others = ctx.select(is_open, one, dims)?;
    let others = ctx.reduce("prod", others, vec![0], false)?;
    let nothing = ctx.zero(DType::I64);
    let are_some = ctx.binary(Op::Less, nothing, others)?;
    let others = ctx.binary(Op::Max, others, one)?;
    let count = ctx.element_count(x)?;
    let rest = ctx.binary(Op::Div, count, others)?;
    let how_many = ctx.cast(is_open, DType::I64)?;
    let how_many = ctx.reduce("sum", how_many, vec![0], false)?;
    let is_one = ctx.binary(Op::LessEqual, how_many, one)?;
    // Beside a dim of 0 it could be any number.
    let is_one = ctx.binary(Op::And, is_one, are_some)?;
    let rest = ctx.select(is_one, rest, no_dim)?;
    let dims = ctx.select(is_open, rest, dims)?;
    // No dim is more than there are elements, if there are some.
    let most = product(&from);
    let most = most.as_const().is_some_and(|n| n > 0).then_some(most);
    ctx.dims_within(dims, "the shape of Reshape", most.as_ref())
}

/// The dim -1 beside dims that only a run knows: a quotient of what is there and of them would be the larger the smaller they are. The reshape holds
/// the run to what comes out even.
fn computed_rest(ctx: &mut NodeCtx, x: ValueId) -> Result<Dim, ImportError> {
    let target = ctx.cast(ctx.input(1)?, DType::I64)?;
    // That of all numbers, of which one is -1.
    let others = ctx.reduce("prod", target, vec![0], false)?;
    let others = ctx.unary(Op::Neg, others)?;
    let one = ctx.builder.constant(Tensor::scalar(1i64));
    let others = ctx.binary(Op::Max, others, one)?;
    let count = ctx.element_count(x)?;
    let rest = ctx.binary(Op::Div, count, others)?;
    let most = product(&ctx.shape_of(x)?);
    let most = ctx.is_told(&most).then_some(most);
    let range = ctx.range(rest, most)?;
    Ok(ctx.shape_of(range)?[0].clone())
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
