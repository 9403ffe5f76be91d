//! Elementwise operations, and elements at other places: every element of the result is computed from one element of each operand.

use super::{GRAIN, Stored, Writer, along, indices, parts, place, span, strides, turn, volume, whole_dims};
use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::program::context::Ctx;
use egret_ir::{Dim, DimOp, Graph, NodeId, Op, ValueId};
use egret_loop::{Access, Cmp, Extent, KernelBuilder, Param, SizeOp, Ty, V};
use std::cell::RefCell;

/// Elements of a row, below which it needs no loop.
const FEW: i64 = 9;

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
        match stride.size.as_const() {
            Some(0) => Row::Still,
            Some(1) if !stride.backwards => Row::Neighbours,
            _ if read.either => Row::Either,
            _ => Row::Apart,
        }
    }
}

/// How far the next element along an axis is. What is subtracted tells no direction: of `W - 2` nothing says that it is not negative.
#[derive(Clone, PartialEq, Eq)]
struct Stride {
    /// Elements, a product of dims: runs in which it is negative are refused.
    size: Dim,
    backwards: bool,
}

impl Stride {
    fn forwards(size: Dim) -> Stride {
        Stride { size, backwards: false }
    }

    /// That of a step of a slice along an axis of this stride.
    fn of_step(step: i64, stride: &Dim) -> Stride {
        Stride { size: Dim::constant(step.saturating_abs()) * stride.clone(), backwards: step < 0 }
    }

    /// The way that so many elements are.
    fn times(self, count: &Dim) -> Stride {
        Stride { size: self.size * count.clone(), ..self }
    }

    /// Elements as a value, less than 0 backwards.
    fn value(&self, w: &mut Writer<'_, '_>) -> Result<V, Unsupported> {
        match self.size.as_const() {
            Some(c) => Ok(w.k.int(if self.backwards { -c } else { c })),
            None if self.backwards => {
                let (zero, size) = (w.k.int(0), w.dim(&self.size)?);
                Ok(w.k.sub(zero, size))
            }
            None => w.dim(&self.size),
        }
    }
}

/// Where an operand is read: strides along the result's axes, and the element of its first index.
struct Read {
    strides: Vec<Stride>,
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
        let strides = strides.into_iter().map(Stride::forwards).collect();
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
                strides: steps.map(|(&s, stride)| Stride::of_step(s, stride)).collect(),
                // Backwards along an axis without elements there is none to begin at.
                offset: starts.fold(none, |at, (s, stride)| {
                    at + s.op(DimOp::Max, &Dim::constant(0)) * stride.clone()
                }),
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
    hold(ctx, graph, n)?;
    if node.op == Op::Transpose {
        return turn::lower(ctx, graph, n);
    }
    let mut w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    let to = w.value(result, Access::Write)?;
    write(w, &expr, to, &out, &|w, from| read(w, graph, n, from, &out))
}

/// Holds every run to what a node needs of its dims, whether it has a kernel or not: a slice lies within its operand.
pub fn hold(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    if node.op != Op::Slice {
        return Ok(());
    }
    let shape = |v: ValueId| graph.tensor_ty(v).shape.to_vec();
    let (from, to, starts) = (shape(node.operand(0)), shape(node.results[0]), node.attrs.dims("starts"));
    for (((start, len), limit), step) in starts.iter().zip(&to).zip(&from).zip(node.attrs.ints("steps")) {
        hold_within(ctx, (start, len, *step), limit)?;
    }
    Ok(())
}

