//! Liveness of channels. Channels that can only be removed together (e.g. those of both sides of a residual
//! sum, of an activation and its operand) form one set; a set is live if a user needs one of its channels.

use super::PerValue;
use super::channels::{Channels, Flow, extent};
use super::constant_channels::ConstantChannels;
use super::weights::{Tap, Weights};
use crate::rebuild::topological;
use egret_ir::{Graph, Node, NodeId, ValueId};
use std::collections::HashMap;

/// The channels that are kept.
pub(super) struct LiveChannels {
    /// Of values that lose channels.
    kept: PerValue<Vec<usize>>,
}

impl LiveChannels {
    /// Propagates liveness backwards from the outputs.
    pub(super) fn of(graph: &Graph, channels: &Channels, known: &ConstantChannels) -> LiveChannels {
        let mut sets = Sets { first: HashMap::new(), parent: vec![], needed: vec![] };
        let values = channels.values(graph);
        for &(v, n) in &values {
            sets.first.insert(v, (sets.parent.len(), n));
            sets.parent.extend(sets.parent.len()..sets.parent.len() + n);
        }
        sets.needed = vec![false; sets.parent.len()];
        let order = topological(graph);
        for &id in &order {
            join(&mut sets, graph, channels, id, graph.node(id));
        }
        for &v in graph.outputs() {
            sets.need_all(v);
        }
        // Keep one channel: values without channels would be a special case for all that follows.
        loop {
            while order
                .iter()
                .rev()
                .fold(false, |changed, &id| need(&mut sets, graph, channels, known, id) | changed)
            {
            }
            let empty = values.iter().find(|&&(v, n)| (0..n).all(|c| !sets.is_needed(v, c)));
            match empty {
                Some(&(v, _)) => sets.need(v, 0),
                None => break,
            };
        }
        let kept = values.iter().filter_map(|&(v, n)| {
            let kept: Vec<usize> = (0..n).filter(|&c| sets.is_needed(v, c)).collect();
            (kept.len() < n).then_some((v, kept))
        });
        LiveChannels { kept: kept.collect() }
    }

    /// Whether nothing is removed.
    pub(super) fn is_all(&self) -> bool {
        self.kept.is_empty()
    }

    /// The channels of a value that are kept; `None`: all.
    pub(super) fn of_value(&self, v: ValueId) -> Option<&[usize]> {
        self.kept.get(&v).map(Vec::as_slice)
    }
}

/// A union-find over channels.
struct Sets {
    /// By value the index of its first channel, and the number of its channels.
    first: HashMap<ValueId, (usize, usize)>,
    parent: Vec<usize>,
    /// Whether a set is live, by its root.
    needed: Vec<bool>,
}

impl Sets {
    fn root(&mut self, mut i: usize) -> usize {
        while self.parent[i] != i {
            self.parent[i] = self.parent[self.parent[i]];
            i = self.parent[i];
        }
        i
    }

    fn join(&mut self, a: (ValueId, usize), b: (ValueId, usize)) {
        if let (Some(&(x, _)), Some(&(y, _))) = (self.first.get(&a.0), self.first.get(&b.0)) {
            let (x, y) = (self.root(x + a.1), self.root(y + b.1));
            self.parent[x.max(y)] = x.min(y);
            self.needed[x.min(y)] |= self.needed[x.max(y)];
        }
    }

    fn join_all(&mut self, a: ValueId, b: ValueId) {
        if let Some(&(_, n)) = self.first.get(&a) {
            (0..n).for_each(|c| self.join((a, c), (b, c)));
        }
    }

    fn is_needed(&mut self, v: ValueId, channel: usize) -> bool {
        match self.first.get(&v) {
            Some(&(first, _)) => {
                let root = self.root(first + channel);
                self.needed[root]
            }
            None => true,
        }
    }

    /// Marks a channel as live; returns whether it was not.
    fn need(&mut self, v: ValueId, channel: usize) -> bool {
        let Some(&(first, _)) = self.first.get(&v) else { return false };
        let root = self.root(first + channel);
        !std::mem::replace(&mut self.needed[root], true)
    }

