//! Rounds: layers that do not depend on each other are pruned together, those behind them later.

use crate::contractions::reads;
use onnx_protobuf::GraphProto;
use std::collections::BTreeMap;

/// The nodes by rounds: each behind those of earlier rounds that it depends on.
pub fn rounds(graph: &GraphProto, nodes: &[usize]) -> Vec<Vec<usize>> {
    let mut level: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out: Vec<Vec<usize>> = vec![];
    for (i, node) in graph.node.iter().enumerate() {
        let mut names = vec![];
        reads(std::slice::from_ref(node), &mut names);
        let mut at = names.iter().filter_map(|n| level.get(n)).copied().max().unwrap_or(0);
        if nodes.contains(&i) {
            out.resize(out.len().max(at + 1), vec![]);
            out[at].push(i);
            at += 1;
        }
        level.extend(node.output.iter().map(|o| (o.as_str(), at)));
    }
    out
}
