//! Matrix products and convolutions.

use super::Spelling::{self, Nodes};
use super::window::{channels, is_channels_last, padded};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Contraction as C;
use egret_ir::{DType, Op, Tensor, ValueId};

pub(super) fn spelling(op: C) -> Spelling {
    match op {
        C::Matmul => Nodes("MatMul; MatMulInteger for bytes", matmul),
        C::Conv => Nodes("Conv; ConvInteger for bytes (Transpose where channels are last)", conv),
        C::ConvTranspose => Nodes("ConvTranspose (Transpose where channels are last)", conv_transpose),
    }
}

fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// An operand of i32 that is bytes less a zero point: the names of both, the zero point's empty for 0.
/// `filters`: the zero point may be a vector with an entry for each entry of the first axis.
fn bytes(c: &mut Call<'_, '_>, v: ValueId, filters: bool) -> Option<(String, String)> {
    if let Some(t) = c.graph.as_const(v) {
        return constant_bytes(c, &t.clone());
    }
    let source = |v: ValueId| {
        let node = c.graph.node(c.graph.producer(v)?);
        let from = node.operands.first().copied().flatten()?;
        let fits = node.op == Op::Cast && is_byte(c.graph.ty(from).as_tensor()?.dtype);
        fits.then_some(from)
    };
    if let Some(from) = source(v) {
        return Some((c.writer.name(c.graph, from), String::new()));
    }
    let node = c.graph.node(c.graph.producer(v)?);
    let [Some(a), Some(b)] = node.operands[..] else { return None };
    if node.op != Op::Sub {
        return None;
    }
    let from = source(a)?;
    let dtype = c.graph.ty(from).as_tensor()?.dtype;
    let zero = match (c.graph.as_const(b), source(b)) {
        (Some(t), _) => byte(dtype, t).map(|t| c.writer.constant(&t))?,
        (None, Some(zero)) => zero_point(c, zero, dtype, false)?,
        // A vector in place for broadcasting.
        (None, None) => {
            let node = c.graph.node(c.graph.producer(b)?);
            let zero =
                source(node.operands.first().copied().flatten()?).filter(|_| node.op == Op::Reshape)?;
            zero_point(c, zero, dtype, filters)?
        }
    };
    Some((c.writer.name(c.graph, from), zero))
}

/// A value of one byte as a scalar, or (of `filters`) a vector as it is.
fn zero_point(c: &mut Call<'_, '_>, v: ValueId, dtype: DType, filters: bool) -> Option<String> {
    let ty = c.graph.ty(v).as_tensor()?;
    let (one, rank) = (ty.const_len() == Some(1), ty.rank());
    let name = (ty.dtype == dtype && (one || filters && rank == 1)).then(|| c.writer.name(c.graph, v))?;
    if rank == 0 || !one {
        return Some(name);
    }
    let none = c.ints(&[]);
    Some(c.op("Reshape", &[&name, &none], vec![]))
}

/// A constant of one integer as a scalar of bytes.
fn byte(dtype: DType, t: &Tensor) -> Option<Tensor> {
    let all = t.to_i64s()?;
    let [value] = all.as_slice() else { return None };
    match dtype {
        DType::U8 => u8::try_from(*value).ok().map(Tensor::scalar),
        _ => i8::try_from(*value).ok().map(Tensor::scalar),
    }
}

/// A constant of integers as bytes and a zero point.
fn constant_bytes(c: &mut Call<'_, '_>, t: &Tensor) -> Option<(String, String)> {
    let values = t.to_i64s()?;
    let (least, most) = (*values.iter().min()?, *values.iter().max()?);
    if least >= -128 && most <= 127 {
        let bytes: Vec<i8> = values.iter().map(|&v| v as i8).collect();
        return Some((c.writer.constant(&Tensor::new(t.shape(), bytes)), String::new()));
    }
    if !(-255..=0).contains(&least) || most - least > 255 {
        return None;
    }
    let bytes: Vec<u8> = values.iter().map(|&v| (v - least) as u8).collect();
    let zero = c.writer.constant(&Tensor::scalar(-least as u8));
    Some((c.writer.constant(&Tensor::new(t.shape(), bytes)), zero))
}

