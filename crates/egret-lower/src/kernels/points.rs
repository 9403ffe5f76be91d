//! Weighted sums at points of an image: a table lists each point's elements and weights once, for all channels.

use crate::error::Unsupported;
use crate::geometry::size;
use crate::loops::writer::Writer;
use crate::program::context::Ctx;
use egret_loop::{Access, Arg, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// Channels that are summed side by side: an element and a weight are loaded once for all of them.
const CHANNELS: i64 = 8;

/// The most elements of a point that are summed in straight code.
const UNROLLED: i64 = 8;

/// An element of an image, or of one of its axes, and its weight.
#[derive(Copy, Clone)]
pub struct Tap {
    /// Index of the element (i64).
    pub index: V,
    /// Its weight (f64).
    pub weight: V,
    /// Whether it lies in the image; it does without this.
    pub inside: Option<V>,
}

/// How many elements an axis of an image has.
#[derive(Copy, Clone)]
pub enum Span {
    /// So many.
    Known(i64),
    /// As many as a run knows (i64).
    Value(V),
}

impl Span {
    /// The number, and a constant more (i64).
    pub fn count(self, k: &mut KernelBuilder, more: i64) -> V {
        match self {
            Span::Known(n) => k.int(n + more),
            Span::Value(n) => k.affine(&[(n, 1)], more),
        }
    }

    /// The same as f64.
    pub fn number(self, k: &mut KernelBuilder, more: f64) -> V {
        match self {
            Span::Known(n) => number(k, n as f64 + more),
            Span::Value(n) => {
                let n = k.convert(Elem::F64, n);
                plus(k, n, more)
            }
        }
    }

    /// `index * self + further`: an element of this axis behind so many others.
    pub fn element(self, k: &mut KernelBuilder, index: V, further: V) -> V {
        match self {
            Span::Known(n) => k.affine(&[(index, n), (further, 1)], 0),
            Span::Value(n) => {
                let before = k.mul(index, n);
                k.add(before, further)
            }
        }
    }
}

/// A number of f64, as coordinates and weights are.
pub fn number(k: &mut KernelBuilder, value: f64) -> V {
    k.number(Ty::scalar(Elem::F64), value)
}

/// `x + term` of f64.
pub fn plus(k: &mut KernelBuilder, x: V, term: f64) -> V {
    let term = number(k, term);
    k.add(x, term)
}

/// `x * factor + term`, each rounded.
pub fn scaled(k: &mut KernelBuilder, x: V, factor: f64, term: f64) -> V {
    let (factor, term) = (number(k, factor), number(k, term));
    let x = k.mul(x, factor);
    k.add(x, term)
}

/// The taps of a point from those along each axis: the last axis runs fastest. `extents` are those of the image.
pub fn product(k: &mut KernelBuilder, axes: &[Vec<Tap>], extents: &[Span]) -> Vec<Tap> {
    let mut points: Vec<Tap> = vec![];
    for (axis, &extent) in axes.iter().zip(extents) {
        if points.is_empty() {
            points.clone_from(axis);
            continue;
        }
        let mut next = vec![];
        for p in &points {
            for tap in axis {
                let inside = match (p.inside, tap.inside) {
                    (Some(a), Some(b)) => Some(k.and(a, b)),
                    (a, b) => a.or(b),
                };
                let index = extent.element(k, p.index, tap.index);
                next.push(Tap { index, weight: k.mul(p.weight, tap.weight), inside });
            }
        }
        points = next;
    }
    points
}

/// Where the lists of points stand.
#[derive(Copy, Clone)]
pub struct Table {
    /// The most elements of a point.
    per: i64,
    index: Arg,
    weight: Arg,
    /// Elements of each point, where they may be fewer.
    count: Option<Arg>,
    points: i64,
    elem: Elem,
}

impl Table {
    /// Room for so many points of at most `per` elements of an image of so many; all have as many unless `some_outside`.
    pub fn new(
        ctx: &mut Ctx,
        elem: Elem,
        (points, per): (i64, i64),
        plane: i64,
        some_outside: bool,
    ) -> Result<Table, Unsupported> {
        if i32::try_from(plane).is_err() {
            return Err(Unsupported::new(format!(
                "samples images of {plane} elements, too many for compiled code; run the model with --engine interp"
            )));
        }
        Ok(Table {
            per,
            index: ctx.scratch(Elem::I32, &[points, per])?,
            weight: ctx.scratch(elem, &[points, per])?,
            count: if some_outside { Some(ctx.scratch(Elem::I32, &[points])?) } else { None },
            points,
            elem,
        })
    }

    /// The table as parameters of a kernel.
    pub fn params(&self, w: &mut Writer, access: Access) -> Result<Lists, Unsupported> {
        let len = size::elements(&[self.points, self.per])?;
        let index = w.buffer(self.index, Elem::I32, len, access);
        let weight = w.buffer(self.weight, self.elem, len, access);
        let count = match self.count {
            Some(count) => Some(w.buffer(count, Elem::I32, size::elements(&[self.points])?, access)),
            None => None,
        };
        Ok(Lists { per: self.per, index, weight, count, elem: self.elem })
    }
}

/// A [`Table`] in a kernel.
#[derive(Copy, Clone)]
pub struct Lists {
    per: i64,
    index: Param,
    weight: Param,
    count: Option<Param>,
    elem: Elem,
}

/// Planes of an image, or of a result: the first of some.
#[derive(Copy, Clone)]
pub struct Planes {
    /// The buffer.
    pub param: Param,
    /// Element where the first plane begins.
    pub first: V,
    /// Elements of a plane.
    pub size: i64,
}

impl Lists {
    /// Lists the taps of a point that lie in the image, in order.
    pub fn put(&self, k: &mut KernelBuilder, point: V, taps: &[Tap]) {
        let first = k.affine(&[(point, self.per)], 0);
        let mut n = k.int(0);
        for (i, tap) in taps.iter().enumerate() {
            // What lies outside is overwritten by the next, or behind the end of the list.
            let at = match self.count {
                Some(_) => k.affine(&[(first, 1), (n, 1)], 0),
                None => k.affine(&[(first, 1)], i as i64),
            };
            let (index, weight) = (k.convert(Elem::I32, tap.index), k.convert(self.elem, tap.weight));
            k.store(self.index, at, index);
            k.store(self.weight, at, weight);
            if self.count.is_some() {
                let more = match tap.inside {
                    Some(inside) => k.convert(Elem::I64, inside),
                    None => k.int(1),
                };
                n = k.add(n, more);
            }
        }
        if let Some(count) = self.count {
            let n = k.convert(Elem::I32, n);
            k.store(count, point, n);
        }
    }

    /// Sums of `channels` planes at points `begin..end`, each at the point's place plus `to`'s first element: of point `p` that is
    /// `p - base`. `factor` gives what a sum is multiplied by.
    pub fn sum(
        &self,
        k: &mut KernelBuilder,
        channels: i64,
        (begin, end, base): (V, V, V),
        (from, to): (Planes, Planes),
        factor: Option<Param>,
    ) {
        let whole = channels / CHANNELS;
        let some = |k: &mut KernelBuilder, first: V, count: i64| {
            let shift = |k: &mut KernelBuilder, p: Planes| Planes {
                first: k.affine(&[(p.first, 1), (first, p.size)], 0),
                ..p
            };
            let (from, to) = (shift(k, from), shift(k, to));
            k.for_values(begin, end, 1, |k, point| {
                let at = k.affine(&[(to.first, 1), (point, 1), (base, -1)], 0);
                let factor = factor.map(|f| k.load(f, point));
                self.at(k, count, point, from, &|k, sums| {
                    for (c, &sum) in (0..).zip(sums) {
                        let sum = factor.map_or(sum, |f| k.mul(f, sum));
                        let at = k.affine(&[(at, 1)], c * to.size);
                        k.store(to.param, at, sum);
                    }
                });
            });
        };
        if whole > 0 {
            k.for_n(whole, |k, group| {
                let first = k.affine(&[(group, CHANNELS)], 0);
                some(k, first, CHANNELS);
            });
        }
        if channels % CHANNELS > 0 {
            let first = k.int(whole * CHANNELS);
            some(k, first, channels % CHANNELS);
        }
    }

    /// The sums of `count` planes at a point.
    fn at(
        &self,
        k: &mut KernelBuilder,
        count: i64,
        point: V,
        from: Planes,
        done: &dyn Fn(&mut KernelBuilder, &[V]),
    ) {
        let list = k.affine(&[(point, self.per)], 0);
        let zero = k.number(Ty::scalar(self.elem), 0.0);
        let add = |k: &mut KernelBuilder, at: V, sums: &mut [V]| {
            let (index, weight) = (k.load(self.index, at), k.load(self.weight, at));
            let index = k.convert(Elem::I64, index);
            let first = k.affine(&[(from.first, 1), (index, 1)], 0);
            for (c, sum) in (0..).zip(sums) {
                let at = k.affine(&[(first, 1)], c * from.size);
                let x = k.load(from.param, at);
                *sum = k.fma(x, weight, *sum);
            }
        };
        let all = |k: &mut KernelBuilder| {
            let mut sums = vec![zero; count as usize];
            for i in 0..self.per {
                let at = k.affine(&[(list, 1)], i);
                add(k, at, &mut sums);
            }
            done(k, &sums);
        };
        let some = |k: &mut KernelBuilder, n: V| {
            let locals: Vec<_> = (0..count).map(|_| k.local(zero)).collect();
            let end = k.affine(&[(list, 1), (n, 1)], 0);
            k.for_values(list, end, 1, |k, at| {
                let mut sums: Vec<V> = locals.iter().map(|&l| k.get(l)).collect();
                add(k, at, &mut sums);
                locals.iter().zip(sums).for_each(|(&l, sum)| k.set(l, sum));
            });
            let sums: Vec<V> = locals.iter().map(|&l| k.get(l)).collect();
            done(k, &sums);
        };
        let unrolled = self.per <= UNROLLED;
        match self.count {
            None if unrolled => all(k),
            None => {
                let n = k.int(self.per);
                some(k, n);
            }
            Some(counts) => {
                let n = k.load(counts, point);
                let n = k.convert(Elem::I64, n);
                if !unrolled {
                    return some(k, n);
                }
                let per = k.int(self.per);
                let whole = k.compare(Cmp::Eq, n, per);
                k.if_(whole, |k| all(k), |k| some(k, n));
            }
        }
    }
}
