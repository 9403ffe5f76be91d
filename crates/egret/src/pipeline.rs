//! The way of a graph through the compiler, one function per step: the only place that calls optimiser, lowering and code
//! generator.

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::targets::target;
use crate::{host_values, limits, slow};
use egret_codegen::{CodeCache, CodegenError, Isa};
use egret_ir::{Dim, DimOp, DimPart, Graph, NodeId, Op, Tensor, ValueId, advice};
use egret_loop::Program;
use egret_lower::{Fault, Held, LowerOptions};
use egret_machine::Machine;
use egret_opt::CostModel;
use egret_opt::partition::tensor::{Links, Tensors};
use egret_runtime::{Model, Symbols, WeightsFile};
use egret_trace::Trace;
use egret_wasm::WasmError;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::targets::{
    check_target, level_here, named_system, target_level, target_name, target_report, target_words,
};
pub use egret_codegen::WeightsPlace;
pub use egret_codegen::levels::Levels;

/// A model on its way to machine code.
pub struct Lowered {
    /// The optimised graph.
    pub graph: Graph,
    /// Its kernels.
    pub program: Program,
    /// For each of the program's calls the nodes of the graph whose work it does.
    pub nodes: Vec<Vec<NodeId>>,
    /// Which of them are slow.
    pub slow: slow::Found,
    /// What happened.
    pub trace: Trace,
}

impl Lowered {
    /// Bytes of the arena's buffers that are alive at once, at most: what no plan could go below.
    pub fn peak_live_bytes(&self) -> usize {
        egret_lower::arena_report(&self.program).peak_live_bytes
    }

    /// The kernels and their calls as Loop IR text.
    pub fn text(&self) -> String {
        egret_loop::text::print(&self.program)
    }

    /// Every kernel with the ONNX nodes whose work it does, and the trace.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "nodes": self.graph.node_count(),
            "kernels": crate::kernels::kernels(&self.program),
            "arena_bytes": self.program.arena_bytes,
            "trace": self.trace.to_json()["events"],
        })
    }
}

/// Run the graph passes of the options, up to and including `after`.
pub fn optimize(graph: Graph, options: &Options, after: Option<&str>, trace: &mut Trace) -> Result<Graph> {
    let (graph, reports) = reports(graph, options, after)?;
    for r in &reports {
        trace_pass(r, trace);
    }
    Ok(graph)
}

/// Run the graph passes of the options; what each did.
pub(crate) fn reports(
    graph: Graph,
    options: &Options,
    after: Option<&str>,
) -> Result<(Graph, Vec<egret_opt::PassReport>)> {
    let opts = egret_opt::Options { after: after.map(str::to_owned), ..of_passes(options)? };
    egret_opt::optimize(graph, &opts).map_err(opt_error)
}

/// What passes are told.
fn of_passes(options: &Options) -> Result<egret_opt::Options> {
    Ok(egret_opt::Options {
        passes: options.passes.clone(),
        tier: options.tier,
        budget: options.budget,
        clock: options.clock,
        cost: cost_model(options)?,
        rules: options.rules.clone(),
        without: options.without.clone(),
        threads: options.threads,
        explain: options.explain,
        ..egret_opt::Options::default()
    })
}

/// Split the tensors of an optimised graph over workers; what was rewritten goes into the trace.
pub fn split_tensors(
    graph: &Graph,
    workers: usize,
    links: &Links,
    options: &Options,
    trace: &mut Trace,
) -> Result<Tensors> {
    let split = egret_opt::split_tensors(graph, workers, links, &of_passes(options)?);
    let split = split.map_err(|e| Error::user(e.to_string()))?;
    split.rewrites.iter().for_each(|w| trace.push(rewrite("partition", w)));
    Ok(split)
}

fn opt_error(e: egret_opt::OptError) -> Error {
    let kind = match e {
        egret_opt::OptError::UnknownPass(_) | egret_opt::OptError::Rule(_) => ErrorKind::User,
        egret_opt::OptError::Broken { .. } => ErrorKind::Internal,
    };
    Error { kind, message: e.to_string() }
}

fn rewrite(pass: &str, w: &egret_opt::Rewrite) -> egret_trace::Rewrite {
    egret_trace::Rewrite {
        pass: pass.to_owned(),
        rule: w.rule.clone(),
        place: w.place.clone(),
        sources: w.sources.iter().cloned().collect(),
        before: w.before.clone(),
        after: w.after.clone(),
        conditions: w.conditions.clone(),
    }
}

