//! Exact extraction of small regions: branch and bound over the choice of a node for each class.
//!
//! What is chosen at a class makes its operands needed; the bound is what is chosen so far, and the cheapest node for every class that
//! any completion needs. Those are found beforehand: a class *entails* what all of its nodes entail.

use crate::extract::{Candidates, Cost, Set};

/// Search steps for a region; a region that takes more keeps what the heuristics found.
const STEPS: usize = 2000;
/// Regions of at most so many classes are searched.
const CLASSES: usize = 1024;

/// The nodes of a class that may be chosen: cost, operands, place in the list they come from.
type List = Vec<(Cost, Vec<usize>, usize)>;

/// Replace a choice by the cheapest one. Returns whether it is known to be the cheapest.
pub(crate) fn exact<N>(candidates: &Candidates<N>, roots: &[usize], best: Cost, choice: &mut [usize]) -> bool {
    let order = reachable(candidates, roots);
    let open: Vec<usize> = (0..order.len()).filter(|&c| candidates[order[c]].len() > 1).collect();
    if open.is_empty() || order.len() > CLASSES {
        return open.is_empty();
    }
    let mut place = vec![0; candidates.len()];
    order.iter().enumerate().for_each(|(i, &class)| place[class] = i);
    let local = |(k, (cost, children, _)): (usize, &(Cost, Vec<usize>, N))| (*cost, children.iter().map(|&c| place[c]).collect(), k);
    let lists: Vec<List> = order.iter().map(|&class| candidates[class].iter().enumerate().map(local).collect()).collect();
    let words = lists.len().div_ceil(64);
    let mut search = Search {
        entails: entailed(&lists, words),
        least: lists.iter().map(|list| list.iter().map(|c| c.0).min().unwrap_or_default()).collect(),
        // Where there is nothing to choose, what it entails says all.
        chosen: lists.iter().map(|list| (list.len() == 1).then_some(0)).collect(),
        lists,
        open,
        best,
        found: None,
        steps: 0,
    };
    let (mut needed, mut bound) = (vec![0; words], (0, 0));
    search.need(&mut needed, &mut bound, &roots.iter().map(|&r| place[r]).collect::<Vec<_>>());
    search.branch(&needed, bound);
    for (i, new) in search.found.iter().flatten().enumerate() {
        choice[order[i]] = new.map_or(choice[order[i]], |k| search.lists[i][k].2);
    }
    search.steps <= STEPS
}

/// The classes that some choice needs, operands first except around cycles.
fn reachable<N>(candidates: &Candidates<N>, roots: &[usize]) -> Vec<usize> {
    let (mut seen, mut order) = (vec![false; candidates.len()], vec![]);
    let mut stack: Vec<(usize, bool)> = roots.iter().rev().map(|&r| (r, false)).collect();
    while let Some((class, done)) = stack.pop() {
        if done {
            order.push(class);
        } else if !std::mem::replace(&mut seen[class], true) {
            stack.push((class, true));
            stack.extend(candidates[class].iter().flat_map(|(_, children, _)| children).filter(|&&c| !seen[c]).map(|&c| (c, false)));
        }
    }
    order
}

/// For each class those that every term of it needs, itself among them: the greatest solution of its equations.
fn entailed(lists: &[List], words: usize) -> Vec<Set> {
    let mut sets = vec![vec![u64::MAX; words]; lists.len()];
    loop {
        let mut changed = false;
        for (class, list) in lists.iter().enumerate() {
            let mut all = vec![u64::MAX; words];
            for (_, children, _) in list {
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
    /// The classes with a choice.
    open: Vec<usize>,
    best: Cost,
    found: Option<Vec<Option<usize>>>,
    steps: usize,
}

impl Search {
    /// Add what these classes entail to what is needed, and the least that it costs to the bound.
    fn need(&self, needed: &mut Set, bound: &mut Cost, classes: &[usize]) {
        for &c in classes {
            for (w, has) in needed.iter_mut().enumerate() {
                let mut new = self.entails[c][w] & !*has;
                *has |= new;
                while new != 0 {
                    // A class without a term that is free of cycles entails everything, places beyond the last class among it.
                    let least = self.least.get(w * 64 + new.trailing_zeros() as usize).copied().unwrap_or((u64::MAX / 2, 0));
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
        let undecided = |class: &usize| self.chosen[*class].is_none() && needed[class / 64] >> (class % 64) & 1 == 1;
        let Some(class) = self.open.iter().copied().find(undecided) else {
            (self.best, self.found) = (bound, Some(self.chosen.clone()));
            return;
        };
        for k in 0..self.lists[class].len() {
            let (cost, children, _) = self.lists[class][k].clone();
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

    /// Whether a class is another, or is computed from it by what is chosen.
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
    use crate::extract::{greedy, total};
    use proptest::prelude::*;

    /// What every choice costs that has no cycle.
    fn brute(candidates: &Candidates<()>) -> Option<Cost> {
        let mut choice = vec![0; candidates.len()];
        let mut best = None;
        loop {
            if let Some((_, cost)) = total(candidates, &[0], &choice) {
                best = Some(best.map_or(cost, |b: Cost| b.min(cost)));
            }
            let Some(at) = (0..choice.len()).find(|&i| choice[i] + 1 < candidates[i].len()) else { return best };
            choice[at] += 1;
            choice[..at].fill(0);
        }
    }

    fn solved(candidates: &Candidates<()>) -> Option<Cost> {
        let mut choice = greedy(candidates)?;
        let (_, start) = total(candidates, &[0], &choice)?;
        assert!(exact(candidates, &[0], start, &mut choice), "a small region is searched to the end");
        total(candidates, &[0], &choice).map(|(_, cost)| cost)
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
