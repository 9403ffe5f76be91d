//! Layers that read channels: what the removal of a channel costs them when the others make up for it, and how well they are fitted then.

use crate::channels::score::Scores;
use crate::data::original::Seen;
use crate::data::restore::{Tally, restore};
use crate::linalg::{axpy, dot, inverse_factor, solve_rows, times};
use crate::methods::{DAMPING, Method, Normal};
use crate::moments::Moments;

/// What is left of a row is scaled by no more than this, nor by less than one over it.
pub const MOST: f64 = 2.0;
/// How hard weights may be pulled to what they were. A layer of many inputs that few samples tell of is fitted to these samples and no others
/// unless it is pulled hard.
const DAMPINGS: [f64; 4] = [DAMPING, 0.3, 1.0, 3.0];

/// Multiply-adds that the cost of one channel may take.
const BLOCK_WORK: usize = 1 << 20;

/// A layer that reads channels of a group.
pub struct Reader {
    /// Its weights, with nothing removed or with what others make up for.
    w: Vec<f64>,
    /// The inverse of the covariance of its inputs; empty where only norms count.
    p: Vec<f64>,
    /// Norms of its inputs.
    norms: Vec<f64>,
    n: usize,
    /// The columns of each channel.
    of: Vec<Vec<usize>>,
    whole: f64,
}

impl Reader {
    /// Of a layer with these weights and moments; `None` where they make no system that can be solved.
    pub fn new(
        weights: &[f64],
        moments: &Moments,
        of: Vec<Vec<usize>>,
        method: Method,
        damping: f64,
    ) -> Option<Reader> {
        let n = moments.x_mean.len();
        let norms = moments.x_norms();
        let (mut w, mut p) = (weights.to_vec(), vec![]);
        let mut whole: f64 = moments.yy.iter().sum();
        if method.name() == "obc" {
            let normal = Normal::damped(weights, moments, damping)?;
            w = solve_rows(&normal.b, &normal.u, n);
            let mut unit = vec![0.0; n * n];
            (0..n).for_each(|i| unit[i * n + i] = 1.0);
            p = solve_rows(&unit, &normal.u, n);
        } else {
            whole = w.iter().enumerate().map(|(i, w)| w.abs() * norms[i % n]).sum();
        }
        Some(Reader { w, p, norms, n, of, whole: if whole > 0.0 { whole } else { 1.0 } })
    }

    /// What each channel costs, relative to all.
    pub fn costs(&self) -> Vec<f64> {
        let n = self.n;
        // Row by row, as the weights stand.
        let mut columns = vec![0.0; n];
        for row in self.w.chunks_exact(n.max(1)) {
            match self.p.is_empty() {
                true => columns.iter_mut().zip(row).for_each(|(c, w)| *c += w.abs()),
                false => columns.iter_mut().zip(row).for_each(|(c, w)| *c += w * w),
            }
        }
        for (j, column) in columns.iter_mut().enumerate() {
            match self.p.get(j * n + j) {
                None => *column *= self.norms[j],
                Some(diagonal) => *column /= diagonal,
            }
        }
        let of = |list: &Vec<usize>| {
            let cost = self.block(list).unwrap_or_else(|| list.iter().map(|&j| columns[j]).sum());
            cost / self.whole
        };
        self.of.iter().map(of).collect()
    }

    /// What it costs when several columns go at once: `tr(W_S inv(P_S) W_S^T)`. `None` where each is looked at by itself: of one, where norms
    /// count, and where it would take too long.
    fn block(&self, list: &[usize]) -> Option<f64> {
        let (n, s) = (self.n, list.len());
        if s < 2 || self.p.is_empty() || self.w.len() / n * s * s > BLOCK_WORK {
            return None;
        }
        let part = |row: &[f64]| list.iter().map(|&j| row[j]).collect::<Vec<f64>>();
        let p: Vec<f64> = list.iter().flat_map(|&i| part(&self.p[i * n..(i + 1) * n])).collect();
        let w: Vec<f64> = self.w.chunks_exact(n).flat_map(part).collect();
        Some(dot(&solve_rows(&w, &inverse_factor(&p, s)?, s), &w))
    }

