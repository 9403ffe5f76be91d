//! Alternatives: what approximate and lossy rules put *near* a value. They are links from a class to another, never unions, so
//! that congruence and the facts of classes speak of equal values only; extraction may follow a link, under a budget of errors.
//!
//! A rule bounds its error relative to the largest element of the value that it is about. What is held against the budget is the
//! sum of these bounds over all places: simple, the same on every run, and no statement about outputs, which `egret check` measures.

use crate::egraph::Egraph;
use crate::extract::{Extraction, extract};
use crate::solution::Solution;
use egg::Id;

/// A class that may be computed in place of another.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The value.
    pub class: Id,
    /// What is near it.
    pub form: Id,
    /// The application that says so.
    pub application: usize,
    /// How near, by its rule; 0 for a lossy rule that gives no bound: who allows those allows any error.
    pub error: f64,
}

/// The errors of what an extraction takes.
pub(crate) fn error(extraction: &Extraction) -> f64 {
    extraction.taken.values().map(|a| a.error).sum()
}

/// A choice with alternatives that is cheaper than one without, and whose errors stay within a budget: while they do not, the
/// alternative that errs most is left out.
pub(crate) fn cheaper(
    egraph: &Egraph,
    roots: &[Id],
    all: &[Alternative],
    budget: f64,
    exact: &Extraction,
) -> Option<Extraction> {
    let mut open: Vec<Alternative> = all.iter().filter(|a| a.error <= budget).cloned().collect();
    while !open.is_empty() {
        let found = extract(egraph, roots, &open).filter(|e| !e.taken.is_empty() && e.cost < exact.cost)?;
        if error(&found) <= budget {
            return Some(found);
        }
        let worst = found
            .taken
            .values()
            .max_by(|a, b| a.error.total_cmp(&b.error).then(a.application.cmp(&b.application)))?;
        let worst = worst.application;
        open.retain(|a| a.application != worst);
    }
    None
}

/// Which of several problems are solved with alternatives, under one budget, and the errors of all: those first that gain most for
/// their error. `copies`: how many regions have each problem.
pub(crate) fn allot(
    solutions: &[Result<Solution, String>],
    copies: &[usize],
    budget: f64,
) -> (Vec<bool>, f64) {
    let mut offers: Vec<(f64, f64, usize)> = vec![];
    for (i, solution) in solutions.iter().enumerate() {
        if let Ok(Solution { cost, near: Some(near), .. }) = solution {
            let all = near.error * copies[i] as f64;
            offers.push((cost.saturating_sub(near.cost) as f64 * copies[i] as f64 / all, all, i));
        }
    }
    offers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
    let (mut taken, mut spent) = (vec![false; solutions.len()], 0.0);
    for (_, error, i) in offers {
        if spent + error <= budget {
            spent += error;
            taken[i] = true;
        }
    }
    (taken, spent)
}
