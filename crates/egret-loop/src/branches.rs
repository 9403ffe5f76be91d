//! Calls that may run at the same time.

use std::ops::Range;

/// Parts of a program's calls that stand one behind the other, and may run at the same time where there are threads for it: none reads or
/// writes what another writes. Each runs its calls in order, on one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    /// The calls of each branch: at least two, never empty, each beginning where the one before ends.
    pub calls: Vec<Range<usize>>,
    /// The least threads that they are for, and the most: with fewer or more, sharing out the tasks of one call after the other is faster.
    pub threads: [u32; 2],
}

impl Branches {
    /// The calls of all branches.
    pub fn all(&self) -> Range<usize> {
        let start = self.calls.first().map_or(0, |c| c.start);
        start..self.calls.last().map_or(start, |c| c.end)
    }

    /// The branch that a call is in.
    pub fn of(&self, call: usize) -> Option<usize> {
        self.calls.iter().position(|c| c.contains(&call))
    }
}
