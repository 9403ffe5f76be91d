//! Least cuts of networks, by greatest flows (Dinic's way, without recursion: graphs are deep).

/// More than any sum of capacities.
pub(super) const UNBOUNDED: u64 = u64::MAX / 4;

/// A network of places joined by edges of a capacity.
pub(super) struct Network {
    /// By place the numbers of the edges that leave it; edge `e ^ 1` is `e` backwards.
    leaving: Vec<Vec<usize>>,
    to: Vec<usize>,
    left: Vec<u64>,
}

impl Network {
    /// A network of so many places, without edges.
    pub(super) fn new(places: usize) -> Network {
        Network { leaving: vec![vec![]; places], to: vec![], left: vec![] }
    }

    /// One more place.
    pub(super) fn place(&mut self) -> usize {
        self.leaving.push(vec![]);
        self.leaving.len() - 1
    }

    /// An edge.
    pub(super) fn join(&mut self, from: usize, to: usize, capacity: u64) {
        self.leaving[from].push(self.to.len());
        self.to.push(to);
        self.left.push(capacity);
        self.leaving[to].push(self.to.len());
        self.to.push(from);
        self.left.push(0);
    }

    /// Fill the network; gives the greatest flow, which is the least cut.
    pub(super) fn fill(&mut self, source: usize, sink: usize) -> u64 {
        let mut flow = 0;
        loop {
            let level = self.levels(source);
            if level[sink] == usize::MAX {
                return flow;
            }
            let mut next = vec![0; self.leaving.len()];
            while let Some(path) = self.path(source, sink, &level, &mut next) {
                let least = path.iter().map(|&e| self.left[e]).min().unwrap_or(0);
                for e in path {
                    self.left[e] -= least;
                    self.left[e ^ 1] += least;
                }
                flow += least;
            }
        }
    }

    /// How many edges with room each place is away from the source.
    fn levels(&self, source: usize) -> Vec<usize> {
        let mut level = vec![usize::MAX; self.leaving.len()];
        level[source] = 0;
        let mut queue = std::collections::VecDeque::from([source]);
        while let Some(at) = queue.pop_front() {
            for &e in &self.leaving[at] {
                if self.left[e] > 0 && level[self.to[e]] == usize::MAX {
                    level[self.to[e]] = level[at] + 1;
                    queue.push_back(self.to[e]);
                }
            }
        }
        level
    }

    /// A shortest path with room; `next`: which edge of each place to look at next.
    fn path(&self, source: usize, sink: usize, level: &[usize], next: &mut [usize]) -> Option<Vec<usize>> {
        let mut path: Vec<usize> = vec![];
        let mut at = source;
        while at != sink {
            match self.leaving[at].get(next[at]) {
                Some(&e) if self.left[e] > 0 && level[self.to[e]] == level[at] + 1 => {
                    path.push(e);
                    at = self.to[e];
                }
                Some(_) => next[at] += 1,
                None => {
                    // A dead end: back by one, and never here again.
                    at = self.to[path.pop()? ^ 1];
                    next[at] += 1;
                }
            }
        }
        Some(path)
    }

    /// The places on the source's side of a least cut, after [`Network::fill`]: as few as can be.
    pub(super) fn near_source(&self, source: usize) -> Vec<bool> {
        self.levels(source).into_iter().map(|l| l != usize::MAX).collect()
    }

    /// As [`Network::near_source`], as many as can be.
    pub(super) fn far_from_sink(&self, sink: usize) -> Vec<bool> {
        let mut side = vec![true; self.leaving.len()];
        side[sink] = false;
        let mut stack = vec![sink];
        while let Some(at) = stack.pop() {
            for &e in &self.leaving[at] {
                if self.left[e ^ 1] > 0 && side[self.to[e]] {
                    side[self.to[e]] = false;
                    stack.push(self.to[e]);
                }
            }
        }
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_network_has_its_known_cut() {
        let mut n = Network::new(6);
        for (from, to, capacity) in [
            (0, 1, 16),
            (0, 2, 13),
            (1, 3, 12),
            (2, 1, 4),
            (2, 4, 14),
            (3, 2, 9),
            (3, 5, 20),
            (4, 3, 7),
            (4, 5, 4),
        ] {
            n.join(from, to, capacity);
        }
        assert_eq!(n.fill(0, 5), 23);
        assert_eq!(n.near_source(0), [true, true, true, false, true, false]);
        assert_eq!(n.far_from_sink(5), [true, true, true, false, true, false]);
    }

    #[test]
    fn what_is_not_joined_is_not_cut() {
        let mut n = Network::new(3);
        n.join(0, 2, 5);
        assert_eq!(n.fill(0, 1), 0);
        assert_eq!(n.near_source(0), [true, false, true]);
        assert_eq!(n.far_from_sink(1), [true, false, true]);
    }
}
