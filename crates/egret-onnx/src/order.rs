//! The order of a graph's nodes. ONNX demands that producers stand before users; some converters do not keep to it.

use crate::error::ImportError;
use crate::names::{initialised, node_place};
use crate::ops::gradient;
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeSet, HashMap};

/// The nodes so that producers stand before users, in their own order as far as that allows.
///
/// # Errors
/// A cycle.
pub(crate) fn in_order(nodes: &[NodeProto]) -> Result<Vec<&NodeProto>, ImportError> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            producer.entry(name).or_insert(i);
        }
    }
    let needs: Vec<BTreeSet<usize>> = nodes
        .iter()
        .map(|n| used_names(n).into_iter().filter_map(|u| producer.get(u).copied()).collect())
        .collect();
    if needs.iter().enumerate().all(|(i, n)| n.range(i..).next().is_none()) {
        return Ok(nodes.iter().collect());
    }
    let mut users = vec![vec![]; nodes.len()];
    let mut missing: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    for (i, n) in needs.iter().enumerate() {
        n.iter().for_each(|&p| users[p].push(i));
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
    let mut order = vec![];
    while let Some(i) = ready.pop_first() {
        order.push(&nodes[i]);
        for &user in &users[i] {
            missing[user] -= 1;
            if missing[user] == 0 {
                ready.insert(user);
            }
        }
    }
    match missing.iter().position(|&m| m > 0) {
        None => Ok(order),
        Some(stuck) => {
            Err(ImportError::invalid("the nodes form a cycle").at(node_place("", &nodes[stuck])))
        }
    }
}

/// The names that the outputs of a graph need, of those that its nodes compute and around it; `order` as of [`in_order`].
pub(crate) fn needed_names<'n>(
    order: &[&'n NodeProto],
    outputs: impl Iterator<Item = &'n str>,
) -> BTreeSet<&'n str> {
    let mut needed: BTreeSet<&str> = outputs.collect();
    for node in order.iter().rev() {
        if node.output.iter().any(|o| needed.contains(o.as_str())) {
            needed.extend(used_names(node));
        }
    }
    needed
}

/// The names that a node uses: its inputs, and what its sub-graphs capture. The names that a sub-graph defines are its own,
/// also where an outer node computes something of the same name.
pub(crate) fn used_names(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node.input.iter().map(String::as_str).collect();
    for graph in graphs(node) {
        names.extend(captured_names(graph));
    }
    names.extend(gradient::named(node));
    names.remove("");
    names
}

/// The names of values around it that a graph uses.
pub(crate) fn captured_names(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    names.extend(graph.node.iter().flat_map(used_names));
    let inputs = graph.input.iter().map(|i| i.name.as_str());
    let results = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
    for own in inputs.chain(results).chain(initialised(graph)) {
        names.remove(own);
    }
    names
}

/// The sub-graphs of a node.
pub(crate) fn graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}
