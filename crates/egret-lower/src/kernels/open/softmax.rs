//! Softmax along any axis: in vectors along the last one.

use super::axis::line_of;
use super::{Partials, Writer, along, constant, float_lanes, place, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId};
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Param, V, math};

/// Writes the kernel of a node: three passes over each line along the axis.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = whole_dims(ctx, x)?;
    let axis = node.attrs.index("axis");
    let inner = volume(&shape[axis + 1..]);
    let mut w = Writer::new(ctx, "softmax_any");
    let (from, to) = (w.value(x, Access::Read)?, w.value(result, Access::ReadWrite)?);
    let (extent, step) = (w.dim(&shape[axis])?, w.dim(&inner)?);
    let k = &mut w.k;
    let task = k.task();
    let neighbours = inner.as_const() == Some(1);
    let row = if neighbours { k.mul(task, extent) } else { line_of(k, task, extent, step) };
    let lanes = if neighbours { float_lanes(k, Elem::F32) } else { vec![] };
    let place = |k: &mut KernelBuilder, i: V| match neighbours {
        true => k.add(row, i),
        false => place(k, row, &[i], &[step]),
    };
    let load = |k: &mut KernelBuilder, p: Param, i: V, lanes: u8| {
        let at = place(k, i);
        if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
    };
    // NaN need not be minded: it makes the sum one.
    let most = Partials::new(k, Elem::F32, &lanes, BinOp::SelMax, f64::NEG_INFINITY);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let v = load(k, from, i, lanes);
        most.take(k, v);
    });
    let most = most.result(k);
    let sums = Partials::new(k, Elem::F32, &lanes, BinOp::Add, 0.0);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let v = load(k, from, i, lanes);
        let most = k.splat(most, lanes);
        let below = k.sub(v, most);
        let share = math::exp(k, below);
        let at = place(k, i);
        k.store(to, at, share);
        sums.take(k, share);
    });
    let sum = sums.result(k);
    let one = constant(k, Elem::F32, 1, 1.0f32.to_bits().into());
    let by = k.div(one, sum);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let (v, by) = (load(k, to, i, lanes), k.splat(by, lanes));
        let share = k.mul(v, by);
        let at = place(k, i);
        k.store(to, at, share);
    });
    w.finish(&[volume(&shape[..axis]), inner], &shape[axis])
}
