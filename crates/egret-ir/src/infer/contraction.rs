//! Matrix products and convolutions.

use super::{Call, check, dims, one};
use crate::families::Contraction;
use crate::{DType, Dim, TensorType, Type};
use dims::Layout;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Contraction, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Contraction::Matmul => matmul(call),
        Contraction::Conv => conv(call),
        Contraction::ConvTranspose => conv_transpose(call),
    }
}

fn matmul(call: &Call) -> Result<Vec<Type>, String> {
    let (a, b) = (call.bounded(0)?, call.bounded(1)?);
    let misfit = || format!("{a} and {b} do not multiply");
    let dtype = sum_type(a.dtype, b.dtype).ok_or_else(misfit)?;
    if a.rank() < 2 || b.rank() < 2 {
        return Err(misfit());
    }
    let (m, k) = (&a.shape[a.rank() - 2], &a.shape[a.rank() - 1]);
    let (k2, n) = (&b.shape[b.rank() - 2], &b.shape[b.rank() - 1]);
    if !dims::may_equal(k, k2) {
        return Err(misfit());
    }
    let mut shape =
        dims::broadcast(&a.shape[..a.rank() - 2], &b.shape[..b.rank() - 2]).ok_or_else(misfit)?;
    shape.extend([m.clone(), n.clone()]);
    one(dtype, shape)
}

/// What a matrix product or a convolution of these element types gives: i32 for bytes, of either sign each, else the type of both.
pub(crate) fn sum_type(a: DType, b: DType) -> Option<DType> {
    let byte = |d: DType| matches!(d, DType::U8 | DType::I8);
    if byte(a) && byte(b) { Some(DType::I32) } else { (a == b).then_some(a) }
}

/// x and w of one rank (3 at least, or 2: no spatial axis at all).
fn image_and_filter<'a>(call: &Call<'a>) -> Result<(&'a TensorType, &'a TensorType), String> {
    let (x, w) = (call.bounded(0)?, call.bounded(1)?);
    if x.rank() != w.rank() || x.rank() < 2 {
        return Err(misfits(x, w));
    }
    if let Some(bad) = w.shape[2..].iter().find(|k| k.as_const() == Some(0)) {
        return Err(format!("the filter {w} has the kernel size {bad}"));
    }
    Ok((x, w))
}

/// x and w of one element type and rank.
pub(super) fn alike<'a>(call: &Call<'a>) -> Result<(&'a TensorType, &'a TensorType), String> {
    let (x, w) = image_and_filter(call)?;
    if x.dtype == w.dtype { Ok((x, w)) } else { Err(misfits(x, w)) }
}

fn misfits(x: &TensorType, w: &TensorType) -> String {
    format!("the image {x} and the filter {w} do not fit together")
}

/// The attribute `groups`, of which `what` (if constant) is a multiple.
pub(super) fn groups(call: &Call, what: &Dim) -> Result<Dim, String> {
    let groups = call.attrs.int("groups");
    if !(1..=check::MAX_EXTENT).contains(&groups) || what.as_const().is_some_and(|c| c % groups != 0) {
        return Err(format!("`groups` is {groups}, which does not divide the channels, {what}"));
    }
    Ok(Dim::constant(groups))
}

fn conv(call: &Call) -> Result<Vec<Type>, String> {
    let (x, w) = image_and_filter(call)?;
    let dtype = sum_type(x.dtype, w.dtype).ok_or_else(|| misfits(x, w))?;
    let layout = Layout::named(call.attrs.str("layout"));
    let channels = &x.shape[layout.channel_axis(x.rank())];
    groups(call, &w.shape[0])?;
    let per_group = w.shape[1].clone() * groups(call, channels)?;
    if !dims::may_equal(&per_group, channels) {
        return Err(format!("the filter {w} is for {per_group} channels, but {x} has {channels}"));
    }
    let spatial = layout.spatial(x);
    let axes = dims::axes(call, &w.shape[2..], 0)?;
    let out =
        axes.iter().zip(spatial).map(|(a, size)| dims::positions(a, size)).collect::<Result<_, _>>()?;
    one(dtype, layout.assemble(x.shape[0].clone(), w.shape[0].clone(), out))
}

fn conv_transpose(call: &Call) -> Result<Vec<Type>, String> {
    let (x, w) = alike(call)?;
    let layout = Layout::named(call.attrs.str("layout"));
    let channels = &x.shape[layout.channel_axis(x.rank())];
    let count = groups(call, channels)?;
    if !dims::may_equal(&w.shape[0], channels) {
        return Err(format!("the filter {w} is for {} channels, but {x} has {channels}", w.shape[0]));
    }
    let spatial = layout.spatial(x);
    let mut axes = dims::axes(call, &w.shape[2..], -check::MAX_EXTENT)?;
    let extra = call.extents("output_padding", spatial.len(), 0)?;
    let mut out = vec![];
    for ((axis, size), extra) in axes.iter_mut().zip(spatial).zip(extra) {
        axis.high -= extra;
        let image = axis.image(size);
        out.push(image.ok_or_else(|| format!("the result of {x} is larger than a tensor can be"))?);
    }
    one(x.dtype, layout.assemble(x.shape[0].clone(), w.shape[1].clone() * count, out))
}
