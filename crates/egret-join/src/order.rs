//! The order of nodes: what is read stands before its readers, otherwise as it was; and which nodes the outputs need.

use crate::part::reads;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// Sort nodes so that every value is computed before it is read; of those that could be next, the first is.
///
/// # Errors
/// Nodes of one model that read each other.
pub(crate) fn sort(nodes: Vec<NodeProto>) -> Result<Vec<NodeProto>> {
    let mut maker: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        maker.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), i)));
    }
    let mut readers: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    let mut open: Vec<usize> = vec![0; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let mut names = vec![];
        reads(node, &mut names);
        let before: BTreeSet<usize> = names.into_iter().filter_map(|n| maker.get(n).copied()).collect();
        open[i] = before.len();
        before.into_iter().for_each(|b| readers[b].push(i));
    }
    let mut next: BTreeSet<usize> = (0..nodes.len()).filter(|&i| open[i] == 0).collect();
    let mut order = vec![];
    while let Some(i) = next.pop_first() {
        order.push(i);
        for &r in &readers[i] {
            open[r] -= 1;
            if open[r] == 0 {
                next.insert(r);
            }
        }
    }
    if let Some(i) = open.iter().position(|n| *n > 0) {
        return Err(Error::user(format!(
            "nodes of a model read each other in a circle, {} `{}` among them or behind them; the file is damaged",
            nodes[i].op_type, nodes[i].name
        )));
    }
    let mut nodes: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| nodes[i].take()).collect())
}

/// Remove nodes and initialisers that no output depends on; returns how many nodes.
pub(crate) fn remove_dead(graph: &mut GraphProto) -> usize {
    let mut needed: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let before = graph.node.len();
    let mut keep = vec![false; before];
    for (i, node) in graph.node.iter().enumerate().rev() {
        keep[i] = node.output.iter().any(|o| needed.contains(o));
        if keep[i] {
            let mut names = vec![];
            reads(node, &mut names);
            needed.extend(names.into_iter().map(str::to_owned));
        }
    }
    let mut keep = keep.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(true));
    let made: BTreeSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    let inputs: BTreeSet<&String> = graph.input.iter().map(|i| &i.name).collect();
    let stays = |name: &String| needed.contains(name) || inputs.contains(name);
    graph.initializer.retain(|t| stays(&t.name));
    graph.sparse_initializer.retain(|s| stays(&s.values.get_or_default().name));
    graph.value_info.retain(|v| made.contains(&v.name) || stays(&v.name));
    before - graph.node.len()
}
