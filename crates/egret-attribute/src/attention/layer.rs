//! The maps of one attention, and what a glance at them tells.

use egret::ir::{DType, Tensor};
use egret::{Error, Result};

/// The shares of an attention's heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The ONNX node that it came from.
    pub name: String,
    /// Whether an `attention` was found; else it is a softmax whose product with the values stands apart.
    pub fused: bool,
    /// Whether the model computes it in f64.
    pub wide: bool,
    /// `[.., queries, keys]`: what is before these two are samples, windows and heads.
    pub shape: Vec<usize>,
    /// The shares. Those of a query sum to 1; to 0 or to NaN where it sees no key.
    pub shares: Vec<f64>,
}

/// How much a query takes from a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The head.
    pub head: usize,
    /// The query: which token takes.
    pub query: usize,
    /// The key: from which token.
    pub key: usize,
    /// How much, of 1.
    pub share: f64,
}

impl Layer {
    /// Queries of a head.
    pub fn queries(&self) -> usize {
        self.shape.iter().rev().nth(1).copied().unwrap_or(1)
    }

    /// Keys of a head.
    pub fn keys(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// How many heads there are, those of every sample and window counted.
    pub fn heads(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(2)].iter().product()
    }

    /// The map of a head, a row per query.
    ///
    /// # Errors
    /// There is no such head.
    pub fn head(&self, head: usize) -> Result<&[f64]> {
        let size = self.queries() * self.keys();
        self.shares.get(head * size..(head + 1) * size).filter(|_| head < self.heads()).ok_or_else(|| {
            let (name, heads) = (&self.name, self.heads());
            Error::user(match heads {
                0 => format!("no head {head}: `{name}`, {:?}, has none", self.shape),
                n => format!(
                    "no head {head}: `{name}`, {:?}, has {n}, counted from 0 to {}",
                    self.shape,
                    n - 1
                ),
            })
        })
    }

    /// The mean of all heads. A query that sees nothing in a head takes nothing there.
    pub fn mean(&self) -> Vec<f64> {
        let (size, heads) = (self.queries() * self.keys(), self.heads());
        let mut mean = vec![0.0; size];
        for (i, share) in self.shares.iter().enumerate().filter(|(_, s)| s.is_finite()) {
            mean[i % size] += share / heads as f64;
        }
        mean
    }

    fn rows(&self, head: usize) -> impl Iterator<Item = &[f64]> {
        let (size, keys) = (self.queries() * self.keys(), self.keys());
        let map = self.shares.get(head * size..(head + 1) * size).unwrap_or(&[]);
        map.chunks_exact(keys.max(1))
    }

    /// Queries that see no key, of all heads.
    pub fn blind(&self) -> usize {
        (0..self.heads()).map(|h| self.rows(h).filter(|r| !sees(r)).count()).sum()
    }

    /// The mean entropy of a head's rows in nats, those of queries that see no key left out; `None` where no query sees one.
    pub fn entropy(&self, head: usize) -> Option<f64> {
        let one = |row: &[f64]| row.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum::<f64>();
        let list: Vec<f64> = self.rows(head).filter(|r| sees(r)).map(one).collect();
        // Rows of one share have an entropy of -0.
        (!list.is_empty()).then(|| (list.iter().sum::<f64>() / list.len() as f64).max(0.0))
    }

    /// What the entropy can be at most: that of equal shares for all keys.
    pub fn most_entropy(&self) -> f64 {
        (self.keys() as f64).ln()
    }

    /// The largest shares of a head, the largest first. A query that sees one key only has no choice, and is left out.
    pub fn strongest(&self, head: usize, count: usize) -> Vec<Pair> {
        let chosen = self
            .rows(head)
            .enumerate()
            .filter(|(_, row)| row.iter().filter(|&&p| p > 0.0).count() > 1 && sees(row));
        let mut pairs: Vec<Pair> = chosen
            .flat_map(|(query, row)| {
                row.iter().enumerate().map(move |(key, &share)| Pair { head, query, key, share })
            })
            .collect();
        pairs.sort_by(|a, b| b.share.total_cmp(&a.share).then((a.query, a.key).cmp(&(b.query, b.key))));
        pairs.truncate(count);
        pairs
    }

    /// The largest share of all heads, the first of equal ones; `None` where all are 0.
    pub fn strongest_of_all(&self) -> Option<Pair> {
        let (size, keys) = (self.queries() * self.keys(), self.keys());
        let larger = |best: Option<(usize, f64)>, (i, &v): (usize, &f64)| match best {
            Some((_, b)) if b >= v => best,
            _ => Some((i, v)),
        };
        let (i, share) = self.shares.iter().enumerate().filter(|(_, v)| **v > 0.0).fold(None, larger)?;
        Some(Pair { head: i / size, query: i % size / keys, key: i % keys, share })
    }

    /// The maps of some heads as a tensor `[queries, keys]` each: f64 where the model is, else f32.
    ///
    /// # Errors
    /// There is no such head.
    pub fn tensor(&self, head: usize) -> Result<Tensor> {
        let dtype = if self.wide { DType::F64 } else { DType::F32 };
        Ok(Tensor::from_f64s(dtype, &[self.queries(), self.keys()], self.head(head)?.to_vec()))
    }
}

/// Whether a query has shares at all.
fn sees(row: &[f64]) -> bool {
    let sum: f64 = row.iter().sum();
    sum.is_finite() && sum > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(shape: &[usize], shares: Vec<f64>) -> Layer {
        Layer { name: "Softmax:/s".into(), fused: true, wide: false, shape: shape.to_vec(), shares }
    }

    #[test]
    fn entropy_is_0_for_one_share_and_the_most_for_equal_ones() {
        let l = layer(&[1, 3, 1, 4], [[0.0, 1.0, 0.0, 0.0], [0.25; 4], [f64::NAN; 4]].concat());
        assert_eq!(l.entropy(0), Some(0.0));
        assert!((l.entropy(1).unwrap() - l.most_entropy()).abs() < 1e-15);
        assert_eq!((l.entropy(2), l.blind()), (None, 1));
        let l = layer(&[2, 1, 2], vec![0.25, 0.75, f64::NAN, f64::NAN]);
        assert_eq!(l.mean(), [0.125, 0.375]);
    }

    #[test]
    fn the_strongest_pairs_are_choices() {
        // The first query sees one key only, as under a causal mask.
        let l = layer(&[2, 3], vec![1.0, 0.0, 0.0, 0.25, 0.75, 0.0]);
        let of = |p: Pair| (p.query, p.key, p.share);
        let list: Vec<_> = l.strongest(0, 2).into_iter().map(of).collect();
        assert_eq!(list, [(1, 1, 0.75), (1, 0, 0.25)]);
        let e = l.head(1).unwrap_err();
        assert_eq!(e.message, "no head 1: `Softmax:/s`, [2, 3], has 1, counted from 0 to 0");
    }
}
