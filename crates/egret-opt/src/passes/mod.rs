//! The procedural parts of passes; `crate::PASSES` lists all passes.

pub(crate) mod bodies;
pub(crate) mod dead_channels;
mod flow;
pub(crate) mod fold;
mod generated;
pub(crate) mod layout;
mod loops;
pub mod partition;
