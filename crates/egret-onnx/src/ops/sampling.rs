//! Operators that read images at real coordinates: Resize, Upsample, GridSample, AffineGrid, RoiAlign, DeformConv.

use super::emit::{dim, product};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Dim, DimOp, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("AffineGrid", 20, affine_grid),
    onnx("DeformConv", 19, deform_conv),
    onnx("GridSample", 16, grid_sample),
    onnx("Resize", 10, resize),
    onnx("RoiAlign", 10, roi_align),
    onnx("Upsample", 1, upsample),
];

/// How `resize` samples: its attributes apart from sizes and scales.
struct Sampling {
    mode: String,
    coordinate: String,
    nearest: String,
    cubic_a: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

impl Sampling {
    /// What Upsample and Resize 10 mean, before coordinates could be chosen.
    fn asymmetric(mode: String) -> Sampling {
        Sampling {
            mode,
            coordinate: "asymmetric".into(),
            nearest: "floor".into(),
            cubic_a: -0.75,
            exclude_outside: false,
            antialias: false,
            extrapolation: 0.0,
        }
    }

    fn emit(
        self,
        ctx: &mut NodeCtx,
        x: ValueId,
        roi: Option<ValueId>,
        sizes: Vec<Dim>,
        scales: Vec<f64>,
    ) -> OpResult {
        let attrs = attrs! {
            sizes: sizes,
            scales: scales,
            mode: self.mode,
            coordinate: self.coordinate,
            nearest: self.nearest,
            cubic_a: self.cubic_a,
            exclude_outside: self.exclude_outside,
            antialias: self.antialias,
            extrapolation: self.extrapolation,
        };
        ctx.emit_node(Op::Resize, attrs, &[Some(x), roi], vec![])
    }
}

/// `floor(size * scale)` of the scale's own number, as ONNX's shape inference has it: 12 of 10 by the f32 next to 1.3, where ONNX Runtime rounds
/// the product to f32 and has 13. A symbolic size is multiplied by the scale's fraction, which is exact.
fn scaled(size: &Dim, scale: f64) -> Result<Dim, ImportError> {
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(ImportError::invalid(format!("a scale of {scale}")));
    }
    let exact = fraction(scale);
    if let Some(n) = size.as_const() {
        let of =
            |[p, q]: [i64; 2]| i64::try_from((i128::from(n) * i128::from(p)).div_euclid(q.into())).ok();
        return Ok(dim(exact.and_then(of).unwrap_or((n as f64 * scale).floor() as i64)));
    }
    let q = scale.recip().round();
    // The f32 next to 1 / q, or a little above, floors to the quotient itself where q divides the size; a little below it would not.
    let next = q < 1e6 && q.recip() as f32 == scale as f32 && scale * q >= 1.0;
    if let Some(quotient) = size.divide_exactly(&dim(q as i64)).filter(|_| next) {
        return Ok(quotient);
    }
    let [p, q] = exact.ok_or_else(|| {
        ImportError::open(format!("the scale {scale} of the dim {size}, which is not constant"), size)
    })?;
    Ok((size.clone() * dim(p)).op(DimOp::FloorDiv, &dim(q)))
}

/// A positive number as numerator and denominator without a common divisor, where both are numbers of i64: the denominator is a power of two.
fn fraction(x: f64) -> Option<[i64; 2]> {
    let (mut p, mut q) = (x, 1i64);
    while p != p.trunc() {
        p *= 2.0;
        q = q.checked_mul(2)?;
    }
    (p < (1i64 << 62) as f64).then_some([p as i64, q])
}

/// `to / from`, or 0 (which `resize` takes as just that quotient) where only the running model knows it.
fn ratio(to: &Dim, from: &Dim) -> f64 {
    match (to.as_const(), from.as_const()) {
        (Some(t), Some(f)) if f != 0 => t as f64 / f as f64,
        _ if to == from => 1.0,
        _ => to.divide_exactly(from).and_then(|q| q.as_const()).map_or(0.0, |q| q as f64),
    }
}

