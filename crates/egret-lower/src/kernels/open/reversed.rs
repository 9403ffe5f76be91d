//! `reverse_sequence` along free dims.

use super::{Writer, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId};
use egret_loop::{Access, Cmp, Elem, V};

/// Writes the kernels of a node. The first one holds the lengths to the axis, also where there is nothing to move; a task of the second one
/// is a row along the last axis.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, lengths) = (node.operand(0), node.operand(1));
    let (time, batch) = (node.attrs.index("time_axis"), node.attrs.index("batch_axis"));
    let (dims, listed) = (whole_dims(ctx, x)?, whole_dims(ctx, lengths)?);
    ctx.hold_equal(&listed[0], &dims[batch])?;
    let mut w = Writer::new(ctx, "reverse_sequence_lengths");
    let all = w.value(lengths, Access::Read)?;
    let (count, limit) = (w.dim(&dims[batch])?, w.dim(&dims[time])?);
    let k = &mut w.k;
    let (zero, beyond) = (k.int(0), k.affine(&[(limit, 1)], 1));
    k.for_values(zero, count, 1, |k, i| {
        let len = k.load(all, i);
        let len = k.convert(Elem::I64, len);
        k.check(len, 0, beyond);
    });
    w.finish_once()?;

    let (last, outer) = dims.split_last().ok_or_else(|| Unsupported::new("has no axes"))?;
    let mut w = Writer::new(ctx, "reverse_sequence_any");
    let (from, to) = (w.copied(x, Access::Read)?, w.copied(node.results[0], Access::Write)?);
    let all = w.value(lengths, Access::Read)?;
    let (extents, steps) = (w.dims(outer)?, w.dims(&strides(&dims))?);
    let (run, limit) = (w.dim(last)?, w.dim(&dims[time])?);
    let k = &mut w.k;
    let at = indices(k, &extents);
    let task = k.task();
    let first = k.mul(task, run);
    let zero = k.int(0);
    k.for_values(zero, run, 1, |k, i| {
        let mut source: Vec<V> = at.clone();
        source.push(i);
        let len = k.load(all, source[batch]);
        let len = k.convert(Elem::I64, len);
        // Not beyond the axis, even if another thread writes lengths meanwhile.
        let len = k.min(len, limit);
        let mirrored = k.affine(&[(len, 1), (source[time], -1)], -1);
        let inside = k.compare(Cmp::Lt, source[time], len);
        source[time] = k.select(inside, mirrored, source[time]);
        let from_at = place(k, zero, &source, &steps);
        let v = k.load(from, from_at);
        let to_at = k.add(first, i);
        k.store(to, to_at, v);
    });
    w.finish(&[volume(outer)], last)
}
