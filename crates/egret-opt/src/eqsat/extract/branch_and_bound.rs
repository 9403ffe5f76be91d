//! Exact extraction of small regions: branch and bound over the choice of a node for each class.
//! A class *entails* the classes that every one of its terms needs; what the outputs entail is needed
//! whatever is chosen. Two choices are independent if no class is reachable from both but not entailed:
//! such components are searched one by one. Within a component, choosing a node makes its operands needed.
//! The bound is the cost of the nodes chosen so far plus the cheapest node of every class that any
//! completion needs.

use super::candidates::{Candidates, Cost, Set, merge, total};
use std::collections::BTreeMap;

/// The most search steps in a component; after them the best choice so far is kept.
const STEPS: usize = 1000;
/// The most search steps in a region.
const ALL_STEPS: usize = 10_000;
/// The most classes of a region that is searched.
const CLASSES: usize = 1024;

/// The candidates of a class: cost, operands.
type List = Vec<(Cost, Vec<usize>)>;

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
    let local =
        |(cost, children, _): &(Cost, Vec<usize>, N)| (*cost, children.iter().map(|&c| place[c]).collect());
    let lists: Vec<List> =
        order.iter().map(|&class| candidates[class].iter().map(local).collect()).collect();
    let words = lists.len().div_ceil(64);
    let entails = entailed(&lists, words);
    let mut always = vec![0; words];
    for &root in roots {
        merge(&mut always, &entails[place[root]]);
    }
    let mut search = Search {
        entails,
        least: lists.iter().map(|list| list.iter().map(|c| c.0).min().unwrap_or_default()).collect(),
        // A class with one candidate is chosen from the start.
        chosen: lists.iter().map(|list| (list.len() == 1).then_some(0)).collect(),
        lists,
        open: vec![],
        best: (0, 0),
        found: None,
        steps: 0,
    };
    let (mut proven, mut steps) = (true, 0);
    for component in components(&search.lists, &open, &always) {
        let is: Vec<usize> = order.iter().map(|&class| choice[class]).collect();
        search.start(component, &always, &is);
        search.branch(&always, search.bound(&always));
        steps += search.steps;
        proven &= search.steps <= STEPS;
        if let Some(found) = search.found.take() {
            let before = choice.clone();
            for (i, k) in found {
                choice[order[i]] = k;
            }
            // Components are searched independently, and might form a cycle together.
            match total(candidates, roots, choice) {
                Some((_, cost)) if cost < best => best = cost,
                _ => (*choice, proven) = (before, false),
            }
        }
        if steps > ALL_STEPS {
            return false;
        }
    }
    proven
}

fn has(set: &Set, class: usize) -> bool {
    set[class / 64] >> (class % 64) & 1 == 1
}

/// Partitions the classes with a choice into components of dependent choices.
fn components(lists: &[List], open: &[usize], always: &Set) -> Vec<Vec<usize>> {
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
    for &class in open.iter().filter(|&&c| has(always, c)) {
        owner[class] = Some(class);
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            for &child in
                lists[c].iter().flat_map(|(_, children)| children).filter(|&&child| !has(always, child))
            {
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
                    .flat_map(|(_, children, _)| children)
                    .filter(|&&c| !seen[c])
                    .map(|&c| (c, false)),
            );
        }
    }
    order
}

/// The entailed classes of each class, itself included: the greatest fixpoint of its equations.
fn entailed(lists: &[List], words: usize) -> Vec<Set> {
    let mut sets = vec![vec![u64::MAX; words]; lists.len()];
    loop {
        let mut changed = false;
        for (class, list) in lists.iter().enumerate() {
            let mut all = vec![u64::MAX; words];
            for (_, children) in list {
                let any = |w: usize| children.iter().fold(0, |bits, &c| bits | sets[c][w]);
                all.iter_mut().enumerate().for_each(|(w, bits)| *bits &= any(w));
            }
            all[class / 64] |= 1 << (class % 64);
            changed |= all != sets[class];
            sets[class] = all;
        }
        if !changed {
            return sets;
        }
    }
}

struct Search {
    lists: Vec<List>,
    entails: Vec<Set>,
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
    fn start(&mut self, component: Vec<usize>, always: &Set, choice: &[usize]) {
        (self.open, self.found, self.steps) = (component, None, 0);
        let mut stack: Vec<usize> = self.open.iter().copied().filter(|&c| has(always, c)).collect();
        let mut seen = always.clone();
        self.best = (0, 0);
        while let Some(class) = stack.pop() {
            let (cost, children) = &self.lists[class][choice[class]];
            self.best = (self.best.0 + cost.0, self.best.1 + cost.1);
            for &c in children.iter().filter(|&&c| !has(always, c)) {
                if !has(&seen, c) {
                    seen[c / 64] |= 1 << (c % 64);
                    stack.push(c);
                }
            }
        }
    }

