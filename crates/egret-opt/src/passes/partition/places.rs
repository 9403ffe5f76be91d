//! Where cuts between stages may be.

use super::choose::Place;
use super::fill::fill;
use super::units::Units;
use super::{TOLERANCE, bytes_of};
use crate::passes::flow::{Network, UNBOUNDED};
use egret_ir::{Graph, ValueId};
use std::array::from_fn;
use std::collections::{BTreeMap, BTreeSet};

/// The orders of units that are tried: that of the graph, that by depth, and two in which stages are filled.
const ORDERS: usize = 4;

/// The places at which cuts of some units are tried, by time: the first is before all of them, the last behind all.
pub(super) struct Places {
    orders: [Vec<usize>; ORDERS],
    found: Vec<Found>,
}

/// A place.
#[derive(Clone)]
struct Found {
    place: Place,
    /// The units before it.
    before: Before,
    /// Their number.
    count: usize,
    /// For each order: how many of its first units are all before the place.
    covers: [usize; ORDERS],
    /// For each order: among how many of its first units are all that are before the place.
    reach: [usize; ORDERS],
}

/// Units before a place.
#[derive(Clone, PartialEq)]
enum Before {
    /// The first so many of an order.
    First(usize, usize),
    /// Those marked, of all units of the graph.
    Set(Vec<bool>),
}

/// A value that goes from a unit to others.
struct Wire {
    /// The unit that makes it; `None`: one of none of the stages.
    from: Option<usize>,
    /// The units that use it.
    users: BTreeSet<usize>,
    size: u64,
}

impl Places {
    /// Those of the units `of`, ascending, for so many stages, which are wanted to take `wanted` nanoseconds at the most: every place within some orders of the units, and minimum cuts near where even stages would end.
    pub fn new(graph: &Graph, units: &Units, of: &[usize], stages: usize, wanted: u64) -> Places {
        let mut mine = vec![false; units.len()];
        of.iter().for_each(|&u| mine[u] = true);
        let by_depth = units.by_depth().into_iter().filter(|&u| mine[u]).collect();
        let mean = of.iter().map(|&u| units.cost[u]).sum::<u64>().div_ceil(stages as u64);
        // Stages that have nothing left over, and those that leave the last one most.
        let filled = |room: u64| fill(units, of, room);
        let orders: [Vec<usize>; ORDERS] = [of.to_vec(), by_depth, filled(mean), filled(wanted)];
        let wires = wires(graph, units, &mine);
        let at: [Vec<usize>; ORDERS] = from_fn(|order| {
            let mut at = vec![0; units.len()];
            orders[order].iter().enumerate().for_each(|(i, &u)| at[u] = i);
            at
        });
        let maker = Maker { units, orders: &orders, at: &at, wires: &wires };
        let mut found: Vec<Found> = vec![];
        for order in 0..ORDERS {
            let new = maker.prefixes(order);
            // What is within an order before is there already.
            found.extend(new.into_iter().filter(|f| (0..order).all(|o| f.covers[o] != f.count)));
        }
        for order in 0..ORDERS {
            for cut in 1..stages {
                for set in maker.least(order, cut, stages) {
                    let is_new = (0..ORDERS).all(|o| set.covers[o] != set.count)
                        && found.iter().all(|f| f.before != set.before);
                    if is_new {
                        found.push(set);
                    }
                }
            }
        }
        found.sort_by_key(|f| (f.place.time, f.count));
        Places { orders, found }
    }

    /// Their number, without the first and the last.
    pub fn tried(&self) -> usize {
        self.found.len().saturating_sub(2)
    }

    /// Times and bytes of all.
    pub fn all(&self) -> Vec<Place> {
        self.found.iter().map(|f| f.place).collect()
    }

    /// Whether the units before a place are some, and not all, of those before another.
    pub fn follows(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.found[a], &self.found[b]);
        a.count < b.count
            && match (&a.before, &b.before) {
                (_, Before::First(order, count)) => a.reach[*order] <= *count,
                (Before::First(order, count), Before::Set(_)) => *count <= b.covers[*order],
                (Before::Set(a), Before::Set(b)) => a.iter().zip(b).all(|(a, b)| !*a || *b),
            }
    }

    /// The units before a place, ascending.
    pub fn before(&self, place: usize) -> Vec<usize> {
        match &self.found[place].before {
            Before::First(order, count) => {
                let mut units = self.orders[*order][..*count].to_vec();
                units.sort_unstable();
                units
            }
            Before::Set(set) => (0..set.len()).filter(|&u| set[u]).collect(),
        }
    }
}

