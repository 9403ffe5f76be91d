//! Exact extraction of small regions: branch and bound over the choice of a node for each class.
//! A class *entails* the classes that every one of its terms needs; what the outputs entail is needed
//! whatever is chosen. Two choices are independent if no class is reachable from both but not entailed:
//! such components are searched one by one. Within a component, choosing a node makes its operands needed.
//! The bound is the cost of the nodes chosen so far plus the cheapest node of every class that any
//! completion needs.

use super::candidates::{Candidate, Candidates, Cost, total};
use fixedbitset::FixedBitSet;
use std::collections::BTreeMap;

/// The most search steps in a component; after them the best choice so far is kept.
const STEPS: usize = 1000;
/// The most search steps in a region.
const ALL_STEPS: usize = 10_000;
/// The most classes of a region that is searched.
const CLASSES: usize = 1024;

/// The candidates of a class.
type List = Vec<Candidate<()>>;

/// Replaces a choice by the cheapest one. Returns whether it is proven to be the cheapest.
pub(crate) fn exact<N>(
    candidates: &Candidates<N>,
    roots: &[usize],
    mut best: Cost,
    choice: &mut Vec<usize>,
) -> bool {
    let order = reachable(candidates, roots);
    let open: Vec<usize> = (0..order.len()).filter(|&c| candidates[order[c]].len() > 1).collect();
    if open.is_empty() || order.len() > CLASSES {
        return open.is_empty();
    }
    let mut place = vec![0; candidates.len()];
    order.iter().enumerate().for_each(|(i, &class)| place[class] = i);
    let local = |c: &Candidate<N>| Candidate {
        cost: c.cost,
        operands: c.operands.iter().map(|&o| place[o]).collect(),
        form: (),
    };
    let lists: Vec<List> =
        order.iter().map(|&class| candidates[class].iter().map(local).collect()).collect();
    let entails = entailed(&lists);
    let mut always = FixedBitSet::with_capacity(lists.len() + 1);
    for &root in roots {
        always.union_with(&entails[place[root]]);
    }
    let mut search = Search {
        cycles: cycles(&lists),
        seen: vec![0; lists.len()],
        walks: 0,
        stack: vec![],
        entails,
        least: lists.iter().map(|list| list.iter().map(|c| c.cost).min().unwrap_or_default()).collect(),
        // A class with one candidate is chosen from the start.
        chosen: lists.iter().map(|list| (list.len() == 1).then_some(0)).collect(),
        lists,
        open: vec![],
        best: Cost::default(),
        found: None,
        steps: 0,
    };
    let (mut proven, mut steps) = (true, 0);
    let mut is: Vec<usize> = order.iter().map(|&class| choice[class]).collect();
    for component in components(&search.lists, &open, &always) {
        search.start(component, &always, &is);
        search.branch(&always, search.bound(&always));
        steps += search.steps;
        proven &= search.steps <= STEPS;
        if let Some(found) = search.found.take() {
            let before = choice.clone();
            for (i, k) in found {
                (choice[order[i]], is[i]) = (k, k);
            }
            // Components are searched independently, and might form a cycle together.
            match total(candidates, roots, choice) {
                Some((_, cost)) if cost < best => best = cost,
                _ => {
                    (*choice, proven) = (before, false);
                    is = order.iter().map(|&class| choice[class]).collect();
                }
            }
        }
        if steps > ALL_STEPS {
            return false;
        }
    }
    proven
}

