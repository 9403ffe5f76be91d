//! Images read at real coordinates.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Sampling as S;
use egret_ir::{DType, Dim, DimOp, Tensor};

pub(super) fn spelling(op: S) -> Spelling {
    match op {
        S::Resize => Nodes("Resize", resize),
        S::GridSample => Nodes("GridSample", grid_sample),
        S::RoiAlign => Nodes("RoiAlign", roi_align),
        S::DeformConv => Nodes("DeformConv", deform_conv),
    }
}

/// Whether a scale gives the size of an axis, as an f32 that ONNX holds.
fn scale_gives(size: &Dim, from: &Dim, scale: f64, extent: f64) -> bool {
    f64::from(scale as f32) == scale
        && match (size.as_const(), from.as_const()) {
            (Some(size), Some(from)) => {
                (from as f64 * (scale * extent)).floor() as i64 == size
                    && rounded(from, scale, extent) == size
            }
            _ => extent == 1.0 && whole_scale_gives(size, from, scale),
        }
}

/// The size that ONNX Runtime gives an axis by a scale: it rounds the product to f32 before it cuts off, so that 5 times the f32 next to 1.4 is 7.
fn rounded(from: i64, scale: f64, extent: f64) -> i64 {
    (scale as f32 * from as f32 * extent as f32).floor() as i64
}

/// A free dim times a scale: a whole number, a fraction of small numbers, or the f32 next to 1 / q and not below it, where q divides the
/// dim. ONNX cuts the product off.
fn whole_scale_gives(size: &Dim, from: &Dim, scale: f64) -> bool {
    let fraction = (1..=64).map(|q| (scale * f64::from(q), q)).find(|(p, _)| *p == p.round() && *p < 1e6);
    if let Some((p, q)) = fraction {
        let product = from.clone() * Dim::constant(p as i64);
        return p >= 1.0 && *size == product.op(DimOp::FloorDiv, &Dim::constant(q.into()));
    }
    let q = scale.recip().round();
    let next = q < 1e6 && q.recip() as f32 == scale as f32 && scale * q >= 1.0;
    next && *from == size.clone() * Dim::constant(q as i64)
}

/// Whether a scale is what the sizes say.
fn size_gives(size: &Dim, from: &Dim, scale: f64, _: f64) -> bool {
    scale == 0.0
        || match (size.as_const(), from.as_const()) {
            (Some(size), Some(from)) => from != 0 && size as f64 / from as f64 == scale,
            _ => size.divide_exactly(from).and_then(|q| q.as_const()).is_some_and(|q| q as f64 == scale),
        }
}

fn resize(c: &mut Call<'_, '_>) -> Written {
    let (x, roi, from) = (c.opt(0), c.opt(1), c.ty(0)?.shape);
    let attrs = c.attrs();
    let (sizes, scales) = (attrs.dims("sizes").to_vec(), attrs.floats("scales").to_vec());
    let coordinate = attrs.str("coordinate").to_owned();
    if coordinate == "tf_half_pixel_for_nn" {
        return Err(ExportError::new(
            "ONNX has no coordinates `tf_half_pixel_for_nn` since opset 13; keep the original model for this part",
        ));
    }
    let attributes = vec![
        proto::text("mode", attrs.str("mode")),
        proto::text("coordinate_transformation_mode", &coordinate),
        proto::text("nearest_mode", attrs.str("nearest")),
        proto::float("cubic_coeff_a", attrs.float("cubic_a")),
        proto::int("exclude_outside", attrs.int("exclude_outside")),
        proto::int("antialias", attrs.int("antialias")),
        proto::float("extrapolation_value", attrs.float("extrapolation")),
    ];
    // How much of each axis a region of interest covers, which scales count for.
    let mut extents = vec![1.0; sizes.len()];
    if let Some(roi) = c.value(1).and_then(|v| c.graph.as_const(v)).filter(|t| t.dtype() == DType::F32) {
        let (starts, ends) = roi.data::<f32>().split_at(roi.len() / 2);
        let extent = |(start, end): (&f32, &f32)| f64::from(*end) - f64::from(*start);
        extents = starts.iter().zip(ends).map(extent).collect();
    }
    let each = |i: usize| Some((sizes.get(i)?, from.get(i)?, *scales.get(i)?, *extents.get(i)?));
    let all = |gives: fn(&Dim, &Dim, f64, f64) -> bool| {
        (0..sizes.len())
            .all(|i| each(i).is_some_and(|(size, from, scale, extent)| gives(size, from, scale, extent)))
    };
    let (mut by_scale, mut by_size) = (String::new(), String::new());
    if all(scale_gives) {
        let scales: Vec<f32> = scales.iter().map(|&s| s as f32).collect();
        by_scale = c.writer.constant(&Tensor::new(&[scales.len()], scales));
    } else if all(size_gives) {
        by_size = c.writer.shape(&sizes)?;
    } else {
        let differs = (0..sizes.len()).filter_map(each).find_map(|(size, from, scale, extent)| {
            let (size, from) = (size.as_const()?, from.as_const()?);
            let other = rounded(from, scale, extent);
            let exact = (from as f64 * (scale * extent)).floor() as i64 == size;
            (exact && other != size).then_some((from, scale as f32, size, other))
        });
        if let Some((from, scale, size, other)) = differs {
            return Err(ExportError::new(format!(
                "an axis of {from} times the scale {scale} is {size} cut off, as ONNX says, and {other} in ONNX Runtime, which rounds the \
                 product to f32 before; keep the original model for this part, or give its Resize sizes instead of scales"
            )));
        }
        return Err(ExportError::new(format!(
            "the scales {scales:?} do not give its sizes, nor the sizes the scales, and ONNX has only one of them; keep the original model for this part"
        )));
    }
    Ok(vec![c.op("Resize", &[&x, &roi, &by_scale, &by_size], attributes)])
}

fn grid_sample(c: &mut Call<'_, '_>) -> Written {
    let (x, grid) = (c.opt(0), c.opt(1));
    let attributes = vec![
        proto::text("mode", c.attrs().str("mode")),
        proto::text("padding_mode", c.attrs().str("padding")),
        proto::int("align_corners", c.attrs().int("align_corners")),
    ];
    Ok(vec![c.op("GridSample", &[&x, &grid], attributes)])
}

fn roi_align(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    let attrs = c.attrs();
    let coordinates = if attrs.flag("half_pixel") { "half_pixel" } else { "output_half_pixel" };
    let mut attributes = vec![
        proto::text("mode", attrs.str("mode")),
        proto::text("coordinate_transformation_mode", coordinates),
        proto::float("spatial_scale", attrs.float("spatial_scale")),
    ];
    for name in ["output_height", "output_width", "sampling_ratio"] {
        attributes.push(proto::int(name, attrs.int(name)));
    }
    Ok(vec![c.emit("RoiAlign", &operands, attributes)])
}

fn deform_conv(c: &mut Call<'_, '_>) -> Written {
    let (x, w, offset, mask) = (c.opt(0), c.opt(1), c.opt(2), c.opt(3));
    let mut attributes: Vec<_> =
        ["strides", "dilations", "pads"].map(|name| proto::ints(name, c.attrs().ints(name))).to_vec();
    attributes.push(proto::int("group", c.attrs().int("groups")));
    attributes.push(proto::int("offset_group", c.attrs().int("offset_groups")));
    Ok(vec![c.op("DeformConv", &[&x, &w, &offset, "", &mask], attributes)])
}
