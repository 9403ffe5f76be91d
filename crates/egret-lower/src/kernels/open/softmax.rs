//! Softmax along the last axis.

use super::{Writer, along, constant, float_lanes, folded};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Local, Param, V, math};

/// Writes the kernel of a node: three passes over each row.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = graph.tensor_ty(result).shape.to_vec();
    let (last, rows) = shape.split_last().ok_or_else(|| Unsupported::new("has no axes"))?;
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    if units.stored(x) != shape {
        return Err(Unsupported::new("is of a value that is the same in every unit"));
    }
    let mut w = Writer::new(ctx, "softmax_any");
    let (from, to) = (w.value(x, Access::Read)?, w.value(result, Access::ReadWrite)?);
    let extent = w.dim(last)?;
    let k = &mut w.k;
    let task = k.task();
    let row = k.mul(task, extent);
    let lanes = float_lanes(k);
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
        let at = k.add(row, i);
        if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
    };
    let all = |k: &mut KernelBuilder, locals: &[Local], op: BinOp| {
        let parts: Vec<V> = locals.iter().map(|&l| k.get(l)).collect();
        folded(k, op, &parts)
    };
    let most = locals(k, f64::NEG_INFINITY);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let (v, old) = (load(k, from, i, lanes), k.get(most[of(lanes)]));
        let new = k.max(old, v);
        k.set(most[of(lanes)], new);
    });
    let most = all(k, &most, BinOp::Max);
    let sums = locals(k, 0.0);
    along(k, extent, &lanes, &mut |k, i, lanes| {
        let v = load(k, from, i, lanes);
        let most = k.splat(most, lanes);
        let below = k.sub(v, most);
        let share = math::exp(k, below);
        let at = k.add(row, i);
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
        let at = k.add(row, i);
        k.store(to, at, share);
    });
    let rows: Vec<Dim> = rows.to_vec();
    w.finish(&rows, last)
}