/// Partitions the classes with a choice into components of dependent choices.
fn components(lists: &[List], open: &[usize], always: &FixedBitSet) -> Vec<Vec<usize>> {
    // For each class the first always needed class from which it is reached.
    let mut owner: Vec<Option<usize>> = vec![None; lists.len()];
    let mut joined: Vec<usize> = (0..lists.len()).collect();
    fn find(joined: &mut [usize], mut i: usize) -> usize {
        while joined[i] != i {
            joined[i] = joined[joined[i]];
            i = joined[i];
        }
        i
    }
    for &class in open.iter().filter(|&&c| always.contains(c)) {
        owner[class] = Some(class);
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            let children = lists[c].iter().flat_map(|candidate| &candidate.operands);
            for &child in children.filter(|&&child| !always.contains(child)) {
                match owner[child] {
                    // Visited already, and so is what it reaches.
                    Some(other) => {
                        let (a, b) = (find(&mut joined, other), find(&mut joined, class));
                        joined[a.max(b)] = a.min(b);
                    }
                    None => {
                        owner[child] = Some(class);
                        stack.push(child);
                    }
                }
            }
        }
    }
    let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &class in open {
        if let Some(owner) = owner[class] {
            of.entry(find(&mut joined, owner)).or_default().push(class);
        }
    }
    of.into_values().collect()
}

/// The classes that are reachable from the roots, operands first except around cycles.
fn reachable<N>(candidates: &Candidates<N>, roots: &[usize]) -> Vec<usize> {
    let (mut seen, mut order) = (vec![false; candidates.len()], vec![]);
    let mut stack: Vec<(usize, bool)> = roots.iter().rev().map(|&r| (r, false)).collect();
    while let Some((class, done)) = stack.pop() {
        if done {
            order.push(class);
        } else if !std::mem::replace(&mut seen[class], true) {
            stack.push((class, true));
            stack.extend(
                candidates[class]
                    .iter()
                    .flat_map(|candidate| &candidate.operands)
                    .filter(|&&c| !seen[c])
                    .map(|&c| (c, false)),
            );
        }
    }
    order
}

/// The entailed classes of each class, itself included: the greatest fixpoint of its equations. A class
/// whose terms are all cyclic entails everything, and with it the bit after the last class, which no other
/// class has: it cannot be computed.
fn entailed(lists: &[List]) -> Vec<FixedBitSet> {
    let mut full = FixedBitSet::with_capacity(lists.len() + 1);
    full.insert_range(..);
    let mut any = full.clone();
    let mut sets = vec![full.clone(); lists.len()];
    loop {
        let mut changed = false;
        for (class, list) in lists.iter().enumerate() {
            let mut all = full.clone();
            for candidate in list {
                any.clear();
                candidate.operands.iter().for_each(|&c| any.union_with(&sets[c]));
                all.intersect_with(&any);
            }
            all.insert(class);
            changed |= all != sets[class];
            sets[class] = all;
        }
        if !changed {
            return sets;
        }
    }
}

/// For each class a number that it shares with the classes that it may stand on, by some of its candidates, and that may stand on
/// it: its strongly connected component.
fn cycles(lists: &[List]) -> Vec<usize> {
    let operands =
        |class: usize| lists[class].iter().flat_map(|candidate| candidate.operands.iter().copied());
    // Tarjan's algorithm. The low link of a class whose component is known is that of no class on the path.
    let (mut index, mut low) = (vec![usize::MAX; lists.len()], vec![usize::MAX; lists.len()]);
    let (mut component, mut next) = (vec![usize::MAX; lists.len()], 0);
    let mut path = vec![];
    for root in 0..lists.len() {
        let mut stack = vec![(root, false)];
        while let Some((class, left)) = stack.pop() {
            if left {
                let below = operands(class).filter(|&c| component[c] == usize::MAX).map(|c| low[c]).min();
                low[class] = low[class].min(below.unwrap_or(usize::MAX));
                if low[class] == index[class] {
                    while let Some(member) = path.pop() {
                        component[member] = class;
                        if member == class {
                            break;
                        }
                    }
                }
            } else if index[class] == usize::MAX {
                (index[class], low[class]) = (next, next);
                next += 1;
                path.push(class);
                stack.push((class, true));
                stack.extend(operands(class).filter(|&c| index[c] == usize::MAX).map(|c| (c, false)));
            }
        }
    }
    component
}