fn upsample(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let mode = ctx.str("mode", "nearest")?;
    let mode = if mode == "bilinear" { "linear".to_owned() } else { mode };
    if !["nearest", "linear"].contains(&mode.as_str()) {
        return Err(ctx.bad_attr("mode", mode));
    }
    let scales: Vec<f64> = if ctx.opset < 7 {
        let [height, width] = [ctx.opt_float("height_scale")?, ctx.opt_float("width_scale")?];
        match (height, width) {
            (Some(h), Some(w)) => vec![1.0, 1.0, h.into(), w.into()],
            _ => return Err(ImportError::invalid("Upsample needs `height_scale` and `width_scale`")),
        }
    } else if ctx.opset < 9 {
        let scales =
            ctx.opt_floats("scales")?.ok_or_else(|| ImportError::invalid("Upsample needs its `scales`"))?;
        scales.into_iter().map(f64::from).collect()
    } else {
        ctx.need_floats(ctx.input(1)?, "the scales of Upsample")?
    };
    by_scales(ctx, x, &dims, scales, Sampling::asymmetric(mode))
}

fn by_scales(
    ctx: &mut NodeCtx,
    x: ValueId,
    dims: &[Dim],
    scales: Vec<f64>,
    sampling: Sampling,
) -> OpResult {
    if scales.len() != dims.len() {
        return Err(ImportError::invalid(format!(
            "{} has {} scales for a rank of {}",
            ctx.op_type,
            scales.len(),
            dims.len()
        )));
    }
    let sizes = dims.iter().zip(&scales).map(|(d, &s)| scaled(d, s)).collect::<Result<_, _>>()?;
    sampling.emit(ctx, x, None, sizes, scales)
}

