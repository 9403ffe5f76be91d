//! Operators of the domain com.microsoft that optimised and quantised models come with.

use super::activation::wide;
use super::contraction::numpy_matmul;
use super::dynamic_lstm::dynamic_quantize_lstm;
use super::emit::dim;
use super::quantization::quantize;
use super::{OnnxOp, emit};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    row("DynamicQuantizeLSTM", dynamic_quantize_lstm),
    row("FastGelu", fast_gelu),
    row("FusedMatMul", fused_matmul),
    row("MatMulNBits", matmul_nbits),
    row("QLinearAdd", |c| qlinear_binary(c, Op::Add)),
    row("QLinearMul", |c| qlinear_binary(c, Op::Mul)),
    row("QLinearSoftmax", qlinear_softmax),
    row("SkipLayerNormalization", skip_layer_norm),
];

const fn row(name: &'static str, import: fn(&mut NodeCtx) -> OpResult) -> OnnxOp {
    OnnxOp { domain: "com.microsoft", name, since: 1, import }
}

type Emitted = Result<ValueId, ImportError>;

fn fast_gelu(ctx: &mut NodeCtx) -> OpResult {
    let (mut x, bias) = (ctx.input(0)?, ctx.opt_input(1));
    if let Some(bias) = bias {
        x = ctx.binary(Op::Add, x, bias)?;
    }
    Ok(vec![ctx.emit(Op::Gelu, attrs! { approximate: "tanh" }, &[x])?])
}

fn fused_matmul(ctx: &mut NodeCtx) -> OpResult {
    let alpha = ctx.float("alpha", 1.0)?;
    let (ta, tb) = (ctx.flag("transA", false)?, ctx.flag("transB", false)?);
    if ctx.flag("transBatchA", false)? || ctx.flag("transBatchB", false)? {
        return Err(ImportError::unsupported("FusedMatMul with transposed batch axes is not supported"));
    }
    let (mut a, mut b) = (ctx.input(0)?, ctx.input(1)?);
    // A vector has nothing to transpose.
    if ta && ctx.rank(a)? > 1 {
        a = ctx.swap_last(a)?;
    }
    if tb && ctx.rank(b)? > 1 {
        b = ctx.swap_last(b)?;
    }
    let y = numpy_matmul(ctx, a, b)?;
    Ok(vec![if alpha == 1.0 { y } else { ctx.with_scalar(Op::Mul, y, alpha.into())? }])
}

/// The elements of `bits` bits in a packed u8 constant, rows of `row` elements, the first in the low bits.
fn unpack(packed: &Tensor, bits: usize, rows: usize, row: usize) -> Option<Vec<u8>> {
    let per_byte = 8 / bits;
    let stride = row.div_ceil(per_byte);
    let bytes = packed.bytes();
    if packed.dtype() != DType::U8 || rows.checked_mul(stride) != Some(bytes.len()) {
        return None;
    }
    let mut out = Vec::with_capacity(rows * row);
    for bytes in bytes.chunks_exact(stride.max(1)) {
        let element = |i: usize| bytes[i / per_byte] >> (bits * (i % per_byte)) & (0xffu8 >> (8 - bits));
        out.extend((0..row).map(element));
    }
    Some(out)
}

