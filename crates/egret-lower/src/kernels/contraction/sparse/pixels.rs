//! What tiles read of a convolution's input: planes of pixels.

use super::edges::{Edges, TapPlace, Walk};
use super::source::Source;
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::halo::Halo;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_loop::Arg;

/// A copy for each column of the window saves so many tiles that it pays: one in so many of those without it.
const SAVED_TILES: i64 = 4;

/// The planes that tiles read, in runs of neighbouring pixels; elements are floats or quads ([`Source`]).
pub struct Pixels {
    /// The first image.
    pub at: Arg,
    /// Elements of all images.
    pub len: usize,
    /// Elements from one image to the next.
    pub image: i64,
    /// The elements of the weights of an output channel, in the order of these weights.
    pub taps: Vec<Tap>,
    /// How many runs, and how many pixels each is.
    pub runs: i64,
    pub run: i64,
    /// Elements from one run to the next.
    pub apart: i64,
    /// Elements behind the only run that tiles may read too: with them it is as long as whole vectors.
    pub room: i64,
    /// The masks of the taps; of the only run, whole vectors.
    pub edges: Edges,
}

/// The elements of a weight.
#[derive(Copy, Clone, Debug)]
pub struct Tap {
    /// Where the first pixel's is.
    pub at: i64,
    /// Which mask has those pixels whose element is one of the input.
    pub mask: Option<u8>,
}

/// Taps that read an element for every pixel.
pub fn whole(taps: impl IntoIterator<Item = i64>) -> Vec<Tap> {
    taps.into_iter().map(|at| Tap { at, mask: None }).collect()
}

impl Pixels {
    /// Of the input of a convolution.
    pub fn of(ctx: &mut Ctx, x: Source, s: &ConvShape, lanes: i64) -> Result<Pixels, Unsupported> {
        // One row where there are no rows.
        let two = |v: &[i64], of_rows: i64| match v {
            [only] => [of_rows, *only],
            [rows, columns, ..] => [*rows, *columns],
            [] => [of_rows, of_rows],
        };
        let (kernel, stride) = (two(&s.kernel, 1), two(&s.strides, 1));
        let (dilation, output) = (two(&s.dilations, 1), two(&s.output, 1));
        let depth = x.depth;
        let short = |runs: i64, run: i64| runs * ((run + lanes - 1) / lanes);
        let pixels = output[0] * output[1];
        let edges = Edges::new(output);
        let of = |taps: Vec<i64>, (runs, run, apart): (i64, i64, i64), (at, image): (Arg, i64)| {
            let len = size::offset(s.n * image)?;
            let (taps, edges) = (whole(taps), edges.clone());
            Ok(Pixels { at, len, image, taps, runs, run, apart, room: 0, edges })
        };
        if s.is_pointwise() {
            let taps = (0..depth).map(|c| c * x.strides[1]).collect();
            let room = (size::up_to(pixels, lanes) - pixels).min(x.strides[1] - pixels);
            return Ok(Pixels { room, ..of(taps, (1, pixels, 0), (x.at, x.strides[0]))? });
        }
        let (input, low) = (two(&s.input, 1), two(&s.low, 0));
        let walks = [0, 1].map(|i| Walk {
            input: input[i],
            output: output[i],
            kernel: kernel[i],
            stride: stride[i],
            dilation: dilation[i],
            low: low[i],
        });
        if pixels >= lanes
            && walks.iter().all(|w| w.keeps_pixels())
            && let Some(in_place) = Pixels::with_edges(ctx, x, s, walks, lanes)?
        {
            return Ok(in_place);
        }
        // Rows that are read, as many of them for each row of a window that begins a step further on.
        let read = two(&s.read(), 1);
        let phases = if kernel[0] == 1 { 1 } else { stride[0] };
        let each = (read[0] + phases - 1) / phases;
        let planes = zeros_around(ctx, x, s, [each * phases, read[1]])?;
        let window = |tap: &dyn Fn(i64, i64, i64) -> i64| -> Vec<i64> {
            let at = |c: i64| {
                (0..kernel[0]).flat_map(move |y| (0..kernel[1]).map(move |x| tap(c, y * dilation[0], x)))
            };
            (0..depth).flat_map(at).collect()
        };
        let rows = short(output[0], output[1]);
        let flat = short(1, pixels);
        if stride[1] == 1 && rows - flat <= rows / SAVED_TILES {
            let [channel, row] = planes.strides;
            let taps = window(&|c, y, x| c * channel + y * row + x * dilation[1]);
            return of(taps, (output[0], output[1], stride[0] * row), (planes.at, planes.image));
        }
        // For each column of the window the elements that it reads, row behind row, those of every `phases`th row together.
        let dims = [s.n, depth, kernel[1], phases, each, output[1]];
        let [channel, row] = planes.strides;
        // A window of one row reads every row that a window begins at.
        let step = if kernel[0] == 1 { stride[0] } else { phases };
        let count = if kernel[0] == 1 { output[0] } else { each };
        let dims = [dims[0], dims[1], dims[2], dims[3], count, dims[5]];
        let access = StridedAccess {
            offset: planes.offset,
            strides: vec![planes.image, channel, dilation[1], row, step * row, stride[1]],
        };
        // Planes begin with whole vectors.
        let plane = size::up_to(count * output[1], lanes);
        let own = strides(&[dims[0], dims[1], dims[2], dims[3], plane]);
        let own = [&own[..4], &[output[1], 1]].concat();
        let room = size::up_to(pixels, lanes) - pixels;
        let len = dims[0] * own[0] + room;
        let at = ctx.scratch(x.elem(), &[len])?;
        let to = StridedAccess { offset: 0, strides: own.clone() };
        let planes = Source { at: planes.from, ..x };
        planes.copy(ctx, dims.to_vec(), access, &Destination { at, access: to, halo: None })?;
        let taps =
            window(&|c, y, x| c * own[1] + x * own[2] + (y % phases) * own[3] + (y / phases) * own[4]);
        Ok(Pixels { room, len: size::offset(len)?, ..of(taps, (1, pixels, 0), (at, own[0]))? })
    }

