//! Selection by rank.

use super::points::Span;
use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::loops::indices::nest;
use crate::loops::merge_sort::{self, Indices};
use crate::loops::order::{comes_before, ties};
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, BinOp, Cmp, Elem, KernelBuilder, Local, Param, Ty, UnOp, V};

/// Comparisons of [`by_passes`] that cost less than the bookkeeping of [`by_candidates`].
const FEW: i64 = 512;

/// Candidates beside twice the kept ones, so that a few need no sort of every other one.
const ROOM: i64 = 16;

/// At most so many rows are selected from at once, each with room for its candidates.
const TASKS: i64 = 64;

/// What is selected from.
struct Selection {
    dtype: DType,
    /// `Gt` for the largest, `Lt` for the smallest.
    before: Cmp,
    outer: i64,
    inner: i64,
    /// Elements of the axis, and how many of them are kept.
    n: i64,
    kept: i64,
}

/// `top_k`, in the order (value, index).
pub fn top_k(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let dims = ctx.dims(node.operand(0));
    let axis = node.attrs.index("axis");
    let s = Selection {
        dtype: ctx.dtype(node.operand(0)),
        before: before(node),
        outer: dims[..axis].iter().product(),
        inner: dims[axis + 1..].iter().product(),
        n: dims[axis],
        kept: ctx.dims(node.results[0])[axis],
    };
    match s.n.saturating_mul(s.kept) {
        0..=FEW => by_passes(ctx, node, &s),
        _ => by_candidates(ctx, node, &s),
    }
}

/// Each pass takes the best element that comes after the one taken before. No scratch memory; as many passes over the axis as are kept.
fn by_passes(ctx: &mut Ctx, node: &Node, s: &Selection) -> Result<(), Unsupported> {
    let &Selection { dtype, before, outer, inner, n, kept } = s;
    let mut w = Writer::new(ctx, "top_k", 1);
    let x = w.operand(node, 0)?;
    let values = w.result(node, 0, Access::Write)?;
    let indices = w.result(node, 1, Access::Write)?;
    let mut result = Ok(());
    let k = &mut w.k;
    if n > 0 {
        nest(k, &[outer, inner], &mut |k, at| {
            let (o, i) = (at[0], at[1]);
            let row = k.affine(&[(o, n * inner), (i, 1)], 0);
            let first = k.load(x, row);
            let first = match decode(k, dtype, first) {
                Ok(v) => v,
                Err(e) => {
                    result = Err(e);
                    return;
                }
            };
            let none = k.int(-1);
            let last_value = k.local(first);
            let last_index = k.local(none);
            let no = k.number(Ty::scalar(Elem::Bool), 0.0);
            k.for_n(kept, |k, j| {
                let best_value = k.local(first);
                let best_index = k.local(none);
                let found = k.local(no);
                k.for_n(n, |k, c| {
                    let from = k.affine(&[(row, 1), (c, inner)], 0);
                    let raw = k.load(x, from);
                    let Ok(v) = decode(k, dtype, raw) else { return };
                    // After the one taken last: worse, or equal and further on. Before any is taken
                    // everything is.
                    let (lv, li) = (k.get(last_value), k.get(last_index));
                    let worse = comes_before(k, before, lv, v);
                    let equal = ties(k, lv, v);
                    let further = k.compare(Cmp::Gt, c, li);
                    let tied = k.and(equal, further);
                    let zero = k.int(0);
                    let start = k.compare(Cmp::Lt, li, zero);
                    let open = k.or(worse, tied);
                    let open = k.or(open, start);
                    // Better than the best of this pass so far.
                    let (bv, f) = (k.get(best_value), k.get(found));
                    let better = comes_before(k, before, v, bv);
                    let new = k.unary(UnOp::Not, f);
                    let better = k.or(better, new);
                    let take = k.and(open, better);
                    k.if_(
                        take,
                        |k| {
                            k.set(best_value, v);
                            k.set(best_index, c);
                            let yes = k.number(Ty::scalar(Elem::Bool), 1.0);
                            k.set(found, yes);
                        },
                        |_| {},
                    );
                });
                let (bv, bi) = (k.get(best_value), k.get(best_index));
                k.set(last_value, bv);
                k.set(last_index, bi);
                let to = k.affine(&[(o, kept * inner), (j, inner), (i, 1)], 0);
                let Ok(stored) = encode(k, dtype, bv) else { return };
                k.store(values, to, stored);
                k.store(indices, to, bi);
            });
        });
    }
    result?;
    w.finish()
}

