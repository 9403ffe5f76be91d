//! Alternatives: what approximate and lossy rules put *near* a value. They are links from a class to another, never unions, so
//! that congruence and the facts of classes speak of equal values only; extraction may follow a link, under a budget of errors.
//!
//! A rule bounds its error relative to the largest element of the value that it is about. What is held against the budget is the
//! sum of these bounds over all places: simple, the same on every run, and no statement about outputs, which `egret check` measures.

use super::candidates::Approximation;
use super::cheapest::{Extraction, extract};
use crate::eqsat::egraph::Egraph;
use egg::Id;

/// The errors of what an extraction takes.
pub(crate) fn error(extraction: &Extraction) -> f64 {
    extraction.taken.values().map(|a| a.error).sum()
}

/// A choice with approximations that is cheaper than one without, and whose errors stay within a budget: while they do not, the
/// alternative that errs most is left out.
pub(crate) fn cheaper(
    egraph: &Egraph,
    roots: &[Id],
    all: &[Approximation],
    budget: f64,
    exact: &Extraction,
) -> Option<Extraction> {
    let mut open: Vec<Approximation> = all.iter().filter(|a| a.error <= budget).cloned().collect();
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
