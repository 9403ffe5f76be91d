//! What passes did, as plain data.

use crate::proof::Proof;
use egret_ir::Graph;
use std::collections::BTreeSet;
use std::time::Instant;

/// What a rewrite did to the graph that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: String,
    /// `file:line` of the rule.
    pub place: String,
    /// The ONNX nodes that it rests on, sorted.
    pub sources: BTreeSet<String>,
    /// What it says: the rule's own line.
    pub text: String,
}

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rewrites that the new graph rests on.
    pub rewrites: Vec<Rewrite>,
    /// Rules that nearly applied, where that is asked for.
    pub missed: Vec<Missed>,
    /// In how many regions rules were looked for, and how many of them differed from the others and had to be saturated.
    pub regions: (usize, usize),
    /// For how many of those it is known that no other choice among the forms found is estimated to be cheaper.
    pub cheapest: usize,
    /// The bounds of the errors of the approximations that the new graph rests on, added up.
    pub error: f64,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// What each rule of the pass did, in the order of the rules.
    pub counts: Vec<(String, RuleCount)>,
    /// Why the graph after the rules equals the one before them, where that is asked for.
    pub proof: Option<Proof>,
}

/// What stopped a rule; the order is that of importance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopped {
    /// The graph with its right-hand side costs more: nanoseconds with it and without, by the cost model.
    Cost(u64, u64),
    /// The errors of approximations would exceed what they may add up to.
    Budget,
    /// Its tier.
    Tier,
    /// A guard.
    Guard,
    /// One node of its pattern is another, or there is one more.
    NearMatch,
    /// Its right-hand side cannot be built.
    Failed,
}

/// A rule that matched, or nearly did, and was not applied. Nodes are named by their ONNX nodes, or by their numbers in a region.
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
    /// Those whose guards held and that said something new.
    pub applications: usize,
    /// Nodes of the e-graph that they made.
    pub nodes: usize,
    /// How long matching and applying it took, where that is asked for.
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
    /// Why the graph after its step in code equals the one before it, where rules say so and that is asked for.
    pub step_proof: Option<Proof>,
    /// What its rules found.
    pub findings: Findings,
    /// How long it took, with [`crate::Options::clock`].
    pub nanoseconds: Option<u64>,
    /// The graphs on its way, with [`crate::Options::explain`].
    pub snapshots: Option<Snapshots>,
}

/// The graphs on the way of one pass.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// Before the pass.
    pub before: Graph,
    /// After its step in code, before its rules.
    pub stepped: Graph,
    /// After the pass.
    pub after: Graph,
}
