//! Scans: running sums and products along an axis.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode, round_to};
use crate::geometry::dtypes::compute_elem;
use crate::geometry::shape::split_at_axis;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_loop::{Access, BinOp, Ty};

/// Lower a `cumulative`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let (outer, n, inner) = split_at_axis(&ctx.dims(x), node.attrs.index("axis"));
    let (dtype, elem) = (ctx.dtype(x), ctx.elem(x)?);
    let len = (outer * n * inner) as usize;
    if len == 0 {
        return Ok(());
    }
    let sum = node.attrs.str("kind") == "sum";
    let (exclusive, reverse) = (node.attrs.flag("exclusive"), node.attrs.flag("reverse"));
    let compute = compute_elem(dtype)?;
    let args = [ctx.place(x)?, ctx.place(node.results[0])?];
    let mut k = ctx.kernel("cumulative", outer);
    let px = k.param(elem, len, Access::Read);
    let py = k.param(elem, len, Access::Write);
    let o = k.task();
    let mut result = Ok(());
    k.for_n(inner, |k, i| {
        let start = k.number(Ty::scalar(compute), if sum { 0.0 } else { 1.0 });
        let running = k.local(start);
        k.for_n(n, |k, j| {
            let j = if reverse { k.affine(&[(j, -1)], n - 1) } else { j };
            let at = k.affine(&[(o, n * inner), (j, inner), (i, 1)], 0);
            let mut step = || -> Result<(), Unsupported> {
                let raw = k.load(px, at);
                let v = decode(k, dtype, raw)?;
                let old = k.get(running);
                let new = k.binary(if sum { BinOp::Add } else { BinOp::Mul }, old, v);
                let new = round_to(k, dtype, new)?;
                k.set(running, new);
                let stored = encode(k, dtype, if exclusive { old } else { new })?;
                k.store(py, at, stored);
                Ok(())
            };
            if let Err(e) = step() {
                result = Err(e);
            }
        });
    });
    result?;
    ctx.call(k.finish(), &args)
}
