//! What stands behind an If whose branches give values of unlike ranks, moved into its branches.
//!
//! No value has a rank that only a run knows. But what is made of one in the end may have the same rank either way: behind
//! `If(size == 1, Squeeze(x), x)` a sum of all, or a Reshape to a vector, does. Each branch then has nodes of its own for it, and the If gives what the graph
//! gives.

use crate::names::normal;
use crate::order::{captured_names, graphs, used_names};
use onnx_protobuf::{GraphProto, NodeProto, ValueInfoProto};
use std::collections::BTreeSet;

/// More nodes than this are not there twice.
const MAX_NODES: usize = 4096;

/// A graph in which what depends on the If that gives `result` stands in its branches. Nothing where another If of that kind stands behind it, where what
/// is moved is too much, or the graph gives `result` itself.
pub(crate) fn into_branches(graph: &GraphProto, result: &str) -> Option<GraphProto> {
    let at = graph.node.iter().position(|n| n.output.iter().any(|o| o == result))?;
    let mut depends: BTreeSet<&str> = graph.node[at].output.iter().map(String::as_str).collect();
    let mut moved = BTreeSet::new();
    loop {
        let before = moved.len();
        for (i, node) in graph.node.iter().enumerate() {
            if i != at && !moved.contains(&i) && used_names(node).iter().any(|n| depends.contains(n)) {
                depends.extend(node.output.iter().map(String::as_str).filter(|o| !o.is_empty()));
                moved.insert(i);
            }
        }
        if moved.len() == before {
            break;
        }
    }
    let tail: Vec<&NodeProto> = moved.iter().map(|&i| &graph.node[i]).collect();
    let given: Vec<&ValueInfoProto> =
        graph.output.iter().filter(|o| depends.contains(o.name.as_str())).collect();
    let itself = given.iter().any(|o| o.name == result);
    if given.is_empty() || itself || tail.len() > MAX_NODES || tail.iter().any(|n| chooses(n)) {
        return None;
    }
    let mut choice = graph.node[at].clone();
    for attribute in &mut choice.attribute {
        if let Some(branch) = attribute.g.as_mut() {
            lengthen(branch, result, &tail, &given)?;
        }
    }
    choice.output = given.iter().map(|o| o.name.clone()).collect();
    let stays = |i: &usize| *i != at && !moved.contains(i);
    let mut out = graph.clone();
    out.node = (0..graph.node.len()).filter(stays).map(|i| graph.node[i].clone()).collect();
    out.node.push(choice);
    Some(out)
}

/// Whether a node, or one within it, is an If that squeezes.
fn chooses(node: &NodeProto) -> bool {
    let squeezes = |n: &NodeProto| n.op_type == "Squeeze" && normal(&n.domain).is_empty();
    let own = node.op_type == "If" && graphs(node).any(|g| g.node.iter().any(squeezes));
    own || graphs(node).any(|g| g.node.iter().any(chooses))
}

/// Puts nodes behind a branch, which then gives `given` in place of `result`; nothing where names of its own are theirs as well.
fn lengthen(
    branch: &mut GraphProto,
    result: &str,
    tail: &[&NodeProto],
    given: &[&ValueInfoProto],
) -> Option<()> {
    let [output] = &branch.output[..] else { return None };
    let own: BTreeSet<&str> = branch
        .node
        .iter()
        .flat_map(|n| &n.output)
        .map(String::as_str)
        .chain(crate::names::initialised(branch))
        .collect();
    let behind =
        tail.iter().flat_map(|n| used_names(n).into_iter().chain(n.output.iter().map(String::as_str)));
    let taken: BTreeSet<&str> = captured_names(branch).into_iter().collect();
    let mut behind = behind.filter(|n| !n.is_empty());
    if own.contains(result) || behind.any(|n| own.contains(n)) || taken.contains(result) {
        return None;
    }
    let keep = NodeProto {
        op_type: "Identity".into(),
        input: vec![output.name.clone()],
        output: vec![result.to_owned()],
        ..NodeProto::default()
    };
    branch.node.push(keep);
    branch.node.extend(tail.iter().map(|&n| n.clone()));
    branch.output = given
        .iter()
        .map(|o| ValueInfoProto { name: o.name.clone(), ..ValueInfoProto::default() })
        .collect();
    Some(())
}
