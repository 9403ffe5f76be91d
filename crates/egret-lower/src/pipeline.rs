//! The way of a graph through the crate.

use crate::error::{Fault, LowerError, Refusal, Unsupported};
use crate::kernels::{self, FreeRows, elementwise, standing};
use crate::options::LowerOptions;
use crate::plan::blocks::{self, Block};
use crate::plan::fusion::FusionGroup;
use crate::plan::units::{self, Units};
use crate::plan::{
    addends, constant_indices, decompose, fusion, half_floats, halo, legalize, lengths, rows, views,
};
use crate::program::context::{Ctx, Standing, SubOperand};
use crate::remarks;
use egret_ir::{Dim, Graph, NodeId, TypeError, ValueId};
use egret_loop::Program;
use egret_trace::Trace;
use std::borrow::Cow;
use std::sync::Arc;

/// A program, and whose work it does.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// The program.
    pub program: Program,
    /// For each of its calls the nodes of the graph whose work it does, in order. A node whose work several calls do
    /// stands at each of them.
    pub nodes: Vec<Vec<NodeId>>,
}

/// Lower a graph to a program. Its dims are constant, or free in such a way that values are units which do not depend on one another
/// (`plan/units.rs`).
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
    let prepared = prepare(graph, options, false, None)?;
    let (graph, origins) = (prepared.graph.as_ref(), prepared.origins);
    let all_closed = prepared.units.as_ref().is_none_or(Units::all_closed);
    let mut ctx = Ctx::new(graph, options, prepared.units)?;
    ctx.lower_sub_graph = sub_graph;
    hold_windows(&mut ctx).map_err(|e| LowerError { refusals: vec![Refusal::of_graph(e.reason)] })?;
    let groups = groups(&mut ctx, &prepared.blocks, prepared.refusals)?;
    copy_outputs(&mut ctx)?;
    let (program, mut nodes) = ctx.finish()?;
    for of in &mut nodes {
        of.iter_mut().for_each(|n| *n = *origins.get(n).unwrap_or(n));
        of.sort_unstable();
        of.dedup();
    }
    if let Some(trace) = trace {
        if all_closed {
            remarks::neighbours(graph, &groups, options.fuse, trace);
        }
        remarks::kernels(&program, trace);
        remarks::branches(&program, trace);
        remarks::zeros(graph, &options.machine.costs, trace);
    }
    Ok(Lowered { program, nodes })
}

/// A graph of operations that have kernels.
struct Prepared<'g> {
    graph: Cow<'g, Graph>,
    /// For each node that stands for a part of another one: that one, by its number before.
    origins: decompose::Origins,
    /// What its values are units of, where the graph is that of one unit.
    units: Option<Units>,
    /// Graphs of several units.
    blocks: Vec<Block>,
    /// What cannot be lowered so far: nodes only.
    refusals: Vec<Refusal>,
}

