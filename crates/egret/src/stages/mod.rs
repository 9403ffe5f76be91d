//! A model in stages that run one behind the other, or at the same time: files of text IR with their large constants beside them, and the plan that says what
//! goes where.
//!
//! The graph is cut when all passes have run, between kernels: no rewrite looks across a cut that was not there, and no fusion is undone. Stages are
//! compiled as they are ([`Staged`]), so that results are those of the whole to the bit.

mod awake;
mod form;
mod held;
mod opened;
#[cfg(unix)]
mod payload;
mod plan;
#[cfg(unix)]
mod process;
mod ranks;
mod routes;
mod run;
#[cfg(unix)]
mod shared;
pub mod simulate;
mod stream;
mod why;
mod worker;

pub use crate::files::PLAN;
pub use plan::{Crossing, Cut, Plan, Port, Stage};
#[cfg(unix)]
pub use process::serve;
pub use ranks::{Ranks, Team};
pub use run::Staged;
pub use stream::{Give, Span, Streamed, Who};

use crate::constants;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline::Lowered;
use crate::source::Imported;
use crate::{files, pipeline};
use egret_ir::{Graph, text};
use egret_opt::partition::tensor::{Compared, Links};
use egret_opt::partition::{self, Stages};
use egret_trace::Trace;
use std::path::Path;

/// Optimise a model and split it into stages that take about the same time on the target of the options; independent ones are of one step where that pays: the plan, and the graph of each stage.
///
/// # Errors
/// What cannot be compiled, as a whole or in so many stages.
pub fn split(model: Imported, stages: usize, options: &Options) -> Result<(Plan, Vec<Graph>)> {
    let (mut plan, whole) = whole(model, options)?;
    let cost = pipeline::cost_model(options)?;
    let parts = partition::split(&whole.graph, &whole.nodes, stages, cost)
        .map_err(|e| Error::user(e.to_string()))?;
    let graphs = arrange(&mut plan, parts, options)?;
    Ok((plan, graphs))
}

/// Optimise a model and split its tensors over workers, where that is estimated to be faster: the plan, the graph of each stage, and where nothing is split,
/// why. Each worker has a stage in a step.
///
/// # Errors
/// What cannot be compiled, as a whole or in stages.
pub fn split_tensors(
    model: Imported,
    workers: usize,
    options: &Options,
) -> Result<(Plan, Vec<Graph>, Option<String>)> {
    let (mut plan, whole) = whole(model, options)?;
    let mut trace = Trace::new();
    let parts = pipeline::split_tensors(&whole.graph, workers, &Links::default(), options, &mut trace)?;
    let why = (!parts.is_split()).then(|| stays_whole(&parts.compared));
    let graphs = arrange(&mut plan, parts.staged(), options)?;
    Ok((plan, graphs, why))
}

/// Why no tensor is split.
fn stays_whole(compared: &Compared) -> String {
    match compared {
        Compared { unable: Some(why), .. } => format!("no tensor is split: {why}"),
        Compared { whole, split: Some(split), .. } => format!(
            "no tensor is split: by estimate the model takes {} us on one worker, and {} us in the best way to split it",
            microseconds(*whole),
            microseconds(*split)
        ),
        Compared { split: None, .. } => {
            "no tensor is split: it has no product of floats whose weights may be shared out".to_owned()
        }
    }
}

/// An optimised model as a whole, and a plan of it without stages.
fn whole(model: Imported, options: &Options) -> Result<(Plan, Lowered)> {
    let Imported { model: file, graph, bound, .. } = model;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let free = graph.free_dims();
    let sizes = pipeline::not_negative(&graph).into_iter().filter(|dim| {
        let mut symbols = vec![];
        dim.collect_symbols(&mut symbols);
        // Those with dims that data decides are a matter of the stage that has the node.
        symbols.iter().all(|s| free.contains(s))
    });
    let not_negative = sizes.map(|dim| dim.to_string()).collect();
    let whole = pipeline::lower(graph, options, &bound)?;
    let target = pipeline::target_name(options)?;
    let mut plan = Plan::new(&name, target, options);
    plan.not_negative = not_negative;
    let inputs = partition::input_names(&whole.graph).into_iter().zip(whole.graph.inputs());
    let port = |name, v| Port { name, ty: whole.graph.ty(v).to_string(), bound: None };
    plan.inputs = inputs.map(|(name, &v)| port(name, v)).collect();
    plan.bind(bound);
    let outputs = whole.graph.output_names().iter().zip(whole.graph.outputs());
    plan.outputs = outputs.map(|(name, &v)| port(name.clone(), v)).collect();
    Ok((plan, whole))
}

/// Puts stages into a plan; their graphs.
fn arrange(plan: &mut Plan, parts: Stages, options: &Options) -> Result<Vec<Graph>> {
    let all: u64 = parts.stages.iter().map(|s| s.cost).sum();
    let steps: Vec<usize> =
        parts.steps.iter().enumerate().flat_map(|(s, stages)| stages.clone().map(move |_| s)).collect();
    let is_chain = parts.steps.iter().all(|step| step.len() == 1);
    for (k, stage) in parts.stages.iter().enumerate() {
        let lowered = opened::lower(stage.graph.clone(), options);
        let lowered = lowered
            .map_err(|e| e.at(format!("stage {k} cannot be compiled by itself; ask for fewer stages")))?;
        plan.stages.push(Stage {
            file: format!("stage{k}.egret"),
            blake3: Some(opened::hash_of(text::print(&stage.graph).as_bytes())),
            step: (!is_chain).then_some(steps[k]),
            copies: 1,
            nodes: stage.graph.node_count(),
            kernels: lowered.program.calls.len(),
            microseconds: microseconds(stage.cost),
            share: (stage.cost as f64 / all.max(1) as f64 * 1e3).round() / 1e3,
            uneven: parts.uneven.as_ref().filter(|uneven| uneven.stage == k).map(why::uneven),
        });
    }
    for (k, cut) in parts.cuts.iter().enumerate() {
        let value = |v: &partition::Crossing| Crossing {
            name: v.name.clone(),
            ty: v.ty.to_string(),
            bytes: v.bytes,
            made: v.made,
            used: v.used.clone(),
        };
        plan.cuts.push(Cut {
            behind: k,
            bytes: cut.bytes(),
            why: why::cut(&cut.why),
            values: cut.values.iter().map(value).collect(),
        });
    }
    let graphs: Vec<Graph> = parts.stages.into_iter().map(|s| s.graph).collect();
    plan.fits(&graphs).map_err(|e| Error::internal(e.message))?;
    Ok(graphs)
}

/// Write `stage0.egret`, `stage1.egret`, .. and `plan.toml` of a plan and its stages into a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn write(plan: &Plan, graphs: &[Graph], dir: &Path) -> Result<()> {
    files::sweep(dir);
    constants::write(dir, graphs.iter(), plan.bound.values())?;
    // A plan never stands beside stages that are not its own.
    let file = dir.join(PLAN);
    if file.is_file() {
        std::fs::remove_file(&file).map_err(|e| Error::io("replace", &file, &e))?;
    }
    for (stage, graph) in plan.stages.iter().zip(graphs) {
        files::write(&dir.join(&stage.file), text::print(graph).as_bytes())?;
    }
    files::write(&file, plan.text()?.as_bytes())
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}
