//! Reductions of f32 and f64 over any axes: a task is an element of the result, or a row of it where the last axis is kept.

use super::{Partials, Writer, along, float_lanes, indices, place, strides, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, BinOp, KernelBuilder, Ty, V};

/// The operation of a kind, and what it starts from.
fn operation(kind: &str) -> Result<(BinOp, f64), Unsupported> {
    Ok(match kind {
        "sum" => (BinOp::Add, 0.0),
        "prod" => (BinOp::Mul, 1.0),
        "max" => (BinOp::Max, f64::NEG_INFINITY),
        "min" => (BinOp::Min, f64::INFINITY),
        _ => return Err(Unsupported::new(format!("reduces by `{kind}`"))),
    })
}

/// Loops over all indices of some axes; the body gets the place of one.
fn nest(k: &mut KernelBuilder, axes: &[(V, V)], at: V, body: &mut dyn FnMut(&mut KernelBuilder, V)) {
    let Some((&(extent, stride), rest)) = axes.split_first() else { return body(k, at) };
    let zero = k.int(0);
    k.for_values(zero, extent, 1, |k, i| {
        let further = k.mul(i, stride);
        let at = k.add(at, further);
        nest(k, rest, at, body);
    });
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (op, start) = operation(node.attrs.str("kind"))?;
    let axes = node.attrs.indices("axes");
    let shape = whole_dims(ctx, x)?;
    let own = strides(&shape);
    let mut w = Writer::new(ctx, &format!("reduce_{}_any", node.attrs.str("kind")));
    let (from, to) = (w.value(x, Access::Read)?, w.value(result, Access::Write)?);
    let extents = w.dims(&shape)?;
    let steps = w.dims(&own)?;
    let last = shape.len().checked_sub(1).ok_or_else(|| Unsupported::new("is of a scalar"))?;
    let columns = !axes.contains(&last);
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a) && *a != last).collect();
    let outer: Vec<usize> = axes.iter().copied().filter(|a| *a != last).collect();
    let tasks: Vec<Dim> = kept.iter().map(|&a| shape[a].clone()).collect();
    let of = |list: &[usize], values: &[V]| -> Vec<V> { list.iter().map(|&a| values[a]).collect() };
    let k = &mut w.k;
    let zero = k.int(0);
    let at = indices(k, &of(&kept, &extents));
    let base = place(k, zero, &at, &of(&kept, &steps));
    let around: Vec<(V, V)> = outer.iter().map(|&a| (extents[a], steps[a])).collect();
    let elem = k.param_elem(from);
    let lanes = float_lanes(k, elem);
    let load = |k: &mut KernelBuilder, at: V, lanes: u8| {
        if lanes == 1 { k.load(from, at) } else { k.load_lanes(from, at, lanes) }
    };
    if columns {
        let task = k.task();
        let row = k.mul(task, extents[last]);
        along(k, extents[last], &lanes, &mut |k, i, lanes| {
            let init = k.number(Ty { elem, lanes }, start);
            let all = k.local(init);
            let first = k.add(base, i);
            nest(k, &around, first, &mut |k, at| {
                let (v, old) = (load(k, at, lanes), k.get(all));
                let new = k.binary(op, old, v);
                k.set(all, new);
            });
            let (value, at) = (k.get(all), k.add(row, i));
            k.store(to, at, value);
        });
    } else {
        let parts = Partials::new(k, elem, &lanes, op, start);
        nest(k, &around, base, &mut |k, first| {
            along(k, extents[last], &lanes, &mut |k, i, n| {
                let at = k.add(first, i);
                let v = load(k, at, n);
                parts.take(k, v);
            });
        });
        let value = parts.result(k);
        let task = k.task();
        k.store(to, task, value);
    }
    // Elements that nothing is reduced to are written all the same.
    let row = if columns { shape[last].clone() } else { Dim::constant(1) };
    w.finish(&tasks, &row)
}
