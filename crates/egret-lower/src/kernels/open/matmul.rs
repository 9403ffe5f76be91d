//! Matrix products: a task is a row of the result, whose columns are summed in vectors.

use super::{Writer, aligned, along, constant, float_lanes, indices, place, strides};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{Graph, NodeId};
use egret_loop::{Access, Elem};

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (a, b, result) = (node.operand(0), node.operand(1), node.results[0]);
    let out = graph.tensor_ty(result).shape.to_vec();
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    let (left, right) = (units.stored(a), units.stored(b));
    let ([left_batch @ .., rows, depth], [right_batch @ .., deep, columns]) = (&left[..], &right[..])
    else {
        return Err(Unsupported::new("is no product of matrices"));
    };
    let (batch, matrix) = out.split_at(out.len() - 2);
    if matrix != [rows.clone(), columns.clone()] || depth != deep {
        return Err(Unsupported::new("is a product of what is the same in every unit"));
    }
    // Strides of matrices along the batch.
    let steps = |own: &[egret_ir::Dim], size: egret_ir::Dim| -> Result<Vec<egret_ir::Dim>, Unsupported> {
        Ok(aligned(own, &strides(own), batch)?.into_iter().map(|s| s * size.clone()).collect())
    };
    let a_batch = steps(left_batch, rows.clone() * depth.clone())?;
    let b_batch = steps(right_batch, depth.clone() * columns.clone())?;
    let mut w = Writer::new(ctx, "matmul_any");
    let (pa, pb) = (w.value(a, Access::Read)?, w.value(b, Access::Read)?);
    let to = w.value(result, Access::Write)?;
    let line = columns;
    let (depth, columns) = (w.dim(depth)?, w.dim(line)?);
    let tasks = &out[..out.len() - 1];
    let extents = w.dims(tasks)?;
    let (a_batch, b_batch) = (w.dims(&a_batch)?, w.dims(&b_batch)?);
    let k = &mut w.k;
    let zero = k.int(0);
    let at = indices(k, &extents);
    let (row, of) = at.split_last().ok_or_else(|| Unsupported::bug("has no rows"))?;
    let (a0, b0) = (place(k, zero, of, &a_batch), place(k, zero, of, &b_batch));
    let a0 = place(k, a0, &[*row], &[depth]);
    let task = k.task();
    let out0 = k.mul(task, columns);
    // Four vectors at a time, so that sums do not wait for one another.
    let lanes = float_lanes(k);
    let wide = lanes[0];
    let four = k.int(4 * i64::from(wide));
    let rest = k.rem(columns, four);
    let whole = k.sub(columns, rest);
    let sums = |k: &mut egret_loop::KernelBuilder, j: egret_loop::V, lanes: u8, vectors: i64| {
        let init = constant(k, Elem::F32, lanes, 0);
        let sums: Vec<_> = (0..vectors).map(|_| k.local(init)).collect();
        let first = k.add(b0, j);
        k.for_values(zero, depth, 1, |k, i| {
            let from = k.add(a0, i);
            let x = k.load(pa, from);
            let x = k.splat(x, lanes);
            let line = k.mul(i, columns);
            let at = k.add(first, line);
            for (v, &sum) in sums.iter().enumerate() {
                let at = k.affine(&[(at, 1)], v as i64 * i64::from(lanes));
                let y = if lanes == 1 { k.load(pb, at) } else { k.load_lanes(pb, at, lanes) };
                let old = k.get(sum);
                let new = k.fma(x, y, old);
                k.set(sum, new);
            }
        });
        let first = k.add(out0, j);
        for (v, &sum) in sums.iter().enumerate() {
            let at = k.affine(&[(first, 1)], v as i64 * i64::from(lanes));
            let value = k.get(sum);
            k.store(to, at, value);
        }
    };
    k.for_values(zero, whole, 4 * i64::from(wide), |k, j| sums(k, j, wide, 4));
    along(k, rest, &lanes, &mut |k, j, lanes| {
        let j = k.add(whole, j);
        sums(k, j, lanes, 1);
    });
    w.finish(tasks, line)
}
