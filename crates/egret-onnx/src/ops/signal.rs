//! Signals: DFT, STFT, windows and mel weights. Transforms become products with matrices of cosines and sines, which are constants unless a
//! length is free.

use super::emit::{dim, held, product};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId, attrs};
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
    from: Dim,
    /// Points of the result.
    to: Dim,
    /// Points of the whole circle.
    length: Dim,
    inverse: bool,
    /// Whether the input is the first half of a spectrum, and the result real.
    half_spectrum: bool,
}

impl Transform {
    /// The parts of a point of the result: real, and imaginary.
    fn outputs(&self) -> i64 {
        if self.half_spectrum { 1 } else { 2 }
    }

    /// The matrix [from * inputs, to * outputs], the real and the imaginary part of a point next to each other, of these numbers of
    /// points: from, to, length.
    fn matrix(&self, [from, to, length]: [i64; 3], inputs: i64) -> Vec<f64> {
        let outputs = self.outputs();
        let mut m = Vec::with_capacity((from * inputs * to * outputs) as usize);
        let sign = if self.inverse { 1.0 } else { -1.0 };
        for n in 0..from {
            // Points of half a spectrum that have a mirror image count for it too.
            let mirrored = self.half_spectrum && n != 0 && 2 * n != length;
            let weight =
                if self.inverse { 1.0 / length as f64 } else { 1.0 } * if mirrored { 2.0 } else { 1.0 };
            for part in 0..inputs {
                for k in 0..to {
                    // Reduced first: the angle is exact however long the signal is.
                    let turn = (n * k) % length;
                    let angle = sign * 2.0 * PI * turn as f64 / length as f64;
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

    /// The same matrix where a run knows how many points there are.
    fn computed(&self, ctx: &mut NodeCtx, inputs: &Dim, to: DType) -> Result<ValueId, ImportError> {
        let (i64s, f64s) = (DType::I64, DType::F64);
        let n = ctx.iota_along(i64s, self.from.clone(), 0, 4)?;
        let k = ctx.iota_along(i64s, self.to.clone(), 2, 4)?;
        let circle = ctx.iota_along(i64s, self.length.clone(), 0, 1)?;
        let length = ctx.element_count(circle)?;
        let turn = ctx.binary(Op::Mul, n, k)?;
        let turn = ctx.emit(Op::Mod, attrs! { fmod: 0i64 }, &[turn, length])?;
        let (turn, length_f64) = (ctx.cast(turn, f64s)?, ctx.cast(length, f64s)?);
        let sign = if self.inverse { 2.0 } else { -2.0 };
        let angle = ctx.with_scalar(Op::Mul, turn, sign * PI)?;
        let angle = ctx.binary(Op::Div, angle, length_f64)?;
        // cos(angle + pi/2) = -sin(angle), cos(angle - pi/2) = sin(angle)
        let (part, output) =
            (ctx.iota_along(f64s, inputs.clone(), 1, 4)?, ctx.iota_along(f64s, dim(self.outputs()), 3, 4)?);
        let quarters = ctx.binary(Op::Sub, part, output)?;
        let phase = ctx.with_scalar(Op::Mul, quarters, PI / 2.0)?;
        let angle = ctx.binary(Op::Add, angle, phase)?;
        let mut m = ctx.unary(Op::Cos, angle)?;
        if self.inverse {
            m = ctx.binary(Op::Div, m, length_f64)?;
        }
        if self.half_spectrum {
            let (twice, zero) = (ctx.with_scalar(Op::Mul, n, 2.0)?, ctx.zero(i64s));
            let own = [zero, length].map(|image| ctx.binary(Op::Equal, twice, image));
            let [first, last] = own;
            let own = ctx.binary(Op::Or, first?, last?)?;
            let both = ctx.with_scalar(Op::Mul, m, 2.0)?;
            m = ctx.select(own, m, both)?;
        }
        let rows = self.from.clone() * inputs.clone();
        let m = ctx.reshape(m, vec![rows, self.to.clone() * dim(self.outputs())])?;
        ctx.cast(m, to)
    }
}

/// Transform x [.., parts] along an axis, which has `t.from` points.
fn transform(ctx: &mut NodeCtx, x: ValueId, axis: usize, t: &Transform) -> Result<ValueId, ImportError> {
    let ty = ctx.tensor(x)?;
    let rank = ty.rank();
    let (inputs, outputs) = (ty.shape[rank - 1].clone(), dim(t.outputs()));
    let known = |d: &Dim| d.as_const();
    let counts = [&t.from, &t.to, &t.length].map(known);
    let matrix = match (counts, known(&inputs)) {
        ([Some(from), Some(to), Some(length)], Some(parts)) => {
            let size = [from, parts, to, t.outputs()]
                .into_iter()
                .try_fold(1i64, i64::checked_mul)
                .filter(|&n| n <= MAX_MATRIX);
            if !(1..=2).contains(&parts) || from < 1 || to < 1 {
                return Err(ImportError::invalid(format!(
                    "{} of {from} points with {parts} parts",
                    ctx.op_type
                )));
            }
            if size.is_none() {
                return Err(ImportError::unsupported(format!(
                    "{} of {from} points: too long without an FFT",
                    ctx.op_type
                )));
            }
            let shape = [(from * parts) as usize, (to * t.outputs()) as usize];
            constant(ctx, &shape, t.matrix([from, to, length], parts), ty.dtype)?
        }
        _ => t.computed(ctx, &inputs, ty.dtype)?,
    };

    let others: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).collect();
    let perm: Vec<i64> = others.iter().copied().chain([axis, rank - 1]).map(|a| a as i64).collect();
    let kept: Vec<_> = others.iter().map(|&a| ty.shape[a].clone()).collect();
    let x = if axis + 2 == rank { x } else { ctx.transpose(x, perm.clone())? };
    let x = ctx.reshape(x, vec![product(&kept), t.from.clone() * inputs])?;
    let y = ctx.binary(Op::Matmul, x, matrix)?;
    let y = ctx.reshape_to(y, kept.into_iter().chain([t.to.clone(), outputs]))?;
    if axis + 2 == rank {
        return Ok(y);
    }
    let mut back = vec![0i64; rank];
    for (i, &p) in perm.iter().enumerate() {
        back[p as usize] = i as i64;
    }
    ctx.transpose(y, back)
}

/// The points of the first half of a spectrum.
fn half_of(length: &Dim) -> Dim {
    length.op(DimOp::FloorDiv, &dim(2)) + dim(1)
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
    let points = shape[axis].clone();
    let length = match ctx.opt_input(1) {
        Some(v) => dim(ctx.need_int(v, "the length of DFT")?),
        None if inverse && onesided => (points.clone() - dim(1)) * dim(2),
        None => points.clone(),
    };
    if length.as_const().is_some_and(|n| !(1..=1 << 24).contains(&n)) {
        return Err(ImportError::invalid(format!("DFT of length {length}")));
    }
    let half = half_of(&length);
    let half_spectrum = inverse && onesided;
    let from = if half_spectrum { half.clone() } else { length.clone() };
    let to = if onesided && !inverse { half } else { length.clone() };
    // Points beyond the signal are zeros; they are left out instead.
    let used = points.op(DimOp::Min, &from);
    let x = ctx.narrow(x, axis, dim(0), used.clone())?;
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
        (Some(v), _) => dim(ctx.need_int(v, "the frame length of STFT")?),
        (None, Some(w)) => product(&ctx.shape_of(w)?),
        (None, None) => length.clone(),
    };
    let onesided = ctx.flag("onesided", true)?;
    if step < 1 || (frame.clone() - dim(1)).is_negative() || (length.clone() - frame.clone()).is_negative()
    {
        return Err(ImportError::invalid(format!(
            "STFT with frames of {frame} every {step} in a signal of {length}"
        )));
    }
    // A run whose signal holds no frame has no value, as there is none for one of constant length.
    let fits: Vec<Dim> = held(&(length.clone() - frame.clone()), 0).into_iter().collect();
    x = ctx.fitting(x, &fits)?;
    let frames = (length.clone() - frame.clone()).op(DimOp::FloorDiv, &dim(step)) + dim(1);
    let starts = ctx.iota_along(DType::I64, frames, 0, 2)?;
    let starts = ctx.with_scalar(Op::Mul, starts, step as f64)?;
    let offsets = ctx.iota_along(DType::I64, frame.clone(), 1, 2)?;
    let places = ctx.binary(Op::Add, starts, offsets)?;
    let mut x = ctx.emit(Op::Gather, attrs! { axis: 1i64 }, &[x, places])?;
    if let Some(window) = window {
        let window = ctx.reshape(window, vec![frame.clone(), dim(1)])?;
        x = ctx.binary(Op::Mul, x, window)?;
    }
    let to = if onesided { half_of(&frame) } else { frame.clone() };
    Ok(vec![transform(
        ctx,
        x,
        2,
        &Transform { from: frame.clone(), to, length: frame, inverse: false, half_spectrum: false },
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
