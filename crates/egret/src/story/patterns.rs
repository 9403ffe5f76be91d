//! What was fused into what, by the operation that resulted: `attention x12`. What a pass made is read from its proof, so that what
//! is named is what happened, whichever rule touched it last.

use crate::error::{Error, Result};
use crate::places;
use egret_ir::{Family, Graph, NodeId, Op};
use egret_opt::proof::{Made, Proof, provenance};
use egret_opt::{CostModel, PassReport, estimate};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Operations that stand for a pattern of smaller ones: that a model has them is worth a line even where nothing made them.
pub(super) const COMPOSED: [Op; 8] =
    [Op::Attention, Op::Rotary, Op::LayerNorm, Op::RmsNorm, Op::Gelu, Op::Silu, Op::HardSwish, Op::Softmax];

/// What results where nodes only go.
pub(super) const REMOVED: &str = "removed";

/// What results where nodes are computed by the compiler.
pub(super) const CONSTANTS: &str = "constants";

/// What was fused alike at several places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// What resulted: an operation, or those of a kernel (`matmul + add`).
    pub what: String,
    /// At how many places.
    pub count: usize,
    /// The estimated time that it saves at all of them; below 0 where it costs, for the sake of something else.
    pub saved: i64,
    /// What it was made of, at the first place: operations with their number. Empty where the model has it as it is.
    pub from: String,
    /// The places, repeated blocks folded.
    pub places: Vec<String>,
    /// The rules that made it, with how often they were applied.
    pub rules: BTreeMap<String, usize>,
    /// The ONNX nodes.
    pub sources: BTreeSet<String>,
}

/// Something made at one place.
struct One {
    what: String,
    from: Vec<Op>,
    saved: i64,
    rules: Vec<String>,
    sources: BTreeSet<String>,
}

/// What all passes made, by what resulted.
pub fn fused(reports: &[PassReport], graph: &Graph, model: &CostModel) -> Result<Vec<Pattern>> {
    let mut ones: Vec<One> = vec![];
    for report in reports {
        let Some(stages) = &report.snapshots else { continue };
        for (proof, before, after) in [
            (&report.step_proof, &stages.before, &stages.stepped),
            (&report.findings.proof, &stages.stepped, &stages.after),
        ] {
            match proof {
                Some(proof) => by_proof(proof, before, after, model, &mut ones)?,
                None => by_counting(report.name, before, after, model, &mut ones),
            }
        }
    }
    Ok(grouped(joined(ones, graph)))
}

fn costs(graph: &Graph, model: &CostModel) -> HashMap<NodeId, i64> {
    estimate(graph, model).into_iter().map(|(n, ns)| (n, i64::try_from(ns).unwrap_or(i64::MAX))).collect()
}

fn by_proof(
    proof: &Proof,
    before: &Graph,
    after: &Graph,
    model: &CostModel,
    ones: &mut Vec<One>,
) -> Result<()> {
    if proof.steps.is_empty() {
        return Ok(());
    }
    let told = provenance(proof, before, after)
        .map_err(|e| Error::internal(format!("pass `{}`: {e}", proof.pass)))?;
    let (was, is) = (costs(before, model), costs(after, model));
    let cost = |of: &HashMap<NodeId, i64>, n: &NodeId| of.get(n).copied().unwrap_or(0);
    for made in &told.made {
        let node = after.node(named(made, after, &is));
        let mut sources = node.sources.clone();
        // Of what it was made of, those nodes that are really gone.
        let from: BTreeSet<&String> = made.replaced.iter().flat_map(|&n| &before.node(n).sources).collect();
        if !from.is_empty() {
            sources = from.into_iter().cloned().collect();
        }
        let spent: i64 = made.helpers.iter().chain([&made.node]).map(|n| cost(&is, n)).sum();
        ones.push(One {
            what: node.op.name().to_owned(),
            from: made.replaced.iter().map(|&n| before.node(n).op).collect(),
            saved: made.replaced.iter().map(|n| cost(&was, n)).sum::<i64>() - spent,
            rules: made.steps.iter().map(|&i| proof.steps[i].rule.clone()).collect(),
            sources,
        });
    }
    for &n in &told.gone {
        let node = before.node(n);
        ones.push(One {
            what: REMOVED.into(),
            from: vec![node.op],
            saved: cost(&was, &n),
            rules: vec![],
            sources: node.sources.clone(),
        });
    }
    Ok(())
}

