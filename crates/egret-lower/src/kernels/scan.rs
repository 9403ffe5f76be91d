//! Scans: running sums and products along an axis.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode, round_to};
use crate::geometry::dtypes::compute_elem;
use crate::geometry::shape::split_at_axis;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, BinOp, KernelBuilder, Local, Param, Ty, V};

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
    let args = [ctx.place(x)?, ctx.place(node.results[0])?];
    let mut k = ctx.kernel("cumulative", outer);
    let px = k.param(elem, len, Access::Read);
    let py = k.param(elem, len, Access::Write);
    let o = k.task();
    let mut result = Ok(());
    k.for_n(inner, |k, i| {
        let count = k.int(n);
        let place = |k: &mut KernelBuilder, j| k.affine(&[(o, n * inner), (j, inner), (i, 1)], 0);
        result = run_along(k, node, dtype, [px, py], count, &place);
    });
    result?;
    ctx.call(k.finish(), &args)
}

/// A running sum or product of `n` elements; element `j` of the operand and of the result stands at `place(j)`.
pub(super) fn run_along(
    k: &mut KernelBuilder,
    node: &Node,
    dtype: DType,
    [from, to]: [Param; 2],
    n: V,
    place: &dyn Fn(&mut KernelBuilder, V) -> V,
) -> Result<(), Unsupported> {
    let sum = node.attrs.str("kind") == "sum";
    let start = k.number(Ty::scalar(compute_elem(dtype)?), if sum { 0.0 } else { 1.0 });
    let running = k.local(start);
    let zero = k.int(0);
    let mut result = Ok(());
    k.for_values(zero, n, 1, |k, j| {
        let j = if node.attrs.flag("reverse") { k.affine(&[(n, 1), (j, -1)], -1) } else { j };
        let at = place(k, j);
        let v = k.load(from, at);
        match step(k, node, dtype, running, v) {
            Ok(v) => k.store(to, at, v),
            Err(e) => result = Err(e),
        }
    });
    result
}

/// Takes an element into what runs, and gives the element of the result.
fn step(
    k: &mut KernelBuilder,
    node: &Node,
    dtype: DType,
    running: Local,
    raw: V,
) -> Result<V, Unsupported> {
    let op = if node.attrs.str("kind") == "sum" { BinOp::Add } else { BinOp::Mul };
    let v = decode(k, dtype, raw)?;
    let old = k.get(running);
    let new = k.binary(op, old, v);
    let new = round_to(k, dtype, new)?;
    k.set(running, new);
    encode(k, dtype, if node.attrs.flag("exclusive") { old } else { new })
}
