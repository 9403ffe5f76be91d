//! Constants that kernels make, which therefore are no weights: repeated values, masks of two ranges of indices.
//!
//! `x + broadcast(2.5)` of 4000 x 4000 floats would be 64 MB of weights if the broadcast were evaluated, and takes longer to read than to make.
//! Lowering reads through such nodes where elementwise kernels are all that reads them; other kernels want their operands in memory, so what
//! they read is folded.

use crate::rebuild::topological;
use egret_ir::{DType, Graph, Node, NodeId, Op, ValueId};
use std::collections::BTreeSet;

/// Bytes of a result up to which it is folded whatever it is made of: the caches hold it.
const LEAST: usize = 1 << 16;

/// The most nodes that are evaluated for each element on every run instead of once.
const MOST_NODES: usize = 6;

/// What a value is made of, by constants that are in memory.
#[derive(Copy, Clone)]
struct Sources {
    /// Elements of these constants together.
    elements: usize,
    /// Nodes that a kernel evaluates.
    nodes: usize,
}

/// The nodes of constants that are left for kernels to evaluate.
pub(super) fn nodes(graph: &Graph) -> BTreeSet<NodeId> {
    let order = topological(graph);
    // By value: what is made of constants alone.
    let mut made: Vec<Option<Sources>> = vec![None; graph.value_count()];
    let mut found = BTreeSet::new();
    for &n in &order {
        let node = graph.node(n);
        let Some(from) = sources(graph, &made, node) else { continue };
        if is_generated(graph, node, from) {
            found.insert(n);
            made[index(node.results[0])] = Some(Sources { nodes: from.nodes + 1, ..from });
            continue;
        }
        for &v in &node.results {
            made[index(v)] = elements(graph, v).map(|elements| Sources { elements, nodes: 0 });
        }
    }
    let uses = graph.use_lists();
    for n in order.iter().rev() {
        // Users stand behind: whether they are left is decided.
        let reads = |user: &NodeId| {
            let node = graph.node(*user);
            let runs = node.results.iter().all(|&v| made[index(v)].is_none());
            found.contains(user) || node.op.is_elementwise() && runs
        };
        if found.contains(n) && !uses.users(graph.node(*n).results[0]).iter().all(reads) {
            found.remove(n);
        }
    }
    found
}

fn index(v: ValueId) -> usize {
    v.0 as usize
}

fn elements(graph: &Graph, v: ValueId) -> Option<usize> {
    graph.ty(v).as_tensor()?.const_len()
}

/// What the operands of a node are made of together; none if a run has to tell, or the node cannot be evaluated before.
fn sources(graph: &Graph, made: &[Option<Sources>], node: &Node) -> Option<Sources> {
    let none = node.operands.is_empty() && node.op != Op::Iota;
    if none || node.op.is_random() || node.op.has_regions() || node.op.is_host_only() {
        return None;
    }
    let mut all = Sources { elements: 0, nodes: 0 };
    for &v in node.operands.iter().flatten() {
        let of = match graph.as_const(v) {
            Some(t) => Sources { elements: t.len(), nodes: 0 },
            None => made[index(v)]?,
        };
        all.elements = all.elements.saturating_add(of.elements);
        all.nodes = all.nodes.saturating_add(of.nodes);
    }
    Some(all)
}

/// Whether a kernel makes the result about as fast as it would read it, and from fewer elements. What is only converted (integers that are
/// dequantised, say) has as many.
fn is_generated(graph: &Graph, node: &Node, from: Sources) -> bool {
    let [result] = node.results[..] else { return false };
    let (Some(len), Some(ty)) = (elements(graph, result), graph.ty(result).as_tensor()) else {
        return false;
    };
    let bytes = len.saturating_mul(ty.dtype.size());
    is_cheap(node.op)
        && is_plain(ty.dtype)
        && bytes > LEAST
        && len > from.elements
        && from.nodes < MOST_NODES
}

/// Whether an operation is a broadcast, or one instruction or two for each vector.
fn is_cheap(op: Op) -> bool {
    matches!(
        op,
        Op::Broadcast
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Neg
            | Op::Abs
            | Op::Min
            | Op::Max
            | Op::Equal
            | Op::Less
            | Op::LessEqual
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::Not
            | Op::Where
            | Op::Cast
    )
}

/// Whether vectors hold elements of a type as they are.
fn is_plain(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::Bool
            | DType::I8
            | DType::U8
            | DType::I32
            | DType::I64
            | DType::F16
            | DType::BF16
            | DType::F32
            | DType::F64
    )
}
