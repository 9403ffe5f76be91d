//! Methods: which weights of a layer become zero, and what the others become. A method is a file here and a row of [`ROWS`].

mod l1;
mod obc;
mod wanda;

pub use obc::{DAMPING, Normal, least};

use crate::layout::Layout;
use crate::mask::{self, Scored};
use crate::moments::Moments;
use crate::pattern::Pattern;
use crate::scope::Scope;
use egret::Error;
use std::str::FromStr;

/// A layer and what is asked of it.
pub struct Problem<'a> {
    /// How the weights stand.
    pub layout: &'a Layout,
    /// The weights, in the order of [`Layout::offsets`].
    pub weights: &'a [f64],
    /// Of each group: its inputs in the pruned model, its outputs in the original.
    pub moments: &'a [Moments],
    /// Which weights may become zero together.
    pub pattern: Pattern,
    /// Among which the lowest are chosen.
    pub scope: Scope,
    /// How hard weights that are fitted are pulled to what they were.
    pub damping: f64,
}

/// What a method is.
struct Row {
    name: &'static str,
    /// Whether it cannot do without data.
    needs_data: bool,
    /// Whether it fits a layer to the inputs that it has in the pruned model, which the original does not tell.
    fits_inputs: bool,
    /// The scope where none is asked for.
    scope: Scope,
    /// A score for every weight, the lowest to go first.
    scores: fn(&Problem<'_>) -> Option<Vec<f64>>,
    /// What a score costs, given the variance of the layer's outputs: comparable between layers.
    cost: fn(f64, f64) -> f64,
    /// The weights with zeros.
    solve: fn(&Problem<'_>) -> Option<Vec<f64>>,
}

/// Every method.
const ROWS: [Row; 3] = [
    Row {
        name: "l1",
        needs_data: false,
        fits_inputs: false,
        scope: Scope::Layer,
        scores: l1::scores,
        cost: l1::cost,
        solve: l1::solve,
    },
    Row {
        name: "wanda",
        needs_data: true,
        fits_inputs: false,
        scope: Scope::Row,
        scores: wanda::scores,
        cost: wanda::cost,
        solve: wanda::solve,
    },
    Row {
        name: "obc",
        needs_data: true,
        fits_inputs: true,
        scope: Scope::Layer,
        scores: obc::scores,
        cost: obc::cost,
        solve: obc::solve,
    },
];

/// A method of pruning.
#[derive(Copy, Clone)]
pub struct Method(&'static Row);

impl Method {
    /// The smallest weights go; what stays is as it was.
    pub const L1: Method = Method(&ROWS[0]);
    /// The weights go whose loss costs least when the others make up for it; they do.
    pub const OBC: Method = Method(&ROWS[2]);

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether it cannot do without data.
    pub fn needs_data(self) -> bool {
        self.0.needs_data
    }

    /// Whether it fits a layer to the inputs that it has in the pruned model, which only samples tell.
    pub fn fits_inputs(self) -> bool {
        self.0.fits_inputs
    }

    /// The scope where none is asked for.
    pub fn scope(self) -> Scope {
        self.0.scope
    }

    /// A score for every weight, the lowest to go first: comparable inside the layer.
    pub(crate) fn scores(self, problem: &Problem<'_>) -> Option<Vec<f64>> {
        (self.0.scores)(problem)
    }

    /// What the weights cost, comparable between layers.
    pub(crate) fn costs(self, problem: &Problem<'_>) -> Option<Vec<f64>> {
        let whole: f64 = problem.moments.iter().flat_map(|m| &m.yy).sum();
        let cost = |s| if whole > 0.0 { (self.0.cost)(s, whole) } else { 0.0 };
        Some(self.scores(problem)?.into_iter().map(cost).collect())
    }

    /// The pruned weights; `None` where the data give no numbers to work with.
    pub(crate) fn solve(self, problem: &Problem<'_>) -> Option<Vec<f64>> {
        (self.0.solve)(problem)
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> egret::Result<Method> {
        ROWS.iter().find(|r| r.name == text).map(Method).ok_or_else(|| {
            let names = ROWS.each_ref().map(|r| r.name).join(", ");
            Error::user(format!("no method `{text}`; there are {names}"))
        })
    }
}

impl Problem<'_> {
    /// Columns of a group's matrix.
    fn columns(&self) -> usize {
        self.layout.position_count() * self.layout.channel_count()
    }

    /// The weights with zeros where the scores are lowest.
    fn masked(&self, scores: &[f64]) -> Vec<f64> {
        let mask = mask::mask(self.pattern, self.scope, &Scored { layout: self.layout, scores });
        self.weights.iter().zip(mask).map(|(&w, gone)| if gone { 0.0 } else { w }).collect()
    }
}
