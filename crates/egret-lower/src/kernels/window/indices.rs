//! Pools that tell where each maximum lies, channels first.

use crate::error::Unsupported;
use crate::expr::LaneSizes;
use crate::expr::convert::{decode, encode};
use crate::geometry::dtypes::{compute_elem, is_direct, least};
use crate::geometry::shape::strides;
use crate::kernels::taps::{Taps, UNROLLED, Windows, misfit, pairs};
use crate::lanes;
use crate::loops::indices::{flat, nest};
use crate::loops::order::comes_before;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::DType;
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Local, Param, Parity, Shuffle, Ty, V};

/// Fewer planes than this are cut into slices along their first axis, so that there are tasks for threads.
const LEAST_TASKS: i64 = 16;

/// `max_pool_indices`: a task is a plane, or a slice of one. Vectors along the last axis where windows of neighbours are one or two elements apart.
pub fn max_pool_indices(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let (w, dtype) = (Windows::of(ctx, node)?, ctx.dtype(x));
    let (elem, compute) = (ctx.elem(x)?, compute_elem(dtype)?);
    let mut args = vec![ctx.place(x)?, ctx.place(node.results[0])?, ctx.place(node.results[1])?];
    let (in_len, out_len) = (ctx.len(x), ctx.len(node.results[0]));
    if out_len == 0 {
        return Ok(());
    }
    // The index counts the first spatial axis fastest in column-major order.
    let counted = if node.attrs.flag("column_major") {
        w.input.iter().scan(1, |next, &n| Some(std::mem::replace(next, *next * n))).collect()
    } else {
        strides(&w.input)
    };
    let (Some((&last, outer)), Some(walk), Some(&step)) =
        (w.output.split_last(), w.axes.last(), counted.last())
    else {
        return Err(misfit());
    };
    let planes = w.n * w.c;
    let (slices, outer) = match outer.split_first() {
        Some((&slices, outer)) if planes < LEAST_TASKS => (Some(slices), outer),
        _ => (None, outer),
    };
    let mut k = ctx.kernel("max_pool_indices", planes * slices.unwrap_or(1));
    let sizes = LaneSizes { widest: Elem::I64.size(), least: elem.size() };
    let words = elem == compute && elem.size() == 4 && is_direct(dtype);
    let widest = sizes.lanes(k.vector_bytes()).filter(|_| words);
    let (within, narrowest) = (w.inner(), sizes.least_lanes());
    let fit =
        widest.and_then(|widest| lanes::fitting(within.end - within.start, (widest, narrowest), false));
    let widest = Ty { elem: compute, lanes: fit.unwrap_or(1) };
    let inner = if widest.lanes > 1 { within } else { 0..0 };
    let maxima = k.param(elem, in_len, Access::Read);
    let (y, places) = (k.param(elem, out_len, Access::Write), k.param(Elem::I64, out_len, Access::Write));
    let begins = (!inner.is_empty()).then(|| {
        let begins = (0..last).flat_map(|o| ((o * walk.stride - walk.low) * step).to_le_bytes());
        args.push(ctx.table("where windows begin", Elem::I64, begins.collect()));
        k.param(Elem::I64, last as usize, Access::Read)
    });
    let (in_plane, out_plane): (i64, i64) = (w.input.iter().product(), w.output.iter().product());
    let (mut plane, mut slice) = (k.task(), None);
    if let Some(slices) = slices {
        let slices = k.int(slices);
        slice = Some(k.rem(plane, slices));
        plane = k.div(plane, slices);
    }
    let base = k.affine(&[(plane, in_plane)], 0);
    let kernel = Maxima { w: &w, dtype, counted, begins, base, x: maxima, y, places };
    let os = strides(&w.output);
    let mut result = Ok(());
    nest(&mut k, outer, &mut |k, outer| {
        let mut each = |k: &mut KernelBuilder, i: V, taps: Option<Taps>, ty: Ty| {
            let o: Vec<V> = slice.into_iter().chain(outer.iter().copied()).chain([i]).collect();
            let place = flat(k, &o, &os, 0);
            let to = k.affine(&[(plane, out_plane), (place, 1)], 0);
            let done = if ty.lanes > 1 {
                kernel.vector(k, &o, to, ty)
            } else {
                kernel.element(k, &o, taps, to, ty)
            };
            if let Err(e) = done {
                result = Err(e);
            }
        };
        let one = Ty { lanes: 1, ..widest };
        for edge in [0..inner.start, inner.end..last] {
            if edge.end - edge.start <= UNROLLED && !inner.is_empty() {
                for i in edge {
                    let at = k.int(i);
                    each(k, at, Some(w.last_taps(i)), one);
                }
            } else {
                k.for_range(edge.start, edge.end, 1, |k, i| each(k, i, None, one));
            }
        }
        let all = Some((0, walk.kernel));
        lanes::each_overlapping(k, inner.clone(), widest, |k, i, ty| each(k, i, all, ty));
    });
    result?;
    ctx.call(k.finish(), &args)
}

