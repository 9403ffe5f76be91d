//! Linear algebra on small matrices.

use crate::error::Unsupported;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_loop::{Access, Cmp, KernelBuilder, Param, Ty, UnOp, V};

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
    let n = w.k.int(n);
    w.k.for_n(batch, |k, b| eliminate(k, (x, y, m), b, n));
    w.finish()
}

/// Writes determinant `b` of the matrices of `n` rows in the first buffer into the second one; the third one has room for a matrix.
pub fn eliminate(k: &mut KernelBuilder, (x, y, m): (Param, Param, Param), b: V, n: V) {
    let ty = Ty::scalar(k.param_elem(m));
    let zero = k.int(0);
    let elements = k.mul(n, n);
    let first = k.mul(b, elements);
    k.for_values(zero, elements, 1, |k, i| {
        let from = k.add(first, i);
        let v = k.load(x, from);
        k.store(m, i, v);
    });
    let at = |k: &mut KernelBuilder, row: V, column: V| {
        let row = k.mul(row, n);
        k.add(row, column)
    };
    let one = k.number(ty, 1.0);
    let product = k.local(one);
    k.for_values(zero, n, 1, |k, c| {
        // The largest of the column from the diagonal down.
        let pivot = k.local(c);
        let diagonal = at(k, c, c);
        let d = k.load(m, diagonal);
        let d = k.unary(UnOp::Abs, d);
        let largest = k.local(d);
        k.for_values(c, n, 1, |k, r| {
            let at = at(k, r, c);
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
                k.for_values(zero, n, 1, |k, j| {
                    let (a, b) = (at(k, p, j), at(k, c, j));
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
        let none = k.number(ty, 0.0);
        let usable = k.compare(Cmp::Ne, d, none);
        k.if_(
            usable,
            |k| {
                let below = k.affine(&[(c, 1)], 1);
                k.for_values(below, n, 1, |k, r| {
                    let from = at(k, r, c);
                    let v = k.load(m, from);
                    let factor = k.div(v, d);
                    k.for_values(zero, n, 1, |k, j| {
                        let (a, b) = (at(k, r, j), at(k, c, j));
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
}
