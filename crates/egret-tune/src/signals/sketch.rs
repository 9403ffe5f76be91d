//! Sketches: what many numbers are like, in memory that does not grow with them.

use egret_compress::Histogram;
use serde_json::{Value as Json, json};

/// Parts of a sketch's range that are shown.
const PARTS: usize = 40;

/// A histogram, a mean and a deviation of numbers, which must be finite.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    histogram: Histogram,
    sum: f64,
    squares: f64,
}

impl Sketch {
    /// See some numbers.
    pub fn add(&mut self, numbers: &[f64]) {
        self.histogram.add(&numbers.iter().map(|&v| v as f32).collect::<Vec<_>>());
        self.sum += numbers.iter().sum::<f64>();
        self.squares += numbers.iter().map(|v| v * v).sum::<f64>();
    }

    /// How many were seen.
    pub fn count(&self) -> u64 {
        self.histogram.count()
    }

    /// How many of them are 0.
    pub fn zeros(&self) -> u64 {
        self.histogram.zeros()
    }

    /// The part of them that is 0.
    pub fn sparsity(&self) -> f64 {
        self.zeros() as f64 / self.count().max(1) as f64
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.count().max(1) as f64
    }

    /// Their standard deviation.
    pub fn deviation(&self) -> f64 {
        (self.squares / self.count().max(1) as f64 - self.mean().powi(2)).max(0.0).sqrt()
    }

    /// The square root of the sum of their squares.
    pub fn norm(&self) -> f64 {
        self.squares.sqrt()
    }

    /// The least and the greatest, or 0 where all are above or below it.
    pub fn ends(&self) -> [f64; 2] {
        self.histogram.ends()
    }

    /// How many of those that are not 0 lie in each of 40 equal parts between the ends.
    pub fn parts(&self) -> Vec<u64> {
        self.histogram.parts(PARTS)
    }

    /// Everything.
    pub fn to_json(&self) -> Json {
        let [low, high] = self.ends();
        json!({
            "count": self.count(),
            "zeros": self.zeros(),
            "mean": self.mean(),
            "std": self.deviation(),
            "low": low,
            "high": high,
            "histogram": self.parts(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_hand_in_any_order() {
        let (mut one, mut two) = (Sketch::default(), Sketch::default());
        one.add(&[0.0, -1.0, 3.0, 3.0, 0.0]);
        [3.0, 0.0, 3.0, -1.0, 0.0].chunks(2).for_each(|c| two.add(c));
        for s in [&one, &two] {
            assert_eq!((s.count(), s.zeros(), s.mean(), s.ends()), (5, 2, 1.0, [-1.0, 3.0]));
            assert!((s.deviation() - (19.0f64 / 5.0 - 1.0).sqrt()).abs() < 1e-15);
            assert_eq!(s.norm(), 19f64.sqrt());
            let parts = s.parts();
            assert_eq!((parts[0], parts[39], parts.iter().sum::<u64>()), (1, 2, 3));
        }
        let none = Sketch::default();
        assert_eq!((none.mean(), none.deviation(), none.parts().iter().sum::<u64>()), (0.0, 0.0, 0));
    }
}
