//! Which elements of its operand a window reads.

use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::Node;
use egret_ir::geometry::{self, Axis};
use egret_loop::{KernelBuilder, Parity, V};
use std::ops::Range;

/// The first tap of some, and the end.
pub type Taps = (i64, i64);

/// The most taps, and outputs at an edge, that are written one after another.
pub const UNROLLED: i64 = 8;

/// An operation whose windows and spatial axes do not belong together.
pub fn misfit() -> Unsupported {
    Unsupported::new("has windows that do not fit its spatial axes")
}

/// Shapes of a window operation.
#[derive(Clone)]
pub struct Windows {
    /// Batch.
    pub n: i64,
    /// Channels.
    pub c: i64,
    /// Spatial dims of the operand.
    pub input: Vec<i64>,
    /// Spatial dims of the result.
    pub output: Vec<i64>,
    /// How windows walk along each.
    pub axes: Vec<Axis>,
    /// Whether channels are the last axis.
    pub last: bool,
}

impl Windows {
    /// Those of a node.
    pub fn of(ctx: &Ctx, node: &Node) -> Result<Windows, Unsupported> {
        let (x, y) = (ctx.dims(node.operand(0)), ctx.dims(node.results[0]));
        let rank = x.len();
        let last = node.attrs.get("layout").is_some() && node.attrs.str("layout") == "channels_last";
        let spatial = |d: &[i64]| if last { d[1..rank - 1].to_vec() } else { d[2..].to_vec() };
        let axes = geometry::axes(&node.attrs, node.attrs.ints("kernel"));
        Ok(Windows {
            n: x[0],
            c: if last { x[rank - 1] } else { x[1] },
            input: spatial(&x),
            output: spatial(&y),
            axes: axes.ok_or_else(misfit)?,
            last,
        })
    }

    /// First and last (exclusive) tap of a window along an axis that lie inside the operand, and where tap
    /// 0 is.
    pub fn taps(&self, k: &mut KernelBuilder, axis: usize, o: V) -> (V, V, V) {
        let (walk, input) = (&self.axes[axis], self.input[axis]);
        let (d, kernel) = (walk.dilation, walk.kernel);
        let start = k.affine(&[(o, walk.stride)], -walk.low);
        let zero = k.int(0);
        let by = k.int(d);
        // Rounded up: both are clamped to be non-negative before the division.
        let before = k.affine(&[(start, -1)], d - 1);
        let before = k.max(before, zero);
        let first = if d == 1 { before } else { k.div(before, by) };
        let reach = k.affine(&[(start, -1)], input + d - 1);
        let reach = k.max(reach, zero);
        let end = if d == 1 { reach } else { k.div(reach, by) };
        let all = k.int(kernel);
        let end = k.min(end, all);
        (first, end, start)
    }

    /// The taps along the last axis that lie inside the operand, for output `o`.
    pub fn last_taps(&self, o: i64) -> Taps {
        self.known_taps(self.axes.len().saturating_sub(1), o)
    }

    /// The taps along an axis that lie inside the operand, for output `o`.
    pub fn known_taps(&self, axis: usize, o: i64) -> Taps {
        let (Some(walk), Some(&input)) = (self.axes.get(axis), self.input.get(axis)) else { return (0, 0) };
        // Tap 0 is so far below the operand's first element.
        let below = walk.low.saturating_sub(o.saturating_mul(walk.stride));
        let tap = |at: i64| {
            let at = at.saturating_add(below).max(0) as u64;
            (at.div_ceil(walk.dilation as u64) as i64).min(walk.kernel)
        };
        (tap(0), tap(input))
    }

