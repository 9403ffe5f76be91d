//! Cutting a graph into regions, one e-graph each. A cut is best where no pattern spans it and few values
//! are alive. Repeated blocks are all cut at the same place, so that they are equal regions.

use super::affinity::Affinity;
use super::numbering::Numbering;
use super::repeats::{Repeat, Repeats};
use egret_ir::{Def, Graph, NodeId, ValueId};
use std::cmp::Reverse;

/// The most nodes of a region.
const REGION: usize = 600;
/// Copies of a repeated block with fewer nodes are put into one region until it has this many.
const BLOCK: usize = 32;
/// The fewest copies that are worth cutting apart: a cut can cost a match.
const COPIES: usize = 3;

/// A piece of a graph, in topological order.
pub(crate) struct Region {
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Values of the region that are used outside it.
    pub outputs: Vec<ValueId>,
}

/// Cut a graph whose nodes stand in this order.
pub(crate) fn regions(
    graph: &Graph,
    order: &[NodeId],
    numbering: &Numbering,
    affinity: &Affinity,
) -> Vec<Region> {
    let lives = Lives::of(graph, order, affinity);
    let mut out = vec![];
    let mut cut = |from: usize, to: usize| out.push(lives.region(from, to));
    if order.len() < COPIES * BLOCK {
        lives.plain(0, order.len(), &mut cut);
        return out;
    }
    let labels = labels(graph, order, numbering);
    let mut repeats = Repeats::new(&labels, REGION);
    let mut from = 0;
    while let Some(blocks) = repeats.next(from, COPIES, |repeat| lives.blocks(repeat)) {
        lives.plain(from, blocks.from, &mut cut);
        for i in 0..blocks.count {
            cut(blocks.from + i * blocks.len, blocks.from + (i + 1) * blocks.len);
        }
        from = blocks.from + blocks.count * blocks.len;
    }
    lives.plain(from, order.len(), &mut cut);
    out
}

/// A label for each node: its number, and which operands are constants. Regions are compared exactly later,
/// by their keys.
fn labels(graph: &Graph, order: &[NodeId], numbering: &Numbering) -> Vec<u32> {
    let label = |&n: &NodeId| {
        let node = graph.node(n);
        let bits =
            node.operands.iter().take(8).enumerate().map(|(i, v)| match v.map(|v| &graph.value(v).def) {
                Some(Def::Const(_)) => 1 << i,
                _ => 0,
            });
        numbering.node(n) << 8 | bits.sum::<u32>()
    };
    order.iter().map(label).collect()
}

/// Equal blocks, back to back.
struct Blocks {
    from: usize,
    len: usize,
    count: usize,
}

/// Liveness of values, by position in the order.
struct Lives<'a> {
    graph: &'a Graph,
    order: &'a [NodeId],
    /// The position of each value's last user; 0 if there is none.
    last: Vec<usize>,
    is_output: Vec<bool>,
    /// For each position how many matches a cut there may hide: the sum of the affinities of the edges that
    /// it crosses.
    hidden: Vec<i64>,
    /// For each position how many values cross it.
    alive: Vec<i64>,
}

impl<'a> Lives<'a> {
    fn of(graph: &'a Graph, order: &'a [NodeId], affinity: &Affinity) -> Lives<'a> {
        let mut last = vec![0; graph.value_count()];
        let mut made = vec![0; graph.value_count()];
        let (mut hidden, mut alive) = (vec![0i64; order.len() + 2], vec![0i64; order.len() + 2]);
        for (i, &n) in order.iter().enumerate() {
            let node = graph.node(n);
            node.results.iter().for_each(|v| made[v.0 as usize] = i);
            for v in node.operands.iter().flatten() {
                last[v.0 as usize] = i;
                if let Def::Node(from, _) = graph.value(*v).def {
                    let strength = affinity.strength(node.op, graph.node(from).op);
                    hidden[made[v.0 as usize] + 1] += strength;
                    hidden[i + 1] -= strength;
                }
            }
        }
        for (i, &n) in order.iter().enumerate() {
            for v in &graph.node(n).results {
                alive[i + 1] += 1;
                alive[last[v.0 as usize].max(i) + 1] -= 1;
            }
        }
        let sum = |deltas: &mut Vec<i64>| {
            let mut sum = 0;
            for d in deltas {
                sum += *d;
                *d = sum;
            }
        };
        sum(&mut hidden);
        sum(&mut alive);
        let mut is_output = vec![false; graph.value_count()];
        graph.outputs().iter().for_each(|v| is_output[v.0 as usize] = true);
        // Others may use its symbols and none of its results.
        let declares = order.iter().map(|&n| graph.node(n)).filter(|n| !n.attrs.declared().is_empty());
        declares.filter_map(|n| n.results.first()).for_each(|v| is_output[v.0 as usize] = true);
        Lives { graph, order, last, is_output, hidden, alive }
    }

    fn region(&self, from: usize, to: usize) -> Region {
        let nodes = self.order[from..to].to_vec();
        let results = nodes.iter().flat_map(|&n| &self.graph.node(n).results).copied();
        let outputs =
            results.filter(|v| self.is_output[v.0 as usize] || self.last[v.0 as usize] >= to).collect();
        Region { nodes, outputs }
    }

    /// Cuts a stretch in which nothing repeats.
    fn plain(&self, mut from: usize, end: usize, cut: &mut impl FnMut(usize, usize)) {
        while from < end {
            let to = match end - from {
                left if left <= REGION => end,
                _ => (from + REGION / 2..=from + REGION)
                    .min_by_key(|&i| (self.hidden[i], self.alive[i], Reverse(i)))
                    .unwrap_or(end),
            };
            cut(from, to);
            from = to;
        }
    }

    /// The blocks of a repeat, cut at the best position of its period (the first of equally good ones).
    fn blocks(&self, repeat: Repeat) -> Option<Blocks> {
        let Repeat { from, to, period } = repeat;
        let crossing = self.crossing(from + period, period);
        // Judged on the second copy: the first may have other neighbours.
        let phase = (0..period).min_by_key(|&p| (self.hidden[from + period + p], crossing[p], p))?;
        let best = self.hidden[from + period + phase];
        let mut from = from + phase;
        if self.hidden[from] > best {
            from += period;
        }
        let len = period * BLOCK.div_ceil(period);
        let count = to.saturating_sub(from) / len;
        (count >= COPIES).then_some(Blocks { from, len, count })
    }

    /// For each position of the period that starts at `at`: how many values that are made at most a period
    /// before it cross it.
    fn crossing(&self, at: usize, period: usize) -> Vec<i64> {
        let mut deltas = vec![0i64; period + 1];
        for i in at - period..(at + period).min(self.order.len()) {
            for v in &self.graph.node(self.order[i]).results {
                // The positions that it crosses, within one period.
                let first = (i + 1).max(at);
                let end = (self.last[v.0 as usize].min(i + period) + 1).min(at + period);
                if first < end {
                    deltas[first - at] += 1;
                    deltas[end - at] -= 1;
                }
            }
        }
        let mut sum = 0;
        deltas
            .iter()
            .take(period)
            .map(|d| {
                sum += d;
                sum
            })
            .collect()
    }
}
