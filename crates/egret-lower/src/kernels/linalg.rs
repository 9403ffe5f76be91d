//! Linear algebra on small matrices.

use crate::error::Unsupported;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_loop::{Access, Cmp, Ty, UnOp};

/// `det` by elimination with partial pivoting, in a scratch copy of each matrix.
pub fn det(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let dims = ctx.dims(node.operand(0));
    let elem = ctx.elem(node.operand(0))?;
    if !elem.is_float() {
        return Err(Unsupported::new("takes f32 or f64 in compiled code"));
    }
    let n = dims[dims.len() - 1];
    let batch: i64 = dims[..dims.len() - 2].iter().product();
    let scratch = ctx.scratch(elem, &[n.max(1), n.max(1)])?;
    let mut w = Writer::new(ctx, "det", 1);
    let x = w.operand(node, 0)?;
    let y = w.result(node, 0, Access::Write)?;
    let m = w.buffer(scratch, elem, (n * n).max(1) as usize, Access::ReadWrite);
    let one = w.k.number(Ty::scalar(elem), 1.0);
    w.k.for_n(batch, |k, b| {
        k.for_n(n * n, |k, i| {
            let from = k.affine(&[(b, n * n), (i, 1)], 0);
            let v = k.load(x, from);
            k.store(m, i, v);
        });
        let product = k.local(one);
        k.for_n(n, |k, c| {
            // The largest of the column from the diagonal down.
            let pivot = k.local(c);
            let diagonal = k.affine(&[(c, n + 1)], 0);
            let d = k.load(m, diagonal);
            let d = k.unary(UnOp::Abs, d);
            let largest = k.local(d);
            let end = k.int(n);
            k.for_values(c, end, 1, |k, r| {
                let at = k.affine(&[(r, n), (c, 1)], 0);
                let v = k.load(m, at);
                let v = k.unary(UnOp::Abs, v);
                let l = k.get(largest);
                // NaN is the largest, so that it does not hide behind a pivot of 0.
                let (less, nan) = (k.compare(Cmp::Le, v, l), k.compare(Cmp::Ne, l, l));
                let less = k.or(less, nan);
                k.if_(
                    less,
                    |_| {},
                    |k| {
                        k.set(largest, v);
                        k.set(pivot, r);
                    },
                );
            });
            let p = k.get(pivot);
            let other = k.compare(Cmp::Ne, p, c);
            k.if_(
                other,
                |k| {
                    k.for_n(n, |k, j| {
                        let (a, b) = (k.affine(&[(p, n), (j, 1)], 0), k.affine(&[(c, n), (j, 1)], 0));
                        let (va, vb) = (k.load(m, a), k.load(m, b));
                        k.store(m, a, vb);
                        k.store(m, b, va);
                    });
                    let old = k.get(product);
                    let negative = k.unary(UnOp::Neg, old);
                    k.set(product, negative);
                },
                |_| {},
            );
            let d = k.load(m, diagonal);
            let old = k.get(product);
            let next = k.mul(old, d);
            k.set(product, next);
            let zero = k.number(Ty::scalar(elem), 0.0);
            let usable = k.compare(Cmp::Ne, d, zero);
            k.if_(
                usable,
                |k| {
                    let below = k.affine(&[(c, 1)], 1);
                    let end = k.int(n);
                    k.for_values(below, end, 1, |k, r| {
                        let at = k.affine(&[(r, n), (c, 1)], 0);
                        let v = k.load(m, at);
                        let factor = k.div(v, d);
                        k.for_n(n, |k, j| {
                            let (a, b) = (k.affine(&[(r, n), (j, 1)], 0), k.affine(&[(c, n), (j, 1)], 0));
                            let (va, vb) = (k.load(m, a), k.load(m, b));
                            let t = k.mul(factor, vb);
                            let v = k.sub(va, t);
                            k.store(m, a, v);
                        });
                    });
                },
                |_| {},
            );
        });
        let v = k.get(product);
        k.store(y, b, v);
    });
    w.finish()
}
