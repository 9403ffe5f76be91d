//! Attention rollout (Abnar & Zuidema 2020): what a token of the last layer takes from the tokens of the input, if every layer
//! adds to each token the mean of what its heads attend to; and relevance (Chefer, Gur & Wolf 2021), the same of maps that are weighted by
//! gradients.

use super::layer::Layer;
use egret::{Error, Result};

/// What the tokens of the last layer have from those of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// How many tokens there are.
    pub size: usize,
    /// A row per token of the last layer. That of a [`rollout`] sums to 1, that of a [`relevance`] to 1 or more.
    pub shares: Vec<f64>,
}

impl Rollout {
    /// What a token takes from each token of the input.
    ///
    /// # Errors
    /// There is no such token.
    pub fn of(&self, token: usize) -> Result<&[f64]> {
        let n = self.size;
        if token < n {
            return Ok(&self.shares[token * n..(token + 1) * n]);
        }
        Err(Error::user(format!("no token {token}: there are {n}, counted from 0")))
    }
}

/// The product over the layers of `(mean of the heads + identity)`, rows normalised. A query that sees no key keeps what it is.
///
/// # Errors
/// A layer that is no self-attention over the same tokens of one sample.
pub fn rollout(layers: &[Layer]) -> Result<Rollout> {
    let size = tokens("rollout", layers)?;
    let mut product = identity(size);
    for layer in layers {
        let mut step = layer.mean();
        for (i, row) in step.chunks_exact_mut(size.max(1)).enumerate() {
            row[i] += 1.0;
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        product = times(size, &step, &product);
    }
    Ok(Rollout { size, shares: product })
}

/// Relevance from layers whose maps are weighted by gradients ([`super::Weighted::maps`]): R = R + (mean of the heads) R, from the identity
/// on, layer by layer (Chefer, Gur & Wolf 2021, equations 5 and 6).
///
/// # Errors
/// As [`rollout`].
pub fn relevance(weighted: &[Layer]) -> Result<Rollout> {
    let size = tokens("relevance", weighted)?;
    let mut relevance = identity(size);
    for layer in weighted {
        let more = times(size, &layer.mean(), &relevance);
        relevance.iter_mut().zip(more).for_each(|(r, m)| *r += m);
    }
    Ok(Rollout { size, shares: relevance })
}

fn identity(size: usize) -> Vec<f64> {
    (0..size * size).map(|i| f64::from(i / size == i % size)).collect()
}

/// The product of two square matrices.
fn times(size: usize, left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for (to, row) in out.chunks_exact_mut(size.max(1)).zip(left.chunks_exact(size.max(1))) {
        for (by, from) in row.iter().zip(right.chunks_exact(size.max(1))) {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += by * f);
        }
    }
    out
}

/// How many tokens all layers are about.
fn tokens(what: &str, layers: &[Layer]) -> Result<usize> {
    let size = layers.first().map_or(0, Layer::queries);
    let fits = |l: &Layer| {
        let lead = &l.shape[..l.shape.len().saturating_sub(2)];
        l.queries() == size && l.keys() == size && (lead.len() < 2 || lead[0] == 1)
    };
    let other: Vec<String> = layers
        .iter()
        .enumerate()
        .filter(|(_, l)| !fits(l))
        .map(|(i, l)| format!("{i} `{}` {:?}", l.name, l.shape))
        .collect();
    if !other.is_empty() {
        return Err(Error::user(format!(
            "{what} is for self-attention over the same tokens in all layers, of one sample ({size} tokens in the first); not so: {}",
            other.join(", ")
        )));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(shape: &[usize], shares: Vec<f64>) -> Layer {
        Layer { name: "Softmax:/s".into(), fused: true, wide: false, shape: shape.to_vec(), shares }
    }

    #[test]
    fn tokens_that_attend_to_themselves_stay() {
        let identity = vec![1.0, 0.0, 0.0, 1.0];
        let l = layer(&[1, 2, 2, 2], [identity.clone(), identity.clone()].concat());
        assert_eq!(rollout(&[l.clone(), l]).unwrap().shares, identity);
        // One that sees nothing stays as well.
        let blind = layer(&[2, 2], vec![f64::NAN, f64::NAN, 0.0, 1.0]);
        assert_eq!(rollout(&[blind]).unwrap().shares, identity);
    }

    #[test]
    fn two_layers_by_hand() {
        // Heads that look at token 0 and at token 1: the mean is a half, with the identity [3/4, 1/4], [1/4, 3/4].
        let even = layer(&[1, 2, 2, 2], vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        // Then token 0 stays and token 1 takes all from token 0: [1, 0], [1/2, 1/2].
        let first = layer(&[1, 1, 2, 2], vec![1.0, 0.0, 1.0, 0.0]);
        let r = rollout(&[even, first]).unwrap();
        assert_eq!(r.shares, [0.75, 0.25, 0.5, 0.5]);
        assert_eq!(r.of(1).unwrap(), [0.5, 0.5]);
        assert_eq!(r.of(2).unwrap_err().message, "no token 2: there are 2, counted from 0");
    }

    #[test]
    fn relevance_of_two_layers_by_hand() {
        let first = layer(&[1, 2, 2, 2], vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0]);
        let second = layer(&[1, 1, 2, 2], vec![0.0, 2.0, 0.0, 0.0]);
        // The first has the mean [1/2, 1/2], [0, 1]: R is [3/2, 1/2], [0, 2]. The second adds twice row 1 to row 0.
        assert_eq!(relevance(&[first, second]).unwrap().shares, [1.5, 4.5, 0.0, 2.0]);
    }

    #[test]
    fn what_is_no_chain_of_self_attention_is_refused() {
        let square = layer(&[1, 1, 2, 2], vec![0.5; 4]);
        for other in [layer(&[1, 1, 2, 3], vec![0.3; 6]), layer(&[2, 1, 2, 2], vec![0.5; 8])] {
            let e = rollout(&[square.clone(), other]).unwrap_err();
            assert!(e.message.contains("not so: 1 `Softmax:/s` ["), "{}", e.message);
        }
    }
}
