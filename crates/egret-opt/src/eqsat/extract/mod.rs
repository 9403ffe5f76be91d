//! Extraction of the cheapest graph from an e-graph.

mod approximations;
mod branch_and_bound;
mod candidates;
mod cheapest;
mod greedy;
mod local_search;

pub(crate) use approximations::{cheaper, error};
pub(crate) use candidates::{Approximation, Form};
pub(crate) use cheapest::{Extraction, extract};
