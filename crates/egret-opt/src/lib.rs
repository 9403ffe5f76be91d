//! Graph passes of the Egret compiler: one visible list, [`PASSES`], each pass a function from a graph to a new graph.
//!
//! A pass is code (channels-last layout, folding), rules of `ir-spec/rules` saturated in an e-graph, or both: [`Pass`].
//! Folders, each of which uses those before it only: `analysis` (what is known of a value), `rules` (the rule language), `matching`
//! (patterns against terms), `cost`, `regions` (pieces of a graph), `proof` (proofs and their checker, which see no e-graph),
//! `eqsat` (equality saturation of one region), `passes` (the code of passes), `soundness` (every rule against the interpreter).
//!
//! # Example
//!
//! ```
//! use egret_ir::text;
//! use egret_opt::{Options, optimize};
//!
//! let source = r#"graph @g(%0 "x": f32[4]) -> (%3 "y") {
//!   %1 = const f32[] [1.0]
//!   %2 = mul(%0, %1) : f32[4] from "Mul:/scale"
//!   %3 = abs(%2) : f32[4] from "Abs:/size"
//! }
//! "#;
//! let graph = text::parse(source, &|_| None)?;
//! let (graph, reports) = optimize(graph, &Options::default())?;
//! assert_eq!(graph.node_count(), 1);
//!
//! // What was done, with the rule and the ONNX nodes.
//! let rewrites: Vec<_> = reports.iter().flat_map(|r| &r.findings.rewrites).collect();
//! assert_eq!(rewrites[0].rule, "mul-one");
//! assert!(rewrites[0].sources.contains("Mul:/scale"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
    split_tensors,
};
pub use report::{Findings, Missed, PassReport, Rewrite, RuleCount, Snapshots, Stopped};
