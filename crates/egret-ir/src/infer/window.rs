//! Windows over images: pooling, resizing, sampling.

use super::{Call, check, dims, one};
use crate::{DType, Dim, TensorType, Type};
use dims::Layout;

/// The spatial result dims of a pool over `spatial`.
fn pooled(call: &Call, spatial: &[Dim]) -> Result<Vec<Dim>, String> {
    let n = spatial.len();
    let kernel = call.extents("kernel", n, 1)?;
    let strides = call.extents("strides", n, 1)?;
    let dilations = call.extents("dilations", n, 1)?;
    let pads = call.extents("pads", 2 * n, 0)?;
    let extra = call.extents("high_extra", n, 0)?;
    (0..n)
        .map(|i| {
            let padding = pads[i] + pads[i + n] + extra[i];
            dims::windows(&spatial[i], padding, dilations[i], &Dim::constant(kernel[i]), strides[i])
        })
        .collect()
}

fn image<'a>(call: &Call<'a>) -> Result<&'a TensorType, String> {
    let x = call.bounded(0)?;
    if x.rank() < 2 { Err(format!("{x} has no batch and channel axes")) } else { Ok(x) }
}

pub(super) fn pool(call: &Call) -> Result<Vec<Type>, String> {
    let x = image(call)?;
    call.one_of("kind", &["max", "sum", "mean"])?;
    let layout = Layout::named(call.one_of("layout", &["channels_first", "channels_last"])?);
    let spatial = pooled(call, layout.spatial(x))?;
    let channels = x.shape[layout.channel_axis(x.rank())].clone();
    one(x.dtype, layout.assemble(x.shape[0].clone(), channels, spatial))
}

pub(super) fn max_pool_indices(call: &Call) -> Result<Vec<Type>, String> {
    let x = image(call)?;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(pooled(call, &x.shape[2..])?);
    Ok(vec![Type::tensor(x.dtype, shape.clone()), Type::tensor(DType::I64, shape)])
}

pub(super) fn resize(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let sizes = call.dims("sizes", x.rank())?;
    call.sizes("sizes")?;
    let scales = call.attrs.floats("scales");
    if scales.len() != x.rank() || scales.iter().any(|s| !s.is_finite() || *s < 0.0) {
        return Err(format!("`scales` {scales:?} are not one positive number for each axis of {x}"));
    }
    let mode = call.one_of("mode", &["nearest", "linear", "cubic"])?;
    let coordinate = call.one_of(
        "coordinate",
        &[
            "half_pixel",
            "half_pixel_symmetric",
            "pytorch_half_pixel",
            "align_corners",
            "asymmetric",
            "tf_half_pixel_for_nn",
            "tf_crop_and_resize",
        ],
    )?;
    if mode == "nearest" {
        call.one_of("nearest", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])?;
    }
    if mode != "nearest" && !check::within("number", x.dtype) {
        return Err(format!("operand `x` is {x}, between whose elements there is nothing to interpolate"));
    }
    let empty = |d: &Dim| d.as_const() == Some(0);
    if x.shape.iter().any(empty) && !sizes.iter().any(empty) {
        return Err(format!("{x} is empty, but the sizes {sizes:?} are not"));
    }
    match call.optional_tensor(1)? {
        Some(roi) => {
            call.expect_rank(1, roi, 1)?;
            let needed = Dim::from(2 * x.rank());
            let fits = dims::may_equal(&roi.shape[0], &needed);
            if !roi.dtype.is_float()
                || (!fits && (coordinate == "tf_crop_and_resize" || !empty(&roi.shape[0])))
            {
                return Err(format!("operand `roi` is {roi}, but must be a float vector of {needed}"));
            }
        }
        None if coordinate == "tf_crop_and_resize" => {
            return Err("operand `roi` is left out, but `coordinate` is `tf_crop_and_resize`".into());
        }
        None => {}
    }
    one(x.dtype, sizes)
}

pub(super) fn grid_sample(call: &Call) -> Result<Vec<Type>, String> {
    let (x, grid) = (image(call)?, call.tensor(1)?);
    let mode = call.one_of("mode", &["nearest", "linear", "cubic"])?;
    call.one_of("padding", &["zeros", "border", "reflection"])?;
    let spatial = x.rank() - 2;
    let fits = grid.rank() == x.rank()
        && grid.dtype.is_float()
        && dims::may_equal(&grid.shape[0], &x.shape[0])
        && dims::may_equal(&grid.shape[x.rank() - 1], &Dim::from(spatial));
    if !fits || spatial == 0 {
        return Err(format!("the grid {grid} does not address the {spatial} spatial axes of {x}"));
    }
    if mode != "nearest" && !check::within("number", x.dtype) {
        return Err(format!("operand `x` is {x}, between whose elements there is nothing to interpolate"));
    }
    let mut shape = x.shape[..2].to_vec();
    shape.extend_from_slice(&grid.shape[1..x.rank() - 1]);
    one(x.dtype, shape)
}

pub(super) fn roi_align(call: &Call) -> Result<Vec<Type>, String> {
    let (x, rois, batches) = (call.bounded(0)?, call.tensor(1)?, call.integers(2)?);
    call.one_of("mode", &["avg", "max"])?;
    call.expect_rank(0, x, 4)?;
    call.expect_rank(1, rois, 2)?;
    call.expect_rank(2, batches, 1)?;
    call.expect_dtype(1, rois, x.dtype)?;
    if !dims::may_equal(&rois.shape[1], &Dim::constant(4))
        || !dims::may_equal(&rois.shape[0], &batches.shape[0])
    {
        return Err(format!(
            "the regions {rois} are not four numbers for each of the batch indices {batches}"
        ));
    }
    call.count("sampling_ratio")?;
    let (height, width) = (call.count("output_height")?, call.count("output_width")?);
    one(x.dtype, vec![rois.shape[0].clone(), x.shape[1].clone(), height.into(), width.into()])
}

pub(super) fn col2im(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    call.expect_rank(0, x, 3)?;
    if !check::within("number", x.dtype) {
        return Err(format!("operand `x` is {x}, whose elements cannot be added"));
    }
    let n = call.attrs.ints("image_shape").len();
    let image = call.extents("image_shape", n, 0)?;
    let block = call.extents("block_shape", n, 1)?;
    let strides = call.extents("strides", n, 1)?;
    let dilations = call.extents("dilations", n, 1)?;
    let pads = call.extents("pads", 2 * n, 0)?;
    let mut blocks = Dim::constant(1);
    for i in 0..n {
        let size = Dim::constant(image[i]);
        blocks = blocks
            * dims::windows(
                &size,
                pads[i] + pads[i + n],
                dilations[i],
                &Dim::constant(block[i]),
                strides[i],
            )?;
    }
    let area = block.iter().fold(Dim::constant(1), |a, &b| a * Dim::constant(b));
    if !dims::may_equal(&x.shape[2], &blocks)
        || matches!((x.shape[1].as_const(), area.as_const()), (Some(c), Some(a)) if c % a != 0)
    {
        return Err(format!(
            "{x} is not [batch, channels * {area}, {blocks}], as image and block shape ask for"
        ));
    }
    let mut shape = vec![x.shape[0].clone(), x.shape[1].op(crate::DimOp::FloorDiv, &area)];
    shape.extend(image.iter().map(|&d| Dim::constant(d)));
    one(x.dtype, shape)
}