/// What a pass did, as events.
pub(crate) fn trace_pass(r: &egret_opt::PassReport, trace: &mut Trace) {
    trace.push(egret_trace::Pass {
        name: r.name.to_owned(),
        nodes_before: r.nodes_before as u64,
        nodes_after: r.nodes_after as u64,
        rewrites: r.findings.rewrites.len() as u64,
        regions: r.findings.regions.1 as u64,
        cheapest: r.findings.cheapest as u64,
        error: r.findings.error,
        nanoseconds: r.nanoseconds,
    });
    r.findings.rewrites.iter().for_each(|w| trace.push(rewrite(r.name, w)));
    for m in &r.findings.missed {
        let (why, costs) = match m.stopped {
            egret_opt::Stopped::Guard => (egret_trace::Why::Guard, None),
            egret_opt::Stopped::Tier => (egret_trace::Why::Tier, None),
            egret_opt::Stopped::Cost(with, without) => {
                (egret_trace::Why::Cost, Some((with as f64 / 1e3, without as f64 / 1e3)))
            }
            egret_opt::Stopped::NearMatch => (egret_trace::Why::NearMatch, None),
            egret_opt::Stopped::Failed => (egret_trace::Why::Failed, None),
            egret_opt::Stopped::Budget(with, without) => {
                (egret_trace::Why::Budget, Some((with as f64 / 1e3, without as f64 / 1e3)))
            }
        };
        trace.push(egret_trace::Missed {
            pass: r.name.to_owned(),
            rule: m.rule.clone(),
            sources: m.sources.iter().cloned().collect(),
            why: why as i32,
            reason: m.reason.clone(),
            cost_with: costs.map(|c| c.0),
            cost_without: costs.map(|c| c.1),
        });
    }
    for &(limit, value) in &r.findings.limits {
        trace.push(egret_trace::Limit {
            pass: r.name.to_owned(),
            limit: limit.to_owned(),
            value: value as u64,
        });
    }
    // The counts are for those who ask what rules cost: with proofs and what was missed.
    for (rule, count) in
        r.findings.counts.iter().filter(|(_, c)| r.findings.proof.is_some() && c.matches > 0)
    {
        trace.push(egret_trace::RuleUse {
            pass: r.name.to_owned(),
            rule: rule.clone(),
            matches: count.matches as u64,
            applications: count.applications as u64,
            nodes: count.nodes as u64,
            nanoseconds: r.nanoseconds.map(|_| count.nanoseconds),
        });
    }
    for proof in r.step_proof.iter().chain(&r.findings.proof) {
        let step = |s: &egret_opt::proof::Step| egret_trace::Step {
            rule: s.rule.clone(),
            place: s.place.clone(),
            sources: s.sources.iter().cloned().collect(),
            before: proof.term(s.before, SPELT_DEPTH),
            after: proof.term(s.after, SPELT_DEPTH),
        };
        let steps = proof.steps.iter().map(step).collect();
        trace.push(egret_trace::Proof {
            pass: proof.pass.clone(),
            deep: proof.deep,
            terms: proof.terms_text(),
            steps,
        });
    }
}

/// Operations below one another that a step's terms are spelt with.
pub(crate) const SPELT_DEPTH: usize = 4;

/// The names of all passes, in order.
pub fn pass_names() -> Vec<&'static str> {
    egret_opt::PASSES.iter().map(|p| p.name).collect()
}

