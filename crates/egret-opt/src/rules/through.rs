//! Whether one movement needs all of the sizes that two need which it stands for. Where a run has sizes that one of the two refuses, it has to fail.

use egret_ir::{Dim, TensorType};

/// Of x reshaped to the dims of y, and that to `dims`.
pub(super) fn reshapes(x: &TensorType, y: &TensorType, dims: &[Dim]) -> bool {
    let (from, by, to) = (Dim::product(&x.shape), Dim::product(&y.shape), Dim::product(dims));
    by.is_some() && (by == from || by == to) && are_sizes(&y.shape, &[&x.shape, dims])
}

/// Of x broadcast to the dims of y, and that to `dims`.
pub(super) fn broadcasts(x: &TensorType, y: &TensorType, dims: &[Dim]) -> bool {
    let one = Dim::constant(1);
    let mut axes = y.shape.iter().rev().enumerate();
    // Along an axis either does nothing.
    let either = axes.all(|(i, by)| {
        let [from, to] = [&x.shape[..], dims].map(|all| all.iter().rev().nth(i).unwrap_or(&one));
        by == from || by == to
    });
    either && are_sizes(&y.shape, &[&x.shape, dims])
}

/// What a slice takes along each axis.
#[derive(Copy, Clone)]
pub(super) struct Slice<'a> {
    pub starts: &'a [Dim],
    pub sizes: &'a [Dim],
    pub steps: &'a [i64],
}

impl Slice<'_> {
    /// Whether it is all there is along an axis of this size.
    fn is_whole(&self, i: usize, size: &Dim) -> bool {
        self.starts[i].as_const() == Some(0) && self.steps[i] == 1 && self.sizes[i] == *size
    }

    /// Whether it takes nothing along an axis of this size, or lies within it, whatever the sizes are.
    fn is_within(&self, i: usize, size: &Dim) -> bool {
        let (start, step) = (&self.starts[i], Dim::constant(self.steps[i]));
        let end = size.clone() - Dim::constant(1);
        let last = start.clone() + (self.sizes[i].clone() - Dim::constant(1)) * step;
        let (low, high) = if self.steps[i] > 0 { (start, &last) } else { (&last, start) };
        self.sizes[i].as_const() == Some(0)
            || low.at_least().is_some_and(|least| least >= 0)
                && (end - high.clone()).at_least().is_some_and(|least| least >= 0)
    }
}

/// Of the slice `inner` of x, and the slice `outer` of that.
pub(super) fn slices(x: &TensorType, inner: Slice, outer: Slice) -> bool {
    let rank = x.rank();
    let lists = [inner.starts, inner.sizes, outer.starts, outer.sizes].map(<[Dim]>::len);
    if lists != [rank; 4] || [inner.steps.len(), outer.steps.len()] != [rank; 2] {
        return false;
    }
    // Along an axis where either is whole, both together need what the other one needs.
    let fits = |i: usize| {
        let (all, some) = (&x.shape[i], &inner.sizes[i]);
        inner.is_whole(i, all)
            || outer.is_whole(i, some)
            || outer.is_within(i, some) && inner.is_within(i, all)
    };
    let starts = (0..rank).all(|i| {
        let start = inner.starts[i].clone() + outer.starts[i].clone() * Dim::constant(inner.steps[i]);
        let by: Vec<&Dim> = x.shape.iter().chain(outer.sizes).chain([&start]).collect();
        [inner, outer].iter().all(|slice| slice.starts[i].has_value_where(&by))
    });
    (0..rank).all(fits) && starts && are_sizes(inner.sizes, &[&x.shape, outer.sizes])
}

/// Whether dims are sizes in every run in which all of the others are.
fn are_sizes(dims: &[Dim], by: &[&[Dim]]) -> bool {
    let by: Vec<&Dim> = by.iter().copied().flatten().collect();
    dims.iter().all(|d| d.is_size_where(&by))
}
