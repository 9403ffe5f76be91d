//! Histograms of a value over all samples, in memory that does not grow: bins widen in powers of two, so that counts stay exact.

use crate::integers::grid::Grid;
use crate::state::{Pack, Unpack};

/// Bins on each side of zero.
const HALF: usize = 1024;
/// Fewer numbers than this say nothing of their tails.
const FEW: u64 = 256;
/// Part of the numbers that `percentile` keeps.
const KEPT: f64 = 0.9999;
/// Clips that are tried on each side, as parts of the range.
const STEPS: usize = 64;
/// The least range relative to its magnitude that a scale is made of.
const LEAST: f64 = 1e-30;

/// Bytes of a histogram in a file.
pub const BYTES: usize = 8 * (5 + 2 * HALF);
/// More numbers than this in a bin of a file have not been seen by anyone.
const MOST: u64 = 1 << 48;

/// What was seen of a value: counts of its numbers, in bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Width of a bin; 0 before the first number that is not zero.
    width: f64,
    bins: Vec<u64>,
    /// Exact zeros: any grid has them.
    zeros: u64,
    low: f64,
    high: f64,
    /// What is no finite number.
    bad: u64,
}

/// A grid for a value, and the method that gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The grid of u8.
    pub grid: Grid,
    /// The grids of the channels, axis 1, where each has its own; else there are none.
    pub channels: Vec<Grid>,
    /// `minmax`, `percentile` or `mse`.
    pub method: &'static str,
}

/// The methods.
const METHODS: [&str; 4] = ["minmax", "percentile", "mse", "probabilities"];

impl Range {
    /// As a part of a record.
    pub fn pack(&self, out: &mut Pack) {
        out.whole(self.channels.len() as u64);
        for grid in std::iter::once(&self.grid).chain(&self.channels) {
            out.number(grid.scale);
            out.whole(grid.zero as u64);
        }
        out.text(self.method);
    }

    /// Of a part of a record; `None` where it is none.
    pub fn unpack(parts: &mut Unpack<'_>) -> Option<Range> {
        let count = parts.length()?;
        let mut grid = || {
            let scale = parts.number()?;
            let zero = i32::from(u8::try_from(parts.whole()?).ok()?);
            Some(Grid { scale, zero, low: 0, high: 255 })
        };
        let whole = grid()?;
        let channels = (0..count).map(|_| grid()).collect::<Option<_>>()?;
        let method = parts.text()?;
        let method = METHODS.into_iter().find(|m| *m == method)?;
        Some(Range { grid: whole, channels, method })
    }

    /// One grid for a whole value.
    pub fn of(grid: Grid, method: &'static str) -> Range {
        Range { grid, channels: vec![], method }
    }

    /// The grids that the value is rounded to: one, or that of each channel.
    pub fn grids(&self) -> &[Grid] {
        match self.channels[..] {
            [] => std::slice::from_ref(&self.grid),
            _ => &self.channels,
        }
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { width: 0.0, bins: vec![0; 2 * HALF], zeros: 0, low: 0.0, high: 0.0, bad: 0 }
    }
}

/// The grid of u8 for a range that holds zero, whose scale is an f32.
pub fn bytes(low: f64, high: f64) -> Grid {
    let scale = f64::from(((high - low) / 255.0) as f32);
    let scale = if scale > LEAST { scale } else { 1.0 };
    let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0) as i32;
    Grid { scale, zero, low: 0, high: 255 }
}

impl Histogram {
    /// See some numbers.
    pub fn add(&mut self, values: &[f32]) {
        for &v in values {
            let v = f64::from(v);
            if v == 0.0 {
                self.zeros += 1;
            } else if !v.is_finite() {
                self.bad += 1;
            } else {
                self.low = self.low.min(v);
                self.high = self.high.max(v);
                let at = self.bin(v.abs());
                let at = if v > 0.0 { HALF + at } else { HALF - 1 - at };
                self.bins[at] += 1;
            }
        }
    }

