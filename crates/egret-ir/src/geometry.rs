//! Windows over spatial axes, as pools and convolutions have them: how many fit, how far they reach, what each of them meets.
//!
//! Sizes are numbers, or symbolic. No figure wraps: what does not fit into an i64 is `None`.
//!
//! ```
//! use egret_ir::geometry::Axis;
//! let axis = Axis { kernel: 3, stride: 2, dilation: 1, low: 1, high: 1 };
//! assert_eq!(axis.positions(&7), Ok(4));
//! // The first window begins in the pad: its taps 1 and 2 meet elements 0 and 1.
//! assert_eq!(axis.start(0), Some(-1));
//! assert_eq!(axis.taps(7, 0), Some(1..3));
//! ```

use crate::{Attrs, Dim, DimOp};
use std::ops::Range;

/// What a size is: an `i64` or a [`Dim`].
pub trait Size: Clone {
    /// A known size.
    fn constant(value: i64) -> Self;
    /// It as a number, if it is known.
    fn known(&self) -> Option<i64>;
    /// The sum.
    fn plus(&self, other: &Self) -> Option<Self>;
    /// The product with a number.
    fn times(&self, by: i64) -> Option<Self>;
    /// The quotient by a positive number, rounded down.
    fn over(&self, by: i64) -> Option<Self>;
}

impl Size for i64 {
    fn constant(value: i64) -> i64 {
        value
    }
    fn known(&self) -> Option<i64> {
        Some(*self)
    }
    fn plus(&self, other: &i64) -> Option<i64> {
        self.checked_add(*other)
    }
    fn times(&self, by: i64) -> Option<i64> {
        self.checked_mul(by)
    }
    fn over(&self, by: i64) -> Option<i64> {
        self.checked_div_euclid(by)
    }
}

impl Size for Dim {
    fn constant(value: i64) -> Dim {
        Dim::constant(value)
    }
    fn known(&self) -> Option<i64> {
        self.as_const()
    }
    fn plus(&self, other: &Dim) -> Option<Dim> {
        match (self.as_const(), other.as_const()) {
            (Some(a), Some(b)) => a.plus(&b).map(Dim::constant),
            _ => Some(self.clone() + other.clone()),
        }
    }
    fn times(&self, by: i64) -> Option<Dim> {
        match self.as_const() {
            Some(a) => a.times(by).map(Dim::constant),
            None => Some(self.clone() * Dim::constant(by)),
        }
    }
    fn over(&self, by: i64) -> Option<Dim> {
        Some(self.op(DimOp::FloorDiv, &Dim::constant(by)))
    }
}

/// How windows walk along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis<S = i64> {
    /// Taps of a window.
    pub kernel: S,
    /// From one window to the next.
    pub stride: i64,
    /// From one tap to the next.
    pub dilation: i64,
    /// Padding before the axis; below 0 it is cut off.
    pub low: i64,
    /// Padding behind the axis.
    pub high: i64,
}

/// Why no window fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit<S> {
    /// It is longer than the padded axis: its elements from the first tap to the last, and all padding.
    Span(S, i64),
    /// A figure is above 2^63.
    Overflow,
}

/// The axes of a node with the attributes `strides`, `dilations` and `pads`; `None` if one has not an entry (two: low, high) for
/// each entry of `kernel`.
pub fn axes<S: Size>(attrs: &Attrs, kernel: &[S]) -> Option<Vec<Axis<S>>> {
    let n = kernel.len();
    let (strides, dilations, pads) = (attrs.ints("strides"), attrs.ints("dilations"), attrs.ints("pads"));
    if strides.len() != n || dilations.len() != n || pads.len() != 2 * n {
        return None;
    }
    let one = |i: usize| Axis {
        kernel: kernel[i].clone(),
        stride: strides[i],
        dilation: dilations[i],
        low: pads[i],
        high: pads[n + i],
    };
    Some((0..n).map(one).collect())
}

impl<S: Size> Axis<S> {
    /// Elements from the first tap of a window to the last.
    pub fn span(&self) -> Option<S> {
        self.kernel.plus(&S::constant(-1))?.times(self.dilation)?.plus(&S::constant(1))
    }

    /// How many windows there are along an axis of `size` elements.
    ///
    /// # Errors
    /// Not even one fits, or a figure is too large.
    pub fn positions(&self, size: &S) -> Result<S, Misfit<S>> {
        let padding = self.low.checked_add(self.high).ok_or(Misfit::Overflow)?;
        let span = self.span().ok_or(Misfit::Overflow)?;
        let room = span.times(-1).and_then(|s| size.plus(&S::constant(padding))?.plus(&s));
        let room = room.ok_or(Misfit::Overflow)?;
        if room.known().is_some_and(|r| r < 0) {
            return Err(Misfit::Span(span, padding));
        }
        room.over(self.stride).and_then(|n| n.plus(&S::constant(1))).ok_or(Misfit::Overflow)
    }

    /// Elements from the first tap of the first of `positions` windows to the last tap of the last.
    pub fn reach(&self, positions: &S) -> Option<S> {
        positions.plus(&S::constant(-1))?.times(self.stride)?.plus(&self.span()?)
    }

    /// The size of the axis that `positions` windows cover exactly, pads aside: the result of a transposed convolution.
    pub fn image(&self, positions: &S) -> Option<S> {
        let padding = self.low.checked_add(self.high)?.checked_neg()?;
        self.reach(positions)?.plus(&S::constant(padding))
    }

