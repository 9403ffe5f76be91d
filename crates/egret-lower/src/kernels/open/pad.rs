//! Constants, or a value's own elements, around it: a task is a row of the result. Axes behind the last one that is padded are part of the row.

use super::places::{copy, lanes_of};
use super::{Writer, along, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Dim, DimOp, Graph, NodeId};
use egret_loop::{Access, BinOp, Cmp, KernelBuilder, Param, V};

/// Which element of an axis stands at a place outside it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Around {
    /// The nearest one.
    Edge,
    /// As if the axis were repeated.
    Wrap,
    /// As if it were repeated forwards and backwards, without its ends twice.
    Reflect,
}

impl Around {
    /// That of a mode; none of `constant`.
    fn of(mode: &str) -> Option<Around> {
        match mode {
            "edge" => Some(Around::Edge),
            "wrap" => Some(Around::Wrap),
            "reflect" => Some(Around::Reflect),
            _ => None,
        }
    }

    /// The element of an axis of `extent`, at least 1, at a place of any sign.
    fn element(self, k: &mut KernelBuilder, at: V, extent: V) -> V {
        match self {
            Around::Edge => {
                let (zero, last) = (k.int(0), k.affine(&[(extent, 1)], -1));
                let at = k.max(at, zero);
                k.min(at, last)
            }
            Around::Wrap => modulo(k, at, extent),
            Around::Reflect => {
                // 0 1 .. n-1 n-2 .. 1 is repeated; one element is by itself.
                let (period, one) = (k.affine(&[(extent, 2)], -2), k.int(1));
                let period = k.max(period, one);
                let forwards = modulo(k, at, period);
                let backwards = k.sub(period, forwards);
                k.min(forwards, backwards)
            }
        }
    }
}

/// What is left of a number, of any sign, behind the multiple of a positive one below it.
fn modulo(k: &mut KernelBuilder, a: V, n: V) -> V {
    // Few places are further away than that: a division takes longer than all else that is done for an element.
    let back = k.affine(&[(a, -1)], 0);
    let distance = k.max(a, back);
    let far = k.compare(Cmp::Ge, distance, n);
    let left = k.local(a);
    k.if_(
        far,
        |k| {
            let rest = k.binary(BinOp::Rem, a, n);
            k.set(left, rest);
        },
        |_| (),
    );
    let left = k.get(left);
    let (zero, up) = (k.int(0), k.add(left, n));
    let below = k.compare(Cmp::Lt, left, zero);
    k.select(below, up, left)
}

/// A padded value, with what stands behind the last axis that is padded as part of that axis.
struct Padded {
    /// Dims of the operand and of the result.
    from: Vec<Dim>,
    to: Vec<Dim>,
    /// What stands before each, and what of the operand is left out there: one of the two is 0.
    before: Vec<Dim>,
    left_out: Vec<Dim>,
    /// Whether something stands around an axis.
    grows: Vec<bool>,
    /// How many elements stand behind one another at an index of the last axis.
    each: Dim,
}

impl Padded {
    /// That of a node whose operand has these dims. Runs are held to the result's.
    fn of(ctx: &mut Ctx, graph: &Graph, n: NodeId, from: &[Dim]) -> Result<Padded, Unsupported> {
        let node = graph.node(n);
        let to = graph.tensor_ty(node.results[0]).shape.to_vec();
        let (low, high) = (node.attrs.dims("low").to_vec(), node.attrs.dims("high").to_vec());
        for (((low, from), high), to) in low.iter().zip(from).zip(&high).zip(&to) {
            ctx.hold_equal(&(low.clone() + from.clone() + high.clone()), to)?;
        }
        let grows = |(low, high): (&Dim, &Dim)| low.as_const() != Some(0) || high.as_const() != Some(0);
        let mut grows: Vec<bool> = low.iter().zip(&high).map(grows).collect();
        let last = grows.iter().rposition(|grows| *grows).unwrap_or(0);
        if to.is_empty() {
            return Err(Unsupported::new("has no axes"));
        }
        grows.truncate(last + 1);
        let each = volume(&from[last + 1..]);
        let whole = |dims: &[Dim]| [&dims[..last], &[dims[last].clone() * each.clone()]].concat();
        let (before, left_out) = sides(&whole(&low));
        Ok(Padded { from: whole(from), to: whole(&to), before, left_out, grows, each })
    }
}

/// What stands before each axis that is padded by so much, and what of it is left out.
fn sides(low: &[Dim]) -> (Vec<Dim>, Vec<Dim>) {
    let zero = Dim::constant(0);
    low.iter()
        .map(|low| (low.op(DimOp::Max, &zero), (zero.clone() - low.clone()).op(DimOp::Max, &zero)))
        .unzip()
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    match Around::of(graph.node(n).attrs.str("mode")) {
        Some(around) => repeated(ctx, graph, n, around),
        None => constants(ctx, graph, n),
    }
}

