//! Matrix products and convolutions: each gradient is a contraction of the same kind.

use super::Call;
use super::walk::{Geometry, all_axes, channels_first, rows, spatial, spread};
use crate::emit::{Emit, Made, Refusal};
use egret_ir::{Dim, Op, ValueId, attrs};

/// `matmul`: g b^T and a^T g.
pub(super) fn matmul(call: &mut Call) -> Result<(), Refusal> {
    let (a, b, g) = (call.x(0), call.x(1), call.g()?);
    if call.wants(0) {
        let turned = call.e.transpose_last(b)?;
        let gradient = call.e.matmul(g, turned)?;
        call.give_summed(0, gradient)?;
    }
    if call.wants(1) {
        let e = &mut *call.e;
        // A matrix that was multiplied to every one of a batch: the sum over the batch is part of the product.
        let (left, right) =
            if e.rank(b) == 2 && e.rank(a) > 2 { (rows(e, a)?, rows(e, g)?) } else { (a, g) };
        let turned = e.transpose_last(left)?;
        let gradient = e.matmul(turned, right)?;
        call.give_summed(1, gradient)?;
    }
    Ok(())
}

/// The gradient of a filter [O, C / groups, kernel..] that walked over the image x [N, C, spatial..] and met g [N, O, positions..]:
/// a convolution in which batch and channels have changed places, and strides and dilations.
fn filter_gradient(
    e: &mut Emit,
    x: ValueId,
    g: ValueId,
    geometry: &Geometry,
    groups: i64,
    pads: Vec<i64>,
    kernel: &[Dim],
) -> Made {
    let rank = e.rank(x);
    let shape = e.shape(x);
    let rest: Vec<usize> = (2..rank).collect();
    // The batch of every group is a group of input channels.
    let channels = e.shape(x)[1].op(egret_ir::DimOp::FloorDiv, &Dim::constant(groups));
    let image = if groups == 1 {
        e.transpose(x, &[vec![1, 0], rest.clone()].concat())?
    } else {
        let mut split = vec![shape[0].clone(), Dim::constant(groups), channels.clone()];
        split.extend_from_slice(&shape[2..]);
        let split = e.reshape(x, split)?;
        let perm: Vec<usize> = [2, 1, 0].into_iter().chain(3..rank + 1).collect();
        let turned = e.transpose(split, &perm)?;
        let mut joined = vec![channels.clone(), shape[0].clone() * Dim::constant(groups)];
        joined.extend_from_slice(&shape[2..]);
        e.reshape(turned, joined)?
    };
    let filter = e.transpose(g, &[vec![1, 0], rest.clone()].concat())?;
    let attrs = attrs! {
        strides: geometry.dilations.clone(), dilations: geometry.strides.clone(), pads: pads,
        groups: groups, layout: "channels_first",
    };
    let all = e.op(Op::Conv, attrs, &[image, filter])?;
    // Where the walk did not reach the end of the image, the windows of this one fit more often than the kernel has taps.
    let mut sizes = vec![channels, e.shape(g)[1].clone()];
    sizes.extend_from_slice(kernel);
    let taps = e.slice(all, vec![Dim::constant(0); rank], sizes, vec![1; rank])?;
    e.transpose(taps, &[vec![1, 0], rest].concat())
}

/// `conv`.
pub(super) fn conv(call: &mut Call) -> Result<(), Refusal> {
    let (x, w, g) = (call.x(0), call.x(1), call.g()?);
    let (geometry, groups, layout) =
        (Geometry::of(call), call.attrs.int("groups"), call.attrs.str("layout"));
    if call.wants(0) {
        let image = spatial(call.e, x, layout);
        let gradient = spread(call.e, g, w, &geometry, &image, groups, layout)?;
        call.give(0, gradient)?;
    }
    if call.wants(1) {
        let (x, g) = (channels_first(call.e, x, layout)?, channels_first(call.e, g, layout)?);
        let kernel = call.e.shape(w)[2..].to_vec();
        let pads = call.attrs.ints("pads").to_vec();
        let gradient = filter_gradient(call.e, x, g, &geometry, groups, pads, &kernel)?;
        call.give(1, gradient)?;
    }
    Ok(())
}

/// `conv_transpose`: the image is the result, padded back to what the walk reaches over.
pub(super) fn conv_transpose(call: &mut Call) -> Result<(), Refusal> {
    let (x, w, g) = (call.x(0), call.x(1), call.g()?);
    let (geometry, groups, layout) =
        (Geometry::of(call), call.attrs.int("groups"), call.attrs.str("layout"));
    let e = &mut *call.e;
    let (positions, size, kernel) =
        (spatial(e, x, layout), spatial(e, g, layout), e.shape(w)[2..].to_vec());
    let n = size.len();
    let low: Vec<Dim> = geometry.low.iter().map(|&l| Dim::constant(l)).collect();
    let high: Vec<Dim> = (0..n)
        .map(|i| geometry.reach(i, &positions[i], &kernel[i]) - low[i].clone() - size[i].clone())
        .collect();
    let image = e.pad(g, all_axes(layout, low), all_axes(layout, high), 0.0)?;
    if call.wants(0) {
        let attrs = attrs! {
            strides: geometry.strides.clone(), dilations: geometry.dilations.clone(), pads: vec![0i64; 2 * n],
            groups: groups, layout: layout,
        };
        let gradient = call.e.op(Op::Conv, attrs, &[image, w])?;
        call.give(0, gradient)?;
    }
    if call.wants(1) {
        let (image, x) = (channels_first(call.e, image, layout)?, channels_first(call.e, x, layout)?);
        let gradient = filter_gradient(call.e, image, x, &geometry, groups, vec![0; 2 * n], &kernel)?;
        call.give(1, gradient)?;
    }
    Ok(())
}
