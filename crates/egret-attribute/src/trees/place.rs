//! How messages name a node.

use egret::ir::{Graph, NodeId};

/// `softmax (Softmax:/out)`
pub(super) fn place(graph: &Graph, node: NodeId) -> String {
    let n = graph.node(node);
    match n.sources.is_empty() {
        true => format!("{node} {}", n.op),
        false => {
            let sources: Vec<&str> = n.sources.iter().map(String::as_str).collect();
            format!("{} ({})", n.op, sources.join(", "))
        }
    }
}
