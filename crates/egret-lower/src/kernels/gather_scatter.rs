//! Reading and writing at indices from data.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::geometry::shape::strides;
use crate::kernels::elementwise;
use crate::lanes;
use crate::loops::indices::{flat, nest};
use crate::loops::writer::{Writer, copy_run, data_index, data_length};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// Results above this many elements are split into tasks.
const TASK_ELEMENTS: i64 = 1 << 14;

/// `gather`: whole slices along one axis.
pub fn gather(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (dims, index_dims) = (ctx.dims(node.operand(0)), ctx.dims(node.operand(1)));
    let axis = node.attrs.index("axis");
    let outer: i64 = dims[..axis].iter().product();
    let inner: i64 = dims[axis + 1..].iter().product();
    let (extent, count): (i64, i64) = (dims[axis], index_dims.iter().product());
    // A task does as many indices as make it worth its start.
    let per_task = (TASK_ELEMENTS / inner.max(1)).clamp(1, count.max(1));
    let chunks = (count + per_task - 1) / per_task.max(1);
    let mut w = Writer::new(ctx, "gather", outer.max(1) * chunks.max(1));
    let x = w.operand(node, 0)?;
    let indices = w.operand(node, 1)?;
    let y = w.result(node, 0, Access::Write)?;
    let k = &mut w.k;
    let task = k.task();
    let per_outer = k.int(chunks.max(1));
    let (o, chunk) = (k.div(task, per_outer), k.rem(task, per_outer));
    let begin = k.affine(&[(chunk, per_task)], 0);
    let end = k.affine(&[(chunk, per_task)], per_task);
    let all = k.int(count);
    let end = k.min(end, all);
    // A result of no elements has nothing to copy, but its indices are right or wrong too.
    if count > 0 {
        k.for_values(begin, end, 1, |k, j| {
            let i = data_index(k, indices, j, extent);
            if outer > 0 {
                let from = k.affine(&[(o, extent * inner), (i, inner)], 0);
                let to = k.affine(&[(o, count * inner), (j, inner)], 0);
                copy_run(k, x, from, y, to, inner);
            }
        });
    }
    w.finish()
}

/// The axis whose indices are tasks, where there are enough elements: the longest one, but for one that tasks may not share out.
fn longest(dims: &[i64], but: Option<usize>) -> Option<usize> {
    let axes = (0..dims.len()).filter(|&axis| Some(axis) != but && dims[axis] > 1);
    let all: i64 = dims.iter().product();
    axes.max_by_key(|&axis| (dims[axis], std::cmp::Reverse(axis))).filter(|_| all >= TASK_ELEMENTS)
}

/// As [`nest`], over those indices whose place along an axis is the task's number.
fn nest_of_task(
    k: &mut KernelBuilder,
    dims: &[i64],
    split: Option<usize>,
    f: &mut dyn FnMut(&mut KernelBuilder, &[V]),
) {
    let Some(axis) = split else { return nest(k, dims, f) };
    let task = k.task();
    let others: Vec<i64> = dims[..axis].iter().chain(&dims[axis + 1..]).copied().collect();
    nest(k, &others, &mut |k, at| {
        let mut all = at.to_vec();
        all.insert(axis, task);
        f(k, &all);
    });
}

/// `gather_elements`: one element per index.
pub fn gather_elements(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (dims, index_dims) = (ctx.dims(node.operand(0)), ctx.dims(node.operand(1)));
    let axis = node.attrs.index("axis");
    let (xs, is) = (strides(&dims), strides(&index_dims));
    let split = longest(&index_dims, None);
    let mut w = Writer::new(ctx, "gather_elements", split.map_or(1, |axis| index_dims[axis]));
    let x = w.operand(node, 0)?;
    let indices = w.operand(node, 1)?;
    let y = w.result(node, 0, Access::Write)?;
    nest_of_task(&mut w.k, &index_dims, split, &mut |k, at| {
        let flat_at = flat(k, at, &is, 0);
        let i = data_index(k, indices, flat_at, dims[axis]);
        let mut source = at.to_vec();
        source[axis] = i;
        let from = flat(k, &source, &xs, 0);
        let v = k.load(x, from);
        k.store(y, flat_at, v);
    });
    w.finish()
}

