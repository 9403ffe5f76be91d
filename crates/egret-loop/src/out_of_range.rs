//! What a kernel that fails reports.

use std::fmt;

/// A number in a program's data that is not in the range `low..high` ([`Stmt::Check`](crate::Stmt::Check)).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The number.
    pub value: i64,
    /// The least that is right.
    pub low: i64,
    /// The end of what is right, exclusive.
    pub high: i64,
}

impl OutOfRange {
    /// Bytes at the begin of the arena in which a run reports it: value, low and high, as i64.
    pub const BYTES: usize = 24;
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not in {}..{}", self.value, self.low, self.high)
    }
}
