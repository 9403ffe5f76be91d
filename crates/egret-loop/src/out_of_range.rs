//! What numbers from data are held to, and what a kernel that fails reports.

use crate::ir::V;
use std::fmt;

/// An end of the range that a number is held to ([`Stmt::Check`](crate::Stmt::Check)).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// A constant.
    Number(i64),
    /// An i64 scalar, such as the extent of a free dim.
    Value(V),
}

impl Bound {
    /// The value, where it is one.
    pub fn value(self) -> Option<V> {
        match self {
            Bound::Number(_) => None,
            Bound::Value(v) => Some(v),
        }
    }
}

impl From<i64> for Bound {
    fn from(number: i64) -> Bound {
        Bound::Number(number)
    }
}

impl From<V> for Bound {
    fn from(value: V) -> Bound {
        Bound::Value(value)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Number(number) => number.fmt(f),
            Bound::Value(value) => value.fmt(f),
        }
    }
}

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
