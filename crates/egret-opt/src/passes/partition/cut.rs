//! Where a graph is cut: one boundary after another.

use super::units::Units;
use super::{TOLERANCE, bytes_of};
use crate::passes::flow::{Network, UNBOUNDED};
use egret_ir::{Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why a cut is where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// The places that were tried.
    pub tried: usize,
    /// How many of them leave the stage before the cut within [`TOLERANCE`] of an even share of the time that was left.
    pub even: usize,
    /// That share in nanoseconds.
    pub share: u64,
    /// Bytes that the most even of them sends.
    pub most_even: u64,
    /// Where none is even: the ONNX nodes of the kernel in the way (its operations, where no ONNX node is known), and its estimated
    /// time in nanoseconds.
    pub in_the_way: Option<(BTreeSet<String>, u64)>,
}

/// The units of each of so many stages of some units, one behind the other, and why each boundary is where it is. There are at least as many units.
pub(super) fn assign(
    graph: &Graph,
    units: &Units,
    of: &[usize],
    stages: usize,
) -> (Vec<Vec<usize>>, Vec<Reason>) {
    let mine: BTreeSet<usize> = of.iter().copied().collect();
    let orders = [(0..units.len()).collect(), units.by_depth()];
    let orders =
        orders.map(|all: Vec<usize>| all.into_iter().filter(|u| mine.contains(u)).collect::<Vec<_>>());
    let mut stage: Vec<Option<usize>> = vec![None; units.len()];
    let mut reasons = vec![];
    for k in 0..stages.saturating_sub(1) {
        let mut all = vec![];
        let mut in_the_way = None;
        for order in &orders {
            let left: Vec<usize> = order.iter().copied().filter(|&u| stage[u].is_none()).collect();
            let search = Search::new(graph, units, &left, stages - k);
            for cut in search.cuts() {
                if !all.iter().any(|other: &Cut| other.first == cut.first) {
                    all.push(cut);
                }
            }
            in_the_way = in_the_way.or(Some(search.largest()));
        }
        let share = all.first().map_or(0, |c| c.share);
        let even = all.iter().filter(|c| c.is_even()).count();
        let most_even = all.iter().min_by_key(|c| (c.off(), c.traffic)).map_or(0, |c| c.traffic);
        let reason = Reason {
            tried: all.len(),
            even,
            share,
            most_even,
            in_the_way: in_the_way.filter(|_| even == 0).map(|unit| named(graph, units, unit)),
        };
        // Where none is even, evenness decides, else traffic.
        let best = all.into_iter().min_by_key(|c| match even {
            0 => (0, c.off(), c.traffic),
            _ => (u64::from(!c.is_even()), c.traffic, c.off()),
        });
        if let Some(best) = best {
            best.first.into_iter().for_each(|u| stage[u] = Some(k));
        }
        reasons.push(reason);
    }
    let mut out = vec![vec![]; stages];
    for u in mine {
        out[stage[u].unwrap_or(stages - 1)].push(u);
    }
    (out, reasons)
}

fn named(graph: &Graph, units: &Units, unit: usize) -> (BTreeSet<String>, u64) {
    let nodes = || units.nodes[unit].iter().map(|&n| graph.node(n));
    let mut names: BTreeSet<String> = nodes().flat_map(|n| n.sources.iter().cloned()).collect();
    if names.is_empty() {
        names = nodes().map(|n| n.op.to_string()).collect();
    }
    (names, units.cost[unit])
}

/// A boundary.
struct Cut {
    /// The units before it, ascending.
    first: Vec<usize>,
    /// Bytes that cross it.
    traffic: u64,
    /// The time of the stage in nanoseconds.
    cost: u64,
    /// Its even share.
    share: u64,
}

impl Cut {
    fn off(&self) -> u64 {
        self.cost.abs_diff(self.share)
    }

    fn is_even(&self) -> bool {
        self.off() as f64 <= self.share as f64 * TOLERANCE
    }
}

/// A value that the units left may need.
struct Wire {
    /// Where it is made; `None`: in an earlier stage.
    from: Option<usize>,
    /// Where it is used.
    users: BTreeSet<usize>,
    size: u64,
}

/// The search for one boundary. Places are those of units in an order.
struct Search<'a> {
    units: &'a Units,
    /// The units that are in no stage yet, producers before users.
    order: &'a [usize],
    share: u64,
    /// The first so many are before the boundary.
    held: usize,
    /// Those from this one on are after it.
    last: usize,
    wires: Vec<Wire>,
}

