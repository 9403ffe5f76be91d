//! Pools of which any dim may be free, of any layout and numbers; those of f32 with channels last have a kernel of their own
//! (`window.rs`).
//!
//! A task is a row of the result: along the last spatial axis with channels first, along the channels with channels last.

use super::walk::{At, Taps, Walk, count, nest};
use super::{Writer, along, float_lanes, place, strides, volume, whole_dims, window};
use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::geometry::dtypes::{compute_elem, is_direct, least};
use crate::kernels::taps::misfit;
use crate::loops::order::comes_before;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, Node, NodeId, geometry};
use egret_loop::{Access, BinOp, Cmp, Elem, KernelBuilder, Local, Param, Ty, V};

/// Whether a kernel can do a `pool`.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let fit = graph.ty(node.operand(0)).as_tensor().is_some_and(|x| {
        let adds = !matches!(x.dtype, DType::Bool | DType::I2 | DType::I4 | DType::U2 | DType::U4);
        let kind = match node.attrs.str("kind") {
            "max" => true,
            "sum" => adds,
            _ => x.dtype.is_float(),
        };
        x.rank() >= 2 && x.dtype != DType::String && kind
    });
    window::takes(graph, n) || fit
}

/// Whether a kernel can do a `max_pool_indices`.
pub fn takes_indices(graph: &Graph, n: NodeId) -> bool {
    let x = graph.ty(graph.node(n).operand(0)).as_tensor();
    x.is_some_and(|x| x.rank() >= 3 && x.dtype != DType::String)
}

/// How windows walk along each spatial axis of dims, the first of which is this one; runs are held to windows that fit.
fn axes(
    ctx: &mut Ctx,
    node: &Node,
    (from, to): (&[Dim], &[Dim]),
    spatial: usize,
) -> Result<Vec<geometry::Axis<Dim>>, Unsupported> {
    let mut axes = geometry::axes(&node.attrs, node.attrs.ints("kernel")).ok_or_else(misfit)?;
    // Room that only lets more windows fit.
    let extra = node.attrs.ints("high_extra");
    axes.iter_mut().zip(extra).for_each(|(a, &extra)| a.high = a.high.saturating_add(extra));
    let axes: Vec<_> = axes.iter().map(geometry::Axis::symbolic).collect();
    for (i, axis) in axes.iter().enumerate() {
        ctx.hold_window(axis, &from[spatial + i], &to[spatial + i])?;
    }
    Ok(axes)
}

/// Writes the kernel of a `pool`.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    if window::takes(graph, n) {
        return window::lower(ctx, graph, n);
    }
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (from, to) = (whole_dims(ctx, x)?, graph.tensor_ty(result).shape.to_vec());
    // Without spatial axes the layouts are one.
    let last = node.attrs.str("layout") == "channels_last" || from.len() == 2;
    let spatial = if last { 1 } else { 2 };
    let axes = axes(ctx, node, (&from, &to), spatial)?;
    let dtype = graph.tensor_ty(x).dtype;
    let mut w = Writer::new(ctx, &format!("{}_pool_any", node.attrs.str("kind")));
    let (px, py) = (w.value(x, Access::Read)?, w.value(result, Access::Write)?);
    let steps = strides(&from);
    let mut walks = vec![];
    let zero = w.dim(&Dim::constant(0))?;
    for (i, axis) in axes.iter().enumerate() {
        let (kernel, size) = (w.dim(&axis.kernel)?, w.dim(&from[spatial + i])?);
        let steps = vec![[Some(w.dim(&steps[spatial + i])?), None]];
        walks.push(Walk { axis: axis.clone(), kernel, size, steps, is_transposed: false });
    }
    let (outer, row) = to.split_at(to.len() - 1);
    let (extents, inner, row) = (w.dims(outer)?, &row[0], w.dim(&row[0])?);
    let before = w.dims(&steps[..spatial])?;
    let k = &mut w.k;
    let task = k.task();
    let at = super::indices(k, &extents);
    let first = k.mul(task, row);
    let image = place(k, zero, &at[..spatial], &before);
    let pool = Pool { kind: node.attrs.str("kind"), dtype, elem: compute_elem(dtype)?, params: [px, py] };
    let vectors = is_direct(dtype) && matches!(pool.elem, Elem::F32 | Elem::F64 | Elem::I32);
    let lanes = if vectors { float_lanes(k, pool.elem) } else { vec![] };
    let mut failed = Ok(());
    let of_outer = |k: &mut KernelBuilder, walks: &[Walk]| -> Vec<Taps> {
        walks.iter().zip(&at[spatial..]).map(|(walk, &o)| walk.met(k, o)).collect()
    };
    if last {
        let taps = of_outer(k, &walks);
        along(k, row, &lanes, &mut |k, c, n| {
            let (from, to) = (k.add(image, c), k.add(first, c));
            if let Err(e) = pool.write(k, (&walks, &taps), from, to, n) {
                failed = Err(e);
            }
        });
    } else {
        let (along_row, others) = walks.split_last().ok_or_else(misfit)?;
        let outer = of_outer(k, others);
        let mut run = |k: &mut KernelBuilder, [begin, end]: [V; 2], is_inner: bool| {
            let count = k.sub(end, begin);
            let lanes = if is_inner && along_row.goes_along() { &lanes[..] } else { &[] };
            along(k, count, lanes, &mut |k, i, n| {
                let column = k.add(begin, i);
                let own = if is_inner { along_row.all(k, column, false) } else { along_row.met(k, column) };
                let (taps, to) = ([&outer[..], &[own]].concat(), k.add(first, column));
                if let Err(e) = pool.write(k, (&walks, &taps), image, to, n) {
                    failed = Err(e);
                }
            });
        };
        let [begin, end] = along_row.inner(k, row);
        run(k, [zero, begin], false);
        run(k, [begin, end], true);
        run(k, [end, row], false);
    }
    failed?;
    w.finish(outer, inner)
}