/// Optimise a graph and lower it. `bound`: inputs whose values were fixed at import.
pub fn lower(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<Lowered> {
    let mut trace = Trace::new();
    let sizes = differences(&graph);
    let (graph, reports) = reports(graph, options, None)?;
    for r in &reports {
        trace_pass(r, &mut trace);
    }
    // They hold every pass's graphs.
    drop(reports);
    let (egret_lower::Lowered { program, nodes }, slow) =
        held(&graph, options, bound, sizes, &mut trace).map_err(|e| because_of_free_dims(&graph, e))?;
    Ok(Lowered { graph, program, nodes, slow, trace })
}

/// Whether all that stands in the way of compiling is sizes that only a run tells, so that no value of a dim would help.
pub(crate) fn is_told_by_runs(e: &Error) -> bool {
    let mut parts = e.message.lines().skip(1).peekable();
    parts.peek().is_some() && parts.all(|part| part.contains(advice::TOLD_BY_RUNS))
}

/// Where dims are free and the model cannot be compiled so: what to do comes first. Whose fault it is stays as it is. Values of the host are in the way
/// whatever dims are.
pub(crate) fn because_of_free_dims(graph: &Graph, e: Error) -> Error {
    let free = graph.free_dims();
    if free.is_empty() || is_told_by_runs(&e) || host_values::has_host_values(graph) {
        return e;
    }
    let message = format!(
        "with all of its free dims left free the model cannot be compiled; give them values, or those of the nodes below: {}\n{}",
        advice::dims(&free),
        e.message
    );
    Error { message, ..e }
}

/// Whether a dim has a value for all sizes: nothing in it is divided, or has to broadcast.
fn has_value(dim: &Dim) -> bool {
    let part = |p: &DimPart| match p {
        DimPart::Symbol(_) => true,
        DimPart::Op(DimOp::Min | DimOp::Max, a, b) => has_value(a) && has_value(b),
        DimPart::Op(..) => false,
    };
    dim.as_sum().is_some_and(|terms| terms.iter().all(|(_, parts)| parts.iter().all(part)))
}

/// Whether a dim may be negative, or have no value: something is subtracted in it, which is not known to be less.
fn may_be_negative(dim: &Dim) -> bool {
    if dim.at_least().is_some_and(|least| least >= 0) && has_value(dim) {
        return false;
    }
    dim.as_const().is_none() && dim.as_sum().is_some_and(|terms| terms.iter().any(|(c, _)| *c < 0))
}

/// The sizes that no run of a graph may make negative, see [`LowerOptions::sizes`], and its conditions.
pub(crate) fn not_negative(graph: &Graph) -> Vec<Dim> {
    let conditions = graph.conditions().iter().cloned();
    let differences = differences(graph).into_iter().map(|held| held.dim);
    let mut out: Vec<Dim> = vec![];
    for dim in differences.chain(conditions) {
        if !out.contains(&dim) {
            out.push(dim);
        }
    }
    out
}

/// The dims of a graph that are negative for small values of its free ones, such as what a slice from element 3 on leaves of `N`; and where
/// slices begin, and what they leave at the end, which must not be. Rules make one slice of several, and leave out what is not read.
fn differences(graph: &Graph) -> Vec<Held> {
    let mut out: Vec<Held> = vec![];
    if graph.free_dims().is_empty() {
        return out;
    }
    let mut add = |dim: &Dim, node: Option<NodeId>| {
        if may_be_negative(dim) && !out.iter().any(|held| held.dim == *dim) {
            let nodes = node.map(|n| graph.node(n).sources.clone()).unwrap_or_default();
            out.push(Held { dim: dim.clone(), nodes });
        }
    };
    // Values of nodes that import left out are still numbered.
    let is_made = |v: &ValueId| graph.producer(*v).is_none_or(|n| graph.contains(n));
    for v in graph.value_ids().filter(is_made) {
        for dim in graph.ty(v).as_tensor().iter().flat_map(|t| t.shape.iter()) {
            add(dim, graph.producer(v));
        }
    }
    for n in graph.node_ids() {
        let node = graph.node(n);
        if node.op != Op::Slice {
            continue;
        }
        let shape = |v: ValueId| graph.ty(v).as_tensor().map_or(&[][..], |t| &t.shape[..]);
        let (from, to) = (shape(node.operand(0)), shape(node.results[0]));
        let (starts, steps) = (node.attrs.dims("starts"), node.attrs.ints("steps"));
        for (((from, to), start), &step) in from.iter().zip(to).zip(starts).zip(steps) {
            if step < 1 {
                continue;
            }
            // As many behind the last element as are left out between two may be missing.
            let end = start.clone() + Dim::constant(step) * to.clone() + Dim::constant(1 - step);
            for dim in [start.clone(), from.clone() - end] {
                add(&dim, Some(n));
            }
        }
    }
    out
}

/// The kernels of an optimised graph, the nodes whose work they do, and which kernels are slow.
pub fn program(
    graph: &Graph,
    options: &Options,
    bound: &BTreeMap<String, Tensor>,
    trace: &mut Trace,
) -> Result<(egret_lower::Lowered, slow::Found)> {
    held(graph, options, bound, differences(graph), trace)
}

/// As [`program`], where runs have no value for which one of `sizes` is negative.
fn held(
    graph: &Graph,
    options: &Options,
    bound: &BTreeMap<String, Tensor>,
    sizes: Vec<Held>,
    trace: &mut Trace,
) -> Result<(egret_lower::Lowered, slow::Found)> {
    let lowering = LowerOptions {
        name: options.name.clone(),
        // Without passes nothing is optimised, so that a failure can be told from one of fusion.
        fuse: options.passes.as_ref().is_none_or(|p| !p.is_empty()),
        machine: lowered_for(options)?,
        bound: bound.clone(),
        sizes,
    };
    let lowered = egret_lower::lower_traced(graph, &lowering, options.explain.then_some(&mut *trace))
        .map_err(lower_error)?;
    limits::hold(&lowered.program, &limits::said(graph))?;
    let slow = slow(graph, &lowered, options)?;
    if options.explain {
        slow.tell(trace);
    }
    Ok((lowered, slow))
}

/// What is slow in the program of a graph.
pub(crate) fn slow(
    graph: &Graph,
    lowered: &egret_lower::Lowered,
    options: &Options,
) -> Result<slow::Found> {
    let codegen = codegen_options(options, &ObjectOptions::default())?;
    let refusals = egret_codegen::refusals(&lowered.program, &codegen)?;
    let (model, machine) = (cost_model(options)?, machine(options)?);
    let limits = slow::Limits { model, machine, refusals: &refusals };
    Ok(slow::find(graph, &lowered.program, &lowered.nodes, limits))
}

fn lower_error(e: egret_lower::LowerError) -> Error {
    let kind = match e.fault() {
        Fault::Limit => ErrorKind::Unsupported,
        Fault::Model => ErrorKind::User,
        Fault::Egret => ErrorKind::Internal,
    };
    Error { kind, message: e.to_string() }
}

/// The instruction set of the options; without the wide encoders all code is 128-bit on every x86-64.
fn isa(options: &Options) -> Result<&'static Isa> {
    Ok(target(options)?.isa(options.wide))
}

