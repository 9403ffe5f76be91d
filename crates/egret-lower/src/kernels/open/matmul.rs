//! Matrix products: a task is a block of rows of the result. Those of f32 are blocks of sums in registers; of other types each row is
//! summed by itself.

use super::blocks::{Count, Matrix, Product, most_rows};
use super::{Writer, along, indices, place, volume, whole_dims};
use crate::error::Unsupported;
use crate::expr::{decode, encode};
use crate::geometry::dtypes::compute_elem;
use crate::plan::units::Units;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, ValueId};
use egret_loop::{Access, Elem, KernelBuilder, Param, Ty, V};

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (a, b, result) = (node.operand(0), node.operand(1), node.results[0]);
    let out = graph.tensor_ty(result).shape.to_vec();
    let in_blocks = [a, b].iter().all(|&v| graph.tensor_ty(v).dtype == DType::F32);
    let left = matrices(ctx, a)?;
    let right = if in_blocks { rows_of_neighbours(ctx, b)? } else { matrices(ctx, b)? };
    let ([left_batch @ .., rows, depth], [right_batch @ .., deep, columns]) = (&left[..], &right[..])
    else {
        return Err(Unsupported::new("is no product of matrices"));
    };
    let (batch, matrix) = out.split_at(out.len() - 2);
    if matrix != [rows.clone(), columns.clone()] {
        return Err(Unsupported::bug("gives matrices of other dims"));
    }
    ctx.hold_equal(depth, deep)?;
    if !in_blocks {
        return lower_rows(ctx, graph, n);
    }
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

/// The same of the right operand, of whose rows whole vectors are read: one that is a column of wider rows is copied.
fn rows_of_neighbours(ctx: &mut Ctx, v: ValueId) -> Result<Vec<Dim>, Unsupported> {
    let stands = |units: &Units| units.views.contains_key(&v) || ctx.copies.contains_key(&v);
    if !ctx.units.as_ref().is_some_and(stands) {
        let (_, strides) = ctx.layout(v)?;
        if strides.last().is_none_or(|s| s.as_const() != Some(1)) {
            return whole_dims(ctx, v);
        }
    }
    matrices(ctx, v)
}

/// The operands of the sums of a row, and what they are summed as.
struct Sums {
    a: (Param, DType),
    b: (Param, DType),
    elem: Elem,
    depth: V,
    /// From one product to the next, in `a` and in `b`.
    steps: [V; 2],
}

impl Sums {
    /// So many neighbouring sums: products of the elements from `a` on with those of the columns from `b` on, in order.
    fn of(&self, k: &mut KernelBuilder, [a, b]: [V; 2], lanes: u8) -> Result<V, Unsupported> {
        let nothing = k.number(Ty { elem: self.elem, lanes }, 0.0);
        let (sum, from, mut failed) = (k.local(nothing), k.int(0), Ok(()));
        k.for_values(from, self.depth, 1, |k, i| {
            let [x, y] =
                [(a, self.steps[0]), (b, self.steps[1])].map(|(from, step)| place(k, from, &[i], &[step]));
            let loaded = load(k, self.a, x, 1).and_then(|x| Ok((x, load(k, self.b, y, lanes)?)));
            match loaded {
                Ok((x, y)) => {
                    let (x, y) = (k.convert(self.elem, x), k.convert(self.elem, y));
                    let (x, old) = (k.splat(x, lanes), k.get(sum));
                    let new = if self.elem.is_float() {
                        k.fma(x, y, old)
                    } else {
                        let product = k.mul(x, y);
                        k.add(product, old)
                    };
                    k.set(sum, new);
                }
                Err(e) => failed = Err(e),
            }
        });
        failed?;
        Ok(k.get(sum))
    }
}

/// Elements as they are computed with.
fn load(k: &mut KernelBuilder, from: (Param, DType), at: V, lanes: u8) -> Result<V, Unsupported> {
    let v = if lanes == 1 { k.load(from.0, at) } else { k.load_lanes(from.0, at, lanes) };
    decode(k, from.1, v)
}

