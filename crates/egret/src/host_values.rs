//! What compiled code cannot hold: strings, sequences, optionals, maps.

use egret_ir::{Graph, NodeId, Type};

fn is_host_value(ty: &Type) -> bool {
    egret_lower::host_value(ty).is_some()
}

/// Whether an input or an output of a graph is such a value.
pub(crate) fn ends_in_host_values(graph: &Graph) -> bool {
    graph.inputs().iter().chain(graph.outputs()).any(|&v| is_host_value(graph.ty(v)))
}

/// Whether a graph has values that compiled code cannot hold, whatever its dims are.
pub(crate) fn has_host_values(graph: &Graph) -> bool {
    ends_in_host_values(graph) || graph.node_ids().into_iter().any(|n| is_host(graph, n))
}

/// Whether a node touches a host value, itself or within a region.
pub(crate) fn is_host(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let mut values = node.operands.iter().flatten().chain(&node.results);
    egret_lower::refusal(node.op).is_some()
        || values.any(|&v| is_host_value(graph.ty(v)))
        || node.regions.iter().any(|r| {
            r.inputs().iter().chain(r.outputs()).any(|&v| is_host_value(r.ty(v)))
                || r.node_ids().into_iter().any(|inner| is_host(r, inner))
        })
}
