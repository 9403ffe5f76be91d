//! Graph passes of the Egret compiler: one visible list, [`PASSES`], each pass a function from a graph to a new graph.
//!
//! A pass is code (channels-last layout, folding), rules of `ir-spec/rules` saturated in an e-graph, or both: [`Pass`].
//! Folders, each of which uses those before it only: `analysis` (what is known of a value), `rules` (the rule language), `matching`
//! (patterns against terms), `cost`, `regions` (pieces of a graph), `proof` (proofs and their checker, which see no e-graph),
//! `eqsat` (equality saturation of one region), `passes` (the code of passes), `soundness` (every rule against the interpreter).
#![forbid(unsafe_code)]

pub mod analysis;
mod cost;
mod eqsat;
pub mod matching;
mod pass;
mod passes;
mod pipeline;
pub mod proof;
mod rebuild;
mod regions;
mod report;
pub mod rules;
pub mod soundness;

pub use cost::{CostModel, estimate, multiply_adds};
pub use pass::Pass;
pub use passes::partition;
pub use pipeline::{
    DEFAULT_BUDGET, OptError, Options, PASSES, optimize, parse_rules, rules_of, saturated_rules,
};
pub use report::{Findings, Missed, PassReport, Rewrite, RuleCount, Snapshots, Stopped};