    /// Take a channel away: the others make up for it.
    fn remove(&mut self, channel: usize) {
        let n = self.n;
        for &j in &self.of[channel].clone() {
            let line = self.p[j * n..(j + 1) * n].to_vec();
            let pivot = line[j];
            for row in self.w.chunks_exact_mut(n) {
                let factor = row[j] / pivot;
                axpy(row, -factor, &line);
                row[j] = 0.0;
            }
            for (i, row) in self.p.chunks_exact_mut(n).enumerate() {
                if i != j && row[j] != 0.0 {
                    let factor = row[j] / pivot;
                    axpy(row, -factor, &line);
                    row[j] = 0.0;
                }
            }
            self.p[j * n..(j + 1) * n].fill(0.0);
            self.p[j * n + j] = 1.0;
        }
    }
}

/// What each channel costs all layers that read it.
pub fn costs(readers: &[Reader], channels: usize) -> Vec<f64> {
    let mut out = vec![0.0; channels];
    for reader in readers {
        out.iter_mut().zip(reader.costs()).for_each(|(out, cost)| *out += cost);
    }
    out
}

/// Scores that rise in the order in which the cheapest channel goes, one at a time; all behind `count` stay.
pub fn greedy(readers: &mut [Reader], channels: usize, count: usize) -> Scores {
    let mut out = vec![f64::INFINITY; channels];
    let mut score = 0f64;
    for _ in 0..count {
        let costs = costs(readers, channels);
        let left = (0..channels).filter(|&k| out[k].is_infinite()).map(|k| (costs[k], k));
        let Some((cost, next)) = left.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else { break };
        // One that goes later never counts as cheaper, and ties keep their order.
        score = cost.max(score.next_up());
        out[next] = score;
        readers.iter_mut().for_each(|r| r.remove(next));
    }
    out
}

/// The weights that are best without the columns that are not kept, pulled to what they were.
pub fn least(weights: &[f64], moments: &Moments, damping: f64, kept: &[usize]) -> Option<Vec<f64>> {
    let n = moments.x_mean.len();
    let normal = Normal::damped(weights, moments, damping)?;
    let part = |row: &[f64]| -> Vec<f64> { kept.iter().map(|&j| row[j]).collect() };
    let h: Vec<f64> = kept.iter().flat_map(|&i| part(&normal.h[i * n..(i + 1) * n])).collect();
    let b: Vec<f64> = normal.b.chunks_exact(n).flat_map(part).collect();
    let solved = solve_rows(&b, &inverse_factor(&h, kept.len())?, kept.len());
    let mut out = vec![0.0; weights.len()];
    for (row, solved) in out.chunks_exact_mut(n).zip(solved.chunks_exact(kept.len())) {
        kept.iter().zip(solved).for_each(|(&j, v)| row[j] = *v);
    }
    Some(out)
}

/// A layer that was fitted to some samples, and what others say of it.
pub struct Held {
    /// Its weights, scaled.
    pub weights: Vec<f64>,
    /// What its bias is to be greater by than none.
    pub shift: Vec<f64>,
    /// The mean square of what changed in its outputs on the other samples, relative to their variance.
    pub error: f64,
}

/// Fit a layer as [`least`] does to the samples that do not judge, if any do.
pub fn held(weights: &[f64], seen: &Seen, damping: f64, kept: &[usize]) -> Option<Held> {
    let (fit, judge) = match &seen.parts {
        Some([fit, judge]) => (fit.first()?, judge.first()?),
        None => (seen.all.first()?, seen.all.first()?),
    };
    let mut weights = least(weights, fit, damping, kept)?;
    let shift = restore(&mut weights, fit, MOST, &mut Tally::default());
    let n = judge.x_mean.len();
    let mut image = vec![0.0; n];
    let (mut error, mut whole) = (0.0, 0.0);
    for (r, row) in weights.chunks_exact(n.max(1)).enumerate() {
        times(row, &judge.xx, &mut image);
        let mean = dot(row, &judge.x_mean) + shift[r] - judge.y_mean[r];
        error +=
            judge.yy[r] - 2.0 * dot(row, &judge.yx[r * n..(r + 1) * n]) + dot(row, &image) + mean * mean;
        whole += judge.yy[r];
    }
    let error = if whole > 0.0 { (error / whole).max(0.0) } else { 0.0 };
    Some(Held { weights, shift, error })
}

