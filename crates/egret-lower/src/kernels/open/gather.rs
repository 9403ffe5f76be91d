//! Reading at indices from data, along any axes.
//!
//! An index is held to the extent of its axis before it is used, also where nothing is read there.

use super::places::copy;
use super::{Writer, indices, indices_of, place, shape, strides};
use crate::error::Unsupported;
use crate::geometry::shape::volume;
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, Op, ValueId};
use egret_loop::{Access, Cmp, Elem, Extent, KernelBuilder, Param, SizeOp, V};

/// Indices of a task.
const PICKS: i64 = 64;

/// Whether the kernels can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let (x, at) = (shape(graph, node.operand(0)), shape(graph, node.operand(1)));
    let numbers = graph.ty(node.operand(0)).as_tensor().is_some_and(|t| t.dtype != DType::String);
    numbers
        && match node.op {
            Op::GatherNd => {
                let batch = node.attrs.index("batch_dims");
                at.last().is_some_and(|d| d.as_const().is_some()) && x.get(..batch) == at.get(..batch)
            }
            _ => true,
        }
}

/// A value that is read at indices of its axes.
pub(super) struct Placed {
    pub param: Param,
    /// The element of the first indices.
    pub first: V,
    /// A stride for each axis; 0 along one in which it is kept once.
    pub strides: Vec<Dim>,
}

/// Elements along some axes by their number, the last axis fastest.
pub(super) struct Run {
    pub kind: Kind,
    extents: Vec<V>,
    strides: Vec<V>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// All are one element.
    Still,
    /// They are neighbours.
    Neighbours,
    /// They have places of their own.
    Apart,
}

impl Run {
    /// Refuses elements, so many, that are not stored one behind the other.
    fn is_copied(&self, count: &Dim) -> Result<(), Unsupported> {
        match self.kind {
            Kind::Neighbours => Ok(()),
            Kind::Still if count.as_const() == Some(1) => Ok(()),
            _ => Err(Unsupported::new("gathers slices that are not stored one element behind the other")),
        }
    }

    /// The place of an element.
    pub(super) fn place(&self, k: &mut KernelBuilder, from: V, element: V) -> V {
        match self.kind {
            Kind::Still => from,
            Kind::Neighbours => k.add(from, element),
            Kind::Apart => {
                let at = indices_of(k, element, &self.extents);
                place(k, from, &at, &self.strides)
            }
        }
    }
}

impl Writer<'_, '_> {
    /// A value of these dims, as elements of a type.
    pub(super) fn read_at(&mut self, v: ValueId, dims: &[Dim], elem: Elem) -> Result<Placed, Unsupported> {
        let (param, first, own) = self.laid_out_as(v, elem)?;
        Ok(Placed { param, first: self.dim(&first)?, strides: self.aligned(&own, dims)? })
    }

    /// Axes of these dims and strides as one.
    pub(super) fn run(&mut self, dims: &[Dim], own: &[Dim]) -> Result<Run, Unsupported> {
        // Along an axis of one element no stride is one.
        let many = |a: &usize| dims[*a].as_const() != Some(1);
        let (dims, own): (Vec<Dim>, Vec<Dim>) =
            (0..dims.len()).filter(many).map(|a| (dims[a].clone(), own[a].clone())).unzip();
        let kind = if own.iter().all(|s| s.as_const() == Some(0)) {
            Kind::Still
        } else if own == strides(&dims) {
            Kind::Neighbours
        } else {
            Kind::Apart
        };
        Ok(Run { kind, extents: self.dims(&dims)?, strides: self.dims(&own)? })
    }

    /// Holds every run to indices that are as many as the elements of what they name, or fewer, along all axes but one.
    pub(super) fn fits(&mut self, picks: &[Dim], of: &[Dim], axis: usize) -> Result<(), Unsupported> {
        let all = self.ctx.extent(&volume(picks))?;
        let some = self.ctx.size_op(SizeOp::Min, all, Extent::Const(1))?;
        for a in (0..picks.len()).filter(|&a| a != axis && picks[a] != of[a]) {
            // Of no indices there are not too many.
            let (count, limit) = (self.ctx.extent(&picks[a])?, self.ctx.extent(&of[a])?);
            let count = self.ctx.size_op(SizeOp::Mul, count, some)?;
            self.ctx.size_op(SizeOp::Sub, limit, count)?;
        }
        Ok(())
    }
}