/// The element that an index tuple names: `sum(indices[row * n + j] * stride[j])`.
fn tuple_offset(k: &mut KernelBuilder, indices: Param, row: V, dims: &[i64], strides: &[i64]) -> V {
    let n = dims.len() as i64;
    let mut terms = vec![];
    for (j, (&d, &s)) in dims.iter().zip(strides).enumerate() {
        let at = k.affine(&[(row, n)], j as i64);
        terms.push((data_index(k, indices, at, d), s));
    }
    k.affine(&terms, 0)
}

/// `gather_nd`.
pub fn gather_nd(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (dims, index_dims) = (ctx.dims(node.operand(0)), ctx.dims(node.operand(1)));
    let batch = node.attrs.index("batch_dims");
    let n = *index_dims.last().ok_or_else(|| Unsupported::new("has scalar indices"))? as usize;
    let batches: i64 = dims[..batch].iter().product();
    let rows: i64 = index_dims[batch..index_dims.len() - 1].iter().product();
    let run: i64 = dims[batch + n..].iter().product();
    let xs = strides(&dims);
    let batch_stride: i64 = dims[batch..].iter().product();
    // Slices of a task, which is worth its start.
    let per_task = (TASK_ELEMENTS / run.max(1)).clamp(1, rows.max(1));
    let chunks = (rows + per_task - 1) / per_task;
    let mut w = Writer::new(ctx, "gather_nd", chunks.max(1));
    let x = w.operand(node, 0)?;
    let indices = w.operand(node, 1)?;
    let y = w.result(node, 0, Access::Write)?;
    let k = &mut w.k;
    let task = k.task();
    let begin = k.affine(&[(task, per_task)], 0);
    let end = k.affine(&[(task, per_task)], per_task);
    let all = k.int(rows);
    let end = k.min(end, all);
    k.for_n(batches, |k, b| {
        k.for_values(begin, end, 1, |k, r| {
            let row = k.affine(&[(b, rows), (r, 1)], 0);
            let offset = tuple_offset(k, indices, row, &dims[batch..batch + n], &xs[batch..batch + n]);
            let from = k.affine(&[(b, batch_stride), (offset, 1)], 0);
            let to = k.affine(&[(row, run)], 0);
            copy_run(k, x, from, y, to, run);
        });
    });
    w.finish()
}

/// The operation of a `reduction` attribute; `None` to overwrite.
pub(super) fn reduction(node: &Node) -> Result<Option<BinOp>, Unsupported> {
    Ok(match node.attrs.str("reduction") {
        "none" => None,
        "add" => Some(BinOp::Add),
        "mul" => Some(BinOp::Mul),
        "max" => Some(BinOp::Max),
        "min" => Some(BinOp::Min),
        other => return Err(Unsupported::new(format!("has the reduction `{other}`"))),
    })
}

/// Put `update` at an element, or combine it with what is there; a vector at neighbours.
pub(super) fn put(
    k: &mut KernelBuilder,
    dtype: DType,
    op: Option<BinOp>,
    y: Param,
    at: V,
    update: V,
) -> Result<(), Unsupported> {
    let value = match op {
        None => update,
        Some(op) => {
            let lanes = k.ty(update).lanes;
            let old = if lanes == 1 { k.load(y, at) } else { k.load_lanes(y, at, lanes) };
            let (a, b) = (decode(k, dtype, old)?, decode(k, dtype, update)?);
            let sum = k.binary(op, a, b);
            encode(k, dtype, sum)?
        }
    };
    k.store(y, at, value);
    Ok(())
}

fn copy_base(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let v = node.operand(0);
    let (elem, len) = (ctx.elem(v)?, ctx.len(v));
    let (from, to) = (ctx.place(v)?, ctx.place(node.results[0])?);
    elementwise::copy(ctx, elem, len, from, to)
}