/// Both operands of a product of i32 as bytes with zero points: the inputs of ONNX's integer products.
fn integer_inputs(c: &mut Call<'_, '_>, filters: bool) -> Option<Vec<String>> {
    let (a, b) = (c.value(0)?, c.value(1)?);
    let ((a, a_zero), (b, b_zero)) = (bytes(c, a, false)?, bytes(c, b, filters)?);
    Some(vec![a, b, a_zero, b_zero])
}

fn matmul(c: &mut Call<'_, '_>) -> Written {
    let dtype = c.ty(0)?.dtype;
    let operands = c.operands();
    if is_byte(dtype) {
        return Ok(vec![c.emit("MatMulInteger", &operands, vec![])]);
    }
    if dtype == DType::I32
        && let Some(inputs) = integer_inputs(c, false)
    {
        return Ok(vec![c.emit("MatMulInteger", &inputs, vec![])]);
    }
    if matches!(dtype, DType::I16 | DType::U16) {
        let wide: Vec<String> = operands.iter().map(|x| c.cast(x, DType::I32)).collect();
        let y = c.emit("MatMul", &wide, vec![]);
        return Ok(vec![c.cast(&y, dtype)]);
    }
    Ok(vec![c.emit("MatMul", &operands, vec![])])
}

fn conv(c: &mut Call<'_, '_>) -> Written {
    let (ty, last) = (c.ty(0)?, is_channels_last(c));
    let (operator, mut inputs) = match ty.dtype {
        d if is_byte(d) => ("ConvInteger", c.operands()),
        DType::I32 => match integer_inputs(c, true) {
            Some(inputs) => ("ConvInteger", inputs),
            None => return Err(not_bytes(c)),
        },
        d if d.is_float() => ("Conv", c.operands()),
        _ => return Err(not_bytes(c)),
    };
    let rank = ty.rank();
    if last {
        inputs[0] = channels(c, &inputs[0].clone(), rank, false);
    }
    let mut pads = c.attrs().ints("pads").to_vec();
    if pads.iter().any(|&p| p < 0) {
        let zero = inputs.get(2).cloned().unwrap_or_default();
        inputs[0] = padded(c, &inputs[0].clone(), &pads, &zero);
        pads.fill(0);
    }
    let attributes = vec![
        proto::ints("strides", c.attrs().ints("strides")),
        proto::ints("dilations", c.attrs().ints("dilations")),
        proto::ints("pads", &pads),
        proto::int("group", c.attrs().int("groups")),
    ];
    let y = c.emit(operator, &inputs, attributes);
    Ok(vec![if last { channels(c, &y, rank, true) } else { y }])
}

fn not_bytes(c: &Call<'_, '_>) -> ExportError {
    let dtype = c.ty(0).map(|t| t.dtype.to_string()).unwrap_or_default();
    ExportError::new(format!(
        "ONNX convolves floats and bytes less a zero point, not other integers ({dtype}); keep the original model for this part"
    ))
}

fn conv_transpose(c: &mut Call<'_, '_>) -> Written {
    let (ty, last) = (c.ty(0)?, is_channels_last(c));
    if !ty.dtype.is_float() {
        return Err(ExportError::new(format!("ONNX's ConvTranspose takes no {}", ty.dtype)));
    }
    let (mut x, w, rank) = (c.opt(0), c.opt(1), ty.rank());
    if last {
        x = channels(c, &x, rank, false);
    }
    let pads = c.attrs().ints("pads").to_vec();
    let cut: Vec<i64> = pads.iter().map(|&p| p.max(0)).collect();
    let attributes = vec![
        proto::ints("strides", c.attrs().ints("strides")),
        proto::ints("dilations", c.attrs().ints("dilations")),
        proto::ints("pads", &cut),
        proto::ints("output_padding", c.attrs().ints("output_padding")),
        proto::int("group", c.attrs().int("groups")),
    ];
    let mut y = c.op("ConvTranspose", &[&x, &w], attributes);
    if pads.iter().any(|&p| p < 0) {
        // Beyond the image that the windows make, there are zeros.
        let more: Vec<i64> = pads.iter().map(|&p| (-p).max(0)).collect();
        y = padded(c, &y, &more, "");
    }
    Ok(vec![if last { channels(c, &y, rank, true) } else { y }])
}