    /// The bin of a magnitude on its side, made wide enough.
    fn bin(&mut self, v: f64) -> usize {
        if self.width == 0.0 {
            // The least power of two that has room for it: the width depends on the largest number alone, whichever came first.
            self.width = 2f64.powi((v / HALF as f64).log2().floor() as i32 + 1);
        }
        while v >= self.width * HALF as f64 {
            self.widen();
        }
        ((v / self.width) as usize).min(HALF - 1)
    }

    /// Make each two bins one.
    fn widen(&mut self) {
        self.width *= 2.0;
        let side = |at: &dyn Fn(usize) -> usize, bins: &[u64]| -> Vec<u64> {
            (0..HALF / 2).map(|i| bins[at(2 * i)] + bins[at(2 * i + 1)]).collect()
        };
        let up = side(&|i| HALF + i, &self.bins);
        let down = side(&|i| HALF - 1 - i, &self.bins);
        self.bins.fill(0);
        up.iter().enumerate().for_each(|(i, n)| self.bins[HALF + i] = *n);
        down.iter().enumerate().for_each(|(i, n)| self.bins[HALF - 1 - i] = *n);
    }

    /// See what another has seen: the same counts as of one that saw the numbers of both, in any order.
    pub fn merge(&mut self, mut other: Histogram) {
        self.zeros += other.zeros;
        self.bad += other.bad;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        if other.width == 0.0 {
            return;
        }
        if self.width == 0.0 {
            self.width = other.width;
        }
        while self.width < other.width {
            self.widen();
        }
        while other.width < self.width {
            other.widen();
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(n, more)| *n += more);
    }

    /// Its bytes, little-endian: `BYTES` of them.
    pub fn write(&self, out: &mut Vec<u8>) {
        for v in [self.width, self.low, self.high] {
            out.extend(v.to_le_bytes());
        }
        for n in [self.zeros, self.bad].iter().chain(&self.bins) {
            out.extend(n.to_le_bytes());
        }
    }

    /// Of what [`Histogram::write`] gave; `None` of bytes that no numbers give.
    pub fn read(bytes: &[u8]) -> Option<Histogram> {
        let words = bytes.as_chunks::<8>().0;
        let (true, [width, low, high, zeros, bad, bins @ ..]) = (bytes.len() == BYTES, words) else {
            return None;
        };
        let [width, low, high] = [width, low, high].map(|w| f64::from_le_bytes(*w));
        let [zeros, bad] = [zeros, bad].map(|w| u64::from_le_bytes(*w));
        let bins: Vec<u64> = bins.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let few = bins.iter().chain([&zeros, &bad]).all(|n| *n <= MOST);
        let most = high.max(-low);
        let ordered = low <= 0.0 && high >= 0.0 && most.is_finite();
        let counted = bins.iter().any(|n| *n > 0);
        let wide = match most > 0.0 {
            // A power of two, and the least that has room.
            true => {
                width.is_normal()
                    && width.to_bits().trailing_zeros() >= f64::MANTISSA_DIGITS - 1
                    && width > 0.0
                    && most < width * HALF as f64
                    && most * 2.0 >= width * HALF as f64
            }
            false => width.to_bits() == 0,
        };
        (few && ordered && wide && counted == (most > 0.0)).then_some(Histogram {
            width,
            bins,
            zeros,
            low,
            high,
            bad,
        })
    }

    /// Numbers that were seen.
    pub fn count(&self) -> u64 {
        self.zeros + self.bins.iter().sum::<u64>()
    }

