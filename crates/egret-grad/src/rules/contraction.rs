//! Matrix products and convolutions: each gradient is a contraction of the same kind.

use super::Call;
use crate::emit::{Emit, Made, Refusal, product};
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

/// All leading axes as one: a matrix.
fn rows(e: &mut Emit, x: ValueId) -> Made {
    let shape = e.shape(x);
    let (last, lead) = shape.split_last().expect("a matrix");
    let rows = product(lead);
    e.reshape(x, vec![rows, last.clone()])
}

/// Smaller patches than this are few products of their own in a transposed convolution, which moves nothing.
const LEAST_PATCH: i64 = 16;

/// How a filter walks over an image.
pub(super) struct Geometry {
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    /// Pads at the low end.
    pub low: Vec<i64>,
}

impl Geometry {
    pub fn of(call: &Call) -> Geometry {
        let pads = call.attrs.ints("pads");
        Geometry {
            strides: call.attrs.ints("strides").to_vec(),
            dilations: call.attrs.ints("dilations").to_vec(),
            low: pads[..pads.len() / 2].to_vec(),
        }
    }

    /// Whether a filter of a kernel walks over patches, which lie side by side.
    fn is_of_patches(&self, kernel: &[Dim]) -> bool {
        let sizes: Option<Vec<i64>> = kernel.iter().map(Dim::as_const).collect();
        self.dilations.iter().all(|&d| d == 1)
            && sizes.is_some_and(|k| k == self.strides && k.iter().product::<i64>() >= LEAST_PATCH)
    }

    /// The size of the padded image that `positions` steps of a `kernel` reach over.
    fn reach(&self, i: usize, positions: &Dim, kernel: &Dim) -> Dim {
        let one = || Dim::constant(1);
        (positions.clone() - one()) * Dim::constant(self.strides[i])
            + (kernel.clone() - one()) * Dim::constant(self.dilations[i])
            + one()
    }
}

/// The axes: batch, channels, spatial ones.
fn channels_first(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_first" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    e.transpose(x, &perm)
}

fn spatial(e: &Emit, x: ValueId, layout: &str) -> Vec<Dim> {
    let shape = e.shape(x);
    if layout == "channels_first" { shape[2..].to_vec() } else { shape[1..shape.len() - 1].to_vec() }
}

/// Pads of the spatial axes as pads of all axes.
fn all_axes(layout: &str, spatial: Vec<Dim>) -> Vec<Dim> {
    let zero = || Dim::constant(0);
    let (before, after) = if layout == "channels_first" { (2, 0) } else { (1, 1) };
    let mut all: Vec<Dim> = (0..before).map(|_| zero()).collect();
    all.extend(spatial);
    all.extend((0..after).map(|_| zero()));
    all
}

/// The adjoint of a walk over an image of the spatial dims `image`: what each position holds, times the filter, added up where
/// the filter lay. `w` [channels of g, channels of the image / groups, kernel..].
pub(super) fn spread(
    e: &mut Emit,
    g: ValueId,
    w: ValueId,
    geometry: &Geometry,
    image: &[Dim],
    groups: i64,
    layout: &str,
) -> Made {
    let (positions, kernel) = (spatial(e, g, layout), e.shape(w)[2..].to_vec());
    let n = image.len();
    // What the walk did not reach at the high end, or what it reached beyond the image.
    let low: Vec<Dim> = geometry.low.iter().map(|&l| Dim::constant(l)).collect();
    let high: Vec<Dim> = (0..n)
        .map(|i| geometry.reach(i, &positions[i], &kernel[i]) - low[i].clone() - image[i].clone())
        .collect();
    let known: Option<Vec<i64>> = low.iter().chain(&high).map(Dim::as_const).collect();
    let transposed = |pads: Vec<i64>| {
        attrs! {
            strides: geometry.strides.clone(), dilations: geometry.dilations.clone(), pads: pads,
            output_padding: vec![0i64; n], groups: groups, layout: layout,
        }
    };
    let whole = match (geometry.is_of_patches(&kernel) && groups == 1, known) {
        (true, _) => patches(e, g, w, layout)?,
        (false, Some(pads)) => return e.op(Op::ConvTranspose, transposed(pads), &[g, w]),
        (false, None) => e.op(Op::ConvTranspose, transposed(vec![0; 2 * n]), &[g, w])?,
    };
    let minus = |d: Vec<Dim>| d.into_iter().map(|d| Dim::constant(0) - d).collect();
    e.pad(whole, all_axes(layout, minus(low)), all_axes(layout, minus(high)), 0.0)
}

/// [`spread`] of a walk over patches, before pads: as no two overlap, each is a row of a product.
fn patches(e: &mut Emit, g: ValueId, w: ValueId, layout: &str) -> Made {
    let (positions, filter) = (spatial(e, g, layout), e.shape(w));
    let n = positions.len();
    let last = if layout == "channels_first" {
        let perm: Vec<usize> = [0].into_iter().chain(2..n + 2).chain([1]).collect();
        e.transpose(g, &perm)?
    } else {
        g
    };
    let batch = e.shape(last)[0].clone();
    let left = rows(e, last)?;
    let right = e.reshape(w, vec![filter[0].clone(), product(&filter[1..])])?;
    let all = e.matmul(left, right)?;
    let split = [std::slice::from_ref(&batch), &positions[..], &filter[1..]].concat();
    let split = e.reshape(all, split)?;
    // Of each axis the position, and then the place within the patch.
    let channels = 1 + n;
    let places = (0..n).flat_map(|i| [1 + i, channels + 1 + i]);
    let sizes = positions.iter().zip(&filter[2..]).map(|(p, k)| p.clone() * k.clone());
    let (perm, shape): (Vec<usize>, Vec<Dim>) = if layout == "channels_first" {
        let shape = [batch, filter[1].clone()].into_iter().chain(sizes);
        ([0, channels].into_iter().chain(places).collect(), shape.collect())
    } else {
        let shape = [batch].into_iter().chain(sizes).chain([filter[1].clone()]);
        ([0].into_iter().chain(places).chain([channels]).collect(), shape.collect())
    };
    let turned = e.transpose(split, &perm)?;
    e.reshape(turned, shape)
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
