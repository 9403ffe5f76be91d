//! Pieces of memory.

use egret_loop::Extent;

/// A piece of memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of its first byte.
    pub at: Extent,
    /// Bytes.
    pub bytes: Extent,
}
