//! Signals: DFT, STFT, windows and mel weights. Transforms become products with constant matrices of cosines and sines.

use super::emit::{const_dim, dim, is_negative, product};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, DimOp, Op, Tensor, ValueId, attrs};
use std::f64::consts::PI;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("BlackmanWindow", 17, blackman_window),
    onnx("DFT", 17, dft),
    onnx("HammingWindow", 17, hamming_window),
    onnx("HannWindow", 17, hann_window),
    onnx("MelWeightMatrix", 17, mel_weight_matrix),
    onnx("STFT", 17, stft),
];

/// Larger matrices of cosines and sines are refused: the transform would need an FFT.
const MAX_MATRIX: i64 = 1 << 24;

/// A constant of f64s in the element type that the operator wants.
fn constant(
    ctx: &mut NodeCtx,
    shape: &[usize],
    values: Vec<f64>,
    to: DType,
) -> Result<ValueId, ImportError> {
    let t = match to {
        DType::F32 => Tensor::new(shape, values.iter().map(|&v| v as f32).collect::<Vec<f32>>()),
        _ => Tensor::new(shape, values),
    };
    let v = ctx.builder.constant(t);
    ctx.cast(v, to)
}

// ---- transforms ----

/// A transform of `from` points into `to` points.
struct Transform {
    /// Points of the input that take part.
    from: i64,
    /// Points of the result.
    to: i64,
    /// Points of the whole circle.
    length: i64,
    inverse: bool,
    /// Whether the input is the first half of a spectrum, and the result real.
    half_spectrum: bool,
}

impl Transform {
    /// The matrix [from * inputs, to * outputs], the real and the imaginary part of a point next to each other.
    fn matrix(&self, inputs: i64) -> Vec<f64> {
        let outputs = if self.half_spectrum { 1 } else { 2 };
        let mut m = Vec::with_capacity((self.from * inputs * self.to * outputs) as usize);
        let sign = if self.inverse { 1.0 } else { -1.0 };
        for n in 0..self.from {
            // Points of half a spectrum that have a mirror image count for it too.
            let mirrored = self.half_spectrum && n != 0 && 2 * n != self.length;
            let weight = if self.inverse { 1.0 / self.length as f64 } else { 1.0 }
                * if mirrored { 2.0 } else { 1.0 };
            for part in 0..inputs {
                for k in 0..self.to {
                    // Reduced first: the angle is exact however long the signal is.
                    let turn = (n * k) % self.length;
                    let angle = sign * 2.0 * PI * turn as f64 / self.length as f64;
                    let (re, im) = (weight * angle.cos(), weight * angle.sin());
                    // (a + ib) (re + i im) = (a re - b im) + i (a im + b re)
                    m.push(if part == 0 { re } else { -im });
                    if outputs == 2 {
                        m.push(if part == 0 { im } else { re });
                    }
                }
            }
        }
        m
    }
}

/// Transform x [.., parts] along an axis, which has `t.from` points.
fn transform(ctx: &mut NodeCtx, x: ValueId, axis: usize, t: &Transform) -> Result<ValueId, ImportError> {
    let ty = ctx.tensor(x)?;
    let rank = ty.rank();
    let inputs = const_dim(ctx, &ty.shape[rank - 1])?;
    let outputs = if t.half_spectrum { 1 } else { 2 };
    let size = [t.from, inputs, t.to, outputs]
        .into_iter()
        .try_fold(1i64, i64::checked_mul)
        .filter(|&n| n <= MAX_MATRIX);
    if !(1..=2).contains(&inputs) || t.from < 1 || t.to < 1 {
        return Err(ImportError::invalid(format!(
            "{} of {} points with {inputs} parts",
            ctx.op_type, t.from
        )));
    }
    if size.is_none() {
        return Err(ImportError::unsupported(format!(
            "{} of {} points: too long without an FFT",
            ctx.op_type, t.from
        )));
    }
    let shape = [(t.from * inputs) as usize, (t.to * outputs) as usize];
    let matrix = constant(ctx, &shape, t.matrix(inputs), ty.dtype)?;

    let others: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).collect();
    let perm: Vec<i64> = others.iter().copied().chain([axis, rank - 1]).map(|a| a as i64).collect();
    let kept: Vec<_> = others.iter().map(|&a| ty.shape[a].clone()).collect();
    let x = if axis + 2 == rank { x } else { ctx.transpose(x, perm.clone())? };
    let x = ctx.reshape(x, vec![product(&kept), dim(t.from * inputs)])?;
    let y = ctx.binary(Op::Matmul, x, matrix)?;
    let y = ctx.reshape_to(y, kept.into_iter().chain([dim(t.to), dim(outputs)]))?;
    if axis + 2 == rank {
        return Ok(y);
    }
    let mut back = vec![0i64; rank];
    for (i, &p) in perm.iter().enumerate() {
        back[p as usize] = i as i64;
    }
    ctx.transpose(y, back)
}

