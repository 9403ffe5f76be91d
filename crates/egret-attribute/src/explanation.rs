//! The answer: maps of attributions, and how far they add up.

use crate::map::Map;
use crate::target::Target;

/// How far attributions that should add up to a difference of scores do.
#[derive(Clone, Debug, PartialEq)]
pub struct Completeness {
    /// The sum of all attributions.
    pub sum: f64,
    /// The score of the baseline; the mean of those of the background.
    pub baseline: f64,
    /// The score less that of the baseline.
    pub difference: f64,
}

impl Completeness {
    /// What is missing or too much.
    pub fn error(&self) -> f64 {
        (self.sum - self.difference).abs()
    }
}

/// Attributions of a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What was explained.
    pub target: Target,
    /// A map for each input.
    pub maps: Vec<Map>,
    /// For integrated gradients and SHAP values.
    pub completeness: Option<Completeness>,
    /// What the method did, a line each.
    pub notes: Vec<String>,
}
