//! The innermost axis made longer by a power of two. Results that are `factor` apart, a phase, have the same weights and read operands
//! next to each other: vectors of each phase come without a table, and interleaved they stand as the result has them. For example,
//! twice as long, linear, of half pixels:
//!
//! ```text
//! y[2 i]     = x[i - 1] * 0.25 + x[i] * 0.75
//! y[2 i + 1] = x[i] * 0.75 + x[i + 1] * 0.25
//! ```
//!
//! At the ends, where operands repeat or are missing, the table says what is read.

use super::{Pass, Taps};
use crate::lanes;
use egret_loop::{Elem, Half, KernelBuilder, Param, Shuffle, Ty, V};
use std::ops::Range;

/// How many times as long an axis may become.
const FACTORS: [i64; 3] = [2, 4, 8];

/// An element of the operand, counted from that of the phase's turn, and its weight.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Tap {
    from: i64,
    weight: f64,
}

/// The results of an axis that are computed in vectors.
#[derive(Debug, PartialEq)]
pub struct Phases {
    /// The taps of each phase.
    taps: Vec<Vec<Tap>>,
    /// Turns, of a result of each phase.
    turns: Range<i64>,
    /// The type of the elements.
    elem: Elem,
    /// There are no weights: a result is its only tap.
    copies: bool,
}

impl Phases {
    /// Those of a table; nothing where its results do not repeat, or there are too few that do.
    pub fn of(pass: &Pass, table: &Taps) -> Option<Phases> {
        let rounds = |w: f64| if pass.elem == Elem::F64 { w } else { (w as f32).into() };
        if pass.elem == Elem::Bool || pass.elem.size() < 4 {
            return None;
        }
        let result = |turn: i64, j: i64| -> Option<Vec<Tap>> {
            let at = usize::try_from(j).ok()? * table.per;
            let taps = table.index.get(at..at + table.per)?.iter().zip(&table.weight[at..]);
            taps.map(|(&i, &weight)| {
                (i >= 0).then(|| Tap { from: i64::from(i) - turn, weight: rounds(weight) })
            })
            .collect()
        };
        FACTORS.into_iter().find_map(|factor| {
            let turn = |i: i64| (0..factor).map(|p| result(i, i * factor + p)).collect::<Option<Vec<_>>>();
            let middle = pass.output / factor / 2;
            let taps = turn(middle)?;
            let alike = |i: &i64| turn(*i).is_some_and(|t| t == taps);
            let before = (0..middle).rev().take_while(alike).count() as i64;
            let after = (middle..pass.output / factor).take_while(alike).count() as i64;
            let turns = middle - before..middle + after;
            let enough = before + after >= Ty::vector(pass.elem).lanes.into();
            enough.then_some(Phases { taps, turns, elem: pass.elem, copies: pass.nearest })
        })
    }

    /// The results that [`Phases::write`] writes.
    pub fn results(&self) -> Range<i64> {
        let factor = self.taps.len() as i64;
        self.turns.start * factor..self.turns.end * factor
    }

    /// Computes them for the row of the operand that begins at an index, into that of the result.
    pub fn write(&self, k: &mut KernelBuilder, (x, from): (Param, V), (y, to): (Param, V)) {
        let widest = k.vector(self.elem);
        lanes::each_overlapping(k, self.turns.clone(), widest, |k, i, ty| {
            let phases = self.taps.iter().map(|taps| self.phase(k, taps, (x, from, i), ty)).collect();
            for (n, vector) in in_turn(k, phases).into_iter().enumerate() {
                let ahead = n as i64 * i64::from(ty.lanes);
                let at = k.affine(&[(to, 1), (i, self.taps.len() as i64)], ahead);
                k.store(y, at, vector);
            }
        });
    }

    /// A vector of results of one phase, from turn `i` on; the operand's row begins at `from`.
    fn phase(&self, k: &mut KernelBuilder, taps: &[Tap], (x, from, i): (Param, V, V), ty: Ty) -> V {
        let mut sum = None;
        for tap in taps {
            let at = k.affine(&[(from, 1), (i, 1)], tap.from);
            let v = lanes::load(k, x, at, ty);
            sum = Some(if self.copies {
                v
            } else {
                let (weight, before) = (k.number(ty, tap.weight), sum.unwrap_or_else(|| k.number(ty, 0.0)));
                k.fma(v, weight, before)
            });
        }
        sum.unwrap_or_else(|| k.number(ty, 0.0))
    }
}

/// The lanes of a power of two of vectors by turns: lane 0 of each, then lane 1 of each.
fn in_turn(k: &mut KernelBuilder, vectors: Vec<V>) -> Vec<V> {
    if vectors.len() == 1 {
        return vectors;
    }
    let every_other = |first: usize| vectors.iter().copied().skip(first).step_by(2).collect();
    let (even, odd) = (in_turn(k, every_other(0)), in_turn(k, every_other(1)));
    let pairs = even.into_iter().zip(odd);
    pairs
        .flat_map(|(a, b)| [Half::Low, Half::High].map(|half| k.shuffle(Shuffle::Interleave(half), a, b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phases of an axis of 16 that becomes `factor` times as long by linear interpolation of half pixels.
    fn linear(factor: i64, change: impl FnOnce(&mut Taps)) -> Option<Phases> {
        let (input, output) = (16, 16 * factor);
        let mut table = Taps { per: 2, index: vec![], weight: vec![] };
        for j in 0..output {
            let at = (j as f64 + 0.5) / factor as f64 - 0.5;
            let low = at.floor();
            for (i, weight) in [(low, 1.0 - (at - low)), (low + 1.0, at - low)] {
                table.index.push(i.clamp(0.0, 15.0) as i32);
                table.weight.push(weight);
            }
        }
        change(&mut table);
        let pass = Pass { outer: 1, inner: 1, input, output, elem: Elem::F32, nearest: false, fill: None };
        Phases::of(&pass, &table)
    }

    #[test]
    fn all_but_the_ends_repeat() {
        let found = linear(2, |_| ()).expect("phases");
        let tap = |from, weight| Tap { from, weight };
        assert_eq!(found.taps, [[tap(-1, 0.25), tap(0, 0.75)], [tap(0, 0.75), tap(1, 0.25)]]);
        assert_eq!(found.results(), 2..30);
        for factor in [4, 8] {
            assert_eq!(linear(factor, |_| ()).map(|p| p.results()), Some(factor..15 * factor));
        }
    }

    #[test]
    fn other_results_are_left_to_the_table() {
        assert_eq!(linear(3, |_| ()), None);
        // An operand beyond the others' place, a weight of its own, a result that is the extrapolation value.
        assert_eq!(linear(2, |t| t.index[2 * 8] += 1).map(|p| p.results()), Some(10..30));
        assert_eq!(linear(2, |t| t.weight[2 * 23 + 1] = 0.5).map(|p| p.results()), Some(2..22));
        assert_eq!(linear(2, |t| t.index[2 * 24] = -1).map(|p| p.results()), Some(2..24));
    }
}
