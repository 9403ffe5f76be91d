//! Sorting of indices, in place: bottom-up merging, which is stable and takes n log n comparisons.

use egret_loop::{BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// The i64 elements of two buffers from an element on, for as many as are sorted: the second one is overwritten.
#[derive(Copy, Clone, Debug)]
pub struct Indices {
    /// The buffer of what is sorted.
    pub order: Param,
    /// The buffer that is overwritten.
    pub scratch: Param,
    /// The first element in both.
    pub from: V,
    /// How many.
    pub len: V,
}

/// Sorts indices; `before` says whether one must stand before another (never both ways).
pub fn sort(k: &mut KernelBuilder, of: Indices, before: &mut dyn FnMut(&mut KernelBuilder, V, V) -> V) {
    let (zero, one) = (k.int(0), k.int(1));
    let width = k.local(one);
    k.while_(
        |k| {
            let w = k.get(width);
            k.compare(Cmp::Lt, w, of.len)
        },
        |k| {
            let w = k.get(width);
            let both = k.affine(&[(w, 2)], 0);
            let start = k.local(zero);
            k.while_(
                |k| {
                    let s = k.get(start);
                    k.compare(Cmp::Lt, s, of.len)
                },
                |k| {
                    let lo = k.get(start);
                    let ends = [w, both].map(|n| {
                        let end = k.add(lo, n);
                        k.binary(BinOp::SelMin, end, of.len)
                    });
                    merge(k, &of, [lo, ends[0], ends[1]], before);
                    let next = k.add(lo, both);
                    k.set(start, next);
                },
            );
            k.for_values(zero, of.len, 1, |k, i| {
                let at = k.add(of.from, i);
                let v = k.load(of.scratch, at);
                k.store(of.order, at, v);
            });
            k.set(width, both);
        },
    );
}

/// Joins two neighbouring runs that are sorted, `lo..mid` and `mid..hi`, in the scratch.
fn merge(
    k: &mut KernelBuilder,
    of: &Indices,
    [lo, mid, hi]: [V; 3],
    before: &mut dyn FnMut(&mut KernelBuilder, V, V) -> V,
) {
    let (left, right) = (k.local(lo), k.local(mid));
    k.for_values(lo, hi, 1, |k, t| {
        let (i, j) = (k.get(left), k.get(right));
        let (no_left, no_right) = (k.compare(Cmp::Ge, i, mid), k.compare(Cmp::Ge, j, hi));
        let takes_left = k.local(no_right);
        let is_over = k.or(no_left, no_right);
        let (at_left, at_right, to) = (k.add(of.from, i), k.add(of.from, j), k.add(of.from, t));
        k.if_(
            is_over,
            |_| {},
            |k| {
                let (a, b) = (k.load(of.order, at_left), k.load(of.order, at_right));
                // Where neither is before the other, the left one stays before.
                let less = before(k, b, a);
                let no = k.number(Ty::scalar(Elem::Bool), 0.0);
                let stays = k.compare(Cmp::Eq, less, no);
                k.set(takes_left, stays);
            },
        );
        let is_left = k.get(takes_left);
        let one = k.int(1);
        k.if_(
            is_left,
            |k| {
                let v = k.load(of.order, at_left);
                k.store(of.scratch, to, v);
                let next = k.add(i, one);
                k.set(left, next);
            },
            |k| {
                let v = k.load(of.order, at_right);
                k.store(of.scratch, to, v);
                let next = k.add(j, one);
                k.set(right, next);
            },
        );
    });
}