/// Holds every run to a slice of these start, size and step that lies within an axis.
fn hold_within(
    ctx: &mut Ctx,
    (start, len, step): (&Dim, &Dim, i64),
    limit: &Dim,
) -> Result<(), Unsupported> {
    let (none, one) = (Dim::constant(0), Dim::constant(1));
    if step > 0 {
        // From the first element to as many behind the last one as are left out between two.
        let (len, limit) = (Dim::constant(step) * len.clone(), limit.clone() + Dim::constant(step - 1));
        return ctx.within_limit(start, &len, &limit);
    }
    // Backwards it begins at -1 where there are none.
    let start = start.clone() + one.clone();
    let some = len.op(DimOp::Min, &one);
    ctx.within_limit(&start, &some, &(limit.clone() + one.clone()))?;
    let further = (len.clone() - one).op(DimOp::Max, &none) * Dim::constant(step.saturating_abs());
    ctx.within_limit(&none, &(further + some), &start)
}

/// An expression that is the elements of a value.
fn elements(ctx: &Ctx, v: ValueId) -> Expr {
    let (dtype, access) = (ctx.dtype(v), StridedAccess { offset: 0, strides: vec![] });
    let operands = vec![Operand { value: v, dtype, access }];
    Expr { dims: vec![], operands, terms: vec![(Term::Operand(0), dtype)] }
}

/// What a value repeats, where that is a constant: of `4*N` zeros no unit of 4 need be read.
fn source(graph: &Graph, v: ValueId) -> ValueId {
    let repeats = |n: NodeId| graph.node(n).op == Op::Broadcast;
    let from = graph.producer(v).filter(|&n| repeats(n)).map(|n| graph.node(n).operand(0));
    from.filter(|&from| graph.as_const(from).is_some()).unwrap_or(v)
}

/// The elements of a value, and those that it has once as often as the result has them.
pub(super) fn copy(ctx: &mut Ctx, graph: &Graph, x: ValueId, result: ValueId) -> Result<(), Unsupported> {
    let out = graph.tensor_ty(result).shape.to_vec();
    let expr = elements(ctx, source(graph, x));
    let mut w = Writer::new(ctx, "copy_any");
    let to = w.value(result, Access::Write)?;
    write(w, &expr, to, &out, &|w, from| Read::aligned(w, from, &out))
}

