//! Matching and instantiating patterns over anything that has terms: an e-graph, a graph, a proof.

mod guards;
mod instantiate;
mod matcher;
mod multi_pattern;
mod terms;

pub use guards::{FailedGuard, all_guards_hold, guards_hold, proven_guards_hold};
pub use instantiate::instantiate;
pub use matcher::matches;
pub(crate) use multi_pattern::{completed, groups};
pub use terms::{Bound, Match, Sink, TermNode, Terms};
