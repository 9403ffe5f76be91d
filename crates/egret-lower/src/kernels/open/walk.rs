//! How windows whose sizes a run knows walk over an image: along each axis the taps that meet elements of it, or the windows that an
//! element is met by (`conv_transpose`, `col2im`).

use super::place;
use egret_ir::Dim;
use egret_ir::geometry;
use egret_loop::{Cmp, KernelBuilder, V};

/// One axis.
pub struct Walk {
    /// Stride, dilation and low pad.
    pub axis: geometry::Axis<Dim>,
    /// Taps of a window.
    pub kernel: V,
    /// Elements of the operand.
    pub size: V,
    /// For each place that is kept how many elements it goes on from one position to the next, and from one tap to the next; nothing
    /// where it stays.
    pub steps: Vec<[Option<V>; 2]>,
    /// Whether taps are those of the windows that meet an element: the operand has an element for each window.
    pub is_transposed: bool,
}

/// The taps of one window along an axis.
#[derive(Copy, Clone)]
pub struct Taps {
    begin: V,
    end: V,
    /// What the first tap meets.
    start: V,
    /// Whether there are some among them that meet no element.
    sparse: bool,
}

/// Where a tap is.
#[derive(Clone)]
pub struct At {
    /// The places that are kept.
    pub places: Vec<V>,
    /// Whether it meets an element, where that is in question.
    pub inside: Option<V>,
}

/// `ceil(a / by)`, at least 0.
fn steps_to(k: &mut KernelBuilder, a: V, by: i64) -> V {
    let zero = k.int(0);
    let some = k.max(a, zero);
    if by == 1 {
        return some;
    }
    let (up, by) = (k.affine(&[(some, 1)], by - 1), k.int(by));
    k.div(up, by)
}

impl Walk {
    /// The taps at a position that meet elements: of a transposed walk also some between them that meet none.
    pub fn met(&self, k: &mut KernelBuilder, position: V) -> Taps {
        let geometry::Axis { stride, dilation, low, .. } = self.axis;
        let (begin, end, start) = if self.is_transposed {
            // Tap t is of the window (start - t * dilation) / stride.
            let start = k.affine(&[(position, 1)], low);
            let last = k.affine(&[(start, 1), (self.size, -stride)], stride);
            let after = k.affine(&[(start, 1)], 1);
            (steps_to(k, last, dilation), steps_to(k, after, dilation), start)
        } else {
            let start = k.affine(&[(position, stride)], -low);
            let before = k.affine(&[(start, -1)], 0);
            let left = k.sub(self.size, start);
            (steps_to(k, before, dilation), steps_to(k, left, dilation), start)
        };
        let (begin, end) = (k.min(begin, self.kernel), k.min(end, self.kernel));
        Taps { begin, end, start, sparse: self.is_transposed && stride != 1 }
    }

    /// All taps at a position; `sparse` unless each meets an element.
    pub fn all(&self, k: &mut KernelBuilder, position: V, sparse: bool) -> Taps {
        let geometry::Axis { stride, low, .. } = self.axis;
        let start = match self.is_transposed {
            true => k.affine(&[(position, 1)], low),
            false => k.affine(&[(position, stride)], -low),
        };
        Taps { begin: k.int(0), end: self.kernel, start, sparse }
    }

    /// The positions, of so many, at which every tap meets an element: begin and end. Of a transposed walk there may be none.
    pub fn inner(&self, k: &mut KernelBuilder, positions: V) -> [V; 2] {
        let geometry::Axis { stride, dilation, low, .. } = self.axis;
        let zero = k.int(0);
        let reach = k.affine(&[(self.kernel, dilation)], -dilation);
        let (begin, end) = if self.is_transposed {
            let end = k.affine(&[(self.size, 1)], -low);
            let end = if stride == 1 { k.max(end, zero) } else { zero };
            let begin = k.affine(&[(reach, 1)], -low);
            (k.max(begin, zero), end)
        } else {
            // position * stride - low + reach < size
            let room = k.affine(&[(self.size, 1), (reach, -1)], low - 1 + stride);
            let (room, by) = (k.max(room, zero), k.int(stride));
            let low = k.int(low);
            (steps_to(k, low, stride), k.div(room, by))
        };
        let end = k.min(end, positions);
        [k.min(begin, end), end]
    }

    /// Whether neighbouring positions meet neighbouring elements.
    pub fn goes_along(&self) -> bool {
        self.axis.stride == 1
    }

    /// A tap.
    fn tap(&self, k: &mut KernelBuilder, taps: &Taps, tap: V, at: &At) -> At {
        let geometry::Axis { stride, dilation, .. } = self.axis;
        let by = if self.is_transposed { -dilation } else { dilation };
        let element = k.affine(&[(taps.start, 1), (tap, by)], 0);
        let mut inside = at.inside;
        let mut hold = |k: &mut KernelBuilder, cmp, a, b| {
            let holds = k.compare(cmp, a, b);
            inside = Some(inside.map_or(holds, |all| k.and(all, holds)));
        };
        let zero = k.int(0);
        let mut position = element;
        if self.is_transposed && stride != 1 {
            let by = k.int(stride);
            position = k.div(element, by);
            if taps.sparse {
                let whole = k.mul(position, by);
                hold(k, Cmp::Eq, whole, element);
            }
        } else if taps.sparse {
            hold(k, Cmp::Ge, element, zero);
            hold(k, Cmp::Lt, element, self.size);
        }
        let moved = |(&from, steps): (&V, &[Option<V>; 2])| {
            let steps = steps.iter().zip([position, tap]);
            steps.fold(from, |at, (step, i)| step.map_or(at, |step| place(k, at, &[i], &[step])))
        };
        let places = at.places.iter().zip(&self.steps).map(moved).collect();
        At { places, inside }
    }
}

/// Goes through the taps of a window, the last axis fastest, from these places on.
pub fn nest(
    k: &mut KernelBuilder,
    walks: &[Walk],
    taps: &[Taps],
    at: At,
    body: &mut dyn FnMut(&mut KernelBuilder, At),
) {
    let (Some((walk, walks)), Some((of, taps))) = (walks.split_first(), taps.split_first()) else {
        return body(k, at);
    };
    k.for_values(of.begin, of.end, 1, |k, tap| {
        let at = walk.tap(k, of, tap, &at);
        nest(k, walks, taps, at, body);
    });
}

/// How many taps there are in all, where each meets an element.
pub fn count(k: &mut KernelBuilder, taps: &[Taps]) -> V {
    let mut all = k.int(1);
    for t in taps {
        let some = k.sub(t.end, t.begin);
        all = k.mul(all, some);
    }
    all
}