impl From<CodegenError> for Error {
    fn from(e: CodegenError) -> Error {
        let kind = match e {
            CodegenError::Target(_) => ErrorKind::User,
            CodegenError::Unsupported(_) => ErrorKind::Unsupported,
            CodegenError::Internal(_) => ErrorKind::Internal,
        };
        Error { kind, message: e.to_string() }
    }
}

/// How an artifact is made, beside the options of every compilation.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// Where the weights go.
    pub weights: WeightsPlace,
    /// BLAKE3 of the model file.
    pub model_hash: [u8; 32],
    /// Machine code of earlier compilations.
    pub cache: Option<Arc<dyn CodeCache>>,
}

impl Default for ObjectOptions {
    fn default() -> ObjectOptions {
        ObjectOptions { weights: WeightsPlace::Embedded, model_hash: [0; 32], cache: None }
    }
}

fn codegen_options(options: &Options, object: &ObjectOptions) -> Result<egret_codegen::Options> {
    Ok(egret_codegen::Options {
        wide: options.wide,
        denormals: options.denormals(),
        threads: options.threads,
        weights: object.weights,
        model_hash: object.model_hash,
        cache: object.cache.clone(),
        ..egret_codegen::Options::new(target(options)?)
    })
}

/// Machine code in memory.
pub fn jit(program: &Program, options: &Options) -> Result<Model> {
    jit_with(program, options, None)
}

/// As [`jit`], with weights that are packed already, if there are some: those of the program, as its code reads them.
pub(crate) fn jit_with(program: &Program, options: &Options, packed: Option<WeightsFile>) -> Result<Model> {
    let weights = if packed.is_some() { WeightsPlace::External } else { WeightsPlace::Embedded };
    let object = ObjectOptions { weights, ..ObjectOptions::default() };
    let code = egret_codegen::jit(program, &codegen_options(options, &object)?)?;
    let symbols = Symbols {
        plan: code.plan(),
        shape: code.shape(),
        bind: code.bind(),
        run: code.run(),
        info: std::ptr::from_ref(code.info()),
    };
    // SAFETY: the symbols are those of `code`, which moves into the model and outlives them.
    Ok(unsafe { Model::new(symbols, packed, Box::new(code)) }?)
}

/// The object of a program whose weights are in a file of their own, and have this BLAKE3; the program need know their length alone.
pub(crate) fn code_object(program: &Program, options: &Options, weights_hash: [u8; 32]) -> Result<Vec<u8>> {
    let codegen = codegen_options(options, &ObjectOptions::default())?;
    Ok(egret_codegen::code_object(program, &codegen, weights_hash)?)
}

/// An object file.
pub fn object(program: &Program, options: &Options, object: &ObjectOptions) -> Result<Vec<u8>> {
    Ok(egret_codegen::object(program, &codegen_options(options, object)?)?)
}

/// As [`object`], into a file; the BLAKE3 of the weights.
pub fn object_into(
    program: &Program,
    options: &Options,
    object: &ObjectOptions,
    file: &mut dyn std::io::Write,
) -> Result<std::io::Result<[u8; 32]>> {
    Ok(egret_codegen::object_into(program, &codegen_options(options, object)?, file)?)
}

