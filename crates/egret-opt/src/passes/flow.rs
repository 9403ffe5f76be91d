//! Minimum cut by Dinic's max-flow, without recursion, as graphs are deep.

/// More than any sum of capacities.
pub(super) const UNBOUNDED: u64 = u64::MAX / 4;

/// A flow network.
pub(super) struct Network {
    /// The outgoing edges of each vertex; edge `e ^ 1` is the reverse of `e`.
    leaving: Vec<Vec<usize>>,
    to: Vec<usize>,
    left: Vec<u64>,
}

impl Network {
    /// A network with this many vertices and no edges.
    pub(super) fn new(places: usize) -> Network {
        Network { leaving: vec![vec![]; places], to: vec![], left: vec![] }
    }

    /// Adds a vertex.
    pub(super) fn place(&mut self) -> usize {
        self.leaving.push(vec![]);
        self.leaving.len() - 1
    }

    /// Adds an edge.
    pub(super) fn join(&mut self, from: usize, to: usize, capacity: u64) {
        self.leaving[from].push(self.to.len());
        self.to.push(to);
        self.left.push(capacity);
        self.leaving[to].push(self.to.len());
        self.to.push(from);
        self.left.push(0);
    }

    /// Computes the maximum flow, which equals the minimum cut.
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

    /// The distance of each vertex from the source in the residual network.
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

    /// A shortest augmenting path. `next`: the edge of each vertex to try next.
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
                    // A dead end: go back, and do not come here again.
                    at = self.to[path.pop()? ^ 1];
                    next[at] += 1;
                }
            }
        }
        Some(path)
    }

    /// The source side of the minimum cut with the fewest vertices there. Call it after [`Network::fill`].
    pub(super) fn near_source(&self, source: usize) -> Vec<bool> {
        self.levels(source).into_iter().map(|l| l != usize::MAX).collect()
    }

    /// The same for the minimum cut with the most vertices there.
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
