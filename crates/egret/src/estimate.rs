//! What a model takes on one core of a machine, node by node: estimated, or measured.

use crate::error::Result;
use crate::native::Native;
use crate::options::Options;
use crate::pipeline;
use egret_ir::{Graph, Tensor, Value};
use egret_trace::Trace;
use std::collections::{BTreeMap, BTreeSet};

/// How often a model is run to measure it; each kernel takes the middle of its times.
const RUNS: usize = 7;

/// The time of a graph after all passes, estimated or measured.
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

/// As [`estimate`], of a graph that is compiled for these options, which must be those of this machine, and run on these inputs. `bound` are
/// inputs that it was imported with.
///
/// # Errors
/// What stops the compiler, or does not fit the inputs; a graph parts of which run on the host, whose kernels are not all seen.
pub fn measure(
    graph: Graph,
    options: &Options,
    inputs: &[Value],
    bound: &BTreeMap<String, Tensor>,
) -> Result<Estimate> {
    let options = Options { threads: 1, ..options.clone() };
    let native = Native::jit(graph, &options, bound)?;
    let mut runs: Vec<(BTreeSet<String>, Vec<u64>)> = vec![];
    for _ in 0..RUNS {
        let kernels = native.profile(inputs)?.kernels;
        runs.resize_with(kernels.len().max(runs.len()), Default::default);
        for ((sources, all), (work, seconds)) in runs.iter_mut().zip(kernels) {
            sources.extend(work.sources);
            all.push((seconds * 1e9) as u64);
        }
    }
    let middle = |mut all: Vec<u64>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    Ok(Estimate {
        target: pipeline::cost_model_name(&options)?.to_owned(),
        nodes: runs.into_iter().map(|(sources, all)| (sources, middle(all))).collect(),
    })
}