    /// The outputs along the last axis that vectors compute: their taps all lie inside the operand, and so does what is read with them.
    pub fn inner(&self) -> Range<i64> {
        let (Some(walk), Some(input), Some(&output)) =
            (self.axes.last(), self.input.last(), self.output.last())
        else {
            return 0..0;
        };
        let past = match walk.stride {
            1 => (walk.kernel - 1).saturating_mul(walk.dilation),
            2 if walk.kernel <= UNROLLED => pairs(walk).iter().map(|p| p.first).max().unwrap_or(0),
            _ => return 0..0,
        };
        let begin = (walk.low.clamp(0, output * walk.stride) + walk.stride - 1) / walk.stride;
        let end = input.saturating_add(walk.low).saturating_sub(past).div_euclid(walk.stride);
        begin..end.clamp(begin, output)
    }

    /// Nested loops over the taps inside the operand; the body gets the flat spatial index and each axis'
    /// position. `known` are the taps along the last axis, where they are known.
    pub fn each_tap(
        &self,
        k: &mut KernelBuilder,
        o: &[V],
        known: Option<Taps>,
        body: &mut dyn FnMut(&mut KernelBuilder, &[V]),
    ) {
        fn inner(
            w: &Windows,
            k: &mut KernelBuilder,
            o: &[V],
            known: Option<Taps>,
            at: &mut Vec<V>,
            body: &mut dyn FnMut(&mut KernelBuilder, &[V]),
        ) {
            let axis = at.len();
            if axis == o.len() {
                return body(k, at);
            }
            let walk = &w.axes[axis];
            if let Some((first, end)) = known.filter(|_| axis + 1 == o.len()) {
                let mut tap = |k: &mut KernelBuilder, t: Option<V>, offset: i64| {
                    let mut terms = vec![(o[axis], walk.stride)];
                    terms.extend(t.map(|t| (t, walk.dilation)));
                    let i = k.affine(&terms, offset - walk.low);
                    at.push(i);
                    body(k, at);
                    at.pop();
                };
                if end - first <= UNROLLED {
                    (first..end).for_each(|t| tap(k, None, t * walk.dilation));
                } else {
                    k.for_range(first, end, 1, |k, t| tap(k, Some(t), 0));
                }
                return;
            }
            let (first, end, start) = w.taps(k, axis, o[axis]);
            k.for_values(first, end, 1, |k, t| {
                let i = k.affine(&[(start, 1), (t, walk.dilation)], 0);
                at.push(i);
                inner(w, k, o, known, at, body);
                at.pop();
            });
        }
        inner(self, k, o, known, &mut vec![], body);
    }

    /// Number of elements of a window inside the operand.
    pub fn count(&self, k: &mut KernelBuilder, o: &[V]) -> V {
        let mut count = k.int(1);
        for (axis, &o) in o.iter().enumerate() {
            let (first, end, _) = self.taps(k, axis, o);
            let n = k.sub(end, first);
            count = k.mul(count, n);
        }
        count
    }
}

/// Neighbours of which windows two apart read one each: those from an offset on, in twice as many lanes as there are outputs.
#[derive(Debug, PartialEq)]
pub struct Pair {
    /// Offset of the first from tap 0.
    pub first: i64,
    /// Which of them are taps.
    pub taps: Vec<Parity>,
}

/// What outputs of a stride of 2 read along the last axis. A last tap of even offset is the second of its pair, so that nothing behind
/// it is read: of windows of 3, pairs at 0 (taps 0 and 1) and at 1 (tap 2).
pub fn pairs(walk: &Axis) -> Vec<Pair> {
    let mut found: Vec<Pair> = vec![];
    for tap in 0..walk.kernel {
        let at = tap.saturating_mul(walk.dilation);
        let is_last = tap + 1 == walk.kernel && at > 0;
        let (first, parity) =
            if at % 2 == 0 && !is_last { (at, Parity::Even) } else { (at - 1, Parity::Odd) };
        match found.iter_mut().find(|p| p.first == first) {
            Some(pair) => pair.taps.push(parity),
            None => found.push(Pair { first, taps: vec![parity] }),
        }
    }
    found
}