/// The buffers of [`by_candidates`], and where a row is in them.
pub struct Row {
    pub dtype: DType,
    /// `Gt` for the largest, `Lt` for the smallest.
    pub before: Cmp,
    /// Elements of the row, at least one, and how many of them are kept, at least one.
    pub n: V,
    pub kept: V,
    /// Elements from one of the row to the next.
    pub inner: Span,
    pub x: Param,
    /// Indices of the candidates, the best first once they were sorted.
    pub order: Param,
    pub scratch: Param,
    /// The row's first element in `x`, and the task's first candidate.
    pub first: V,
    pub base: V,
    /// Room for candidates.
    pub room: V,
    /// Lanes that are compared at once; 1 where the row is not contiguous or has no vectors.
    pub lanes: u8,
}

/// What the largest or the smallest come before the others by.
pub fn before(node: &Node) -> Cmp {
    if node.attrs.flag("largest") { Cmp::Gt } else { Cmp::Lt }
}

/// Room for candidates of a row of which so many are kept, if it has so many elements.
pub fn room(kept: i64) -> i64 {
    kept.saturating_mul(2).saturating_add(ROOM)
}

/// One pass over the axis gathers the elements that come before the last of the best so far, as candidates; whenever there is no more room for
/// them they are sorted, and the best are kept. In most rows few elements are candidates, and whole vectors have none; in the worst the
/// sorts take n log k comparisons. Where all are kept it is a merge sort.
fn by_candidates(ctx: &mut Ctx, node: &Node, s: &Selection) -> Result<(), Unsupported> {
    let rows = s.outer * s.inner;
    let tasks = rows.clamp(1, TASKS);
    let room = s.n.min(room(s.kept));
    let args = [ctx.scratch(Elem::I64, &[tasks, room])?, ctx.scratch(Elem::I64, &[tasks, room])?];
    let elem = ctx.elem(node.operand(0))?;
    let mut w = Writer::new(ctx, "top_k", tasks);
    let x = w.operand(node, 0)?;
    let values = w.result(node, 0, Access::Write)?;
    let indices = w.result(node, 1, Access::Write)?;
    let [order, scratch] = args.map(|a| w.buffer(a, Elem::I64, (tasks * room) as usize, Access::ReadWrite));
    let k = &mut w.k;
    let task = k.task();
    let base = k.affine(&[(task, room)], 0);
    let bounds = [0, 1].map(|next| {
        // Rows of the task: as equal parts as there are.
        let scaled = k.affine(&[(task, rows)], next * rows);
        let all = k.int(tasks);
        k.div(scaled, all)
    });
    let lanes =
        if s.inner == 1 && matches!(elem, Elem::F32 | Elem::I32) { k.vector(elem).lanes } else { 1 };
    let mut result = Ok(());
    k.for_values(bounds[0], bounds[1], 1, |k, row| {
        let inner = k.int(s.inner);
        let (o, i) = (k.div(row, inner), k.rem(row, inner));
        let first = k.affine(&[(o, s.n * s.inner), (i, 1)], 0);
        let (dtype, before) = (s.dtype, s.before);
        let (n, kept, room) = (k.int(s.n), k.int(s.kept), k.int(room));
        let inner = Span::Known(s.inner);
        let row = Row { dtype, before, n, kept, inner, x, order, scratch, first, base, room, lanes };
        let to = k.affine(&[(o, s.kept * s.inner), (i, 1)], 0);
        result = row.write(k, (values, indices, to));
    });
    result?;
    w.finish()
}

impl Row {
    /// Writes the kept, the best first, and their indices: the elements from `to` on.
    pub fn write(
        &self,
        k: &mut KernelBuilder,
        (values, indices, to): (Param, Param, V),
    ) -> Result<(), Unsupported> {
        self.select(k)?;
        let zero = k.int(0);
        k.for_values(zero, self.kept, 1, |k, j| {
            let from = k.affine(&[(self.base, 1), (j, 1)], 0);
            let at = k.load(self.order, from);
            let from = self.inner.element(k, at, self.first);
            let v = k.load(self.x, from);
            let to = self.inner.element(k, j, to);
            k.store(values, to, v);
            k.store(indices, to, at);
        });
        Ok(())
    }

    /// The element at an index of the axis, as it is compared.
    fn element(&self, k: &mut KernelBuilder, at: V) -> Result<V, Unsupported> {
        let from = self.inner.element(k, at, self.first);
        let raw = k.load(self.x, from);
        decode(k, self.dtype, raw)
    }

