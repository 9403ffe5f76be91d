//! Rules that nearly applied, and what stopped them: a guard, the tier, the cost, or one node of the pattern.

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
use near_miss::{NearMiss, near_misses};
use std::collections::{BTreeMap, BTreeSet};

/// Of one rule at one value.
const MISSED_MATCHES: usize = 64;

/// Patterns of fewer nodes are not looked for with one of them other than it should be: they would be everywhere.
const NEAR_NODES: usize = 3;

/// Rules whose left-hand side is there, or is but for one node, and that did not apply, over the nodes that were chosen. Rules of
/// a single node are left out: they look at every node of their operation, and say nothing by not applying. `above`: rules over
/// the tier.
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
            for NearMiss { variant, place, wanted } in near.iter().filter(|_| found.is_empty()) {
                for m in matches(variant, &chosen, class, MISSED_MATCHES) {
                    let nodes = nodes(&m);
                    let Some(op) = egraph.op(nodes[*place]) else { continue };
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

/// The number of the region's node that a node comes from stands in for its ONNX name, which is put there later.
fn of_sources(done: &Saturation, node: &ENode) -> String {
    match done.sources.get(node) {
        Some(s) if s.len() == 1 => String::new(),
        _ => " (made by a rewrite)".into(),
    }
}

/// An application by number, the class that it gave another form, and that form's node.
type Open<'a> = (usize, &'a Application, Id, Option<ENode>);

/// What an application would have chosen for its class.
fn other_form<'a>((i, a, class, node): &'a Open) -> (Id, Form<'a>) {
    match node {
        Some(node) if !a.approximate => (*class, Form::Node(node)),
        _ => (*class, Form::Approximation(*i)),
    }
}

/// Applications whose left-hand side is still there as the right-hand side costs more, or errs more than is left of the budget.
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
    // Siblings are joined all together.
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
    let is = extraction.cost.0;
    let mut out: BTreeMap<(usize, BTreeSet<usize>), Missed<usize>> = BTreeMap::new();
    for ((_, a, ..), cost) in open.iter().zip(costs) {
        let Some((with, _)) = cost else { continue };
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
            (Stopped::Budget, reason)
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