/// What is done with the elements of a window.
struct Pool<'a> {
    kind: &'a str,
    dtype: DType,
    elem: Elem,
    /// The operand and the result.
    params: [Param; 2],
}

impl Pool<'_> {
    /// Writes the results of neighbours.
    fn write(
        &self,
        k: &mut KernelBuilder,
        (walks, taps): (&[Walk], &[Taps]),
        from: V,
        to: V,
        lanes: u8,
    ) -> Result<(), Unsupported> {
        let start = if self.kind == "max" { least(self.dtype)? } else { 0.0 };
        let start = k.number(Ty { elem: self.elem, lanes }, start);
        let all = k.local(start);
        let mut failed = Ok(());
        let from = At { places: vec![from], inside: None };
        nest(k, walks, taps, from, &mut |k, at| {
            if let Err(e) = self.take(k, all, at.places[0], lanes) {
                failed = Err(e);
            }
        });
        failed?;
        let mut value = k.get(all);
        if self.kind == "mean" {
            let count = count(k, taps);
            let count = k.convert(self.elem, count);
            let count = k.splat(count, lanes);
            value = k.div(value, count);
        }
        let value = encode(k, self.dtype, value)?;
        k.store(self.params[1], to, value);
        Ok(())
    }

    fn take(&self, k: &mut KernelBuilder, all: Local, at: V, lanes: u8) -> Result<(), Unsupported> {
        let [from, _] = self.params;
        let v = if lanes == 1 { k.load(from, at) } else { k.load_lanes(from, at, lanes) };
        let (v, old) = (decode(k, self.dtype, v)?, k.get(all));
        let op = if self.kind == "max" { BinOp::Max } else { BinOp::Add };
        let new = k.binary(op, old, v);
        k.set(all, new);
        Ok(())
    }
}

/// Writes the kernel of a `max_pool_indices`: channels first. A window that lies wholly in the padding has no largest element, and the
/// run fails.
pub fn indices(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let x = node.operand(0);
    let (from, to) = (whole_dims(ctx, x)?, graph.tensor_ty(node.results[0]).shape.to_vec());
    let axes = axes(ctx, node, (&from, &to), 2)?;
    let dtype = graph.tensor_ty(x).dtype;
    let mut w = Writer::new(ctx, "max_pool_indices_any");
    let px = w.value(x, Access::Read)?;
    let [py, pi] = [w.value(node.results[0], Access::Write)?, w.value(node.results[1], Access::Write)?];
    let steps = strides(&from);
    // In column-major order the first spatial axis is counted fastest.
    let counted: Vec<Dim> = match node.attrs.flag("column_major") {
        true => (2..from.len()).map(|i| volume(&from[2..i])).collect(),
        false => steps[2..].to_vec(),
    };
    let zero = w.dim(&Dim::constant(0))?;
    let mut walks = vec![];
    for (i, axis) in axes.iter().enumerate() {
        let (kernel, size) = (w.dim(&axis.kernel)?, w.dim(&from[2 + i])?);
        let (of_x, of_count) = (w.dim(&steps[2 + i])?, w.dim(&counted[i])?);
        let steps = vec![[Some(of_x), None], [Some(of_count), None]];
        walks.push(Walk { axis: axis.clone(), kernel, size, steps, is_transposed: false });
    }
    let (outer, inner) = to.split_at(to.len() - 1);
    let (extents, row) = (w.dims(outer)?, w.dim(&inner[0])?);
    let before = w.dims(&steps[..2])?;
    let (elem, start) = (compute_elem(dtype)?, least(dtype)?);
    let k = &mut w.k;
    let (task, none) = (k.task(), k.int(-1));
    let at = super::indices(k, &extents);
    let first = k.mul(task, row);
    let plane = place(k, zero, &at[..2], &before);
    let mut failed = Ok(());
    k.for_values(zero, row, 1, |k, column| {
        let position = [&at[2..], &[column]].concat();
        let taps: Vec<Taps> = walks.iter().zip(position).map(|(walk, o)| walk.met(k, o)).collect();
        let start = k.number(Ty::scalar(elem), start);
        let (best, best_at) = (k.local(start), k.local(none));
        let from = At { places: vec![plane, plane], inside: None };
        nest(k, &walks, &taps, from, &mut |k, at| {
            let raw = k.load(px, at.places[0]);
            let v = match decode(k, dtype, raw) {
                Ok(v) => v,
                Err(e) => return failed = Err(e),
            };
            let (old, old_at) = (k.get(best), k.get(best_at));
            let larger = comes_before(k, Cmp::Gt, v, old);
            let is_first = k.compare(Cmp::Lt, old_at, zero);
            let take = k.or(larger, is_first);
            let (v, v_at) = (k.select(take, v, old), k.select(take, at.places[1], old_at));
            k.set(best, v);
            k.set(best_at, v_at);
        });
        let (value, value_at) = (k.get(best), k.get(best_at));
        k.check(value_at, 0, i64::MAX);
        let to = k.add(first, column);
        match encode(k, dtype, value) {
            Ok(value) => k.store(py, to, value),
            Err(e) => failed = Err(e),
        }
        k.store(pi, to, value_at);
    });
    failed?;
    w.finish(outer, &inner[0])
}
