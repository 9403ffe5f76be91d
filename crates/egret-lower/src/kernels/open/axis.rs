//! Along one axis of any extent, element by element: running sums and products, and the index of the extreme. A task is one line along the
//! axis.

use super::{Writer, place, strides, whole_dims};
use crate::error::Unsupported;
use crate::kernels::{arg_reduce, scan};
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId};
use egret_loop::{Access, Elem, Extent, KernelBuilder, Param, ParamInfo, SizeOp, V};

/// A line of an operand: its elements, and how many.
struct Line {
    dtype: DType,
    from: Param,
    first: V,
    count: V,
    step: V,
    /// How many lines there are.
    lines: [Dim; 2],
}

impl Line {
    fn place(&self) -> impl Fn(&mut KernelBuilder, V) -> V {
        let (first, step) = (self.first, self.step);
        move |k, j| place(k, first, &[j], &[step])
    }
}

/// The first element of a line of so many elements, each so many behind the one before it.
pub(super) fn line_of(k: &mut KernelBuilder, line: V, count: V, step: V) -> V {
    let outer = k.div(line, step);
    let before = k.mul(outer, step);
    let inner = k.sub(line, before);
    let all = k.mul(count, step);
    let first = k.mul(outer, all);
    k.add(first, inner)
}

/// The line that a task is of.
fn line(w: &mut Writer<'_, '_>, graph: &Graph, n: NodeId) -> Result<Line, Unsupported> {
    let node = graph.node(n);
    let x = node.operand(0);
    let (dtype, shape) = (graph.tensor_ty(x).dtype, whole_dims(w.ctx, x)?);
    let axis = node.attrs.index("axis");
    let lines = [&shape[..axis], &shape[axis + 1..]].map(super::volume);
    let from = w.value(x, Access::Read)?;
    let (count, step) = (w.dim(&shape[axis])?, w.dim(&strides(&shape)[axis])?);
    let k = &mut w.k;
    let task = k.task();
    let first = line_of(k, task, count, step);
    Ok(Line { dtype, from, first, count, step, lines })
}

/// `cumulative`.
pub fn cumulative(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let mut w = Writer::new(ctx, "cumulative_any");
    let line = line(&mut w, graph, n)?;
    let to = w.value(node.results[0], Access::Write)?;
    scan::run_along(&mut w.k, node, line.dtype, [line.from, to], line.count, &line.place())?;
    w.finish(&line.lines, &Dim::constant(1))
}

/// `arg_reduce`. There is no index where there is no element: such runs are refused.
pub fn arg_reduce(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let mut w = Writer::new(ctx, "arg_reduce_any");
    let line = line(&mut w, graph, n)?;
    let lines = w.ctx.extent(&super::volume(&line.lines))?;
    let count = w.ctx.extent(&graph.tensor_ty(node.operand(0)).shape[node.attrs.index("axis")])?;
    let any = w.ctx.size_op(SizeOp::Min, lines, Extent::Const(1))?;
    w.ctx.size_op(SizeOp::Sub, count, any)?;
    let arg = w.ctx.whole(node.results[0])?;
    w.args.push(arg);
    let to = w.k.param(Elem::I64, ParamInfo::OPEN, Access::Write);
    let best = arg_reduce::extreme(&mut w.k, node, line.dtype, line.from, line.count, &line.place())?;
    let task = w.k.task();
    w.k.store(to, task, best);
    w.finish_tasks(lines, &Dim::constant(1))
}