fn constants(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, value, result) = (node.operand(0), node.operand(1), node.results[0]);
    let from = whole_dims(ctx, x)?;
    whole_dims(ctx, value)?;
    let Padded { from, to, before, left_out, .. } = Padded::of(ctx, graph, n, &from)?;
    let (last, outer) = to.split_last().ok_or_else(|| Unsupported::bug("has no axes"))?;
    let mut w = Writer::new(ctx, "pad_any");
    let (px, pv) = (w.copied(x, Access::Read)?, w.copied(value, Access::Read)?);
    let py = w.copied(result, Access::Write)?;
    let (extents, before, left_out) = (w.dims(outer)?, w.dims(&before)?, w.dims(&left_out)?);
    let (own, steps) = (w.dims(&from)?, w.dims(&strides(&from))?);
    let all = w.dim(last)?;
    let k = &mut w.k;
    let (zero, task) = (k.int(0), k.task());
    let mut at = indices(k, &extents);
    for (i, (&before, &left_out)) in at.iter_mut().zip(before.iter().zip(&left_out)) {
        let inside = k.sub(*i, before);
        *i = k.add(inside, left_out);
    }
    // Constants before the elements of the operand in this row, and how many of these there are.
    let (skipped, mut fill) = (left_out[outer.len()], k.min(before[outer.len()], all));
    let (some, room) = (k.sub(own[outer.len()], skipped), k.sub(all, fill));
    let some = k.max(some, zero);
    let mut run = k.min(some, room);
    for (&i, &extent) in at.iter().zip(&own) {
        for (op, bound) in [(Cmp::Ge, zero), (Cmp::Lt, extent)] {
            let inside = k.compare(op, i, bound);
            (run, fill) = (k.select(inside, run, zero), k.select(inside, fill, all));
        }
    }
    let value = k.load(pv, zero);
    let first = k.mul(task, all);
    filled(k, py, first, fill, value);
    let source = place(k, skipped, &at, &steps[..at.len()]);
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

/// A task copies what of its row is inside the operand as it stands, and what is around it index by index.
fn repeated(ctx: &mut Ctx, graph: &Graph, n: NodeId, around: Around) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let dims = whole_dims(ctx, x)?;
    let Padded { from, to, grows, each, .. } = Padded::of(ctx, graph, n, &dims)?;
    let padded = &graph.tensor_ty(result).shape;
    for axis in (0..to.len()).filter(|&a| grows[a]) {
        // No element stands around none.
        let some = padded[axis].op(DimOp::Min, &Dim::constant(1));
        ctx.within_limit(&Dim::constant(0), &some, &dims[axis])?;
    }
    let (row, outer) = to.split_last().ok_or_else(|| Unsupported::bug("has no axes"))?;
    let last = outer.len();
    let mut w = Writer::new(ctx, "pad_around_any");
    let (px, py) = (w.copied(x, Access::Read)?, w.copied(result, Access::Write)?);
    let (before, left_out) = sides(&node.attrs.dims("low")[..=last]);
    let (extents, before, left_out) = (w.dims(outer)?, w.dims(&before)?, w.dims(&left_out)?);
    let (own, steps) = (w.dims(&dims[..=last])?, w.dims(&strides(&from))?);
    let (end, row_len, one) = (w.dim(&padded[last])?, w.dim(row)?, each.as_const() == Some(1));
    let each = w.dim(&each)?;
    let k = &mut w.k;
    let (zero, task) = (k.int(0), k.task());
    let mut at = indices(k, &extents);
    let inside = |k: &mut KernelBuilder, at: V, axis: usize| {
        let inside = k.sub(at, before[axis]);
        k.add(inside, left_out[axis])
    };
    for (axis, at) in at.iter_mut().enumerate().filter(|(axis, _)| grows[*axis]) {
        let inside = inside(k, *at, axis);
        *at = around.element(k, inside, own[axis]);
    }
    let source = place(k, zero, &at, &steps[..last]);
    let first = k.mul(task, row_len);
    // What is left of the operand, as far as the result goes.
    let begin = k.min(before[last], end);
    let (some, room) = (k.sub(own[last], left_out[last]), k.sub(end, begin));
    let some = k.min(some, room);
    let some = k.max(some, zero);
    let (from, to) = (place(k, source, &[left_out[last]], &[each]), place(k, first, &[begin], &[each]));
    let run = k.mul(some, each);
    copy(k, (px, from), (py, to), run);
    let behind = k.add(begin, some);
    for (from, to) in [(zero, begin), (behind, end)] {
        k.for_values(from, to, 1, |k, i| {
            let inside = inside(k, i, last);
            let element = around.element(k, inside, own[last]);
            let (from, to) = (place(k, source, &[element], &[each]), place(k, first, &[i], &[each]));
            if one {
                let v = k.load(px, from);
                k.store(py, to, v);
            } else {
                copy(k, (px, from), (py, to), each);
            }
        });
    }
    w.finish(outer, row)
}
