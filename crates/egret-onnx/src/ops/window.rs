//! Windows that slide over images: pools, their inverses, Col2Im, and pools over whole images.

use super::activation::{in_f32, in_f32_of};
use super::emit::{dim, held, product};
use super::geometry::{Window, at_least_none, too_large};
use super::reduction::mean;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{Attr, DType, Dim, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("AveragePool", 1, average_pool),
    onnx("Col2Im", 18, col2im),
    onnx("GlobalAveragePool", 1, |c| {
        in_f32(c, |c, x| spatial_axes(c, x).and_then(|axes| mean(c, x, &axes, true)))
    }),
    onnx("GlobalLpPool", 1, global_lp_pool),
    onnx("GlobalMaxPool", 1, |c| {
        let x = c.input(0)?;
        let axes = spatial_axes(c, x)?;
        Ok(vec![c.reduce("max", x, axes, true)?])
    }),
    onnx("LpPool", 1, lp_pool),
    onnx("MaxPool", 1, max_pool),
    onnx("MaxUnpool", 9, max_unpool),
];

type Emitted = Result<ValueId, ImportError>;

/// The axes after batch and channels.
pub(super) fn spatial_axes(ctx: &NodeCtx, x: ValueId) -> Result<Vec<i64>, ImportError> {
    let rank = ctx.rank(x)?;
    if rank < 2 {
        return Err(ImportError::invalid(format!(
            "{} needs an image: batch, channels and spatial axes",
            ctx.op_type
        )));
    }
    Ok((2..rank as i64).collect())
}

fn read_pool(ctx: &mut NodeCtx, x: ValueId) -> Result<Window, ImportError> {
    spatial_axes(ctx, x)?;
    let shape = ctx.shape_of(x)?;
    Window::read_pool(ctx, &shape[2..])
}

fn max_pool(ctx: &mut NodeCtx) -> OpResult {
    let column_major = ctx.flag("storage_order", false)?;
    let x = ctx.input(0)?;
    let mut window = read_pool(ctx, x)?;
    if ctx.wanted.get(1) != Some(&true) {
        let lowest = lowest(ctx.dtype(x)?);
        let x = window.settle(ctx, x, |ctx| ctx.builder.constant(lowest))?;
        let attrs = window.pool_attrs_of(ctx, "max")?;
        return Ok(vec![ctx.emit(Op::Pool, attrs, &[x])?]);
    }
    if window.is_settled() {
        let mut attrs = window.pool_attrs(ctx)?;
        attrs.0.insert("column_major", Attr::from(column_major));
        return ctx.emit_node(Op::MaxPoolIndices, attrs, &[Some(x)], vec![]);
    }
    // Places within the image that is cropped and padded, each looked up in the places of the whole one.
    let (dtype, shape) = (ctx.dtype(x)?, ctx.shape_of(x)?);
    // Where there are no elements no window has a place.
    window.holds.extend(shape[2..].iter().filter_map(|d| held(d, 1)));
    let whole = places(ctx, x, column_major)?;
    let whole = window.clone().settle(ctx, whole, |ctx| ctx.zero(DType::I64))?;
    let pads = window.is_free();
    let mut settled = window.clone();
    let image = settled.settle(ctx, x, |ctx| ctx.builder.constant(lowest(dtype)))?;
    let mut attrs = settled.pool_attrs(ctx)?;
    attrs.0.insert("column_major", Attr::from(false));
    let pooled = |ctx: &mut NodeCtx, x: ValueId| {
        ctx.emit_node(Op::MaxPoolIndices, attrs.clone(), &[Some(x)], vec![])
    };
    let mut results = pooled(ctx, image)?;
    if pads {
        // Where no element is above a pad, the place is that of the window's first element instead.
        let one = ctx.scalar(dtype, 1.0)?;
        let ones = ctx.broadcast(one, shape)?;
        let inside = window.settle(ctx, ones, |ctx| ctx.zero(dtype))?;
        let first = pooled(ctx, inside)?[1];
        let inside = ctx.cast(inside, DType::Bool)?;
        let is_inside = looked_up(ctx, inside, results[1])?;
        results[1] = ctx.select(is_inside, results[1], first)?;
    }
    results[1] = looked_up(ctx, whole, results[1])?;
    Ok(results)
}

