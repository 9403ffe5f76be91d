//! The way of a graph through the crate.

use crate::error::{Fault, LowerError, Refusal};
use crate::kernels::{self, elementwise};
use crate::options::LowerOptions;
use crate::plan::{constant_indices, decompose, fusion, half_floats, halo, legalize};
use crate::program::context::Ctx;
use crate::remarks;
use egret_ir::{Graph, NodeId, TypeError};
use egret_loop::Program;
use egret_trace::Trace;

/// A program, and whose work it does.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// The program.
    pub program: Program,
    /// For each of its calls the nodes of the graph whose work it does, in order. A node whose work several calls do
    /// stands at each of them.
    pub nodes: Vec<Vec<NodeId>>,
}

/// Lower a graph of constant shapes to a program.
///
/// # Errors
/// Every node that cannot be lowered, with the reason.
pub fn lower(graph: &Graph, options: &LowerOptions) -> Result<Program, LowerError> {
    Ok(lower_traced(graph, options, None)?.program)
}

/// As [`lower`]; a trace gets a `choice kernel` for every kernel run and a `missed share-kernel` for every
/// neighbour left outside.
///
/// # Errors
/// As [`lower`].
pub fn lower_traced(
    graph: &Graph,
    options: &LowerOptions,
    trace: Option<&mut Trace>,
) -> Result<Lowered, LowerError> {
    let broken = |e: TypeError| LowerError { refusals: vec![Refusal::of_graph(e.to_string())] };
    let (widened, made) = half_floats::widen(graph).map_err(broken)?;
    let (expanded, mut origins) = decompose::decompose(&widened).map_err(broken)?;
    origins.values_mut().for_each(|n| *n = *made.get(n).unwrap_or(n));
    made.into_iter().for_each(|(new, n)| {
        origins.entry(new).or_insert(n);
    });
    let graph = expanded.as_ref();
    let mut refusals = legalize::graph(graph, kernels::refusal);
    let refused: std::collections::BTreeSet<_> = refusals.iter().filter_map(|r| r.node).collect();
    // Dims that are not constant would make every later message a consequence of the first.
    if legalize::has_open_dims(graph) || refusals.iter().any(|r| r.node.is_none()) {
        return Err(LowerError { refusals });
    }
    let wrong = constant_indices::refusals(graph);
    if !wrong.is_empty() {
        return Err(LowerError { refusals: wrong });
    }
    let mut ctx = Ctx::new(graph, options)?;
    let mut groups = fusion::build(graph, options);
    if options.fuse {
        ctx.halos = halo::plan(graph, &mut groups);
    }
    for group in &groups {
        if group.nodes.iter().any(|n| refused.contains(n)) {
            continue;
        }
        ctx.begin(group);
        if let Err(reason) = kernels::lower(&mut ctx, group) {
            refusals.push(Refusal::of_kernel(graph, group.node(), reason));
        }
    }
    if !refusals.is_empty() {
        return Err(LowerError { refusals });
    }
    copy_outputs(&mut ctx)?;
    let (program, mut nodes) = ctx.finish()?;
    for of in &mut nodes {
        of.iter_mut().for_each(|n| *n = *origins.get(n).unwrap_or(n));
        of.sort_unstable();
        of.dedup();
    }
    if let Some(trace) = trace {
        remarks::neighbours(graph, &groups, options.fuse, trace);
        remarks::kernels(&program, trace);
    }
    Ok(Lowered { program, nodes })
}

/// Copies outputs that are not computed straight into the caller's buffers: inputs, constants, parts of
/// other values.
fn copy_outputs(ctx: &mut Ctx) -> Result<(), LowerError> {
    for (i, v) in ctx.outputs_to_copy() {
        let copied = ctx.place(v).and_then(|from| {
            let to = ctx.begin_output(i, v)?;
            elementwise::copy(ctx, ctx.elem(v)?, ctx.len(v), from, to)
        });
        if let Err(reason) = copied {
            let name = &ctx.graph.output_names()[i];
            let refusal = Refusal::of_graph(format!("output `{name}`: {}", reason.reason));
            let fault = if reason.bug { Fault::Egret } else { Fault::Limit };
            let refusal = Refusal { fault, ..refusal };
            return Err(LowerError { refusals: vec![refusal] });
        }
    }
    Ok(())
}
