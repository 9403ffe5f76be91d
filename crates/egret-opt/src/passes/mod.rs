//! The procedural parts of passes; `crate::PASSES` lists all passes.

pub(crate) mod dead_channels;
pub(crate) mod fold;
pub(crate) mod layout;
pub mod partition;
