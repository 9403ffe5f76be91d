//! The names of what kernels and programs are made of, and where one stands for a number.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
id!(
    /// A value of a kernel: `v3`.
    V, "v"
);
id!(
    /// A mutable local of a kernel: `l0`.
    Local, "l"
);
id!(
    /// A buffer parameter of a kernel: `p1`.
    Param, "p"
);
id!(
    /// A buffer of a program: `b4`.
    BufferId, "b"
);
id!(
    /// A kernel of a program: `k2`.
    KernelId, "k"
);

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
