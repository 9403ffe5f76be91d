//! Matrices of few-bit weights in blocks: MatMulNBits, GatherBlockQuantized.

use super::super::activation::wide;
use super::super::contraction::numpy_matmul;
use super::super::emit::dim;
use super::{OnnxOp, row};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, DimOp, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] =
    &[row("GatherBlockQuantized", gather_block_quantized), row("MatMulNBits", matmul_nbits)];

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

/// Rows of a quantised table, as floats: only what is gathered is.
fn gather_block_quantized(ctx: &mut NodeCtx) -> OpResult {
    let block = ctx.int("block_size", 128)?;
    let (gather_axis, quantize_axis) = (ctx.int("gather_axis", 0)?, ctx.int("quantize_axis", 1)?);
    let bits = ctx.opt_int("bits")?;
    let (table, indices, scales, zeros) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?, ctx.opt_input(3));
    let ty = ctx.tensor(table)?;
    let rank = ty.rank();
    let (gather_axis, axis) = (ctx.axis(gather_axis, rank)?, ctx.axis(quantize_axis, rank)?);
    if block < 1 {
        return Err(ctx.bad_attr("block_size", block));
    }
    let to = ctx.dtype(scales)?;
    let work = wide(to);
    let of_bytes = ty.dtype == DType::U8;
    if !of_bytes && !matches!(ty.dtype, DType::I4 | DType::U4) {
        return Err(ImportError::unsupported(format!(
            "GatherBlockQuantized of a table of {} is not supported",
            ty.dtype
        )));
    }
    for of_blocks in [Some(scales), zeros].into_iter().flatten() {
        if ctx.rank(of_blocks)? != rank {
            return Err(ImportError::invalid(
                "the table of GatherBlockQuantized and what its blocks share differ in rank",
            ));
        }
    }
    if gather_axis == axis {
        return Err(ImportError::invalid("GatherBlockQuantized gathers along the axis of its blocks"));
    }
    let packed = of_bytes && bits.unwrap_or(4) != 8;
    if packed && !matches!(bits, None | Some(2 | 4)) {
        return Err(ctx.bad_attr("bits", bits.unwrap_or(0)));
    }
    let bits = bits.unwrap_or(4);
    // Tensors of bytes hold several elements each along the last axis, the first in the low bits.
    let elements = |ctx: &mut NodeCtx, x: ValueId| -> Result<ValueId, ImportError> {
        let x = ctx.emit(Op::Gather, attrs! { axis: gather_axis as i64 }, &[x, indices])?;
        if !packed {
            return ctx.cast(x, DType::I32);
        }
        let mut shape = ctx.shape_of(x)?;
        let last = shape.len();
        let x = ctx.cast(x, DType::I32)?;
        let x = ctx.unsqueeze(x, last)?;
        let per_byte = 8 / bits;
        let units: Vec<i32> = (0..per_byte).map(|i| 1 << (bits * i)).collect();
        let units = ctx.builder.constant(Tensor::new(&[units.len()], units));
        let x = ctx.binary(Op::Div, x, units)?;
        let count = ctx.scalar(DType::I32, f64::from(1u32 << bits))?;
        let x = ctx.emit(Op::Mod, attrs! { fmod: false }, &[x, count])?;
        shape[last - 1] = shape[last - 1].clone() * dim(per_byte);
        ctx.reshape(x, shape)
    };
    let values = elements(ctx, table)?;
    let at = if axis > gather_axis { axis + ctx.rank(indices)? - 1 } else { axis };
    let count = ctx.shape_of(values)?[at].clone();
    let zero = match zeros {
        Some(z) => elements(ctx, z)?,
        None => ctx.scalar(DType::I32, if of_bytes { f64::from(1u32 << (bits - 1)) } else { 0.0 })?,
    };
    let scales = ctx.emit(Op::Gather, attrs! { axis: gather_axis as i64 }, &[scales, indices])?;
    let scales = ctx.cast(scales, work)?;
    let blocks = ctx.shape_of(scales)?[at].clone();
    if matches!((count.op(DimOp::CeilDiv, &dim(block)).as_const(), blocks.as_const()), (Some(a), Some(b)) if a != b)
    {
        return Err(ImportError::invalid(format!(
            "the scales of GatherBlockQuantized have {blocks} entries for {count} elements in blocks of {block}"
        )));
    }
    let mut spread = |x: ValueId| -> Result<ValueId, ImportError> {
        if ctx.rank(x)? == 0 {
            return Ok(x);
        }
        let mut shape = ctx.shape_of(x)?;
        let x = ctx.unsqueeze(x, at + 1)?;
        let mut wide = ctx.shape_of(x)?;
        wide[at + 1] = dim(block);
        let x = ctx.broadcast(x, wide)?;
        // Zero points that come several a byte may be more than there are blocks.
        shape[at] = shape[at].clone() * dim(block);
        let x = ctx.reshape(x, shape)?;
        ctx.narrow(x, at, dim(0), count.clone())
    };
    let (zero, scales) = (spread(zero)?, spread(scales)?);
    let centred = ctx.binary(Op::Sub, values, zero)?;
    let centred = ctx.cast(centred, work)?;
    let y = ctx.binary(Op::Mul, centred, scales)?;
    Ok(vec![ctx.cast(y, to)?])
}