struct Search {
    /// By class, see [`cycles`].
    cycles: Vec<usize>,
    /// The number of the walk that met a class last.
    seen: Vec<usize>,
    walks: usize,
    stack: Vec<usize>,
    lists: Vec<List>,
    entails: Vec<FixedBitSet>,
    /// The cheapest node of each class.
    least: Vec<Cost>,
    chosen: Vec<Option<usize>>,
    /// The classes of the component.
    open: Vec<usize>,
    /// The cost of the best choice in the component, without what is always needed.
    best: Cost,
    /// The choice by class, if a cheaper one was found.
    found: Option<Vec<(usize, usize)>>,
    steps: usize,
}

impl Search {
    /// Starts the search of a component from a known choice.
    fn start(&mut self, component: Vec<usize>, always: &FixedBitSet, choice: &[usize]) {
        (self.open, self.found, self.steps) = (component, None, 0);
        let mut stack: Vec<usize> = self.open.iter().copied().filter(|&c| always.contains(c)).collect();
        let mut seen = always.clone();
        self.best = Cost::default();
        while let Some(class) = stack.pop() {
            let chosen = &self.lists[class][choice[class]];
            self.best += chosen.cost;
            // What is always needed has been seen.
            for &c in &chosen.operands {
                if !seen.put(c) {
                    stack.push(c);
                }
            }
        }
    }

    /// The cheapest nodes of the component's classes that are always needed.
    fn bound(&self, always: &FixedBitSet) -> Cost {
        self.open.iter().filter(|&&c| always.contains(c)).map(|&c| self.least[c]).sum()
    }

    /// Adds what these classes entail to the needed set, and its least cost to the bound.
    fn need(&self, needed: &mut FixedBitSet, bound: &mut Cost, classes: &[usize]) {
        // The bit after the last class: what cannot be computed.
        let never = Cost { nanos: u64::MAX / 2, nodes: 0 };
        for &c in classes {
            for new in self.entails[c].difference(needed) {
                let least = self.least.get(new).copied().unwrap_or(never);
                bound.nanos = bound.nanos.saturating_add(least.nanos);
                bound.nodes += least.nodes;
            }
            needed.union_with(&self.entails[c]);
        }
    }

    fn branch(&mut self, needed: &FixedBitSet, bound: Cost) {
        self.steps += 1;
        if self.steps > STEPS || bound >= self.best {
            return;
        }
        let undecided = |class: &usize| self.chosen[*class].is_none() && needed.contains(*class);
        let Some(class) = self.open.iter().copied().find(undecided) else {
            self.best = bound;
            self.found = Some(self.open.iter().filter_map(|&c| Some((c, self.chosen[c]?))).collect());
            return;
        };
        for k in 0..self.lists[class].len() {
            if self.has_cycle(class, k) {
                continue;
            }
            let Candidate { cost, operands, .. } = &self.lists[class][k];
            let (mut needed, mut bound) = (needed.clone(), bound);
            let least = self.least[class];
            bound.nanos = bound.nanos - least.nanos + cost.nanos;
            bound.nodes = bound.nodes + cost.nodes - least.nodes;
            self.need(&mut needed, &mut bound, operands);
            self.chosen[class] = Some(k);
            self.branch(&needed, bound);
            self.chosen[class] = None;
        }
    }

