//! `top_k` along free dims.

use super::axis::line_of;
use super::{Writer, shape, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::kernels::points::Span;
use crate::kernels::sort::{Row, before, room};
use crate::program::context::Ctx;
use egret_ir::{Dim, DimOp, Graph, NodeId};
use egret_loop::{Access, Elem};

/// At most so many rows are selected from at once, each with room for its candidates.
const TASKS: i64 = 64;

/// Writes the kernel of a node. A task is some rows along the axis, one after the other.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, results) = (node.operand(0), [node.results[0], node.results[1]]);
    let dtype = graph.tensor_ty(x).dtype;
    let (dims, out) = (whole_dims(ctx, x)?, shape(graph, results[0]));
    let axis = node.attrs.index("axis");
    let (len, kept, inner) = (&dims[axis], &out[axis], &strides(&dims)[axis]);
    ctx.within_limit(&Dim::constant(0), kept, len)?;
    let rows = volume(&dims[..axis]) * inner.clone();
    let tasks = rows.op(DimOp::Min, &Dim::constant(TASKS));
    // As many as `sort::room` says, or as the row has.
    let twice = kept.clone() * Dim::constant(2) + Dim::constant(room(0));
    let room = twice.op(DimOp::Min, len);
    for v in results {
        ctx.place_open(v)?;
    }
    let candidates = tasks.clone() * room.clone();
    let lists = [ctx.room_for(Elem::I64, &candidates)?, ctx.room_for(Elem::I64, &candidates)?];
    let mut w = Writer::new(ctx, "top_k_any");
    let x = w.value(x, Access::Read)?;
    let (values, indices) = (w.value(results[0], Access::Write)?, w.value(results[1], Access::Write)?);
    let [order, scratch] = lists.map(|at| w.own(Elem::I64, at, Access::ReadWrite));
    let contiguous = inner.as_const() == Some(1);
    let (n, kept_of, step) = (w.dim(len)?, w.dim(kept)?, w.dim(inner)?);
    let (all, each, room) = (w.dim(&rows)?, w.dim(&tasks)?, w.dim(&room)?);
    let k = &mut w.k;
    let elem = k.param_elem(x);
    let lanes = if contiguous && matches!(elem, Elem::F32 | Elem::I32) { k.vector(elem).lanes } else { 1 };
    let task = k.task();
    let base = k.mul(task, room);
    let bounds = [0, 1].map(|next| {
        // Rows of the task: as equal parts as there are.
        let number = k.affine(&[(task, 1)], next);
        let scaled = k.mul(number, all);
        k.div(scaled, each)
    });
    let mut result = Ok(());
    k.for_values(bounds[0], bounds[1], 1, |k, line| {
        let (first, to) = (line_of(k, line, n, step), line_of(k, line, kept_of, step));
        let row = Row {
            dtype,
            before: before(node),
            n,
            kept: kept_of,
            inner: if contiguous { Span::Known(1) } else { Span::Value(step) },
            x,
            order,
            scratch,
            first,
            base,
            room,
            lanes,
        };
        result = row.write(k, (values, indices, to));
    });
    result?;
    // Where none is kept, nothing is read.
    w.finish(&[tasks], kept)
}
