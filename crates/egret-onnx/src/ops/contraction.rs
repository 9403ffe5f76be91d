//! Matrix products and convolutions.

use super::bytes;
use super::emit::{dim, held};
use super::geometry::{AutoPad, Window, at_least_none, auto_pad, half, positive, too_large};
use super::quantization::Requantize;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::geometry::Axis;
use egret_ir::{DType, Dim, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("CausalConvWithState", 27, causal_conv),
    onnx("Conv", 1, conv),
    onnx("ConvInteger", 10, conv_integer),
    onnx("ConvTranspose", 1, conv_transpose),
    onnx("Gemm", 1, gemm),
    onnx("MatMul", 1, matmul),
    onnx("MatMulInteger", 10, matmul_integer),
    onnx("QLinearConv", 10, qlinear_conv),
    onnx("QLinearMatMul", 10, qlinear_matmul),
];

type Emitted = Result<ValueId, ImportError>;

/// NumPy's matrix product: a vector on the left is a row, on the right a column, and its axis goes away.
pub(super) fn numpy_matmul(ctx: &mut NodeCtx, a: ValueId, b: ValueId) -> Emitted {
    let (row, column) = (ctx.rank(a)? == 1, ctx.rank(b)? == 1);
    let a = if row { ctx.unsqueeze(a, 0)? } else { a };
    let b = if column { ctx.unsqueeze(b, 1)? } else { b };
    let y = ctx.emit(Op::Matmul, attrs! {}, &[a, b])?;
    let rank = ctx.rank(y)?;
    match (row, column) {
        (false, false) => Ok(y),
        (true, false) => ctx.squeeze(y, &[rank - 2]),
        (false, true) => ctx.squeeze(y, &[rank - 1]),
        (true, true) => ctx.squeeze(y, &[rank - 2, rank - 1]),
    }
}

fn matmul(ctx: &mut NodeCtx) -> OpResult {
    let (a, b) = (ctx.input(0)?, ctx.input(1)?);
    Ok(vec![numpy_matmul(ctx, a, b)?])
}

/// x times a float attribute; nothing is added for 1.
fn scaled(ctx: &mut NodeCtx, x: ValueId, factor: f32) -> Emitted {
    if factor == 1.0 { Ok(x) } else { ctx.with_scalar(Op::Mul, x, factor.into()) }
}

pub(super) fn gemm(ctx: &mut NodeCtx) -> OpResult {
    let (alpha, beta) = (ctx.float("alpha", 1.0)?, ctx.float("beta", 1.0)?);
    let (ta, tb) = (ctx.flag("transA", false)?, ctx.flag("transB", false)?);
    if ctx.opset < 7 {
        ctx.take("broadcast");
    }
    let (mut a, mut b) = (ctx.input(0)?, ctx.input(1)?);
    if ctx.rank(a)? != 2 || ctx.rank(b)? != 2 {
        return Err(ImportError::invalid("Gemm multiplies matrices (rank 2) only"));
    }
    if ta {
        a = ctx.swap_last(a)?;
    }
    if tb {
        b = ctx.swap_last(b)?;
    }
    let product = ctx.emit(Op::Matmul, attrs! {}, &[a, b])?;
    let mut y = scaled(ctx, product, alpha)?;
    if let Some(c) = ctx.opt_input(2)
        && beta != 0.0
    {
        let c = scaled(ctx, c, beta)?;
        y = ctx.binary(Op::Add, y, c)?;
    }
    Ok(vec![y])
}

/// The kernel size, that of the filter, with which the attribute must agree; and the filter, of that size.
fn kernel_of(ctx: &mut NodeCtx, mut w: ValueId) -> Result<(Vec<Dim>, ValueId), ImportError> {
    let ty = ctx.tensor(w)?;
    if ty.rank() < 2 {
        return Err(ImportError::invalid(format!(
            "the filter of {} has the type {ty}, which has no channels",
            ctx.op_type
        )));
    }
    let mut kernel = ty.shape[2..].to_vec();
    let Some(given) = ctx.opt_ints("kernel_shape")? else { return Ok((kernel, w)) };
    let agrees = |(d, &given): (&Dim, &i64)| d.as_const().is_none_or(|d| d == given);
    if given.len() != kernel.len() || !kernel.iter().zip(&given).all(agrees) {
        return Err(ImportError::invalid(format!(
            "attribute `kernel_shape` is {given:?} but the filter has the type {ty}"
        )));
    }
    let mut holds = vec![];
    for (i, size) in kernel.iter_mut().enumerate().filter(|(_, d)| d.as_const().is_none()) {
        let wanted = dim(given[i]);
        holds.extend(held(&(size.clone() - wanted.clone()), 0));
        holds.extend(held(&(wanted.clone() - size.clone()), 0));
        w = ctx.narrow(w, 2 + i, dim(0), wanted.clone())?;
        *size = wanted;
    }
    Ok((kernel, ctx.fitting(w, &holds)?))
}