/// The values that go from unit to unit, of those that are used by the marked ones.
fn wires(graph: &Graph, units: &Units, mine: &[bool]) -> Vec<Wire> {
    let mut users: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
    for u in (0..units.len()).filter(|&u| mine[u]) {
        for &v in units.nodes[u].iter().flat_map(|&n| graph.node(n).operands.iter().flatten()) {
            // Inputs and constants are in every stage.
            if graph.producer(v).is_some_and(|n| units.of[&n] != u) {
                users.entry(v).or_default().insert(u);
            }
        }
    }
    let wire = |(v, users): (ValueId, BTreeSet<usize>)| {
        let from = Some(units.of[&graph.producer(v)?]).filter(|&u| mine[u]);
        Some(Wire { from, users, size: bytes_of(graph.ty(v)) })
    };
    users.into_iter().filter_map(wire).collect()
}

/// Makes places.
struct Maker<'a> {
    units: &'a Units,
    orders: &'a [Vec<usize>; ORDERS],
    /// The position of each unit in each order.
    at: &'a [Vec<usize>; ORDERS],
    wires: &'a [Wire],
}

impl Maker<'_> {
    /// The places within an order.
    fn prefixes(&self, order: usize) -> Vec<Found> {
        let (own, at) = (&self.orders[order], &self.at[order]);
        // A value crosses from behind where it is made until before its last user.
        let mut change = vec![0i128; own.len() + 2];
        for wire in self.wires {
            let Some(end) = wire.users.iter().map(|&u| at[u]).max() else { continue };
            change[wire.from.map_or(0, |u| at[u] + 1)] += i128::from(wire.size);
            change[end + 1] -= i128::from(wire.size);
        }
        let (mut traffic, mut time) = (0, 0);
        let (mut covers, mut reach) = ([0; ORDERS], [0; ORDERS]);
        let mut out = vec![];
        for (count, change) in change.iter().enumerate().take(own.len() + 1) {
            if let Some(&unit) = count.checked_sub(1).and_then(|last| own.get(last)) {
                time += self.units.cost[unit];
                for o in 0..ORDERS {
                    reach[o] = reach[o].max(self.at[o][unit] + 1);
                    while self.orders[o].get(covers[o]).is_some_and(|&u| at[u] < count) {
                        covers[o] += 1;
                    }
                }
            }
            traffic += change;
            let place = Place { time, bytes: u64::try_from(traffic).unwrap_or(u64::MAX) };
            out.push(Found { place, before: Before::First(order, count), count, covers, reach });
        }
        out
    }

    /// Two minimum cuts within [`TOLERANCE`] of a stage's even share around where a cut of even stages would be in an order: with the fewest units before it, and with the most.
    fn least(&self, order: usize, cut: usize, stages: usize) -> Vec<Found> {
        let (own, at) = (&self.orders[order], &self.at[order]);
        let share = own.iter().map(|&u| self.units.cost[u]).sum::<u64>() as f64 / stages as f64;
        let (least, most) = (share * (cut as f64 - TOLERANCE), share * (cut as f64 + TOLERANCE));
        let (mut held, mut last, mut sum) = (0, own.len(), 0u64);
        for (i, &u) in own.iter().enumerate() {
            if sum as f64 >= most {
                last = last.min(i);
            }
            sum += self.units.cost[u];
            if sum as f64 <= least {
                held = i + 1;
            }
        }
        // Every stage has at least one unit.
        let last = last.clamp(cut, own.len() - (stages - cut));
        let held = held.clamp(cut, last);
        let (source, sink) = (own.len(), own.len() + 1);
        let mut net = Network::new(own.len() + 2);
        (0..held).for_each(|i| net.join(source, i, UNBOUNDED));
        (last..own.len()).for_each(|i| net.join(i, sink, UNBOUNDED));
        for wire in self.wires {
            let crossing = net.place();
            net.join(wire.from.map_or(source, |u| at[u]), crossing, wire.size);
            for &to in &wire.users {
                net.join(crossing, at[to], UNBOUNDED);
                // No value goes backwards.
                if let Some(from) = wire.from {
                    net.join(at[to], at[from], UNBOUNDED);
                }
            }
        }
        net.fill(source, sink);
        let sides = [net.near_source(source), net.far_from_sink(sink)];
        sides
            .map(|side| self.set(own.iter().zip(side).filter(|(_, s)| *s).map(|(&u, _)| u).collect()))
            .into()
    }

    /// The place behind these units.
    fn set(&self, units: Vec<usize>) -> Found {
        let mut set = vec![false; self.units.len()];
        units.iter().for_each(|&u| set[u] = true);
        let crosses = |w: &&Wire| w.from.is_none_or(|u| set[u]) && w.users.iter().any(|&u| !set[u]);
        let bytes = self.wires.iter().filter(crosses).map(|w| w.size).fold(0, u64::saturating_add);
        let time = units.iter().map(|&u| self.units.cost[u]).sum();
        let of = |o: usize| (&self.orders[o], &self.at[o]);
        let covers = |o: usize| of(o).0.iter().take_while(|&&u| set[u]).count();
        let reach = |o: usize| units.iter().map(|&u| of(o).1[u] + 1).max().unwrap_or(0);
        let (covers, reach) = (from_fn(covers), from_fn(reach));
        let place = Place { time, bytes };
        Found { place, count: units.len(), covers, reach, before: Before::Set(set) }
    }
}
