//! Grids: the numbers that integers with a scale and a zero point stand for, fitted to weights by least squared error.

/// Shrinks of the range that are tried: from the whole to half of it.
const STEPS: i32 = 32;

/// The grid `scale * (code - zero)`.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Grid {
    /// The step.
    pub scale: f64,
    /// The code of zero.
    pub zero: i32,
    /// The least code.
    pub low: i32,
    /// The greatest code.
    pub high: i32,
}

impl Grid {
    /// The code of a number: the nearest, ties to even.
    pub fn code(&self, v: f64) -> i32 {
        let code = (v / self.scale).round_ties_even() + f64::from(self.zero);
        code.clamp(f64::from(self.low), f64::from(self.high)) as i32
    }

    /// What a code stands for.
    pub fn value(&self, code: i32) -> f64 {
        self.scale * f64::from(code - self.zero)
    }

    /// Sum of the squared errors.
    pub fn error(&self, values: &[f64]) -> f64 {
        values.iter().map(|&v| self.square(v)).sum()
    }

    fn square(&self, v: f64) -> f64 {
        (v - self.value(self.code(v))).powi(2)
    }
}

/// The grid of least squared error whose codes are `low..=high`, with zero at 0 if `low` is negative, anywhere else if not; `round`
/// makes a scale what its type can store.
pub fn fit(values: &[f64], low: i32, high: i32, round: &dyn Fn(f64) -> f64) -> Grid {
    least(values, low, high, round, &|grid| grid.error(values))
}

/// As [`fit`], where each squared error counts as often as `by` says.
pub fn fit_weighed(values: &[f64], by: &[f64], low: i32, high: i32, round: &dyn Fn(f64) -> f64) -> Grid {
    let error = |grid: &Grid| values.iter().zip(by).map(|(&v, f)| f * grid.square(v)).sum();
    least(values, low, high, round, &error)
}

/// The grid of least error among those of a shrunk range.
fn least(
    values: &[f64],
    low: i32,
    high: i32,
    round: &dyn Fn(f64) -> f64,
    error: &dyn Fn(&Grid) -> f64,
) -> Grid {
    let least = values.iter().copied().fold(0.0, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let mut best: Option<(f64, Grid)> = None;
    for step in 0..=STEPS {
        let part = 1.0 - 0.5 * f64::from(step) / f64::from(STEPS);
        let scale = if low < 0 {
            round(part * f64::max(-least, most) / f64::from(high))
        } else {
            round(part * (most - least) / f64::from(high - low))
        };
        if !(scale > 0.0 && scale.is_finite()) {
            continue;
        }
        let zero =
            if low < 0 { 0 } else { ((-part * least / scale).round() as i32 + low).clamp(low, high) };
        let grid = Grid { scale, zero, low, high };
        let error = error(&grid);
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, grid));
        }
    }
    // Zeros only, or numbers too small for a scale of this type.
    best.map_or(Grid { scale: 1.0, zero: low.max(0), low, high }, |b| b.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret::ir::rng::Rng;

    fn single(v: f64) -> f64 {
        f64::from(v as f32)
    }

    #[test]
    fn inside_its_range_a_number_moves_by_half_a_step_at_most() {
        let mut rng = Rng::new(3);
        for (low, high) in [(-127, 127), (0, 15), (0, 255)] {
            for n in [1, 7, 32, 400] {
                let values: Vec<f64> = (0..n).map(|_| rng.signed_f64() + 0.3).collect();
                let grid = fit(&values, low, high, &single);
                for v in &values {
                    let inside = (grid.value(low)..=grid.value(high)).contains(v);
                    let moved = (v - grid.value(grid.code(*v))).abs();
                    assert!(!inside || moved <= grid.scale * 0.5 * (1.0 + 1e-9), "{v} moved by {moved}");
                }
                assert_eq!(grid.value(grid.code(0.0)), 0.0, "zero stays zero");
            }
        }
    }

    #[test]
    fn a_fit_is_never_worse_than_the_whole_range() {
        let mut rng = Rng::new(9);
        let mut values: Vec<f64> = (0..64).map(|_| rng.signed_f64()).collect();
        values[7] = 2.5;
        let whole = Grid { scale: 2.5 / 7.0, zero: 0, low: -7, high: 7 };
        let fitted = fit(&values, -7, 7, &|v| v);
        assert!(fitted.error(&values) < 0.9 * whole.error(&values));
    }

    #[test]
    fn what_counts_more_is_met_better() {
        let values = [0.11, -0.2, 0.13, 1.0];
        let [even, small] =
            [[1.0; 4], [1.0, 1.0, 1.0, 0.0]].map(|by| fit_weighed(&values, &by, -7, 7, &|v| v));
        assert_eq!(even, fit(&values, -7, 7, &|v| v));
        assert!(small.error(&values[..3]) < even.error(&values[..3]) && small.scale < even.scale);
        // Where nothing counts, the whole range has a code.
        assert_eq!(fit_weighed(&values, &[0.0; 4], -7, 7, &|v| v).scale, 1.0 / 7.0);
    }

    #[test]
    fn zeros_and_extremes_have_a_grid() {
        for values in [vec![], vec![0.0; 5], vec![1e-60; 3]] {
            let grid = fit(&values, -127, 127, &single);
            assert!(grid.scale > 0.0 && values.iter().all(|&v| grid.code(v) == 0));
        }
        let wide = fit(&[1e38, -3e38], -127, 127, &single);
        assert!(wide.scale.is_finite() && wide.error(&[-3e38]).is_finite());
    }
}