    /// Whether a candidate of a class is computed from that class under the present choice.
    fn has_cycle(&mut self, class: usize, candidate: usize) -> bool {
        self.walks += 1;
        let mut chosen = &self.lists[class][candidate];
        loop {
            for &c in &chosen.operands {
                if c == class {
                    self.stack.clear();
                    return true;
                }
                // Whoever is in no cycle with the class does not lead back to it.
                if self.cycles[c] == self.cycles[class] && self.seen[c] != self.walks {
                    self.seen[c] = self.walks;
                    self.stack.push(c);
                }
            }
            let next = loop {
                let Some(c) = self.stack.pop() else { return false };
                if let Some(k) = self.chosen[c] {
                    break &self.lists[c][k];
                }
            };
            chosen = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eqsat::extract::greedy::greedy;
    use proptest::prelude::*;

    fn cost(nanos: u64, nodes: u32) -> Cost {
        Cost { nanos, nodes }
    }

    fn node(nanos: u64, operands: &[usize]) -> Candidate<()> {
        Candidate { cost: cost(nanos, 1), operands: operands.to_vec(), form: () }
    }

    /// The least cost over all choices without a cycle.
    fn brute(candidates: &Candidates<()>) -> Option<Cost> {
        let mut choice = vec![0; candidates.len()];
        let mut best = None;
        loop {
            if let Some((_, cost)) = total(candidates, &[0], &choice) {
                best = Some(best.map_or(cost, |b: Cost| b.min(cost)));
            }
            let Some(at) = (0..choice.len()).find(|&i| choice[i] + 1 < candidates[i].len()) else {
                return best;
            };
            choice[at] += 1;
            choice[..at].fill(0);
        }
    }

    fn solved(candidates: &Candidates<()>) -> Option<Cost> {
        let mut choice = greedy(candidates)?;
        let (_, start) = total(candidates, &[0], &choice)?;
        let proven = exact(candidates, &[0], start, &mut choice);
        total(candidates, &[0], &choice).filter(|_| proven).map(|(_, cost)| cost)
    }

    #[test]
    fn two_choices_change_at_once() {
        // Either of 1 and 2 alone is cheaper without 3, both are cheaper with it.
        let either = vec![node(3, &[]), node(0, &[3])];
        let candidates = vec![vec![node(0, &[1, 2])], either.clone(), either, vec![node(5, &[])]];
        let mut choice = greedy(&candidates).unwrap();
        assert_eq!(total(&candidates, &[0], &choice).unwrap().1, cost(6, 3));
        assert!(exact(&candidates, &[0], cost(6, 3), &mut choice));
        assert_eq!(total(&candidates, &[0], &choice).unwrap().1, cost(5, 4));
    }

    #[test]
    fn what_is_apart_is_searched_apart() {
        // Thirty copies of the trap, beside each other: 2^60 choices.
        let mut candidates =
            vec![vec![node(0, &(0..30).flat_map(|i| [3 * i + 1, 3 * i + 2]).collect::<Vec<_>>())]];
        for i in 0..30 {
            let either = vec![node(3, &[]), node(0, &[3 * i + 3])];
            candidates.extend([either.clone(), either, vec![node(5, &[])]]);
        }
        assert_eq!(solved(&candidates), Some(cost(150, 91)));
    }

    #[test]
    fn components_make_no_cycle_together() {
        // 1 and 2 are cheap from each other, but one of them has to come from 3.
        let candidates = vec![
            vec![node(0, &[1, 2])],
            vec![node(1, &[2]), node(9, &[3])],
            vec![node(1, &[1]), node(8, &[3])],
            vec![node(0, &[])],
        ];
        let mut choice = vec![0, 1, 1, 0];
        exact(&candidates, &[0], cost(17, 4), &mut choice);
        assert!(total(&candidates, &[0], &choice).is_some_and(|(_, is)| is <= cost(17, 4)));
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(lists in prop::collection::vec(prop::collection::vec((0u64..20, prop::collection::vec(0usize..7, 0..3)), 1..4), 7)) {
            let list = |l: Vec<(u64, Vec<usize>)>| l.into_iter().map(|(nanos, operands)| node(nanos, &operands)).collect::<Vec<_>>();
            let mut candidates: Vec<List> = lists.into_iter().map(list).collect();
            // The last class is a leaf, so that most cases have a solution.
            candidates[6].push(node(9, &[]));
            candidates.iter_mut().for_each(|l| l.sort());
            if let Some(cost) = solved(&candidates) {
                prop_assert_eq!(Some(cost), brute(&candidates));
            }
        }
    }
}
