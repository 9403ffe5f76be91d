//! Constants around a value: a task is a row of the result. Axes behind the last one that is padded are part of the row.

use super::places::{copy, lanes_of};
use super::{Writer, along, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, Cmp, KernelBuilder, Param, V};

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let adds = |name: &str| node.attrs.dims(name).iter().all(|d| d.at_least() >= Some(0));
    node.attrs.str("mode") == "constant" && adds("low") && adds("high")
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, value, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (from, to) = (whole_dims(ctx, x)?, graph.tensor_ty(result).shape.to_vec());
    whole_dims(ctx, value)?;
    let low = node.attrs.dims("low").to_vec();
    let high = node.attrs.dims("high").to_vec();
    for (((low, from), high), to) in low.iter().zip(&from).zip(&high).zip(&to) {
        ctx.hold_equal(&(low.clone() + from.clone() + high.clone()), to)?;
    }
    let padded = |(low, high): (&Dim, &Dim)| low.as_const() != Some(0) || high.as_const() != Some(0);
    let last = low.iter().zip(&high).rposition(padded).unwrap_or(0);
    if to.is_empty() {
        return Err(Unsupported::new("has no axes"));
    }
    // How many elements stand behind one another at an index of the last axis that is padded.
    let each = volume(&from[last + 1..]);
    let whole = |dims: &[Dim]| [&dims[..last], &[dims[last].clone() * each.clone()]].concat();
    let (from, to, low) = (whole(&from), whole(&to), whole(&low));
    let (outer, last) = (&to[..last], &to[last]);
    let (outer_low, last_low) = (&low[..outer.len()], &low[outer.len()]);
    let mut w = Writer::new(ctx, "pad_any");
    let (px, pv) = (w.copied(x, Access::Read)?, w.copied(value, Access::Read)?);
    let py = w.copied(result, Access::Write)?;
    let (extents, lows) = (w.dims(outer)?, w.dims(outer_low)?);
    let (own, steps) = (w.dims(&from)?, w.dims(&strides(&from))?);
    let (all, before) = (w.dim(last)?, w.dim(last_low)?);
    let k = &mut w.k;
    let (zero, task) = (k.int(0), k.task());
    let at = indices(k, &extents);
    let at: Vec<V> = at.iter().zip(&lows).map(|(&i, &low)| k.sub(i, low)).collect();
    // Elements of the operand in this row, and constants before them.
    let (mut run, mut fill) = (own[outer.len()], before);
    for (&i, &extent) in at.iter().zip(&own) {
        for (op, bound) in [(Cmp::Ge, zero), (Cmp::Lt, extent)] {
            let inside = k.compare(op, i, bound);
            (run, fill) = (k.select(inside, run, zero), k.select(inside, fill, all));
        }
    }
    let value = k.load(pv, zero);
    let first = k.mul(task, all);
    filled(k, py, first, fill, value);
    let source = place(k, zero, &at, &steps[..at.len()]);
    let begin = k.add(first, fill);
    copy(k, (px, source), (py, begin), run);
    let done = k.add(fill, run);
    let (rest, begin) = (k.sub(all, done), k.add(begin, run));
    filled(k, py, begin, rest, value);
    w.finish(outer, last)
}

/// Writes a value so many times.
fn filled(k: &mut KernelBuilder, to: Param, from: V, count: V, value: V) {
    let lanes = lanes_of(k, k.param_elem(to));
    along(k, count, &lanes, &mut |k, i, lanes| {
        let (at, v) = (k.add(from, i), k.splat(value, lanes));
        k.store(to, at, v);
    });
}
