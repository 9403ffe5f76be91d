//! f32 matrix products.

use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use super::target::{Target, bytes, floats};
use crate::error::Unsupported;
use crate::geometry::shape::strides;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, NodeId};
use egret_loop::{Axis, Elem};

/// Lower a `matmul`; `false` if it is not one of f32.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (a, b, out) = (ctx.dims(x), ctx.dims(w), ctx.dims(result));
    let (Some(&[m, k]), Some(&n)) = (a.last_chunk::<2>(), b.last()) else { return Ok(false) };
    if ctx.dtype(result) != DType::F32 || ctx.dtype(x) != DType::F32 || k == 0 {
        return Ok(false);
    }
    let batch = out.len() - 2;
    // Strides along the result's batch axes; 0 where an operand is repeated.
    let along = |dims: &[i64]| -> Vec<i64> {
        let own = strides(dims);
        let skip = batch + 2 - dims.len();
        (0..batch).map(|i| if i < skip || dims[i - skip] == 1 { 0 } else { own[i - skip] }).collect()
    };
    let (a_batch, b_batch) = (along(&a), along(&b));
    let shared = b_batch.iter().all(|s| *s == 0);
    let mut rows: Vec<RowAxis> = (0..batch)
        .map(|i| RowAxis { extent: out[i], a: a_batch[i], b: b_batch[i], axis: i, scale: 1 })
        .collect();
    rows.push(RowAxis { extent: m, a: k, b: 0, axis: batch, scale: 1 });
    let target = Target::new(ctx, group)?;
    let width =
        Rows { axes: &rows, out: &target.out, expr: &target.expr }.panel_width(ctx.options.tiles, n);
    let packs = shared && ctx.graph.as_const(w).is_some();
    let (right, panels, b_stride) = if packs {
        let right = ctx.packed(w, &format!("panels {width}"), Elem::F32, |t| {
            bytes(&pack(&floats(t.bytes()), k, n, width))
        })?;
        (right, Panels { width, stride: k * width }, width)
    } else {
        (ctx.place(w)?, Panels { width, stride: width }, n)
    };
    let product = Product {
        name: "matmul",
        a: ctx.place(x)?,
        b: right,
        rows,
        axes: vec![Axis { extent: k, a_stride: 1, b_stride }],
        cols: n,
        panels,
        origin: vec![0; out.len()],
        out: &target.out,
        expr: &target.expr,
    };
    product::run(ctx, &product)?;
    target.finish(ctx, group)?;
    Ok(true)
}

/// `[k, n]` as panels `[n / width][k][width]`, the last one filled up with zeros.
fn pack(b: &[f32], k: i64, n: i64, width: i64) -> Vec<f32> {
    let (k, n, width) = (k as usize, n as usize, width as usize);
    let mut out = vec![0.0; n.div_ceil(width) * k * width];
    for (panel, out) in out.chunks_exact_mut(k * width).enumerate() {
        let from = panel * width;
        let count = width.min(n - from);
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            out[..count].copy_from_slice(&b[i * n + from..][..count]);
        }
    }
    out
}