fn resize(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let mode = ctx.str("mode", "nearest")?;
    if ctx.opset < 11 {
        if !["nearest", "linear"].contains(&mode.as_str()) {
            return Err(ctx.bad_attr("mode", mode));
        }
        let scales = ctx.need_floats(ctx.input(1)?, "the scales of Resize")?;
        return by_scales(ctx, x, &dims, scales, Sampling::asymmetric(mode));
    }
    let sampling = Sampling {
        coordinate: ctx.str("coordinate_transformation_mode", "half_pixel")?,
        nearest: ctx.str("nearest_mode", "round_prefer_floor")?,
        cubic_a: ctx.float("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: ctx.flag("exclude_outside", false)?,
        extrapolation: ctx.float("extrapolation_value", 0.0)?.into(),
        antialias: ctx.flag("antialias", false)?,
        mode,
    };
    if !["nearest", "linear", "cubic"].contains(&sampling.mode.as_str()) {
        return Err(ctx.bad_attr("mode", sampling.mode));
    }
    let coordinates = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    ];
    let coordinate = sampling.coordinate.as_str();
    // Resize 11 and 12 had one more for nearest neighbours.
    let known =
        coordinates.contains(&coordinate) || (coordinate == "tf_half_pixel_for_nn" && ctx.opset < 13);
    if !known {
        return Err(ctx.bad_attr("coordinate_transformation_mode", coordinate));
    }
    if !["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].contains(&sampling.nearest.as_str()) {
        return Err(ctx.bad_attr("nearest_mode", sampling.nearest));
    }
    let policy = ctx.str("keep_aspect_ratio_policy", "stretch")?;
    let axes = match ctx.opt_ints("axes")? {
        Some(axes) => ctx.axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let crop = sampling.coordinate == "tf_crop_and_resize";
    let roi = if crop { Some(region(ctx, &axes, dims.len())?) } else { None };
    // An empty tensor stands for a left-out one: opset 11 could not leave inputs out.
    let present = |ctx: &NodeCtx, i: usize| -> Result<Option<ValueId>, ImportError> {
        Ok(match ctx.opt_input(i) {
            Some(v) if ctx.tensor(v)?.const_len() != Some(0) => Some(v),
            _ => None,
        })
    };
    let (mut sizes, mut scales) = (dims.clone(), vec![1.0; dims.len()]);
    let count = |n: usize| {
        if n == axes.len() {
            Ok(())
        } else {
            Err(ImportError::invalid(format!("Resize has {n} scales or sizes for {} axes", axes.len())))
        }
    };
    if let Some(v) = present(ctx, 3)? {
        let wanted = ctx.need_dims(v, "the sizes of Resize")?;
        count(wanted.len())?;
        for (&axis, size) in axes.iter().zip(wanted) {
            scales[axis] = ratio(&size, &dims[axis]);
            sizes[axis] = size;
        }
        if policy != "stretch" {
            if let Some(size) = axes.iter().map(|&a| &sizes[a]).find(|s| s.as_const().is_none()) {
                let reason =
                    format!("Resize that keeps the aspect ratio needs the size {size} as a constant");
                return Err(ImportError::open(reason, size));
            }
            let ratios = axes.iter().map(|&a| scales[a]);
            let scale = match policy.as_str() {
                "not_larger" => ratios.fold(f64::INFINITY, f64::min),
                "not_smaller" => ratios.fold(0.0, f64::max),
                _ => return Err(ctx.bad_attr("keep_aspect_ratio_policy", policy)),
            };
            for &axis in &axes {
                let open = &dims[axis];
                let known = open.as_const().ok_or_else(|| {
                    ImportError::open(
                        format!("Resize that keeps the aspect ratio needs the dim {open} as a constant"),
                        open,
                    )
                })?;
                scales[axis] = scale;
                sizes[axis] = dim((scale * known as f64 + 0.5).floor() as i64);
            }
        }
    } else if let Some(v) = present(ctx, 2)? {
        let wanted = ctx.need_floats(v, "the scales of Resize")?;
        count(wanted.len())?;
        let extents = match roi {
            Some(roi) => {
                let r = ctx.need_floats(roi, "the region of interest of Resize")?;
                if r.len() != 2 * dims.len() {
                    return Err(ImportError::invalid(format!(
                        "the region of interest of Resize has {} entries",
                        r.len()
                    )));
                }
                (0..dims.len()).map(|i| r[i + dims.len()] - r[i]).collect()
            }
            None => vec![1.0; dims.len()],
        };
        for (&axis, scale) in axes.iter().zip(wanted) {
            scales[axis] = scale;
            sizes[axis] = scaled(&dims[axis], scale * extents[axis])?;
        }
    } else {
        return Err(ImportError::invalid("Resize needs scales or sizes"));
    }
    sampling.emit(ctx, x, roi, sizes, scales)
}

/// The region of interest over all axes: starts, then ends; the whole of an axis that is not resized.
fn region(ctx: &mut NodeCtx, axes: &[usize], rank: usize) -> Result<ValueId, ImportError> {
    let roi = ctx.input(1)?;
    // Known at compile time, as the sizes are: a compiled resize is a table of places and weights.
    let given = ctx.need_floats(roi, "the region of interest of Resize")?;
    if given.len() != 2 * axes.len() {
        return Err(ImportError::invalid(format!(
            "the region of interest of Resize has {} entries for {} axes",
            given.len(),
            axes.len()
        )));
    }
    let mut all = vec![0f32; rank];
    all.extend(vec![1f32; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        all[axis] = given[i] as f32;
        all[rank + axis] = given[i + axes.len()] as f32;
    }
    Ok(ctx.builder.constant(Tensor::new(&[2 * rank], all)))
}

fn grid_sample(ctx: &mut NodeCtx) -> OpResult {
    let (x, grid) = (ctx.input(0)?, ctx.input(1)?);
    // Opset 16 calls the modes by their names for two axes.
    let mode = match ctx.str("mode", "linear")?.as_str() {
        "linear" | "bilinear" => "linear",
        "cubic" | "bicubic" => "cubic",
        "nearest" => "nearest",
        other => return Err(ctx.bad_attr("mode", other)),
    };
    let padding = ctx.str("padding_mode", "zeros")?;
    if !["zeros", "border", "reflection"].contains(&padding.as_str()) {
        return Err(ctx.bad_attr("padding_mode", padding));
    }
    let align = ctx.flag("align_corners", false)?;
    Ok(vec![ctx.emit(
        Op::GridSample,
        attrs! { mode: mode, padding: padding, align_corners: align },
        &[x, grid],
    )?])
}

fn affine_grid(ctx: &mut NodeCtx) -> OpResult {
    let theta = ctx.input(0)?;
    let size = ctx.need_dims(ctx.input(1)?, "the size of AffineGrid")?;
    let align = ctx.flag("align_corners", false)?;
    let ty = ctx.tensor(theta)?;
    let dtype = ty.dtype;
    let Some((batch, spatial)) =
        size.split_first().and_then(|(n, s)| s.get(1..).map(|s| (n.clone(), s.to_vec())))
    else {
        return Err(ImportError::invalid("the size of AffineGrid must have 4 or 5 entries"));
    };
    let rank = spatial.len();
    if !(2..=3).contains(&rank) {
        return Err(ImportError::invalid(format!(
            "the size of AffineGrid must have 4 or 5 entries, not {}",
            size.len()
        )));
    }
    // Coordinates along each axis, spread over the grid; the innermost axis (x) comes first, a row of ones last.
    let mut rows = vec![];
    for axis in (0..rank).rev() {
        let n = spatial[axis].as_const().ok_or_else(|| {
            let open = &spatial[axis];
            ImportError::open(format!("AffineGrid needs the dim {open} as a constant"), open)
        })?;
        let (start, step) = match (align, n) {
            (true, ..=1) => (0.0, 0.0),
            (true, _) => (-1.0, 2.0 / (n - 1) as f64),
            (false, _) => (-1.0 + 1.0 / n as f64, 2.0 / n as f64),
        };
        let steps = ctx.iota_along(dtype, dim(n), axis, rank)?;
        let offsets = ctx.with_scalar(Op::Mul, steps, step)?;
        let places = ctx.with_scalar(Op::Add, offsets, start)?;
        rows.push(ctx.broadcast(places, spatial.clone())?);
    }
    let one = ctx.scalar(dtype, 1.0)?;
    rows.push(ctx.broadcast(one, spatial.clone())?);
    let count = super::emit::product(&spatial);
    for row in &mut rows {
        *row = ctx.reshape(*row, vec![dim(1), count.clone()])?;
    }
    let base = ctx.concat(&rows, 0)?;
    let moved = ctx.binary(Op::Matmul, theta, base)?;
    let moved = ctx.swap_last(moved)?;
    let shape = std::iter::once(batch).chain(spatial).chain([dim(rank as i64)]);
    Ok(vec![ctx.reshape_to(moved, shape)?])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_scales_are_exact() {
        assert_eq!(fraction(1.75), Some([7, 4]));
        assert_eq!(fraction(3.0), Some([3, 1]));
        assert_eq!(fraction(1e-30), None);
        let n = Dim::symbol("n");
        assert_eq!(scaled(&n, 2.0).expect("a size"), n.clone() * dim(2));
        // The f32 next to 1 / 3 is above it.
        assert_eq!(scaled(&(n.clone() * dim(3)), (1f32 / 3.0).into()).expect("a size"), n);
        for scale in [0.5f32, 0.6, 0.8, 1.0 / 3.0, 1.3, 2.3, 1e-3, 40.1] {
            let free = scaled(&n, scale.into()).expect("a size");
            for size in [0, 1, 2, 3, 9, 10, 30, 1023, 1 << 20, (1 << 31) + 7, 123_456_789_012] {
                let constant = scaled(&dim(size), scale.into()).expect("a size");
                assert_eq!(free.substitute(&[("n".to_owned(), size)].into()), constant, "{size} * {scale}");
                if size < 1 << 29 {
                    assert_eq!(constant, dim((size as f64 * f64::from(scale)).floor() as i64));
                }
            }
        }
        // 12 of 10, and not 13 as after rounding the product.
        assert_eq!(scaled(&dim(10), 1.3f32.into()).expect("a size"), dim(12));
        assert!(scaled(&n, 1e-30).is_err() && scaled(&n, f64::NAN).is_err() && scaled(&n, 0.0).is_err());
    }
}
