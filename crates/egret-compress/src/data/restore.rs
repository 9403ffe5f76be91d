//! Means and variances of a compressed layer's outputs are those of the original again.

use crate::moments::Moments;
use crate::report::Quality;
use egret::linalg::{dot, times};

/// Sums over rows, of which a [`Quality`] is made.
#[derive(Default)]
pub struct Tally {
    error: f64,
    variance: f64,
    wanted: f64,
}

impl Tally {
    /// The quality of all rows.
    pub fn quality(&self) -> Quality {
        if self.wanted <= 0.0 {
            return Quality { error: 0.0, deviation: 1.0 };
        }
        let root = |v: f64| v.max(0.0).sqrt();
        Quality { error: (self.error / self.wanted).max(0.0), deviation: root(self.variance / self.wanted) }
    }
}

/// Scale the rows of a group, by no more than `most` and no less than one over it, and give what is to be added to each output.
pub fn restore(weights: &mut [f64], moments: &Moments, most: f64, tally: &mut Tally) -> Vec<f64> {
    let n = moments.x_mean.len();
    let mut image = vec![0.0; n];
    let mut out = vec![];
    for (r, row) in weights.chunks_exact_mut(n.max(1)).enumerate() {
        times(row, &moments.xx, &mut image);
        let variance = dot(row, &image);
        let wanted = moments.yy[r];
        let factor = if variance > 1e-12 * wanted && wanted > 0.0 {
            (wanted / variance).sqrt().clamp(1.0 / most, most)
        } else {
            1.0
        };
        row.iter_mut().for_each(|w| *w *= factor);
        let variance = variance * factor * factor;
        let common = dot(row, &moments.yx[r * n..(r + 1) * n]);
        tally.error += wanted - 2.0 * common + variance;
        tally.variance += variance;
        tally.wanted += wanted;
        out.push(moments.y_mean[r] - dot(row, &moments.x_mean));
    }
    out
}
