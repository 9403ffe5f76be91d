//! Writing at indices from data, along any axes: after a copy of the operand, its updates in the order of the indices.
//!
//! Tasks are columns, which no two indices share: each goes through all indices that may name the same element.

use super::gather::{Kind, Run, data_index, tuple};
use super::places::lanes_of;
use super::{Writer, along, float_lanes, indices_of, map, place, shape, strides};
use crate::error::Unsupported;
use crate::geometry::shape::volume;
use crate::kernels::gather_scatter::{put, reduction};
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, Op};
use egret_loop::{Access, BinOp, Elem, Extent, KernelBuilder, Param, ParamInfo, SizeOp, V};

/// Columns of a task.
const COLUMNS: i64 = 128;

/// Whether the kernels can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let [x, at, updates] = [0, 1, 2].map(|i| shape(graph, node.operand(i)));
    let numbers = graph.ty(node.operand(0)).as_tensor().is_some_and(|t| t.dtype != DType::String);
    numbers
        && match node.op {
            Op::ScatterNd => at.split_last().is_some_and(|(width, rows)| {
                let slice = width.as_const().and_then(|n| x.get(usize::try_from(n).ok()?..));
                slice.is_some_and(|slice| [rows, slice].concat() == updates)
            }),
            _ => updates == at,
        }
}

/// What becomes of an update.
struct Put {
    dtype: DType,
    /// Overwrites where there is none.
    op: Option<BinOp>,
    updates: Param,
    to: Param,
}

impl Put {
    /// The parameters of a node, after its indices.
    fn new(
        w: &mut Writer<'_, '_>,
        graph: &Graph,
        n: NodeId,
        updates: Param,
        elem: Elem,
    ) -> Result<Put, Unsupported> {
        let node = graph.node(n);
        let arg = w.ctx.whole(node.results[0])?;
        w.args.push(arg);
        let to = w.k.param(elem, ParamInfo::OPEN, Access::ReadWrite);
        Ok(Put { dtype: graph.tensor_ty(node.operand(0)).dtype, op: reduction(node)?, updates, to })
    }

    /// Updates of these columns of a slice that begins at `to`: that of one stands where `run` says, from `from` on.
    fn slice(
        &self,
        k: &mut KernelBuilder,
        [begin, end]: [V; 2],
        run: &Run,
        from: V,
        to: V,
    ) -> Result<(), Unsupported> {
        let lanes = match (run.kind, self.op, self.dtype) {
            (Kind::Apart, ..) => vec![],
            (_, None, _) => lanes_of(k, k.param_elem(self.to)),
            (_, Some(_), DType::F32) => float_lanes(k, Elem::F32),
            _ => vec![],
        };
        let count = k.sub(end, begin);
        let mut failed = Ok(());
        along(k, count, &lanes, &mut |k, i, lanes| {
            let column = k.add(begin, i);
            let at = run.place(k, from, column);
            let update = match (run.kind, lanes) {
                (_, 1) => k.load(self.updates, at),
                (Kind::Still, _) => {
                    let one = k.load(self.updates, at);
                    k.splat(one, lanes)
                }
                _ => k.load_lanes(self.updates, at, lanes),
            };
            let to = k.add(to, column);
            if let Err(e) = put(k, self.dtype, self.op, self.to, to, update) {
                failed = Err(e);
            }
        });
        failed
    }
}

/// The elements of the operand and of the updates: as they are, where they are only moved.
fn elem_of(w: &Writer<'_, '_>, graph: &Graph, n: NodeId) -> Result<Elem, Unsupported> {
    let node = graph.node(n);
    let elem = w.ctx.elem(node.operand(0))?;
    Ok(if reduction(node)?.is_some() { elem } else { copy_elem(elem) })
}

