//! Images read at real coordinates: resizing, grids, regions of interest, deformed kernels.

use super::contraction::{alike, groups};
use super::window::image;
use super::{Call, check, dims, one};
use crate::families::Sampling;
use crate::{Dim, TensorType, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Sampling, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Sampling::Resize => resize(call),
        Sampling::GridSample => grid_sample(call),
        Sampling::RoiAlign => roi_align(call),
        Sampling::DeformConv => deform_conv(call),
    }
}

fn resize(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let sizes = call.dims("sizes", x.rank())?;
    call.sizes("sizes")?;
    let scales = call.attrs.floats("scales");
    if scales.len() != x.rank() || scales.iter().any(|s| !s.is_finite() || *s < 0.0) {
        return Err(format!("`scales` {scales:?} are not one positive number for each axis of {x}"));
    }
    let mode = call.attrs.str("mode");
    let coordinate = call.attrs.str("coordinate");
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

fn grid_sample(call: &Call) -> Result<Vec<Type>, String> {
    let (x, grid) = (image(call)?, call.tensor(1)?);
    let mode = call.attrs.str("mode");
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

fn roi_align(call: &Call) -> Result<Vec<Type>, String> {
    let (x, rois, batches) = (call.bounded(0)?, call.tensor(1)?, call.integers(2)?);
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

fn deform_conv(call: &Call) -> Result<Vec<Type>, String> {
    let (x, w) = alike(call)?;
    call.expect_rank(0, x, 4)?;
    groups(call, &w.shape[0])?;
    let per_group = w.shape[1].clone() * groups(call, &x.shape[1])?;
    if !dims::may_equal(&per_group, &x.shape[1]) {
        return Err(format!("the filter {w} is for {per_group} channels, but {x} has {}", x.shape[1]));
    }
    let offset_groups = call.attrs.int("offset_groups");
    if !(1..=check::MAX_EXTENT).contains(&offset_groups)
        || x.shape[1].as_const().is_some_and(|c| c % offset_groups != 0)
    {
        return Err(format!(
            "`offset_groups` is {offset_groups}, which does not divide the channels of {x}"
        ));
    }
    let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
    for (axis, size) in dims::axes(call, &w.shape[2..], 0)?.iter().zip(&x.shape[2..]) {
        shape.push(dims::positions(axis, size)?);
    }
    let taps = Dim::constant(offset_groups) * w.shape[2].clone() * w.shape[3].clone();
    let expect = |i: usize, t: &TensorType, channels: Dim| {
        call.expect_dtype(i, t, x.dtype)?;
        let expected = [shape[0].clone(), channels, shape[2].clone(), shape[3].clone()];
        if dims::shapes_may_equal(&t.shape, &expected) {
            Ok(())
        } else {
            Err(format!("{} is {t}, but its shape must be {expected:?}", call.operand_name(i)))
        }
    };
    expect(2, call.tensor(2)?, taps.clone() * Dim::constant(2))?;
    if let Some(mask) = call.optional_tensor(3)? {
        expect(3, mask, taps)?;
    }
    one(x.dtype, shape)
}
