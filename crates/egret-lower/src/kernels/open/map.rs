//! Elementwise operations, and elements at other places: every element of the result is computed from one element of each operand.

use super::{Writer, aligned, along, indices, place, strides};
use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId, Op, ValueId};
use egret_loop::{Access, Ty, V};

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    match node.op {
        // One that leaves elements out is within constant dims.
        Op::Slice => {
            let shape = |v: ValueId| graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec());
            let (from, to) = (shape(node.operand(0)), shape(node.results[0]));
            let (starts, steps) = (node.attrs.dims("starts"), node.attrs.ints("steps"));
            (0..to.len()).all(|a| match steps[a] {
                1 => starts[a].as_product().is_some(),
                2.. => [&from[a], &to[a], &starts[a]].iter().all(|d| d.as_const().is_some()),
                _ => false,
            })
        }
        _ => true,
    }
}

/// Where an operand is read: strides along the result's axes, and the element of its first index.
struct Read {
    strides: Vec<Dim>,
    offset: Dim,
}

/// How a node's operand is read where the result is written in order; `from` are the dims that it is stored with, `own` its strides.
fn read(graph: &Graph, n: NodeId, from: &[Dim], own: &[Dim], to: &[Dim]) -> Result<Read, Unsupported> {
    let node = graph.node(n);
    let none = Dim::constant(0);
    Ok(match node.op {
        Op::Transpose => Read {
            strides: node.attrs.indices("perm").iter().map(|&p| own[p].clone()).collect(),
            offset: none,
        },
        Op::Slice => {
            let starts = node.attrs.dims("starts").iter().zip(own);
            let steps = node.attrs.ints("steps").iter().zip(own);
            Read {
                strides: steps.map(|(&s, stride)| Dim::constant(s) * stride.clone()).collect(),
                offset: starts.fold(none, |at, (s, stride)| at + s.clone() * stride.clone()),
            }
        }
        _ => Read { strides: aligned(from, own, to)?, offset: none },
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
    let stored: Vec<Vec<Dim>> = values.iter().map(|&v| units.stored(v)).collect();
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
    if matches!(node.op, Op::Slice | Op::Transpose)
        && values.iter().zip(&stored).any(|(&v, s)| *s != shape(v))
    {
        return Err(Unsupported::new("moves a value that is the same in every unit"));
    }
    if node.op == Op::Slice {
        let steps = node.attrs.ints("steps").iter();
        let axes = node.attrs.dims("starts").iter().zip(&out).zip(&stored[0]).zip(steps);
        for (((start, len), limit), _) in axes.filter(|(_, step)| **step == 1) {
            ctx.within_limit(start, len, limit)?;
        }
    }
    let w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    write(w, &expr, result, &out, &|stored, own| read(graph, n, stored, own, &out))
}

/// The elements of a value, and those that it has once as often as the result has them.
pub(super) fn copy(ctx: &mut Ctx, graph: &Graph, x: ValueId, result: ValueId) -> Result<(), Unsupported> {
    let out = graph.tensor_ty(result).shape.to_vec();
    let dtype = graph.tensor_ty(x).dtype;
    let access = StridedAccess { offset: 0, strides: vec![] };
    let operands = vec![Operand { value: x, dtype, access }];
    let expr = Expr { dims: vec![], operands, terms: vec![(Term::Operand(0), dtype)] };
    let w = Writer::new(ctx, "copy_any");
    let read = |from: &[Dim], own: &[Dim]| {
        Ok(Read { strides: aligned(from, own, &out)?, offset: Dim::constant(0) })
    };
    write(w, &expr, result, &out, &read)
}

/// How an operand is read, by the dims that it is stored with and its strides.
type Reads<'r> = dyn Fn(&[Dim], &[Dim]) -> Result<Read, Unsupported> + 'r;

/// The kernel of an expression; `out` are the dims of the result.
fn write(
    mut w: Writer<'_, '_>,
    expr: &Expr,
    result: ValueId,
    out: &[Dim],
    read: &Reads<'_>,
) -> Result<(), Unsupported> {
    let (mut params, mut reads) = (vec![], vec![]);
    for operand in &expr.operands {
        let Some(units) = &w.ctx.units else { return Err(Unsupported::bug("has no free dims")) };
        let stored = units.stored(operand.value);
        let (param, first, own) = w.laid_out(operand.value)?;
        params.push(param);
        let Read { strides, offset } = read(&stored, &own)?;
        reads.push(Read { strides, offset: first + offset });
    }
    let to = w.value(result, Access::Write)?;
    let one = Dim::constant(1);
    let (inner, outer) = out.split_last().unwrap_or((&one, &[]));
    let row = inner;
    let inner = w.dim(row)?;
    let extents = w.dims(outer)?;
    let ends = |r: &Read, stride: i64| r.strides.last().is_none_or(|s| s.as_const() == Some(stride));
    let neighbours = reads.iter().all(|r| ends(r, 0) || ends(r, 1));
    let mut steps: Vec<(Vec<V>, V, bool)> = vec![];
    // The result goes last, as it is.
    for read in reads.into_iter().chain([Read { strides: strides(out), offset: Dim::constant(0) }]) {
        let still = ends(&read, 0);
        let strides = w.dims(&read.strides)?;
        let offset = w.dim(&read.offset)?;
        steps.push((strides, offset, still));
    }
    let sizes = expr.lane_sizes().filter(|_| !expr.branches());
    let lanes = sizes.and_then(|s| Some((s.lanes(w.k.vector_bytes())?, s.least_lanes())));
    let lanes = match lanes.filter(|_| neighbours) {
        Some((widest, least)) if widest > least => vec![widest, least],
        Some((widest, _)) if widest > 1 => vec![widest],
        _ => vec![],
    };
    let k = &mut w.k;
    let at = indices(k, &extents);
    let bases: Vec<V> =
        steps.iter().map(|(strides, offset, _)| place(k, *offset, &at, &strides[..at.len()])).collect();
    let mut failed = Ok(());
    along(k, inner, &lanes, &mut |k, i, lanes| {
        let mut read = vec![];
        for (o, &p) in params.iter().enumerate() {
            let (strides, _, still) = &steps[o];
            if *still {
                let v = k.load(p, bases[o]);
                read.push(k.splat(v, lanes));
                continue;
            }
            let further = if lanes == 1 { strides.last().map_or(i, |&s| k.mul(i, s)) } else { i };
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
    });
    failed?;
    w.finish(outer, row)
}
