//! Along one axis, element by element: the place of the extreme, and running sums.

use crate::error::Unsupported;
use crate::expr::compute_elem;
use crate::expr::convert::{decode, encode, round_to};
use crate::program::context::Ctx;
use egret_ir::{Node, Op};
use egret_loop::{Access, BinOp, Cmp, Elem, KernelBuilder, Ty};

/// Lower `arg_reduce` or `cumulative`.
pub fn lower(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    if node.op == Op::ArgReduce { arg_reduce(ctx, node) } else { cumulative(ctx, node) }
}

/// (outer, axis, inner) extents around an axis.
fn around(dims: &[i64], axis: usize) -> (i64, i64, i64) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

fn arg_reduce(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (outer, n, inner) = around(&ctx.dims(x), node.attrs.index("axis"));
    let (dtype, elem) = (ctx.dtype(x), ctx.elem(x)?);
    if outer * inner == 0 {
        return Ok(());
    }
    let last = node.attrs.flag("last");
    let better = match (node.attrs.str("kind") == "max", last) {
        (true, false) => Cmp::Gt,
        (true, true) => Cmp::Ge,
        (false, false) => Cmp::Lt,
        (false, true) => Cmp::Le,
    };
    let args = [ctx.place(x)?, ctx.place(node.results[0])?];
    let mut k = KernelBuilder::new("arg_reduce", outer);
    let px = k.param(elem, (outer * n * inner) as usize, Access::Read);
    let py = k.param(Elem::I64, (outer * inner) as usize, Access::Write);
    let o = k.task();
    let mut result = Ok(());
    k.for_n(inner, |k, i| {
        let base = k.affine(&[(o, n * inner), (i, 1)], 0);
        let raw = k.load(px, base);
        let first = match decode(k, dtype, raw) {
            Ok(v) => v,
            Err(e) => {
                result = Err(e);
                return;
            }
        };
        let best = k.local(first);
        let zero = k.int(0);
        let at = k.local(zero);
        k.for_range(1, n, 1, |k, j| {
            let from = k.affine(&[(base, 1), (j, inner)], 0);
            let raw = k.load(px, from);
            let Ok(v) = decode(k, dtype, raw) else { return };
            let (b, bi) = (k.get(best), k.get(at));
            let mut take = k.compare(better, v, b);
            if k.ty(v).elem.is_float() {
                // NaN is the extreme of either kind; of several, the first or the last.
                let nan = k.compare(Cmp::Ne, v, v);
                let found = if last {
                    nan
                } else {
                    let number = k.compare(Cmp::Eq, b, b);
                    k.and(nan, number)
                };
                take = k.or(take, found);
            }
            let (b, bi) = (k.select(take, v, b), k.select(take, j, bi));
            k.set(best, b);
            k.set(at, bi);
        });
        let to = k.affine(&[(o, inner), (i, 1)], 0);
        let bi = k.get(at);
        k.store(py, to, bi);
    });
    result?;
    ctx.call(k.finish(), &args);
    Ok(())
}

fn cumulative(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (outer, n, inner) = around(&ctx.dims(x), node.attrs.index("axis"));
    let (dtype, elem) = (ctx.dtype(x), ctx.elem(x)?);
    let len = (outer * n * inner) as usize;
    if len == 0 {
        return Ok(());
    }
    let sum = node.attrs.str("kind") == "sum";
    let (exclusive, reverse) = (node.attrs.flag("exclusive"), node.attrs.flag("reverse"));
    let compute = compute_elem(dtype)?;
    let args = [ctx.place(x)?, ctx.place(node.results[0])?];
    let mut k = KernelBuilder::new("cumulative", outer);
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
    ctx.call(k.finish(), &args);
    Ok(())
}
