//! Matrix products of floats, and of u8 by constant i8.

use super::blockwise;
use super::free_rows::FreeRows;
use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use super::sparse;
use super::target::{Target, copy, products};
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::shape::strides;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{Arg, Axis, Products};

/// Lower a `matmul`; `false` if tiles cannot do it.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    if let Some(weights) = &group.weights {
        return blockwise::lower(ctx, group, anchor, weights).map(|()| true);
    }
    if sparse::matmul(ctx, group, anchor)? {
        return Ok(true);
    }
    let node = ctx.graph.node(anchor);
    let (x, w, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (a, b, out) = (ctx.dims(x), ctx.dims(w), ctx.dims(result));
    let (Some(&[m, k]), Some(&n)) = (a.last_chunk::<2>(), b.last()) else { return Ok(false) };
    let Some(products) = products(ctx.dtype(x), ctx.dtype(w)).filter(|_| k != 0) else { return Ok(false) };
    let batch = out.len() - 2;
    // Strides along the result's batch axes; 0 where an operand is repeated.
    let along = |dims: &[i64]| -> Vec<i64> {
        let own = strides(dims);
        let skip = batch + 2 - dims.len();
        (0..batch).map(|i| if i < skip || dims[i - skip] == 1 { 0 } else { own[i - skip] }).collect()
    };
    // Rows of bytes are read in steps.
    let depth = products.depth();
    let whole = (k + depth - 1) / depth * depth;
    let left = [&a[..a.len() - 1], &[whole]].concat();
    let (a_batch, b_batch) = (along(&left), along(&b));
    let shared = b_batch.iter().all(|s| *s == 0);
    let packs = shared && ctx.graph.as_const(w).is_some();
    if products == Products::Bytes && !packs {
        return Ok(false);
    }
    let mut rows: Vec<RowAxis> = (0..batch)
        .map(|i| RowAxis { extent: out[i], a: a_batch[i], b: b_batch[i], axis: i, scale: 1 })
        .collect();
    rows.push(RowAxis { extent: m, a: whole, b: 0, axis: batch, scale: 1 });
    let target = Target::new(ctx, group, products)?;
    let free = FreeRows::of(ctx, group)?;
    let of_unit = Rows { axes: &rows, out: &target.out, expr: &target.expr, products };
    let chosen = match &free {
        Some(free) => free.panel_width(&of_unit, &ctx.options.machine, n),
        None => of_unit.panel_width(&ctx.options.machine, n),
    };
    // Kernels for several numbers of units read the same panels.
    let width = match ctx.units.is_some() && packs {
        true => *ctx.panels.entry(w).or_insert(chosen),
        false => chosen,
    };
    let (right, panels, b_stride) = if packs {
        let elem = products.operands().1;
        let len = ((n + width - 1) / width * whole * width) as usize * elem.size();
        let key = format!("panels {width}");
        let right = ctx.packed_later(w, &key, elem, len, move |t, to| match products {
            Products::Floats => {
                let (from, to) = (t.bytes().as_chunks::<4>().0, to.as_chunks_mut::<4>().0);
                pack(from, (k, k), n, width, 1, to);
            }
            Products::Bytes | Products::Quads => pack(t.bytes(), (k, whole), n, width, depth, to),
        })?;
        (right, Panels { width, stride: whole * width }, depth * width)
    } else {
        (ctx.place(w)?, Panels { width, stride: width }, n)
    };
    let left = if whole == k { ctx.place(x)? } else { widened(ctx, x, &a, &left)? };
    let product = Product {
        name: "matmul",
        products,
        a: left,
        b: right,
        rows,
        axes: vec![Axis { extent: whole / depth, a_stride: depth, b_stride }],
        cols: n,
        panels,
        origin: vec![0; out.len()],
        out: &target.out,
        expr: &target.expr,
    };
    product::run_rows(ctx, &product, free.as_ref())?;
    target.finish(ctx, group)?;
    Ok(true)
}

/// A copy of x in a buffer of longer rows; what is behind its own elements does not matter.
fn widened(ctx: &mut Ctx, x: ValueId, dims: &[i64], outer: &[i64]) -> Result<Arg, Unsupported> {
    let to = ctx.scratch(ctx.elem(x)?, outer)?;
    let access = StridedAccess { offset: 0, strides: strides(outer) };
    let from = ctx.place(x)?;
    let out = Destination { at: to, access, halo: None };
    copy(ctx, dims.to_vec(), x, from, StridedAccess::dense(dims), &out)?;
    Ok(to)
}

/// `[k, n]` as panels `[n / width][whole / depth][width][depth]` of `whole` rows; what is not in `b` stays zeros.
fn pack<T: Copy>(b: &[T], (k, whole): (i64, i64), n: i64, width: i64, depth: i64, out: &mut [T]) {
    let [k, whole, n, width, depth] = [k, whole, n, width, depth].map(|n| n as usize);
    for (panel, out) in out.chunks_exact_mut(whole * width).enumerate() {
        let from = panel * width;
        let count = width.min(n - from);
        for i in 0..k {
            let step = &mut out[i / depth * width * depth..][..width * depth];
            let row = &b[i * n + from..][..count];
            row.iter().enumerate().for_each(|(c, &x)| step[c * depth + i % depth] = x);
        }
    }
}
