//! `roi_align`: means or maxima of points in the bins of regions. A point's neighbours and weights are computed once for all channels,
//! whose results are gathered in place.

use super::points::{Span, Tap, number, product};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::loops::writer::{Writer, data_index};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Param, Ty, UnOp, V};

/// The most points along an axis of a bin, where a region says how many: the kernel fails beyond, as it would run for hours.
const MOST_POINTS: i64 = 1 << 16;

/// Lower a `roi_align`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, result) = (node.operand(0), node.results[0]);
    let (dims, out) = (ctx.dims(x), ctx.dims(result));
    let elem = ctx.elem(x)?;
    if !elem.is_float() {
        return Err(Unsupported::new(format!("samples {} in the interpreter only", ctx.dtype(x))));
    }
    let (&[batches, channels, height, width], &[regions, _, out_h, out_w]) =
        (dims.as_slice(), out.as_slice())
    else {
        return Err(Unsupported::new("samples images of other than two axes"));
    };
    if regions == 0 {
        return Ok(());
    }
    if height == 0 || width == 0 {
        return Err(Unsupported::new("samples an image without elements"));
    }
    let a = &node.attrs;
    let maximum = a.str("mode") == "max";
    let some = ctx.len(result) > 0;
    let rows = out_h.max(1);
    let mut w = Writer::new(ctx, "roi_align", size::product(&[regions, rows])?);
    let px = w.operand(node, 0)?;
    let rois = w.operand(node, 1)?;
    let batch = w.operand(node, 2)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let k = &mut w.k;
    let (task, per_region) = (k.task(), k.int(rows));
    let (region, row) = (k.div(task, per_region), k.rem(task, per_region));
    let image = data_index(k, batch, region, batches);
    if !some {
        return w.finish();
    }
    let bins = Bins::new(k, a, |k, i| {
        let at = k.affine(&[(region, 4)], i);
        let edge = k.load(rois, at);
        k.convert(Elem::F64, edge)
    });
    let out_plane = out_h * out_w;
    let image = Image {
        x: px,
        first: k.affine(&[(image, channels * height * width)], 0),
        spans: [height, width].map(Span::Known),
        plane: Span::Known(height * width),
        channels: k.int(channels),
    };
    k.for_n(out_w, |k, column| {
        let to = k.affine(&[(region, channels * out_plane), (row, out_w), (column, 1)], 0);
        image.bin(k, &bins, [row, column], (y, to, out_plane), maximum);
    });
    w.finish()
}

/// An image that regions are of.
pub struct Image {
    pub x: Param,
    /// Its first element.
    pub first: V,
    /// Elements down and across.
    pub spans: [Span; 2],
    /// Elements of a channel.
    pub plane: Span,
    pub channels: V,
}

impl Image {
    /// Writes what a bin of a region comes to, of all channels: the elements from `to` on, `apart` elements from one to the next.
    pub fn bin(
        &self,
        k: &mut KernelBuilder,
        bins: &Bins,
        [row, column]: [V; 2],
        (y, to, apart): (Param, V, i64),
        maximum: bool,
    ) {
        let elem = k.param_elem(y);
        let ty = Ty::scalar(elem);
        let zero = k.int(0);
        let ([down, across], [height, width]) = (&bins.axes, self.spans);
        let each = |k: &mut KernelBuilder, body: &mut dyn FnMut(&mut KernelBuilder, V, V)| {
            k.for_values(zero, self.channels, 1, |k, c| {
                let at = k.affine(&[(to, 1), (c, apart)], 0);
                body(k, c, at);
            });
        };
        each(k, &mut |k, _, at| {
            let first = k.number(ty, if maximum { f64::NEG_INFINITY } else { 0.0 });
            k.store(y, at, first);
        });
        k.for_values(zero, down.points, 1, |k, i| {
            let (v, outside_v) = down.at(k, row, i, height);
            let neighbours_v = neighbours(k, v, height);
            k.for_values(zero, across.points, 1, |k, j| {
                let (h, outside_h) = across.at(k, column, j, width);
                let neighbours_h = neighbours(k, h, width);
                let outside = k.or(outside_v, outside_h);
                let mut taps = vec![];
                for tap in product(k, &[neighbours_v.clone(), neighbours_h], &self.spans) {
                    let (nothing, first) = (number(k, 0.0), k.int(0));
                    let weight = k.select(outside, nothing, tap.weight);
                    taps.push((k.select(outside, first, tap.index), k.convert(elem, weight)));
                }
                each(k, &mut |k, c, at| {
                    let mut sum = k.load(y, at);
                    let mut point: Option<V> = None;
                    for &(index, weight) in &taps {
                        let i = self.plane.element(k, c, index);
                        let i = k.add(self.first, i);
                        let v = k.load(self.x, i);
                        let term = k.mul(v, weight);
                        point = Some(match point {
                            None => term,
                            Some(p) if maximum => k.max(p, term),
                            Some(p) => k.fma(v, weight, p),
                        });
                    }
                    if let Some(p) = point {
                        sum = if maximum { k.max(sum, p) } else { k.add(sum, p) };
                    }
                    k.store(y, at, sum);
                });
            });
        });
        let count = k.mul(down.points, across.points);
        let none = k.compare(Cmp::Eq, count, zero);
        let count = k.convert(Elem::F64, count);
        let count = k.convert(elem, count);
        each(k, &mut |k, _, at| {
            let sum = k.load(y, at);
            let mean = if maximum { sum } else { k.div(sum, count) };
            let nothing = k.number(ty, 0.0);
            let mean = k.select(none, nothing, mean);
            k.store(y, at, mean);
        });
    }
}

