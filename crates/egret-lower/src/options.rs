//! What a caller may choose.

use egret_ir::{Dim, Tensor};
use egret_machine::Machine;
use std::collections::{BTreeMap, BTreeSet};

/// Choices of one lowering.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// Name of the program: an identifier, prefix of all its symbols.
    pub name: String,
    /// Whether nodes share kernels.
    pub fuse: bool,
    /// The machine that kernels are written for.
    pub machine: Machine,
    /// Inputs (by name) whose value was bound before import.
    pub bound: BTreeMap<String, Tensor>,
    /// Dims that the model takes not to be negative, beside those of the graph: a run in which one is has no value for it.
    pub sizes: Vec<Held>,
}

/// A dim that must not be negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The dim.
    pub dim: Dim,
    /// The ONNX nodes that need it.
    pub nodes: BTreeSet<String>,
}

impl Default for LowerOptions {
    fn default() -> LowerOptions {
        LowerOptions {
            name: "model".into(),
            fuse: true,
            machine: Machine::of("x86-64-v2").expect("a target of ir-spec/targets").clone(),
            bound: BTreeMap::new(),
            sizes: vec![],
        }
    }
}
