//! Matrix products and convolutions.

use super::{Call, check, dims, one};
use crate::families::Contraction;
use crate::{Dim, TensorType, Type};
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
    if a.dtype != b.dtype || a.rank() < 2 || b.rank() < 2 {
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
    one(a.dtype, shape)
}

/// Strides, dilations and pads, held against the number of spatial axes.
pub(super) struct Geometry<'a> {
    pub strides: &'a [i64],
    pub dilations: &'a [i64],
    pub pads: &'a [i64],
}

/// Read and check these attributes.
pub(super) fn geometry<'a>(
    call: &Call<'a>,
    spatial: usize,
    least_pad: i64,
) -> Result<Geometry<'a>, String> {
    Ok(Geometry {
        strides: call.extents("strides", spatial, 1)?,
        dilations: call.extents("dilations", spatial, 1)?,
        pads: call.extents("pads", 2 * spatial, least_pad)?,
    })
}

/// x and w of one element type and rank (3 at least, or 2: no spatial axis at all).
pub(super) fn image_and_filter<'a>(call: &Call<'a>) -> Result<(&'a TensorType, &'a TensorType), String> {
    let (x, w) = (call.bounded(0)?, call.bounded(1)?);
    if x.dtype != w.dtype || x.rank() != w.rank() || x.rank() < 2 {
        return Err(format!("the image {x} and the filter {w} do not fit together"));
    }
    if let Some(bad) = w.shape[2..].iter().find(|k| k.as_const() == Some(0)) {
        return Err(format!("the filter {w} has the kernel size {bad}"));
    }
    Ok((x, w))
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
    let layout = Layout::named(call.attrs.str("layout"));
    let channels = &x.shape[layout.channel_axis(x.rank())];
    groups(call, &w.shape[0])?;
    let per_group = w.shape[1].clone() * groups(call, channels)?;
    if !dims::may_equal(&per_group, channels) {
        return Err(format!("the filter {w} is for {per_group} channels, but {x} has {channels}"));
    }
    let spatial = layout.spatial(x);
    let g = geometry(call, spatial.len(), 0)?;
    let mut out = vec![];
    for (i, size) in spatial.iter().enumerate() {
        let padding = g.pads[i] + g.pads[i + spatial.len()];
        out.push(dims::windows(size, padding, g.dilations[i], &w.shape[2 + i], g.strides[i])?);
    }
    one(x.dtype, layout.assemble(x.shape[0].clone(), w.shape[0].clone(), out))
}

fn conv_transpose(call: &Call) -> Result<Vec<Type>, String> {
    let (x, w) = image_and_filter(call)?;
    let layout = Layout::named(call.attrs.str("layout"));
    let channels = &x.shape[layout.channel_axis(x.rank())];
    let count = groups(call, channels)?;
    if !dims::may_equal(&w.shape[0], channels) {
        return Err(format!("the filter {w} is for {} channels, but {x} has {channels}", w.shape[0]));
    }
    let spatial = layout.spatial(x);
    let g = geometry(call, spatial.len(), -check::MAX_EXTENT)?;
    let extra = call.extents("output_padding", spatial.len(), 0)?;
    let one_dim = || Dim::constant(1);
    let mut out = vec![];
    for (i, size) in spatial.iter().enumerate() {
        let span = Dim::constant(g.dilations[i]) * (w.shape[2 + i].clone() - one_dim()) + one_dim();
        let all = (size.clone() - one_dim()) * Dim::constant(g.strides[i]) + span;
        let change = extra[i] - g.pads[i] - g.pads[i + spatial.len()];
        out.push(all + Dim::constant(change));
    }
    one(x.dtype, layout.assemble(x.shape[0].clone(), w.shape[1].clone() * count, out))
}
