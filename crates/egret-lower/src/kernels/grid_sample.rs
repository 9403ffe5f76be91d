//! `grid_sample`: an image at the coordinates of a grid. Each task lists the elements and weights of some points
//! ([`points`](super::points)), and then sums them for all channels.

use super::points::{Planes, Span, Table, Tap, number, plus, product, scaled};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::Attrs;
use egret_loop::{Access, Cmp, Elem, KernelBuilder, UnOp, V};

/// Points of a task: their lists stay in the first cache.
const TASK_POINTS: i64 = 256;

/// One spatial axis: the interpreter's `GridAxis` as instructions.
pub struct GridAxis<'a> {
    pub extent: Span,
    pub mode: &'a str,
    pub padding: &'a str,
    pub align: bool,
}

impl<'a> GridAxis<'a> {
    /// An axis that a node samples.
    pub fn new(attrs: &'a Attrs, extent: Span) -> GridAxis<'a> {
        let (mode, padding) = (attrs.str("mode"), attrs.str("padding"));
        GridAxis { extent, mode, padding, align: attrs.flag("align_corners") }
    }
}

/// x where it lies in a range or is NaN, else the nearer end.
fn clamped(k: &mut KernelBuilder, x: V, (low, high): (V, V)) -> V {
    let below = k.compare(Cmp::Lt, x, low);
    let x = k.select(below, low, x);
    let above = k.compare(Cmp::Gt, x, high);
    k.select(above, high, x)
}

/// The interpreter's `reflected`, between borders that are apart.
fn reflected(k: &mut KernelBuilder, x: V, (low, high, range): (V, V, V)) -> V {
    let (below, above) = (k.compare(Cmp::Lt, x, low), k.compare(Cmp::Gt, x, high));
    let (under, over) = (k.sub(low, x), k.sub(x, high));
    let beyond = k.select(below, under, over);
    let times = k.div(beyond, range);
    let times = k.unary(UnOp::Trunc, times);
    let turns = k.mul(times, range);
    let left = k.sub(beyond, turns);
    // An even number of whole turns ends at the border that was crossed.
    let pairs = scaled(k, times, 0.5, 0.0);
    let pairs = k.unary(UnOp::Trunc, pairs);
    let even = k.add(pairs, pairs);
    let even = k.compare(Cmp::Eq, even, times);
    let (at_low, at_high) = (k.add(low, left), k.sub(high, left));
    let crossed_low = k.select(even, at_low, at_high);
    let crossed_high = k.select(even, at_high, at_low);
    let inner = k.select(above, crossed_high, x);
    k.select(below, crossed_low, inner)
}

impl GridAxis<'_> {
    /// The first and the last coordinate of the image.
    fn border(&self, k: &mut KernelBuilder) -> (V, V) {
        let (low, beyond) = if self.align { (0.0, -1.0) } else { (-0.5, -0.5) };
        (number(k, low), self.extent.number(k, beyond))
    }

    /// A coordinate that is mirrored at the borders as often as needed.
    fn reflected(&self, k: &mut KernelBuilder, x: V) -> V {
        let (low, high) = self.border(k);
        let range = self.extent.number(k, if self.align { -1.0 } else { 0.0 });
        // Between the borders of one element there is nothing.
        match self.extent {
            Span::Known(1) if self.align => low,
            Span::Value(_) if self.align => {
                let inside = reflected(k, x, (low, high, range));
                let none = k.compare(Cmp::Le, range, low);
                k.select(none, low, inside)
            }
            _ => reflected(k, x, (low, high, range)),
        }
    }

    /// The element at a whole coordinate, and whether there is one.
    fn element(&self, k: &mut KernelBuilder, i: V) -> (V, Option<V>) {
        let i = if self.padding == "reflection" { self.reflected(k, i) } else { i };
        // NaN is 0.
        let index = k.convert(Elem::I64, i);
        let (zero, last) = (k.int(0), self.extent.count(k, -1));
        let held = k.max(index, zero);
        let held = k.min(held, last);
        let inside = (self.padding == "zeros").then(|| {
            let (zero, last) = (number(k, 0.0), self.extent.number(k, -1.0));
            let (above, below) = (k.compare(Cmp::Ge, i, zero), k.compare(Cmp::Le, i, last));
            k.and(above, below)
        });
        (held, inside)
    }

    /// Elements and weights at a grid coordinate (f64).
    pub fn taps(&self, k: &mut KernelBuilder, g: V) -> Vec<Tap> {
        let x = scaled(k, g, 1.0, 1.0);
        let x = if self.align {
            let half = number(k, 0.5);
            let x = k.mul(x, half);
            let steps = self.extent.number(k, -1.0);
            k.mul(x, steps)
        } else {
            let n = self.extent.number(k, 0.0);
            let x = k.mul(x, n);
            let x = plus(k, x, -1.0);
            let half = number(k, 0.5);
            k.mul(x, half)
        };
        // Rounded to f32 as the reference does: it decides ties.
        let x = k.convert(Elem::F32, x);
        let mut x = k.convert(Elem::F64, x);
        if self.mode == "nearest" {
            x = k.unary(UnOp::Nearest, x);
        }
        x = match self.padding {
            "border" => {
                let (low, high) = self.border(k);
                let (below, above) = (k.compare(Cmp::Lt, x, low), k.compare(Cmp::Gt, x, high));
                let outside = k.or(below, above);
                let (first, last) = (number(k, 0.0), self.extent.number(k, -1.0));
                let moved = clamped(k, x, (first, last));
                k.select(outside, moved, x)
            }
            "reflection" => {
                // An axis of one element is reflected to it; what is inside stays.
                let (first, last) = self.border(k);
                let (below, above) = (k.compare(Cmp::Lt, x, first), k.compare(Cmp::Gt, x, last));
                let outside = k.or(below, above);
                let moved = self.reflected(k, x);
                k.select(outside, moved, x)
            }
            _ => x,
        };
        let one = number(k, 1.0);
        if self.mode == "nearest" {
            return vec![self.tap(k, x, one)];
        }
        let base = k.unary(UnOp::Floor, x);
        let f = k.sub(x, base);
        let rest = k.sub(one, f);
        let weights = match self.mode {
            "linear" => vec![(0.0, rest), (1.0, f)],
            _ => {
                let (after, before) = (k.add(one, f), scaled(k, rest, 1.0, 1.0));
                vec![(-1.0, far(k, after)), (0.0, near(k, f)), (1.0, near(k, rest)), (2.0, far(k, before))]
            }
        };
        let mut taps = vec![];
        for (step, weight) in weights {
            let i = scaled(k, base, 1.0, step);
            taps.push(self.tap(k, i, weight));
        }
        taps
    }

