//! Steps of the weights, in f32 and in the order of the weights.

use std::str::FromStr;

/// How a step follows from a gradient.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW,
}

impl Optimizer {
    /// The spelling on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Optimizer::Sgd => "sgd",
            Optimizer::AdamW => "adamw",
        }
    }
}

impl FromStr for Optimizer {
    type Err = String;
    fn from_str(s: &str) -> Result<Optimizer, String> {
        match s {
            "sgd" => Ok(Optimizer::Sgd),
            "adamw" => Ok(Optimizer::AdamW),
            _ => Err(format!("no optimiser `{s}`; there are sgd, adamw")),
        }
    }
}

/// AdamW: how slowly the means of gradients and of their squares change, and what is added to the root of the latter.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// The settings of the steps.
#[derive(Copy, Clone, Debug)]
pub struct Steps {
    /// Which.
    pub optimizer: Optimizer,
    /// Their length.
    pub rate: f64,
    /// Of SGD.
    pub momentum: f64,
    /// How weights shrink: of SGD a part of the gradient, of AdamW apart from it.
    pub decay: f64,
}

/// What is kept of the steps before, by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps done.
    pub steps: u64,
    /// SGD: the step before. AdamW: the mean of gradients.
    pub first: Vec<Vec<f32>>,
    /// AdamW: the mean of their squares.
    pub second: Vec<Vec<f32>>,
}

impl State {
    /// The state before the first step.
    pub fn new(weights: &[Vec<f32>]) -> State {
        let zeros: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
        State { steps: 0, first: zeros.clone(), second: zeros }
    }

    /// Change the weights by one step.
    pub fn step(&mut self, by: &Steps, weights: &mut [Vec<f32>], gradients: &[Vec<f32>]) {
        self.steps += 1;
        let rate = by.rate as f32;
        let places = weights.iter_mut().zip(gradients).zip(self.first.iter_mut().zip(&mut self.second));
        match by.optimizer {
            Optimizer::Sgd => {
                let (momentum, decay) = (by.momentum as f32, by.decay as f32);
                for ((weights, gradients), (first, _)) in places {
                    for ((w, g), v) in weights.iter_mut().zip(gradients).zip(first) {
                        *v = momentum * *v + (g + decay * *w);
                        *w -= rate * *v;
                    }
                }
            }
            Optimizer::AdamW => {
                let shrink = (1.0 - by.rate * by.decay) as f32;
                let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
                let [one, two] = BETAS.map(|b| (1.0 / (1.0 - b.powi(power))) as f32);
                let [b1, b2] = BETAS.map(|b| b as f32);
                let [c1, c2] = BETAS.map(|b| (1.0 - b) as f32);
                for ((weights, gradients), (first, second)) in places {
                    let moments = first.iter_mut().zip(second);
                    for ((w, g), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
                        *m = b1 * *m + c1 * g;
                        *v = b2 * *v + c2 * g * g;
                        *w = shrink * *w - rate * (*m * one) / ((*v * two).sqrt() + EPSILON);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps from 1 with gradients 0.5, -0.25, 1; PyTorch's formulas written out in f64.
    #[test]
    fn steps_are_those_of_their_formulas() {
        let gradients = [0.5f64, -0.25, 1.0];
        let run = |optimizer| {
            let by = Steps { optimizer, rate: 0.1, momentum: 0.9, decay: 0.01 };
            let mut weights = vec![vec![1f32]];
            let mut state = State::new(&weights);
            gradients.iter().for_each(|g| state.step(&by, &mut weights, &[vec![*g as f32]]));
            assert_eq!(state.steps, 3);
            f64::from(weights[0][0])
        };
        let (mut w, mut v) = (1.0, 0.0);
        for g in gradients {
            v = 0.9 * v + g + 0.01 * w;
            w -= 0.1 * v;
        }
        assert!((run(Optimizer::Sgd) - w).abs() < 1e-6, "{w}");
        let (mut w, mut m, mut v) = (1.0, 0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            w *= 1.0 - 0.1 * 0.01;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m, v): (f64, f64) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            w -= 0.1 * m / (v.sqrt() + 1e-8);
        }
        assert!((run(Optimizer::AdamW) - w).abs() < 1e-6, "{w}");
    }
}
