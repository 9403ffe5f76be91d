//! Walks of a filter over an image, and what goes back over one: each position's share, added up where the filter lay.

use super::Call;
use crate::emit::{Emit, Made, Refusal, product};
use egret_ir::{Dim, Op, ValueId, attrs};

/// All leading axes as one: a matrix.
pub(super) fn rows(e: &mut Emit, x: ValueId) -> Made {
    let shape = e.shape(x);
    let (last, lead) = shape.split_last().expect("a matrix");
    let rows = product(lead);
    e.reshape(x, vec![rows, last.clone()])
}

/// Of so few channels of an image all that one position of a walk in longer steps reaches is computed as one pixel of many channels.
const FEW_CHANNELS: i64 = 4;

/// What a position reaches in whole steps may be so many taps: of longer steps most are zeros.
const MOST_TAPS: i64 = 4096;

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

    /// The pads of the walk in steps of one that goes back from `positions` with zeros between them to the image; nothing where they are
    /// not known, or an end of it would be cut off.
    pub fn pads_back(&self, kernel: &[i64], positions: &[Dim], image: &[Dim]) -> Option<Vec<i64>> {
        let one = || Dim::constant(1);
        let low = kernel.iter().zip(&self.dilations).zip(&self.low).map(|((k, d), low)| (k - 1) * d - low);
        let high = (0..image.len()).map(|i| {
            let last = (positions[i].clone() - one()) * Dim::constant(self.strides[i]);
            (image[i].clone() - one() - last + Dim::constant(self.low[i])).as_const()
        });
        let pads: Option<Vec<i64>> = low.map(Some).chain(high).collect();
        pads.filter(|p| p.iter().all(|&p| p >= 0) && kernel.iter().all(|&k| k > 0))
    }

    /// The size of the padded image that `positions` steps of a `kernel` reach over.
    pub fn reach(&self, i: usize, positions: &Dim, kernel: &Dim) -> Dim {
        let one = || Dim::constant(1);
        (positions.clone() - one()) * Dim::constant(self.strides[i])
            + (kernel.clone() - one()) * Dim::constant(self.dilations[i])
            + one()
    }
}

/// The axes: batch, channels, spatial ones.
pub(super) fn channels_first(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_first" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    e.transpose(x, &perm)
}

pub(super) fn spatial(e: &Emit, x: ValueId, layout: &str) -> Vec<Dim> {
    let shape = e.shape(x);
    if layout == "channels_first" { shape[2..].to_vec() } else { shape[1..shape.len() - 1].to_vec() }
}

/// Pads of the spatial axes as pads of all axes.
pub(super) fn all_axes(layout: &str, spatial: Vec<Dim>) -> Vec<Dim> {
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
    let of_patches = geometry.is_of_patches(&kernel) && groups == 1;
    if !of_patches && let Some(sums) = walked_back(e, g, w, geometry, image, groups, layout)? {
        return Ok(sums);
    }
    let n = image.len();
    let minus = |d: &[Dim]| all_axes(layout, d.iter().map(|d| Dim::constant(0) - d.clone()).collect());
    if !of_patches && let Some((whole, sizes)) = in_pixels(e, g, w, geometry, groups, layout)? {
        let low: Vec<Dim> = geometry.low.iter().map(|&l| Dim::constant(l)).collect();
        let high: Vec<Dim> = (0..n).map(|i| sizes[i].clone() - low[i].clone() - image[i].clone()).collect();
        return e.pad(whole, minus(&low), minus(&high), 0.0);
    }
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
    let whole = match (of_patches, known) {
        (true, _) => patches(e, g, w, layout)?,
        (false, Some(pads)) => return e.op(Op::ConvTranspose, transposed(pads), &[g, w]),
        (false, None) => e.op(Op::ConvTranspose, transposed(vec![0; 2 * n]), &[g, w])?,
    };
    e.pad(whole, minus(&low), minus(&high), 0.0)
}

/// [`spread`] as a convolution by the filter turned round, for which there are faster kernels: of steps of one, and, with the zeros of longer steps
/// written out, of single channels and of a filter that is no constant. Nothing where it is none of these, or would begin or end within the image.
fn walked_back(
    e: &mut Emit,
    g: ValueId,
    w: ValueId,
    geometry: &Geometry,
    image: &[Dim],
    groups: i64,
    layout: &str,
) -> Result<Option<ValueId>, Refusal> {
    let Some(filter) = e.ty(w).const_dims() else { return Ok(None) };
    let filter: Vec<i64> = filter.iter().map(|&n| n as i64).collect();
    let single = groups > 1 && filter[0] == groups && filter[1] == 1;
    let known = e.b.graph.as_const(w).is_some();
    if geometry.strides.iter().any(|&s| s != 1) && !single && known {
        return Ok(None);
    }
    let Some(pads) = geometry.pads_back(&filter[2..], &spatial(e, g, layout), image) else {
        return Ok(None);
    };
    let g = dilated(e, g, &geometry.strides, layout)?;
    let n = image.len();
    let attrs = attrs! {
        strides: vec![1i64; n], dilations: geometry.dilations.clone(), pads: pads, groups: groups, layout: layout,
    };
    let back = turned_round(e, w, &filter, groups)?;
    e.op(Op::Conv, attrs, &[g, back]).map(Some)
}

/// Zeros between the positions of a walk: steps of one over these are the walk.
pub(super) fn dilated(e: &mut Emit, g: ValueId, strides: &[i64], layout: &str) -> Made {
    let (before, after) = if layout == "channels_first" { (2, 0) } else { (1, 1) };
    e.dilate(g, [&vec![1; before], strides, &vec![1; after]].concat(), 0.0)
}

