//! Which units run beside each other: independent parts of a graph, such as two towers below a head, or branches between a stem and a head.
//!
//! A head is a unit where branches join, with all behind it; a stem is one where they part, with all before it. What is left without a stem and a head falls into parts that
//! no value ties together. These are put into bins of about the same time, and each bin into one stage of a step, or one of several steps. Whether that pays, [`Figures`] say.

use super::units::Units;
use std::collections::BTreeSet;

/// Stems and heads that are tried at the most, times units.
const MOST_TRIED: usize = 20_000_000;

/// The part of all time that branches take at least: less gains too little.
const LEAST: f64 = 0.2;

/// Steps pay where the longest stage times the time of a sample is below this part of what a chain has: each is what a user may wait for, and one may grow as the other shrinks.
const PAYS: f64 = 0.9;

/// How units are shared out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Sets of units and how many stages each becomes: before the branches, one behind the other.
    pub stem: (Vec<usize>, usize),
    /// Independent ones, each of as many stages: the first of all is a step, and so on.
    pub branches: Vec<Vec<usize>>,
    /// The stages of each branch.
    pub depth: usize,
    /// Behind the branches, one behind the other.
    pub head: (Vec<usize>, usize),
}

/// What stages come to, in nanoseconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// The longest stage, which decides how many samples there are in a time.
    pub longest: u64,
    /// How long a sample takes: the longest stages of all steps.
    pub sample: u64,
}

impl Figures {
    /// Those of the times of stages, by step.
    pub(super) fn of(steps: &[Vec<u64>]) -> Figures {
        let longest = || steps.iter().map(|s| s.iter().copied().max().unwrap_or(0));
        Figures { longest: longest().max().unwrap_or(0), sample: longest().sum() }
    }

    fn product(self) -> f64 {
        self.longest as f64 * self.sample as f64
    }

    /// Whether steps with these figures pay against a chain.
    pub(super) fn pay(self, chain: Figures) -> bool {
        self.product() < chain.product() * PAYS
    }
}

/// The best layout of units into so many stages with branches beside each other, by even shares; nothing where no parts are independent.
pub(super) fn find(units: &Units, stages: usize) -> Option<Layout> {
    let graph = Neighbours::new(units);
    let none = || vec![false; units.len()];
    let joins: Vec<usize> = (0..units.len()).filter(|&u| graph.before[u].len() > 1).collect();
    let forks: Vec<usize> = (0..units.len()).filter(|&u| graph.behind[u].len() > 1).collect();
    let all: u64 = units.cost.iter().sum();
    let mut heads = vec![none()];
    heads.extend(joins.iter().map(|&u| graph.closure(u, &graph.behind)));
    let mut stems = vec![none()];
    if (heads.len() * forks.len()).saturating_mul(units.len()) <= MOST_TRIED {
        stems.extend(forks.iter().map(|&u| graph.closure(u, graph.before)));
    }
    let mut best: Option<(f64, Layout)> = None;
    for stem in &stems {
        for head in &heads {
            if stem.iter().zip(head).any(|(s, h)| *s && *h) {
                continue;
            }
            let of = |set: &[bool]| (0..set.len()).filter(|&u| set[u]).collect::<Vec<_>>();
            let outside: Vec<bool> = stem.iter().zip(head).map(|(s, h)| *s || *h).collect();
            let between =
                units.cost.iter().zip(&outside).filter(|(_, o)| !**o).map(|(c, _)| c).sum::<u64>();
            if (between as f64) < all as f64 * LEAST {
                continue;
            }
            let parts = graph.parts(&outside);
            for count in 2..=parts.len().min(stages) {
                let branches = bins(&parts, count, &units.cost);
                let ends = (of(stem), of(head));
                for layout in layouts(ends, branches, stages) {
                    let product = layout.even(&units.cost).product();
                    if best.as_ref().is_none_or(|(least, _)| product < *least) {
                        best = Some((product, layout));
                    }
                }
            }
        }
    }
    best.map(|(_, layout)| layout)
}

/// All ways to give so many stages to a stem, branches and a head.
fn layouts(ends: (Vec<usize>, Vec<usize>), branches: Vec<Vec<usize>>, stages: usize) -> Vec<Layout> {
    let mut out = vec![];
    let (stem, head) = ends;
    let shortest = branches.iter().map(Vec::len).min().unwrap_or(0);
    for depth in 1..=(stages / branches.len()).min(shortest) {
        let left = stages - depth * branches.len();
        for first in usize::from(!stem.is_empty())..=left.min(stem.len()) {
            let last = left - first;
            if last <= head.len() && (last > 0) != head.is_empty() {
                let (stem, head) = ((stem.clone(), first), (head.clone(), last));
                out.push(Layout { stem, branches: branches.clone(), depth, head });
            }
        }
    }
    out
}