    /// All padding with which windows are as many as `size` divided by the stride, rounded up (`auto_pad` of ONNX); the size plays
    /// no part where the stride is 1. Negative where windows are shorter than the stride and leave elements over.
    pub fn same_padding(&self, size: &S) -> Option<S> {
        if self.stride == 1 {
            return self.span()?.plus(&S::constant(-1));
        }
        let out = size.plus(&S::constant(self.stride.checked_sub(1)?))?.over(self.stride)?;
        self.reach(&out)?.plus(&size.times(-1)?)
    }
}

impl Axis {
    /// The same, of sizes that may be symbolic.
    pub fn symbolic(&self) -> Axis<Dim> {
        let &Axis { kernel, stride, dilation, low, high } = self;
        Axis { kernel: Dim::constant(kernel), stride, dilation, low, high }
    }

    /// Where the first tap of a window is; before the axis where it is negative.
    pub fn start(&self, position: i64) -> Option<i64> {
        position.checked_mul(self.stride)?.checked_sub(self.low)
    }

    /// The taps of a window that meet elements of an axis of `size`.
    pub fn taps(&self, size: i64, position: i64) -> Option<Range<i64>> {
        let start = self.start(position)?;
        // Rounded up; `n` is not negative.
        let steps = |n: i64| n.checked_add(self.dilation.checked_sub(1)?)?.checked_div(self.dilation);
        let first = steps(start.checked_neg()?.max(0))?;
        let end = steps(size.checked_sub(start)?.max(0))?.min(self.kernel);
        Some(first..end.max(first))
    }

    /// Room behind the high pad that the last, partial window needs (`ceil_mode` of ONNX), which is the only one where windows are
    /// longer than the padded axis; none if that would begin beyond the low pad and the axis.
    pub fn ceil_room(&self, size: i64) -> Option<i64> {
        let padded = size.checked_add(self.low)?.checked_add(self.high)?;
        let rest = padded.checked_sub(self.span()?)?;
        let partial = rest.checked_rem_euclid(self.stride)?;
        let last_start = rest.checked_sub(partial)?.checked_add(self.stride)?;
        let begins = last_start >= 0 && last_start < size.checked_add(self.low)?;
        Some(if partial > 0 && begins { self.stride - partial } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXIS: Axis = Axis { kernel: 3, stride: 2, dilation: 2, low: 1, high: 0 };

    #[test]
    fn windows_of_numbers() {
        assert_eq!(AXIS.span(), Some(5));
        assert_eq!((AXIS.positions(&8), AXIS.positions(&4)), (Ok(3), Ok(1)));
        assert_eq!(AXIS.positions(&3), Err(Misfit::Span(5, 1)));
        assert_eq!((AXIS.reach(&3), AXIS.image(&3)), (Some(9), Some(8)));
        assert_eq!(
            (AXIS.taps(8, 0), AXIS.taps(8, 2), AXIS.taps(1, 2)),
            (Some(1..3), Some(0..3), Some(0..0))
        );
        assert_eq!(
            (AXIS.same_padding(&7), AXIS.ceil_room(7), AXIS.ceil_room(8)),
            (Some(4), Some(1), Some(0))
        );
        // One window over an axis that is shorter, where the stride reaches as far as it lacks.
        let plain = Axis { dilation: 1, low: 0, ..AXIS };
        assert_eq!([0, 1, 2, 3, 4].map(|size| plain.ceil_room(size)), [0, 0, 1, 0, 1].map(Some));
        let wide = Axis { stride: 3, ..plain };
        assert_eq!([0, 1, 2, 3].map(|size| wide.ceil_room(size)), [0, 2, 1, 0].map(Some));
        let short = Axis { kernel: 1, stride: 3, ..AXIS };
        assert_eq!([17, 18, 19].map(|size| short.same_padding(&size)), [Some(-1), Some(-2), Some(0)]);
    }

    #[test]
    fn a_window_meets_what_it_counts() {
        for (stride, dilation, low, size, kernel) in
            [(1, 1, 0, 5, 3), (2, 3, 2, 9, 3), (3, 1, 4, 4, 2), (1, 5, 7, 3, 4), (2, 2, -1, 6, 2)]
        {
            let axis = Axis { kernel, stride, dilation, low, high: 3 };
            for p in 0..axis.positions(&size).unwrap_or(0) {
                let inside = |t: &i64| (0..size).contains(&(p * stride - low + t * dilation));
                let want: Vec<i64> = (0..kernel).filter(inside).collect();
                assert_eq!(axis.taps(size, p).unwrap().collect::<Vec<_>>(), want, "{axis:?} at {p}");
            }
        }
    }

    #[test]
    fn symbolic_sizes_are_as_numbers() {
        let axis = Axis { kernel: Dim::constant(3), stride: 2, dilation: 2, low: 1, high: 0 };
        let env = [("n".to_owned(), 8)].into_iter().collect();
        let n = Dim::symbol("n");
        assert_eq!(axis.positions(&n).unwrap().eval(&env), Some(3));
        assert_eq!(axis.image(&n).unwrap().eval(&env), AXIS.image(&8));
        assert_eq!(axis.positions(&Dim::constant(3)), Err(Misfit::Span(Dim::constant(5), 1)));
    }

    #[test]
    fn nothing_wraps() {
        let huge = Axis { kernel: 1 << 46, stride: 1 << 46, dilation: 1 << 46, low: i64::MAX, high: 1 };
        assert_eq!(huge.positions(&1), Err(Misfit::Overflow));
        assert_eq!((huge.span(), huge.reach(&5), huge.image(&1)), (None, None, None));
        assert_eq!((huge.start(1 << 46), huge.taps(1, 1 << 20), huge.ceil_room(1)), (None, None, None));
        let symbolic =
            Axis { kernel: Dim::constant(1 << 46), stride: 1, dilation: 1 << 46, low: 0, high: 0 };
        assert_eq!(symbolic.positions(&Dim::constant(4)), Err(Misfit::Overflow));
    }
}
