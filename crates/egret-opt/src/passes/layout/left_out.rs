//! Which convolutions are computed without the zeros of their weights (`sparse` of egret-lower), for which channels lie first.
//!
//! Of floats it is each for which that is faster. One of bytes has neighbours that want channels last, where they are not of these too: what is
//! between them is turned, and that has to be earned. So those that earn it least are given up, one round after the other, as long as there are such.
//!
//! For example, every second layer of a network has few weights left. Each is between two dense ones: its operand and its result are turned. Where that takes
//! longer than what is saved, the network stays as it is; where all layers have few weights left, nothing is turned.

use super::planes::keeps_layout;
use crate::cost::CostModel;
use egret_ir::{Dim, Graph, Node, NodeId, Op, UseLists, ValueId, Zeros};
use std::collections::BTreeSet;

/// Multiply-adds of floats that take as long as moving an element between the layouts: a quarter of a nanosecond.
const PRICE_OF_MOVE: f64 = 14.0;

/// The convolutions of a graph that leave out zeros.
pub struct LeftOut {
    nodes: BTreeSet<NodeId>,
}

/// One of bytes, and what it saves in multiply-adds of floats.
struct OfBytes {
    node: NodeId,
    saved: f64,
}

impl LeftOut {
    /// By what they cost on a target.
    pub fn of(graph: &Graph, uses: &UseLists, cost: &CostModel) -> LeftOut {
        let mut all = LeftOut { nodes: BTreeSet::new() };
        let mut of_bytes = vec![];
        if cost.sparse_rows == 0 {
            return all;
        }
        for id in graph.node_ids() {
            let node = graph.node(id);
            let first = node.op == Op::Conv && node.attrs.str("layout") == "channels_first";
            let Some(z) = first.then(|| Zeros::of(graph, node)).flatten() else { continue };
            if !cost.leaves_out_zeros(z.quads, z.weights, z.nonzeros, z.columns, z.turned) {
                continue;
            }
            all.nodes.insert(id);
            if z.quads {
                let saved = cost.saved(z.quads, z.weights, z.nonzeros, z.columns, z.turned);
                of_bytes.push(OfBytes { node: id, saved });
            }
        }
        while !of_bytes.is_empty() {
            let moved = |o: &OfBytes| all.moved(graph, uses, graph.node(o.node)) as f64;
            let (stay, give_up): (Vec<OfBytes>, Vec<OfBytes>) =
                of_bytes.into_iter().partition(|o| moved(o) * PRICE_OF_MOVE <= o.saved);
            of_bytes = stay;
            if give_up.is_empty() {
                break;
            }
            for o in give_up {
                all.nodes.remove(&o.node);
            }
        }
        all
    }

    /// Whether a node is one of them.
    pub fn has(&self, graph: &Graph, node: &Node) -> bool {
        node.results.first().and_then(|&y| graph.producer(y)).is_some_and(|id| self.nodes.contains(&id))
    }

    /// Elements of an image that are turned for one of them: its operand where a convolution with channels last made it, its result where one reads it.
    fn moved(&self, graph: &Graph, uses: &UseLists, node: &Node) -> u64 {
        let (x, y) = (node.operand(0), node.results[0]);
        let len = |v: ValueId| {
            let dims = graph.tensor_ty(v).shape.iter().skip(1).filter_map(Dim::as_const);
            dims.map(|d| d.max(0) as u64).product::<u64>()
        };
        let mut moved = 0;
        if self.meets_others(
            graph,
            x,
            |n| graph.node(n).operands.iter().flatten().copied().collect(),
            |v| graph.producer(v).into_iter().collect(),
        ) {
            moved += len(x);
        }
        if self.meets_others(graph, y, |n| graph.node(n).results.clone(), |v| uses.users(v).to_vec()) {
            moved += len(y);
        }
        moved
    }

    /// Whether a convolution that is none of them is reached from a value, through what lies as its operands do.
    fn meets_others(
        &self,
        graph: &Graph,
        from: ValueId,
        beyond: impl Fn(NodeId) -> Vec<ValueId>,
        nodes: impl Fn(ValueId) -> Vec<NodeId>,
    ) -> bool {
        let (mut seen, mut work) = (BTreeSet::new(), vec![from]);
        while let Some(v) = work.pop() {
            for n in nodes(v) {
                let node = graph.node(n);
                if matches!(node.op, Op::Conv | Op::ConvTranspose) {
                    if !self.nodes.contains(&n) {
                        return true;
                    }
                } else if (node.op == Op::Concat || keeps_layout(graph, node)) && seen.insert(n) {
                    work.extend(beyond(n));
                }
            }
        }
        false
    }
}
