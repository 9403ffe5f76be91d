//! Trees that are asked about rows of which only a run knows how many there are, and how many features each has.

use super::sums::Sums;
use super::{Trees, Walk};
use crate::error::Unsupported;
use crate::kernels::open::{Writer, whole_dims};
use crate::kernels::points::Span;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, Elem, Extent, ParamInfo, SizeOp};

/// Writes the kernel of a node: every row walks every tree, node by node. A task is a row.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let dims = whole_dims(ctx, x)?;
    let [rows, features] = dims.as_slice() else { return Err(Unsupported::new("needs rows of features")) };
    let trees = Trees::new(&node.attrs, [1, i64::MAX])?;
    // Rows, if there are some, have all features that are tested.
    let tested = trees.nodes.iter().map(|n| n.feature as i64 + 1).max().unwrap_or(0);
    let (count, have) = (ctx.extent(rows)?, ctx.extent(features)?);
    let some = ctx.size_op(SizeOp::Min, count, Extent::Const(1))?;
    let needed = ctx.size_op(SizeOp::Mul, some, Extent::Const(tested))?;
    ctx.size_op(SizeOp::Sub, have, needed)?;
    let sums = ctx.room_for(Elem::F64, &(rows.clone() * Dim::constant(trees.width)))?;
    let tables = trees.tables(ctx);
    let dtype = graph.tensor_ty(x).dtype;
    let mut w = Writer::new(ctx, "tree_ensemble_any");
    let x = w.value(x, Access::Read)?;
    let y = w.value(result, Access::Write)?;
    let sums = w.own(Elem::F64, sums, Access::ReadWrite);
    let tables = tables.map(|t| {
        t.map(|(arg, elem, _)| {
            w.args.push(arg);
            w.k.param(elem, ParamInfo::OPEN, Access::Read)
        })
    });
    let features = Span::Value(w.dim(features)?);
    let sums = Sums { trees: &trees, dtype, y, sums };
    let walk = Walk { trees: &trees, dtype, x, features, sums, tables };
    let row = w.k.task();
    walk.row(&mut w.k, row)?;
    w.finish(std::slice::from_ref(rows), &Dim::constant(trees.width))
}