/// How a region is cut, along one axis.
struct Bin {
    /// Where it begins.
    edge: V,
    /// Extent of a bin.
    extent: V,
    /// Points of a bin (i64, and as f64).
    points: V,
    points_f64: V,
}

/// How a region is cut: down, across.
pub struct Bins {
    axes: [Bin; 2],
}

impl Bins {
    /// Of a region whose corners `corner` loads, as f64.
    pub fn new(
        k: &mut KernelBuilder,
        a: &egret_ir::Attrs,
        corner: impl Fn(&mut KernelBuilder, i64) -> V,
    ) -> Bins {
        let half = a.flag("half_pixel");
        let edge = |k: &mut KernelBuilder, i: i64| {
            let (r, scale, offset) = (
                corner(k, i),
                number(k, a.float("spatial_scale")),
                number(k, if half { 0.5 } else { 0.0 }),
            );
            let r = k.mul(r, scale);
            k.sub(r, offset)
        };
        let axes = [(1, "output_height"), (0, "output_width")].map(|(i, parts)| {
            let (first, last) = (edge(k, i), edge(k, i + 2));
            let mut extent = k.sub(last, first);
            if !half {
                // Malformed regions count as one element.
                let one = number(k, 1.0);
                extent = k.max(extent, one);
            }
            let parts = number(k, a.int(parts) as f64);
            let extent = k.div(extent, parts);
            let points = match a.int("sampling_ratio") {
                0 => {
                    let points = k.unary(UnOp::Ceil, extent);
                    let (points, none) = (k.convert(Elem::I64, points), k.int(0));
                    let points = k.max(points, none);
                    k.check(points, 0, MOST_POINTS + 1);
                    // Not more, even if another thread writes regions meanwhile.
                    let most = k.int(MOST_POINTS);
                    k.min(points, most)
                }
                ratio => k.int(ratio),
            };
            Bin { edge: first, extent, points, points_f64: k.convert(Elem::F64, points) }
        });
        Bins { axes }
    }
}

impl Bin {
    /// The coordinate of a point of a bin, and whether it is outside of an image.
    fn at(&self, k: &mut KernelBuilder, bin: V, i: V, extent: Span) -> (V, V) {
        let (bin, i, half) = (k.convert(Elem::F64, bin), k.convert(Elem::F64, i), number(k, 0.5));
        let begin = k.mul(bin, self.extent);
        let begin = k.add(self.edge, begin);
        let i = k.add(i, half);
        let i = k.mul(i, self.extent);
        let i = k.div(i, self.points_f64);
        let v = k.add(begin, i);
        let (low, high) = (number(k, -1.0), extent.number(k, 0.0));
        let (below, above) = (k.compare(Cmp::Lt, v, low), k.compare(Cmp::Gt, v, high));
        (v, k.or(below, above))
    }
}

/// The two neighbours of a coordinate and their weights; the nearest ones beyond the image.
fn neighbours(k: &mut KernelBuilder, v: V, extent: Span) -> Vec<Tap> {
    let (zero, last, one) = (number(k, 0.0), extent.count(k, -1), number(k, 1.0));
    let v = k.max(v, zero);
    let low = k.convert(Elem::I64, v);
    let low = k.min(low, last);
    let next = k.affine(&[(low, 1)], 1);
    let high = k.min(next, last);
    let at_end = k.compare(Cmp::Eq, low, last);
    let base = k.convert(Elem::F64, low);
    let fraction = k.sub(v, base);
    let fraction = k.select(at_end, zero, fraction);
    let rest = k.sub(one, fraction);
    vec![
        Tap { index: low, weight: rest, inside: None },
        Tap { index: high, weight: fraction, inside: None },
    ]
}
