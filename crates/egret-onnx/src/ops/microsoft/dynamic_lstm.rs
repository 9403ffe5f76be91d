//! DynamicQuantizeLSTM of com.microsoft: 8-bit weights, and activations that are rounded to 8 bits while the model runs.

use super::super::emit::dim;
use super::super::quantization::dynamic_u8;
use super::super::recurrent::{cell, lstm_attrs};
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[row("DynamicQuantizeLSTM", dynamic_quantize_lstm)];

/// An LSTM whose weights are 8-bit integers, w [D, I, 4H] and r [D, H, 4H]; its activations are rounded to 8 bits before their
/// products: x up to the end of the longest sequence, the state in every step over its own range. ONNX Runtime rounds the states of a batch together or apart,
/// as its threads divide the batch; here each is rounded apart.
///
/// Constant weights that, less their zero points, are i8 stay integers: those of x in a product of their own before the cell, which
/// the rules for bytes see. Other weights become floats, and x the floats that stand for its rounded values: sums of such
/// products are those of the integers up to the rounding of f32.
fn dynamic_quantize_lstm(ctx: &mut NodeCtx) -> OpResult {
    let scale_of = |ctx: &NodeCtx, i: usize| Ok::<_, ImportError>((ctx.input(i)?, ctx.input(i + 1)?));
    let (w_scale, r_scale) = (scale_of(ctx, 8)?, scale_of(ctx, 10)?);
    let x = ctx.input(0)?;
    if ctx.dtype(x)? != DType::F32 {
        return Err(ImportError::invalid("DynamicQuantizeLSTM takes an x of f32"));
    }
    let attrs = lstm_attrs(ctx, true)?;
    let used = match ctx.opt_input(4) {
        Some(lengths) => within(ctx, x, lengths)?,
        None => x,
    };
    let (w, r) = (ctx.input(1)?, ctx.input(2)?);
    match SignedWeights::of(ctx, w, w_scale.1) {
        Some(w) => {
            ctx.inputs[0] = Some(input_share(ctx, used, &w, w_scale.0)?);
            // The biases are in the share.
            (ctx.inputs[1], ctx.inputs[3]) = (None, None);
        }
        None => {
            ctx.inputs[0] = Some(rounded(ctx, used)?);
            ctx.inputs[1] = Some(dequantized_weights(ctx, w, w_scale.0, w_scale.1)?);
        }
    }
    // The scale of r takes the place of that of w, which is done with.
    match SignedWeights::of(ctx, r, r_scale.1) {
        Some(r) => {
            ctx.inputs[2] = Some(ctx.builder.constant(r.rows_of_gates()));
            ctx.inputs[8] = Some(per_gate(ctx, r_scale.0, [r.directions, r.gates])?);
        }
        None => {
            ctx.inputs[2] = Some(dequantized_weights(ctx, r, r_scale.0, r_scale.1)?);
            ctx.inputs[8] = None;
        }
    }
    cell(ctx, Op::Lstm, attrs, 9, &[5, 6])
}

/// Constant weights less their zero points, [D, K, 4H].
struct SignedWeights {
    directions: usize,
    inner: usize,
    gates: usize,
    values: Vec<i8>,
}

impl SignedWeights {
    /// Nothing where they are no constants of these shapes, or do not fit.
    fn of(ctx: &NodeCtx, weights: ValueId, zero: ValueId) -> Option<SignedWeights> {
        let bytes = |v: ValueId| {
            let t = ctx.as_const(v)?;
            let values: Vec<i32> = match t.dtype() {
                DType::I8 => t.data::<i8>().iter().map(|&v| v.into()).collect(),
                DType::U8 => t.data::<u8>().iter().map(|&v| v.into()).collect(),
                _ => return None,
            };
            Some((t.shape().to_vec(), values))
        };
        let ((shape, values), (zero_shape, zeros)) = (bytes(weights)?, bytes(zero)?);
        let [directions, inner, gates] = shape[..] else { return None };
        let zeros_in_row = match zero_shape[..] {
            [d] if d == directions => 1,
            [d, n] if d == directions && n == gates => gates,
            _ => return None,
        };
        let mut out = Vec::with_capacity(values.len());
        for (i, v) in values.into_iter().enumerate() {
            let (d, gate) = (i / (inner * gates), i % gates);
            out.push(i8::try_from(v - zeros[d * zeros_in_row + gate % zeros_in_row]).ok()?);
        }
        Some(SignedWeights { directions, inner, gates, values: out })
    }

    fn at(&self, d: usize, k: usize, gate: usize) -> i8 {
        self.values[(d * self.inner + k) * self.gates + gate]
    }

    /// [D, 4H, K].
    fn rows_of_gates(&self) -> Tensor {
        let row = |d, gate| (0..self.inner).map(move |k| self.at(d, k, gate));
        let values: Vec<i8> =
            (0..self.directions).flat_map(|d| (0..self.gates).flat_map(move |g| row(d, g))).collect();
        Tensor::new(&[self.directions, self.gates, self.inner], values)
    }