    fn need_all(&mut self, v: ValueId) {
        if let Some(&(_, n)) = self.first.get(&v) {
            (0..n).for_each(|c| _ = self.need(v, c));
        }
    }
}

/// Unites channels that can only be removed together, and marks those that a node needs as a whole.
fn join(sets: &mut Sets, graph: &Graph, channels: &Channels, id: NodeId, node: &Node) {
    let x = node.operands.first().copied().flatten();
    let aligned = |v: ValueId, result: ValueId, axis: usize| {
        let (rank, own) = (graph.tensor_ty(result).rank(), graph.tensor_ty(v).rank());
        (axis + own).checked_sub(rank)
    };
    match (channels.flow(id), x, node.results.as_slice()) {
        (Flow::Dense { axis, .. }, Some(x), _) => {
            if channels.axis(x) != Some(*axis) {
                sets.need_all(x);
            }
        }
        (Flow::Depthwise | Flow::Through, Some(x), &[result]) => {
            if channels.axis(result).is_some() {
                sets.join_all(x, result);
            } else {
                sets.need_all(x);
            }
            node.operands[1..].iter().flatten().for_each(|&v| sets.need_all(v));
        }
        (Flow::Elementwise, _, &[result]) => {
            let axis = channels.axis(result);
            for &v in node.operands.iter().flatten().filter(|&&v| graph.as_const(v).is_none()) {
                let at = axis.and_then(|axis| aligned(v, result, axis));
                let wide = at.is_some_and(|at| graph.tensor_ty(v).shape[at].as_const() != Some(1));
                match (channels.axis(v), axis) {
                    (own, Some(_)) if own == at && wide => sets.join_all(v, result),
                    (_, Some(_)) if !wide => sets.need_all(v),
                    _ => {
                        sets.need_all(v);
                        sets.need_all(result);
                    }
                }
            }
        }
        (Flow::Concat, _, &[result]) => {
            let axis = channels.axis(result);
            let after = axis.is_some_and(|a| node.attrs.int("axis") == a as i64);
            let mut from = 0;
            for &v in node.operands.iter().flatten() {
                let n = axis.and_then(|a| extent(graph, v, a)).unwrap_or(0);
                let follows = axis.is_some() && channels.axis(v) == axis;
                let part = if after { from..from + n } else { 0..n };
                for (c, whole) in part.enumerate() {
                    if follows {
                        sets.join((v, c), (result, whole));
                    } else {
                        sets.need(result, whole);
                    }
                }
                if !follows {
                    sets.need_all(v);
                }
                from += n;
            }
        }
        _ => node.operands.iter().flatten().chain(&node.results).for_each(|&v| sets.need_all(v)),
    }
}

/// Marks the operand's channels that live channels of a contraction's result need; returns whether any is
/// new.
fn need(sets: &mut Sets, graph: &Graph, channels: &Channels, known: &ConstantChannels, id: NodeId) -> bool {
    let node = graph.node(id);
    let Flow::Dense { weights, axis } = channels.flow(id) else { return false };
    let (x, result) = (node.operand(0), node.results[0]);
    // Along another axis than that of its channels: `join` has marked them all.
    if channels.axis(x) != Some(*axis) {
        return false;
    }
    let Some(w) = graph.as_const(node.operand(1)) else { return false };
    let w = Weights::new(w, *weights);
    let rows: Vec<usize> = (0..w.outputs()).filter(|&o| sets.is_needed(result, o)).collect();
    let mut changed = false;
    for c in 0..w.inputs() {
        if sets.is_needed(x, c) {
            continue;
        }
        let zero = known.is_zero(x, c);
        let looks = |&o: &usize| !(w.is_zero(o, c) || zero && w.tap(o, c) == Tap::Finite);
        if rows.iter().any(looks) {
            changed |= sets.need(x, c);
        }
    }
    changed
}