/// A convolution without bias of operands that may differ from the node's inputs in element type.
fn convolve(ctx: &mut NodeCtx, x: ValueId, w: ValueId) -> Emitted {
    let (kernel, w) = kernel_of(ctx, w)?;
    let shape = ctx.shape_of(x)?;
    if shape.len() != kernel.len() + 2 {
        return Err(ImportError::invalid(format!(
            "the image and the filter of {} differ in rank",
            ctx.op_type
        )));
    }
    let mut window = Window::read(ctx, &shape[2..], kernel, false)?;
    let dtype = ctx.dtype(x)?;
    let x = window.settle(ctx, x, |ctx| ctx.zero(dtype))?;
    let pads = window.const_pads(ctx)?;
    let groups = ctx.int("group", 1)?;
    let attrs = attrs! {
        strides: window.strides, dilations: window.dilations, pads: pads, groups: groups, layout: "channels_first"
    };
    ctx.emit(Op::Conv, attrs, &[x, w])
}

/// A vector with an entry a channel, in place for an image of a rank.
pub(super) fn per_channel(ctx: &mut NodeCtx, v: ValueId, rank: usize) -> Emitted {
    let shape = ctx.shape_of(v)?;
    let [channels] = shape.as_slice() else {
        return Err(ImportError::invalid(format!(
            "{} needs a vector with one entry a channel here",
            ctx.op_type
        )));
    };
    let mut shape = vec![channels.clone()];
    shape.extend(std::iter::repeat_n(dim(1), rank.saturating_sub(2)));
    ctx.reshape(v, shape)
}

fn add_bias(ctx: &mut NodeCtx, y: ValueId, bias: Option<ValueId>) -> Emitted {
    let Some(bias) = bias else { return Ok(y) };
    let rank = ctx.rank(y)?;
    let bias = per_channel(ctx, bias, rank)?;
    ctx.binary(Op::Add, y, bias)
}

pub(super) fn conv(ctx: &mut NodeCtx) -> OpResult {
    let (x, w) = (ctx.input(0)?, ctx.input(1)?);
    let y = convolve(ctx, x, w)?;
    let bias = ctx.opt_input(2);
    Ok(vec![add_bias(ctx, y, bias)?])
}

fn conv_transpose(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let (kernel, w) = {
        let w = ctx.input(1)?;
        kernel_of(ctx, w)?
    };
    let n = kernel.len();
    let shape = ctx.shape_of(x)?;
    if shape.len() != n + 2 {
        return Err(ImportError::invalid("the image and the filter of ConvTranspose differ in rank"));
    }
    let strides = positive(ctx, "strides", n)?;
    let dilations = positive(ctx, "dilations", n)?;
    let extra = ctx.ints_or("output_padding", n, 0)?;
    let groups = ctx.int("group", 1)?;
    let auto = auto_pad(ctx)?;
    let mut pads = ctx.ints_or("pads", 2 * n, 0)?;
    // The attribute may have the batch and channel axes in front.
    let output = ctx.opt_ints("output_shape")?.map(|o| o[o.len().saturating_sub(n)..].to_vec());
    if output.as_ref().is_some_and(|o| o.len() != n) {
        return Err(ctx.bad_attr("output_shape", format!("{output:?}")));
    }
    let same = matches!(auto, AutoPad::SameUpper | AutoPad::SameLower);
    // The low ends of axes that free dims pad, by which number (a negative one adds zeros), and how many elements are wanted.
    let mut ends: Vec<(usize, Dim, Dim)> = vec![];
    let is_upper = auto == AutoPad::SameUpper;
    if output.is_some() || same {
        for i in 0..n {
            let (stride, dilation) = (strides[i], dilations[i]);
            let kernel = kernel[i].clone();
            let axis = Axis { kernel, stride, dilation, low: 0, high: extra[i].saturating_neg() };
            let size = &shape[2 + i];
            let (there, wanted) = match &output {
                Some(out) => (axis.image(size), dim(out[i])),
                // n * stride wanted, (n - 1) * stride + span there.
                None => (axis.image(&dim(1)), dim(stride)),
            };
            let total = there.ok_or_else(|| too_large(ctx))? - wanted;
            let Some(total) = total.as_const() else {
                (pads[i], pads[n + i]) = (0, 0);
                let wanted = output.as_ref().map_or_else(|| size.clone() * dim(stride), |out| dim(out[i]));
                ends.push((2 + i, total, wanted));
                continue;
            };
            let half = total.div_euclid(2);
            (pads[i], pads[n + i]) = if is_upper { (half, total - half) } else { (total - half, half) };
        }
    } else if auto == AutoPad::Valid {
        pads = vec![0; 2 * n];
    }
    let attrs = attrs! {
        strides: strides, dilations: dilations, pads: pads, output_padding: extra, groups: groups, layout: "channels_first"
    };
    let mut y = ctx.emit(Op::ConvTranspose, attrs, &[x, w])?;
    if !ends.is_empty() {
        let (mut low, mut high) = (vec![dim(0); n + 2], vec![dim(0); n + 2]);
        for (axis, total, _) in &ends {
            let missing = at_least_none(&(dim(0) - total.clone()));
            (low[*axis], high[*axis]) = (half(&missing, is_upper), half(&missing, !is_upper));
        }
        y = ctx.pad(y, low, high, "constant", None)?;
        for (axis, total, wanted) in ends {
            y = ctx.narrow(y, axis, half(&at_least_none(&total), !is_upper), wanted)?;
        }
    }
    let bias = ctx.opt_input(2);
    Ok(vec![add_bias(ctx, y, bias)?])
}

