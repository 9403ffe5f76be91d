//! LIME: a linear model near the inputs (Ribeiro, Singh and Guestrin 2016, "Why should I trust you?").
//!
//! Each segment is there or not, by a coin. A sample weighs exp(-d^2 / (2 width^2)), where d is the cosine distance of its zeros and ones to
//! all ones, as in the authors' package (the root of exp(-d^2 / width^2)). Ridge regression with an intercept gives a coefficient for each segment.

use crate::least_squares::Row;
use egret::ir::rng::Rng;

/// `samples` sets: the first is whole.
pub(crate) fn rows(n: usize, samples: usize, width: f64, seed: u64) -> Vec<Row> {
    let mut rng = Rng::new(seed);
    let one = |sample: usize| {
        let members: Vec<usize> = (0..n).filter(|_| sample == 0 || rng.bits() >> 63 == 1).collect();
        let weight = weight(members.len(), n, width);
        Row { members, weight, drawn: true }
    };
    (0..samples).map(one).collect()
}

/// What a sample with so many of the segments weighs.
fn weight(members: usize, n: usize, width: f64) -> f64 {
    let distance = 1.0 - (members as f64 / n as f64).sqrt();
    (-distance * distance / (2.0 * width * width)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::least_squares::fit;

    #[test]
    fn a_linear_model_is_found_and_the_penalty_shrinks_it() {
        let rows = rows(3, 400, 0.25, 5);
        assert_eq!(rows[0].members, [0, 1, 2]);
        let known = [2.0, -1.0, 0.5];
        let y: Vec<f64> =
            rows.iter().map(|r| 7.0 + r.members.iter().map(|&i| known[i]).sum::<f64>()).collect();
        let plain = fit(3, &rows, &y, |s| s.ridge(0.0)).expect("a fit");
        for (got, want) in plain.coefficients.iter().zip([2.0, -1.0, 0.5, 7.0]) {
            assert!((got - want).abs() < 1e-9, "{got}, not {want}");
        }
        let shrunk = fit(3, &rows, &y, |s| s.ridge(20.0)).expect("a fit");
        assert!(shrunk.coefficients[0] < 1.9 && shrunk.coefficients[0] > 0.5, "{:?}", shrunk.coefficients);
    }

    #[test]
    fn the_same_sets_give_what_the_authors_package_gives() {
        let file =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/shap/digit_segments.npz");
        let known = egret::npz::read_npz(&file).expect("the fixture");
        let values = |name: &str| egret::compare::to_f64(&known[name]).expect("numbers");
        let row = |mask: &[f64]| {
            let members: Vec<usize> = (0..9).filter(|&i| mask[i] > 0.0).collect();
            Row { weight: weight(members.len(), 9, 0.25), members, drawn: true }
        };
        let rows: Vec<Row> = values("masks").chunks(9).map(row).collect();
        let found = fit(9, &rows, &values("scores"), |s| s.ridge(0.01)).expect("a fit");
        for (got, want) in found.coefficients.iter().zip(values("lime")) {
            assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        }
    }

    #[test]
    fn weights_by_hand() {
        assert_eq!(weight(4, 4, 0.25), 1.0);
        // One of four: the cosine is 1/2.
        assert!((weight(1, 4, 0.25) - (-2.0f64).exp()).abs() < 1e-15);
        assert!((weight(0, 4, 0.5) - (-2.0f64).exp()).abs() < 1e-15);
    }
}
