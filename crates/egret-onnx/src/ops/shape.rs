//! Operators that ask for, change or make shapes: Shape, Reshape, Squeeze, ConstantOfShape, Range, OneHot, ...

use super::emit::{dim, product, zero_tensor};
use super::{OWN_DOMAIN, OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::holding::Holding;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ConstantOfShape", 9, constant_of_shape),
    onnx("EyeLike", 9, eye_like),
    onnx("Flatten", 1, flatten),
    onnx("OneHot", 9, one_hot),
    onnx("Range", 11, super::range::range),
    onnx("Reshape", 1, super::reshape::reshape),
    onnx("Shape", 1, shape),
    onnx("Size", 1, size),
    onnx("Squeeze", 1, squeeze),
    onnx("Trilu", 14, trilu),
    onnx("Unsqueeze", 1, unsqueeze),
    OnnxOp { domain: OWN_DOMAIN, name: "Broadcast", since: 1, import: broadcast_shape },
    OnnxOp { domain: OWN_DOMAIN, name: "Require", since: 1, import: required },
];

/// What the conditions of a graph are exported as: its outputs go through it.
fn required(ctx: &mut NodeCtx) -> OpResult {
    let (x, conditions) = (ctx.input(0)?, ctx.input(1)?);
    let dims = ctx.told_dims(conditions, "what Require holds runs to")?;
    ctx.holding.push(Holding::Dims(dims));
    Ok(vec![x])
}

/// What a dim is exported as that two dims broadcast to: it has no value where they do not, whatever is made of it.
fn broadcast_shape(ctx: &mut NodeCtx) -> OpResult {
    let what = "a shape that Broadcast takes";
    let (a, b) = (ctx.need_dims(ctx.input(0)?, what)?, ctx.need_dims(ctx.input(1)?, what)?);
    if a.len() != b.len() {
        return Err(ImportError::invalid(format!(
            "Broadcast takes shapes of one rank, not {} and {}",
            a.len(),
            b.len()
        )));
    }
    let both: Vec<Dim> = a.iter().zip(&b).map(|(a, b)| a.op(DimOp::Broadcast, b)).collect();
    let known = |((a, b), both): &((&Dim, &Dim), &Dim)| {
        a.as_const().is_some() && b.as_const().is_some() && both.as_const().is_none()
    };
    if let Some(((a, b), _)) = a.iter().zip(&b).zip(&both).find(known) {
        return Err(ImportError::invalid(format!("sizes of {a} and {b} do not broadcast")));
    }
    let zero = ctx.builder.constant(Tensor::from_bools(&[], &[false]));
    let x = ctx.broadcast(zero, both)?;
    Ok(vec![ctx.dims_value(x)?])
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
