//! Scans: running sums and products along an axis.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode, round_to};
use crate::geometry::dtypes::compute_elem;
use crate::geometry::shape::split_at_axis;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, BinOp, Elem, Kernel, KernelBuilder, Local, Param, Ty, V};

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
    let has_vectors = matches!(dtype, DType::F32 | DType::F64 | DType::I32);
    if has_vectors && inner >= Ty::vector(elem).lanes.into() {
        let kernel = along_rows(ctx, node, elem, [outer, n, inner]);
        return ctx.call(kernel, &args);
    }
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

/// Columns of a task of [`along_rows`]: some cache lines of each row.
const COLUMNS: i64 = 256;

/// Along an axis that is not the last, in the lanes of vectors: each row of the result is made of the one before.
fn along_rows(ctx: &Ctx, node: &Node, elem: Elem, [outer, n, inner]: [i64; 3]) -> Kernel {
    let (sum, exclusive) = (node.attrs.str("kind") == "sum", node.attrs.flag("exclusive"));
    let (op, start) = if sum { (BinOp::Add, 0.0) } else { (BinOp::Mul, 1.0) };
    let (back, first) = if node.attrs.flag("reverse") { (inner, (n - 1) * inner) } else { (-inner, 0) };
    let parts = (inner + COLUMNS - 1) / COLUMNS;
    let mut k = ctx.kernel("cumulative", outer * parts);
    let len = (outer * n * inner) as usize;
    let from = k.param(elem, len, Access::Read);
    let to = k.param(elem, len, Access::ReadWrite);
    let (task, count) = (k.task(), k.int(parts));
    let (o, part) = (k.div(task, count), k.rem(task, count));
    let begin = k.affine(&[(part, COLUMNS)], 0);
    let (behind, all) = (k.affine(&[(begin, 1)], COLUMNS), k.int(inner));
    let end = k.min(behind, all);
    let (widest, left) = (k.vector(elem), k.affine(&[(end, 1), (begin, -1)], 0));
    let lanes = k.int(widest.lanes.into());
    let rest = k.rem(left, lanes);
    let whole = k.affine(&[(end, 1), (rest, -1)], 0);
    let row = |k: &mut KernelBuilder, j: Option<V>| {
        for (begin, end, lanes) in [(begin, whole, widest.lanes), (whole, end, 1)] {
            k.for_values(begin, end, lanes.into(), |k, i| {
                let at = match j {
                    Some(j) => k.affine(&[(o, n * inner), (j, -back), (i, 1)], first),
                    None => k.affine(&[(o, n * inner), (i, 1)], first),
                };
                let before = k.affine(&[(at, 1)], back);
                let v = match j {
                    None => {
                        let start = k.number(Ty { elem, lanes }, start);
                        let v = k.load_lanes(from, at, lanes);
                        if exclusive { start } else { k.binary(op, start, v) }
                    }
                    Some(_) => {
                        let old = k.load_lanes(to, before, lanes);
                        let v = k.load_lanes(from, if exclusive { before } else { at }, lanes);
                        k.binary(op, old, v)
                    }
                };
                k.store(to, at, v);
            });
        }
    };
    row(&mut k, None);
    k.for_range(1, n, 1, |k, j| row(k, Some(j)));
    k.finish()
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
