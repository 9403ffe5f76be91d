//! Layers that read channels: what the removal of a channel costs them when the others make up for it.

use crate::channels::score::Scores;
use crate::methods::{Method, Normal, least};
use crate::moments::Moments;
use egret::linalg::{axpy, dot, inverse_factor, solve_rows};

/// What is left of a row is scaled by no more than this, nor by less than one over it.
pub const MOST: f64 = 2.0;
/// Multiply-adds that the costs of all channels may take until all of them are gone; with more, columns are looked at one by one.
const BLOCK_WORK: usize = 1 << 34;

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
    /// Columns that never change; none where only norms count.
    dead: Vec<bool>,
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
        let (mut w, mut p, mut dead) = (weights.to_vec(), vec![], vec![false; n]);
        let mut whole: f64 = moments.yy.iter().sum();
        if method.name() == "obc" {
            let normal = Normal::new(weights, moments, damping)?;
            w = solve_rows(&normal.b, &normal.u, n);
            let mut unit = vec![0.0; n * n];
            (0..n).for_each(|i| unit[i * n + i] = 1.0);
            p = solve_rows(&unit, &normal.u, n);
            dead = normal.dead;
        } else {
            whole = w.iter().enumerate().map(|(i, w)| w.abs() * norms[i % n]).sum();
        }
        Some(Reader { w, p, norms, n, of, dead, whole: if whole > 0.0 { whole } else { 1.0 } })
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
            let list: Vec<usize> = list.iter().copied().filter(|&j| !self.dead[j]).collect();
            let cost = self.block(&list).unwrap_or_else(|| list.iter().map(|&j| columns[j]).sum());
            cost / self.whole
        };
        self.of.iter().map(of).collect()
    }

    /// What it costs when several columns go at once: `tr(W_S inv(P_S) W_S^T)`. `None` where each is looked at by itself: of one, where norms
    /// count, and where it would take too long.
    fn block(&self, list: &[usize]) -> Option<f64> {
        let (n, s) = (self.n, list.len());
        let work = (self.w.len() / n + s) * s * s;
        if s < 2 || self.p.is_empty() || work.saturating_mul(self.of.len() * self.of.len()) > BLOCK_WORK {
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

/// [`least`] of a layer in one group.
pub fn solve<'a>(
    weights: &'a [f64],
    kept: &'a [usize],
) -> impl Fn(&[Moments], f64) -> Option<Vec<f64>> + 'a {
    |moments, damping| least(weights, moments.first()?, damping, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damping::tests::{N, moments};
    use crate::methods::DAMPING;
    use egret::ir::rng::Rng;
    use egret::linalg::times;

    #[test]
    fn a_channel_of_several_columns_costs_what_the_loss_rises_by() {
        let mut rng = Rng::new(10);
        let weights: Vec<f64> = (0..N).map(|_| rng.signed_f64()).collect();
        let moments = moments(&mut rng, &weights, 40, 1.0, 0.3).remove(0);
        let of = vec![vec![0, 7, 3], vec![1], vec![11, 2, 4, 5], vec![6, 8]];
        let normal = Normal::new(&weights, &moments, DAMPING).expect("positive");
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
}
