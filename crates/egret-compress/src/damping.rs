//! Damping: how hard the weights of a layer are pulled to what they were. A layer of many inputs that few samples tell of is fitted to these
//! samples and no others unless it is pulled hard; samples that it is not fitted to say how hard.

use crate::data::original::Seen;
use crate::data::restore::{Tally, restore};
use crate::methods::DAMPING;
use crate::moments::Moments;
use egret::linalg::{dot, times};

/// What may be chosen, softest first.
const DAMPINGS: [f64; 4] = [DAMPING, 0.3, 1.0, 3.0];
/// Which is tried first.
const FIRST: usize = 2;

/// A layer that was fitted to some samples, and what others say of it.
pub struct Held {
    /// Its weights, scaled.
    pub weights: Vec<f64>,
    /// What its bias is to be greater by than none.
    pub shift: Vec<f64>,
    /// The mean square of what changed in its outputs on the other samples, relative to their variance.
    pub error: f64,
}

/// New weights of moments, one of each group, with a damping; `None` where they make no system that can be solved.
pub type Solve<'a> = dyn Fn(&[Moments], f64) -> Option<Vec<f64>> + 'a;

/// Solve a layer for the samples that do not judge, if any do, and scale its rows by no more than `most`.
pub fn held(seen: &Seen, most: f64, damping: f64, solve: &Solve<'_>) -> Option<Held> {
    let (fit, judge) = match &seen.parts {
        Some([fit, judge]) => (fit, judge),
        None => (&seen.all, &seen.all),
    };
    let mut weights = solve(fit, damping)?;
    let size = (weights.len() / fit.len().max(1)).max(1);
    let mut shift = vec![];
    let (mut error, mut whole) = (0.0, 0.0);
    for ((part, fit), judge) in weights.chunks_exact_mut(size).zip(fit).zip(judge) {
        let own = restore(part, fit, most, &mut Tally::default());
        error += lost(part, &own, judge);
        whole += judge.yy.iter().sum::<f64>();
        shift.extend(own);
    }
    let error = match error / whole {
        _ if whole <= 0.0 => 0.0,
        error if error.is_finite() => error.max(0.0),
        // What overflowed is as bad as can be.
        _ => f64::INFINITY,
    };
    Some(Held { weights, shift, error })
}

/// The mean square of what changed in outputs, summed over the rows of a group.
fn lost(weights: &[f64], shift: &[f64], judge: &Moments) -> f64 {
    let n = judge.x_mean.len();
    let mut image = vec![0.0; n];
    let mut out = 0.0;
    for (r, row) in weights.chunks_exact(n.max(1)).enumerate() {
        times(row, &judge.xx, &mut image);
        let mean = dot(row, &judge.x_mean) + shift[r] - judge.y_mean[r];
        let common = dot(row, &judge.yx[r * n..(r + 1) * n]);
        out += judge.yy[r] - 2.0 * common + dot(row, &image) + mean * mean;
    }
    out
}

/// The damping with which a layer, solved for most of the samples, does best on the others: from [`FIRST`] on, as long as the error falls.
pub fn best(seen: &Seen, most: f64, solve: &Solve<'_>) -> f64 {
    if seen.parts.is_none() {
        return DAMPING;
    }
    let error = |damping: f64| held(seen, most, damping, solve).map_or(f64::INFINITY, |h| h.error);
    let (softer, harder) = (&DAMPINGS[..FIRST], &DAMPINGS[FIRST + 1..]);
    let mut best = (error(DAMPINGS[FIRST]), DAMPINGS[FIRST]);
    for way in [softer.iter().rev().copied().collect(), harder.to_vec()] as [Vec<f64>; 2] {
        let before = best.0;
        for damping in way {
            let error = error(damping);
            if error >= best.0 {
                break;
            }
            best = (error, damping);
        }
        if best.0 < before {
            break;
        }
    }
    if best.0.is_finite() { best.1 } else { DAMPING }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::methods::least;
    use crate::moments::Sums;
    use egret::ir::rng::Rng;

    /// Inputs of a layer.
    pub const N: usize = 12;

    /// What so many rows say of a layer whose outputs are `scale` times what its weights give, and noise.
    pub fn moments(rng: &mut Rng, weights: &[f64], rows: usize, scale: f64, noise: f64) -> Vec<Moments> {
        let mut sums = Sums::new(N, 1);
        for _ in 0..rows {
            let values: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
            let (x, y) = sums.row();
            x.iter_mut().zip(&values).for_each(|(x, v)| *x = *v as f32);
            y[0] = (scale * dot(weights, &values) + noise * rng.signed_f64()) as f32;
        }
        vec![sums.finish().expect("rows")]
    }

    #[test]
    fn weights_are_pulled_as_hard_as_does_well_on_samples_that_they_were_not_fitted_to() {
        let mut rng = Rng::new(8);
        let weights: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
        let all: Vec<usize> = (0..N).collect();
        let mut chosen = |rows: usize, scale: f64, noise: f64| {
            let [fit, judge] = [rows, 400].map(|rows| moments(&mut rng, &weights, rows, scale, noise));
            let seen = Seen { all: fit.clone(), parts: Some([fit, judge]) };
            let solve = |m: &[Moments], damping| least(&weights, m.first()?, damping, &all);
            let errors = DAMPINGS.map(|d| held(&seen, 2.0, d, &solve).expect("a fit").error);
            let chosen = best(&seen, 2.0, &solve);
            let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(errors[DAMPINGS.iter().position(|d| *d == chosen).expect("one of them")], least);
            chosen
        };
        // Few rows and noise: what they were is the best guess. Many rows: what the rows say.
        assert_eq!(chosen(14, 1.0, 2.0), DAMPINGS[3]);
        assert_eq!(chosen(4000, -1.0, 0.0), DAMPINGS[0]);
        let seen = Seen { all: moments(&mut rng, &weights, 9, 1.0, 0.0), parts: None };
        let solve = |_: &[Moments], _| -> Option<Vec<f64>> { panic!("nothing is to be tried") };
        assert_eq!(best(&seen, 2.0, &solve), DAMPING, "no samples judge");
    }

    #[test]
    fn what_is_held_back_sees_a_fit_that_is_exact_where_it_was_made() {
        let mut rng = Rng::new(9);
        let weights: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
        let [fit, judge] = [6, 400].map(|rows| moments(&mut rng, &weights, rows, 1.0, 0.0));
        // Six rows are explained by six inputs, whatever the others were.
        let kept: Vec<usize> = (6..N).collect();
        let solve = |m: &[Moments], damping| least(&weights, m.first()?, damping, &kept);
        let error = |parts| held(&Seen { all: vec![], parts: Some(parts) }, 2.0, 1e-9, &solve);
        let own = error([fit.clone(), fit.clone()]).expect("a fit").error;
        let other = error([fit, judge]).expect("a fit").error;
        assert!(own < 1e-3 && other > 0.1, "{own} {other}");
    }
}
