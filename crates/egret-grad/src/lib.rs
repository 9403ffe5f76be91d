//! Derivatives of graphs: reverse-mode differentiation on the Graph IR.
//!
//! [`grad`] takes a graph, a scalar of it and values of it (inputs, intermediates, weights), and gives a graph that computes the
//! gradient of the scalar with respect to each value. Forward and backward part are one graph in the same primitives, so that
//! passes optimise both together and engines need nothing new. [`gradients`] adds them to a graph that is being built. [`jvp`] gives the product of the Jacobian and a vector.
//! [`relevance`] shares a value out layer by layer instead of differentiating it, by the same rules.
//!
//! Every primitive has its row in [`derivative`]: a rule, a derivative that is zero, or the reason why there is none. The rules are
//! held by central differences in f64 (`tests/laws.rs`).
//!
//! # Conventions
//! Where a function has a kink the derivative is a choice. PyTorch's is named where it differs.
//!
//! | where | gradient |
//! |---|---|
//! | `max(x, c)`, `min(x, c)` with a constant c, x = c | 0 for x (`relu'(0) = 0`, as PyTorch; its `clamp` gives 1) |
//! | `max(a, b)`, `min(a, b)`, a = b | half each, as PyTorch's `maximum` |
//! | `reduce` by `max` or `min`, equal extrema | shared out evenly, as PyTorch's `amax` |
//! | `pool` by `max`, equal maxima | all to the first, as PyTorch |
//! | `top_k`, equal elements | to the elements that were taken |
//! | `abs` at 0 | 0, as PyTorch |
//! | `hard_swish` at -3 and 3 | 0 and 1 (PyTorch 1.13: -1/2 and 3/2) |
//! | `floor`, `ceil`, `round`, `sign` | 0 everywhere, as PyTorch |
//! | `pow(a, b)` | 0 for a where b = 0, 0 for b where a = 0 and b >= 0, as PyTorch |
//! | `scatter` with equal indices | only the update that stays has one (PyTorch: undefined) |
//! | recurrent cells: `clip` at its bounds | 0 |
//! | their `LeakyRelu`, `Elu` and `ThresholdedRelu` at the kink | that of x above it (PyTorch: that below it) |
//! | `if`, `loop` | that of the branch that was taken, and of the rounds that were run, as PyTorch |
//! | `cumulative` by `prod` | NaN behind an element that is 0 (PyTorch has a case for it) |
#![forbid(unsafe_code)]

mod emit;
mod error;
mod forward;
mod inline;
mod relevance;
mod reverse;
mod rules;

pub use error::{GradError, Place};
pub use forward::jvp;
pub use relevance::{Shares, relevance};
pub use reverse::{Of, find, grad, gradients};
pub use rules::{Derivative, derivative};
