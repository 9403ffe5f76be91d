//! KernelSHAP: Shapley values by weighted least squares (Lundberg and Lee 2017, "A unified approach to interpreting model predictions").
//!
//! A set of s of the n segments weighs (n - 1) / (C(n, s) s (n - s)); the sets of none and of all, which weigh without bound, are constraints:
//! the constant is the score of the baseline, and the values add up to the difference. Over all sets the solution is the Shapley values.
//! With fewer, whole sizes are taken from both ends as far as they fit, and the others are drawn, each set with its complement.

use crate::least_squares::Row;
use egret::ir::rng::Rng;

/// Up to here 2^n is counted.
const BITS: usize = 40;

/// Whether so many sets hold all there are, but those of none and of all.
pub(crate) fn complete(n: usize, samples: usize) -> bool {
    n < BITS && (1usize << n) - 2 <= samples
}

/// Of a size how much its sets weigh together.
fn mass(n: usize, size: usize) -> f64 {
    (n - 1) as f64 / (size * (n - size)) as f64
}

/// How many sets have a size.
fn sets(n: usize, size: usize) -> f64 {
    (0..size).map(|i| (n - i) as f64 / (i + 1) as f64).product::<f64>().round()
}

/// Up to `samples` sets, which are at least 2 n or all that there are: those of one segment, and of all but one, are among them.
pub(crate) fn rows(n: usize, samples: usize, seed: u64) -> Vec<Row> {
    let mut out = vec![];
    let mut left = samples;
    // Sizes up to the half; the other half are their complements.
    let mut sizes: Vec<usize> = (1..=n / 2).collect();
    let of_pair = |s: usize| mass(n, s) * if 2 * s == n { 1.0 } else { 2.0 };
    let count = |s: usize| sets(n, s) * if 2 * s == n { 1.0 } else { 2.0 };
    while let Some(&size) = sizes.first() {
        let rest: f64 = sizes.iter().map(|&s| of_pair(s)).sum();
        let due = left as f64 * of_pair(size) / rest >= count(size) * (1.0 - 1e-9);
        if !(due || size == 1 || complete(n, samples)) {
            break;
        }
        each(n, size, |members| {
            let weight = mass(n, size) / sets(n, size);
            let other = complement(n, members);
            out.push(Row { members: members.to_vec(), weight, drawn: false });
            if 2 * size != n {
                out.push(Row { members: other, weight, drawn: false });
            }
        });
        left = left.saturating_sub(count(size) as usize);
        sizes.remove(0);
    }
    let pairs = left / 2;
    let rest: f64 = sizes.iter().map(|&s| of_pair(s)).sum();
    let mut rng = Rng::new(seed);
    for _ in 0..if sizes.is_empty() { 0 } else { pairs } {
        let mut at = f64::from(rng.unit()) * rest;
        let beyond = |s: &&usize| {
            at -= of_pair(**s);
            at < 0.0
        };
        let size = sizes.iter().find(beyond).or(sizes.last()).copied().unwrap_or(1);
        let members = drawn(n, size, &mut rng);
        let other = complement(n, &members);
        let weight = rest / (2 * pairs) as f64;
        out.extend([members, other].map(|members| Row { members, weight, drawn: true }));
    }
    out
}

/// A set of a size, all alike probable.
fn drawn(n: usize, size: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    (0..size).for_each(|i| all.swap(i, i + rng.below(n - i)));
    all.truncate(size);
    all.sort_unstable();
    all
}

fn complement(n: usize, members: &[usize]) -> Vec<usize> {
    (0..n).filter(|i| members.binary_search(i).is_err()).collect()
}

