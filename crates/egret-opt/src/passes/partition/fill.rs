//! Orders of units in which stages are filled one after another, as the bins of bin packing are: where there are few units and large ones, which of them come first decides what fits together.

use super::units::Units;

/// Units one behind the other, each of which is all that the next one needs and needed by nothing else.
struct Run {
    units: Vec<usize>,
    /// How many are placed.
    placed: usize,
    /// How many runs it waits for.
    waits: usize,
    /// The runs that wait for it.
    behind: Vec<usize>,
}

/// The units `of`, ascending, in the order in which stages of at most `room` nanoseconds are filled: of the runs of units that may come next the longest that fits; where none fits as a whole, the longest beginning
/// of one that does. A unit that takes more than an empty stage has room for is placed by itself, the longest first.
pub(super) fn fill(units: &Units, of: &[usize], room: u64) -> Vec<usize> {
    let mut runs = runs(units, of);
    let mut ready: Vec<usize> = (0..runs.len()).filter(|&r| runs[r].waits == 0).collect();
    let (mut order, mut left, mut is_empty) = (Vec::with_capacity(of.len()), room, true);
    while !ready.is_empty() {
        let Some((i, count, time)) = next(&runs, &ready, &units.cost, left, is_empty) else {
            (left, is_empty) = (room, true);
            continue;
        };
        let r = ready[i];
        order.extend(&runs[r].rest()[..count]);
        runs[r].placed += count;
        (left, is_empty) = (left.saturating_sub(time), false);
        if runs[r].rest().is_empty() {
            ready.remove(i);
            for b in std::mem::take(&mut runs[r].behind) {
                runs[b].waits -= 1;
                if runs[b].waits == 0 {
                    ready.push(b);
                }
            }
            ready.sort_unstable();
        }
    }
    order
}

/// Which of the ready runs is next, how many of its units, and their time. Nothing where none fits into what is left of a stage that is not empty.
fn next(
    runs: &[Run],
    ready: &[usize],
    cost: &[u64],
    left: u64,
    is_empty: bool,
) -> Option<(usize, usize, u64)> {
    // Of equals the first.
    let rest = || ready.iter().enumerate().rev().map(|(i, &r)| (i, &runs[r]));
    let fitting = rest().map(|(i, run)| (i, run.fitting(cost, left), run));
    let fitting = fitting.filter(|(_, (count, _), _)| *count > 0);
    let best = fitting.max_by_key(|(_, (count, time), run)| (*count == run.rest().len(), *time));
    match best {
        Some((i, (count, time), _)) => Some((i, count, time)),
        None if is_empty => {
            let firsts = rest().filter_map(|(i, run)| Some((i, 1, cost[*run.rest().first()?])));
            firsts.max_by_key(|(_, _, time)| *time)
        }
        None => None,
    }
}

impl Run {
    fn rest(&self) -> &[usize] {
        &self.units[self.placed..]
    }

    /// How many of the next units fit into so much room, and the time that they take.
    fn fitting(&self, cost: &[u64], room: u64) -> (usize, u64) {
        let mut time = 0;
        for (count, &u) in self.rest().iter().enumerate() {
            if time + cost[u] > room {
                return (count, time);
            }
            time += cost[u];
        }
        (self.rest().len(), time)
    }
}

/// The runs of some units, in the order of their first.
fn runs(units: &Units, of: &[usize]) -> Vec<Run> {
    let mut mine = vec![false; units.len()];
    of.iter().for_each(|&u| mine[u] = true);
    let before = |u: usize| units.before[u].iter().copied().filter(|&b| mine[b]);
    let mut users = vec![0usize; units.len()];
    of.iter().flat_map(|&u| before(u)).for_each(|b| users[b] += 1);
    let mut run_of = vec![0; units.len()];
    let mut runs: Vec<Run> = vec![];
    for &u in of {
        let needs: Vec<usize> = before(u).collect();
        match needs[..] {
            [one] if users[one] == 1 => {
                run_of[u] = run_of[one];
                runs[run_of[one]].units.push(u);
            }
            _ => {
                run_of[u] = runs.len();
                for &b in &needs {
                    let next = runs.len();
                    runs[run_of[b]].behind.push(next);
                }
                runs.push(Run { units: vec![u], placed: 0, waits: needs.len(), behind: vec![] });
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_together_comes_together() {
        let towers = Units::of_times(&[(4, &[]), (6, &[]), (2, &[]), (0, &[0, 1, 2])]);
        assert_eq!(fill(&towers, &[0, 1, 2, 3], 6), [1, 0, 2, 3]);
        // Some of them, as in a stem.
        assert_eq!(fill(&towers, &[0, 2, 3], 4), [0, 2, 3]);
        // A run is broken where none fits, and what takes more than a stage is one.
        let runs = Units::of_times(&[(3, &[]), (3, &[0]), (2, &[1]), (5, &[]), (5, &[3]), (9, &[2, 4])]);
        assert_eq!(fill(&runs, &[0, 1, 2, 3, 4, 5], 8), [0, 1, 2, 3, 4, 5]);
        assert_eq!(fill(&runs, &[0, 1, 2, 3, 4, 5], 5), [3, 4, 0, 1, 2, 5]);
    }

    #[test]
    fn nothing_comes_before_what_it_needs() {
        let needs: Vec<Vec<usize>> = (0..60usize)
            .map(|u| (u.saturating_sub(9)..u).filter(|b| (u * 3 + b * 5) % 7 == 1).collect())
            .collect();
        let all: Vec<(u64, &[usize])> =
            needs.iter().enumerate().map(|(u, needs)| (u as u64 * 7 % 11, needs.as_slice())).collect();
        let units = Units::of_times(&all);
        let of: Vec<usize> = (0..60).filter(|u| u % 13 != 4).collect();
        for room in [0, 1, 5, 20, 1000] {
            let order = fill(&units, &of, room);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, of, "{room}");
            let at = |u: &usize| order.iter().position(|o| o == u);
            assert!(order.iter().all(|u| needs[*u].iter().all(|b| at(b) < at(u))), "{room} {order:?}");
        }
    }
}