/// A filter [O, I / groups, kernel..] as [I, O / groups, kernel..], its taps in reverse order.
fn turned_round(e: &mut Emit, w: ValueId, filter: &[i64], groups: i64) -> Made {
    let (outs, ins, kernel) = (filter[0] / groups, filter[1], &filter[2..]);
    let starts: Vec<i64> = [0, 0].into_iter().chain(kernel.iter().map(|k| (k - 1).max(0))).collect();
    let steps = [1, 1].into_iter().chain(kernel.iter().map(|&k| if k > 1 { -1 } else { 1 })).collect();
    let back = e.slice(w, constants(&starts), constants(filter), steps)?;
    let split = e.reshape(back, constants(&[&[groups, outs, ins], kernel].concat()))?;
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..filter.len() + 1).collect();
    let turned = e.transpose(split, &perm)?;
    e.reshape(turned, constants(&[&[groups * ins, outs], kernel].concat()))
}

/// [`spread`] of a walk in longer steps over an image of few channels, before pads, and its sizes: what a position and those before it come to in
/// the elements of one step is a pixel of as many channels, so that a convolution in steps of one gives all pixels. Nothing where it is no such walk.
fn in_pixels(
    e: &mut Emit,
    g: ValueId,
    w: ValueId,
    geometry: &Geometry,
    groups: i64,
    layout: &str,
) -> Result<Option<(ValueId, Vec<Dim>)>, Refusal> {
    let Some(filter) = known_dims(e, w) else { return Ok(None) };
    let (outs, channels, kernel, steps) = (filter[0], filter[1], &filter[2..], &geometry.strides);
    let dense = geometry.dilations.iter().all(|&d| d == 1);
    let empty = kernel.contains(&0);
    if groups != 1 || !dense || empty || channels > FEW_CHANNELS || steps.iter().all(|&s| s == 1) {
        return Ok(None);
    }
    let n = kernel.len();
    // Steps that a filter reaches over, and it as [outs, channels, (steps, elements of a step)..].
    let reach: Vec<i64> =
        kernel.iter().zip(steps).map(|(k, &s)| k.div_euclid(s) + i64::from(k % s != 0)).collect();
    let taps = reach.iter().zip(steps).fold(1i64, |taps, (r, &s)| taps.saturating_mul(r.saturating_mul(s)));
    // Pixels of free sizes that are cut to an image are parts of a value, which are not stored by themselves.
    let known = spatial(e, g, layout).iter().all(|d| d.as_const().is_some());
    if taps > MOST_TAPS || !known {
        return Ok(None);
    }
    let more: Vec<i64> = (0..n).map(|i| reach[i] * steps[i] - kernel[i]).collect();
    let none = || constants(&vec![0; n + 2]);
    let w = e.pad(w, none(), constants(&[&[0, 0], &more[..]].concat()), 0.0)?;
    let pairs = |a: &[i64], b: &[i64]| a.iter().zip(b).flat_map(|(&a, &b)| [a, b]).collect::<Vec<i64>>();
    let split = [vec![outs, channels], pairs(&reach, steps)].concat();
    let w = e.reshape(w, constants(&split))?;
    let last: Vec<i64> = reach.iter().map(|r| r - 1).collect();
    let starts = [vec![0, 0], pairs(&last, &vec![0; n])].concat();
    let back: Vec<i64> = reach.iter().map(|&r| if r > 1 { -1 } else { 1 }).collect();
    let back = [vec![1, 1], pairs(&back, &vec![1; n])].concat();
    let w = e.slice(w, constants(&starts), constants(&split), back)?;
    let perm: Vec<usize> =
        (0..n).map(|i| 3 + 2 * i).chain([1, 0]).chain((0..n).map(|i| 2 + 2 * i)).collect();
    let w = e.transpose(w, &perm)?;
    let pixel = steps.iter().product::<i64>() * channels;
    let w = e.reshape(w, constants(&[&[pixel, outs], &reach[..]].concat()))?;
    let attrs = attrs! {
        strides: vec![1i64; n], dilations: vec![1i64; n], pads: [last.clone(), last].concat(), groups: 1i64, layout: layout,
    };
    let pixels = e.op(Op::Conv, attrs, &[g, w])?;
    let (batch, found) = (e.shape(pixels)[0].clone(), spatial(e, pixels, layout));
    let sizes: Vec<Dim> = found.iter().zip(steps).map(|(p, &s)| p.clone() * Dim::constant(s)).collect();
    let (steps, channels) = (constants(steps), Dim::constant(channels));
    let (split, perm, shape): (Vec<Dim>, Vec<usize>, Vec<Dim>) = if layout == "channels_first" {
        (
            [vec![batch.clone()], steps, vec![channels.clone()], found].concat(),
            [0, 1 + n].into_iter().chain((0..n).flat_map(|i| [2 + n + i, 1 + i])).collect(),
            [vec![batch, channels], sizes.clone()].concat(),
        )
    } else {
        (
            [vec![batch.clone()], found, steps, vec![channels.clone()]].concat(),
            [0].into_iter().chain((0..n).flat_map(|i| [1 + i, 1 + n + i])).chain([1 + 2 * n]).collect(),
            [vec![batch], sizes.clone(), vec![channels]].concat(),
        )
    };
    let pixels = e.reshape(pixels, split)?;
    let pixels = e.transpose(pixels, &perm)?;
    Ok(Some((e.reshape(pixels, shape)?, sizes)))
}

/// The dims of a constant, as numbers.
fn known_dims(e: &Emit, w: ValueId) -> Option<Vec<i64>> {
    e.b.graph.as_const(w).map(|t| t.shape().iter().map(|&n| n as i64).collect())
}

fn constants(dims: &[i64]) -> Vec<Dim> {
    dims.iter().map(|&n| Dim::constant(n)).collect()
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