    /// What is no finite number.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// Exact zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The least and the greatest number, at most and at least 0.
    pub fn ends(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// How many of the numbers lie in each of `count` equal parts of the range between the ends, to the precision of the bins; without the zeros.
    pub fn parts(&self, count: usize) -> Vec<u64> {
        let mut out = vec![0; count];
        let span = self.high - self.low;
        for (bin, &n) in self.bins.iter().enumerate().filter(|(_, n)| **n > 0) {
            let at = (self.middle(bin) - self.low) / span * count as f64;
            out[(at.max(0.0) as usize).min(count - 1)] += n;
        }
        out
    }

    /// The middle of a bin.
    fn middle(&self, bin: usize) -> f64 {
        (bin as f64 - HALF as f64 + 0.5) * self.width
    }

    /// The expected squared error of a grid: rounding inside, distance outside.
    fn error(&self, grid: &Grid) -> f64 {
        let (low, high) = (grid.value(grid.low), grid.value(grid.high));
        let inside = grid.scale * grid.scale / 12.0;
        let of = |(bin, &n): (usize, &u64)| {
            let v = self.middle(bin);
            let out = (v - v.clamp(low, high)).abs();
            n as f64 * if out > grid.scale * 0.5 { out * out } else { inside }
        };
        self.bins.iter().enumerate().filter(|b| *b.1 > 0).map(of).sum()
    }

    /// The range that [`KEPT`] of the numbers are in.
    fn percentile(&self) -> (f64, f64) {
        let most = (self.count() as f64 * (1.0 - KEPT) * 0.5) as u64;
        let edge = |order: &mut dyn Iterator<Item = usize>| {
            let mut gone = 0;
            for bin in order {
                gone += self.bins[bin];
                if gone > most {
                    return self.middle(bin);
                }
            }
            0.0
        };
        let low = edge(&mut (0..2 * HALF)).clamp(self.low, 0.0);
        let high = edge(&mut (0..2 * HALF).rev()).clamp(0.0, self.high);
        (low, high)
    }

    /// The range of least squared error among those that clip each side, one side after the other.
    fn clipped(&self) -> (f64, f64) {
        let (mut low, mut high) = (self.low, self.high);
        for _ in 0..2 {
            for side in [0, 1] {
                let whole = if side == 0 { self.low } else { self.high };
                if whole == 0.0 {
                    continue;
                }
                let range = |part: usize| {
                    let v = whole * (STEPS - part) as f64 / STEPS as f64;
                    if side == 0 { (v, high) } else { (low, v) }
                };
                let error = |part: &usize| {
                    let (low, high) = range(*part);
                    self.error(&bytes(low, high))
                };
                let best = (0..STEPS - 1).min_by(|a, b| error(a).total_cmp(&error(b)));
                (low, high) = range(best.unwrap_or(0));
            }
        }
        (low, high)
    }

    /// As if every number below this one, which is negative, had been it.
    pub fn above(mut self, floor: f64) -> Histogram {
        if self.low >= floor {
            return self;
        }
        let last = HALF - 1 - self.bin(-floor);
        let below: u64 = self.bins[..last].iter().sum();
        self.bins[..last].fill(0);
        self.bins[last] += below;
        self.low = floor;
        self
    }

    /// The range of least squared error.
    pub fn range(&self) -> Range {
        let mut best = Range::of(bytes(self.low, self.high), "minmax");
        if self.count() < FEW {
            return best;
        }
        for (method, (low, high)) in [("percentile", self.percentile()), ("mse", self.clipped())] {
            let grid = bytes(low, high);
            if self.error(&grid) < self.error(&best.grid) {
                best = Range::of(grid, method);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret::ir::rng::Rng;

    #[test]
    fn counts_stay_whatever_the_order_and_the_size() {
        let mut rng = Rng::new(1);
        let mut values: Vec<f32> = (0..3000).map(|_| rng.signed_f64() as f32).collect();
        values.extend([0.0, 900.0, -3e-7, f32::NAN, f32::INFINITY]);
        let (mut up, mut down) = (Histogram::default(), Histogram::default());
        up.add(&values);
        values.reverse();
        values.chunks(7).for_each(|c| down.add(c));
        assert_eq!((up.count(), up.bad()), (3003, 2));
        assert_eq!((down.count(), down.bad()), (3003, 2));
        assert_eq!(up.range().grid, down.range().grid);
    }

    #[test]
    fn merging_is_seeing_all() {
        let mut rng = Rng::new(9);
        let values: Vec<f32> = (0..4000)
            .map(|i| rng.signed_f64() as f32 * if i % 900 == 1 { 1e4 } else { 1e-3 })
            .chain([0.0, 1024.0, -1024.0, 1e-42, f32::NAN])
            .collect();
        let mut whole = Histogram::default();
        whole.add(&values);
        for cut in [0, 1, 2, 2000, 4003, 4005] {
            let mut parts = [&values[..cut], &values[cut..]].map(|part| {
                let mut h = Histogram::default();
                h.add(part);
                let mut bytes = vec![];
                h.write(&mut bytes);
                assert_eq!(Histogram::read(&bytes).as_ref(), Some(&h));
                h
            });
            let second = std::mem::take(&mut parts[1]);
            parts[0].merge(second);
            assert_eq!(parts[0], whole, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_no_numbers_give_are_none() {
        let mut h = Histogram::default();
        h.add(&[1.0, -3.0, 0.0]);
        let mut good = vec![];
        h.write(&mut good);
        let with = |at: usize, word: [u8; 8]| {
            let mut bytes = good.clone();
            bytes[8 * at..8 * at + 8].copy_from_slice(&word);
            Histogram::read(&bytes)
        };
        assert!(Histogram::read(&good).is_some());
        for v in [0.0, -0.25, 0.3, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 4.0, 1.0] {
            assert!(with(0, v.to_le_bytes()).is_none(), "width {v}");
        }
        for v in [1.0, f64::NAN, f64::NEG_INFINITY, -1e6] {
            assert!(with(1, v.to_le_bytes()).is_none(), "least {v}");
        }
        assert!(with(2, (-1f64).to_le_bytes()).is_none());
        assert!(with(3, u64::MAX.to_le_bytes()).is_none() && with(900, u64::MAX.to_le_bytes()).is_none());
        assert!(Histogram::read(&good[1..]).is_none() && Histogram::read(&[]).is_none());
    }

    #[test]
    fn a_far_number_is_clipped_where_that_costs_less() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.push(40.0);
        let mut h = Histogram::default();
        h.add(&values);
        let range = h.range();
        assert!(range.method != "minmax" && h.error(&range.grid) <= h.error(&bytes(0.0, 40.0)));
        let mut few = Histogram::default();
        few.add(&[1.0, 2.0, 50.0]);
        assert_eq!(few.range().method, "minmax");
    }

    #[test]
    fn nothing_is_below_a_floor_and_nothing_is_lost() {
        let mut rng = Rng::new(4);
        let values: Vec<f32> = (0..3000).map(|_| 20.0 * rng.signed_f64() as f32).collect();
        let (mut all, mut floored) = (Histogram::default(), Histogram::default());
        all.add(&values);
        floored.add(&values.iter().map(|v| v.max(-3.0)).collect::<Vec<_>>());
        let cut = all.clone().above(-3.0);
        assert_eq!((cut.low, cut.high, cut.count()), (-3.0, all.high, all.count()));
        assert_eq!(cut, floored);
        assert_eq!(all.clone().above(-30.0), all, "it is above");
    }

    #[test]
    fn any_range_has_zero_in_it() {
        for values in [vec![], vec![0.0; 4], vec![3.0, 5.0], vec![-2.0; 300], vec![1e-40; 300]] {
            let mut h = Histogram::default();
            h.add(&values);
            let grid = h.range().grid;
            assert!(grid.scale > 0.0 && (0..=255).contains(&grid.zero));
            assert_eq!(grid.value(grid.code(0.0)), 0.0);
            let near = |v: &f32| (grid.value(grid.code(f64::from(*v))) - f64::from(*v)).abs() <= grid.scale;
            assert!(values.iter().all(near), "{values:?} {grid:?}");
        }
    }
}