    /// Planes without zeros around them: those of the input where windows move by one pixel, and else one copy for each pixel that a window may begin at. Nothing where the taps have
    /// too many masks.
    fn with_edges(
        ctx: &mut Ctx,
        x: Source,
        s: &ConvShape,
        walks: [Walk; 2],
        lanes: i64,
    ) -> Result<Option<Pixels>, Unsupported> {
        let [rows, columns] = walks;
        let depth = x.depth;
        let (of_rows, of_columns) = (rows.taps(), columns.taps());
        let mut edges = Edges::new([rows.output, columns.output]);
        let mut masks = vec![];
        for y in &of_rows {
            for x in &of_columns {
                let Ok(mask) = edges.mask([y.within.clone(), x.within.clone()]) else { return Ok(None) };
                masks.push(mask);
            }
        }
        let own = x.strides;
        let pixels = rows.output * columns.output;
        let whole = size::up_to(pixels, lanes);
        // Where the planes of a channel begin that have rows and columns of this kind; elements of an image, and from one channel to the next.
        let (at, image, channel, planes) = if (rows.stride, columns.stride) == (1, 1) {
            (x.at, own[0], own[1], [0, 0])
        } else {
            let only = |taps: &[TapPlace], stride: i64| match taps {
                [first, rest @ ..] if rest.iter().all(|t| t.plane == first.plane) => (first.plane, 1),
                _ => (0, stride),
            };
            let (row, column) = (only(&of_rows, rows.stride), only(&of_columns, columns.stride));
            let dims = [s.n, depth, row.1, column.1, rows.output, columns.output];
            let plane = size::apart(pixels, lanes);
            let mut to = strides(&[s.n, depth, row.1, column.1, plane]);
            to.pop();
            to.extend([columns.output, 1]);
            let access = StridedAccess {
                offset: row.0 * columns.input + column.0,
                strides: vec![
                    own[0],
                    own[1],
                    columns.input,
                    1,
                    rows.stride * columns.input,
                    columns.stride,
                ],
            };
            let at = ctx.scratch(x.elem(), &[s.n * to[0]])?;
            let access_to = StridedAccess { offset: 0, strides: to.clone() };
            x.copy(ctx, dims.to_vec(), access, &Destination { at, access: access_to, halo: None })?;
            let planes = [if row.1 == 1 { 0 } else { to[2] }, if column.1 == 1 { 0 } else { to[3] }];
            (at, to[0], to[1], planes)
        };
        let mut taps = vec![];
        for c in 0..depth {
            let window = of_rows.iter().flat_map(|y| of_columns.iter().map(move |x| (y, x)));
            taps.extend(window.zip(&masks).map(|((y, x), &mask)| Tap {
                at: c * channel
                    + y.plane * planes[0]
                    + x.plane * planes[1]
                    + y.offset * columns.output
                    + x.offset,
                mask,
            }));
        }
        let room = (whole - pixels).min(channel - pixels);
        let len = size::offset(s.n * image)?;
        Ok(Some(Pixels { at, len, image, taps, runs: 1, run: pixels, apart: 0, room, edges }))
    }
}

/// Planes with what windows read beyond the edges.
struct Planes {
    /// Where tiles find the first element.
    at: Arg,
    /// Where copies find it: `offset` elements further on.
    from: Arg,
    offset: i64,
    /// Elements from one image to the next.
    image: i64,
    /// Elements from one channel, and from one row, to the next.
    strides: [i64; 2],
}

/// The input where windows read nothing else, or a copy with zeros around it, of so many rows and columns.
fn zeros_around(ctx: &mut Ctx, x: Source, s: &ConvShape, read: [i64; 2]) -> Result<Planes, Unsupported> {
    let one = s.rank() == 1;
    let input = if one { [1, s.input[0]] } else { [s.input[0], s.input[1]] };
    let low = if one { [0, s.low[0]] } else { [s.low[0], s.low[1]] };
    let depth = x.depth;
    if low == [0, 0] && read[0] <= input[0] && read[1] <= input[1] {
        let strides = [x.strides[1], input[1]];
        return Ok(Planes { at: x.at, from: x.at, offset: 0, image: x.strides[0], strides });
    }
    let outer = [s.n, depth, read[0], read[1]];
    let to = ctx.scratch(x.elem(), &outer)?;
    let kept: Vec<i64> = (0..2).map(|i| input[i].min(read[i] - low[i])).collect();
    let halo = Halo {
        low: vec![0, 0, low[0], low[1]],
        high: vec![0, 0, read[0] - low[0] - kept[0], read[1] - low[1] - kept[1]],
        gap: 0,
    };
    let dims = [s.n, depth, kept[0], kept[1]];
    let access = StridedAccess { offset: 0, strides: vec![x.strides[0], x.strides[1], input[1], 1] };
    let out = Destination {
        at: to,
        access: halo.access(&dims),
        halo: halo.has_zeros().then(|| (halo, dims.to_vec())),
    };
    x.copy(ctx, dims.to_vec(), access, &out)?;
    let strides = [read[0] * read[1], read[1]];
    Ok(Planes { at: to, from: to, offset: 0, image: depth * strides[0], strides })
}
