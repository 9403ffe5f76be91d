//! The way of a graph through the compiler, one function per step: the only place that calls optimiser, lowering and code
//! generator.

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use egret_ir::{Graph, Tensor};
use egret_loop::Program;
use egret_trace::Trace;
use std::collections::BTreeMap;

/// A model on its way to machine code.
pub struct Lowered {
    /// The optimised graph.
    pub graph: Graph,
    /// Its kernels.
    pub program: Program,
    /// What happened.
    pub trace: Trace,
}

/// Run the graph passes of the options, up to and including `after`.
pub fn optimize(graph: Graph, options: &Options, after: Option<&str>, trace: &mut Trace) -> Result<Graph> {
    let opts = egret_opt::Options { passes: options.passes.clone(), after: after.map(str::to_owned) };
    let (graph, reports) = egret_opt::optimize(graph, &opts).map_err(|e| {
        let kind = match e {
            egret_opt::OptError::UnknownPass(_) => ErrorKind::User,
            egret_opt::OptError::Broken { .. } => ErrorKind::Internal,
        };
        Error { kind, message: e.to_string() }
    })?;
    for r in reports {
        trace.push(egret_trace::Pass {
            name: r.name.to_owned(),
            nodes_before: r.nodes_before as u64,
            nodes_after: r.nodes_after as u64,
            rewrites: 0,
        });
    }
    Ok(graph)
}

/// Optimise a graph and lower it. `bound`: inputs whose values were fixed at import.
pub fn lower(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<Lowered> {
    let free = graph.free_dims();
    if !free.is_empty() {
        let list = free.iter().map(|d| format!("--dim {d}=N")).collect::<Vec<_>>().join(" ");
        return Err(Error::user(format!("the model has free dims; give each a value: {list}")));
    }
    let mut trace = Trace::new();
    let graph = optimize(graph, options, None, &mut trace)?;
    let _ = bound;
    Err(Error::unsupported(format!("this build has no code generator for `{}`", graph.name)))
}

/// Machine code in memory.
pub fn jit(program: &Program, options: &Options) -> Result<egret_runtime::Model> {
    let _ = options;
    Err(Error::unsupported(format!("this build has no code generator for `{}`", program.name)))
}

/// An object file with the weights inside.
pub fn object(program: &Program, options: &Options) -> Result<Vec<u8>> {
    let _ = options;
    Err(Error::unsupported(format!("this build has no code generator for `{}`", program.name)))
}