    fn tap(&self, k: &mut KernelBuilder, i: V, weight: V) -> Tap {
        let (index, inside) = self.element(k, i);
        Tap { index, weight, inside }
    }
}

/// The cubic's free parameter.
const CUBIC: f64 = -0.75;

/// The cubic's weight of an element at a distance of at most 1.
fn near(k: &mut KernelBuilder, d: V) -> V {
    let w = scaled(k, d, CUBIC + 2.0, -(CUBIC + 3.0));
    let w = k.mul(w, d);
    let one = number(k, 1.0);
    let w = k.mul(w, d);
    k.add(w, one)
}

/// The cubic's weight of an element at a distance of 1 to 2.
fn far(k: &mut KernelBuilder, d: V) -> V {
    let w = scaled(k, d, CUBIC, -5.0 * CUBIC);
    let (w, last) = (k.mul(w, d), number(k, 8.0 * CUBIC));
    let w = k.add(w, last);
    let (w, last) = (k.mul(w, d), number(k, 4.0 * CUBIC));
    k.sub(w, last)
}

/// The elements that a result element is the sum of, of an image of so many axes.
pub fn most_taps(attrs: &Attrs, axes: usize) -> Result<i64, Unsupported> {
    let taps: i64 = match attrs.str("mode") {
        "nearest" => 1,
        "linear" => 2,
        _ => 4,
    };
    let per = size::product(&vec![taps; axes])?;
    if per > MOST_TAPS {
        return Err(Unsupported::new(format!(
            "sums {per} elements for each of its own, too many for compiled code; run the model with --engine interp"
        )));
    }
    Ok(per)
}

/// Lower a `grid_sample`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, grid, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (dims, out) = (ctx.dims(x), ctx.dims(result));
    let elem = ctx.elem(x)?;
    if !elem.is_float() || !ctx.elem(grid)?.is_float() {
        return Err(Unsupported::new(format!("samples {} in the interpreter only", ctx.dtype(x))));
    }
    if ctx.len(result) == 0 {
        return Ok(());
    }
    let spatial = &dims[2..];
    if spatial.contains(&0) {
        return Err(Unsupported::new("samples an image without elements"));
    }
    let (batch, channels, n) = (dims[0], dims[1], spatial.len());
    let (plane, places): (i64, i64) = (spatial.iter().product(), out[2..].iter().product());
    let per = most_taps(&node.attrs, n)?;
    let zeros = node.attrs.str("padding") == "zeros";
    let table = Table::new(ctx, elem, (batch * places, per), plane, zeros)?;
    let chunks = (places + TASK_POINTS - 1) / TASK_POINTS;
    let mut w = Writer::new(ctx, "grid_sample", size::product(&[batch, chunks])?);
    let px = w.operand(node, 0)?;
    let pg = w.operand(node, 1)?;
    let py = w.result(node, 0, Access::Write)?;
    let lists = table.params(&mut w, Access::ReadWrite)?;
    let k = &mut w.k;
    let (task, per_image) = (k.task(), k.int(chunks));
    let (b, chunk) = (k.div(task, per_image), k.rem(task, per_image));
    let base = k.affine(&[(b, places)], 0);
    let begin = k.affine(&[(base, 1), (chunk, TASK_POINTS)], 0);
    let (end, all) = (k.affine(&[(begin, 1)], TASK_POINTS), k.affine(&[(base, 1)], places));
    let end = k.min(end, all);
    let extents: Vec<Span> = spatial.iter().map(|&n| Span::Known(n)).collect();
    k.for_values(begin, end, 1, |k, point| {
        let mut axes = vec![];
        for (i, &extent) in extents.iter().enumerate() {
            // The grid names the last axis first.
            let at = k.affine(&[(point, n as i64)], (n - 1 - i) as i64);
            let g = k.load(pg, at);
            let g = k.convert(Elem::F64, g);
            axes.push(GridAxis::new(&node.attrs, extent).taps(k, g));
        }
        let taps = product(k, &axes, &extents);
        lists.put(k, point, &taps);
    });
    let from = Planes { param: px, first: k.affine(&[(b, channels * plane)], 0), size: plane };
    let to = Planes { param: py, first: k.affine(&[(b, channels * places)], 0), size: places };
    lists.sum(k, channels, (begin, end, base), (from, to), None);
    w.finish()
}

/// The most elements of a sum: they are listed in straight code.
const MOST_TAPS: i64 = 256;
