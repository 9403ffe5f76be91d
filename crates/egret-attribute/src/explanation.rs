//! The answer: maps of attributions, and how far they add up.

use crate::map::{Map, Top, top};
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
    /// Where elements share an attribution (KernelSHAP, LIME): whose it is, the largest first.
    pub parts: Vec<Top>,
    /// For integrated gradients and SHAP values.
    pub completeness: Option<Completeness>,
    /// What the method did, a line each.
    pub notes: Vec<String>,
}

impl Explanation {
    pub(crate) fn new(target: Target, maps: Vec<Map>) -> Explanation {
        Explanation { target, maps, parts: vec![], completeness: None, notes: vec![] }
    }

    /// The `count` segments, or features where there are none, of the largest attributions of either sign, the largest first.
    pub fn top(&self, count: usize) -> Vec<Top> {
        if self.parts.is_empty() {
            return top(&self.maps, count);
        }
        self.parts.iter().take(count).cloned().collect()
    }
}
