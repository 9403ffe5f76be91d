//! Greedy extraction: each class keeps the cheapest set of classes that computes it, up to a fixpoint.

use super::candidates::{Candidates, Cost};
use fixedbitset::FixedBitSet;

/// The most rounds of refinement.
const ROUNDS: usize = 8;

/// The best way found to compute a class.
#[derive(Clone)]
struct Best {
    cost: Cost,
    /// The classes that are computed.
    set: FixedBitSet,
    /// The candidate.
    choice: usize,
}

pub(crate) fn greedy<N>(candidates: &Candidates<N>) -> Option<Vec<usize>> {
    let n = candidates.len();
    let mut best: Vec<Option<Best>> = vec![None; n];
    let mut own = vec![Cost::default(); n];
    loop {
        let mut changed = false;
        for class in 0..n {
            for (choice, candidate) in candidates[class].iter().enumerate() {
                let set = |c: usize| best[c].as_ref().map(|b| &b.set);
                let Some(mut set) = union(n, &candidate.operands, set) else { continue };
                if set.contains(class) {
                    continue;
                }
                let cost = add_up(candidate.cost, &set, &own);
                if best[class].as_ref().is_none_or(|is| cost < is.cost) {
                    set.insert(class);
                    best[class] = Some(Best { cost, set, choice });
                    own[class] = candidate.cost;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    best.into_iter().map(|b| b.map(|b| b.choice)).collect()
}

/// Refines a choice. Greedy sums can be stale: a class keeps its set while members of the set change their
/// nodes. So recompute the sets, operands first. Candidates that use a later class are skipped, so that no
/// cycle arises.
pub(super) fn refine<N>(candidates: &Candidates<N>, choice: &mut [usize]) {
    let n = candidates.len();
    for _ in 0..ROUNDS {
        let order = operands_first(candidates, choice);
        let mut sets: Vec<Option<FixedBitSet>> = vec![None; n];
        let mut own = vec![Cost::default(); n];
        let mut changed = false;
        for class in order {
            let mut best: Option<Best> = None;
            for (k, candidate) in candidates[class].iter().enumerate() {
                let Some(set) = union(n, &candidate.operands, |c| sets[c].as_ref()) else { continue };
                let cost = add_up(candidate.cost, &set, &own);
                // The present choice wins ties.
                let better = |is: &Best| cost < is.cost || cost == is.cost && k == choice[class];
                if best.as_ref().is_none_or(better) {
                    best = Some(Best { cost, set, choice: k });
                }
            }
            let Some(Best { mut set, choice: k, .. }) = best else { return };
            set.insert(class);
            (sets[class], own[class]) = (Some(set), candidates[class][k].cost);
            changed |= choice[class] != k;
            choice[class] = k;
        }
        if !changed {
            return;
        }
    }
}

/// The cost of a set plus one node.
fn add_up(cost: Cost, set: &FixedBitSet, own: &[Cost]) -> Cost {
    cost + set.ones().map(|c| own[c]).sum()
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
                let operands = &candidates[c][choice[c]].operands;
                stack.extend(operands.iter().rev().filter(|&&o| !seen[o]).map(|&o| (o, false)));
            }
        }
    }
    order
}

/// The classes, of `n`, that are computed for these operands; `None` if one of them has no set yet.
fn union<'a>(
    n: usize,
    operands: &[usize],
    set: impl Fn(usize) -> Option<&'a FixedBitSet>,
) -> Option<FixedBitSet> {
    let mut all = FixedBitSet::with_capacity(n);
    for &c in operands {
        all.union_with(set(c)?);
    }
    Some(all)
}