impl<'a> Search<'a> {
    /// The boundary of the next of `stages` stages.
    fn new(graph: &Graph, units: &'a Units, order: &'a [usize], stages: usize) -> Search<'a> {
        let share = order.iter().map(|&u| units.cost[u]).sum::<u64>() as f64 / stages as f64;
        let (least, most) = (share * (1.0 - TOLERANCE), share * (1.0 + TOLERANCE));
        let (mut held, mut last, mut sum) = (0, order.len(), 0u64);
        for (i, &u) in order.iter().enumerate() {
            if sum as f64 >= most {
                last = last.min(i);
            }
            sum += units.cost[u];
            if sum as f64 <= least {
                held = i + 1;
            }
        }
        // Every stage has at least one unit.
        let last = last.clamp(1, order.len() - (stages - 1));
        let held = held.clamp(1, last);
        let place: HashMap<usize, usize> = order.iter().enumerate().map(|(i, &u)| (u, i)).collect();
        let mut users: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
        for (i, &u) in order.iter().enumerate() {
            let operands = units.nodes[u].iter().flat_map(|&n| graph.node(n).operands.iter().flatten());
            for &v in operands {
                // Inputs and constants are in every stage.
                if graph.producer(v).is_some_and(|n| units.of[&n] != u) {
                    users.entry(v).or_default().insert(i);
                }
            }
        }
        let wire = |(v, users): (ValueId, BTreeSet<usize>)| {
            let from = place.get(&units.of[&graph.producer(v)?]).copied();
            Some(Wire { from, users, size: bytes_of(graph.ty(v)) })
        };
        let wires = users.into_iter().filter_map(wire).collect();
        Search { units, order, share: share as u64, held, last, wires }
    }

    /// The unit that takes longest of those near the boundary.
    fn largest(&self) -> usize {
        let near = &self.order[self.held - 1..(self.last + 1).min(self.order.len())];
        near.iter().copied().rev().max_by_key(|&u| self.units.cost[u]).unwrap_or(0)
    }

    fn cut(&self, mut first: Vec<usize>, traffic: u64) -> Cut {
        first.sort_unstable();
        let cost = first.iter().map(|&u| self.units.cost[u]).sum();
        Cut { first, traffic, cost, share: self.share }
    }

    fn cuts(&self) -> Vec<Cut> {
        let mut out = self.least();
        out.extend(self.prefixes());
        out
    }

    /// The boundaries within the order itself.
    fn prefixes(&self) -> Vec<Cut> {
        // A value crosses from behind where it is made until before its last user.
        let mut change = vec![0i128; self.order.len() + 2];
        for wire in &self.wires {
            let Some(&end) = wire.users.last() else { continue };
            change[wire.from.map_or(0, |i| i + 1)] += i128::from(wire.size);
            change[end + 1] -= i128::from(wire.size);
        }
        let mut traffic = 0;
        let mut out = vec![];
        for (i, change) in change.iter().enumerate().take(self.last + 1) {
            traffic += change;
            if i >= self.held {
                out.push(self.cut(self.order[..i].to_vec(), u64::try_from(traffic).unwrap_or(u64::MAX)));
            }
        }
        out
    }

    /// Two minimum cuts: with the fewest units before the boundary, and with the most.
    fn least(&self) -> Vec<Cut> {
        let (source, sink) = (self.order.len(), self.order.len() + 1);
        let mut net = Network::new(self.order.len() + 2);
        (0..self.held).for_each(|i| net.join(source, i, UNBOUNDED));
        (self.last..self.order.len()).for_each(|i| net.join(i, sink, UNBOUNDED));
        for wire in &self.wires {
            let crossing = net.place();
            net.join(wire.from.unwrap_or(source), crossing, wire.size);
            for &to in &wire.users {
                net.join(crossing, to, UNBOUNDED);
                // No value goes backwards.
                if let Some(from) = wire.from {
                    net.join(to, from, UNBOUNDED);
                }
            }
        }
        let traffic = net.fill(source, sink);
        let sides = [net.near_source(source), net.far_from_sink(sink)];
        let first =
            |side: Vec<bool>| self.order.iter().zip(side).filter(|(_, s)| *s).map(|(&u, _)| u).collect();
        sides.map(|side| self.cut(first(side), traffic)).into()
    }
}
