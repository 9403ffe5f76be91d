//! Places in buffers.

use crate::ids::{Param, V};

/// A place in a buffer: `param[base + ...]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The buffer.
    pub param: Param,
    /// Index of the first element (i64 scalar value).
    pub base: V,
}
