//! Windows that slide over spatial axes.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Window as W;
use egret_ir::geometry::axes;
use egret_ir::{DType, Dim, Tensor};
use onnx_protobuf::AttributeProto;

pub(super) fn spelling(op: W) -> Spelling {
    match op {
        W::Pool => Nodes(
            "MaxPool, AveragePool; Conv with weights of 1 for sums (Transpose where channels are last)",
            pool,
        ),
        W::MaxPoolIndices => Nodes("MaxPool", max_pool_indices),
        W::Col2im => Nodes("Col2Im", col2im),
    }
}

/// Axes in another order: channels behind the spatial axes, or back at the second place.
pub(super) fn channels(c: &mut Call<'_, '_>, x: &str, rank: usize, last: bool) -> String {
    let rank = rank as i64;
    let perm: Vec<i64> = match last {
        true => std::iter::once(0).chain(2..rank).chain([1]).collect(),
        false => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
    };
    c.transpose(x, &perm)
}

/// Whether the attribute `layout` says that channels are last.
pub(super) fn is_channels_last(c: &Call<'_, '_>) -> bool {
    c.attrs().str("layout") == "channels_last"
}

/// An image with the spatial pads as pads of all axes, of a value (of zeros where it is empty).
pub(super) fn padded(c: &mut Call<'_, '_>, x: &str, pads: &[i64], value: &str) -> String {
    let n = pads.len() / 2;
    let all = [&[0, 0], &pads[..n], &[0, 0], &pads[n..]].concat();
    let all = c.ints(&all);
    c.op("Pad", &[x, &all, value], vec![])
}

/// The attributes of ONNX's pools.
fn geometry(c: &Call<'_, '_>, pads: &[i64]) -> Vec<AttributeProto> {
    vec![
        proto::ints("kernel_shape", c.attrs().ints("kernel")),
        proto::ints("strides", c.attrs().ints("strides")),
        proto::ints("dilations", c.attrs().ints("dilations")),
        proto::ints("pads", pads),
    ]
}

/// Whether the room at the high ends is what ONNX's ceil mode makes there, of spatial axes of these sizes.
fn is_ceil_mode(c: &Call<'_, '_>, sizes: &[Dim]) -> bool {
    let Some(axes) = axes(c.attrs(), c.attrs().ints("kernel")) else { return false };
    let extra = c.attrs().ints("high_extra");
    axes.iter().zip(sizes).zip(extra).all(|((axis, size), &extra)| {
        let room = if axis.stride == 1 { Some(0) } else { size.as_const().and_then(|n| axis.ceil_room(n)) };
        room == Some(extra)
    })
}

fn pool(c: &mut Call<'_, '_>) -> Written {
    let (mut x, ty, last) = (c.opt(0), c.ty(0)?, is_channels_last(c));
    let rank = ty.rank();
    let mut shape = ty.shape.clone();
    if last {
        x = channels(c, &x, rank, false);
        let channel = shape.remove(rank - 1);
        shape.insert(1, channel);
    }
    let y = match c.attrs().str("kind") {
        "sum" => sum_pool(c, x, &shape, ty.dtype)?,
        kind => {
            let operator = if kind == "max" { "MaxPool" } else { "AveragePool" };
            of_inside(c, operator, x, &shape, ty.dtype, 1, vec![])?.swap_remove(0)
        }
    };
    Ok(vec![if last { channels(c, &y, rank, true) } else { y }])
}

/// The element type that ONNX's pools take instead of one that they do not.
fn pooled(operator: &str, dtype: DType) -> Result<Option<DType>, ExportError> {
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Ok(None),
        DType::I8 | DType::U8 if operator == "MaxPool" => Ok(None),
        // Exact in f64, and so is the largest of them.
        DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32 | DType::U32
            if operator == "MaxPool" =>
        {
            Ok(Some(DType::F64))
        }
        other => Err(ExportError::new(format!("ONNX's {operator} takes no {other}"))),
    }
}

