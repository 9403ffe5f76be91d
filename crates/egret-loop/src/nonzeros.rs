//! The reduction of a [`Tile`](crate::Tile) whose left operand is mostly zeros.

use crate::place::Place;

/// The steps of a reduction in which most products are left out, because their weight is zero.
///
/// The left operand holds the weights that are left and no others, one behind the other in the order in which they are used: step by step, and
/// within a step row by row. For example, two rows of the weights `[3, 0, 5]` and `[4, 0, 0]`, by rows of 49 pixels, have the steps `0:11 98:1` (the
/// masks are binary here) and the left operand `[3, 4, 5]`.
///
/// Each sum is that of its row's products in the order of the steps, added to +0 one after another. A weight that is left out is not
/// multiplied: where the right operand is infinite or NaN, the dense sum would be NaN.
///
/// Weights of integers are quads: four neighbours of a row, at least one of which is not zero, as an i32 ([`Products::Quads`](crate::Products::Quads)). The right
/// operand has quads too, and all that is said of its elements is of these.
///
/// A step may have a mask of its own: a column that the mask leaves out has a zero there, and nothing is read for it. So a window reads a plane of
/// pixels as it is, with no zeros around it: neighbouring pixels are neighbours in memory, also across the end of a row, where the mask tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nonzeros {
    /// In the order of the sum.
    pub steps: Vec<NonzeroStep>,
    /// How often the tile runs, over one vector of columns after the other, before another does: as a tile has code of its own for each product, what
    /// runs next can be fetched piece by piece in the meantime. Nothing else follows from it.
    pub runs: u32,
    /// A second right operand, where there is one.
    pub second: Option<Second>,
    /// Where the masks are, of i32, one behind another: bit `c` for column `c`. Needed where a step has one.
    pub masks: Option<Place>,
}

/// A right operand that is read by the last steps of a reduction in place of the tile's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Second {
    /// Where it is.
    pub b: Place,
    /// The first step that reads it.
    pub from: usize,
}

/// One row of the right operand, and the rows of the tile that multiply it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct NonzeroStep {
    /// Where the right operand's row begins, in elements from the tile's place on.
    pub b: i64,
    /// The rows of the tile that have a weight here: bit `r` for row `r`. At least one.
    pub rows: u32,
    /// Which of the masks has the columns that are read; all of them where there is none.
    pub mask: Option<u8>,
}

impl NonzeroStep {
    /// The tile's rows that it adds to, from the first on.
    pub fn rows(self) -> impl Iterator<Item = usize> {
        (0..u32::BITS as usize).filter(move |r| self.rows >> r & 1 == 1)
    }
}

impl Nonzeros {
    /// The most rows of a tile that has them.
    pub const MOST_ROWS: usize = u32::BITS as usize;

    /// How many weights there are.
    pub fn products(&self) -> usize {
        self.steps.iter().map(|s| s.rows.count_ones() as usize).sum()
    }

    /// Where else it reads: its second right operand, its masks.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.second.iter().map(|s| &s.b).chain(&self.masks)
    }

    /// As [`places`](Nonzeros::places).
    pub fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        self.second.iter_mut().map(|s| &mut s.b).chain(&mut self.masks)
    }

    /// Whether a step reads the second right operand.
    pub fn is_second(&self, step: usize) -> bool {
        self.second.as_ref().is_some_and(|s| step >= s.from)
    }

    /// The products of one row: (the weight's index in the left operand, the index of the step), in the order of the sum.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = (i64, usize)> {
        let mut before = 0;
        self.steps.iter().enumerate().filter_map(move |(step, s)| {
            let own = s.rows.checked_shr(row as u32).unwrap_or(0) & 1 == 1;
            let earlier = (s.rows & !(u32::MAX << row)).count_ones();
            let at = before + i64::from(earlier);
            before += i64::from(s.rows.count_ones());
            own.then_some((at, step))
        })
    }

    /// Why a tile of so many rows cannot have these steps.
    pub fn refuses(&self, rows: usize) -> Option<String> {
        if rows > Nonzeros::MOST_ROWS {
            return Some(format!(
                "steps of nonzeros with {rows} rows, at most {} are possible",
                Nonzeros::MOST_ROWS
            ));
        }
        let all = u32::MAX.checked_shr(u32::BITS - rows as u32).unwrap_or(0);
        if let Some(second) = self.second.as_ref().filter(|s| s.from > self.steps.len()) {
            return Some(format!("a second operand from step {} of {} on", second.from, self.steps.len()));
        }
        if self.masks.is_none() && self.steps.iter().any(|s| s.mask.is_some()) {
            return Some("a step of nonzeros with a mask that is nowhere".to_owned());
        }
        let wrong = self.steps.iter().find(|s| s.rows == 0 || s.rows & !all != 0)?;
        Some(format!("a step of nonzeros {}:{:x} in a tile of {rows} rows", wrong.b, wrong.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Param, V};

    #[test]
    fn weights_are_in_the_order_of_use() {
        let steps =
            [(0, 0b11), (49, 0b10), (98, 0b101)].map(|(b, rows)| NonzeroStep { b, rows, mask: None });
        let mut n = Nonzeros { steps: steps.to_vec(), runs: 1, second: None, masks: None };
        assert_eq!(n.products(), 5);
        let of =
            |row: usize| n.of_row(row).map(|(weight, step)| (weight, n.steps[step].b)).collect::<Vec<_>>();
        assert_eq!(of(0), [(0, 0), (3, 98)]);
        assert_eq!(of(1), [(1, 0), (2, 49)]);
        assert_eq!(of(2), [(4, 98)]);
        assert_eq!(of(31), []);
        assert_eq!((n.refuses(3), n.refuses(32)), (None, None));
        assert!(n.refuses(2).is_some() && n.refuses(33).is_some());
        n.steps[1].mask = Some(0);
        assert!(n.refuses(3).is_some());
        n.masks = Some(Place { param: Param(3), base: V(0) });
        assert_eq!(n.refuses(3), None);
    }
}
