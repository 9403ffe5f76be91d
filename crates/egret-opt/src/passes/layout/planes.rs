//! Depthwise convolutions that nothing around asks to compute with channels last.

use egret_ir::{DType, Graph, Node, NodeId, Op, UseLists, ValueId};
use std::collections::BTreeSet;

/// Whether each window of a convolution reads a single channel, in a shape that has a kernel with channels first (`planes` of
/// egret-lower).
fn runs_in_planes(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Conv {
        return false;
    }
    let (x, w) = (graph.tensor_ty(node.operand(0)), graph.tensor_ty(node.operand(1)));
    let channels = x.shape.get(1).and_then(|d| d.as_const());
    let (groups, last) = (node.attrs.int("groups"), node.attrs.ints("strides").last());
    node.attrs.str("layout") == "channels_first"
        && x.dtype == DType::F32
        && matches!(x.rank(), 3 | 4)
        && groups > 1
        && channels == Some(groups)
        && graph.as_const(node.operand(1)).is_some()
        && w.shape[2..].iter().try_fold(1, |n, d| Some(n * d.as_const()?)).is_some_and(|taps| taps <= 25)
        && matches!(last, Some(1 | 2))
}

/// Whether a depthwise convolution whose operand has channels first is to keep them: no transpose made the operand, and no other
/// convolution reads it or what becomes of the result. Otherwise a transpose is saved, or is needed in any case.
pub fn stays(graph: &Graph, uses: &UseLists, node: &Node) -> bool {
    let (x, y) = (node.operand(0), node.results[0]);
    runs_in_planes(graph, node)
        && !is_transposed(graph, x)
        && ![x, y].iter().any(|&v| reaches(graph, uses, v))
}

/// Whether what an operation computes lies as its operands do.
fn keeps_layout(graph: &Graph, node: &Node) -> bool {
    node.op.is_elementwise()
        || matches!(node.op, Op::Pool | Op::Pad | Op::Resize)
        || runs_in_planes(graph, node)
}

/// Whether a value comes from a transpose.
fn is_transposed(graph: &Graph, v: ValueId) -> bool {
    let (mut seen, mut work) = (BTreeSet::new(), vec![v]);
    while let Some(v) = work.pop() {
        let Some(n) = graph.producer(v).filter(|n| seen.insert(*n)) else { continue };
        let node = graph.node(n);
        if node.op == Op::Transpose {
            return true;
        }
        if node.op == Op::Reshape || keeps_layout(graph, node) {
            work.extend(node.operands.iter().flatten());
        }
    }
    false
}

/// Whether a value, or what is made of it in its layout, is read by a convolution that wants channels last.
fn reaches(graph: &Graph, uses: &UseLists, v: ValueId) -> bool {
    let (mut seen, mut work): (BTreeSet<NodeId>, _) = (BTreeSet::new(), vec![v]);
    while let Some(v) = work.pop() {
        for &n in uses.users(v) {
            let node = graph.node(n);
            if keeps_layout(graph, node) {
                if seen.insert(n) {
                    work.extend(&node.results);
                }
            } else if super::prefers_channels_last(node) {
                return true;
            }
        }
    }
    false
}