    /// Leaves the indices of the kept at the beginning of the candidates.
    fn select(&self, k: &mut KernelBuilder) -> Result<(), Unsupported> {
        let zero = k.int(0);
        let (at, count) = (k.local(zero), k.local(zero));
        // Until there are as many as are kept, each is one of them.
        let no = k.number(Ty::scalar(Elem::Bool), 0.0);
        let full = k.local(no);
        let some = self.element(k, zero)?;
        let last = k.local(some);
        let end = self.n;
        let mut result = Ok(());
        k.while_(
            |k| {
                let at = k.get(at);
                k.compare(Cmp::Lt, at, end)
            },
            |k| {
                result =
                    self.gather(k, at, count, full, last).and_then(|()| self.sort(k, count, full, last));
            },
        );
        result
    }

    /// Gathers candidates until there is no more room, or no element.
    fn gather(
        &self,
        k: &mut KernelBuilder,
        at: Local,
        count: Local,
        full: Local,
        last: Local,
    ) -> Result<(), Unsupported> {
        let mut result = Ok(());
        let (end, room) = (self.n, self.room);
        k.while_(
            |k| {
                let (at, count) = (k.get(at), k.get(count));
                let (more, fits) = (k.compare(Cmp::Lt, at, end), k.compare(Cmp::Lt, count, room));
                k.and(more, fits)
            },
            |k| {
                let now = k.get(at);
                let known = k.get(full);
                let skips = k.local(known);
                if self.lanes > 1 {
                    self.look_at_vector(k, now, skips, last);
                } else {
                    let no = k.number(Ty::scalar(Elem::Bool), 0.0);
                    k.set(skips, no);
                }
                let skipped = k.get(skips);
                k.if_(
                    skipped,
                    |k| {
                        let next = k.affine(&[(now, 1)], i64::from(self.lanes));
                        k.set(at, next);
                    },
                    |k| {
                        result = self.take(k, now, count, full, last);
                        let next = k.affine(&[(now, 1)], 1);
                        k.set(at, next);
                    },
                );
            },
        );
        result
    }

    /// Says whether a whole vector from an index on has no candidate.
    fn look_at_vector(&self, k: &mut KernelBuilder, at: V, skips: Local, last: Local) {
        let behind = k.affine(&[(at, 1)], i64::from(self.lanes));
        let fits = k.compare(Cmp::Le, behind, self.n);
        let known = k.get(skips);
        let looks = k.and(known, fits);
        k.set(skips, looks);
        k.if_(
            looks,
            |k| {
                let from = k.add(self.first, at);
                let (v, last) = (k.load_lanes(self.x, from, self.lanes), k.get(last));
                let last = k.splat(last, self.lanes);
                let before = comes_before(k, self.before, v, last);
                let some = k.any(before);
                let none = k.unary(UnOp::Not, some);
                k.set(skips, none);
            },
            |_| {},
        );
    }

    /// Takes an element, if it is a candidate.
    fn take(
        &self,
        k: &mut KernelBuilder,
        at: V,
        count: Local,
        full: Local,
        last: Local,
    ) -> Result<(), Unsupported> {
        let v = self.element(k, at)?;
        // An equal one stands further on than the last of the best.
        let (last, full) = (k.get(last), k.get(full));
        let better = comes_before(k, self.before, v, last);
        let open = k.unary(UnOp::Not, full);
        let takes = k.or(better, open);
        k.if_(
            takes,
            |k| {
                let have = k.get(count);
                let to = k.add(self.base, have);
                k.store(self.order, to, at);
                let next = k.affine(&[(have, 1)], 1);
                k.set(count, next);
            },
            |_| {},
        );
        Ok(())
    }

    /// Sorts the candidates, and keeps the best.
    fn sort(
        &self,
        k: &mut KernelBuilder,
        count: Local,
        full: Local,
        last: Local,
    ) -> Result<(), Unsupported> {
        let len = k.get(count);
        let of = Indices { order: self.order, scratch: self.scratch, from: self.base, len };
        let mut result = Ok(());
        merge_sort::sort(k, of, &mut |k, i, j| {
            let both = self.element(k, i).and_then(|a| Ok((a, self.element(k, j)?)));
            match both {
                Ok((a, b)) => comes_before(k, self.before, a, b),
                Err(e) => {
                    result = Err(e);
                    k.compare(Cmp::Lt, i, j)
                }
            }
        });
        result?;
        let kept = self.kept;
        let now = k.binary(BinOp::SelMin, len, kept);
        k.set(count, now);
        let enough = k.compare(Cmp::Ge, len, kept);
        k.set(full, enough);
        let mut result = Ok(());
        k.if_(
            enough,
            |k| {
                let from = k.affine(&[(self.base, 1), (kept, 1)], -1);
                let at = k.load(self.order, from);
                match self.element(k, at) {
                    Ok(v) => k.set(last, v),
                    Err(e) => result = Err(e),
                }
            },
            |_| {},
        );
        result
    }
}