    /// The cheapest nodes of the component's classes that are always needed.
    fn bound(&self, always: &Set) -> Cost {
        let least = self.open.iter().filter(|&&c| has(always, c)).map(|&c| self.least[c]);
        least.fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1))
    }

    /// Adds what these classes entail to the needed set, and its least cost to the bound.
    fn need(&self, needed: &mut Set, bound: &mut Cost, classes: &[usize]) {
        for &c in classes {
            for (w, has) in needed.iter_mut().enumerate() {
                let mut new = self.entails[c][w] & !*has;
                *has |= new;
                while new != 0 {
                    // A class whose terms are all cyclic entails everything, including bits beyond the last
                    // class.
                    let least = self
                        .least
                        .get(w * 64 + new.trailing_zeros() as usize)
                        .copied()
                        .unwrap_or((u64::MAX / 2, 0));
                    *bound = (bound.0.saturating_add(least.0), bound.1 + least.1);
                    new &= new - 1;
                }
            }
        }
    }

    fn branch(&mut self, needed: &Set, bound: Cost) {
        self.steps += 1;
        if self.steps > STEPS || bound >= self.best {
            return;
        }
        let undecided = |class: &usize| self.chosen[*class].is_none() && has(needed, *class);
        let Some(class) = self.open.iter().copied().find(undecided) else {
            self.best = bound;
            self.found = Some(self.open.iter().filter_map(|&c| Some((c, self.chosen[c]?))).collect());
            return;
        };
        for k in 0..self.lists[class].len() {
            let (cost, children) = self.lists[class][k].clone();
            if children.iter().any(|&c| self.stands_on(c, class)) {
                continue;
            }
            let (mut needed, mut bound) = (needed.clone(), bound);
            bound = (bound.0 - self.least[class].0 + cost.0, bound.1 + cost.1 - self.least[class].1);
            self.need(&mut needed, &mut bound, &children);
            self.chosen[class] = Some(k);
            self.branch(&needed, bound);
            self.chosen[class] = None;
        }
    }

    /// Whether a class is `other`, or is computed from it under the present choice.
    fn stands_on(&self, class: usize, other: usize) -> bool {
        let mut seen = vec![0u64; self.chosen.len().div_ceil(64)];
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            if c == other {
                return true;
            }
            let bit = 1 << (c % 64);
            if seen[c / 64] & bit == 0 {
                seen[c / 64] |= bit;
                stack.extend(self.chosen[c].iter().flat_map(|&k| &self.lists[c][k].1));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eqsat::extract::greedy::greedy;
    use proptest::prelude::*;

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
        let node = |cost, children: &[usize]| ((cost, 1), children.to_vec(), ());
        let either = vec![node(3, &[]), node(0, &[3])];
        let candidates = vec![vec![node(0, &[1, 2])], either.clone(), either, vec![node(5, &[])]];
        let mut choice = greedy(&candidates).unwrap();
        assert_eq!(total(&candidates, &[0], &choice).unwrap().1, (6, 3));
        assert!(exact(&candidates, &[0], (6, 3), &mut choice));
        assert_eq!(total(&candidates, &[0], &choice).unwrap().1, (5, 4));
    }

    #[test]
    fn what_is_apart_is_searched_apart() {
        // Thirty copies of the trap, beside each other: 2^60 choices.
        let node = |cost, children: &[usize]| ((cost, 1), children.to_vec(), ());
        let mut candidates =
            vec![vec![node(0, &(0..30).flat_map(|i| [3 * i + 1, 3 * i + 2]).collect::<Vec<_>>())]];
        for i in 0..30 {
            let either = vec![node(3, &[]), node(0, &[3 * i + 3])];
            candidates.extend([either.clone(), either, vec![node(5, &[])]]);
        }
        assert_eq!(solved(&candidates), Some((150, 91)));
    }

    #[test]
    fn components_make_no_cycle_together() {
        // 1 and 2 are cheap from each other, but one of them has to come from 3.
        let node = |cost, children: &[usize]| ((cost, 1), children.to_vec(), ());
        let candidates = vec![
            vec![node(0, &[1, 2])],
            vec![node(1, &[2]), node(9, &[3])],
            vec![node(1, &[1]), node(8, &[3])],
            vec![node(0, &[])],
        ];
        let mut choice = vec![0, 1, 1, 0];
        exact(&candidates, &[0], (17, 4), &mut choice);
        assert!(total(&candidates, &[0], &choice).is_some_and(|(_, cost)| cost <= (17, 4)));
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(lists in prop::collection::vec(prop::collection::vec((0u64..20, prop::collection::vec(0usize..7, 0..3)), 1..4), 7)) {
            let list = |l: Vec<(u64, Vec<usize>)>| l.into_iter().map(|(cost, children)| ((cost, 1), children, ())).collect::<Vec<_>>();
            let mut candidates: Vec<Vec<(Cost, Vec<usize>, ())>> = lists.into_iter().map(list).collect();
            // The last class is a leaf, so that most cases have a solution.
            candidates[6].push(((9, 1), vec![], ()));
            candidates.iter_mut().for_each(|l| l.sort());
            if let Some(cost) = solved(&candidates) {
                prop_assert_eq!(Some(cost), brute(&candidates));
            }
        }
    }
}
