//! Selection by rank.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::loops::indices::nest;
use crate::loops::order::{comes_before, ties};
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_loop::{Access, Cmp, Elem, Ty, UnOp};

/// `top_k` by repeated selection: each pass takes the best element that comes after the one taken before,
/// in the order (value, index). No scratch memory; k passes over the axis.
pub fn top_k(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let dims = ctx.dims(node.operand(0));
    let dtype = ctx.dtype(node.operand(0));
    let axis = node.attrs.index("axis");
    let kept = ctx.dims(node.results[0])[axis];
    let outer: i64 = dims[..axis].iter().product();
    let inner: i64 = dims[axis + 1..].iter().product();
    let n = dims[axis];
    let before = if node.attrs.flag("largest") { Cmp::Gt } else { Cmp::Lt };
    let mut w = Writer::new(ctx, "top_k", 1);
    let x = w.operand(node, 0)?;
    let values = w.result(node, 0, Access::Write)?;
    let indices = w.result(node, 1, Access::Write)?;
    let mut result = Ok(());
    let k = &mut w.k;
    if n > 0 {
        nest(k, &[outer, inner], &mut |k, at| {
            let (o, i) = (at[0], at[1]);
            let row = k.affine(&[(o, n * inner), (i, 1)], 0);
            let first = k.load(x, row);
            let first = match decode(k, dtype, first) {
                Ok(v) => v,
                Err(e) => {
                    result = Err(e);
                    return;
                }
            };
            let none = k.int(-1);
            let last_value = k.local(first);
            let last_index = k.local(none);
            let no = k.number(Ty::scalar(Elem::Bool), 0.0);
            k.for_n(kept, |k, j| {
                let best_value = k.local(first);
                let best_index = k.local(none);
                let found = k.local(no);
                k.for_n(n, |k, c| {
                    let from = k.affine(&[(row, 1), (c, inner)], 0);
                    let raw = k.load(x, from);
                    let Ok(v) = decode(k, dtype, raw) else { return };
                    // After the one taken last: worse, or equal and further on. Before any is taken
                    // everything is.
                    let (lv, li) = (k.get(last_value), k.get(last_index));
                    let worse = comes_before(k, before, lv, v);
                    let equal = ties(k, lv, v);
                    let further = k.compare(Cmp::Gt, c, li);
                    let tied = k.and(equal, further);
                    let zero = k.int(0);
                    let start = k.compare(Cmp::Lt, li, zero);
                    let open = k.or(worse, tied);
                    let open = k.or(open, start);
                    // Better than the best of this pass so far.
                    let (bv, f) = (k.get(best_value), k.get(found));
                    let better = comes_before(k, before, v, bv);
                    let new = k.unary(UnOp::Not, f);
                    let better = k.or(better, new);
                    let take = k.and(open, better);
                    k.if_(
                        take,
                        |k| {
                            k.set(best_value, v);
                            k.set(best_index, c);
                            let yes = k.number(Ty::scalar(Elem::Bool), 1.0);
                            k.set(found, yes);
                        },
                        |_| {},
                    );
                });
                let (bv, bi) = (k.get(best_value), k.get(best_index));
                k.set(last_value, bv);
                k.set(last_index, bi);
                let to = k.affine(&[(o, kept * inner), (j, inner), (i, 1)], 0);
                let Ok(stored) = encode(k, dtype, bv) else { return };
                k.store(values, to, stored);
                k.store(indices, to, bi);
            });
        });
    }
    result?;
    w.finish()
}