fn dft(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let shape = ctx.shape_of(x)?;
    let rank = shape.len();
    let (inverse, onesided) = (ctx.flag("inverse", false)?, ctx.flag("onesided", false)?);
    let axis = if ctx.opset < 20 {
        ctx.int("axis", 1)?
    } else {
        ctx.opt_input(2).map(|v| ctx.need_int(v, "the axis of DFT")).transpose()?.unwrap_or(-2)
    };
    let axis = ctx.axis(axis, rank)?;
    if axis + 1 == rank {
        return Err(ImportError::invalid("DFT along the axis of the real and imaginary parts"));
    }
    let points = const_dim(ctx, &shape[axis])?;
    let length = match ctx.opt_input(1) {
        Some(v) => ctx.need_int(v, "the length of DFT")?,
        None if inverse && onesided => 2 * (points - 1),
        None => points,
    };
    if !(1..=1 << 24).contains(&length) {
        return Err(ImportError::invalid(format!("DFT of length {length}")));
    }
    let half = length / 2 + 1;
    let half_spectrum = inverse && onesided;
    let from = if half_spectrum { half } else { length };
    let to = if onesided && !inverse { half } else { length };
    // Points beyond the signal are zeros; they are left out instead.
    let used = points.min(from);
    let x = ctx.narrow(x, axis, dim(0), dim(used))?;
    Ok(vec![transform(ctx, x, axis, &Transform { from: used, to, length, inverse, half_spectrum })?])
}

fn stft(ctx: &mut NodeCtx) -> OpResult {
    let mut x = ctx.input(0)?;
    if ctx.rank(x)? == 2 {
        x = ctx.unsqueeze(x, 2)?;
    }
    let shape = ctx.shape_of(x)?;
    let [_, length, _] = shape.as_slice() else {
        return Err(ImportError::invalid(format!("STFT takes signals of rank 3, not {}", shape.len())));
    };
    let step = ctx.need_int(ctx.input(1)?, "the frame step of STFT")?;
    let window = ctx.opt_input(2);
    let frame = match (ctx.opt_input(3), window) {
        (Some(v), _) => ctx.need_int(v, "the frame length of STFT")?,
        (None, Some(w)) => const_dim(ctx, &product(&ctx.shape_of(w)?))?,
        (None, None) => const_dim(ctx, length)?,
    };
    let onesided = ctx.flag("onesided", true)?;
    if step < 1 || frame < 1 || is_negative(&(length.clone() - dim(frame))) {
        return Err(ImportError::invalid(format!(
            "STFT with frames of {frame} every {step} in a signal of {length}"
        )));
    }
    // A symbolic signal is taken to hold a frame.
    let frames = (length.clone() - dim(frame)).op(DimOp::FloorDiv, &dim(step)) + dim(1);
    let starts = ctx.iota_along(DType::I64, frames, 0, 2)?;
    let starts = ctx.with_scalar(Op::Mul, starts, step as f64)?;
    let offsets = ctx.iota_along(DType::I64, dim(frame), 1, 2)?;
    let places = ctx.binary(Op::Add, starts, offsets)?;
    let mut x = ctx.emit(Op::Gather, attrs! { axis: 1i64 }, &[x, places])?;
    if let Some(window) = window {
        let window = ctx.reshape(window, vec![dim(frame), dim(1)])?;
        x = ctx.binary(Op::Mul, x, window)?;
    }
    let to = if onesided { frame / 2 + 1 } else { frame };
    Ok(vec![transform(
        ctx,
        x,
        2,
        &Transform { from: frame, to, length: frame, inverse: false, half_spectrum: false },
    )?])
}

