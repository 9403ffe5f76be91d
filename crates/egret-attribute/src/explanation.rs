//! The answer: maps of attributions, and how far they add up.

use crate::map::{Map, Top, top};
use crate::target::Target;

/// How far attributions that should add up to a difference of scores do.
#[derive(Clone, Debug, PartialEq)]
pub struct Completeness {
    /// The sum of all attributions.
    pub sum: f64,
    /// The score of the baseline; the mean of those of the background; 0 for relevance, which shares out the score itself.
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
    /// By random order: its scores at the same fractions.
    pub orders: Vec<Vec<f64>>,
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

/// Maps of models whose weights are permuted, from the output back, held against the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Randomised {
    /// What uses each layer's weights, those nearest to the output first.
    pub layers: Vec<String>,
    /// From the last layer alone to all of them.
    pub stages: Vec<Stage>,
}

/// A model with some permuted layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// How many, from the output back.
    pub layers: usize,
    /// Spearman's rank correlation of the sizes of its attributions and of the map's; `None` where one of both is the same everywhere.
    pub correlation: Option<f64>,
    /// The same over the features that are not 0 in both: black pixels have no product with a gradient, whatever the weights are.
    pub but_zeros: Option<f64>,
}

impl Randomised {
    /// The rank correlation from which on a map is not explained by what the model learned.
    pub const HIGH: f64 = 0.5;

    /// Whether the map is much the same with no weight in its place.
    pub fn fails(&self) -> bool {
        self.stages.last().and_then(|s| s.correlation).is_some_and(|c| c > Randomised::HIGH)
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
    /// For integrated gradients, SHAP values and layer-wise relevance.
    pub completeness: Option<Completeness>,
    /// If they were asked for.
    pub curves: Option<Curves>,
    /// If it was asked for.
    pub randomised: Option<Randomised>,
    /// What the method did, a line each.
    pub notes: Vec<String>,
}

impl Explanation {
    pub(crate) fn new(target: Target, maps: Vec<Map>) -> Explanation {
        Explanation {
            target,
            maps,
            parts: vec![],
            completeness: None,
            curves: None,
            randomised: None,
            notes: vec![],
        }
    }

    /// The `count` segments, or features where there are none, of the largest attributions of either sign, the largest first.
    pub fn top(&self, count: usize) -> Vec<Top> {
        if self.parts.is_empty() {
            return top(&self.maps, count);
        }
        self.parts.iter().take(count).cloned().collect()
    }
}
