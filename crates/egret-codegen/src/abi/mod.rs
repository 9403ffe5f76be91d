//! The functions of an artifact that callers see, with the tables they read: `plan` (bytes of the arena for given dims), `shape` (dims of an output),
//! `bind` (weights, and whether the CPU has what code needs), `run`, and the data `info`, by which a model describes itself.

mod branches;
mod checks;
mod chunks;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod failure;
mod float;
mod flow;
mod lengths;
pub(crate) mod levels;
pub(crate) mod sizes;
pub(crate) mod tables;
mod writer;