/// x times a matrix of few-bit weights in blocks that share a scale and a zero point.
fn matmul_nbits(ctx: &mut NodeCtx) -> OpResult {
    let size = |ctx: &mut NodeCtx, name: &str| -> Result<usize, ImportError> {
        let v = ctx.int(name, 0)?;
        usize::try_from(v).ok().filter(|&v| (1..=1 << 24).contains(&v)).ok_or_else(|| ctx.bad_attr(name, v))
    };
    let (inner, columns, block) = (size(ctx, "K")?, size(ctx, "N")?, size(ctx, "block_size")?);
    let bits = ctx.int("bits", 4)?;
    let bits = match bits {
        2 | 4 | 8 => bits as usize,
        other => return Err(ctx.bad_attr("bits", other)),
    };
    // How ONNX Runtime may round activations on the way; here they stay as they are.
    ctx.int("accuracy_level", 0)?;
    if ctx.opt_input(4).is_some() {
        return Err(ImportError::unsupported("MatMulNBits with a group index is not supported"));
    }
    let (x, packed, scales) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    let (zeros, bias) = (ctx.opt_input(3), ctx.opt_input(5));
    let dtype = ctx.dtype(x)?;
    let work = wide(dtype);
    let blocks = inner.div_ceil(block);
    let grouped = |last: i64| vec![dim(columns as i64), dim(blocks as i64), dim(last)];
    let misfit = |what: &str| {
        ImportError::invalid(format!(
            "the {what} of MatMulNBits do not have the size that K, N and block_size ask for"
        ))
    };

    let packed = ctx.need_const(packed, "the packed weights of MatMulNBits")?;
    let elements = unpack(&packed, bits, columns * blocks, block).ok_or_else(|| misfit("weights"))?;
    let few = match bits {
        2 => DType::U2,
        4 => DType::U4,
        _ => DType::U8,
    };
    let weights = ctx.builder.constant(Tensor::from_bytes(few, &[columns, blocks, block], &elements));
    let weights = ctx.cast(weights, work)?;
    let zero = match zeros {
        None => ctx.scalar(work, f64::from(1u32 << (bits - 1)))?,
        Some(z) if ctx.dtype(z)?.is_float() => {
            let z = ctx.cast(z, work)?;
            ctx.reshape(z, grouped(1))?
        }
        Some(z) => {
            let z = ctx.need_const(z, "the zero points of MatMulNBits")?;
            let z = unpack(&z, bits, columns, blocks).ok_or_else(|| misfit("zero points"))?;
            let z = ctx.builder.constant(Tensor::from_bytes(few, &[columns, blocks, 1], &z));
            ctx.cast(z, work)?
        }
    };
    let centred = ctx.binary(Op::Sub, weights, zero)?;
    let scales = ctx.cast(scales, work)?;
    let scales = ctx.reshape(scales, grouped(1))?;
    let scaled = ctx.binary(Op::Mul, centred, scales)?;
    let matrix = ctx.reshape(scaled, vec![dim(columns as i64), dim((blocks * block) as i64)])?;
    let matrix = ctx.narrow(matrix, 1, dim(0), dim(inner as i64))?;
    let matrix = ctx.swap_last(matrix)?;
    let x = ctx.cast(x, work)?;
    let mut y = numpy_matmul(ctx, x, matrix)?;
    if let Some(bias) = bias {
        let bias = ctx.cast(bias, work)?;
        y = ctx.binary(Op::Add, y, bias)?;
    }
    Ok(vec![ctx.cast(y, dtype)?])
}

/// A quantised operand less its zero point, as f32: its value is input `at`, its zero point input `at + 2`.
fn centred(ctx: &mut NodeCtx, at: usize) -> Emitted {
    let (x, zero) = (ctx.input(at)?, ctx.opt_input(at + 2));
    let mut y = ctx.cast(x, DType::I32)?;
    if let Some(zero) = zero {
        let zero = ctx.cast(zero, DType::I32)?;
        let zero = ctx.single(zero)?;
        y = ctx.binary(Op::Sub, y, zero)?;
    }
    ctx.cast(y, DType::F32)
}

/// Input `at`, a scale, as a scalar.
fn scale(ctx: &mut NodeCtx, at: usize) -> Emitted {
    let scale = ctx.input(at)?;
    ctx.single(scale)
}

