//! Rules that nearly applied, and what stopped them.

use crate::egraph::{ENode, Egraph};
use crate::extract::Extraction;
use crate::matching::{guards_hold, matches};
use crate::rules::{Rule, Tier};
use crate::saturate::Saturation;
use std::collections::BTreeSet;

/// Of one rule at one value.
const MISSED_MATCHES: usize = 64;

/// A rule that matched and was not applied. Nodes are named by their ONNX nodes, or by their numbers in a region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missed<N = String> {
    /// The nodes, sorted.
    pub sources: BTreeSet<N>,
    /// The rule's name.
    pub rule: String,
    /// Whether its tier is the reason, not a guard.
    pub tier: bool,
    /// The reason in words.
    pub reason: String,
}

impl<N> Missed<N> {
    /// The same with other nodes.
    pub(crate) fn of<M>(&self, sources: BTreeSet<M>) -> Missed<M> {
        Missed { sources, rule: self.rule.clone(), tier: self.tier, reason: self.reason.clone() }
    }
}

/// Rules whose left-hand side is there and that did not apply, over the nodes that were chosen. Rules of a single node are left
/// out: they look at every node of their operation, and say nothing by not applying. `above`: rules over the tier.
pub(crate) fn missed(
    egraph: &Egraph,
    rules: &[&Rule],
    above: &[&Rule],
    tier: Tier,
    done: &Saturation,
    extraction: &Extraction,
) -> BTreeSet<Missed<usize>> {
    let mut out = BTreeSet::new();
    for rule in rules.iter().chain(above).filter(|r| r.lhs.nodes().len() > 1) {
        for &class in extraction.chosen.keys() {
            for m in matches(rule, egraph, class, MISSED_MATCHES) {
                let nodes: Vec<&ENode> = m.matched.iter().map(|&(c, k, _)| &egraph[c].nodes[k]).collect();
                if !m.matched.iter().zip(&nodes).all(|((c, ..), n)| extraction.chosen.get(c) == Some(*n)) {
                    continue;
                }
                let (tier, reason) = match guards_hold(rule, egraph, &m) {
                    Err(e) => (false, format!("`{}` does not hold: {}", e.guard, e.reason)),
                    Ok(()) if rule.tier > tier => (true, format!("its tier is {}, {} is allowed", rule.tier, tier)),
                    Ok(()) => continue,
                };
                let sources = nodes.iter().filter_map(|n| done.sources.get(*n)).flatten().copied().collect();
                out.insert(Missed { sources, rule: rule.name.clone(), tier, reason });
            }
        }
    }
    out
}
