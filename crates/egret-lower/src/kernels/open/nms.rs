//! `nms`: of overlapping boxes the one with the best score, class by class.
//!
//! A task of the first kernel is a class of a batch: it sorts the boxes by their scores and goes through them from the best on. The second
//! kernel writes what all have chosen, one class after the other, and says how many there are.

use super::found::count_up;
use super::{Writer, whole_dims};
use crate::error::Unsupported;
use crate::geometry::shape::volume;
use crate::loops::merge_sort::{self, Indices};
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, Arith, BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// Least and greatest x and y of a box, in f64.
type Corners = [V; 4];

/// The corners of the box that begins at an element of f32; `center` as the operation's attribute.
fn corners(k: &mut KernelBuilder, boxes: Param, at: V, center: bool) -> Corners {
    let b: [V; 4] = std::array::from_fn(|i| {
        let from = k.affine(&[(at, 1)], i as i64);
        let v = k.load(boxes, from);
        k.convert(Elem::F64, v)
    });
    if center {
        let half = k.num(b[0], 0.5);
        let [w, h] = [b[2], b[3]].map(|side| k.mul(side, half));
        return [k.sub(b[0], w), k.sub(b[1], h), k.add(b[0], w), k.add(b[1], h)];
    }
    let (x, y) = ([b[1], b[3]], [b[0], b[2]]);
    [one_of(k, Cmp::Lt, x), one_of(k, Cmp::Lt, y), one_of(k, Cmp::Gt, x), one_of(k, Cmp::Gt, y)]
}

/// The smaller or the larger of two numbers; of a number and a NaN the number.
fn one_of(k: &mut KernelBuilder, cmp: Cmp, [a, b]: [V; 2]) -> V {
    let (first, no_number) = (k.compare(cmp, a, b), k.compare(Cmp::Ne, b, b));
    let first = k.or(first, no_number);
    k.select(first, a, b)
}

/// Intersection over union of two boxes; 0 where one has no area or they do not meet.
fn overlap(k: &mut KernelBuilder, a: Corners, b: Corners) -> V {
    let ends = |k: &mut KernelBuilder, low: usize| {
        let (end, begin) =
            (one_of(k, Cmp::Lt, [a[low + 2], b[low + 2]]), one_of(k, Cmp::Gt, [a[low], b[low]]));
        k.sub(end, begin)
    };
    let (w, h) = (ends(k, 0), ends(k, 1));
    let area = |k: &mut KernelBuilder, c: Corners| {
        let (w, h) = (k.sub(c[2], c[0]), k.sub(c[3], c[1]));
        k.mul(w, h)
    };
    let (of_a, of_b) = (area(k, a), area(k, b));
    let zero = k.num(w, 0.0);
    let none = [w, h, of_a, of_b].map(|v| k.compare(Cmp::Le, v, zero));
    let none = none.into_iter().reduce(|x, y| k.or(x, y)).unwrap_or(none[0]);
    let common = k.mul(w, h);
    let both = k.add(of_a, of_b);
    let union = k.sub(both, common);
    let share = k.div(common, union);
    k.select(none, zero, share)
}

/// The bits of an f32 as an integer that is larger the larger the number is; -0 is below +0, NaN beyond the infinity of its sign.
fn rank(k: &mut KernelBuilder, score: V) -> V {
    let bits = k.bitcast(Elem::I32, score);
    let (by, magnitude) = (k.num(bits, 31.0), k.const_bits(Ty::scalar(Elem::I32), 0x7fff_ffff));
    let sign = k.binary(BinOp::Shr, bits, by);
    let flip = k.and(sign, magnitude);
    k.binary(BinOp::Xor, bits, flip)
}

