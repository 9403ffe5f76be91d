//! What passes did, as plain data.

use crate::proof::Proof;
use crate::rules::Rule;
use egret_ir::Graph;
use std::collections::BTreeSet;
use std::time::Instant;

/// A rewrite that the new graph rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: String,
    /// `file:line` of the rule.
    pub place: String,
    /// The ONNX nodes that it matched, sorted.
    pub sources: BTreeSet<String>,
    /// What it looks for, as the rule spells it; empty for a rewrite that is code.
    pub before: String,
    /// What it puts there; what it does in words for a rewrite that is code.
    pub after: String,
    /// Under which conditions: guards and tier.
    pub conditions: String,
}

impl Rewrite {
    /// An application of a rule to ONNX nodes.
    pub(crate) fn by(rule: &Rule, sources: BTreeSet<String>) -> Rewrite {
        Rewrite {
            rule: rule.name.clone(),
            place: rule.place.to_string(),
            sources,
            before: rule.spelt.lhs.clone(),
            after: rule.spelt.rhs.clone(),
            conditions: rule.spelt.conditions.clone(),
        }
    }
}

/// What the rules of a pass found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rewrites that the new graph rests on.
    pub rewrites: Vec<Rewrite>,
    /// Rules that nearly applied, if asked for.
    pub missed: Vec<Missed>,
    /// The number of regions, and how many of them were distinct and had to be optimised.
    pub regions: (usize, usize),
    /// For how many distinct regions it is proven that no other choice among the forms found is estimated
    /// to be cheaper.
    pub cheapest: usize,
    /// The sum of the error bounds of the approximations in the new graph.
    pub error: f64,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// What each rule of the pass did, in the order of the rules.
    pub counts: Vec<(String, RuleCount)>,
    /// The proof that the graph after the rules equals the one before them, if asked for.
    pub proof: Option<Proof>,
}

/// What stopped a rule, most important first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopped {
    /// The graph would cost more: estimated nanoseconds with the rewrite, and without.
    Cost(u64, u64),
    /// The errors of approximations would exceed what they may add up to: nanoseconds as for `Cost`.
    Budget(u64, u64),
    /// Its tier.
    Tier,
    /// A guard.
    Guard,
    /// One node is another than in its pattern, or there is one more.
    NearMatch,
    /// Its right-hand side cannot be built.
    Failed,
}

/// A rule that matched, or nearly did, and was not applied. `N`: names of ONNX nodes, or numbers of nodes
/// in a region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missed<N = String> {
    /// What stopped it.
    pub stopped: Stopped,
    /// The nodes, sorted.
    pub sources: BTreeSet<N>,
    /// The rule's name.
    pub rule: String,
    /// The reason in words.
    pub reason: String,
}

impl<N> Missed<N> {
    /// The same with other nodes.
    pub(crate) fn of<M>(&self, sources: BTreeSet<M>) -> Missed<M> {
        Missed {
            sources,
            stopped: self.stopped.clone(),
            rule: self.rule.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// What a rule did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Matches of its left-hand side.
    pub matches: usize,
    /// Matches that passed the guards and added something new to the e-graph.
    pub applications: usize,
    /// Nodes of the e-graph that they made.
    pub nodes: usize,
    /// Time for matching and applying it, if asked for.
    pub nanoseconds: u64,
}

impl RuleCount {
    pub(crate) fn took(&mut self, began: Option<Instant>) {
        self.nanoseconds += began.map_or(0, |b| b.elapsed().as_nanos() as u64);
    }
}

/// What a pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// Nodes before it.
    pub nodes_before: usize,
    /// Nodes after it.
    pub nodes_after: usize,
    /// The proof that the graph after its code equals the one before it, if asked for and the code is
    /// guided by rules.
    pub step_proof: Option<Proof>,
    /// What its rules found.
    pub findings: Findings,
    /// How long it took, with [`crate::Options::clock`].
    pub nanoseconds: Option<u64>,
    /// The graphs before, within and after it, with [`crate::Options::explain`].
    pub snapshots: Option<Snapshots>,
}

/// The graphs before, within and after a pass.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// Before the pass.
    pub before: Graph,
    /// After its code, before its rules.
    pub stepped: Graph,
    /// After the pass.
    pub after: Graph,
}
