//! What the compiler made of a model, for a person: what the model is, what was fused into what, where the time goes, and what
//! could still be gained. One screen; the trace has every detail.
//!
//! `patterns` says what was fused, `times` which kernel takes how long, `gains` what is left, `places` names repeated blocks once,
//! `text` prints it.

mod gains;
mod patterns;
mod text;
mod times;

pub use gains::Gain;
pub use patterns::Pattern;
pub use times::Row;

use crate::error::Result;
use crate::host;
use crate::native::Native;
use crate::options::Options;
use crate::pipeline;
use crate::runs::{self, Runs};
use crate::slow;
use egret_ir::{Graph, NodeId, Tensor, Value};
use egret_loop::Program;
use egret_opt::PassReport;
use egret_trace::Trace;
use serde_json::json;
use std::collections::BTreeMap;

/// What is told about a model that the graph does not say, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// Its opsets, as `domain version`.
    pub opsets: Vec<String>,
    /// Inputs whose values were fixed at import.
    pub bound: BTreeMap<String, Tensor>,
    /// Inputs to measure the kernels with; without them all times are estimates, the same on every run.
    pub measure: Option<Vec<Value>>,
}

/// What the model is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its opsets.
    pub opsets: Vec<String>,
    /// Inputs as `name: type`.
    pub inputs: Vec<String>,
    /// Outputs as `name: type`.
    pub outputs: Vec<String>,
    /// Numbers in its constants.
    pub parameters: u64,
    /// Bytes of its constants.
    pub bytes: u64,
    /// Multiply-adds of one run.
    pub multiply_adds: u64,
    /// Nodes as imported, nodes after all passes.
    pub nodes: (usize, usize),
    /// Dims without a value.
    pub free: Vec<String>,
    /// Which machine estimates are for.
    pub target: String,
}

/// The story. Times are nanoseconds on one core.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// What the model is.
    pub facts: Facts,
    /// What it is estimated to take as imported.
    pub imported: u64,
    /// What it is estimated to take after all passes.
    pub estimate: u64,
    /// What was fused into what, most saved first.
    pub patterns: Vec<Pattern>,
    /// The rules that the optimised graph rests on, by pass, with how often each was applied.
    pub rules: Vec<(String, BTreeMap<String, usize>)>,
    /// Kernels with the same work in repeated blocks, most costly first.
    pub rows: Vec<Row>,
    /// How many kernels there are.
    pub kernels: Option<usize>,
    /// Bytes of the weights as kernels read them.
    pub weights: Option<u64>,
    /// Bytes of memory that a run needs, where no dim is free.
    pub arena: Option<u64>,
    /// Why there are none.
    pub refused: Option<String>,
    /// Which nodes run on the host, where `egret run` runs the model all the same.
    pub hosted: Option<String>,
    /// What they were measured to take.
    pub measured: Option<u64>,
    /// What could still be gained, most first.
    pub gains: Vec<Gain>,
}

/// A story and what it was made from.
pub struct Told {
    /// The story.
    pub story: Story,
    /// Every event.
    pub trace: Trace,
    /// The optimised graph.
    pub graph: Graph,
    /// Its kernels, or why there are none.
    pub program: Result<Program>,
    /// For each call of the program the nodes of the graph whose work it does.
    pub nodes: Vec<Vec<NodeId>>,
    /// Which kernels are slow.
    pub slow: slow::Found,
    /// Nanoseconds of each kernel, where they were measured.
    pub measured: Option<Vec<u64>>,
}

/// How often a program runs to be measured.
const RUNS: usize = 9;