/// The node that a pattern has its name of: a new one that computes, before one that only arranges its result.
fn named(made: &Made, after: &Graph, costs: &HashMap<NodeId, i64>) -> NodeId {
    let arranges = |n: NodeId| after.node(n).op.family() == Family::Movement;
    let computing = made.helpers.iter().copied().filter(|&n| !arranges(n));
    let best = computing.max_by_key(|n| (costs.get(n).copied(), std::cmp::Reverse(*n)));
    best.filter(|_| arranges(made.node)).unwrap_or(made.node)
}

/// A step in code without a proof: how many nodes it left.
fn by_counting(pass: &str, before: &Graph, after: &Graph, model: &CostModel, ones: &mut Vec<One>) {
    if before.node_count() <= after.node_count() {
        return;
    }
    let left: BTreeSet<&BTreeSet<String>> =
        after.node_ids().iter().map(|&n| &after.node(n).sources).collect();
    let was = costs(before, model);
    for n in before.node_ids() {
        let node = before.node(n);
        if !left.contains(&node.sources) {
            ones.push(One {
                what: if pass == "fold" { CONSTANTS.into() } else { REMOVED.into() },
                from: vec![node.op],
                saved: was.get(&n).copied().unwrap_or(0),
                rules: vec![],
                sources: node.sources.clone(),
            });
        }
    }
}

/// What was made in several steps is one: a later pass made it from what an earlier one had made.
fn joined(ones: Vec<One>, graph: &Graph) -> Vec<One> {
    let mut last: HashMap<(String, String), NodeId> = HashMap::new();
    for n in graph.node_ids() {
        let node = graph.node(n);
        for s in &node.sources {
            last.insert((node.op.name().to_owned(), s.clone()), n);
        }
    }
    let mut out: Vec<One> = vec![];
    let mut of_node: HashMap<NodeId, usize> = HashMap::new();
    for one in ones {
        let node = one.sources.iter().find_map(|s| last.get(&(one.what.clone(), s.clone()))).copied();
        match node.and_then(|n| of_node.get(&n)).copied() {
            Some(i) => {
                let same: &mut One = &mut out[i];
                same.saved += one.saved;
                same.rules.extend(one.rules);
                same.sources.extend(one.sources);
                // The first of them tells what the model had.
            }
            None => {
                if let Some(n) = node {
                    of_node.insert(n, out.len());
                }
                out.push(one);
            }
        }
    }
    out
}

/// Operations with their number, those that compute most first told.
fn listed(ops: &[Op]) -> String {
    let mut counts: Vec<(Op, usize)> = vec![];
    for &op in ops {
        match counts.iter_mut().find(|(o, _)| *o == op) {
            Some((_, n)) => *n += 1,
            None => counts.push((op, 1)),
        }
    }
    let one = |(op, n): (Op, usize)| if n == 1 { op.to_string() } else { format!("{n} {op}") };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

fn grouped(ones: Vec<One>) -> Vec<Pattern> {
    let mut order: Vec<Pattern> = vec![];
    let mut names: HashMap<String, (usize, Vec<String>)> = HashMap::new();
    for one in ones {
        let (i, places) = names.entry(one.what.clone()).or_insert_with(|| {
            let from = if one.what == REMOVED || one.what == CONSTANTS {
                String::new()
            } else {
                listed(&one.from)
            };
            order.push(Pattern { what: one.what.clone(), from, ..Pattern::default() });
            (order.len() - 1, vec![])
        });
        let pattern = &mut order[*i];
        pattern.count += 1;
        pattern.saved += one.saved;
        places.push(places::common(&one.sources));
        one.rules.into_iter().for_each(|r| *pattern.rules.entry(r).or_default() += 1);
        pattern.sources.extend(one.sources);
    }
    for (i, places) in names.into_values() {
        order[i].places = places::folded(places.iter().map(String::as_str));
    }
    order
}

/// Composed operations that the model has as they are.
pub fn in_the_model(graph: &Graph, made: &[Pattern]) -> Vec<Pattern> {
    let mut out = vec![];
    for op in COMPOSED {
        let known = made.iter().find(|p| p.what == op.name()).map(|p| &p.sources);
        let is_known = |n: &NodeId| {
            known.is_some_and(|sources| graph.node(*n).sources.iter().any(|s| sources.contains(s)))
        };
        let mut nodes = graph.node_ids();
        nodes.retain(|&n| graph.node(n).op == op && !is_known(&n));
        if nodes.is_empty() {
            continue;
        }
        let places: Vec<String> = nodes.iter().map(|&n| places::common(&graph.node(n).sources)).collect();
        out.push(Pattern {
            what: op.name().to_owned(),
            count: nodes.len(),
            places: places::folded(places.iter().map(String::as_str)),
            sources: nodes.iter().flat_map(|&n| graph.node(n).sources.iter().cloned()).collect(),
            ..Pattern::default()
        });
    }
    out
}
