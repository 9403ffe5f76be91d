//! Graph IR to Loop IR: kernels, fusion, tile choice and the buffer plan.
//!
//! The way of a graph: `check` refuses what compiled code cannot hold, `groups` decides which nodes share a kernel, `room`
//! which results stand between zeros for the windows that read them, one
//! module per family writes the kernels (`elementwise`, `movement`, `reduce`, `window`, `contraction`, `irregular`)
//! into the `context::Ctx`, and `buffers` gives every buffer its place. The crate knows nothing of machine code.

mod buffers;
mod check;
mod context;
mod contraction;
mod elementwise;
mod error;
mod expand;
mod expr;
mod groups;
mod irregular;
mod map;
mod movement;
mod nest;
mod options;
mod ports;
mod reasons;
mod reduce;
mod room;
mod rotary;
mod rows;
mod scanning;
mod storage;
mod streams;
mod views;
mod window;

pub use buffers::{ArenaReport, arena_report};
pub use error::{LowerError, Refusal};
pub use options::LowerOptions;

use egret_ir::Graph;
use egret_loop::Program;
use egret_trace::Trace;

/// Lower a graph of constant shapes to a program.
///
/// # Errors
/// Every node that cannot be lowered, with the reason.
pub fn lower(graph: &Graph, options: &LowerOptions) -> Result<Program, LowerError> {
    lower_traced(graph, options, None)
}

/// As [`lower`]; a trace gets a `choice kernel` for every kernel run and a `missed share-kernel` for every neighbour left outside.
///
/// # Errors
/// As [`lower`].
pub fn lower_traced(
    graph: &Graph,
    options: &LowerOptions,
    trace: Option<&mut Trace>,
) -> Result<Program, LowerError> {
    let expanded = expand::expand(graph)
        .map_err(|e| LowerError { refusals: vec![Refusal::of_graph(e.to_string())] })?;
    let graph = expanded.as_ref();
    let mut refusals = check::graph(graph);
    let refused: std::collections::BTreeSet<_> = refusals.iter().filter_map(|r| r.node).collect();
    // Shapes that are not constant would make every later message a consequence of the first.
    if check::has_open_shapes(graph) || refusals.iter().any(|r| r.node.is_none()) {
        return Err(LowerError { refusals });
    }
    let mut ctx = context::Ctx::new(graph, options)?;
    let mut groups = groups::build(graph, options);
    if options.fuse {
        ctx.rooms = room::plan(graph, &mut groups);
    }
    for group in &groups {
        if group.nodes.iter().any(|n| refused.contains(n)) {
            continue;
        }
        ctx.begin(group);
        if let Err(reason) = dispatch(&mut ctx, group) {
            refusals.push(Refusal::of_node(graph, group.anchor.unwrap_or(group.root), reason.0));
        }
    }
    if !refusals.is_empty() {
        return Err(LowerError { refusals });
    }
    let program = ctx.finish()?;
    if let Some(trace) = trace {
        reasons::neighbours(graph, &groups, options.fuse, trace);
        reasons::kernels(&program, trace);
    }
    Ok(program)
}

fn dispatch(ctx: &mut context::Ctx, group: &groups::Group) -> Result<(), error::Unsupported> {
    use egret_ir::Op;
    let Some(anchor) = group.anchor else { return elementwise::lower(ctx, group) };
    let info = ctx.graph.node(anchor).op.info();
    match info.op {
        Op::Matmul | Op::Conv | Op::ConvTranspose => contraction::lower(ctx, group),
        Op::ArgReduce | Op::Cumulative => scanning::lower(ctx, ctx.graph.node(anchor)),
        Op::Reduce | Op::Softmax | Op::LayerNorm | Op::RmsNorm => reduce::lower(ctx, group),
        Op::Rotary => rotary::lower(ctx, group, ctx.graph.node(anchor)),
        Op::Pool | Op::MaxPoolIndices => window::lower(ctx, group),
        Op::Pad
        | Op::Dilate
        | Op::Concat
        | Op::Iota
        | Op::BitCast
        | Op::Shape
        | Op::RandomUniform
        | Op::RandomNormal => movement::lower(ctx, group),
        _ => irregular::lower(ctx, group),
    }
}
