//! Softmax along any axis: in vectors along the last one, and in vectors of lines along another.

use super::{Partials, Writer, along, float_lanes, volume, whole_dims};
use crate::error::Unsupported;
use crate::lanes;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Param, Ty, V, math};

/// Neighbouring lines that a task does: some lines of the cache of each row.
const LINES: i64 = 64;

/// Writes the kernel of a node: three passes over each line along the axis.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let shape = whole_dims(ctx, node.operand(0))?;
    let axis = node.attrs.index("axis");
    let (outer, inner) = (volume(&shape[..axis]), volume(&shape[axis + 1..]));
    let mut w = Writer::new(ctx, "softmax_any");
    let elem = w.ctx.elem(node.operand(0))?;
    let from = w.value(node.operand(0), Access::Read)?;
    let to = w.value(node.results[0], Access::ReadWrite)?;
    let extent = w.dim(&shape[axis])?;
    if inner.as_const() == Some(1) {
        row(&mut w.k, elem, [from, to], extent);
        return w.finish(&[outer], &shape[axis]);
    }
    let count = w.dim(&inner)?;
    let [outer, all] = [&outer, &inner].map(|d| w.ctx.extent(d));
    let [blocks, tasks] = w.ctx.blocks(outer?, all?, LINES)?;
    let blocks = w.size(blocks);
    let k = &mut w.k;
    let task = k.task();
    let (outer, block) = (k.div(task, blocks), k.rem(task, blocks));
    let each = k.mul(extent, count);
    let first = k.mul(outer, each);
    let line = k.affine(&[(block, LINES)], 0);
    let first = k.add(first, line);
    let left = k.sub(count, line);
    let most = k.int(LINES);
    let left = k.min(left, most);
    let vectors = float_lanes(k, elem);
    along(k, left, &vectors, &mut |k, i, lanes| {
        let first = k.add(first, i);
        lines(k, [from, to], (first, count), extent, Ty { elem, lanes });
    });
    w.finish_tasks(tasks, &Dim::constant(1))
}

/// Neighbouring lines, as many as a vector has lanes: the first element, and from one of a line to the next.
fn lines(k: &mut KernelBuilder, [from, to]: [Param; 2], (first, step): (V, V), extent: V, ty: Ty) {
    let zero = k.int(0);
    let pass = |k: &mut KernelBuilder, p: Param, body: &mut dyn FnMut(&mut KernelBuilder, V, V)| {
        k.for_values(zero, extent, 1, |k, i| {
            let further = k.mul(i, step);
            let at = k.add(first, further);
            let v = lanes::load(k, p, at, ty);
            body(k, at, v);
        });
    };
    // NaN need not be minded: it makes the sum one.
    let least = k.number(ty, f64::NEG_INFINITY);
    let most = k.local(least);
    pass(k, from, &mut |k, _, v| {
        let old = k.get(most);
        let new = k.binary(BinOp::SelMax, old, v);
        k.set(most, new);
    });
    let most = k.get(most);
    let none = k.number(ty, 0.0);
    let sum = k.local(none);
    pass(k, from, &mut |k, at, v| {
        let below = k.sub(v, most);
        let share = math::exp(k, below);
        k.store(to, at, share);
        let old = k.get(sum);
        let new = k.add(old, share);
        k.set(sum, new);
    });
    let (one, sum) = (k.number(ty, 1.0), k.get(sum));
    let by = k.div(one, sum);
    pass(k, to, &mut |k, at, v| {
        let share = k.mul(v, by);
        k.store(to, at, share);
    });
}

/// The row of a task, whose elements are neighbours.
fn row(k: &mut KernelBuilder, elem: Elem, [from, to]: [Param; 2], extent: V) {
    let task = k.task();
    let first = k.mul(task, extent);
    let vectors = float_lanes(k, elem);
    let pass = |k: &mut KernelBuilder, p: Param, body: &mut dyn FnMut(&mut KernelBuilder, V, V)| {
        along(k, extent, &vectors, &mut |k, i, lanes| {
            let at = k.add(first, i);
            let v = lanes::load(k, p, at, Ty { elem, lanes });
            body(k, at, v);
        });
    };
    let most = Partials::new(k, elem, &vectors, BinOp::SelMax, f64::NEG_INFINITY);
    pass(k, from, &mut |k, _, v| most.take(k, v));
    let most = most.result(k);
    let sums = Partials::new(k, elem, &vectors, BinOp::Add, 0.0);
    pass(k, from, &mut |k, at, v| {
        let lanes = k.ty(v).lanes;
        let most = k.splat(most, lanes);
        let below = k.sub(v, most);
        let share = math::exp(k, below);
        k.store(to, at, share);
        sums.take(k, share);
    });
    let sum = sums.result(k);
    let one = k.number(Ty::scalar(elem), 1.0);
    let by = k.div(one, sum);
    pass(k, to, &mut |k, at, v| {
        let by = k.splat(by, k.ty(v).lanes);
        let share = k.mul(v, by);
        k.store(to, at, share);
    });
}
