//! The loops over the elements of one row.

use super::{Point, Row};
use egret_loop::{BlockedSum, KernelBuilder, V};

/// The loops over the elements of a row while they are written.
pub(super) struct Visit<'v, 'r> {
    pub row: &'v Row<'r>,
    /// Where a sum over them is cut into blocks.
    pub cut: Option<BlockedSum>,
    /// The axis that vectors run along.
    pub inner: Option<usize>,
    pub f: &'v mut dyn FnMut(&mut KernelBuilder, &Point),
    /// Called after every block.
    pub fold: &'v mut dyn FnMut(&mut KernelBuilder),
}

impl Visit<'_, '_> {
    /// `body` for every `step`th of `extent`: the loop at a depth, in blocks where it is the one that is
    /// cut.
    fn repeat(
        &mut self,
        k: &mut KernelBuilder,
        depth: usize,
        (extent, step): (i64, i64),
        body: &mut dyn FnMut(&mut Self, &mut KernelBuilder, V),
    ) {
        let Some(cut) = self.cut.filter(|c| c.depth == depth) else {
            return k.for_range(0, extent, step, |k, i| body(self, k, i));
        };
        k.for_range(0, extent, cut.turns * step, |k, first| {
            let (most, all) = (k.affine(&[(first, 1)], cut.turns * step), k.int(extent));
            let end = k.min(most, all);
            k.for_values(first, end, step, |k, i| body(self, k, i));
            (self.fold)(k);
        });
    }

    /// The loops from a depth on, over these axes and the inner one.
    pub fn outer(&mut self, k: &mut KernelBuilder, depth: usize, axes: &[usize], bases: &[V]) {
        let row = self.row;
        if let Some((&axis, rest)) = axes.split_first() {
            return self.repeat(k, depth, (row.rows.dims[axis], 1), &mut |visit, k, i| {
                let bases = row.rows.advance(k, bases, axis, i);
                visit.outer(k, depth + 1, rest, &bases);
            });
        }
        if let Some(column) = row.column {
            for slot in 0..row.slots {
                let more = slot as i64 * i64::from(row.width);
                (self.f)(
                    k,
                    &Point { bases, index: column, more, width: row.width, count: None, slot, place: None },
                );
            }
            return;
        }
        let Some(axis) = self.inner else {
            // A row of one element.
            let zero = k.int(0);
            let tail = if row.width > 1 { row.slots } else { 0 };
            return (self.f)(
                k,
                &Point { bases, index: zero, more: 0, width: 1, count: None, slot: tail, place: None },
            );
        };
        let (n, w) = (row.rows.dims[axis], i64::from(row.width));
        if w == 1 {
            return self.repeat(k, depth, (n, 1), &mut |visit, k, index| {
                (visit.f)(k, &Point { bases, index, more: 0, width: 1, count: None, slot: 0, place: None });
            });
        }
        if row.held {
            return self.held(k, bases, n);
        }
        let round = w * row.slots as i64;
        let many = n / round * round;
        self.repeat(k, depth, (many, round), &mut |visit, k, index| {
            for slot in 0..row.slots {
                (visit.f)(
                    k,
                    &Point {
                        bases,
                        index,
                        more: slot as i64 * w,
                        width: row.width,
                        count: None,
                        slot,
                        place: None,
                    },
                );
            }
        });
        let some = n / w * w;
        k.for_range(many, some, w, |k, index| {
            (self.f)(
                k,
                &Point { bases, index, more: 0, width: row.width, count: None, slot: 0, place: None },
            )
        });
        if row.rows.partial && some < n {
            // Beside the vectors before it, which wait for one another.
            let (index, slot) = (k.int(some), row.slots - 1);
            let count = Some((n - some) as u8);
            return (self.f)(
                k,
                &Point { bases, index, more: 0, width: row.width, count, slot, place: None },
            );
        }
        let mut begin = some;
        for (i, &width) in row.tails.iter().enumerate() {
            let end = if width == 1 { n } else { begin + i64::from(width) };
            k.for_range(begin, end, width.into(), |k, index| {
                (self.f)(
                    k,
                    &Point { bases, index, more: 0, width, count: None, slot: row.slots + i, place: None },
                )
            });
            begin = end;
        }
    }

    /// All vectors of a short row of `n` elements, without a loop.
    fn held(&mut self, k: &mut KernelBuilder, bases: &[V], n: i64) {
        let (row, zero) = (self.row, k.int(0));
        let w = i64::from(row.width);
        for (place, more) in (0..n).step_by(row.width.into()).enumerate() {
            let count = (n - more < w).then_some((n - more) as u8);
            let (width, slot) = (row.width, place % row.slots);
            (self.f)(k, &Point { bases, index: zero, more, width, count, slot, place: Some(place) });
        }
    }
}