/// An index from data along an axis of so many elements, as i64: negative ones count from the end, and where it is out of range the kernel
/// fails.
pub(super) fn data_index(k: &mut KernelBuilder, which: Param, at: V, extent: V) -> V {
    let raw = k.load(which, at);
    let i = k.convert(Elem::I64, raw);
    let low = k.affine(&[(extent, -1)], 0);
    k.check(i, low, extent);
    let zero = k.int(0);
    let negative = k.compare(Cmp::Lt, i, zero);
    let wrapped = k.add(i, extent);
    k.select(negative, wrapped, i)
}

/// The element that a row of a table of index tuples names: its indices are `at`, `at + step` and so on.
pub(super) fn tuple(
    k: &mut KernelBuilder,
    which: Param,
    (at, step): (V, V),
    from: V,
    axes: &[(V, V)],
) -> V {
    let (mut at, mut to) = (at, from);
    for &(extent, stride) in axes {
        let index = data_index(k, which, at, extent);
        let further = k.mul(index, stride);
        to = k.add(to, further);
        at = k.add(at, step);
    }
    to
}

/// `gather`: slices along an axis. A task is some indices of one row of what stands before the axis.
pub fn slices(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, at, result) = (node.operand(0), node.operand(1), node.results[0]);
    let axis = node.attrs.index("axis");
    let (dims, picks) = (shape(graph, x), shape(graph, at));
    let (lead, inner) = (&dims[..axis], volume(&dims[axis + 1..]));
    let mut w = Writer::new(ctx, "gather_any");
    let elem = copy_elem(w.ctx.elem(x)?);
    let from = w.read_at(x, &dims, elem)?;
    let elem = w.ctx.elem(at)?;
    let which = w.read_at(at, &picks, elem)?;
    let to = w.copied(result, Access::Write)?;
    w.run(&dims[axis + 1..], &from.strides[axis + 1..])?.is_copied(&inner)?;
    let listed = w.run(&picks, &which.strides)?;
    let count = w.dim(&volume(&picks))?;
    // Indices are held to their range where there is nothing to copy too.
    let [rows, run, all] = [&volume(lead), &inner, &volume(&picks)].map(|d| w.ctx.extent(d));
    let (rows, run, all) = (rows?, run?, all?);
    let mut op = |op, a, b| w.ctx.size_op(op, a, b);
    let (any_row, any_run) =
        (op(SizeOp::Min, rows, Extent::Const(1))?, op(SizeOp::Min, run, Extent::Const(1))?);
    let run = op(SizeOp::Mul, run, any_row)?;
    let rows = op(SizeOp::Mul, rows, any_run)?;
    let rows = op(SizeOp::Max, Extent::Const(1), rows)?;
    let [each, tasks] = w.ctx.blocks(rows, all, PICKS)?;
    let (run, each) = (w.size(run), w.size(each));
    let extents = w.dims(lead)?;
    let steps = w.dims(&from.strides[..=axis])?;
    let extent = w.dim(&dims[axis])?;
    let k = &mut w.k;
    let (task, one, none) = (k.task(), k.int(1), k.int(0));
    let (row, block) = match lead.is_empty() {
        true => (none, task),
        false => {
            let row = k.div(task, each);
            let before = k.mul(row, each);
            (row, k.sub(task, before))
        }
    };
    // There may be no row, and the indices of one are held to their range all the same.
    let extents: Vec<V> = extents.into_iter().map(|e| k.max(e, one)).collect();
    let at = indices_of(k, row, &extents);
    let base = place(k, from.first, &at, &steps);
    let first = k.mul(row, count);
    let begin = k.affine(&[(block, PICKS)], 0);
    let end = k.affine(&[(block, PICKS)], PICKS);
    let end = k.min(end, count);
    k.for_values(begin, end, 1, |k, pick| {
        let at = listed.place(k, which.first, pick);
        let index = data_index(k, which.param, at, extent);
        let a = place(k, base, &[index], &steps[axis..]);
        let row = k.add(first, pick);
        let b = k.mul(row, run);
        copy(k, (from.param, a), (to, b), run);
    });
    w.finish_tasks(tasks, &Dim::constant(1))
}

