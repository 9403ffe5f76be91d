//! The ends of a model: contractions before which, or behind which, there is no other. They see the inputs, or decide the outputs, and
//! are the usual ones to leave alone.

use crate::contractions::{kind, nested, reads};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::BTreeSet;

/// The indices of the first and of the last contractions of a graph.
pub fn ends(graph: &GraphProto) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let contracts: Vec<bool> = graph.node.iter().map(contracts).collect();
    let inputs: Vec<Vec<&str>> = graph.node.iter().map(|n| names(std::slice::from_ref(n))).collect();
    // Values with a contraction before them, and values with one behind them.
    let (mut after, mut before) = (BTreeSet::<&str>::new(), BTreeSet::<&str>::new());
    loop {
        let size = (after.len(), before.len());
        for (i, node) in graph.node.iter().enumerate() {
            if contracts[i] || inputs[i].iter().any(|n| after.contains(n)) {
                after.extend(node.output.iter().map(String::as_str));
            }
        }
        for (i, node) in graph.node.iter().enumerate().rev() {
            if contracts[i] || node.output.iter().any(|n| before.contains(n.as_str())) {
                before.extend(&inputs[i]);
            }
        }
        // One round for sorted nodes, and one that finds nothing new.
        if size == (after.len(), before.len()) {
            break;
        }
    }
    let nodes = || (0..graph.node.len()).filter(|&i| contracts[i]);
    let first = nodes().filter(|&i| !inputs[i].iter().any(|n| after.contains(n))).collect();
    let last =
        nodes().filter(|&i| !graph.node[i].output.iter().any(|n| before.contains(n.as_str()))).collect();
    (first, last)
}

fn contracts(node: &NodeProto) -> bool {
    let mut inner = vec![];
    nested(std::slice::from_ref(node), &mut inner);
    kind(node).is_some() || !inner.is_empty()
}

fn names(nodes: &[NodeProto]) -> Vec<&str> {
    let mut out = vec![];
    reads(nodes, &mut out);
    out
}