/// Decomposes what has no kernel of its own, and looks for what cannot be compiled. `around`: the units of the graph around one that is
/// `within` it.
fn prepare<'g>(
    graph: &'g Graph,
    options: &LowerOptions,
    within: bool,
    around: Option<&Units>,
) -> Result<Prepared<'g>, LowerError> {
    let broken = |e: TypeError| LowerError { refusals: vec![Refusal::of_graph(e.to_string())] };
    let (widened, made) = half_floats::widen(graph).map_err(broken)?;
    let (graph, mut origins) = match widened {
        Cow::Borrowed(graph) => decompose::decompose(graph, options.fuse).map_err(broken)?,
        Cow::Owned(graph) => {
            let (graph, origins) = decompose::decompose(&graph, options.fuse).map_err(broken)?;
            (Cow::Owned(graph.into_owned()), origins)
        }
    };
    origins.values_mut().for_each(|n| *n = *made.get(n).unwrap_or(n));
    made.into_iter().for_each(|(new, n)| {
        origins.entry(new).or_insert(n);
    });
    let (graph, of_rows, windows) = match graph {
        Cow::Borrowed(graph) => {
            let rows = rows::rows(graph).map_err(broken)?;
            (rows.graph, rows.origins, rows.windows)
        }
        Cow::Owned(graph) => {
            let rows = rows::rows(&graph).map_err(broken)?;
            (Cow::Owned(rows.graph.into_owned()), rows.origins, rows.windows)
        }
    };
    for (new, n) in of_rows {
        let was = *origins.get(&n).unwrap_or(&n);
        origins.insert(new, was);
    }
    let never = legalize::refused(&graph, kernels::refusal);
    let (graph, units, blocks) = match units::plan(&graph, within, around, kernels::takes_open) {
        Ok(None) => (graph, None, vec![]),
        Ok(Some(mut units)) => {
            units.windows = windows;
            units.open(views::picks(&units));
            units.open(views::joins(&units));
            let of_one = units.graph_of(&vec![], 1);
            units.views = views::plan(&units);
            units.written = views::written(&units);
            let blocks = blocks::plan(&of_one, &units, options);
            (Cow::Owned(of_one), Some(units), blocks)
        }
        Err(refusals) if never.is_empty() => return Err(LowerError { refusals }),
        Err(_) => return Err(LowerError { refusals: never }),
    };
    let refusals = legalize::graph(&graph, kernels::refusal);
    // Dims that are not constant would make every later message a consequence of the first.
    if legalize::has_open_dims(&graph) || refusals.iter().any(|r| r.node.is_none()) {
        return Err(LowerError { refusals });
    }
    // In a sub-graph, which may not run, they are as those that data tells: a run fails that comes to them.
    let wrong = if within { vec![] } else { constant_indices::refusals(&graph) };
    if !wrong.is_empty() {
        return Err(LowerError { refusals: wrong });
    }
    Ok(Prepared { graph, origins, units, blocks, refusals })
}

/// Lowers the groups of a context's graph, some of them also for several units at once; gives them.
fn groups<'g>(
    ctx: &mut Ctx<'g>,
    blocks: &'g [Block],
    mut refusals: Vec<Refusal>,
) -> Result<Vec<fusion::FusionGroup>, LowerError> {
    let graph = ctx.graph;
    let refused: std::collections::BTreeSet<_> = refusals.iter().filter_map(|r| r.node).collect();
    let mut groups = fusion::build(graph, ctx.options, ctx.units.as_ref());
    if ctx.options.fuse {
        if ctx.units.is_none() {
            addends::plan(graph, &mut groups, &ctx.options.machine);
        }
        ctx.halos = halo::plan(graph, &mut groups, &ctx.options.machine);
    }
    let with_free_dims = ctx.units.as_ref().map(|u| Arc::clone(&u.graph));
    for group in &groups {
        if group.nodes.iter().any(|n| refused.contains(n)) {
            continue;
        }
        ctx.begin(group);
        let open = ctx.units.as_ref().is_some_and(|u| u.is_open(group.root));
        let with_free_dims = with_free_dims.as_deref().filter(|_| open);
        let lowered = match with_free_dims {
            Some(graph) => kernels::lower_open(ctx, graph, group.root),
            None => several(ctx, blocks, group).and_then(|()| kernels::lower(ctx, group)),
        };
        if let Err(reason) = lowered {
            let graph = with_free_dims.unwrap_or(graph);
            refusals.push(Refusal::of_kernel(graph, group.node(), reason));
        }
    }
    if refusals.is_empty() { Ok(groups) } else { Err(LowerError { refusals }) }
}

