//! Cutting a graph into regions, each the work of one e-graph.

use egret_ir::{Graph, NodeId, ValueId};
use std::collections::HashMap;

/// Regions have at most so many nodes.
const REGION: usize = 600;

/// A piece of a graph, in topological order.
pub(crate) struct Region {
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Values of the region that are used outside it.
    pub outputs: Vec<ValueId>,
}

/// Cut a graph where few values are alive, so that what is done to it grows with its length only.
pub(crate) fn regions(graph: &Graph, order: &[NodeId]) -> Vec<Region> {
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let uses = graph.use_lists();
    // The last place that uses what a node makes.
    let last_use = |n: NodeId| {
        let results = graph.node(n).results.iter();
        let ends = results.map(|&v| match uses.output_uses(v) {
            0 => uses.users(v).iter().map(|u| place[u]).max().unwrap_or(0),
            _ => order.len(),
        });
        ends.max().unwrap_or(0)
    };
    let last: Vec<usize> = order.iter().map(|&n| last_use(n)).collect();
    // How many nodes' results are alive after each place.
    let mut delta = vec![0i64; order.len() + 2];
    for (i, &end) in last.iter().enumerate() {
        delta[i] += 1;
        delta[end.max(i)] -= 1;
    }
    let alive: Vec<i64> = delta
        .iter()
        .scan(0, |sum, d| {
            *sum += d;
            Some(*sum)
        })
        .collect();
    let (mut out, mut from) = (vec![], 0);
    while from < order.len() {
        let to = match order.len() - from {
            left if left <= REGION => order.len(),
            _ => (from + REGION / 2..from + REGION).min_by_key(|&i| (alive[i], std::cmp::Reverse(i))).unwrap_or(from) + 1,
        };
        let results = (from..to).filter(|&i| last[i] >= to).flat_map(|i| graph.node(order[i]).results.iter().copied());
        let outputs = results.filter(|&v| uses.output_uses(v) > 0 || uses.users(v).iter().any(|u| place[u] >= to)).collect();
        out.push(Region { nodes: order[from..to].to_vec(), outputs });
        from = to;
    }
    out
}