/// Every set of a size, in order.
fn each(n: usize, size: usize, mut with: impl FnMut(&[usize])) {
    let mut set: Vec<usize> = (0..size).collect();
    loop {
        with(&set);
        let Some(i) = (0..size).rev().find(|&i| set[i] < n - size + i) else { return };
        set[i] += 1;
        (i + 1..size).for_each(|j| set[j] = set[j - 1] + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::least_squares::fit;

    /// Shapley values by their definition.
    fn exactly(n: usize, worth: &dyn Fn(&[usize]) -> f64) -> Vec<f64> {
        let factorial = |k: usize| (1..=k).map(|i| i as f64).product::<f64>();
        let one = |i: usize| {
            let others: Vec<usize> = (0..n).filter(|j| *j != i).collect();
            let sum = (0..1usize << (n - 1)).map(|bits| {
                let set: Vec<usize> =
                    (0..n - 1).filter(|k| bits >> k & 1 == 1).map(|k| others[k]).collect();
                let mut with = set.clone();
                with.push(i);
                with.sort_unstable();
                let weight = factorial(set.len()) * factorial(n - 1 - set.len()) / factorial(n);
                weight * (worth(&with) - worth(&set))
            });
            sum.sum()
        };
        (0..n).map(one).collect()
    }

    fn solved(n: usize, rows: &[Row], worth: &dyn Fn(&[usize]) -> f64) -> crate::least_squares::Fit {
        let y: Vec<f64> = rows.iter().map(|r| worth(&r.members) - worth(&[])).collect();
        let whole: Vec<usize> = (0..n).collect();
        fit(n, rows, &y, |s| s.adding_up_to(worth(&whole) - worth(&[]))).expect("a fit")
    }

    /// A game with products of two, three and all.
    fn game(set: &[usize]) -> f64 {
        let has = |i: usize| f64::from(u8::from(set.contains(&i)));
        3.0 + 2.0 * has(0) - has(1) * has(2) + 4.0 * has(0) * has(3) * has(4) + (set.len() as f64).powi(2)
    }

    #[test]
    fn all_sets_give_shapley_values() {
        for n in [2, 3, 5, 6, 7] {
            let rows = rows(n, 1 << n, 0);
            assert_eq!(rows.len(), (1 << n) - 2, "{n}");
            let found = solved(n, &rows, &game);
            assert!(found.errors.is_none());
            for (got, want) in found.coefficients.iter().zip(exactly(n, &game)) {
                assert!((got - want).abs() < 1e-9, "{n}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn drawn_sets_are_near_and_know_how_near() {
        let n = 12;
        let exact = exactly(n, &game);
        let mut off = vec![];
        for seed in 0..30 {
            let rows = rows(n, 600, seed);
            // 1 and 11, 2 and 10 are whole: 24 + 132 sets.
            assert_eq!(rows.iter().filter(|r| !r.drawn).count(), 156);
            assert_eq!(rows.len(), 600);
            let total: f64 = rows.iter().map(|r| r.weight).sum();
            assert!((total - (1..n).map(|s| mass(n, s)).sum::<f64>()).abs() < 1e-9);
            let found = solved(n, &rows, &game);
            assert!((found.coefficients.iter().sum::<f64>() - exact.iter().sum::<f64>()).abs() < 1e-9);
            let errors = found.errors.expect("errors");
            // Only segments 0, 3 and 4 play a game of three, which pairs of complements do not cancel.
            for i in [0, 3, 4] {
                assert!(errors[i] > 0.0 && errors[i] < 0.2, "{errors:?}");
                off.push((found.coefficients[i] - exact[i]) / errors[i]);
            }
        }
        // In units of the standard error: a mean near 0, and a spread near 1 (that of a t-distribution).
        let mean = off.iter().sum::<f64>() / off.len() as f64;
        let spread = (off.iter().map(|z| z * z).sum::<f64>() / off.len() as f64).sqrt();
        assert!(mean.abs() < 0.5 && (0.5..2.0).contains(&spread), "{mean}, {spread}");
        assert_eq!(rows(n, 600, 3), rows(n, 600, 3));
        assert_ne!(rows(n, 600, 3), rows(n, 600, 4));
    }
}
