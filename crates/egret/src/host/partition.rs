//! Cutting a graph with host values into parts that are compiled and nodes that are not.

use super::part::Part;
use crate::error::{Error, Result};
use crate::host_values::{ends_in_host_values, is_host};
use egret_ir::{Graph, NodeId, Op};
use std::collections::{BTreeMap, BTreeSet};

/// A step of a run.
pub enum Step {
    /// Nodes that touch tensors of numbers only.
    Compiled(Box<Part>),
    /// A node that the interpreter runs.
    Host(NodeId),
}

/// Which nodes the interpreter runs.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Those that touch host values.
    Values,
    /// Those, and control flow and ranges the size of whose results only a run tells: compiled code has no room for such a result unless it knows
    /// the most rounds, or the most that a range counts.
    Counted,
}

/// The steps of a graph, in the order they run.
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// Where a node stands.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    level: usize,
    host: bool,
}

impl Plan {
    /// The steps of a graph. `None`: the interpreter need run none of its nodes, and it is one part.
    ///
    /// # Errors
    /// A cycle.
    pub fn of(graph: &Graph, cut: Cut) -> Result<Option<Plan>> {
        let on_host = |n: &NodeId| is_host(graph, *n) || cut == Cut::Counted && is_counted(graph, *n);
        let host: BTreeSet<NodeId> = graph.node_ids().into_iter().filter(on_host).collect();
        if host.is_empty() && !ends_in_host_values(graph) {
            return Ok(None);
        }
        let order = graph
            .topological()
            .map_err(|n| Error::internal(format!("the graph has a cycle through {n}")))?;
        let before = before(graph);
        let places = places(&order, &before, &host);
        let mut levels: BTreeMap<Place, Vec<NodeId>> = BTreeMap::new();
        for &n in &order {
            // Compiled parts of a level come before its host nodes: `false` is the lesser one.
            levels.entry(places[&n]).or_default().push(n);
        }
        let mut steps = vec![];
        for (place, nodes) in levels {
            if place.host {
                steps.extend(nodes.into_iter().map(Step::Host));
            } else {
                let parts = connected(&nodes, &before).into_iter();
                steps.extend(parts.map(|nodes| Step::Compiled(Box::new(Part::of(graph, &nodes)))));
            }
        }
        Ok(Some(Plan { steps }))
    }

    /// The nodes that the interpreter runs.
    pub fn host_nodes(&self) -> Vec<NodeId> {
        let host = |s: &Step| match s {
            Step::Host(n) => Some(*n),
            Step::Compiled(_) => None,
        };
        self.steps.iter().filter_map(host).collect()
    }
}

/// Whether a node is control flow, or a range, that declares sizes of its results, itself or within a region.
fn is_counted(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let counts = node.op == Op::Range || !node.regions.is_empty();
    counts && node.attrs.declared().iter().any(Option::is_some)
        || node.regions.iter().any(|r| r.node_ids().into_iter().any(|inner| is_counted(r, inner)))
}

/// For each node those that must run before it: who makes its operands, and who declares its symbols.
fn before(graph: &Graph) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    let declared = graph.declarations();
    let of = |n: NodeId| {
        let producers = graph.node(n).operands.iter().flatten().filter_map(|&v| graph.producer(v));
        let symbols = graph.symbols_used(n);
        let declaring = symbols.iter().filter_map(|s| declared.get(s.as_str()).copied());
        (n, producers.chain(declaring).collect())
    };
    graph.node_ids().into_iter().map(of).collect()
}

fn places(
    order: &[NodeId],
    before: &BTreeMap<NodeId, BTreeSet<NodeId>>,
    host: &BTreeSet<NodeId>,
) -> BTreeMap<NodeId, Place> {
    let mut places: BTreeMap<NodeId, Place> = BTreeMap::new();
    for &n in order {
        let is_host = host.contains(&n);
        let after = |p: &Place| p.level + usize::from(p.host && !is_host);
        let level = before[&n].iter().filter_map(|b| places.get(b)).map(after).max().unwrap_or(0);
        places.insert(n, Place { level, host: is_host });
    }
    places
}

/// Nodes in groups that hang together, each in the given order, the groups by their first node.
fn connected(nodes: &[NodeId], before: &BTreeMap<NodeId, BTreeSet<NodeId>>) -> Vec<Vec<NodeId>> {
    let index: BTreeMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    // By node: a lower one of its group, or itself.
    let mut lower: Vec<usize> = (0..nodes.len()).collect();
    let find = |lower: &[usize], mut i: usize| {
        while lower[i] != i {
            i = lower[i];
        }
        i
    };
    for (i, n) in nodes.iter().enumerate() {
        for other in before[n].iter().filter_map(|b| index.get(b)) {
            let (a, b) = (find(&lower, i), find(&lower, *other));
            lower[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
    for (i, &n) in nodes.iter().enumerate() {
        groups.entry(find(&lower, i)).or_default().push(n);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::text;

    fn steps(source: &str) -> Vec<String> {
        let graph = text::parse(source, &|_| None).expect("a graph");
        let plan = Plan::of(&graph, Cut::Values).expect("no cycle").expect("host values");
        let step = |s: &Step| match s {
            Step::Host(n) => graph.node(*n).op.to_string(),
            Step::Compiled(part) => {
                let ops = part.graph().topological().expect("no cycle").into_iter();
                ops.map(|n| part.graph().node(n).op.to_string()).collect::<Vec<_>>().join("+")
            }
        };
        plan.steps.iter().map(step).collect()
    }

    #[test]
    fn graphs_of_tensors_are_not_cut() {
        let graph = text::parse("graph @g(%0: f32[2]) -> (%1) { %1 = neg(%0) }", &|_| None).unwrap();
        assert!(Plan::of(&graph, Cut::Counted).unwrap().is_none());
    }

    /// `neg` and `add` would be one part, but for the sequence between them, which `add` needs: no part may need itself.
    #[test]
    fn parts_form_no_cycle() {
        let source = "graph @g(%0: f32[2]) -> (%4) { %1 = neg(%0) %2 = sequence_construct(%1) %3 = sequence_length(%2) \
                      %5 = cast(%3) {round = \"nearest\", saturate = 1, to = f32} %4 = add(%1, %5) }";
        assert_eq!(steps(source), ["neg", "sequence_construct", "sequence_length", "cast+add"]);
    }

    #[test]
    fn what_does_not_hang_together_is_two_parts() {
        let source = "graph @g(%0: f32[2], %1: f32[3]) -> (%6) { %2 = neg(%0) %3 = exp(%2) %4 = neg(%1) \
                      %6 = sequence_construct(%3, %4) }";
        assert_eq!(steps(source), ["neg+exp", "neg", "sequence_construct"]);
    }

    /// Who uses a symbol runs after who declares it, in a part that is told its value.
    #[test]
    fn symbols_order_steps_too() {
        let source = "graph @g(%0: seq<f32[k]>, %1: i64[]) -> (%3, %5) { %2 = sequence_at(%0, %1) {dims = [u]} %3 = sequence_construct(%2) \
                      %4 = iota() {axis = 0, shape = [u], to = f32} %5 = neg(%4) }";
        assert_eq!(steps(source), ["sequence_at", "sequence_construct", "iota+neg"]);
    }
}
