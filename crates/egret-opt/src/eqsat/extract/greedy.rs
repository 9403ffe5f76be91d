//! Greedy extraction: each class keeps the cheapest set of classes that computes it, up to a fixpoint.

use super::candidates::{Candidate, Candidates, Cost};
use fixedbitset::FixedBitSet;

/// The most rounds of refinement.
const ROUNDS: usize = 8;

/// The best way found to compute a class.
#[derive(Clone)]
struct Best {
    cost: Cost,
    /// The classes that are computed, itself among them.
    set: FixedBitSet,
    /// What they cost, and at which [`Own::version`] that was summed up.
    sum: (Cost, usize),
    /// The candidate.
    choice: usize,
}

/// The costs of the classes' chosen nodes, without their operands.
struct Own {
    costs: Vec<Cost>,
    /// How often the node of a class was exchanged: sums over sets with that class are stale then. The first node of a class is no
    /// exchange, as no set has the class before.
    version: usize,
}

impl Own {
    /// The sum over the classes of a set that are not in another one.
    fn sum(&self, of: &FixedBitSet, without: Option<&FixedBitSet>) -> Cost {
        let mut sum = Cost::default();
        for (i, block) in of.as_slice().iter().enumerate() {
            let mut left = block & !without.map_or(0, |w| w.as_slice()[i]);
            while left != 0 {
                sum += self.costs[i * usize::BITS as usize + left.trailing_zeros() as usize];
                left &= left - 1;
            }
        }
        sum
    }
}

/// The sets of operands, united.
struct Union {
    set: FixedBitSet,
    sum: Cost,
}

impl Union {
    fn new(n: usize) -> Union {
        Union { set: FixedBitSet::with_capacity(n), sum: Cost::default() }
    }

    /// Unites the sets of a candidate's operands. Returns whether each has one, and none needs `class` itself.
    fn of<N>(&mut self, candidate: &Candidate<N>, class: usize, best: &[Option<Best>], own: &Own) -> bool {
        let needs = |&c: &usize| best[c].as_ref().is_none_or(|b| b.set.contains(class));
        if candidate.operands.iter().any(needs) {
            return false;
        }
        let operands = || candidate.operands.iter().filter_map(|&c| best[c].as_ref());
        // The dearest operand is mostly the one with the largest set.
        let Some(most) = operands().max_by_key(|b| b.sum.0) else {
            self.set.clear();
            self.sum = Cost::default();
            return true;
        };
        self.set.clone_from(&most.set);
        let (sum, version) = most.sum;
        self.sum = if version == own.version { sum } else { own.sum(&most.set, None) };
        for other in operands().filter(|b| !std::ptr::eq(*b, most)) {
            self.sum += own.sum(&other.set, Some(&self.set));
            self.set.union_with(&other.set);
        }
        true
    }
}

pub(crate) fn greedy<N>(candidates: &Candidates<N>) -> Option<Vec<usize>> {
    let n = candidates.len();
    let mut best: Vec<Option<Best>> = vec![None; n];
    let mut own = Own { costs: vec![Cost::default(); n], version: 0 };
    let mut union = Union::new(n);
    loop {
        let mut changed = false;
        for class in 0..n {
            for (choice, candidate) in candidates[class].iter().enumerate() {
                if !union.of(candidate, class, &best, &own) {
                    continue;
                }
                let cost = candidate.cost + union.sum;
                if best[class].as_ref().is_none_or(|is| cost < is.cost) {
                    own.version += usize::from(best[class].is_some());
                    own.costs[class] = candidate.cost;
                    let mut set = union.set.clone();
                    set.insert(class);
                    best[class] = Some(Best { cost, set, sum: (cost, own.version), choice });
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
    let mut union = Union::new(n);
    for _ in 0..ROUNDS {
        let order = operands_first(candidates, choice);
        let mut done: Vec<Option<Best>> = vec![None; n];
        let mut own = Own { costs: vec![Cost::default(); n], version: 0 };
        let mut changed = false;
        for class in order {
            let mut best: Option<Best> = None;
            for (k, candidate) in candidates[class].iter().enumerate() {
                if !union.of(candidate, class, &done, &own) {
                    continue;
                }
                let cost = candidate.cost + union.sum;
                // The present choice wins ties.
                let better = |is: &Best| cost < is.cost || cost == is.cost && k == choice[class];
                if best.as_ref().is_none_or(better) {
                    best = Some(Best { cost, set: union.set.clone(), sum: (cost, 0), choice: k });
                }
            }
            let Some(mut best) = best else { return };
            best.set.insert(class);
            own.costs[class] = candidates[class][best.choice].cost;
            changed |= choice[class] != best.choice;
            choice[class] = best.choice;
            done[class] = Some(best);
        }
        if !changed {
            return;
        }
    }
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
