//! Analysis: what is known of a value, wherever its terms are held (e-graph, proof or graph).

mod elements;
mod facts;
mod graph;
pub(crate) mod interval;
pub(crate) mod magnitude;
mod mostly_zeros;
pub(crate) mod permutation;
mod signed_zero;
mod summary;
mod terms;
mod whole;

pub use elements::SMALL;
pub use elements::{elements, same_value, scalar};
pub use facts::{Disagreement, Facts};
pub(crate) use graph::GraphFacts;
pub use mostly_zeros::PARTS;
pub use summary::{Summary, away_from_zero};
pub(crate) use terms::{attrs_key, foldable, op_facts};