/// Lowers a group for as many units at once as there are graphs for; what is left over is for kernels of one.
fn several<'g>(ctx: &mut Ctx<'g>, blocks: &'g [Block], group: &FusionGroup) -> Result<(), Unsupported> {
    if FreeRows::of(ctx, group)?.is_some() {
        return Ok(());
    }
    let Some(units) = &ctx.units else { return Ok(()) };
    let of_one = ctx.graph;
    let found = |b: &'g Block| Some((b, b.group(of_one, units, group)?));
    let blocks: Vec<(&Block, &FusionGroup)> = blocks.iter().filter_map(found).collect();
    let halo = |v: &ValueId| ctx.halos.contains_key(v);
    let operands = group.nodes.iter().flat_map(|&n| of_one.node(n).operands.iter().flatten());
    if blocks.is_empty() || operands.chain([&group.result]).any(halo) {
        return Ok(());
    }
    // Buffers are of one unit.
    for &v in &of_one.node(group.root).results {
        ctx.place(v)?;
    }
    for (block, group) in blocks {
        ctx.at_once(&block.graph, block.step, |ctx| kernels::lower(ctx, group))?;
    }
    Ok(())
}

/// Lowers a sub-graph into the program; gives the places of its outputs. Operands that are constants are constants in it.
///
/// # Errors
/// The first node of it that cannot be lowered.
fn sub_graph(
    ctx: &mut Ctx,
    graph: &Graph,
    operands: &[SubOperand],
    outputs: &[Standing],
) -> Result<Vec<Standing>, Unsupported> {
    let mut graph = graph.clone();
    // What data decides in it is called otherwise than what it decides elsewhere: each is a length of the program.
    graph.rename_declared(&ctx.dim_names());
    let (mut places, mut given) = (vec![], vec![]);
    for (&inside, operand) in graph.inputs().to_vec().iter().zip(operands) {
        let (constant, dims) = match operand {
            SubOperand::Value(v) => (ctx.graph.as_const(*v), ctx.dims_of(*v)),
            SubOperand::At(standing) => (None, standing.dims.clone()),
        };
        if let Some(tensor) = constant {
            let constant = graph.add_const(tensor.clone());
            graph.replace_uses(inside, constant);
        }
        places.push(match operand {
            // Nobody reads it any more.
            SubOperand::Value(_) if constant.is_some() => None,
            SubOperand::Value(v) => Some(standing(ctx, *v)?.at),
            SubOperand::At(standing) => Some(standing.at),
        });
        given.push(dims);
    }
    graph.substitute_symbols(&lengths::symbols_given(&graph, &given));
    for (&inside, dims) in graph.inputs().iter().zip(&given) {
        let taken = graph.ty(inside).as_tensor().map_or(&[][..], |t| &t.shape[..]);
        let open = |dims: &[Dim]| dims.iter().any(|d| d.as_const().is_none());
        if taken != dims && (open(taken) || open(dims)) {
            let shown = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
            return Err(Unsupported::new(format!(
                "gives [{}] to a sub-graph that takes [{}], which is compiled with constant dims only",
                shown(dims),
                shown(taken)
            )));
        }
    }
    let inside = |e: LowerError| {
        let reason = e.refusals.first().map_or_else(|| "it cannot be lowered".into(), ToString::to_string);
        Unsupported::new(format!("holds a sub-graph that cannot be compiled: {reason}"))
    };
    let prepared = prepare(&graph, ctx.options, true, ctx.units.as_ref()).map_err(inside)?;
    ctx.within(&prepared.graph, prepared.units, &places, outputs, |ctx| {
        hold_windows(ctx)?;
        groups(ctx, &prepared.blocks, prepared.refusals).map_err(inside)?;
        ctx.once();
        let outputs = ctx.graph.outputs().to_vec();
        outputs.into_iter().map(|v| standing(ctx, v)).collect()
    })
}

/// Holds runs to windows that lie in what they are taken of.
fn hold_windows(ctx: &mut Ctx) -> Result<(), Unsupported> {
    for (axis, [size, positions]) in ctx.units.as_ref().map_or(vec![], |u| u.windows.clone()) {
        ctx.hold_window(&axis.symbolic(), &size, &positions)?;
    }
    Ok(())
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