/// `scatter_elements`.
pub fn elements(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, at, axis) = (node.operand(0), node.operand(1), node.attrs.index("axis"));
    let (dims, picks) = (shape(graph, x), shape(graph, at));
    map::copy(ctx, graph, x, node.results[0])?;
    let mut w = Writer::new(ctx, "scatter_elements_any");
    w.fits(&picks, &dims, axis)?;
    let elem = w.ctx.elem(at)?;
    let which = w.read_at(at, &picks, elem)?;
    let elem = elem_of(&w, graph, n)?;
    let updates = w.read_at(node.operand(2), &picks, elem)?;
    let put_at = Put::new(&mut w, graph, n, updates.param, elem)?;
    let own = strides(&dims);
    let behind = &picks[axis + 1..];
    let columns = volume(behind);
    let [listed, updated, written] =
        [&which.strides, &updates.strides, &own].map(|s| w.run(behind, &s[axis + 1..]));
    let (listed, updated, written) = (listed?, updated?, written?);
    let [which_steps, update_steps, steps] =
        [&which.strides, &updates.strides, &own].map(|s| w.dims(&s[..=axis]));
    let (which_steps, update_steps, steps) = (which_steps?, update_steps?, steps?);
    let (lead, each_of) = (w.ctx.extent(&volume(&picks[..axis]))?, w.ctx.extent(&columns)?);
    let [each, tasks] = w.ctx.blocks(lead, each_of, COLUMNS)?;
    let each = w.size(each);
    let extents = w.dims(&picks[..axis])?;
    let (indexed, extent, columns) = (w.dim(&picks[axis])?, w.dim(&dims[axis])?, w.dim(&columns)?);
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let row = k.div(task, each);
    let before = k.mul(row, each);
    let block = k.sub(task, before);
    let at = indices_of(k, row, &extents);
    let which_from = place(k, which.first, &at, &which_steps[..axis]);
    let update_from = place(k, updates.first, &at, &update_steps[..axis]);
    let to = place(k, zero, &at, &steps[..axis]);
    let begin = k.affine(&[(block, COLUMNS)], 0);
    let end = k.affine(&[(block, COLUMNS)], COLUMNS);
    let end = k.min(end, columns);
    let mut failed = Ok(());
    k.for_values(zero, indexed, 1, |k, i| {
        let which_at = place(k, which_from, &[i], &which_steps[axis..]);
        let update_at = place(k, update_from, &[i], &update_steps[axis..]);
        // One index for a slice.
        if listed.kind == Kind::Still && written.kind != Kind::Apart {
            let index = data_index(k, which.param, which_at, extent);
            let to = place(k, to, &[index], &steps[axis..]);
            let done = put_at.slice(k, [begin, end], &updated, update_at, to);
            if done.is_err() {
                failed = done;
            }
            return;
        }
        k.for_values(begin, end, 1, |k, column| {
            let at = listed.place(k, which_at, column);
            let index = data_index(k, which.param, at, extent);
            let at = updated.place(k, update_at, column);
            let update = k.load(put_at.updates, at);
            let at = place(k, to, &[index], &steps[axis..]);
            let at = written.place(k, at, column);
            if let Err(e) = put(k, put_at.dtype, put_at.op, put_at.to, at, update) {
                failed = Err(e);
            }
        });
    });
    failed?;
    w.finish_tasks(tasks, &Dim::constant(1))
}

/// `scatter_nd`.
pub fn tuples(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, at) = (node.operand(0), node.operand(1));
    let (dims, picks) = (shape(graph, x), shape(graph, at));
    let scalar = || Unsupported::new("has scalar indices");
    let (width, rows) = picks.split_last().ok_or_else(scalar)?;
    let behind = width.as_const().ok_or_else(scalar)? as usize;
    let columns = volume(&dims[behind..]);
    map::copy(ctx, graph, x, node.results[0])?;
    let mut w = Writer::new(ctx, "scatter_nd_any");
    let elem = w.ctx.elem(at)?;
    let which = w.read_at(at, &picks, elem)?;
    let elem = elem_of(&w, graph, n)?;
    let updates = w.read_at(node.operand(2), &[rows, &dims[behind..]].concat(), elem)?;
    let put_at = Put::new(&mut w, graph, n, updates.param, elem)?;
    let listed = w.run(rows, &which.strides[..rows.len()])?;
    let updated = [&updates.strides[..rows.len()], &updates.strides[rows.len()..]];
    // A row of updates stands where the first of its slice does.
    let slice = w.run(&dims[behind..], updated[1])?;
    let (row_extents, row_steps) = (w.dims(rows)?, w.dims(updated[0])?);
    let which_steps = w.dims(&which.strides)?;
    let (sizes, steps) = (w.dims(&dims[..behind])?, w.dims(&strides(&dims)[..behind])?);
    let axes: Vec<(V, V)> = sizes.into_iter().zip(steps).collect();
    let all_columns = w.ctx.extent(&columns)?;
    let [blocks, _] = w.ctx.blocks(Extent::Const(1), all_columns, COLUMNS)?;
    // Indices are held to their range where there is nothing to write too.
    let tasks = w.ctx.size_op(SizeOp::Max, Extent::Const(i64::from(behind > 0)), blocks)?;
    let (count, columns) = (w.dim(&volume(rows))?, w.dim(&columns)?);
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let begin = k.affine(&[(task, COLUMNS)], 0);
    let end = k.affine(&[(task, COLUMNS)], COLUMNS);
    let end = k.min(end, columns);
    let mut failed = Ok(());
    k.for_values(zero, count, 1, |k, row| {
        let row_at = indices_of(k, row, &row_extents);
        let which_at = match listed.kind {
            Kind::Still => which.first,
            _ => place(k, which.first, &row_at, &which_steps[..row_at.len()]),
        };
        let to = tuple(k, which.param, (which_at, which_steps[row_at.len()]), zero, &axes);
        let from = place(k, updates.first, &row_at, &row_steps);
        let done = put_at.slice(k, [begin, end], &slice, from, to);
        if done.is_err() {
            failed = done;
        }
    });
    failed?;
    w.finish_tasks(tasks, &Dim::constant(1))
}
