//! Rows joined of parts of other values: the windows of a convolution, tap by tap.

use super::places::{self, lanes_of};
use super::{GRAIN, Writer, indices, parts, place, span, strides, volume};
use crate::error::Unsupported;
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId, ValueId};
use egret_loop::{Access, Extent, KernelBuilder, Param, SizeOp, V};

/// `concat`: one kernel where operands stand in other values, and else one for each.
pub fn concat(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let stands = |v: &ValueId| ctx.units.as_ref().is_some_and(|u| u.views.contains_key(v));
    match graph.node(n).operands.iter().flatten().any(stands) {
        true => rows(ctx, graph, n),
        false => places::concat(ctx, graph, n),
    }
}

/// What stands in each row of the result.
struct Part {
    param: Param,
    /// The element of the first row.
    first: V,
    /// Elements from one row to the next along each axis but the last.
    steps: Vec<V>,
    /// Elements of a row.
    run: i64,
}

/// `concat` along the last axis, of a constant number of elements of each operand, which are neighbours. A task is rows one behind the other along an axis.
fn rows(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let result = node.results[0];
    let out = graph.tensor_ty(result).shape.to_vec();
    let [outer @ .., height, row] = &out[..] else { return Err(Unsupported::bug("joins no rows")) };
    let row = row.as_const().ok_or_else(|| Unsupported::bug("joins rows whose length is free"))?;
    let of_rows = Extent::Const((GRAIN / row.max(1)).max(1));
    let down = ctx.extent(height)?;
    let bands = parts(ctx, down, of_rows)?;
    let before = ctx.extent(&volume(outer))?;
    let tasks = ctx.size_op(SizeOp::Mul, before, bands)?;
    let tasks = ctx.rows_of_some(tasks, down)?;
    let mut w = Writer::new(ctx, "join_any");
    let mut seen: Vec<(ValueId, Param)> = vec![];
    let mut all = vec![];
    for &v in node.operands.iter().flatten() {
        all.push(part(&mut w, v, &out, &mut seen)?);
    }
    let to = w.copied(result, Access::Write)?;
    let extents = [w.dims(outer)?, vec![w.size(bands)]].concat();
    let steps = w.dims(&strides(&out)[..outer.len()])?;
    let (height, of_rows) = (w.dim(height)?, w.size(of_rows));
    let k = &mut w.k;
    let at = indices(k, &extents);
    let (at, band) = at.split_at(outer.len());
    let [begin, end] = span(k, band[0], extents[outer.len()], of_rows, height);
    let zero = k.int(0);
    let first = place(k, zero, at, &steps);
    let firsts: Vec<V> = all.iter().map(|p| place(k, p.first, at, &p.steps[..at.len()])).collect();
    k.for_values(begin, end, 1, |k, line| {
        let mut behind = 0;
        for (part, &from) in all.iter().zip(&firsts) {
            let from = place(k, from, &[line], &part.steps[at.len()..]);
            let to_at = k.affine(&[(first, 1), (line, row)], behind);
            copy(k, (part.param, from), (to, to_at), part.run);
            behind += part.run;
        }
    });
    w.finish_tasks(tasks, &Dim::constant(row))
}

/// Where an operand stands; what stands in a value that another one does is read by the same parameter.
fn part(
    w: &mut Writer<'_, '_>,
    v: ValueId,
    out: &[Dim],
    seen: &mut Vec<(ValueId, Param)>,
) -> Result<Part, Unsupported> {
    let elem = copy_elem(w.ctx.elem(v)?);
    let dims = w.ctx.dims_of(v);
    let Some((run, outer)) = dims.split_last().and_then(|(run, outer)| Some((run.as_const()?, outer)))
    else {
        return Err(Unsupported::bug("joins rows whose length is free"));
    };
    for (own, of) in outer.iter().zip(out) {
        w.ctx.hold_equal(own, of)?;
    }
    let view = w.ctx.units.as_ref().and_then(|u| u.views.get(&v)).cloned();
    let known = view.as_ref().and_then(|view| seen.iter().find(|(of, _)| *of == view.of));
    let (param, first, strides) = match (known, view) {
        (Some(&(_, param)), Some(view)) => (param, view.offset, view.strides),
        (_, view) => {
            let (param, first, stored) = w.laid_out_as(v, elem)?;
            seen.extend(view.map(|view| (view.of, param)));
            (param, first, stored.strides)
        }
    };
    let Some((Some(1), along)) = strides.split_last().map(|(last, along)| (last.as_const(), along)) else {
        return Err(Unsupported::bug("joins elements that do not stand side by side"));
    };
    Ok(Part { param, first: w.dim(&first)?, steps: w.dims(along)?, run })
}

/// Copies so many neighbours.
fn copy(k: &mut KernelBuilder, (from, a): (Param, V), (to, b): (Param, V), run: i64) {
    let mut done = 0;
    for lanes in lanes_of(k, k.param_elem(from)).into_iter().chain([1]) {
        let step = i64::from(lanes);
        let end = done + (run - done) / step * step;
        k.for_range(done, end, step, |k, i| {
            let (a, b) = (k.add(a, i), k.add(b, i));
            let v = if lanes == 1 { k.load(from, a) } else { k.load_lanes(from, a, lanes) };
            k.store(to, b, v);
        });
        done = end;
    }
}