/// `scatter_elements`: updates in row-major order of the indices, after a copy of x.
pub fn scatter_elements(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (dims, index_dims) = (ctx.dims(node.operand(0)), ctx.dims(node.operand(1)));
    let (axis, op, dtype) = (node.attrs.index("axis"), reduction(node)?, ctx.dtype(node.operand(0)));
    copy_base(ctx, node)?;
    // Along other axes no two indices name the same element.
    let split = longest(&index_dims, Some(axis));
    let mut w = Writer::new(ctx, "scatter_elements", split.map_or(1, |axis| index_dims[axis]));
    let indices = w.operand(node, 1)?;
    let updates = w.operand(node, 2)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let (ys, is) = (strides(&dims), strides(&index_dims));
    let mut result = Ok(());
    nest_of_task(&mut w.k, &index_dims, split, &mut |k, at| {
        let flat_at = flat(k, at, &is, 0);
        let i = data_index(k, indices, flat_at, dims[axis]);
        let mut target = at.to_vec();
        target[axis] = i;
        let to = flat(k, &target, &ys, 0);
        let v = k.load(updates, flat_at);
        if let Err(e) = put(k, dtype, op, y, to, v) {
            result = Err(e);
        }
    });
    result?;
    w.finish()
}

/// `scatter_nd`: slices of updates at index tuples, in order, after a copy of x.
pub fn scatter_nd(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (dims, index_dims) = (ctx.dims(node.operand(0)), ctx.dims(node.operand(1)));
    let (op, dtype) = (reduction(node)?, ctx.dtype(node.operand(0)));
    let n = *index_dims.last().ok_or_else(|| Unsupported::new("has scalar indices"))? as usize;
    let rows: i64 = index_dims[..index_dims.len() - 1].iter().product();
    let run: i64 = dims[n..].iter().product();
    let ys = strides(&dims);
    copy_base(ctx, node)?;
    // Each task puts some columns of all slices, in order.
    let columns = if rows * run < TASK_ELEMENTS { run } else { columns(run) };
    let tasks = if run == 0 { 1 } else { run / columns };
    let mut w = Writer::new(ctx, "scatter_nd", tasks);
    let indices = w.operand(node, 1)?;
    let updates = w.operand(node, 2)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let widest = match (op, dtype) {
        (None, _) | (Some(_), DType::F32) => w.k.vector(w.k.param_elem(y)),
        _ => Ty { lanes: 1, ..w.k.vector(w.k.param_elem(y)) },
    };
    let mut result = Ok(());
    let task = w.k.task();
    w.k.for_n(rows, |k, row| {
        let to = tuple_offset(k, indices, row, &dims[..n], &ys[..n]);
        lanes::each_of(k, columns, widest, |k, i, ty| {
            let from = k.affine(&[(row, run), (task, columns), (i, 1)], 0);
            let at = k.affine(&[(to, 1), (task, columns), (i, 1)], 0);
            let v = lanes::load(k, updates, from, ty);
            if let Err(e) = put(k, dtype, op, y, at, v) {
                result = Err(e);
            }
        });
    });
    result?;
    w.finish()
}

/// How many columns of slices of so many elements a task does: a divisor that makes eight tasks and more, if there is one that fills vectors.
fn columns(run: i64) -> i64 {
    let most = (run / 8).clamp(16, 128);
    (16..=most).rev().find(|c| run % c == 0).unwrap_or(run)
}

/// `reverse_sequence`.
pub fn reverse_sequence(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let dims = ctx.dims(node.operand(0));
    let (time, batch) = (node.attrs.index("time_axis"), node.attrs.index("batch_axis"));
    let mut w = Writer::new(ctx, "reverse_sequence", 1);
    let x = w.operand(node, 0)?;
    let lengths = w.operand(node, 1)?;
    let y = w.result(node, 0, Access::Write)?;
    let s = strides(&dims);
    w.k.for_n(dims[batch], |k, i| {
        data_length(k, lengths, i, dims[time]);
    });
    nest(&mut w.k, &dims, &mut |k, at| {
        let raw = k.load(lengths, at[batch]);
        let len = k.convert(Elem::I64, raw);
        // Not beyond the axis, even if another thread writes lengths meanwhile.
        let all = k.int(dims[time]);
        let len = k.min(len, all);
        let mirrored = k.affine(&[(len, 1), (at[time], -1)], -1);
        let inside = k.compare(Cmp::Lt, at[time], len);
        let t = k.select(inside, mirrored, at[time]);
        let mut source = at.to_vec();
        source[time] = t;
        let from = flat(k, &source, &s, 0);
        let to = flat(k, at, &s, 0);
        let v = k.load(x, from);
        k.store(y, to, v);
    });
    w.finish()
}
