//! How planes are cut into rows and vectors.

use crate::kernels::taps::{Taps, UNROLLED, Windows, pairs};
use crate::lanes;
use egret_ir::geometry::Axis;
use egret_loop::{Elem, Ty};
use std::ops::Range;

/// The most taps of a window: all of it is straight code.
const MOST_TAPS: i64 = 25;
/// The most rows of the result that are computed at once.
const MOST_ROWS: i64 = 8;

/// How planes are cut into rows and vectors, of f32.
pub struct Plan {
    /// Two spatial axes: one is a plane of one row.
    pub w: Windows,
    /// Lanes of vectors.
    pub lanes: i64,
    /// Rows of the result that are computed at once.
    pub count: i64,
    /// Rows from the first on read no plane before their own, rows up to the end none behind it: their windows lie inside along the first
    /// axis, and their vectors may read into the rows before and behind. In low planes the first is behind the end.
    pub rows: Range<i64>,
    /// Columns whose windows lie inside along the last axis.
    pub columns: Range<i64>,
}

impl Plan {
    /// That of windows with channels first over one or two axes, in vectors of so many bytes and at most so many rows at once, if there
    /// are vectors for it.
    pub fn of(mut w: Windows, vector_bytes: usize, most_rows: i64) -> Option<Plan> {
        if w.axes.len() == 1 {
            w.axes.insert(0, Axis { kernel: 1, stride: 1, dilation: 1, low: 0, high: 0 });
            w.input.insert(0, 1);
            w.output.insert(0, 1);
        }
        let taps = w.axes.iter().map(|a| a.kernel).fold(1, i64::saturating_mul);
        if w.last || w.axes.len() != 2 || taps > MOST_TAPS || w.axes.iter().any(|a| a.low < 0) {
            return None;
        }
        let columns = w.inner();
        let (width, last) = (w.output[1], &w.axes[1]);
        let &(lanes, _) = lanes::runs(width, Ty::vector_of(Elem::F32, vector_bytes)).first()?;
        if lanes == 1 || columns.is_empty() || columns.start.max(width - columns.end) > UNROLLED {
            return None;
        }
        let (outside, walk) = ((columns.start > 0, columns.end < width), &w.axes[0]);
        let begin = walk.low + i64::from(outside.0);
        let begin = ((begin + walk.stride - 1) / walk.stride).min(w.output[0]);
        let behind = (walk.kernel - 1) * walk.dilation + i64::from(outside.1);
        let end = (w.input[0] + walk.low - behind - 1).div_euclid(walk.stride) + 1;
        let rows = begin..end.clamp(0, w.output[0]);
        // A vector reads one row ahead, or back, at most.
        let past = match last.stride {
            1 => (last.kernel - 1) * last.dilation,
            _ => pairs(last).iter().map(|p| p.first + 1).max().unwrap_or(0),
        };
        let ahead = (width - 1) * last.stride - last.low + past;
        let near = last.low <= w.input[1] && ahead < 2 * w.input[1];
        let count = at_once(w.output[0], most_rows);
        (near && w.output[0] - (rows.end - rows.start).max(0) <= 2 * UNROLLED).then_some(Plan {
            w,
            lanes: lanes.into(),
            count,
            rows,
            columns,
        })
    }

    /// Which of some rows of the result have a row of the operand, counted from the first that they read, and as which tap along the
    /// first axis. Of rows that begin at a `known` one, those that the operand does not have are left out.
    pub fn readers(&self, count: i64, known: Option<i64>, row: i64) -> Vec<(usize, i64)> {
        let down = &self.w.axes[0];
        let taps = |r: i64| -> Taps {
            known.map_or((0, down.kernel), |first| self.w.known_taps(0, first.saturating_add(r)))
        };
        let tap = |r: i64| {
            let at = row - r * down.stride;
            let tap = at.div_euclid(down.dilation);
            let (first, end) = taps(r);
            (at % down.dilation == 0 && (first..end).contains(&tap)).then_some((r as usize, tap))
        };
        (0..count).filter_map(tap).collect()
    }

    /// Rows of the operand that so many of the result read, with those between.
    pub fn read_by(&self, count: i64) -> i64 {
        let down = &self.w.axes[0];
        (count - 1) * down.stride + (down.kernel - 1) * down.dilation + 1
    }
}

/// How many of some rows to compute at once, at most so many: the last are computed with as many before them, which is done once more.
/// Fewest such, and of those the most at once, but not less than half of what can be.
fn at_once(rows: i64, most: i64) -> i64 {
    let most = most.clamp(1, MOST_ROWS);
    if rows <= most {
        return rows.max(1);
    }
    let computed = |n: &i64| (rows + n - 1) / n * n;
    (most / 2 + 1..=most).rev().min_by_key(computed).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_evenly() {
        let of = |rows| [2, 4, 8].map(|most| at_once(rows, most));
        assert_eq!(of(1), [1, 1, 1]);
        assert_eq!(of(7), [2, 4, 7]);
        assert_eq!(of(14), [2, 3, 7]);
        assert_eq!(of(28), [2, 4, 7]);
        assert_eq!(of(56), [2, 4, 8]);
    }
}