/// Optimise a graph, lower it where that is possible, and tell what happened. `look` sees what each pass did.
///
/// # Errors
/// What stops the passes; measured kernels that fail.
pub fn tell(
    graph: Graph,
    options: &Options,
    request: &Request,
    look: &mut dyn FnMut(&PassReport),
) -> Result<Told> {
    let model = pipeline::cost_model(options)?;
    let options = Options { explain: true, ..options.clone() };
    let imported = graph.clone();
    let total = |graph: &Graph| egret_opt::estimate(graph, model).iter().map(|(_, ns)| ns).sum::<u64>();
    let mut trace = Trace::new();
    let (graph, reports) = pipeline::reports(graph, &options, None)?;
    for r in &reports {
        pipeline::trace_pass(r, &mut trace);
        look(r);
    }
    let lowered = pipeline::program(&graph, &options, &request.bound, &mut trace)
        .map_err(|e| pipeline::because_of_free_dims(&graph, e));
    let (program, nodes, slow) = match lowered {
        Ok((lowered, slow)) => (Ok(lowered.program), lowered.nodes, slow),
        Err(e) => (Err(e), vec![], slow::Found::default()),
    };
    let measured = match (&request.measure, &program) {
        (Some(inputs), Ok(program)) => Some(measure(program, &options, inputs)?),
        _ => None,
    };
    let estimate = total(&graph);
    let of =
        program.as_ref().ok().map(|program| Runs { program, nodes: &nodes, measured: measured.as_deref() });
    let kernels = runs::kernels(&graph, of.as_ref(), model);
    let mut patterns = patterns::fused(&reports, &graph, model)?;
    patterns.extend(patterns::in_the_model(&graph, &patterns));
    patterns.extend(times::fused(&graph, &kernels, model));
    patterns.sort_by(|a, b| b.saved.cmp(&a.saved).then_with(|| a.what.cmp(&b.what)));
    let found = gains::Found {
        graph: &graph,
        imported: &imported,
        reports: &reports,
        trace: &trace,
        slow: &slow,
        model,
        estimate,
    };
    let story = Story {
        facts: facts(&imported, &graph, request, &options)?,
        imported: total(&imported),
        estimate,
        patterns,
        rules: reports.iter().map(|r| (r.name.to_owned(), applied(r))).collect(),
        rows: times::rows(&graph, &kernels),
        kernels: program.as_ref().ok().map(|p| p.calls.len()),
        weights: program.as_ref().ok().map(|p| p.weights.len() as u64),
        arena: program.as_ref().ok().filter(|p| p.symbols.is_empty()).map(|p| p.arena_bytes as u64),
        refused: program.as_ref().err().map(|e| e.message.clone()),
        hosted: match &program {
            Ok(_) => None,
            Err(_) => host::told(&imported, &options, &request.bound),
        },
        measured: measured.as_ref().map(|all| all.iter().sum()),
        gains: found.ranked(&options)?,
    };
    Ok(Told { story, trace, graph, program, nodes, slow, measured })
}

/// The rules of the steps that a pass's proof holds.
fn applied(report: &PassReport) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for step in report.step_proof.iter().chain(&report.findings.proof).flat_map(|p| &p.steps) {
        *out.entry(step.rule.clone()).or_default() += 1;
    }
    out
}

fn facts(imported: &Graph, graph: &Graph, request: &Request, options: &Options) -> Result<Facts> {
    let constants = egret_ir::text::constants(imported);
    let outputs = imported.output_names().iter().zip(imported.outputs());
    Ok(Facts {
        name: request.name.clone(),
        opsets: request.opsets.clone(),
        inputs: imported
            .inputs()
            .iter()
            .map(|&v| format!("{}: {}", imported.value(v).name, imported.ty(v)))
            .collect(),
        outputs: outputs.map(|(name, &v)| format!("{name}: {}", imported.ty(v))).collect(),
        parameters: constants.values().map(|t| t.len() as u64).sum(),
        bytes: constants.values().map(|t| t.bytes().len() as u64).sum(),
        multiply_adds: imported.node_ids().iter().map(|&n| egret_opt::multiply_adds(imported, n)).sum(),
        free: imported.free_dims(),
        nodes: (imported.node_count(), graph.node_count()),
        target: pipeline::cost_model_name(options)?.to_owned(),
    })
}

/// Nanoseconds that each kernel takes on one core, the middle of some runs, in the order they run.
fn measure(program: &Program, options: &Options, inputs: &[Value]) -> Result<Vec<u64>> {
    let native = Native::of_program(program, &Options { threads: 1, ..options.clone() })?;
    let mut runs: Vec<Vec<u64>> = vec![vec![]; program.calls.len()];
    for _ in 0..RUNS {
        let kernels = native.profile(inputs)?.kernels;
        runs.iter_mut().zip(kernels).for_each(|(all, (_, seconds))| all.push((seconds * 1e9) as u64));
    }
    let middle = |mut all: Vec<u64>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    Ok(runs.into_iter().map(middle).collect())
}

impl Story {
    /// What the page shows of it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let pattern = |p: &Pattern| {
            json!({ "what": p.what, "count": p.count, "saved": p.saved, "from": p.from, "places": p.places,
                "rules": p.rules, "sources": p.sources })
        };
        let gain = |g: &Gain| {
            json!({ "what": g.what, "count": g.count, "ns": g.ns, "bound": g.is_bound, "reason": g.reason,
                "advice": g.advice, "places": g.places, "sources": g.sources, "told": g.ns >= self.threshold() })
        };
        json!({
            "patterns": self.patterns.iter().map(pattern).collect::<Vec<_>>(),
            "gains": self.gains.iter().map(gain).collect::<Vec<_>>(),
        })
    }

    /// Less than this is told only to those who ask for more: one percent of the model's time.
    pub fn threshold(&self) -> u64 {
        (self.estimate / 100).max(1)
    }
}

#[cfg(test)]
mod tests;
