//! Elements at other places: joined, counted; and dims as values.

use super::{Writer, along, indices, volume, whole_dims};
use crate::error::Unsupported;
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, BASE_VECTOR_BYTES, Elem, Extent, KernelBuilder, Param, ParamInfo, V};

/// `concat`: a kernel for each operand.
pub fn concat(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (result, axis) = (node.results[0], node.attrs.index("axis"));
    let out = graph.tensor_ty(result).shape.to_vec();
    let mut start = Dim::constant(0);
    for &x in node.operands.iter().flatten() {
        let shape = whole_dims(ctx, x)?;
        for axis in (0..out.len()).filter(|&a| a != axis) {
            ctx.hold_equal(&shape[axis], &out[axis])?;
        }
        let mut w = Writer::new(ctx, "concat_any");
        let (from, to) = (w.copied(x, Access::Read)?, w.copied(result, Access::Write)?);
        let run = w.dim(&volume(&shape[axis..]))?;
        let step = w.dim(&volume(&out[axis..]))?;
        let first = w.dim(&(start.clone() * volume(&out[axis + 1..])))?;
        let k = &mut w.k;
        let task = k.task();
        let (a, b) = (k.mul(task, run), k.mul(task, step));
        let b = k.add(b, first);
        copy(k, (from, a), (to, b), run);
        w.finish(&shape[..axis], &volume(&shape[axis..]))?;
        start = start + shape[axis].clone();
    }
    Ok(())
}

/// `iota`: the index along an axis.
pub fn iota(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (result, axis) = (node.results[0], node.attrs.index("axis"));
    let out = graph.tensor_ty(result).shape.to_vec();
    let (inner, outer) = out.split_last().ok_or_else(|| Unsupported::new("has no axes"))?;
    let mut w = Writer::new(ctx, "iota_any");
    let to = w.value(result, Access::Write)?;
    let extents = w.dims(outer)?;
    let line = inner;
    let inner = w.dim(line)?;
    let k = &mut w.k;
    let task = k.task();
    let at = indices(k, &extents);
    let row = k.mul(task, inner);
    let elem = k.param_elem(to);
    along(k, inner, &[], &mut |k, i, _| {
        let index = *at.get(axis).unwrap_or(&i);
        let value = k.convert(elem, index);
        let at = k.add(row, i);
        k.store(to, at, value);
    });
    w.finish(outer, line)
}

/// Elements of a task of a `reshape`.
const RESHAPED: i64 = 4096;

/// `reshape` to dims that only a run knows to be of as many elements.
pub fn reshape(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let count = volume(&whole_dims(ctx, x)?);
    let to = graph.tensor_ty(result).shape.to_vec();
    ctx.hold_equal(&count, &volume(&to))?;
    let mut w = Writer::new(ctx, "reshape_any");
    let (from, to) = (w.copied(x, Access::Read)?, w.copied(result, Access::Write)?);
    let elements = w.ctx.extent(&count)?;
    let [_, tasks] = w.ctx.blocks(Extent::Const(1), elements, RESHAPED)?;
    let count = w.dim(&count)?;
    let k = &mut w.k;
    let task = k.task();
    let begin = k.affine(&[(task, RESHAPED)], 0);
    let left = k.sub(count, begin);
    let most = k.int(RESHAPED);
    let run = k.min(left, most);
    copy(k, (from, begin), (to, begin), run);
    w.finish_tasks(tasks, &Dim::constant(1))
}

/// `shape`: the dims of its operand.
pub fn shape(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let shape = graph.tensor_ty(node.operand(0)).shape.to_vec();
    let mut w = Writer::new(ctx, "shape_any");
    let to = w.value(node.results[0], Access::Write)?;
    for (i, v) in w.dims(&shape)?.into_iter().enumerate() {
        let at = w.k.int(i as i64);
        w.k.store(to, at, v);
    }
    w.finish(&[], &Dim::constant(1))
}

impl Writer<'_, '_> {
    /// All elements of a value, to be moved as they are.
    pub(super) fn copied(&mut self, v: egret_ir::ValueId, access: Access) -> Result<Param, Unsupported> {
        let (elem, arg) = (copy_elem(self.ctx.elem(v)?), self.ctx.whole(v)?);
        self.args.push(arg);
        Ok(self.k.param(elem, ParamInfo::OPEN, access))
    }
}

/// Copies so many neighbours.
pub(super) fn copy(k: &mut KernelBuilder, (from, a): (Param, V), (to, b): (Param, V), run: V) {
    let lanes = lanes_of(k, k.param_elem(from));
    along(k, run, &lanes, &mut |k, i, lanes| {
        let (from_at, to_at) = (k.add(a, i), k.add(b, i));
        let v = if lanes == 1 { k.load(from, from_at) } else { k.load_lanes(from, from_at, lanes) };
        k.store(to, to_at, v);
    });
}

/// Lanes of the vectors that elements are moved in.
pub(super) fn lanes_of(k: &KernelBuilder, elem: Elem) -> Vec<u8> {
    let (widest, base) = (k.vector(elem).lanes, (BASE_VECTOR_BYTES / elem.size()) as u8);
    // Elements of fewer than 4 bytes fill base vectors only.
    if elem.size() >= 4 && widest > base { vec![widest, base] } else { vec![base] }
}