    /// [K, D * 4H].
    fn columns_of_gates(&self) -> Tensor {
        let row = |k, d| (0..self.gates).map(move |gate| self.at(d, k, gate));
        let values: Vec<i8> =
            (0..self.inner).flat_map(|k| (0..self.directions).flat_map(move |d| row(k, d))).collect();
        Tensor::new(&[self.inner, self.directions * self.gates], values)
    }
}

/// What x [T, B, I] gives to the gates, [T, B, D * 4H], with all biases.
fn input_share(
    ctx: &mut NodeCtx,
    x: ValueId,
    w: &SignedWeights,
    w_scale: ValueId,
) -> Result<ValueId, ImportError> {
    let columns = dim((w.directions * w.gates) as i64);
    let (q, scale, zero) = dynamic_u8(ctx, x)?;
    let (q, zero) = (ctx.cast(q, DType::I32)?, ctx.cast(zero, DType::I32)?);
    let q = ctx.binary(Op::Sub, q, zero)?;
    let weights = ctx.builder.constant(w.columns_of_gates());
    let weights = ctx.cast(weights, DType::I32)?;
    let sums = ctx.emit(Op::Matmul, attrs! {}, &[q, weights])?;
    let sums = ctx.cast(sums, DType::F32)?;
    let w_scale = per_gate(ctx, w_scale, [w.directions, w.gates])?;
    let w_scale = ctx.reshape(w_scale, vec![columns.clone()])?;
    let scale = ctx.binary(Op::Mul, scale, w_scale)?;
    let share = ctx.binary(Op::Mul, sums, scale)?;
    let Some(b) = ctx.opt_input(3) else { return Ok(share) };
    let b = ctx.reshape(b, vec![dim(w.directions as i64), dim(2), dim(w.gates as i64)])?;
    let b = ctx.reduce("sum", b, vec![1], false)?;
    let b = ctx.reshape(b, vec![columns])?;
    ctx.binary(Op::Add, share, b)
}

/// A scale [D] or [D, 4H] as [D, 4H].
fn per_gate(ctx: &mut NodeCtx, scale: ValueId, shape: [usize; 2]) -> Result<ValueId, ImportError> {
    let scale = match ctx.rank(scale)? {
        1 => ctx.unsqueeze(scale, 1)?,
        2 => scale,
        _ => return Err(axes_of_scales()),
    };
    ctx.broadcast(scale, shape.map(|n| dim(n as i64)).to_vec())
}

fn axes_of_scales() -> ImportError {
    ImportError::invalid("a scale or zero point of DynamicQuantizeLSTM must have one axis or two")
}

/// x [T, B, I] with zeros behind the end of the longest sequence: ONNX Runtime does not look there for the range of x, and zero is in
/// every range.
fn within(ctx: &mut NodeCtx, x: ValueId, lengths: ValueId) -> Result<ValueId, ImportError> {
    let [steps, _, _] = ctx
        .shape_of(x)?
        .try_into()
        .map_err(|_| ImportError::invalid("x of DynamicQuantizeLSTM must have three axes"))?;
    let longest = ctx.reduce("max", lengths, vec![0], false)?;
    let longest = ctx.cast(longest, DType::I64)?;
    let step = ctx.iota_along(DType::I64, steps, 0, 3)?;
    let used = ctx.binary(Op::Less, step, longest)?;
    let nothing = ctx.scalar(DType::F32, 0.0)?;
    ctx.emit(Op::Where, attrs! {}, &[used, x, nothing])
}

/// x as DynamicQuantizeLinear and DequantizeLinear leave it.
fn rounded(ctx: &mut NodeCtx, x: ValueId) -> Result<ValueId, ImportError> {
    let (q, scale, zero) = dynamic_u8(ctx, x)?;
    let (q, zero) = (ctx.cast(q, DType::F32)?, ctx.cast(zero, DType::F32)?);
    let q = ctx.binary(Op::Sub, q, zero)?;
    ctx.binary(Op::Mul, q, scale)
}

/// [D, K, 4H] integers as [D, 4H, K] floats; scale and zero point are [D] or [D, 4H].
fn dequantized_weights(
    ctx: &mut NodeCtx,
    weights: ValueId,
    scale: ValueId,
    zero: ValueId,
) -> Result<ValueId, ImportError> {
    if ctx.rank(weights)? != 3 {
        return Err(ImportError::invalid("the weights of DynamicQuantizeLSTM must have three axes"));
    }
    let place = |ctx: &mut NodeCtx, v: ValueId| {
        let mut shape = ctx.shape_of(v)?;
        if !(1..=2).contains(&shape.len()) {
            return Err(axes_of_scales());
        }
        shape.resize(3, dim(1));
        ctx.reshape(v, shape)
    };
    let w = ctx.transpose(weights, vec![0, 2, 1])?;
    let (w, zero) = (ctx.cast(w, DType::F32)?, ctx.cast(zero, DType::F32)?);
    let (scale, zero) = (place(ctx, scale)?, place(ctx, zero)?);
    // Differences of 8-bit integers are exact in f32.
    let w = ctx.binary(Op::Sub, w, zero)?;
    ctx.binary(Op::Mul, w, scale)
}