/// The damping with which a layer without some columns, fitted to most of the samples, does best on the others.
pub fn damping(weights: &[f64], seen: &Seen, kept: &[usize]) -> f64 {
    if seen.parts.is_none() || kept.is_empty() {
        return DAMPING;
    }
    let error = |damping: f64| held(weights, seen, damping, kept).map_or(f64::INFINITY, |h| h.error);
    let errors = DAMPINGS.map(|damping| (error(damping), damping));
    errors.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(DAMPING, |best| best.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::Sums;
    use egret::ir::rng::Rng;

    const N: usize = 12;

    /// What so many rows say of a layer whose outputs are `scale` times what its weights give, and noise.
    fn moments(rng: &mut Rng, weights: &[f64], rows: usize, scale: f64, noise: f64) -> Vec<Moments> {
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
            let errors = DAMPINGS.map(|d| held(&weights, &seen, d, &all).expect("a fit").error);
            assert!(errors.iter().all(|e| e.is_finite()), "{errors:?}");
            damping(&weights, &seen, &all)
        };
        // Few rows and noise: what they were is the best guess. Many rows: what the rows say.
        assert_eq!(chosen(14, 1.0, 2.0), DAMPINGS[3]);
        assert_eq!(chosen(4000, -1.0, 0.0), DAMPINGS[0]);
        let seen = Seen { all: moments(&mut rng, &weights, 9, 1.0, 0.0), parts: None };
        assert_eq!(damping(&weights, &seen, &all), DAMPING, "no samples judge");
    }

    #[test]
    fn a_channel_of_several_columns_costs_what_the_loss_rises_by() {
        let mut rng = Rng::new(10);
        let weights: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
        let moments = moments(&mut rng, &weights, 40, 1.0, 0.3).remove(0);
        let of = vec![vec![0, 7, 3], vec![1], vec![11, 2, 4, 5], vec![6, 8]];
        let normal = Normal::damped(&weights, &moments, DAMPING).expect("positive");
        let loss = |w: &[f64]| {
            let mut image = vec![0.0; N];
            times(w, &normal.h, &mut image);
            dot(w, &image) - 2.0 * dot(w, &normal.b)
        };
        let new = || Reader::new(&weights, &moments, of.clone(), Method::OBC, DAMPING).expect("a reader");
        for k in 0..of.len() {
            let mut reader = new();
            let (cost, before) = (reader.costs()[k] * reader.whole, loss(&reader.w));
            reader.remove(k);
            let rise = loss(&reader.w) - before;
            assert!((rise - cost).abs() < 1e-9 * (1.0 + cost), "{k}: {rise}, not {cost}");
        }
    }

    #[test]
    fn what_is_held_back_sees_a_fit_that_is_exact_where_it_was_made() {
        let mut rng = Rng::new(9);
        let weights: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
        let [fit, judge] = [6, 400].map(|rows| moments(&mut rng, &weights, rows, 1.0, 0.0));
        // Six rows are explained by six inputs, whatever the others were.
        let kept: Vec<usize> = (6..N).collect();
        let error = |parts| held(&weights, &Seen { all: vec![], parts: Some(parts) }, 1e-9, &kept);
        let own = error([fit.clone(), fit.clone()]).expect("a fit").error;
        let other = error([fit, judge]).expect("a fit").error;
        assert!(own < 1e-3 && other > 0.1, "{own} {other}");
    }
}
