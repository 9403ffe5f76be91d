//! `unique`: the distinct slices of a tensor along an axis, or its distinct elements.
//!
//! One kernel sorts the indices of the slices, finds where a new one begins, and numbers the groups of equal ones; another one copies the
//! first slice of each, once it is known how many there are.

use super::found::count_up;
use super::places::copy;
use super::{Writer, whole_dims};
use crate::error::Unsupported;
use crate::expr::convert::decode;
use crate::geometry::shape::volume;
use crate::loops::merge_sort::{self, Indices};
use crate::loops::order::{comes_before, ties};
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId};
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// Slices of a tensor along an axis.
struct Slices {
    x: Param,
    dtype: DType,
    /// Elements before the axis, along it, and behind it.
    outer: V,
    len: V,
    inner: V,
}

impl Slices {
    /// Compares two slices element by element: whether the first is before the second, and whether they are alike.
    fn compare(&self, k: &mut KernelBuilder, i: V, j: V) -> Result<(V, V), Unsupported> {
        let no = k.number(Ty::scalar(Elem::Bool), 0.0);
        let yes = k.number(Ty::scalar(Elem::Bool), 1.0);
        let (before, alike) = (k.local(no), k.local(yes));
        let zero = k.int(0);
        let at = k.local(zero);
        let elements = k.mul(self.outer, self.inner);
        let mut failed = None;
        k.while_(
            |k| {
                let (at, alike) = (k.get(at), k.get(alike));
                let more = k.compare(Cmp::Lt, at, elements);
                k.and(more, alike)
            },
            |k| {
                let now = k.get(at);
                let (row, column) = (k.div(now, self.inner), k.rem(now, self.inner));
                let first = k.mul(row, self.len);
                let element = |k: &mut KernelBuilder, slice: V| {
                    let slice = k.add(first, slice);
                    let slice = k.mul(slice, self.inner);
                    let from = k.add(slice, column);
                    let stored = k.load(self.x, from);
                    decode(k, self.dtype, stored)
                };
                let (Ok(a), Ok(b)) = (element(k, i), element(k, j)) else {
                    failed = element(k, i).err();
                    return;
                };
                let same = ties(k, a, b);
                k.set(alike, same);
                let less = comes_before(k, Cmp::Lt, a, b);
                k.set(before, less);
                let next = k.affine(&[(now, 1)], 1);
                k.set(at, next);
            },
        );
        match failed {
            Some(e) => Err(e),
            None => Ok((k.get(before), k.get(alike))),
        }
    }
}

