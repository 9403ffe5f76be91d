//! Constants in the places of others: found by what they hold, as another import of a model numbers them otherwise.

use egret::ir::{ContentHash, Graph, Tensor, ValueId};
use std::collections::{BTreeSet, HashMap};

/// A constant, and what takes its place.
#[derive(Clone)]
pub(crate) struct Swap {
    pub from: Tensor,
    pub to: Tensor,
}

/// Put constants in the places of others; whether all of these were there.
pub(crate) fn swap(graph: &mut Graph, swaps: &[Swap]) -> bool {
    let by: HashMap<_, _> = swaps.iter().map(|s| (s.from.content_hash(), &s.to)).collect();
    let mut seen = BTreeSet::new();
    swap_in(graph, &by, &mut seen);
    seen.len() == by.len()
}

fn swap_in(graph: &mut Graph, by: &HashMap<ContentHash, &Tensor>, seen: &mut BTreeSet<ContentHash>) {
    if by.is_empty() {
        return;
    }
    let of = |v: ValueId| {
        let hash = graph.as_const(v)?.content_hash();
        by.get(&hash).map(|to| (v, hash, *to))
    };
    let found: Vec<(ValueId, ContentHash, &Tensor)> = graph.value_ids().filter_map(of).collect();
    for (v, hash, to) in found {
        seen.insert(hash);
        let new = graph.add_const_apart(to.clone());
        graph.replace_uses(v, new);
    }
    for node in graph.node_ids() {
        graph.node_mut(node).regions.iter_mut().for_each(|region| swap_in(region, by, seen));
    }
}
