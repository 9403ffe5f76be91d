//! Elementwise operations, and elements at other places: every element of the result is computed from one element of each operand.

use super::{Stored, Writer, along, indices, place, strides, turn, volume, whole_dims};
use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId, Op, ValueId};
use egret_loop::{Access, Cmp, KernelBuilder, Param, Ty, V};
use std::cell::RefCell;

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    match node.op {
        // A walk backwards would have a negative stride.
        Op::Slice => node.attrs.ints("steps").iter().all(|&step| step > 0),
        _ => true,
    }
}

/// How an operand goes along the last axis of the result.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Row {
    /// It has one element.
    Still,
    /// It has neighbours.
    Neighbours,
    /// Either, as a run knows.
    Either,
    /// It has elements that do not stand side by side.
    Apart,
}

impl Row {
    fn of(read: &Read) -> Row {
        let Some(stride) = read.strides.last() else { return Row::Still };
        match stride.as_const() {
            Some(0) => Row::Still,
            Some(1) => Row::Neighbours,
            _ if read.either => Row::Either,
            _ => Row::Apart,
        }
    }
}

/// Where an operand is read: strides along the result's axes, and the element of its first index.
struct Read {
    strides: Vec<Dim>,
    offset: Dim,
    /// Whether the last stride is 1 in some runs and 0 in others.
    either: bool,
}

impl Read {
    /// An operand of these dims and strides of its own, aligned at the last of the result's.
    fn aligned(w: &mut Writer<'_, '_>, from: &Stored, to: &[Dim]) -> Result<Read, Unsupported> {
        let strides = w.aligned(from, to)?;
        let either = from.strides.last().is_some_and(|s| s.as_const() == Some(1))
            && strides.last().is_some_and(|s| s.as_const().is_none());
        Ok(Read { strides, offset: Dim::constant(0), either })
    }
}

/// How a node's operand is read where the result is written in order; `from` are the dims that it is stored with, `own` its strides.
fn read(
    w: &mut Writer<'_, '_>,
    graph: &Graph,
    n: NodeId,
    from: &Stored,
    to: &[Dim],
) -> Result<Read, Unsupported> {
    let node = graph.node(n);
    let (none, own) = (Dim::constant(0), &from.strides);
    Ok(match node.op {
        Op::Slice => {
            let starts = node.attrs.dims("starts").iter().zip(own);
            let steps = node.attrs.ints("steps").iter().zip(own);
            Read {
                strides: steps.map(|(&s, stride)| Dim::constant(s) * stride.clone()).collect(),
                offset: starts.fold(none, |at, (s, stride)| at + s.clone() * stride.clone()),
                either: false,
            }
        }
        _ => Read::aligned(w, from, to)?,
    })
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let result = node.results[0];
    let values: Vec<ValueId> = node.operands.iter().flatten().copied().collect();
    let shape = |v: ValueId| graph.tensor_ty(v).shape.to_vec();
    let out = shape(result);
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    let stored = units.stored(values[0]);
    let dtype = |v: ValueId| graph.tensor_ty(v).dtype;
    let operand = |&v: &ValueId| {
        let access = StridedAccess { offset: 0, strides: vec![] };
        Operand { value: v, dtype: dtype(v), access }
    };
    let mut terms: Vec<_> = values.iter().enumerate().map(|(i, &v)| (Term::Operand(i), dtype(v))).collect();
    if node.op.is_elementwise() {
        let args = (0..values.len()).collect();
        terms.push((Term::Apply(node.op, node.attrs.clone(), args), dtype(result)));
    }
    let expr = Expr { dims: vec![], operands: values.iter().map(operand).collect(), terms };
    // A move along a dim of which one element is kept would go on behind it.
    let moves = matches!(node.op, Op::Slice | Op::Transpose);
    if moves && shape(values[0]) != stored {
        whole_dims(ctx, values[0])?;
    }
    if node.op == Op::Slice {
        let steps = node.attrs.ints("steps").iter();
        for (((start, len), limit), step) in
            node.attrs.dims("starts").iter().zip(&out).zip(&shape(values[0])).zip(steps)
        {
            // From the first element to as many behind the last one as are left out between two.
            let (len, limit) =
                (Dim::constant(*step) * len.clone(), limit.clone() + Dim::constant(step - 1));
            ctx.within_limit(start, &len, &limit)?;
        }
    }
    if node.op == Op::Transpose {
        return turn::lower(ctx, graph, n);
    }
    let mut w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    let to = w.value(result, Access::Write)?;
    write(w, &expr, to, &out, &|w, from| read(w, graph, n, from, &out))
}

/// An expression that is the elements of a value.
fn elements(ctx: &Ctx, v: ValueId) -> Expr {
    let (dtype, access) = (ctx.dtype(v), StridedAccess { offset: 0, strides: vec![] });
    let operands = vec![Operand { value: v, dtype, access }];
    Expr { dims: vec![], operands, terms: vec![(Term::Operand(0), dtype)] }
}