/// An integer tensor as i32 less its zero point, which `place` brings into place for broadcasting.
fn centred(
    ctx: &mut NodeCtx,
    x: ValueId,
    zero: Option<ValueId>,
    place: impl FnOnce(&mut NodeCtx, ValueId) -> Emitted,
) -> Emitted {
    // A zero point of zero, the usual one of signed weights, changes nothing.
    let changes = |zero: &ValueId| ctx.as_const(*zero).is_none_or(|z| z.bytes().iter().any(|&b| b != 0));
    let Some(zero) = zero.filter(changes) else { return ctx.cast(x, DType::I32) };
    let zero = ctx.cast(zero, DType::I32)?;
    let zero = if ctx.rank(zero)? == 0 { zero } else { place(ctx, zero)? };
    if let (Some(weights), Some(zero)) = (ctx.as_const(x), ctx.as_const(zero))
        && let Some(less) = bytes::less(&weights, &zero)
    {
        let less = ctx.builder.constant(less);
        return ctx.cast(less, DType::I32);
    }
    let x = ctx.cast(x, DType::I32)?;
    ctx.binary(Op::Sub, x, zero)
}

/// A parameter with an entry an output channel in place for a filter [O, ..].
fn per_filter(ctx: &mut NodeCtx, v: ValueId, rank: usize) -> Emitted {
    let mut shape = ctx.shape_of(v)?;
    shape.extend(std::iter::repeat_n(dim(1), rank.saturating_sub(1)));
    ctx.reshape(v, shape)
}

/// The i32 convolution of an image and a filter less their zero points.
fn integer_conv(
    ctx: &mut NodeCtx,
    [x, w]: [ValueId; 2],
    [x_zero, w_zero]: [Option<ValueId>; 2],
) -> Emitted {
    let rank = ctx.rank(w)?;
    let x = centred(ctx, x, x_zero, |c, z| c.single(z))?;
    let w = centred(ctx, w, w_zero, |c, z| per_filter(c, z, rank))?;
    convolve(ctx, x, w)
}

fn conv_integer(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?];
    let zeros = [ctx.opt_input(2), ctx.opt_input(3)];
    Ok(vec![integer_conv(ctx, operands, zeros)?])
}

/// A parameter of the left operand, one a row, as a column; higher ranks are in place already.
pub(super) fn per_row(ctx: &mut NodeCtx, v: ValueId) -> Emitted {
    if ctx.rank(v)? == 1 { ctx.unsqueeze(v, 1) } else { Ok(v) }
}

/// The i32 product of matrices less their zero points.
pub(super) fn integer_matmul(
    ctx: &mut NodeCtx,
    [a, b]: [ValueId; 2],
    [a_zero, b_zero]: [Option<ValueId>; 2],
) -> Emitted {
    let a = centred(ctx, a, a_zero, per_row)?;
    let b = centred(ctx, b, b_zero, |_, z| Ok(z))?;
    numpy_matmul(ctx, a, b)
}

fn matmul_integer(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(1)?];
    let zeros = [ctx.opt_input(2), ctx.opt_input(3)];
    Ok(vec![integer_matmul(ctx, operands, zeros)?])
}

