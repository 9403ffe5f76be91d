//! Which operations work on parts: the cheapest assignment, by dynamic programming over the nodes in the order in which they run.
//!
//! A state says which of the values that are still needed are cut, and how. Each node takes every state on: by computing the node whole, or by one of its
//! rows. Operands that are cut and needed whole are joined, once each; what that takes is the price. Of ways to one state the cheapest is kept, and
//! of all states the cheapest [`STATES`]: graphs with few values alive at a time are solved exactly.

use super::rows::{Makes, Row, Rows};
use super::{Links, Parts};
use crate::analysis::Facts;
use crate::cost::{CostModel, estimate, node as cost_of};
use crate::passes::partition::bytes_of;
use crate::rebuild::topological;
use egret_ir::{Graph, NodeId, Op, Type, ValueId, attrs};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most states that are kept behind a node.
const STATES: usize = 1024;

/// A value that is cut: how, and whether it is there whole too.
type Cut = (usize, bool);

/// What is known behind a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct State {
    /// The values that are still needed and are cut.
    cut: BTreeMap<ValueId, Cut>,
    /// Whether any operation was computed on parts.
    split: bool,
}

/// The cheapest way to a state.
#[derive(Copy, Clone)]
struct Way {
    cost: u64,
    /// The last decision on the way, an entry of [`Search::decisions`].
    last: Option<usize>,
}

/// That a node is computed by a row.
struct Decision {
    node: NodeId,
    row: usize,
    before: Option<usize>,
}

struct Search<'s, 'r> {
    graph: &'s Graph,
    rows: &'s Rows<'r>,
    links: &'s Links,
    model: &'s CostModel,
    decisions: Vec<Decision>,
    /// The times to join values, by value and way to cut it.
    joins: HashMap<(ValueId, usize), u64>,
}

/// The rows to compute nodes by, and the time of the best way to split the graph; without rows where none is faster than the whole.
pub(super) fn choose(
    graph: &Graph,
    rows: &Rows,
    links: &Links,
    model: &CostModel,
) -> (Option<u64>, BTreeMap<NodeId, usize>) {
    let order = topological(graph);
    let whole: HashMap<NodeId, u64> = estimate(graph, model).into_iter().collect();
    let outputs: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
    // The values that are needed no more behind each node.
    let mut last: HashMap<ValueId, usize> = HashMap::new();
    for (i, &id) in order.iter().enumerate() {
        let node = graph.node(id);
        last.extend(node.operands.iter().flatten().chain(&node.results).map(|&v| (v, i)));
    }
    let mut s = Search { graph, rows, links, model, decisions: vec![], joins: HashMap::new() };
    let mut states: BTreeMap<State, Way> =
        BTreeMap::from([(State::default(), Way { cost: 0, last: None })]);
    for (i, &id) in order.iter().enumerate() {
        let mut next: BTreeMap<State, Way> = BTreeMap::new();
        for (state, way) in &states {
            let mut reach = |mut state: State, way: Way| {
                state.cut.retain(|v, _| last[v] > i);
                let best = next.entry(state).or_insert(way);
                if way.cost < best.cost {
                    *best = way;
                }
            };
            let (joined, time) = s.with_whole(state, id, None);
            reach(joined, Way { cost: way.cost.saturating_add(time).saturating_add(whole[&id]), ..*way });
            for row in 0..rows.at(id).len() {
                let Some((state, time)) = s.by_row(state, id, row, &outputs) else { continue };
                s.decisions.push(Decision { node: id, row, before: way.last });
                let last = Some(s.decisions.len() - 1);
                reach(state, Way { cost: way.cost.saturating_add(time), last });
            }
        }
        states = cheapest(next);
    }
    let best = |split: bool| {
        states.iter().filter(|(s, _)| s.split == split).map(|(_, w)| *w).min_by_key(|w| w.cost)
    };
    let split = best(true);
    let pays = split.filter(|w| best(false).is_none_or(|whole| w.cost < whole.cost));
    let mut chosen = BTreeMap::new();
    let mut at = pays.and_then(|w| w.last);
    while let Some(decision) = at.map(|at| &s.decisions[at]) {
        chosen.insert(decision.node, decision.row);
        at = decision.before;
    }
    (split.map(|w| w.cost), chosen)
}

