//! Missed rewrites: rules that nearly applied, and what stopped them (a guard, the tier, the cost, the
//! error budget, one node of the pattern).

mod extracted;
mod near_miss;

use super::egraph::{Ask, ENode, Egraph};
use super::extract::{Extraction, Form};
use super::saturate::{Application, Saturation};
use crate::matching::{Match, guards_hold, matches};
use crate::report::{Missed, Stopped};
use crate::rules::{Rule, Tier};
use egg::Id;
use extracted::Extracted;
use near_miss::{NearMiss, are_alike, near_misses};
use std::collections::{BTreeMap, BTreeSet};

/// The most matches of one rule at one value.
const MISSED_MATCHES: usize = 64;

/// The fewest nodes of patterns that are searched for near misses; smaller ones would be everywhere.
const NEAR_NODES: usize = 3;

/// The rules that match the extracted graph, or do except for one node, and were not applied. Rules with a
/// single node are skipped: they match every node of their operation, so that missing them means nothing.
/// `above`: rules above the tier.
pub(crate) fn missed(
    egraph: &Egraph,
    rules: &[&Rule],
    above: &[&Rule],
    tier: Tier,
    done: &Saturation,
    extraction: &Extraction,
) -> BTreeSet<Missed<usize>> {
    let mut out = BTreeSet::new();
    let chosen = Extracted::new(egraph, extraction);
    let nodes = |m: &Match<Id>| -> Vec<&ENode> {
        m.matched.iter().filter_map(|&(class, ..)| chosen.node(class)).collect()
    };
    let sources = |nodes: &[&ENode]| -> BTreeSet<usize> {
        nodes.iter().filter_map(|n| done.sources.get(*n)).flatten().copied().collect()
    };
    for rule in rules.iter().chain(above).filter(|r| r.lhs.nodes().len() > 1) {
        let near = if rule.lhs.nodes().len() >= NEAR_NODES { near_misses(rule) } else { vec![] };
        for &class in extraction.chosen.keys() {
            let found = matches(rule, &chosen, class, MISSED_MATCHES);
            for m in &found {
                let (stopped, reason) = match guards_hold(rule, &chosen, m) {
                    Err(e) => (Stopped::Guard, format!("`{}` does not hold: {}", e.guard, e.reason)),
                    Ok(()) if rule.tier > tier => {
                        (Stopped::Tier, format!("its tier is {}, {} is allowed", rule.tier, tier))
                    }
                    Ok(()) => continue,
                };
                out.insert(Missed {
                    sources: sources(&nodes(m)),
                    rule: rule.name.clone(),
                    stopped,
                    reason,
                });
            }
            for NearMiss { variant, place, wanted, instead_of } in near.iter().filter(|_| found.is_empty())
            {
                for m in matches(variant, &chosen, class, MISSED_MATCHES) {
                    let nodes = nodes(&m);
                    let Some(op) = egraph.op(nodes[*place]) else { continue };
                    if instead_of.is_some_and(|wanted| !are_alike(op, wanted)) {
                        continue;
                    }
                    let reason = format!(
                        "its pattern is there but for `{op}`{}: {wanted}",
                        of_sources(done, nodes[*place])
                    );
                    out.insert(Missed {
                        sources: sources(&nodes),
                        rule: rule.name.clone(),
                        stopped: Stopped::NearMatch,
                        reason,
                    });
                }
            }
        }
    }
    out.extend(dearer(egraph, rules, done, extraction));
    for (rule, nodes, reason) in &done.failed {
        let reason = format!("its right-hand side cannot be built: {reason}");
        out.insert(Missed {
            sources: nodes.clone(),
            rule: rules[*rule].name.clone(),
            stopped: Stopped::Failed,
            reason,
        });
    }
    out
}

/// A note for nodes that do not come from exactly one node of the region.
fn of_sources(done: &Saturation, node: &ENode) -> String {
    match done.sources.get(node) {
        Some(s) if s.len() == 1 => String::new(),
        _ => " (made by a rewrite)".into(),
    }
}

/// An application: its index, itself, the class that it rewrote, the new form's node.
type Open<'a> = (usize, &'a Application, Id, Option<ENode>);

/// The form that an application offers for its class.
fn other_form<'a>((i, a, class, node): &'a Open) -> (Id, Form<'a>) {
    match node {
        Some(node) if !a.approximate => (*class, Form::Node(node)),
        _ => (*class, Form::Approximation(*i)),
    }
}

/// Applications whose left-hand side was extracted because the right-hand side costs more, or its error
/// exceeds the budget.
fn dearer(
    egraph: &Egraph,
    rules: &[&Rule],
    done: &Saturation,
    extraction: &Extraction,
) -> BTreeSet<Missed<usize>> {
    let canonical = |n: &ENode| {
        let mut n = n.clone();
        n.children.iter_mut().for_each(|c| *c = egraph.find(*c));
        n
    };
    let mut open: Vec<Open> = vec![];
    for (i, a) in done.applications.iter().enumerate() {
        let Some(e) = &a.evidence else { continue };
        let class = egraph.find(a.class);
        let kept = |(n, (c, ..)): (&ENode, &(Id, usize, bool))| {
            extraction.chosen.get(&egraph.find(*c)) == Some(&canonical(n))
        };
        let is_reported =
            a.approximate || rules[a.rule].multi_pattern.is_some() || e.nodes.len() > 1 && a.node.is_some();
        if is_reported && e.nodes.iter().zip(&e.found.matched).all(kept) {
            open.push((i, a, class, a.node.as_ref().map(canonical)));
        }
    }
    // Siblings are rewritten together or not at all.
    let list = |a: &Application| {
        a.evidence.as_ref().and_then(|e| e.found.values[rules[a.rule].multi_pattern?.list].clone())
    };
    let together = |a: &Application, b: &Application| {
        std::ptr::eq(a, b) || a.rule == b.rule && list(a).is_some() && list(a) == list(b)
    };
    let set = |a: &Application| open.iter().filter(|o| together(a, o.1)).map(other_form).collect();
    let others: Vec<Vec<(Id, Form)>> = open.iter().map(|o| set(o.1)).collect();
    let costs = if others.is_empty() {
        vec![]
    } else {
        extraction.costs_with(egraph, &others, &done.approximations)
    };
    let is = extraction.cost.nanos;
    let mut out: BTreeMap<(usize, BTreeSet<usize>), Missed<usize>> = BTreeMap::new();
    for ((_, a, ..), cost) in open.iter().zip(costs) {
        let Some(with) = cost.map(|c| c.nanos) else { continue };
        let us = |ns: u64| ns as f64 / 1000.0;
        let (stopped, reason) = if with > is {
            let reason = format!(
                "it costs more: {:.1} us with it, {:.1} us without, {:.1} us more",
                us(with),
                us(is),
                us(with - is)
            );
            (Stopped::Cost(with, is), reason)
        } else if a.approximate && with < is {
            let error = rules[a.rule].error.unwrap_or_default();
            let reason = format!(
                "its error of up to {error:e} is over the budget here; it would save {:.1} us",
                us(is - with)
            );
            (Stopped::Budget(with, is), reason)
        } else {
            continue;
        };
        let rule = rules[a.rule].name.clone();
        out.insert(
            (a.rule, a.sources.clone()),
            Missed { sources: a.sources.clone(), rule, stopped, reason },
        );
    }
    out.into_values().collect()
}