fn qlinear_matmul(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(3)?];
    let zeros = [Some(ctx.input(2)?), Some(ctx.input(5)?)];
    let (a_scale, b_scale) = (ctx.input(1)?, ctx.input(4)?);
    let out = Requantize { scale: ctx.input(6)?, zero: ctx.input(7)? };
    let sum = integer_matmul(ctx, operands, zeros)?;
    let (a_scale, b_scale) = (ctx.cast(a_scale, DType::F32)?, ctx.cast(b_scale, DType::F32)?);
    let a_scale = per_row(ctx, a_scale)?;
    let scale = ctx.binary(Op::Mul, a_scale, b_scale)?;
    Ok(vec![out.apply(ctx, sum, scale)?])
}

pub(super) fn qlinear_conv(ctx: &mut NodeCtx) -> OpResult {
    let operands = [ctx.input(0)?, ctx.input(3)?];
    let zeros = [Some(ctx.input(2)?), Some(ctx.input(5)?)];
    let (x_scale, w_scale) = (ctx.input(1)?, ctx.input(4)?);
    let out = Requantize { scale: ctx.input(6)?, zero: ctx.input(7)? };
    let sum = integer_conv(ctx, operands, zeros)?;
    let bias = ctx.opt_input(8);
    let sum = add_bias(ctx, sum, bias)?;
    let rank = ctx.rank(sum)?;
    let x_scale = ctx.single(x_scale)?;
    let w_scale = if ctx.rank(w_scale)? == 1 { per_channel(ctx, w_scale, rank)? } else { w_scale };
    let scale = ctx.binary(Op::Mul, x_scale, w_scale)?;
    Ok(vec![out.apply(ctx, sum, scale)?])
}

/// A depthwise convolution along time that sees the past only, with the end of its input as state for the next call.
fn causal_conv(ctx: &mut NodeCtx) -> OpResult {
    let activation = ctx.str("activation", "none")?;
    let (x, w, bias, past) = (ctx.input(0)?, ctx.input(1)?, ctx.opt_input(2), ctx.opt_input(3));
    let (x_ty, w_ty) = (ctx.tensor(x)?, ctx.tensor(w)?);
    let ([batch, channels, _], [_, _, kernel]) = (x_ty.shape.as_slice(), w_ty.shape.as_slice()) else {
        return Err(ImportError::invalid("CausalConvWithState needs an input and a filter of rank 3"));
    };
    let before = kernel.clone() - dim(1);
    let state = [batch.clone(), channels.clone(), before.clone()];
    let past = match past {
        Some(past) => past,
        None => {
            let zero = ctx.zero(x_ty.dtype);
            ctx.broadcast(zero, state.to_vec())?
        }
    };
    let padded = ctx.concat(&[past, x], 2)?;
    let mut y = match channels.as_const() {
        Some(groups) => {
            let attrs = attrs! {
                strides: vec![1i64], dilations: vec![1i64], pads: vec![0i64, 0], groups: groups, layout: "channels_first"
            };
            ctx.emit(Op::Conv, attrs, &[padded, w])?
        }
        None => by_windows(ctx, padded, w, channels)?,
    };
    y = add_bias(ctx, y, bias)?;
    match activation.as_str() {
        "none" => {}
        "silu" | "swish" => y = ctx.unary(Op::Silu, y)?,
        other => return Err(ctx.bad_attr("activation", format!("{other:?}"))),
    }
    let length: Dim = ctx.shape_of(padded)?[2].clone();
    let present = ctx.narrow(padded, 2, length - before.clone(), before)?;
    Ok(vec![y, present])
}

/// A depthwise convolution along the last axis of an image of rank 3 whose channels are free: each channel's windows, which are gathered as
/// rows, by its filter.
fn by_windows(ctx: &mut NodeCtx, x: ValueId, w: ValueId, channels: &Dim) -> Emitted {
    let (length, kernel) = (ctx.shape_of(x)?[2].clone(), ctx.shape_of(w)?[2].clone());
    let starts = ctx.iota_along(DType::I64, length - kernel.clone() + dim(1), 0, 2)?;
    let taps = ctx.iota_along(DType::I64, kernel.clone(), 1, 2)?;
    let places = ctx.binary(Op::Add, starts, taps)?;
    let windows = ctx.emit(Op::Gather, attrs! { axis: 2i64 }, &[x, places])?;
    let filters = ctx.reshape(w, vec![channels.clone(), kernel, dim(1)])?;
    let y = ctx.emit(Op::Matmul, attrs! {}, &[windows, filters])?;
    ctx.squeeze(y, &[3])
}
