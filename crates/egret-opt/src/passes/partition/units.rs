//! Units: the nodes that no cut may part, as one kernel does the work of all of them.

use crate::cost::{CostModel, estimate};
use crate::rebuild::topological;
use egret_ir::{Family, Graph, NodeId};
use std::collections::{BTreeSet, HashMap};

/// The units of a graph, producers before users.
pub(super) struct Units {
    /// The nodes of each, in topological order.
    pub nodes: Vec<Vec<NodeId>>,
    /// The estimated time of each in nanoseconds.
    pub cost: Vec<u64>,
    /// The unit of each node.
    pub of: HashMap<NodeId, usize>,
    /// For each the units that make what it uses.
    pub before: Vec<BTreeSet<usize>>,
}

impl Units {
    /// The units of a graph whose kernels do the work of these nodes. What would need itself becomes one unit; a
    /// movement, which costs nothing and may be part of several kernels, ties none of those together.
    pub fn new(graph: &Graph, kernels: &[Vec<NodeId>], model: &CostModel) -> Units {
        let order = topological(graph);
        let at: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        let mut kernels_of = vec![0usize; order.len()];
        kernels.iter().flatten().filter_map(|n| at.get(n)).for_each(|&i| kernels_of[i] += 1);
        let mut tied = Tied((0..order.len()).collect());
        for kernel in kernels {
            let own = kernel.iter().filter_map(|n| at.get(n).copied());
            let own =
                own.filter(|&i| kernels_of[i] == 1 || graph.node(order[i]).op.family() != Family::Movement);
            let own: Vec<usize> = own.collect();
            own.windows(2).for_each(|pair| tied.tie(pair[0], pair[1]));
        }
        let users = |tied: &mut Tied| {
            let mut users = vec![BTreeSet::new(); order.len()];
            for (i, &n) in order.iter().enumerate() {
                let to = tied.root(i);
                for made in graph.node(n).operands.iter().flatten().filter_map(|&v| graph.producer(v)) {
                    let from = tied.root(at[&made]);
                    if from != to {
                        users[from].insert(to);
                    }
                }
            }
            users
        };
        let edges = users(&mut tied);
        for circle in circles(&edges) {
            circle.windows(2).for_each(|pair| tied.tie(pair[0], pair[1]));
        }
        let users = users(&mut tied);
        let roots: Vec<usize> = (0..order.len()).map(|i| tied.root(i)).collect();

        // Of those that may come next, the one with the first node.
        let mut waits = vec![0usize; order.len()];
        users.iter().flatten().for_each(|&to| waits[to] += 1);
        let mut ready: BTreeSet<usize> =
            (0..order.len()).filter(|&i| roots[i] == i && waits[i] == 0).collect();
        let mut number = vec![usize::MAX; order.len()];
        let mut count = 0;
        while let Some(unit) = ready.pop_first() {
            number[unit] = count;
            count += 1;
            for &to in &users[unit] {
                waits[to] -= 1;
                if waits[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        let costs: HashMap<NodeId, u64> = estimate(graph, model).into_iter().collect();
        let mut out = Units {
            nodes: vec![vec![]; count],
            cost: vec![0; count],
            of: HashMap::new(),
            before: vec![BTreeSet::new(); count],
        };
        for (i, &n) in order.iter().enumerate() {
            let unit = number[roots[i]];
            out.nodes[unit].push(n);
            out.cost[unit] += costs.get(&n).copied().unwrap_or(0);
            out.of.insert(n, unit);
        }
        for (from, users) in users.iter().enumerate() {
            users.iter().for_each(|&to| {
                out.before[number[to]].insert(number[from]);
            });
        }
        out
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All units, by their longest distance from the inputs.
    pub fn by_depth(&self) -> Vec<usize> {
        let mut depth = vec![0usize; self.len()];
        for unit in 0..self.len() {
            depth[unit] = self.before[unit].iter().map(|&b| depth[b] + 1).max().unwrap_or(0);
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&unit| depth[unit]);
        order
    }
}

#[cfg(test)]
impl Units {
    /// Units without nodes that take these times, each with those before it.
    pub fn of_times(all: &[(u64, &[usize])]) -> Units {
        Units {
            nodes: vec![vec![]; all.len()],
            cost: all.iter().map(|u| u.0).collect(),
            of: HashMap::new(),
            before: all.iter().map(|u| u.1.iter().copied().collect()).collect(),
        }
    }
}

/// Sets of numbers; the least of a set stands for it.
struct Tied(Vec<usize>);

impl Tied {
    fn root(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn tie(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// The sets of more than one vertex that reach one another (Kosaraju's algorithm, without recursion).
fn circles(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let mut back = vec![BTreeSet::new(); edges.len()];
    for (from, users) in edges.iter().enumerate() {
        users.iter().for_each(|&to| {
            back[to].insert(from);
        });
    }
    let mut left_last = vec![];
    let mut seen = vec![false; edges.len()];
    (0..edges.len()).for_each(|start| left_last.extend(reached(start, edges, &mut seen)));
    let mut seen = vec![false; edges.len()];
    let sets = left_last.into_iter().rev().map(|start| reached(start, &back, &mut seen));
    sets.filter(|set| set.len() > 1).collect()
}

/// What is reached from a vertex and was not seen before, in the order in which a search in depth leaves it.
fn reached(start: usize, edges: &[BTreeSet<usize>], seen: &mut [bool]) -> Vec<usize> {
    let mut left = vec![];
    if std::mem::replace(&mut seen[start], true) {
        return left;
    }
    let mut stack = vec![(start, edges[start].iter())];
    while let Some((at, rest)) = stack.last_mut() {
        match rest.next() {
            Some(&to) if !std::mem::replace(&mut seen[to], true) => stack.push((to, edges[to].iter())),
            Some(_) => {}
            None => {
                left.push(*at);
                stack.pop();
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::text;

    const CHAIN: &str = "graph @g(%0 \"x\": f32[4]) -> (%5 \"y\") {
  %1 = neg(%0)
  %2 = abs(%1)
  %3 = neg(%2)
  %4 = abs(%3)
  %5 = add(%4, %0)
}";

    fn units(kernels: &[&[usize]]) -> Vec<usize> {
        let graph = text::parse(CHAIN, &|_| None).unwrap();
        let order = topological(&graph);
        let kernels: Vec<Vec<NodeId>> =
            kernels.iter().map(|k| k.iter().map(|&i| order[i]).collect()).collect();
        let units = Units::new(&graph, &kernels, CostModel::widest());
        assert_eq!(units.cost.len(), units.len());
        order.iter().map(|n| units.of[n]).collect()
    }

    #[test]
    fn kernels_stay_whole_and_circles_become_one() {
        assert_eq!(units(&[]), [0, 1, 2, 3, 4]);
        assert_eq!(units(&[&[0, 1], &[2, 3]]), [0, 0, 1, 1, 2]);
        // Nodes of two kernels tie them together.
        assert_eq!(units(&[&[0, 1], &[1, 2]]), [0, 0, 0, 1, 2]);
        // A kernel of the first and the last of three holds the one between, which it would wait for.
        assert_eq!(units(&[&[0, 2]]), [0, 0, 0, 1, 2]);
        assert_eq!(units(&[&[0, 2], &[1, 3]]), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_movement_of_two_kernels_ties_neither() {
        let body = "graph @g(%0 \"x\": f32[4, 2]) -> (%2 \"y\", %3 \"z\") {
  %1 = transpose(%0) {perm = [1, 0]}
  %2 = neg(%1)
  %3 = abs(%1)
}";
        let graph = text::parse(body, &|_| None).unwrap();
        let order = topological(&graph);
        let kernels = [vec![order[0], order[1]], vec![order[0], order[2]]];
        assert_eq!(Units::new(&graph, &kernels, CostModel::widest()).len(), 3);
    }
}