/// A WebAssembly module, weights and all.
pub fn wasm_module(program: &Program) -> Result<Vec<u8>> {
    egret_wasm::module(program).map_err(|e| {
        let kind = match e {
            WasmError::Unsupported(_) => ErrorKind::Unsupported,
            WasmError::Internal(_) => ErrorKind::Internal,
        };
        Error { kind, message: e.to_string() }
    })
}

/// Programs for the levels of an artifact, lowest first, as its parts.
pub fn join(programs: Vec<Program>) -> Result<Levels> {
    Ok(egret_codegen::levels::join(programs)?)
}

/// The object of an artifact of several levels that callers see, into a file; the BLAKE3 of the weights, which are in it.
pub fn front_into(
    front: &Program,
    options: &Options,
    object: &ObjectOptions,
    file: &mut dyn std::io::Write,
) -> Result<std::io::Result<[u8; 32]>> {
    let levels = options.each_level();
    let levels = levels.iter().map(|level| codegen_options(level, object)).collect::<Result<Vec<_>>>()?;
    Ok(egret_codegen::front_into(front, &levels, file)?)
}

/// The object of a level; its options are one of those of [`Options::each_level`], of which the first are those of the lowest.
pub fn level_object(
    program: &Program,
    options: &Options,
    lowest: &Options,
    object: &ObjectOptions,
    weights_hash: [u8; 32],
) -> Result<Vec<u8>> {
    let lowest = codegen_options(lowest, object)?.target;
    Ok(egret_codegen::level_object(program, &codegen_options(options, object)?, &lowest, weights_hash)?)
}

/// A static library of object files by name.
pub fn archive(members: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    Ok(egret_codegen::archive(members)?)
}

/// What nodes cost on the target of the options.
pub(crate) fn cost_model(options: &Options) -> Result<&'static CostModel> {
    let isa = isa(options)?;
    match options.tier {
        // A zero that is left out is not multiplied by an infinity.
        egret_opt::rules::Tier::Exact => CostModel::with_zeros(isa.name).ok_or_else(|| no_file(isa)),
        _ => Ok(&machine_of(isa)?.costs),
    }
}

fn no_file(isa: &Isa) -> Error {
    Error::internal(format!("ir-spec/targets has no file for {}", isa.name))
}

/// The machine that code for an instruction set is written for.
fn machine_of(isa: &Isa) -> Result<&'static Machine> {
    Machine::of(isa.name).ok_or_else(|| no_file(isa))
}

/// The machine of the options. One of the user's is of the wide instruction set.
fn machine(options: &Options) -> Result<&Machine> {
    match options.machine.as_deref().filter(|m| options.wide && m.isa == options.target) {
        Some(machine) => Ok(machine),
        None => machine_of(isa(options)?),
    }
}

/// The machine that kernels are written for.
fn lowered_for(options: &Options) -> Result<Machine> {
    let mut machine = machine(options)?.clone();
    // A machine's file says no costs: they are the target's, or what the tier makes of them.
    machine.costs = cost_model(options)?.clone();
    Ok(machine)
}

/// The name of the machine that costs are estimated for.
pub(crate) fn cost_model_name(options: &Options) -> Result<&'static str> {
    Ok(isa(options)?.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_codegen::Target;

    #[test]
    fn every_target_has_a_cost_model() {
        let model = |target: &str, wide| {
            cost_model(&Options { target: target.into(), wide, ..Options::default() }).expect("a model")
        };
        for name in Target::NAMES.into_iter().filter(|name| *name != "native") {
            assert_eq!(Some(model(name, true)), CostModel::of(name));
        }
        assert_eq!(model("x86-64-v4", false), model("x86-64-v2", true));
        assert!(cost_model(&Options { target: "z80".into(), ..Options::default() }).is_err());
    }

    /// The other part of a Split, or a slice of which only the shape was asked for: import leaves the node out, and its value's number is left.
    #[test]
    fn sizes_of_what_is_not_there_hold_no_run() {
        let source = "graph @g(%0 \"x\": f32[n]) -> (%2 \"y\") {\n  \
                      %1 = slice(%0) {sizes = [n - 3], starts = [3], steps = [1]} : f32[n - 3]\n  %2 = neg(%0) : f32[n]\n}\n";
        let mut graph = egret_ir::text::parse(source, &|_| None).expect("a graph");
        assert_eq!(differences(&graph).len(), 1);
        graph.remove_dead();
        assert!(differences(&graph).is_empty());
        lower(graph, &Options::default(), &BTreeMap::new()).expect("kernels");
    }
}
