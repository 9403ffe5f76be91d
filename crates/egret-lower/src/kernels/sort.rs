//! Sorting, determinants, overlapping blocks.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::geometry::aliases::strides;
use crate::loops::indices::{flat, nest};
use crate::loops::writer::Writer;
use crate::program::context::Ctx;
use egret_ir::Node;
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Ty, UnOp, V};

/// `top_k` by repeated selection: each pass takes the best element that comes after the one taken before, in the order
/// (value, index). No scratch memory; k passes over the axis.
pub fn top_k(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
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
                    // After the one taken last: worse, or equal and further on. Before any is taken everything is.
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
    w.finish();
    Ok(())
}

/// Whether x comes before y in the order by `cmp` (`Gt` or `Lt`) in which NaN is larger than every number.
pub fn comes_before(k: &mut KernelBuilder, cmp: Cmp, x: V, y: V) -> V {
    let before = k.compare(cmp, x, y);
    if !k.ty(x).elem.is_float() {
        return before;
    }
    let (large, other) = if cmp == Cmp::Gt { (x, y) } else { (y, x) };
    let nan = k.compare(Cmp::Ne, large, large);
    let number = k.compare(Cmp::Eq, other, other);
    let beyond = k.and(nan, number);
    k.or(before, beyond)
}

/// Whether neither of x and y comes before the other.
fn ties(k: &mut KernelBuilder, x: V, y: V) -> V {
    let equal = k.compare(Cmp::Eq, x, y);
    if !k.ty(x).elem.is_float() {
        return equal;
    }
    let (x, y) = (k.compare(Cmp::Ne, x, x), k.compare(Cmp::Ne, y, y));
    let both = k.and(x, y);
    k.or(equal, both)
}

/// `det` by elimination with partial pivoting, in a scratch copy of each matrix.
pub fn det(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let dims = ctx.dims(node.operand(0));
    let elem = ctx.elem(node.operand(0))?;
    if !elem.is_float() {
        return Err(Unsupported::new("takes f32 or f64 in compiled code"));
    }
    let n = dims[dims.len() - 1];
    let batch: i64 = dims[..dims.len() - 2].iter().product();
    let scratch = ctx.scratch(elem, (n * n).max(1) as usize);
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
                let more = k.compare(Cmp::Gt, v, l);
                k.if_(
                    more,
                    |k| {
                        k.set(largest, v);
                        k.set(pivot, r);
                    },
                    |_| {},
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
    w.finish();
    Ok(())
}

/// `col2im`: every block element is added to the pixel it came from. x is [N, C * block, windows].
pub fn col2im(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let a = &node.attrs;
    let (image, block, steps, dilations) =
        (a.ints("image_shape"), a.ints("block_shape"), a.ints("strides"), a.ints("dilations"));
    let low = &a.ints("pads")[..image.len()];
    let high = &a.ints("pads")[image.len()..];
    let windows: Vec<i64> = (0..image.len())
        .map(|i| (image[i] + low[i] + high[i] - dilations[i] * (block[i] - 1) - 1) / steps[i] + 1)
        .collect();
    let dims = ctx.dims(node.results[0]);
    let (planes, elem) = (dims[0] * dims[1], ctx.elem(node.operand(0))?);
    if !elem.is_float() {
        return Err(Unsupported::new("takes f32 or f64 in compiled code"));
    }
    let rank = image.len();
    let mut w = Writer::new(ctx, "col2im", 1);
    let x = w.operand(node, 0)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let plane: i64 = image.iter().product();
    w.k.for_n(planes * plane, |k, i| {
        let zero = k.number(Ty::scalar(elem), 0.0);
        k.store(y, i, zero);
    });
    let (bs, ws, is) = (strides(block), strides(&windows), strides(image));
    let (blocks, count): (i64, i64) = (block.iter().product(), windows.iter().product());
    let mut all = vec![planes];
    all.extend(block);
    all.extend(&windows);
    nest(&mut w.k, &all, &mut |k, at| {
        let (p, b, win) = (at[0], &at[1..1 + rank], &at[1 + rank..]);
        let (bi, wi) = (flat(k, b, &bs, 0), flat(k, win, &ws, 0));
        let from = k.affine(&[(p, blocks * count), (bi, count), (wi, 1)], 0);
        let v = k.load(x, from);
        let mut inside = k.number(Ty::scalar(Elem::Bool), 1.0);
        let mut pixel = vec![];
        for i in 0..rank {
            let q = k.affine(&[(win[i], steps[i]), (b[i], dilations[i])], -low[i]);
            let (zero, end) = (k.int(0), k.int(image[i]));
            let (above, below) = (k.compare(Cmp::Ge, q, zero), k.compare(Cmp::Lt, q, end));
            inside = k.and(inside, above);
            inside = k.and(inside, below);
            pixel.push(q);
        }
        k.if_(
            inside,
            |k| {
                let q = flat(k, &pixel, &is, 0);
                let to = k.affine(&[(p, plane), (q, 1)], 0);
                let old = k.load(y, to);
                let sum = k.add(old, v);
                k.store(y, to, sum);
            },
            |_| {},
        );
    });
    w.finish();
    Ok(())
}
