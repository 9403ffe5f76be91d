//! Softmax along any axis: in vectors along the last one.

use super::axis::line_of;
use super::{Writer, along, constant, float_lanes, folded, place, volume};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId};
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Local, Param, V, math};

/// Writes the kernel of a node: three passes over each line along the axis.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = graph.tensor_ty(result).shape.to_vec();
    let axis = node.attrs.index("axis");
    let inner = volume(&shape[axis + 1..]);
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    if units.stored(x) != shape {
        return Err(Unsupported::new("is of a value that is the same in every unit"));
    }
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
    let locals = |k: &mut KernelBuilder, number: f64| -> Vec<Local> {
        let each = lanes.iter().chain([&1]);
        each.map(|&lanes| {
            let init = k.number(egret_loop::Ty { elem: Elem::F32, lanes }, number);
            k.local(init)
        })
        .collect()
    };
    let of = |n: u8| lanes.iter().position(|&l| l == n).unwrap_or(lanes.len());
    let load = |k: &mut KernelBuilder, p: Param, i: V, lanes: u8| {
        let at = place(k, i);
        if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
    };
    let all = |k: &mut KernelBuilder, locals: &[Local], op: BinOp| {
        let parts: Vec<V> = locals.iter().map(|&l| k.get(l)).collect();
        folded(k, op, &parts)
    };
    let most = locals(k, f64::NEG_INFINITY);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let (v, old) = (load(k, from, i, lanes), k.get(most[of(lanes)]));
        // NaN need not be minded: it makes the sum one.
        let new = k.binary(BinOp::SelMax, old, v);
        k.set(most[of(lanes)], new);
    });
    let most = all(k, &most, BinOp::SelMax);
    let sums = locals(k, 0.0);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let v = load(k, from, i, lanes);
        let most = k.splat(most, lanes);
        let below = k.sub(v, most);
        let share = math::exp(k, below);
        let at = place(k, i);
        k.store(to, at, share);
        let old = k.get(sums[of(lanes)]);
        let new = k.add(old, share);
        k.set(sums[of(lanes)], new);
    });
    let sum = all(k, &sums, BinOp::Add);
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
