//! Kernels of which a task is a row, or a matrix, of sizes that a run knows, and whose body is that of constant dims.

use super::{Writer, volume, whole_dims};
use crate::error::Unsupported;
use crate::kernels::{linalg, tfidf};
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, ParamInfo};

/// `det`. One task does all matrices, in a scratch copy of each.
pub fn det(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let dims = whole_dims(ctx, node.operand(0))?;
    let (batch, [rows, columns]) =
        dims.split_last_chunk().ok_or_else(|| Unsupported::new("has no matrices"))?;
    ctx.hold_equal(rows, columns)?;
    let elem = ctx.elem(node.operand(0))?;
    let room = ctx.room_for(elem, &(rows.clone() * columns.clone()))?;
    let mut w = Writer::new(ctx, "det_any");
    let x = w.value(node.operand(0), Access::Read)?;
    let y = w.value(node.results[0], Access::Write)?;
    let m = w.own(elem, room, Access::ReadWrite);
    let (count, n) = (w.dim(&volume(batch))?, w.dim(rows)?);
    let zero = w.k.int(0);
    w.k.for_values(zero, count, 1, |k, b| linalg::eliminate(k, (x, y, m), b, n));
    w.finish_once()
}

/// `tfidf`. A task is a row of tokens.
pub fn tfidf(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let dims = whole_dims(ctx, node.operand(0))?;
    let (columns, rows) = dims.split_last().map_or((Dim::constant(1), &[][..]), |(c, r)| (c.clone(), r));
    let counted = tfidf::Counted::of(ctx, node)?;
    let mut w = Writer::new(ctx, "tfidf_any");
    let x = w.value(node.operand(0), Access::Read)?;
    let y = w.value(node.results[0], Access::ReadWrite)?;
    let tables = counted.tables.map(|(arg, elem, _)| {
        w.args.push(arg);
        w.k.param(elem, ParamInfo::OPEN, Access::Read)
    });
    let columns = w.dim(&columns)?;
    let row = w.k.task();
    counted.row(&mut w.k, (x, y), tables, row, columns);
    w.finish(rows, &Dim::constant(counted.width))
}
