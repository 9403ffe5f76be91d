//! Saturation: match all rules, apply them, and repeat until nothing is new or a limit is hit. Limits count
//! nodes, rounds and matches, never time, so that every run finds the same.

use super::egraph::{ENode, Egraph, Symbol};
use super::extract::Approximation;
use crate::matching::{Bound, Match, Terms, all_guards_hold, groups, instantiate, matches};
use crate::report::RuleCount;
use crate::rules::{OpPattern, Pattern, Rule, Tier};
use egg::Id;
use egret_ir::Op;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What stops saturation early.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Rounds.
    pub rounds: usize,
    /// How many times as many nodes as at the start the e-graph may have.
    pub growth: usize,
    /// Matches of one rule in one round.
    pub matches: usize,
    /// Whether to time rules.
    pub clock: bool,
    /// Whether applications keep what a proof needs.
    pub evidence: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { rounds: 16, growth: 8, matches: 20_000, clock: false, evidence: false }
    }
}

/// A rule was applied.
#[derive(Clone, Debug)]
pub struct Application {
    /// Which of the rules.
    pub rule: usize,
    /// The class that it rewrote.
    pub class: Id,
    /// The root node of the right-hand side, unless that is a variable.
    pub node: Option<ENode>,
    /// The nodes of the region that the match rests on.
    pub sources: BTreeSet<usize>,
    /// Whether the right-hand side only approximates the value.
    pub approximate: bool,
    /// What a proof needs, if kept.
    pub(crate) evidence: Option<Box<Evidence>>,
}

/// What a proof needs of an application.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// The match.
    pub found: Match<Id>,
    /// The matched nodes as they were then, in the order of the pattern.
    pub nodes: Vec<ENode>,
    /// The instance of the right-hand side.
    pub new: Id,
}

/// The nodes of the region that nodes of the e-graph come from.
pub type Sources = FxHashMap<ENode, BTreeSet<usize>>;

