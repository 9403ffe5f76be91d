//! What nodes of a graph tell their neighbours.

use super::build::{Build, int, named, sized, word};
use super::{Error, Input, Result, fusion};

/// The input with the edges, `i64[2, edges]`: from and to, one behind the other.
pub(super) const EDGES: &str = "edges";

/// The first opset that adds up what is scattered to one place.
const ADDS_UP: i64 = 16;

/// One round of messages as `features`: `relu(W x_i + b + sum over edges (j, i) of M x_j)` of nodes `[nodes, features]`.
pub(super) fn passed(build: &mut Build, inputs: &[Input<'_>], width: usize) -> Result<Option<usize>> {
    let [nodes] = inputs else {
        return Err(Error::user(format!(
            "message passing takes the features of nodes from one wire, not from {}; join them first: --head concat",
            inputs.len()
        )));
    };
    if nodes.dims.len() != 2 {
        return Err(Error::user(format!("message passing takes [nodes, features]; {}", nodes.said())));
    }
    build.opset = build.opset.max(ADDS_UP);
    let from = fusion::widths(build, inputs)?[0];
    build.whole(EDGES, vec![sized(2), named(EDGES)]);
    let own = build.linear(nodes.name(), "own", from, width)?;
    let told = build.product(nodes.name(), "message", from, width)?;
    let end = |build: &mut Build, which: &str, row: i64| {
        let at = build.indices(&format!("{which}.row"), &[row]);
        build.node_with("Gather", &[EDGES, &at], which, vec![int("axis", 0)])
    };
    let source = end(build, "source", 0);
    let target = end(build, "target", 1);
    // As a list of nodes, and as a column of places.
    let flat = build.indices("flat", &[-1]);
    let source = build.node("Reshape", &[&source, &flat], "sources");
    let column = build.indices("column", &[-1, 1]);
    let target = build.node("Reshape", &[&target, &column], "targets");
    let messages = build.node_with("Gather", &[&told, &source], "messages", vec![int("axis", 0)]);
    let all = build.node_with(
        "ScatterND",
        &[&own, &target, &messages],
        "received",
        vec![word("reduction", "add")],
    );
    build.node("Relu", &[&all], "features");
    Ok(Some(width))
}