/// What a kernel reads and writes.
struct Maxima<'a> {
    w: &'a Windows,
    dtype: DType,
    /// What a step along each spatial axis adds to an index.
    counted: Vec<i64>,
    /// What the first tap of each output along the last axis adds, for vectors of outputs.
    begins: Option<Param>,
    /// Where the operand's plane begins.
    base: V,
    x: Param,
    y: Param,
    places: Param,
}

/// The largest element so far, and its index: -1 as long as there is none.
struct Best {
    value: Local,
    index: Local,
}

impl Maxima<'_> {
    fn start(&self, k: &mut KernelBuilder, ty: Ty) -> Result<Best, Unsupported> {
        let (value, index) = (k.number(ty, least(self.dtype)?), k.number(ty.with(Elem::I64), -1.0));
        Ok(Best { value: k.local(value), index: k.local(index) })
    }

    /// Takes elements that are larger than the largest before, or the first.
    fn take(&self, k: &mut KernelBuilder, best: &Best, value: V, index: V) {
        let (old, at) = (k.get(best.value), k.get(best.index));
        let larger = comes_before(k, Cmp::Gt, value, old);
        let none = k.number(k.ty(at), 0.0);
        let first = k.compare(Cmp::Lt, at, none);
        let take = k.or(larger, first);
        let (value, index) = (k.select(take, value, old), k.select(take, index, at));
        k.set(best.value, value);
        k.set(best.index, index);
    }

    /// One window.
    fn element(
        &self,
        k: &mut KernelBuilder,
        o: &[V],
        taps: Option<Taps>,
        to: V,
        ty: Ty,
    ) -> Result<(), Unsupported> {
        let best = self.start(k, ty)?;
        let s = strides(&self.w.input);
        let mut result = Ok(());
        self.w.each_tap(k, o, taps, &mut |k, i| {
            let offset = flat(k, i, &s, 0);
            let at = k.affine(&[(self.base, 1), (offset, 1)], 0);
            let raw = k.load(self.x, at);
            let index = flat(k, i, &self.counted, 0);
            let index = k.affine(&[(self.base, 1), (index, 1)], 0);
            match decode(k, self.dtype, raw) {
                Ok(value) => self.take(k, &best, value, index),
                Err(e) => result = Err(e),
            }
        });
        result?;
        let (value, index) = (k.get(best.value), k.get(best.index));
        let value = encode(k, self.dtype, value)?;
        k.store(self.y, to, value);
        k.store(self.places, to, index);
        Ok(())
    }

    /// The windows of a vector of outputs along the last axis, whose taps along it are all inside. Indices are counted from the windows'
    /// own beginnings.
    fn vector(&self, k: &mut KernelBuilder, o: &[V], to: V, ty: Ty) -> Result<(), Unsupported> {
        let (Some((&last, outer)), Some(walk), Some((&step, counted)), Some(begins)) =
            (o.split_last(), self.w.axes.last(), self.counted.split_last(), self.begins)
        else {
            return Err(misfit());
        };
        let best = self.start(k, ty)?;
        let s = strides(&self.w.input);
        self.w.each_tap(k, outer, None, &mut |k, i| {
            let (row, index) = (flat(k, i, &s[..i.len()], 0), flat(k, i, counted, 0));
            let load = |k: &mut KernelBuilder, offset: i64| {
                let at = k.affine(&[(self.base, 1), (row, 1), (last, walk.stride)], offset - walk.low);
                k.load_lanes(self.x, at, ty.lanes)
            };
            let take = |k: &mut KernelBuilder, value: V, offset: i64| {
                let index = k.affine(&[(index, 1)], offset * step);
                let index = k.splat(index, ty.lanes);
                self.take(k, &best, value, index);
            };
            if walk.stride == 1 {
                for tap in 0..walk.kernel {
                    let value = load(k, tap * walk.dilation);
                    take(k, value, tap * walk.dilation);
                }
                return;
            }
            for pair in pairs(walk) {
                let both = [0, i64::from(ty.lanes)].map(|half| load(k, pair.first + half));
                for parity in pair.taps {
                    let value = k.shuffle(Shuffle::Deinterleave(parity), both[0], both[1]);
                    take(k, value, pair.first + i64::from(parity == Parity::Odd));
                }
            }
        });
        let (value, from) = (k.get(best.value), k.get(best.index));
        k.store(self.y, to, value);
        let begin = k.load_lanes(begins, last, ty.lanes);
        let base = k.splat(self.base, ty.lanes);
        let begin = k.add(begin, base);
        let index = k.add(begin, from);
        let none = k.number(k.ty(from), 0.0);
        let empty = k.compare(Cmp::Lt, from, none);
        let index = k.select(empty, from, index);
        k.store(self.places, to, index);
        Ok(())
    }
}
