//! Approximations: what `approx` and `lossy` rules offer in place of a value. They are links from one class
//! to another, never unions, so that congruence and facts speak of equal values only. Extraction may follow
//! a link, within an error budget.
//! A rule bounds its error relative to the largest element of the value. The budget limits the sum of these
//! bounds over all links that are followed: simple and deterministic, but no bound for the error of an
//! output, which `egret check` measures.

use super::candidates::Approximation;
use super::cheapest::{Extraction, extract};
use crate::eqsat::egraph::Egraph;
use egg::Id;

/// The sum of the errors of the approximations in an extraction.
pub(crate) fn error(extraction: &Extraction) -> f64 {
    extraction.taken.values().map(|a| a.error).sum()
}

/// An extraction with approximations that is cheaper than the exact one and within the budget. While it
/// exceeds the budget, the approximation with the largest error is removed.
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