/// The elements of a value, and those that it has once as often as the result has them.
pub(super) fn copy(ctx: &mut Ctx, graph: &Graph, x: ValueId, result: ValueId) -> Result<(), Unsupported> {
    let out = graph.tensor_ty(result).shape.to_vec();
    let expr = elements(ctx, x);
    let mut w = Writer::new(ctx, "copy_any");
    let to = w.value(result, Access::Write)?;
    write(w, &expr, to, &out, &|w, from| Read::aligned(w, from, &out))
}

/// A copy of a value, with those elements that it has once as often as its dims have them.
pub(super) fn spread(ctx: &mut Ctx, v: ValueId) -> Result<(), Unsupported> {
    let (elem, expr) = (ctx.elem(v)?, elements(ctx, v));
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    let dims = units.dims(v).to_vec();
    let copy = ctx.room_for(elem, &volume(&dims))?;
    let mut w = Writer::new(ctx, "spread_any");
    let to = w.own(elem, copy, Access::Write);
    write(w, &expr, to, &dims, &|w, from| Read::aligned(w, from, &dims))?;
    ctx.copies.insert(v, copy);
    Ok(())
}

/// How an operand is read, by how it is stored.
type Reads<'r> = dyn Fn(&mut Writer<'_, '_>, &Stored) -> Result<Read, Unsupported> + 'r;

/// The kernel of an expression, whose elements stand one after the other; `out` are its dims.
fn write(
    mut w: Writer<'_, '_>,
    expr: &Expr,
    to: Param,
    out: &[Dim],
    read: &Reads<'_>,
) -> Result<(), Unsupported> {
    let (mut params, mut reads) = (vec![], vec![]);
    for operand in &expr.operands {
        let (param, first, from) = w.laid_out(operand.value)?;
        params.push(param);
        let read = read(&mut w, &from)?;
        reads.push(Read { offset: first + read.offset.clone(), ..read });
    }
    let one = Dim::constant(1);
    let (inner, outer) = out.split_last().unwrap_or((&one, &[]));
    let row = inner;
    let inner = w.dim(row)?;
    let extents = w.dims(outer)?;
    let apart = reads.iter().any(|r| Row::of(r) == Row::Apart);
    let mut steps: Vec<(Vec<V>, V, Row)> = vec![];
    // The result goes last, as it is.
    let whole = Read { strides: strides(out), offset: Dim::constant(0), either: false };
    for read in reads.into_iter().chain([whole]) {
        let row = Row::of(&read);
        let strides = w.dims(&read.strides)?;
        let offset = w.dim(&read.offset)?;
        steps.push((strides, offset, row));
    }
    let sizes = expr.lane_sizes().filter(|_| !expr.branches());
    let lanes = sizes.and_then(|s| Some((s.lanes(w.k.vector_bytes())?, s.least_lanes())));
    let lanes = match lanes.filter(|_| !apart) {
        Some((widest, least)) if widest > least => vec![widest, least],
        Some((widest, _)) if widest > 1 => vec![widest],
        _ => vec![],
    };
    let k = &mut w.k;
    let at = indices(k, &extents);
    let bases: Vec<V> =
        steps.iter().map(|(strides, offset, _)| place(k, *offset, &at, &strides[..at.len()])).collect();
    let mut failed = Ok(());
    let mut element = |k: &mut KernelBuilder, i: V, lanes: u8, single: bool| {
        let mut read = vec![];
        for (o, &p) in params.iter().enumerate() {
            let (strides, _, row) = &steps[o];
            if *row == Row::Still {
                let v = k.load(p, bases[o]);
                read.push(k.splat(v, lanes));
                continue;
            }
            let neighbours = *row == Row::Neighbours || *row == Row::Either && !single;
            let further = if neighbours { i } else { strides.last().map_or(i, |&s| k.mul(i, s)) };
            let at = k.add(bases[o], further);
            read.push(if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) });
        }
        let like = k.const_bits(Ty { elem: k.param_elem(to), lanes }, 0);
        let value = if expr.is_copy() { Ok(read[0]) } else { expr.emit(k, like, None, &read) };
        match value {
            Ok(value) => {
                let at = k.add(bases[params.len()], i);
                k.store(to, at, value);
            }
            Err(e) => failed = Err(e),
        }
    };
    // What may be repeated along the row: in vectors where nothing is.
    let either = steps.iter().filter(|(_, _, row)| *row == Row::Either);
    let either: Vec<V> = either.filter_map(|(strides, ..)| strides.last().copied()).collect();
    let all = either.into_iter().reduce(|a, b| k.mul(a, b));
    match all.filter(|_| !lanes.is_empty()) {
        None => along(k, inner, &lanes, &mut |k, i, lanes| element(k, i, lanes, true)),
        Some(all) => {
            let one = k.int(1);
            let none_is = k.compare(Cmp::Eq, all, one);
            let element = RefCell::new(&mut element);
            let row = |k: &mut KernelBuilder, lanes: &[u8]| {
                let single = lanes.is_empty();
                along(k, inner, lanes, &mut |k, i, n| element.borrow_mut()(k, i, n, single));
            };
            k.if_(none_is, |k| row(k, &lanes), |k| row(k, &[]));
        }
    }
    failed?;
    w.finish(outer, row)
}
