//! Greedy extraction: each class keeps the cheapest set of classes that computes it, up to a fixpoint.

use super::candidates::{Candidates, Cost, Set, merge};

/// The most rounds of refinement.
const ROUNDS: usize = 8;

pub(crate) fn greedy<N>(candidates: &Candidates<N>) -> Option<Vec<usize>> {
    let n = candidates.len();
    let words = n.div_ceil(64);
    let mut best: Vec<Option<(Cost, Set, usize)>> = vec![None; n];
    let mut own: Vec<Cost> = vec![(0, 0); n];
    loop {
        let mut changed = false;
        for class in 0..n {
            for (k, (cost, children, _)) in candidates[class].iter().enumerate() {
                let Some(set) = union(&best, children, words) else { continue };
                if set[class / 64] >> (class % 64) & 1 == 1 {
                    continue;
                }
                let sum = add_up(*cost, &set, &own);
                if best[class].as_ref().is_none_or(|(is, _, _)| sum < *is) {
                    let mut set = set;
                    set[class / 64] |= 1 << (class % 64);
                    best[class] = Some((sum, set, k));
                    own[class] = *cost;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    best.into_iter().map(|b| b.map(|(_, _, k)| k)).collect()
}

/// Refines a choice. Greedy sums can be stale: a class keeps its set while members of the set change their
/// nodes. So recompute the sets, operands first. Candidates that use a later class are skipped, so that no
/// cycle arises.
pub(super) fn refine<N>(candidates: &Candidates<N>, choice: &mut [usize]) {
    let words = candidates.len().div_ceil(64);
    for _ in 0..ROUNDS {
        let order = operands_first(candidates, choice);
        let mut sets: Vec<Option<Set>> = vec![None; candidates.len()];
        let mut own: Vec<Cost> = vec![(0, 0); candidates.len()];
        let mut changed = false;
        for class in order {
            let mut best: Option<(Cost, Set, usize)> = None;
            for (k, (cost, children, _)) in candidates[class].iter().enumerate() {
                let mut set = vec![0u64; words];
                if !children.iter().all(|&c| sets[c].as_ref().is_some_and(|s| merge(&mut set, s))) {
                    continue;
                }
                let sum = add_up(*cost, &set, &own);
                // The present choice wins ties.
                let better = |b: &(Cost, Set, usize)| sum < b.0 || sum == b.0 && k == choice[class];
                if best.as_ref().is_none_or(better) {
                    best = Some((sum, set, k));
                }
            }
            let Some((_, mut set, k)) = best else { return };
            set[class / 64] |= 1 << (class % 64);
            (sets[class], own[class]) = (Some(set), candidates[class][k].0);
            changed |= choice[class] != k;
            choice[class] = k;
        }
        if !changed {
            return;
        }
    }
}

/// The cost of a set plus one node.
fn add_up(cost: Cost, set: &Set, own: &[Cost]) -> Cost {
    let mut sum = cost;
    for (w, bits) in set.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            let c = own[w * 64 + bits.trailing_zeros() as usize];
            sum = (sum.0 + c.0, sum.1 + c.1);
            bits &= bits - 1;
        }
    }
    sum
}

/// All classes, each after the operands of its chosen node.
fn operands_first<N>(candidates: &Candidates<N>, choice: &[usize]) -> Vec<usize> {
    let mut seen = vec![false; candidates.len()];
    let mut order = vec![];
    for class in 0..candidates.len() {
        let mut stack = vec![(class, false)];
        while let Some((c, done)) = stack.pop() {
            if done {
                order.push(c);
            } else if !std::mem::replace(&mut seen[c], true) {
                stack.push((c, true));
                stack.extend(
                    candidates[c][choice[c]].1.iter().rev().filter(|&&o| !seen[o]).map(|&o| (o, false)),
                );
            }
        }
    }
    order
}

fn union(best: &[Option<(Cost, Set, usize)>], children: &[usize], words: usize) -> Option<Set> {
    let mut set = vec![0u64; words];
    for &c in children {
        let (_, s, _) = best[c].as_ref()?;
        set.iter_mut().zip(s).for_each(|(a, b)| *a |= b);
    }
    Some(set)
}