/// Scales are divided by one another first, and the zero point is added before the rounding: as ONNX Runtime has it, so that what
/// lies halfway between two integers is rounded to the same one.
fn qlinear_binary(ctx: &mut NodeCtx, op: Op) -> OpResult {
    let input = ctx.input(0)?;
    let dtype = ctx.dtype(input)?;
    let (a, b) = (centred(ctx, 0)?, centred(ctx, 3)?);
    let (a_scale, b_scale, unit) = (scale(ctx, 1)?, scale(ctx, 4)?, scale(ctx, 6)?);
    let mut y = if op == Op::Mul {
        let both = ctx.binary(Op::Mul, a_scale, b_scale)?;
        let factor = ctx.binary(Op::Div, both, unit)?;
        let product = ctx.binary(Op::Mul, a, b)?;
        ctx.binary(Op::Mul, product, factor)?
    } else {
        let (a_factor, b_factor) =
            (ctx.binary(Op::Div, a_scale, unit)?, ctx.binary(Op::Div, b_scale, unit)?);
        let (a, b) = (ctx.binary(Op::Mul, a, a_factor)?, ctx.binary(Op::Mul, b, b_factor)?);
        ctx.binary(op, a, b)?
    };
    if let Some(zero) = ctx.opt_input(7) {
        let zero = ctx.cast(zero, DType::F32)?;
        let zero = ctx.single(zero)?;
        y = ctx.binary(Op::Add, y, zero)?;
    }
    let y = ctx.unary(Op::Round, y)?;
    Ok(vec![ctx.cast(y, dtype)?])
}

fn qlinear_softmax(ctx: &mut NodeCtx) -> OpResult {
    let opset = ctx.int("opset", 13)?;
    let axis = ctx.int("axis", if opset < 13 { 1 } else { -1 })?;
    let input = ctx.input(0)?;
    let ty = ctx.tensor(input)?;
    let axis = ctx.axis(axis, ty.rank())?;
    let (x, x_scale) = (centred(ctx, 0)?, scale(ctx, 1)?);
    let x = ctx.binary(Op::Mul, x, x_scale)?;
    let y = if opset < 13 {
        // The old Softmax takes all axes from `axis` on as one.
        let rows =
            ctx.reshape(x, vec![emit::product(&ty.shape[..axis]), emit::product(&ty.shape[axis..])])?;
        let y = ctx.softmax(rows, 1)?;
        ctx.reshape(y, ty.shape)?
    } else {
        ctx.softmax(x, axis)?
    };
    let (unit, zero) = (scale(ctx, 3)?, ctx.opt_input(4));
    let zero = zero.map(|z| ctx.single(z)).transpose()?;
    Ok(vec![quantize(ctx, y, unit, zero, ty.dtype, true)?])
}

/// LayerNormalization of the sum of two tensors (and a bias); the sum is the fourth output.
fn skip_layer_norm(ctx: &mut NodeCtx) -> OpResult {
    let epsilon = ctx.float("epsilon", 1e-12)?;
    let (x, skip, scale, shift, bias) =
        (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?, ctx.opt_input(3), ctx.opt_input(4));
    if ctx.wanted.iter().skip(1).take(2).any(|&w| w) {
        return Err(ImportError::unsupported(
            "the mean and deviation outputs of SkipLayerNormalization are not supported",
        ));
    }
    let (dtype, rank) = (ctx.dtype(x)?, ctx.rank(x)?);
    let axis = ctx.axis(-1, rank)? as i64;
    let mut sum = ctx.binary(Op::Add, x, skip)?;
    if let Some(bias) = bias {
        sum = ctx.binary(Op::Add, sum, bias)?;
    }
    let work = wide(dtype);
    let high = ctx.cast(sum, work)?;
    let y = ctx.emit(Op::LayerNorm, attrs! { axis: axis, epsilon: f64::from(epsilon) }, &[high])?;
    let scale = ctx.cast(scale, work)?;
    let mut y = ctx.binary(Op::Mul, y, scale)?;
    if let Some(shift) = shift {
        let shift = ctx.cast(shift, work)?;
        y = ctx.binary(Op::Add, y, shift)?;
    }
    let y = ctx.cast(y, dtype)?;
    // Mean and deviation stand between; nothing reads them.
    Ok(vec![y, y, y, sum])
}