/// The elements of a tensor at places in memory.
fn looked_up(ctx: &mut NodeCtx, x: ValueId, places: ValueId) -> Emitted {
    let count = product(&ctx.shape_of(x)?);
    let flat = ctx.reshape(x, vec![count])?;
    ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[flat, places])
}

/// The least number of a type, as a scalar: what no maximum is below.
fn lowest(dtype: DType) -> Tensor {
    let least = match dtype {
        d if d.is_float() => f64::NEG_INFINITY,
        DType::I2 | DType::I4 | DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            -(2f64.powi(crate::raw::bits(dtype) as i32 - 1))
        }
        _ => 0.0,
    };
    Tensor::from_f64s(dtype, &[], vec![least])
}

/// For each element of an image its place in memory, an i64; with spatial axes in the opposite order if `column_major`.
fn places(ctx: &mut NodeCtx, x: ValueId, column_major: bool) -> Emitted {
    let mut shape = ctx.shape_of(x)?;
    let count = product(&shape);
    let all = ctx.iota_along(DType::I64, count, 0, 1)?;
    let mut perm: Vec<i64> = (0..shape.len() as i64).collect();
    if column_major {
        shape[2..].reverse();
        perm[2..].reverse();
    }
    let all = ctx.reshape(all, shape)?;
    ctx.transpose(all, perm)
}

fn average_pool(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let mut window = read_pool(ctx, x)?;
    let x = window.cropped(ctx, x)?;
    let include_pads = ctx.flag("count_include_pad", false)?;
    in_f32_of(ctx, x, |ctx, mut x| {
        if include_pads && window.pads.iter().any(|p| p.as_const() != Some(0)) {
            // Pads that count are elements like any other; the room of ceil mode still is not.
            let n = window.kernel.len();
            let sides = |pads: &[Dim]| [&[dim(0), dim(0)], pads].concat();
            let (low, high) = (sides(&window.pads[..n]), sides(&window.pads[n..]));
            x = ctx.pad(x, low, high, "constant", None)?;
            window.pads = vec![dim(0); 2 * n];
        }
        if !window.is_free() {
            let attrs = window.pool_attrs_of(ctx, "mean")?;
            return ctx.emit(Op::Pool, attrs, &[x]);
        }
        // Elements that are part of the image only to make room are zeros, and counted as none.
        let dtype = ctx.dtype(x)?;
        let one = ctx.scalar(dtype, 1.0)?;
        let shape = ctx.shape_of(x)?;
        let ones = ctx.broadcast(one, [&[dim(1), dim(1)], &shape[2..]].concat())?;
        let counted = window.clone().settle(ctx, ones, |ctx| ctx.zero(dtype))?;
        let x = window.settle(ctx, x, |ctx| ctx.zero(dtype))?;
        let attrs = window.pool_attrs_of(ctx, "sum")?;
        let count = ctx.emit(Op::Pool, attrs.clone(), &[counted])?;
        let sum = ctx.emit(Op::Pool, attrs, &[x])?;
        ctx.binary(Op::Div, sum, count)
    })
}

/// |x| to the p.
fn magnitude_power(ctx: &mut NodeCtx, x: ValueId, p: f64) -> Emitted {
    if p == 2.0 {
        return ctx.binary(Op::Mul, x, x);
    }
    let magnitude = ctx.unary(Op::Abs, x)?;
    if p == 1.0 { Ok(magnitude) } else { ctx.with_scalar(Op::Pow, magnitude, p) }
}

/// The p-th root.
fn root(ctx: &mut NodeCtx, x: ValueId, p: f64) -> Emitted {
    match p {
        1.0 => Ok(x),
        2.0 => ctx.unary(Op::Sqrt, x),
        _ => ctx.with_scalar(Op::Pow, x, 1.0 / p),
    }
}

