//! The functions of an artifact that callers see: `plan`, `bind` and `run`, with the tables they read.

mod checks;
mod chunks;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod failure;
mod float;
mod flow;
mod lengths;
pub(crate) mod sizes;
pub(crate) mod tables;
mod writer;