/// A copy of a value, with those elements that it has once as often as its dims have them.
pub(super) fn spread(ctx: &mut Ctx, v: ValueId) -> Result<(), Unsupported> {
    let elem = ctx.elem(v)?;
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    let expr = elements(ctx, source(&units.graph, v));
    let dims = units.dims(v).to_vec();
    let copy = ctx.room_like(elem, &dims)?;
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
    // The result goes last, as it is.
    let whole = strides(out).into_iter().map(Stride::forwards).collect();
    reads.push(Read { strides: whole, offset: Dim::constant(0), either: false });
    let mut extents = merged(out, &mut reads);
    let one = Dim::constant(1);
    let row = extents.pop().unwrap_or_else(|| one.clone());
    let column = extents.pop().unwrap_or(one);
    let outer = extents;
    // Rows one behind the other along one axis, or a part of a row, make a task.
    let (height, width) = (w.ctx.extent(&column)?, w.ctx.extent(&row)?);
    let some = w.ctx.size_op(SizeOp::Max, width, Extent::Const(1))?;
    let fit = w.ctx.size_op(SizeOp::FloorDiv, Extent::Const(GRAIN), some)?;
    let of_rows = w.ctx.size_op(SizeOp::Max, fit, Extent::Const(1))?;
    let bands = parts(w.ctx, height, of_rows)?;
    let strips = parts(w.ctx, width, Extent::Const(GRAIN))?;
    let mut tasks = w.ctx.extent(&volume(&outer))?;
    for of in [bands, strips] {
        tasks = w.ctx.size_op(SizeOp::Mul, tasks, of)?;
    }
    let tasks = w.ctx.rows_of_some(tasks, height)?;
    let known = row.as_const();
    let (height, width) = (w.dim(&column)?, w.dim(&row)?);
    let [bands, of_rows, strips] = [bands, of_rows, strips].map(|size| w.size(size));
    let extents = [w.dims(&outer)?, vec![bands, strips]].concat();
    let apart = reads.iter().any(|r| Row::of(r) == Row::Apart);
    let mut steps: Vec<(Vec<V>, V, Row)> = vec![];
    for read in reads {
        let row = Row::of(&read);
        let strides = read.strides.iter().map(|s| s.value(&mut w)).collect::<Result<_, _>>()?;
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
    // Rows of a few elements need no loop.
    let least = lanes.last().map_or(FEW, |n| i64::from(*n));
    let few = known.filter(|n| *n < least.min(FEW));
    let k = &mut w.k;
    let at = indices(k, &extents);
    let (at, part) = at.split_at(outer.len());
    let bases: Vec<V> = steps
        .iter()
        .map(|(strides, offset, _)| place(k, *offset, at, &strides[..at.len().min(strides.len())]))
        .collect();
    let rows = span(k, part[0], bands, of_rows, height);
    let of_columns = k.int(GRAIN);
    let [begin, end] = span(k, part[1], strips, of_columns, width);
    let count = k.sub(end, begin);
    // What may be repeated along the row: in vectors where nothing is.
    let either = steps.iter().filter(|(_, _, row)| *row == Row::Either);
    let either: Vec<V> = either.filter_map(|(strides, ..)| strides.last().copied()).collect();
    let single = either.into_iter().reduce(|a, b| k.mul(a, b));
    let failed = RefCell::new(Ok(()));
    k.for_values(rows[0], rows[1], 1, |k, line| {
        let down = |strides: &[V]| strides.len().checked_sub(2).map(|axis| strides[axis]);
        let bases: Vec<V> = bases
            .iter()
            .zip(&steps)
            .map(|(&base, (strides, ..))| down(strides).map_or(base, |s| place(k, base, &[line], &[s])))
            .collect();
        let element = |k: &mut KernelBuilder, i: V, lanes: u8, single: bool| {
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
                Err(e) => *failed.borrow_mut() = Err(e),
            }
        };
        let run = |k: &mut KernelBuilder, lanes: &[u8], single: bool| {
            along(k, count, lanes, &mut |k, i, n| {
                let i = k.add(begin, i);
                element(k, i, n, single);
            });
        };
        match (few, single.filter(|_| !lanes.is_empty())) {
            (Some(few), _) => (0..few).for_each(|i| {
                let i = k.int(i);
                element(k, i, 1, true);
            }),
            (None, None) => run(k, &lanes, true),
            (None, Some(all)) => {
                let one = k.int(1);
                let none_is = k.compare(Cmp::Eq, all, one);
                k.if_(none_is, |k| run(k, &lanes, false), |k| run(k, &[], true));
            }
        }
    });
    failed.into_inner()?;
    w.finish_tasks(tasks, &row)
}

/// Axes of which each two that are one everywhere are one, without those of one element; the strides become theirs.
fn merged(out: &[Dim], reads: &mut [Read]) -> Vec<Dim> {
    // What may be repeated along the last axis is told by its stride.
    let alone = reads.iter().any(|r| r.either).then(|| out.len() - 1);
    let mut extents: Vec<Dim> = vec![];
    let mut strides: Vec<Vec<Stride>> = vec![vec![]; reads.len()];
    for (axis, extent) in out.iter().enumerate() {
        let kept = alone == Some(axis);
        if extent.as_const() == Some(1) && !kept {
            continue;
        }
        let next = |read: usize| reads[read].strides[axis].clone();
        let one = |(read, strides): (usize, &Vec<Stride>)| {
            strides.last().is_some_and(|s| *s == next(read).times(extent))
        };
        if !kept
            && strides.iter().enumerate().all(one)
            && let Some(last) = extents.last_mut()
        {
            *last = last.clone() * extent.clone();
            for (read, strides) in strides.iter_mut().enumerate() {
                strides.pop();
                strides.push(next(read));
            }
        } else {
            extents.push(extent.clone());
            strides.iter_mut().enumerate().for_each(|(read, strides)| strides.push(next(read)));
        }
    }
    for (read, strides) in reads.iter_mut().zip(strides) {
        read.strides = strides;
    }
    extents
}
