//! What a model is estimated to take on one core of a machine, node by node.

use crate::error::Result;
use crate::options::Options;
use crate::pipeline;
use egret_ir::Graph;
use egret_trace::Trace;
use std::collections::BTreeSet;

/// The estimated time of a graph after all passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Which machine it is for.
    pub target: String,
    /// Each node that costs something: the ONNX nodes whose work it does, as `operator:name`, and its nanoseconds.
    pub nodes: Vec<(BTreeSet<String>, u64)>,
}

impl Estimate {
    /// Of all nodes, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.nodes.iter().map(|n| n.1).sum()
    }
}

/// Estimate a graph as it is compiled, on the first target of the options. A free dim counts as 64.
///
/// # Errors
/// What stops the passes.
pub fn estimate(graph: Graph, options: &Options) -> Result<Estimate> {
    let model = pipeline::cost_model(options)?;
    let graph = pipeline::optimize(graph, options, None, &mut Trace::new())?;
    let costs = egret_opt::estimate(&graph, model).into_iter().filter(|(_, ns)| *ns > 0);
    Ok(Estimate {
        target: pipeline::cost_model_name(options)?.to_owned(),
        nodes: costs.map(|(n, ns)| (graph.node(n).sources.iter().cloned().collect(), ns)).collect(),
    })
}