/// A pool in which only elements inside the image take part.
fn of_inside(
    c: &mut Call<'_, '_>,
    operator: &str,
    mut x: String,
    shape: &[Dim],
    dtype: DType,
    outputs: usize,
    more: Vec<AttributeProto>,
) -> Written {
    let mut pads = c.attrs().ints("pads").to_vec();
    let extra = c.attrs().ints("high_extra").to_vec();
    let ceil = extra.iter().any(|&e| e != 0);
    let mut attributes = more;
    if ceil {
        if !is_ceil_mode(c, &shape[2..]) {
            return Err(ExportError::new(format!(
                "its windows {extra:?} beyond the image are not those of {operator}'s ceil mode; fix the sizes of the image with --dim"
            )));
        }
        attributes.push(proto::int("ceil_mode", 1));
    }
    let wide = pooled(operator, dtype)?;
    if let Some(wide) = wide {
        x = c.cast(&x, wide);
    }
    if pads.iter().any(|&p| p < 0) {
        if outputs > 1 {
            return Err(ExportError::new("ONNX's MaxPool with indices has no negative pads"));
        }
        let cut: Vec<i64> = pads.iter().map(|&p| p.min(0)).collect();
        x = padded(c, &x, &cut, "");
        pads.iter_mut().for_each(|p| *p = (*p).max(0));
    }
    attributes.extend(geometry(c, &pads));
    let mut y = c.emit_many("", operator, &[x], outputs, attributes);
    if wide.is_some() {
        y[0] = c.cast(&y[0], dtype);
    }
    Ok(y)
}

/// A sum is a convolution of every channel by itself with weights of 1.
fn sum_pool(c: &mut Call<'_, '_>, x: String, shape: &[Dim], dtype: DType) -> Result<String, ExportError> {
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(ExportError::new(format!("ONNX has no sums over windows of {dtype}")));
    }
    let one = c.number(dtype, 1.0)?;
    let kernel = c.attrs().ints("kernel").to_vec();
    let n = kernel.len();
    let weights = [&[1, 1], kernel.as_slice()].concat();
    let weights = c.ints(&weights);
    let weights = c.op("Expand", &[&one, &weights], vec![]);
    let mut pads = c.attrs().ints("pads").to_vec();
    for (pad, extra) in pads[n..].iter_mut().zip(c.attrs().ints("high_extra")) {
        *pad += extra;
    }
    let images = shape[0].clone() * shape[1].clone();
    let alone: Vec<Dim> =
        [images, Dim::constant(1)].into_iter().chain(shape[2..].iter().cloned()).collect();
    let mut x = c.reshape(&x, &alone)?;
    if pads.iter().any(|&p| p < 0) {
        x = padded(c, &x, &pads, "");
        pads = vec![0; 2 * n];
    }
    let attributes = geometry(c, &pads);
    let y = c.op("Conv", &[&x, &weights], attributes);
    let mut to = c.result(0)?.shape;
    if is_channels_last(c) {
        let channel = to.pop().unwrap_or_else(|| Dim::constant(1));
        to.insert(1, channel);
    }
    c.reshape(&y, &to)
}

fn max_pool_indices(c: &mut Call<'_, '_>) -> Written {
    let (x, ty) = (c.opt(0), c.ty(0)?);
    if pooled("MaxPool", ty.dtype)?.is_some() {
        return Err(ExportError::new(format!("ONNX's MaxPool takes no {}", ty.dtype)));
    }
    let order = vec![proto::int("storage_order", c.attrs().int("column_major"))];
    of_inside(c, "MaxPool", x, &ty.shape, ty.dtype, 2, order)
}

fn col2im(c: &mut Call<'_, '_>) -> Written {
    let x = c.opt(0);
    let [image, block] = ["image_shape", "block_shape"].map(|name| {
        let values = c.attrs().ints(name).to_vec();
        c.writer.constant(&Tensor::new(&[values.len()], values))
    });
    let attributes = ["strides", "dilations", "pads"].map(|name| proto::ints(name, c.attrs().ints(name)));
    Ok(vec![c.op("Col2Im", &[&x, &image, &block], attributes.to_vec())])
}