/// `gather_elements`: one element per index. A task is a row of indices.
pub fn elements(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, at, result) = (node.operand(0), node.operand(1), node.results[0]);
    let axis = node.attrs.index("axis");
    let (dims, picks) = (shape(graph, x), shape(graph, at));
    let (inner, outer) = picks.split_last().ok_or_else(|| Unsupported::new("has no axes"))?;
    let last = outer.len();
    let mut w = Writer::new(ctx, "gather_elements_any");
    w.fits(&picks, &dims, axis)?;
    let elem = copy_elem(w.ctx.elem(x)?);
    let from = w.read_at(x, &dims, elem)?;
    let elem = w.ctx.elem(at)?;
    let which = w.read_at(at, &picks, elem)?;
    let to = w.copied(result, Access::Write)?;
    let (extents, run, extent) = (w.dims(outer)?, w.dim(inner)?, w.dim(&dims[axis])?);
    let (steps, listed) = (w.dims(&from.strides)?, w.dims(&which.strides)?);
    // One index for neighbours, which are copied.
    let is = |s: &[Dim], n: i64| s[last].as_const() == Some(n);
    let rows = axis != last && is(&which.strides, 0) && is(&from.strides, 1);
    let k = &mut w.k;
    let at = indices(k, &extents);
    // The place of a row of x, whatever the index is.
    let mut others: Vec<V> = steps[..last].to_vec();
    if axis != last {
        others[axis] = k.int(0);
    }
    let base = place(k, from.first, &at, &others);
    let listed_from = place(k, which.first, &at, &listed[..last]);
    let task = k.task();
    let b = k.mul(task, run);
    if rows {
        let index = data_index(k, which.param, listed_from, extent);
        let a = place(k, base, &[index], &steps[axis..]);
        copy(k, (from.param, a), (to, b), run);
    } else {
        let zero = k.int(0);
        k.for_values(zero, run, 1, |k, i| {
            let at = place(k, listed_from, &[i], &listed[last..]);
            let index = data_index(k, which.param, at, extent);
            let a = place(k, base, &[index], &steps[axis..]);
            let a = if axis == last { a } else { place(k, a, &[i], &steps[last..]) };
            let v = k.load(from.param, a);
            let at = k.add(b, i);
            k.store(to, at, v);
        });
    }
    w.finish(outer, inner)
}

/// `gather_nd`: slices at index tuples. A task is a tuple.
pub fn tuples(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, at, result) = (node.operand(0), node.operand(1), node.results[0]);
    let batch = node.attrs.index("batch_dims");
    let (dims, picks) = (shape(graph, x), shape(graph, at));
    let scalar = || Unsupported::new("has scalar indices");
    let (width, rows) = picks.split_last().ok_or_else(scalar)?;
    let behind = batch + width.as_const().ok_or_else(scalar)? as usize;
    let inner = volume(&dims[behind..]);
    let mut w = Writer::new(ctx, "gather_nd_any");
    let elem = copy_elem(w.ctx.elem(x)?);
    let from = w.read_at(x, &dims, elem)?;
    let elem = w.ctx.elem(at)?;
    let which = w.read_at(at, &picks, elem)?;
    let to = w.copied(result, Access::Write)?;
    w.run(&dims[behind..], &from.strides[behind..])?.is_copied(&inner)?;
    let (extents, run) = (w.dims(rows)?, w.dim(&inner)?);
    let (steps, listed) = (w.dims(&from.strides)?, w.dims(&which.strides)?);
    let sizes = w.dims(&dims[batch..behind])?;
    let axes: Vec<(V, V)> = sizes.into_iter().zip(steps[batch..behind].iter().copied()).collect();
    let k = &mut w.k;
    let at = indices(k, &extents);
    let base = place(k, from.first, &at[..batch], &steps[..batch]);
    let (listed, step) = (place(k, which.first, &at, &listed[..rows.len()]), listed[rows.len()]);
    let a = tuple(k, which.param, (listed, step), base, &axes);
    let task = k.task();
    let b = k.mul(task, run);
    copy(k, (from.param, a), (to, b), run);
    // Indices are held to their range where there is nothing to copy too.
    let some = if axes.is_empty() { inner } else { Dim::constant(1) };
    w.finish(rows, &some)
}
