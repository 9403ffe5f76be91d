//! Operators that read or write at computed places: Gather, Scatter, TopK, NonMaxSuppression, RoiAlign, ...

use super::emit::{dim, product};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("DeformConv", 19, deform_conv),
    onnx("Det", 11, det),
    onnx("Gather", 1, gather),
    onnx("GatherElements", 11, gather_elements),
    onnx("GatherND", 11, gather_nd),
    onnx("NonMaxSuppression", 10, non_max_suppression),
    onnx("RoiAlign", 10, roi_align),
    onnx("Scatter", 9, scatter_elements),
    onnx("ScatterElements", 11, scatter_elements),
    onnx("ScatterND", 11, scatter_nd),
    onnx("TensorScatter", 24, tensor_scatter),
    onnx("TopK", 1, top_k),
];

/// The axis attribute, checked against the rank of x.
fn axis_of(ctx: &mut NodeCtx, x: ValueId, default: i64) -> Result<i64, ImportError> {
    let axis = ctx.int("axis", default)?;
    Ok(ctx.axis(axis, ctx.rank(x)?)? as i64)
}

fn gather(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, x, 0)?;
    Ok(vec![ctx.emit(Op::Gather, attrs! { axis: axis }, &[x, indices])?])
}

fn gather_elements(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, x, 0)?;
    Ok(vec![ctx.emit(Op::GatherElements, attrs! { axis: axis }, &[x, indices])?])
}

fn gather_nd(ctx: &mut NodeCtx) -> OpResult {
    let (x, indices) = (ctx.input(0)?, ctx.input(1)?);
    let batch = ctx.int("batch_dims", 0)?;
    Ok(vec![ctx.emit(Op::GatherNd, attrs! { batch_dims: batch }, &[x, indices])?])
}

/// How a scatter combines what meets at one place.
fn reduction(ctx: &mut NodeCtx) -> Result<String, ImportError> {
    let reduction = ctx.str("reduction", "none")?;
    if ["none", "add", "mul", "max", "min"].contains(&reduction.as_str()) {
        Ok(reduction)
    } else {
        Err(ctx.bad_attr("reduction", reduction))
    }
}

fn scatter_elements(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let axis = axis_of(ctx, operands[0], 0)?;
    let reduction = reduction(ctx)?;
    Ok(vec![ctx.emit(Op::ScatterElements, attrs! { axis: axis, reduction: reduction }, &operands)?])
}

fn scatter_nd(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let reduction = reduction(ctx)?;
    Ok(vec![ctx.emit(Op::ScatterNd, attrs! { reduction: reduction }, &operands)?])
}

/// The cache with `update` written from the batch's write index on, as a scatter along the axis of the sequence.
fn tensor_scatter(ctx: &mut NodeCtx) -> OpResult {
    let (cache, update) = (ctx.input(0)?, ctx.input(1)?);
    let axis = axis_of(ctx, cache, -2)? as usize;
    let circular = match ctx.str("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => return Err(ctx.bad_attr("mode", other)),
    };
    let shape = ctx.shape_of(update)?;
    if axis == 0 || axis >= shape.len() {
        return Err(ImportError::invalid(
            "TensorScatter's axis is the batch, or its inputs differ in rank",
        ));
    }
    let mut places = ctx.iota_along(DType::I64, shape[axis].clone(), axis, shape.len())?;
    if let Some(start) = ctx.opt_input(2) {
        let start = ctx.cast(start, DType::I64)?;
        let mut to = vec![dim(1); shape.len()];
        to[0] = shape[0].clone();
        let start = ctx.reshape(start, to)?;
        places = ctx.binary(Op::Add, places, start)?;
    }
    if circular {
        let dims = ctx.dims_value(cache)?;
        let length = ctx.pick(dims, 0, axis as i64)?;
        places = ctx.emit(Op::Mod, attrs! { fmod: false }, &[places, length])?;
    }
    let places = ctx.broadcast(places, shape)?;
    let attrs = attrs! { axis: axis as i64, reduction: "none" };
    Ok(vec![ctx.emit(Op::ScatterElements, attrs, &[cache, places, update])?])
}