// ---- windows ----

/// A window of the size in input 0: `f` of each place, in turns of a circle.
fn window(ctx: &mut NodeCtx, f: fn(f64) -> f64) -> OpResult {
    let size = ctx.need_int(ctx.input(0)?, "the size of a window")?;
    let periodic = ctx.flag("periodic", true)?;
    let to = ctx.opt_dtype("output_datatype")?.unwrap_or(DType::F32);
    if !(0..=MAX_MATRIX).contains(&size) {
        return Err(ImportError::invalid(format!("{} of size {size}", ctx.op_type)));
    }
    let whole = if periodic { size } else { (size - 1).max(1) } as f64;
    let values = (0..size).map(|n| f(n as f64 / whole)).collect();
    Ok(vec![constant(ctx, &[size as usize], values, to)?])
}

fn hann_window(ctx: &mut NodeCtx) -> OpResult {
    window(ctx, |turn| (PI * turn).sin().powi(2))
}

fn hamming_window(ctx: &mut NodeCtx) -> OpResult {
    let hamming = |turn: f64| 25.0 / 46.0 - 21.0 / 46.0 * (2.0 * PI * turn).cos();
    window(ctx, hamming)
}

fn blackman_window(ctx: &mut NodeCtx) -> OpResult {
    window(ctx, |turn| 0.42 - 0.5 * (2.0 * PI * turn).cos() + 0.08 * (4.0 * PI * turn).cos())
}

fn mel_weight_matrix(ctx: &mut NodeCtx) -> OpResult {
    let bands = ctx.need_int(ctx.input(0)?, "the number of mel bands")?;
    let length = ctx.need_int(ctx.input(1)?, "the DFT length of MelWeightMatrix")?;
    let rate = ctx.need_int(ctx.input(2)?, "the sample rate of MelWeightMatrix")?;
    let mut edge = |i: usize| -> Result<f64, ImportError> {
        let v = ctx.input(i)?;
        let edges = ctx.need_floats(v, "an edge frequency of MelWeightMatrix")?;
        edges
            .first()
            .copied()
            .ok_or_else(|| ImportError::invalid("an edge frequency of MelWeightMatrix is empty"))
    };
    let (low, high) = (edge(3)?, edge(4)?);
    let to = ctx.opt_dtype("output_datatype")?.unwrap_or(DType::F32);
    let small = (0..=1 << 20).contains(&bands)
        && (0..=1 << 20).contains(&length)
        && (length / 2 + 1) * bands <= MAX_MATRIX;
    if !small || rate < 1 {
        return Err(ImportError::invalid(format!(
            "MelWeightMatrix of {bands} bands, length {length}, rate {rate}"
        )));
    }
    let rows = length / 2 + 1;
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (bands + 2) as f64;
    // The bin of the spectrum in which each edge of a band lies.
    let bin = |i: i64| {
        let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * 10f64.ln()).exp_m1();
        ((length + 1) as f64 * hertz / rate as f64).floor() as i64
    };
    if let Some(bad) = (0..bands + 2).map(bin).find(|b| !(0..=length).contains(b)) {
        return Err(ImportError::invalid(format!(
            "MelWeightMatrix: an edge of a band lies in bin {bad}, outside the spectrum"
        )));
    }
    let mut weights = vec![0f64; (rows * bands) as usize];
    for band in 0..bands {
        let (left, center, right) = (bin(band), bin(band + 1), bin(band + 2));
        let mut put = |row: i64, weight: f64| {
            if (0..rows).contains(&row) {
                weights[(row * bands + band) as usize] = weight;
            }
        };
        if center == left {
            put(center, 1.0);
        }
        for row in left..=center {
            if center > left {
                put(row, (row - left) as f64 / (center - left) as f64);
            }
        }
        for row in center..right {
            put(row, (right - row) as f64 / (right - center) as f64);
        }
    }
    Ok(vec![constant(ctx, &[rows as usize, bands as usize], weights, to)?])
}