/// What saturation did.
#[derive(Debug, Default)]
pub struct Saturation {
    /// Applications in order.
    pub applications: Vec<Application>,
    /// Approximations of values.
    pub(crate) approximations: Vec<Approximation>,
    /// For each rule.
    pub counts: Vec<RuleCount>,
    /// Matches whose right-hand side could not be built: rule, nodes of the region, reason.
    pub failed: BTreeSet<(usize, BTreeSet<usize>, String)>,
    /// Limits that were hit: name and value.
    pub limits: Vec<(&'static str, usize)>,
    /// The nodes of the region behind every node of the e-graph.
    pub sources: Sources,
}

/// A match that was found before: rule, class, bindings, nodes.
type Seen = (usize, Id, Vec<Option<Bound<Id>>>, Vec<ENode>);

/// Saturates an e-graph. `sources`: the nodes of the region that its nodes come from.
///
/// # Errors
/// A rule that changes the type of a value or unites values that are not equal, named with its place.
pub fn saturate(
    egraph: &mut Egraph,
    rules: &[&Rule],
    limits: &Limits,
    sources: Sources,
) -> Result<Saturation, String> {
    let mut done =
        Saturation { counts: vec![RuleCount::default(); rules.len()], sources, ..Saturation::default() };
    let mut seen: FxHashSet<Seen> = FxHashSet::default();
    let most = egraph.total_size() * limits.growth + 1000;
    egraph.rebuild();
    for round in 0..limits.rounds {
        let by_op = classes_by_op(egraph);
        let mut found: Vec<Found> = vec![];
        for (i, rule) in rules.iter().enumerate() {
            // Multi-patterns match in the first round only: the fused node has the siblings' operation and
            // would match again.
            if rule.multi_pattern.is_some() && round > 0 {
                continue;
            }
            let (mut left, mut all) = (limits.matches, vec![]);
            let began = limits.clock.then(Instant::now);
            for class in roots(rule, &by_op) {
                // Reassociating constants would give another constant. They are folded anyway.
                if rule.tier > Tier::Exact && egraph[class].data.constant {
                    continue;
                }
                let new = matches(rule, egraph, class, left);
                left -= new.len();
                done.counts[i].matches += new.len();
                // Siblings are grouped first: the list of them is part of the match.
                let holds =
                    |m: &Match<Id>| rule.multi_pattern.is_some() || all_guards_hold(rule, egraph, m);
                all.extend(new.into_iter().filter(holds).map(|m| (class, m)));
                if left == 0 {
                    done.limits.push(("matches", limits.matches));
                    break;
                }
            }
            for group in groups(rule, all) {
                // Matches are identified by their nodes: positions in a class change.
                let nodes = |m: &Match<Id>| {
                    m.matched.iter().map(|&(c, k, _)| egraph[c].nodes[k].clone()).collect::<Vec<ENode>>()
                };
                let nodes: Vec<Vec<ENode>> = group.iter().map(|(_, m)| nodes(m)).collect();
                let sources: BTreeSet<usize> =
                    nodes.iter().flatten().filter_map(|n| done.sources.get(n)).flatten().copied().collect();
                for ((class, m), nodes) in group.into_iter().zip(nodes) {
                    if (rule.multi_pattern.is_none() || all_guards_hold(rule, egraph, &m))
                        && seen.insert((i, class, m.values.clone(), nodes.clone()))
                    {
                        found.push(Found { rule: i, class, m, nodes, sources: sources.clone() });
                    }
                }
            }
            done.counts[i].took(began);
        }
        let mut changed = false;
        for f in found {
            if egraph.total_size() > most {
                done.limits.push(("nodes", most));
                egraph.rebuild();
                return Ok(done);
            }
            let (rule, began) = (f.rule, limits.clock.then(Instant::now));
            changed |= apply(egraph, rules[rule], f, limits, &mut done)?;
            done.counts[rule].took(began);
        }
        egraph.rebuild();
        if let Some(e) = egraph.analysis.errors.first() {
            return Err(format!("joining terms that are not equal: {e}"));
        }
        canonical_sources(egraph, &mut done.sources);
        if !changed {
            return Ok(done);
        }
        if round + 1 == limits.rounds {
            done.limits.push(("rounds", limits.rounds));
        }
    }
    Ok(done)
}

/// A match that passed its guards.
struct Found {
    rule: usize,
    class: Id,
    m: Match<Id>,
    /// The matched nodes, in the order of the pattern.
    nodes: Vec<ENode>,
    /// The nodes of the region that they rest on.
    sources: BTreeSet<usize>,
}

/// Applies one match. Returns whether the e-graph learnt something.
fn apply(
    egraph: &mut Egraph,
    rule: &Rule,
    f: Found,
    limits: &Limits,
    done: &mut Saturation,
) -> Result<bool, String> {
    let before = egraph.nodes().len();
    let new = match instantiate(rule, egraph, &f.m) {
        Ok(new) => new,
        Err(reason) => {
            done.failed.insert((f.rule, f.sources, reason));
            return Ok(false);
        }
    };
    let fail = |what: String| format!("rule `{}` ({}) {what}", rule.name, rule.place);
    let (was, is) = (&egraph.facts(f.class).types, &egraph.facts(new).types);
    if was != is {
        let list = |t: &[egret_ir::Type]| t.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(fail(format!(
            "changes a value's type from {} to {}: it lacks a guard",
            list(was),
            list(is)
        )));
    }
    for id in before..egraph.nodes().len() {
        let node = egraph.id_to_node(Id::from(id)).clone();
        done.sources.entry(node).or_default().extend(f.sources.iter().copied());
    }
    let node = match rule.rhs {
        Pattern::Node(_) => egraph[new].nodes.first().cloned(),
        _ => None,
    };
    let approximate = !rule.tier.is_equality();
    let news = if approximate {
        egraph.find(f.class) != egraph.find(new)
    } else {
        let errors = egraph.analysis.errors.len();
        let news = egraph.union(f.class, new);
        if let Some(e) = egraph.analysis.errors.get(errors) {
            return Err(fail(format!("joins terms that are not equal: {e}")));
        }
        news
    };
    if news {
        if approximate {
            let (application, error) = (done.applications.len(), rule.error.unwrap_or_default());
            done.approximations.push(Approximation { class: f.class, form: new, application, error });
        }
        done.counts[f.rule].applications += 1;
        done.counts[f.rule].nodes += egraph.nodes().len() - before;
        let evidence = limits.evidence.then(|| Box::new(Evidence { found: f.m, nodes: f.nodes, new }));
        done.applications.push(Application {
            rule: f.rule,
            class: f.class,
            node,
            sources: f.sources,
            approximate,
            evidence,
        });
    }
    Ok(news)
}

/// Renames the operands of the keys to the present ids of their classes.
fn canonical_sources(egraph: &Egraph, sources: &mut Sources) {
    let is_old = |node: &ENode| node.children.iter().any(|c| egraph.find(*c) != *c);
    for (mut node, from) in sources.extract_if(|node, _| is_old(node)).collect::<Vec<_>>() {
        node.children.iter_mut().for_each(|c| *c = egraph.find(*c));
        sources.entry(node).or_default().extend(from);
    }
}

/// The classes that have a node of each operation, sorted.
fn classes_by_op(egraph: &Egraph) -> BTreeMap<Op, Vec<Id>> {
    let mut out: BTreeMap<Op, Vec<Id>> = BTreeMap::new();
    for class in egraph.classes() {
        for node in &class.nodes {
            if let Symbol::Op { op, .. } = egraph.analysis.symbols.get(node.symbol) {
                out.entry(*op).or_default().push(class.id);
            }
        }
    }
    out.values_mut().for_each(sort_unique);
    out
}

fn sort_unique(classes: &mut Vec<Id>) {
    classes.sort_unstable();
    classes.dedup();
}

/// The classes that have a node of the rule's root operation.
fn roots(rule: &Rule, by_op: &BTreeMap<Op, Vec<Id>>) -> Vec<Id> {
    match rule.lhs.as_node().map(|n| n.op) {
        Some(OpPattern::One(op)) => by_op.get(&op).cloned().unwrap_or_default(),
        Some(OpPattern::Any(Some(group), _)) => {
            let of_group = by_op.iter().filter(|(op, _)| group.holds(**op));
            let mut classes: Vec<Id> = of_group.flat_map(|(_, c)| c).copied().collect();
            sort_unique(&mut classes);
            classes
        }
        _ => vec![],
    }
}