fn top_k(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let axis = axis_of(ctx, x, -1)?;
    let k = if ctx.opset < 10 {
        dim(ctx.opt_int("k")?.ok_or_else(|| ImportError::invalid("TopK needs its attribute `k`"))?)
    } else {
        let k = ctx.need_dims(ctx.input(1)?, "the k of TopK")?;
        k.first().cloned().ok_or_else(|| ImportError::invalid("the k of TopK is empty"))?
    };
    let (largest, _any_order_will_do) =
        if ctx.opset < 11 { (true, true) } else { (ctx.flag("largest", true)?, ctx.flag("sorted", true)?) };
    ctx.emit_node(Op::TopK, attrs! { k: k, axis: axis, largest: largest }, &[Some(x)], vec![])
}

fn non_max_suppression(ctx: &mut NodeCtx) -> OpResult {
    let (boxes, scores) = (ctx.input(0)?, ctx.input(1)?);
    let center = ctx.flag("center_point_box", false)?;
    let mut operands = vec![Some(boxes), Some(scores)];
    // Left out: no box at all, any overlap is too much, every score counts.
    for (i, default) in
        [(2, Tensor::scalar(0i64)), (3, Tensor::scalar(0f32)), (4, Tensor::scalar(f32::NEG_INFINITY))]
    {
        let value = match ctx.opt_input(i) {
            Some(v) if ctx.tensor(v)?.const_len() != Some(0) => ctx.single(v)?,
            _ => ctx.builder.constant(default),
        };
        operands.push(Some(value));
    }
    ctx.emit_node(Op::Nms, attrs! { center_point_box: center }, &operands, vec![])
}

fn roi_align(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let mode = ctx.str("mode", "avg")?;
    if !["avg", "max"].contains(&mode.as_str()) {
        return Err(ctx.bad_attr("mode", mode));
    }
    let half_pixel = if ctx.opset < 16 {
        false
    } else {
        match ctx.str("coordinate_transformation_mode", "half_pixel")?.as_str() {
            "half_pixel" => true,
            "output_half_pixel" => false,
            other => return Err(ctx.bad_attr("coordinate_transformation_mode", other)),
        }
    };
    let attrs = attrs! {
        mode: mode,
        half_pixel: half_pixel,
        output_height: ctx.int("output_height", 1)?,
        output_width: ctx.int("output_width", 1)?,
        sampling_ratio: ctx.int("sampling_ratio", 0)?,
        spatial_scale: f64::from(ctx.float("spatial_scale", 1.0)?),
    };
    Ok(vec![ctx.emit(Op::RoiAlign, attrs, &operands)?])
}

fn deform_conv(ctx: &mut NodeCtx) -> OpResult {
    let [x, w, offset] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let kernel = ctx.shape_of(w)?;
    if kernel.len() != 4 {
        return Err(ImportError::unsupported(format!(
            "DeformConv over {} spatial axes; only 2 are done",
            kernel.len().saturating_sub(2)
        )));
    }
    if let Some(stated) = ctx.opt_ints("kernel_shape")?
        && !(stated.len() == 2
            && stated.iter().zip(&kernel[2..]).all(|(s, k)| k.as_const().is_none_or(|k| k == *s)))
    {
        return Err(ImportError::invalid(format!(
            "kernel_shape {stated:?} of DeformConv differs from the shape of its weights"
        )));
    }
    let attrs = attrs! {
        strides: ctx.ints_or("strides", 2, 1)?,
        dilations: ctx.ints_or("dilations", 2, 1)?,
        pads: ctx.ints_or("pads", 4, 0)?,
        groups: ctx.int("group", 1)?,
        offset_groups: ctx.int("offset_group", 1)?,
    };
    let operands = [Some(x), Some(w), Some(offset), ctx.opt_input(4)];
    let mut y = ctx.emit_node(Op::DeformConv, attrs, &operands, vec![])?[0];
    if let Some(bias) = ctx.opt_input(3) {
        let channels = ctx.shape_of(bias)?;
        let bias = ctx.reshape(bias, vec![product(&channels), dim(1), dim(1)])?;
        y = ctx.binary(Op::Add, y, bias)?;
    }
    Ok(vec![y])
}

fn det(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![ctx.unary(Op::Det, x)?])
}