/// The attribute `p`, a FLOAT in opset 1.
fn order(ctx: &mut NodeCtx) -> Result<f64, ImportError> {
    match ctx.take("p") {
        None => Ok(2.0),
        Some(OnnxAttr::Int(p)) if p > 0 => Ok(p as f64),
        Some(OnnxAttr::Float(p)) if p > 0.0 => Ok(p.into()),
        Some(_) => {
            Err(ImportError::invalid(format!("attribute `p` of {} must be a positive number", ctx.op_type)))
        }
    }
}

fn lp_pool(ctx: &mut NodeCtx) -> OpResult {
    let p = order(ctx)?;
    let x = ctx.input(0)?;
    let mut window = read_pool(ctx, x)?;
    let dtype = ctx.dtype(x)?;
    let x = window.settle(ctx, x, |ctx| ctx.zero(dtype))?;
    in_f32_of(ctx, x, |ctx, x| {
        let powers = magnitude_power(ctx, x, p)?;
        let attrs = window.pool_attrs_of(ctx, "sum")?;
        let sum = ctx.emit(Op::Pool, attrs, &[powers])?;
        root(ctx, sum, p)
    })
}

fn global_lp_pool(ctx: &mut NodeCtx) -> OpResult {
    let p = order(ctx)?;
    in_f32(ctx, |ctx, x| {
        let axes = spatial_axes(ctx, x)?;
        let powers = magnitude_power(ctx, x, p)?;
        let sum = ctx.reduce("sum", powers, axes, true)?;
        root(ctx, sum, p)
    })
}

fn max_unpool(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let window = read_pool(ctx, x)?;
    let n = window.kernel.len();
    let mut shape = ctx.shape_of(x)?;
    for i in 0..n {
        let axis = window.axis(ctx, i)?;
        shape[2 + i] = axis.image(&shape[2 + i]).ok_or_else(|| too_large(ctx))?;
    }
    let dtype = ctx.dtype(x)?;
    let zero = ctx.zero(dtype);
    let flat = ctx.broadcast(zero, vec![product(&shape)])?;
    let count = vec![product(&ctx.shape_of(x)?)];
    let (places, values) = (ctx.reshape(indices, count.clone())?, ctx.reshape(x, count)?);
    let filled =
        ctx.emit(Op::ScatterElements, attrs! { axis: 0i64, reduction: "none" }, &[flat, places, values])?;
    let y = ctx.reshape(filled, shape.clone())?;
    let Some(wanted) = ctx.opt_input(2) else { return Ok(vec![y]) };
    // A larger output has the rest as zeros at the high ends.
    let wanted = ctx.need_dims(wanted, "the output shape of MaxUnpool")?;
    if wanted.len() != shape.len() {
        return Err(ImportError::invalid("the output shape of MaxUnpool has another rank than its input"));
    }
    let more = |(w, s): (&Dim, Dim)| match w.clone() - s {
        more if more.as_const().is_some() => more,
        more => at_least_none(&more),
    };
    let high = wanted.iter().zip(shape).map(more).collect();
    let low = vec![dim(0); n + 2];
    let mut y = ctx.pad(y, low, high, "constant", None)?;
    // Of an image of free dims only a run knows whether it is the larger one.
    for (i, size) in wanted.into_iter().enumerate() {
        y = ctx.narrow(y, i, dim(0), size)?;
    }
    Ok(vec![y])
}

fn col2im(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let image = ctx.need_ints(ctx.input(1)?, "the image shape of Col2Im")?;
    let block = ctx.need_ints(ctx.input(2)?, "the block shape of Col2Im")?;
    if image.len() != block.len() {
        return Err(ImportError::invalid("the image and the block of Col2Im differ in rank"));
    }
    let attrs = attrs! {
        strides: ctx.ints_or("strides", image.len(), 1)?,
        dilations: ctx.ints_or("dilations", image.len(), 1)?,
        pads: ctx.ints_or("pads", 2 * image.len(), 0)?,
        image_shape: image,
        block_shape: block,
    };
    Ok(vec![ctx.emit(Op::Col2im, attrs, &[x])?])
}
