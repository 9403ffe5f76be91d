//! Matrix products: a task is a block of rows of the result.

use super::blocks::{Count, Matrix, Product, most_rows};
use super::{Writer, indices, place, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, ValueId};
use egret_loop::{Access, Elem, V};

/// Whether both operands are of f32.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let f32 = |i| graph.ty(node.operand(i)).as_tensor().is_some_and(|t| t.dtype == DType::F32);
    f32(0) && f32(1)
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (a, b, result) = (node.operand(0), node.operand(1), node.results[0]);
    let out = graph.tensor_ty(result).shape.to_vec();
    let (left, right) = (matrices(ctx, a)?, matrices(ctx, b)?);
    let ([left_batch @ .., rows, depth], [right_batch @ .., deep, columns]) = (&left[..], &right[..])
    else {
        return Err(Unsupported::new("is no product of matrices"));
    };
    let (batch, matrix) = out.split_at(out.len() - 2);
    if matrix != [rows.clone(), columns.clone()] {
        return Err(Unsupported::bug("gives matrices of other dims"));
    }
    ctx.hold_equal(depth, deep)?;
    let most = most_rows(ctx.options.machine.registers);
    let mut w = Writer::new(ctx, "matmul_any");
    let ((pa, a_first, of_a), (pb, b_first, of_b)) = (w.laid_out(a)?, w.laid_out(b)?);
    let written = w.ctx.units.as_ref().and_then(|u| u.written.get(&result).cloned());
    let (place_of, out_strides) = match written {
        Some(view) => (view.of, view.strides),
        None => (result, super::strides(&out)),
    };
    let to = w.value(place_of, Access::ReadWrite)?;
    let (out_batch, out_matrix) = out_strides.split_at(batch.len());
    let matrix = |w: &mut Writer, param, strides: &[Dim]| -> Result<Matrix, Unsupported> {
        let [row, column] = strides else { return Err(Unsupported::bug("has no strides")) };
        let one = column.as_const() == Some(1);
        Ok(Matrix { param, row: w.dim(row)?, column: if one { None } else { Some(w.dim(column)?) } })
    };
    let a_matrix = &of_a.strides[left_batch.len()..];
    let b_matrix = &of_b.strides[right_batch.len()..];
    let count = |w: &mut Writer, dim: &Dim| -> Result<Count, Unsupported> {
        Ok(Count { value: w.dim(dim)?, known: dim.as_const() })
    };
    let product = Product {
        a: matrix(&mut w, pa, a_matrix)?,
        b: matrix(&mut w, pb, b_matrix)?,
        out: matrix(&mut w, to, out_matrix)?,
        depth: count(&mut w, depth)?,
        columns: count(&mut w, columns)?,
    };
    if product.b.column.is_some() {
        return Err(Unsupported::bug("reads columns that are no neighbours"));
    }
    let [a_batch, b_batch] = [of_a.first(left_batch.len()), of_b.first(right_batch.len())].map(|of| {
        let strides = w.aligned(&of, batch)?;
        w.dims(&strides)
    });
    let (a_batch, b_batch) = (a_batch?, b_batch?);
    let out_batch = w.dims(out_batch)?;
    let [count, all] = [rows, &volume(batch)].map(|d| w.ctx.extent(d));
    let [blocks, tasks] = w.ctx.blocks(all?, count?, most)?;
    let blocks = w.size(blocks);
    let extents = [w.dims(batch)?, vec![blocks]].concat();
    let rows = w.dim(rows)?;
    let firsts = [w.dim(&a_first)?, w.dim(&b_first)?];
    let k = &mut w.k;
    let at = indices(k, &extents);
    let (&block, of) = at.split_last().ok_or_else(|| Unsupported::bug("has no rows"))?;
    let row = k.affine(&[(block, most)], 0);
    let height = {
        let left = k.sub(rows, row);
        let most = k.int(most);
        k.min(left, most)
    };
    let zero = k.int(0);
    let a0 = place(k, firsts[0], &[of, &[row]].concat(), &[a_batch, vec![product.a.row]].concat());
    let b0 = place(k, firsts[1], of, &b_batch);
    let out0 = place(k, zero, &[of, &[row]].concat(), &[out_batch, vec![product.out.row]].concat());
    let first: [V; 3] = [a0, b0, out0];
    let widest = k.vector(Elem::F32).lanes;
    let lanes: Vec<u8> = (2..=widest.ilog2()).rev().map(|n| 1 << n).collect();
    product.write(k, (height, most), first, &lanes, None)?;
    w.finish_tasks(tasks, columns)
}

/// The dims that an operand is stored with; its matrices stand as they are.
fn matrices(ctx: &mut Ctx, v: ValueId) -> Result<Vec<Dim>, Unsupported> {
    let Some(units) = &ctx.units else { return Err(Unsupported::bug("has no free dims")) };
    let (dims, stored) = (units.dims(v), units.stored(v));
    let axes = dims.len().saturating_sub(2);
    if dims[axes..] == stored[axes..] { Ok(stored) } else { whole_dims(ctx, v) }
}
