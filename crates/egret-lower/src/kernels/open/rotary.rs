//! `rotary` along free dims.

use super::{Writer, indices, place, whole_dims};
use crate::error::Unsupported;
use crate::expr::{decode, encode};
use crate::program::context::Ctx;
use egret_ir::{Dim, DimOp, Graph, NodeId};
use egret_loop::{Access, KernelBuilder, Param, UnOp, V};

/// Writes the kernel of a node. A task is a row along the last axis.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let x = node.operand(0);
    let dims = whole_dims(ctx, x)?;
    let (last, outer) = dims.split_last().ok_or_else(|| Unsupported::new("has a result without axes"))?;
    let pairs = last.op(DimOp::FloorDiv, &Dim::constant(2));
    ctx.hold_equal(&(pairs.clone() * Dim::constant(2)), last)?;
    let mut w = Writer::new(ctx, "rotary_any");
    let from = w.value(x, Access::Read)?;
    let mut turns = vec![];
    for &v in node.operands[1..3].iter().flatten() {
        let (param, first, own) = w.laid_out(v)?;
        let first = w.dim(&first)?;
        let steps = w.aligned(&own, &dims)?;
        turns.push((param, first, w.dims(&steps)?));
    }
    let [cos, sin] = turns.as_slice() else { return Err(Unsupported::bug("has no angles")) };
    let to = w.value(node.results[0], Access::Write)?;
    let (extents, run, half) = (w.dims(outer)?, w.dim(last)?, w.dim(&pairs)?);
    let k = &mut w.k;
    let at = indices(k, &extents);
    let at = &at[..outer.len()];
    let (task, zero, one) = (k.task(), k.int(0), k.int(1));
    let first = k.mul(task, run);
    let [cos, sin] = [cos, sin].map(|(param, first, steps)| {
        let row = place(k, *first, at, &steps[..outer.len()]);
        (*param, row, steps[outer.len()])
    });
    let dtype = graph.tensor_ty(x).dtype;
    let [mut failed, mut unstored] = [None, None];
    k.for_values(zero, half, 1, |k, pair| {
        // The two elements of a pair stand next to each other, or half the axis apart.
        let both = match node.attrs.flag("interleaved") {
            true => {
                let a = k.affine(&[(pair, 2)], 0);
                [a, k.add(a, one)]
            }
            false => [pair, k.add(pair, half)],
        };
        let mut number = |k: &mut KernelBuilder, param: Param, at: V| {
            let stored = k.load(param, at);
            decode(k, dtype, stored).unwrap_or_else(|e| {
                failed = Some(e);
                stored
            })
        };
        let values = both.map(|i| {
            let at = k.add(first, i);
            number(k, from, at)
        });
        let turned = [k.unary(UnOp::Neg, values[1]), values[0]];
        for ((i, v), other) in both.into_iter().zip(values).zip(turned) {
            let [c, s] = [cos, sin].map(|(param, row, step)| {
                let at = place(k, row, &[i], &[step]);
                number(k, param, at)
            });
            let (kept, moved) = (k.mul(v, c), k.mul(other, s));
            let sum = k.add(kept, moved);
            let at = k.add(first, i);
            match encode(k, dtype, sum) {
                Ok(sum) => k.store(to, at, sum),
                Err(e) => unstored = Some(e),
            }
        }
    });
    if let Some(e) = failed.or(unstored) {
        return Err(e);
    }
    w.finish(outer, last)
}