/// Parts in so many bins: the longest first, each into the bin that has least.
fn bins(parts: &[Vec<usize>], count: usize, cost: &[u64]) -> Vec<Vec<usize>> {
    let time = |units: &[usize]| units.iter().map(|&u| cost[u]).sum::<u64>();
    let mut sorted: Vec<&Vec<usize>> = parts.iter().collect();
    sorted.sort_by_key(|part| std::cmp::Reverse(time(part)));
    let mut out = vec![vec![]; count];
    for (k, part) in sorted.into_iter().enumerate() {
        // Each bin has a part, whatever it takes.
        let least = (0..count).min_by_key(|&b| (k < count && !out[b].is_empty(), time(&out[b])));
        out[least.unwrap_or(0)].extend(part);
    }
    out.iter_mut().for_each(|bin| bin.sort_unstable());
    // In the order of the graph.
    out.sort_by_key(|bin| bin.first().copied());
    out
}

impl Layout {
    /// What it comes to where each chain is cut as evenly as can be hoped.
    fn even(&self, cost: &[u64]) -> Figures {
        // A unit stays whole.
        let share = |units: &[usize], stages: usize| {
            let time = || units.iter().map(|&u| cost[u]);
            time().sum::<u64>().div_ceil(stages.max(1) as u64).max(time().max().unwrap_or(0))
        };
        let mut steps = vec![vec![share(&self.stem.0, self.stem.1)]; self.stem.1];
        let branches: Vec<u64> = self.branches.iter().map(|b| share(b, self.depth)).collect();
        steps.extend(vec![branches; self.depth]);
        steps.extend(vec![vec![share(&self.head.0, self.head.1)]; self.head.1]);
        Figures::of(&steps)
    }
}

/// Which units give to which.
struct Neighbours<'a> {
    before: &'a [BTreeSet<usize>],
    behind: Vec<BTreeSet<usize>>,
}

impl Neighbours<'_> {
    fn new(units: &Units) -> Neighbours<'_> {
        let mut behind = vec![BTreeSet::new(); units.len()];
        for (unit, before) in units.before.iter().enumerate() {
            before.iter().for_each(|&b| {
                behind[b].insert(unit);
            });
        }
        Neighbours { before: &units.before, behind }
    }

    /// A unit, and all that is reached from it.
    fn closure(&self, unit: usize, next: &[BTreeSet<usize>]) -> Vec<bool> {
        let mut seen = vec![false; self.behind.len()];
        let mut left = vec![unit];
        while let Some(u) = left.pop() {
            if !std::mem::replace(&mut seen[u], true) {
                left.extend(&next[u]);
            }
        }
        seen
    }

    /// The sets of units that values tie together, without some units: each ascending, in the order of their first.
    fn parts(&self, without: &[bool]) -> Vec<Vec<usize>> {
        let mut seen = without.to_vec();
        let mut out = vec![];
        for start in 0..seen.len() {
            let (mut part, mut left) = (vec![], vec![start]);
            while let Some(u) = left.pop() {
                if !std::mem::replace(&mut seen[u], true) {
                    part.push(u);
                    left.extend(self.before[u].iter().chain(&self.behind[u]));
                }
            }
            part.sort_unstable();
            if !part.is_empty() {
                out.push(part);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_are_beside_each_other_below_a_head() {
        let two = Units::of_times(&[(20, &[]), (25, &[]), (25, &[0]), (20, &[1]), (5, &[2, 3]), (5, &[4])]);
        let found = find(&two, 3).unwrap();
        let is = Layout {
            stem: (vec![], 0),
            branches: vec![vec![0, 2], vec![1, 3]],
            depth: 1,
            head: (vec![4, 5], 1),
        };
        assert_eq!(found, is);
        assert_eq!(found.even(&two.cost), Figures { longest: 45, sample: 55 });
        assert!(found.even(&two.cost).pay(Figures { longest: 34, sample: 100 }));
        // More stages make the towers two steps.
        let deep = find(&two, 5).unwrap();
        assert_eq!((deep.depth, deep.branches.len(), deep.head.1), (2, 2, 1));
        // Four of a kind in two bins, or four.
        let four = Units::of_times(&[(30, &[]), (10, &[]), (10, &[]), (30, &[]), (1, &[0, 1, 2, 3])]);
        assert_eq!(find(&four, 3).unwrap().branches, [vec![0, 1], vec![2, 3]]);
        assert_eq!(find(&four, 5).unwrap().branches.len(), 4);
    }

    #[test]
    fn a_stem_is_before_branches_and_a_chain_has_none() {
        let stem = Units::of_times(&[(10, &[]), (40, &[0]), (40, &[0]), (10, &[1, 2])]);
        let found = find(&stem, 4).unwrap();
        let is =
            Layout { stem: (vec![0], 1), branches: vec![vec![1], vec![2]], depth: 1, head: (vec![3], 1) };
        assert_eq!(found, is);
        // Fewer stages than stem, branches and head.
        assert_eq!(find(&stem, 3), None);
        assert_eq!(find(&Units::of_times(&[(1, &[]), (1, &[0]), (1, &[1])]), 3), None);
        // A shortcut is beside next to nothing, and outputs of their own need no head.
        let shortcut = Units::of_times(&[(40, &[]), (5, &[0]), (1, &[0]), (40, &[1, 2])]);
        assert_eq!(find(&shortcut, 4), None);
        let apart = Units::of_times(&[(10, &[]), (10, &[])]);
        assert_eq!(find(&apart, 2).unwrap().head.1, 0);
    }
}