/// A product of any type: a task is a row of the result, whose sums are in lanes where the types have them.
fn lower_rows(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (a, b, result) = (node.operand(0), node.operand(1), node.results[0]);
    let [of_a, of_b, of_out] = [a, b, result].map(|v| graph.tensor_ty(v).dtype);
    let [left, right] = [a, b].map(|v| matrices(ctx, v));
    let (left, right) = (left?, right?);
    let out = graph.tensor_ty(result).shape.to_vec();
    let (batch, columns) = (&out[..out.len() - 2], &out[out.len() - 1]);
    let (rows, depth) = (&out[out.len() - 2], &left[left.len() - 1]);
    let mut w = Writer::new(ctx, "matmul_rows_any");
    let ((pa, a_first, a_stored), (pb, b_first, b_stored)) = (w.laid_out(a)?, w.laid_out(b)?);
    let written = w.ctx.units.as_ref().and_then(|u| u.written.get(&result).cloned());
    let (place_of, out_strides) = match written {
        Some(view) => (view.of, view.strides),
        None => (result, super::strides(&out)),
    };
    let py = w.value(place_of, Access::Write)?;
    let batches = [(&a_stored, left.len() - 2), (&b_stored, right.len() - 2)].map(|(of, axes)| {
        let strides = w.aligned(&of.first(axes), batch)?;
        w.dims(&strides)
    });
    let [a_batch, b_batch] = batches;
    let (a_batch, b_batch) = (a_batch?, b_batch?);
    let [a_matrix, b_matrix] = [(&a_stored, left.len() - 2), (&b_stored, right.len() - 2)]
        .map(|(of, axes)| of.strides[axes..].to_vec());
    let neighbours =
        b_matrix[1].as_const() == Some(1) && out_strides.last().and_then(Dim::as_const) == Some(1);
    let (a_matrix, b_matrix, out_strides) = (w.dims(&a_matrix)?, w.dims(&b_matrix)?, w.dims(&out_strides)?);
    let extents = [w.dims(batch)?, vec![w.dim(rows)?]].concat();
    let sums = Sums {
        a: (pa, of_a),
        b: (pb, of_b),
        elem: compute_elem(of_out)?,
        depth: w.dim(depth)?,
        steps: [a_matrix[1], b_matrix[0]],
    };
    let all = w.dim(columns)?;
    let firsts = [w.dim(&a_first)?, w.dim(&b_first)?];
    let k = &mut w.k;
    let zero = k.int(0);
    let at = indices(k, &extents);
    let (&row, of) = at.split_last().ok_or_else(|| Unsupported::bug("has no rows"))?;
    let (a0, b0) = (place(k, firsts[0], of, &a_batch), place(k, firsts[1], of, &b_batch));
    let a0 = place(k, a0, &[row], &a_matrix[..1]);
    let first = place(k, zero, &at, &out_strides[..at.len()]);
    let in_lanes = |d: DType| matches!(d, DType::F64 | DType::I32 | DType::I8 | DType::U8);
    let lanes = match neighbours && [of_a, of_b, of_out].into_iter().all(in_lanes) {
        true => vec![k.vector(sums.elem).lanes],
        false => vec![],
    };
    let mut failed = Ok(());
    along(k, all, &lanes, &mut |k, column, lanes| {
        let b0 = place(k, b0, &[column], &b_matrix[1..]);
        match sums.of(k, [a0, b0], lanes).and_then(|sum| encode(k, of_out, sum)) {
            Ok(v) => {
                let at = place(k, first, &[column], &out_strides[at.len()..]);
                k.store(py, at, v);
            }
            Err(e) => failed = Err(e),
        }
    });
    failed?;
    let rows: Vec<Dim> = [batch, std::slice::from_ref(rows)].concat();
    w.finish(&rows, columns)
}
