//! Which convolutions are computed without the zeros of their weights (`sparse` of egret-lower), for which channels lie first.
//!
//! Of floats it is each for which that is faster. One of bytes has neighbours that want channels last, where they are not of these too: what is
//! between them is turned, and that has to be earned. So they are chosen together, by a minimum cut: on one side channels lie first, on the other last.
//! A convolution on the wrong side costs what it would save, and a value whose two ends are on different sides costs what turning it takes.
//!
//! For example, every second layer of a network has few weights left. Each is between two dense ones: its operand and its result are turned. Where that takes
//! longer than what is saved, the network stays as it is; where all layers but the first have few weights left, one value is turned.

use super::planes::keeps_layout;
use crate::cost::CostModel;
use crate::passes::flow::Network;
use egret_ir::{Dim, Graph, Node, NodeId, Op, ValueId, Zeros};
use std::collections::BTreeSet;

/// Multiply-adds of floats that take as long as moving an element between the layouts: a quarter of a nanosecond.
const PRICE_OF_MOVE: u64 = 14;

/// The most that a side of the cut costs for one convolution or value: more than any that is computed, and sums of these are integers.
const MOST: u64 = 1 << 40;

/// The sides of the cut: channels first, channels last.
const FIRST: usize = 0;
const LAST: usize = 1;

/// The convolutions of a graph that leave out zeros.
pub struct LeftOut {
    nodes: BTreeSet<NodeId>,
}

impl LeftOut {
    /// By what they cost on a target.
    pub fn of(graph: &Graph, cost: &CostModel) -> LeftOut {
        let mut all = LeftOut { nodes: BTreeSet::new() };
        // Those of bytes, and what they save in multiply-adds of floats.
        let mut of_bytes: Vec<(NodeId, u64)> = vec![];
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
            if z.quads {
                let saved = cost.saved(z.quads, z.weights, z.nonzeros, z.columns, z.turned);
                of_bytes.push((id, saved as u64));
            } else {
                all.nodes.insert(id);
            }
        }
        if !of_bytes.is_empty() {
            all.choose(graph, &of_bytes);
        }
        all
    }

    /// Adds those of bytes that earn what is turned.
    fn choose(&mut self, graph: &Graph, of_bytes: &[(NodeId, u64)]) {
        let regions = Regions::of(graph);
        // Both sides, the regions, the convolutions that have a choice.
        let begin = 2 + graph.value_count();
        let mut network = Network::new(begin + of_bytes.len());
        let mut at = vec![None; graph.node_ids().iter().map(|n| n.0 as usize + 1).max().unwrap_or(0)];
        for (i, &(id, saved)) in of_bytes.iter().enumerate() {
            at[id.0 as usize] = Some(begin + i);
            network.join(FIRST, begin + i, saved.min(MOST));
        }
        for id in graph.node_ids() {
            let node = graph.node(id);
            if !matches!(node.op, Op::Conv | Op::ConvTranspose) {
                continue;
            }
            let side = if self.nodes.contains(&id) { FIRST } else { LAST };
            let own = at[id.0 as usize].unwrap_or(side);
            for v in [node.operand(0), node.results[0]] {
                let (region, price) =
                    (2 + regions.find(v), PRICE_OF_MOVE.saturating_mul(elements(graph, v)));
                network.join(own, region, price.min(MOST));
                network.join(region, own, price.min(MOST));
            }
        }
        network.fill(FIRST, LAST);
        let sides = network.near_source(FIRST);
        let chosen = of_bytes.iter().enumerate().filter(|(i, _)| sides[begin + i]);
        self.nodes.extend(chosen.map(|(_, (id, _))| id));
    }

    /// Whether a node is one of them.
    pub fn has(&self, graph: &Graph, node: &Node) -> bool {
        node.results.first().and_then(|&y| graph.producer(y)).is_some_and(|id| self.nodes.contains(&id))
    }
}

/// Elements of an image.
fn elements(graph: &Graph, v: ValueId) -> u64 {
    let dims = graph.tensor_ty(v).shape.iter().skip(1).filter_map(Dim::as_const);
    dims.map(|d| d.max(0) as u64).fold(1, u64::saturating_mul)
}

/// Values that lie alike, as what computes one from the other keeps the layout: sets of them, each by one of its members.
struct Regions {
    of: Vec<usize>,
}

impl Regions {
    fn of(graph: &Graph) -> Regions {
        let mut regions = Regions { of: (0..graph.value_count()).collect() };
        for id in graph.node_ids() {
            let node = graph.node(id);
            if node.op != Op::Concat && !keeps_layout(graph, node) || node.op == Op::Conv {
                continue;
            }
            let of = |v: &&ValueId| graph.as_const(**v).is_none();
            let all = node.operands.iter().flatten().filter(of).chain(&node.results);
            let all: Vec<usize> = all.map(|v| v.0 as usize).collect();
            for pair in all.windows(2) {
                let [a, b] = [regions.root(pair[0]), regions.root(pair[1])];
                regions.of[a.max(b)] = a.min(b);
            }
        }
        for v in 0..regions.of.len() {
            regions.of[v] = regions.root(v);
        }
        regions
    }

    /// The member of a value's set that stands for it, while sets are made.
    fn root(&mut self, mut v: usize) -> usize {
        while self.of[v] != v {
            self.of[v] = self.of[self.of[v]];
            v = self.of[v];
        }
        v
    }

    fn find(&self, v: ValueId) -> usize {
        self.of[v.0 as usize]
    }
}
