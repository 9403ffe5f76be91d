//! Local search: changes one choice at a time.

use super::candidates::{Candidates, Walk, total};

/// The most classes with a choice; larger regions are left alone.
const IMPROVABLE: usize = 200;

/// Gives each class the candidate with which the total cost is least, all others fixed.
pub(super) fn improve<N>(candidates: &Candidates<N>, roots: &[usize], choice: &mut [usize]) {
    let Some((needed, mut best)) = total(candidates, roots, choice) else { return };
    let open: Vec<usize> = needed.into_iter().filter(|&c| candidates[c].len() > 1).collect();
    if open.len() > IMPROVABLE {
        return;
    }
    let mut walk = Walk::default();
    for class in open {
        let is = choice[class];
        let mut keep = is;
        for k in (0..candidates[class].len()).filter(|&k| k != is) {
            choice[class] = k;
            if let Some(cost) = walk.cost(candidates, roots, choice, Some(best)) {
                (best, keep) = (cost, k);
            }
        }
        choice[class] = keep;
    }
}