/// The cheapest states, and of those without a split always one.
fn cheapest(states: BTreeMap<State, Way>) -> BTreeMap<State, Way> {
    if states.len() <= STATES {
        return states;
    }
    let mut all: Vec<(State, Way)> = states.into_iter().collect();
    // Stable: of equal costs the order of states decides.
    all.sort_by_key(|(state, way)| (state.split, way.cost));
    all.truncate(STATES);
    all.into_iter().collect()
}

impl Search<'_, '_> {
    /// The state in which the operands of a node that have to be whole are, and the time that joining them takes. `row`: those that it takes cut are not.
    fn with_whole(&mut self, state: &State, id: NodeId, row: Option<&Row>) -> (State, u64) {
        let mut state = state.clone();
        let mut time = 0u64;
        for (i, v) in self.graph.node(id).operands.iter().enumerate() {
            let Some(v) = v else { continue };
            let taken_cut = row.is_some_and(|row| row.operands[i].is_some());
            if let Some((cut, whole)) = state.cut.get_mut(v)
                && !taken_cut
                && !*whole
            {
                *whole = true;
                let cut = *cut;
                time = time.saturating_add(self.join(*v, cut));
            }
        }
        (state, time)
    }

    /// The state behind a node that is computed by a row, and the time of it; `None`: operands are not cut as it wants them.
    fn by_row(
        &mut self,
        state: &State,
        id: NodeId,
        row: usize,
        outputs: &BTreeSet<ValueId>,
    ) -> Option<(State, u64)> {
        let rows = self.rows;
        let (node, row) = (self.graph.node(id), &rows.at(id)[row]);
        for (v, wanted) in node.operands.iter().zip(&row.operands) {
            let (Some(v), Some(wanted)) = (v, wanted) else { continue };
            let is = state.cut.get(v).map(|(cut, _)| &rows.cuts(*v)[*cut]);
            if self.graph.as_const(*v).is_none() && is != Some(wanted) {
                return None;
            }
        }
        let (mut state, mut time) = self.with_whole(state, id, Some(row));
        state.split = true;
        time = time.saturating_add(row.cost);
        let y = node.results[0];
        match row.makes {
            Makes::Sum => time = time.saturating_add(self.sum(y, row.count)),
            Makes::Parts(cut) => {
                let whole = outputs.contains(&y);
                if whole {
                    time = time.saturating_add(self.join(y, cut));
                }
                state.cut.insert(y, (cut, whole));
            }
        }
        Some((state, time))
    }

    /// The time to join a value that is cut: every worker gets the parts of all others, and puts them together.
    fn join(&mut self, v: ValueId, cut: usize) -> u64 {
        if let Some(&time) = self.joins.get(&(v, cut)) {
            return time;
        }
        let Parts { axis, sizes } = &self.rows.cuts(v)[cut];
        let ty = self.graph.ty(v);
        let (all, own) =
            (sizes.iter().sum::<i64>().max(1) as u64, sizes.iter().min().copied().unwrap_or(0));
        let received = bytes_of(ty) / all * (all - own as u64);
        let facts = Facts::of(ty.clone());
        let put = cost_of(self.model, Op::Concat, &attrs! { axis: *axis as i64 }, &[&facts], &facts);
        let time = self.links.time(received).saturating_add(put);
        self.joins.insert((v, cut), time);
        time
    }

    /// The time to add so many values: every worker gets those of all others, and adds.
    fn sum(&self, v: ValueId, count: usize) -> u64 {
        let ty: &Type = self.graph.ty(v);
        let (facts, others) = (Facts::of(ty.clone()), count as u64 - 1);
        let add = cost_of(self.model, Op::Add, &attrs! {}, &[&facts, &facts], &facts);
        self.links.time(bytes_of(ty).saturating_mul(others)).saturating_add(add.saturating_mul(others))
    }
}