/// Writes the kernels of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let x = node.operand(0);
    let dtype = graph.tensor_ty(x).dtype;
    let shape = whole_dims(ctx, x)?;
    let (outer, len, inner) = match node.attrs.flag("flat") {
        true => (Dim::constant(1), volume(&shape), Dim::constant(1)),
        false => {
            let axis = node.attrs.index("axis");
            (volume(&shape[..axis]), shape[axis].clone(), volume(&shape[axis + 1..]))
        }
    };
    let results = node.results.to_vec();
    for &v in &results {
        ctx.place_open(v)?;
    }
    let sizes = |v: egret_ir::ValueId| graph.tensor_ty(v).shape.to_vec();
    let cell = ctx.words(1);
    let scratch = [0, 1, 2].map(|_| ctx.room_for(Elem::I64, &len));
    let [order, other, groups] = scratch;
    let (order, other, groups) = (order?, other?, groups?);

    let mut w = Writer::new(ctx, "unique_order");
    let from = w.value(x, Access::Read)?;
    let [order, other, group_of] = [order, other, groups].map(|at| w.own(Elem::I64, at, Access::ReadWrite));
    let firsts = w.value(results[1], Access::ReadWrite)?;
    let inverse = w.value(results[2], Access::ReadWrite)?;
    let counts = w.value(results[3], Access::ReadWrite)?;
    let to = w.own(Elem::I64, cell, Access::Write);
    let slices = Slices { x: from, dtype, outer: w.dim(&outer)?, len: w.dim(&len)?, inner: w.dim(&inner)? };
    let k = &mut w.k;
    let zero = k.int(0);
    k.for_values(zero, slices.len, 1, |k, i| k.store(order, i, i));
    let mut failed = None;
    let indices = Indices { order, scratch: other, from: zero, len: slices.len };
    merge_sort::sort(k, indices, &mut |k, i, j| match slices.compare(k, i, j) {
        Ok((before, _)) => before,
        Err(e) => {
            failed = Some(e);
            k.number(Ty::scalar(Elem::Bool), 0.0)
        }
    });
    // Equal slices are neighbours now, the first of each group is the one with the least index.
    let found = k.local(zero);
    k.for_values(zero, slices.len, 1, |k, at| {
        let now = k.load(order, at);
        let no = k.number(Ty::scalar(Elem::Bool), 0.0);
        let alike = k.local(no);
        let is_first = k.compare(Cmp::Eq, at, zero);
        k.if_(
            is_first,
            |_| {},
            |k| {
                let last = k.affine(&[(at, 1)], -1);
                let last = k.load(order, last);
                if let Ok((_, same)) = slices.compare(k, last, now) {
                    k.set(alike, same);
                }
            },
        );
        let is_alike = k.get(alike);
        k.if_(
            is_alike,
            |k| {
                let all = k.get(found);
                let group = k.affine(&[(all, 1)], -1);
                let count = k.load(counts, group);
                let count = k.affine(&[(count, 1)], 1);
                k.store(counts, group, count);
                k.store(inverse, now, group);
            },
            |k| {
                let group = count_up(k, found);
                let one = k.int(1);
                k.store(firsts, group, now);
                k.store(counts, group, one);
                k.store(inverse, now, group);
            },
        );
    });
    let all = k.get(found);
    if !node.attrs.flag("sorted") {
        by_first(k, Groups { all, len: slices.len, order, other, group_of, firsts, inverse, counts });
    }
    k.store(to, zero, all);
    if let Some(e) = failed {
        return Err(e);
    }
    w.finish_once()?;
    let mut found: Vec<Dim> = vec![];
    for dim in [0, 1, 3].into_iter().flat_map(|i| sizes(results[i])) {
        if node.attrs.declared().iter().flatten().any(|d| dim.as_symbol() == Some(d))
            && !found.contains(&dim)
        {
            ctx.found(&dim, cell)?;
            found.push(dim);
        }
    }

    let mut w = Writer::new(ctx, "unique");
    let from = w.copied(x, Access::Read)?;
    let firsts = w.value(results[1], Access::Read)?;
    let to = w.copied(results[0], Access::Write)?;
    let picked = sizes(results[1]).remove(0);
    let (rows, run, count) = (w.dim(&len)?, w.dim(&inner)?, w.dim(&picked)?);
    let k = &mut w.k;
    let task = k.task();
    let before = k.div(task, count);
    let (start, done) = (k.mul(before, rows), k.mul(before, count));
    let pick = k.sub(task, done);
    let pick = k.load(firsts, pick);
    let row = k.add(start, pick);
    let (a, b) = (k.mul(row, run), k.mul(task, run));
    copy(k, (from, a), (to, b), run);
    w.finish(&[outer, picked], &inner)
}

/// Groups of equal slices in the order of the slices.
struct Groups {
    /// How many groups there are, and how many slices.
    all: V,
    len: V,
    order: Param,
    other: Param,
    /// By a group's place now, its place in the end.
    group_of: Param,
    firsts: Param,
    inverse: Param,
    counts: Param,
}

/// Puts groups into the order in which their first slices stand.
fn by_first(k: &mut KernelBuilder, g: Groups) {
    let zero = k.int(0);
    k.for_values(zero, g.all, 1, |k, i| k.store(g.order, i, i));
    let indices = Indices { order: g.order, scratch: g.other, from: zero, len: g.all };
    merge_sort::sort(k, indices, &mut |k, i, j| {
        let (a, b) = (k.load(g.firsts, i), k.load(g.firsts, j));
        k.compare(Cmp::Lt, a, b)
    });
    k.for_values(zero, g.all, 1, |k, at| {
        let group = k.load(g.order, at);
        k.store(g.group_of, group, at);
    });
    for list in [g.firsts, g.counts] {
        k.for_values(zero, g.all, 1, |k, at| {
            let group = k.load(g.order, at);
            let v = k.load(list, group);
            k.store(g.other, at, v);
        });
        k.for_values(zero, g.all, 1, |k, at| {
            let v = k.load(g.other, at);
            k.store(list, at, v);
        });
    }
    k.for_values(zero, g.len, 1, |k, i| {
        let group = k.load(g.inverse, i);
        let place = k.load(g.group_of, group);
        k.store(g.inverse, i, place);
    });
}
