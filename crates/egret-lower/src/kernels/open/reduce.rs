//! Reductions over any axes: a task is an element of the result, or a row of it where the last axis is kept.

use super::{Partials, Writer, along, float_lanes, indices, place, strides, whole_dims};
use crate::error::Unsupported;
use crate::kernels::reduction::operation;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId};
use egret_loop::{Access, KernelBuilder, Ty, V};

/// Whether the kernel can do a node: what its elements are stored as is what they are computed in.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let tensor = graph.ty(graph.node(n).operand(0)).as_tensor();
    tensor.is_some_and(|t| {
        matches!(
            t.dtype,
            DType::F32 | DType::F64 | DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::Bool
        )
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
    let (dtype, elem) = (ctx.dtype(x), ctx.elem(x)?);
    let (op, start) = operation(node.attrs.str("kind"), dtype, elem)?;
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
    let lanes = if dtype.is_float() { float_lanes(k, elem) } else { vec![] };
    let load = |k: &mut KernelBuilder, at: V, lanes: u8| {
        if lanes == 1 { k.load(from, at) } else { k.load_lanes(from, at, lanes) }
    };
    if columns {
        let task = k.task();
        let row = k.mul(task, extents[last]);
        along(k, extents[last], &lanes, &mut |k, i, lanes| {
            let init = k.const_bits(Ty { elem, lanes }, start);
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
        let parts = Partials::from_bits(k, elem, &lanes, op, start);
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
