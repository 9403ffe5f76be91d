//! Attention rollout (Abnar & Zuidema 2020): what a token of the last layer takes from the tokens of the input, if every layer
//! adds to each token the mean of what its heads attend to.

use super::layer::Layer;
use egret::{Error, Result};

/// Shares of the input's tokens in those of the last layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// How many tokens there are.
    pub size: usize,
    /// A row per token of the last layer; each sums to 1.
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
            "rollout is for self-attention over the same tokens in all layers, of one sample ({size} tokens in the first); not so: {}",
            other.join(", ")
        )));
    }
    let mut product: Vec<f64> = (0..size * size).map(|i| f64::from(i / size == i % size)).collect();
    for layer in layers {
        let mut step = layer.mean();
        for (i, row) in step.chunks_exact_mut(size.max(1)).enumerate() {
            row[i] += 1.0;
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        let mut next = vec![0.0; size * size];
        for (to, row) in next.chunks_exact_mut(size.max(1)).zip(step.chunks_exact(size.max(1))) {
            for (share, from) in row.iter().zip(product.chunks_exact(size.max(1))) {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += share * f);
            }
        }
        product = next;
    }
    Ok(Rollout { size, shares: product })
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
    fn what_is_no_chain_of_self_attention_is_refused() {
        let square = layer(&[1, 1, 2, 2], vec![0.5; 4]);
        for other in [layer(&[1, 1, 2, 3], vec![0.3; 6]), layer(&[2, 1, 2, 2], vec![0.5; 8])] {
            let e = rollout(&[square.clone(), other]).unwrap_err();
            assert!(e.message.contains("not so: 1 `Softmax:/s` ["), "{}", e.message);
        }
    }
}