/// Writes the kernels of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (boxes, scores, result) = (node.operand(0), node.operand(1), node.results[0]);
    let optional = |i: usize| node.operands.get(i).copied().flatten();
    let given: Vec<_> =
        [Some(boxes), Some(scores), optional(2), optional(3), optional(4)].into_iter().flatten().collect();
    let shapes = given.iter().map(|&v| whole_dims(ctx, v)).collect::<Result<Vec<_>, _>>()?;
    let (batches, classes, n_boxes) = (shapes[1][0].clone(), shapes[1][1].clone(), shapes[1][2].clone());
    // Dims that only may be equal are held to it.
    let beside = [(&shapes[0][0], &batches), (&shapes[0][1], &n_boxes), (&shapes[0][2], &Dim::constant(4))];
    for (a, b) in beside {
        let zero = Dim::constant(0);
        ctx.within_limit(&zero, a, b)?;
        ctx.within_limit(&zero, b, a)?;
    }
    let center = node.attrs.flag("center_point_box");
    let found = graph.tensor_ty(result).shape[0].clone();
    let all = volume(&[batches.clone(), classes.clone(), n_boxes.clone()]);
    let lists = volume(&[batches.clone(), classes.clone()]);
    let (order, other) = (ctx.room_for(Elem::I64, &all)?, ctx.room_for(Elem::I64, &all)?);
    let (counts, cell) = (ctx.room_for(Elem::I64, &lists)?, ctx.words(1));

    let mut w = Writer::new(ctx, "nms");
    let (pb, ps) = (w.value(boxes, Access::Read)?, w.value(scores, Access::Read)?);
    let scalar = |w: &mut Writer, i: usize| -> Result<Option<V>, Unsupported> {
        let Some(v) = optional(i) else { return Ok(None) };
        let p = w.value(v, Access::Read)?;
        let zero = w.k.int(0);
        Ok(Some(w.k.load(p, zero)))
    };
    let (most, limit, least) = (scalar(&mut w, 2)?, scalar(&mut w, 3)?, scalar(&mut w, 4)?);
    let order_of = w.own(Elem::I64, order, Access::ReadWrite);
    let chosen_of = w.own(Elem::I64, other, Access::ReadWrite);
    let counts_of = w.own(Elem::I64, counts, Access::Write);
    let (per_batch, n_of) = (w.dim(&classes)?, w.dim(&n_boxes)?);
    let k = &mut w.k;
    let zero = k.int(0);
    let most = most.unwrap_or(zero);
    let limit = match limit {
        Some(v) => k.convert(Elem::F64, v),
        None => k.number(Ty::scalar(Elem::F64), 0.0),
    };
    let task = k.task();
    let batch = k.div(task, per_batch);
    let first_box = k.mul(batch, n_of);
    let first = k.mul(task, n_of);
    let candidates = k.local(zero);
    k.for_values(zero, n_of, 1, |k, i| {
        let yes = k.number(Ty::scalar(Elem::Bool), 1.0);
        let enough = match least {
            Some(least) => {
                let from = k.add(first, i);
                let score = k.load(ps, from);
                k.compare(Cmp::Gt, score, least)
            }
            None => yes,
        };
        k.if_(
            enough,
            |k| {
                let at = count_up(k, candidates);
                let to = k.add(first, at);
                k.store(order_of, to, i);
            },
            |_| {},
        );
    });
    let len = k.get(candidates);
    let indices = Indices { order: order_of, scratch: chosen_of, from: first, len };
    merge_sort::sort(k, indices, &mut |k, i, j| {
        let ranks = [i, j].map(|i| {
            let from = k.add(first, i);
            let score = k.load(ps, from);
            rank(k, score)
        });
        k.compare(Cmp::Gt, ranks[0], ranks[1])
    });
    let chosen = k.local(zero);
    k.for_values(zero, len, 1, |k, at| {
        let from = k.add(first, at);
        let i = k.load(order_of, from);
        let place = |k: &mut KernelBuilder, i: V| {
            let index = k.add(first_box, i);
            k.affine(&[(index, 4)], 0)
        };
        let have = k.get(chosen);
        let more = k.compare(Cmp::Lt, have, most);
        let fits = k.local(more);
        let own = place(k, i);
        let own = corners(k, pb, own, center);
        let c = k.local(zero);
        k.while_(
            |k| {
                let (c, fits) = (k.get(c), k.get(fits));
                let left = k.compare(Cmp::Lt, c, have);
                k.and(left, fits)
            },
            |k| {
                let now = k.get(c);
                let from = k.add(first, now);
                let other = k.load(chosen_of, from);
                let other = place(k, other);
                let other = corners(k, pb, other, center);
                let share = overlap(k, own, other);
                let apart = k.compare(Cmp::Le, share, limit);
                k.set(fits, apart);
                let next = k.affine(&[(now, 1)], 1);
                k.set(c, next);
            },
        );
        let takes = k.get(fits);
        k.if_(
            takes,
            |k| {
                let at = count_up(k, chosen);
                let to = k.add(first, at);
                k.store(chosen_of, to, i);
            },
            |_| {},
        );
    });
    let count = k.get(chosen);
    k.store(counts_of, task, count);
    w.finish(&[batches, classes], &Dim::constant(1))?;

    let mut w = Writer::new(ctx, "nms_chosen");
    let (from, counts) = (w.own(Elem::I64, other, Access::Read), w.own(Elem::I64, counts, Access::Read));
    let to = w.value(result, Access::Write)?;
    let total_at = w.own(Elem::I64, cell, Access::Write);
    let (all, per_batch, n_of) = (w.dim(&lists)?, w.dim(&shapes[1][1])?, w.dim(&n_boxes)?);
    let k = &mut w.k;
    let zero = k.int(0);
    let total = k.local(zero);
    k.for_values(zero, all, 1, |k, list| {
        let (batch, class) = (k.div(list, per_batch), k.rem(list, per_batch));
        let (first, count) = (k.mul(list, n_of), k.load(counts, list));
        k.for_values(zero, count, 1, |k, i| {
            let at = k.add(first, i);
            let chosen = k.load(from, at);
            let row = count_up(k, total);
            for (column, value) in (0..).zip([batch, class, chosen]) {
                let at = k.affine(&[(row, 3)], column);
                k.store(to, at, value);
            }
        });
    });
    let total = k.get(total);
    k.store(total_at, zero, total);
    w.finish_once()?;
    ctx.found(&found, cell)
}
