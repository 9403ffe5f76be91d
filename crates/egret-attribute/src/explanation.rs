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

/// The score while units of the inputs (elements, segments, places) are set to the baseline, or put into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The fraction of units that are taken, from 0 to 1, and the score there: by the map, the largest attributions first.
    pub points: Vec<(f64, f64)>,
    /// The area under the points: the mean score.
    pub area: f64,
    /// The areas of random orders.
    pub random: Vec<f64>,
}

/// Deletion and insertion curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// From the inputs to the baseline: a good map makes the score fall soon.
    pub deletion: Curve,
    /// From the baseline to the inputs: a good map makes the score rise soon.
    pub insertion: Curve,
    /// How they were made.
    pub note: String,
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
    /// If they were asked for.
    pub curves: Option<Curves>,
    /// What the method did, a line each.
    pub notes: Vec<String>,
}

impl Explanation {
    pub(crate) fn new(target: Target, maps: Vec<Map>) -> Explanation {
        Explanation { target, maps, parts: vec![], completeness: None, curves: None, notes: vec![] }
    }

    /// The `count` segments, or features where there are none, of the largest attributions of either sign, the largest first.
    pub fn top(&self, count: usize) -> Vec<Top> {
        if self.parts.is_empty() {
            return top(&self.maps, count);
        }
        self.parts.iter().take(count).cloned().collect()
    }
}
