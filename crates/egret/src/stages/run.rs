//! Running a plan: its stages in memory, one behind the other.

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::frontend::DeclaredInput;
use crate::native::Native;
use crate::options::Options;
use crate::pipeline::{self, Lowered};
use crate::source::{self, Prepared, Request};
use egret_ir::{DimEnv, Graph, Type, Value, text};
use egret_onnx::ImportOptions;
use egret_runtime::Pool;
use egret_trace::Trace;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A plan, compiled into memory.
pub struct Staged {
    stages: Vec<Compiled>,
    /// Inputs of the model by name, with the types that the stages have them with.
    inputs: Vec<(String, Type)>,
    outputs: Vec<String>,
    /// Sizes that must not be negative.
    not_negative: Vec<String>,
    threads: usize,
}

/// A sample on its way through the stages, by name.
pub(super) struct Flight<'s> {
    /// What stages further on read.
    values: BTreeMap<&'s str, Value>,
    /// Outputs of the model that are made.
    outputs: BTreeMap<&'s str, Value>,
}

/// A stage.
struct Compiled {
    file: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    native: Native,
}

impl Staged {
    /// Read a plan, hold it against its stages, and compile these as they are: no pass runs, as all have run when the plan was made.
    /// Of the options, the rules and the tier decide nothing; subnormal numbers become what the plan says unless the options do.
    ///
    /// # Errors
    /// A plan that is damaged or does not fit its stages; a stage that cannot be read or compiled.
    pub fn open(path: &Path, options: &Options) -> Result<Staged> {
        Staged::of_plan(path, options, |_| options.threads)
    }

    /// As [`Staged::open`], for [`Staged::stream`]: each stage has a thread of its own, and the threads of the options that are left help
    /// whichever stage has work for them.
    ///
    /// # Errors
    /// As of [`Staged::open`].
    pub fn open_to_stream(path: &Path, options: &Options) -> Result<Staged> {
        let staged = Staged::of_plan(path, options, |stages| options.threads.saturating_sub(stages) + 1)?;
        let threads = options.threads.max(staged.stages.len());
        Ok(Staged { threads, ..staged })
    }

    /// Stages that share a pool, of as many threads as `pool` says for the number of stages.
    fn of_plan(path: &Path, options: &Options, pool: impl FnOnce(usize) -> usize) -> Result<Staged> {
        let plan = Plan::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut graphs = vec![];
        for (k, stage) in plan.stages.iter().enumerate() {
            let file = folder.join(&stage.file);
            let at = |e: Error| e.at(format!("{}: stage {k}", path.display()));
            if !source::is_text(&file) {
                return Err(at(Error::user(format!("{} is no text IR (.egret)", file.display()))));
            }
            graphs.push(source::graph(&file, &ImportOptions::default()).map_err(at)?);
        }
        let at = |e: Error| e.at(path.display());
        plan.fits(&graphs).map_err(at)?;
        let inputs = plan.inputs.iter().map(|p| Ok((p.name.clone(), type_of(&p.name, &graphs)?)));
        let inputs = inputs.collect::<Result<Vec<_>>>().map_err(at)?;
        let denormals = plan.denormals.parse().map_err(|e: String| at(Error::user(e)))?;
        let threads = pool(graphs.len());
        let options = Options {
            passes: None,
            threads,
            denormals: Some(options.denormals.unwrap_or(denormals)),
            ..options.clone()
        };
        let pool = Arc::new(Pool::new(threads));
        let mut stages = vec![];
        for (k, (stage, graph)) in plan.stages.iter().zip(graphs).enumerate() {
            let native =
                compile(graph.clone(), &options, &pool).map_err(|e| at(e.at(format!("stage {k}"))))?;
            stages.push(Compiled {
                file: stage.file.clone(),
                inputs: graph.inputs().iter().map(|&v| graph.value(v).name.clone()).collect(),
                outputs: graph.output_names().to_vec(),
                native,
            });
        }
        let outputs = plan.outputs.iter().map(|p| p.name.clone()).collect();
        Ok(Staged { stages, inputs, outputs, not_negative: plan.not_negative, threads })
    }

    /// The files of the stages, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|s| s.file.as_str())
    }

    /// Names of the model's outputs, in order.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Threads that stages run on.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A value for each of the model's inputs, as a request gives them or has them made up, and what the user should know about them.
    ///
    /// # Errors
    /// An input without a value, or with one that does not fit; dims that the model has no result for.
    pub fn prepare(&self, request: &Request) -> Result<(Vec<Value>, Vec<String>)> {
        self.complete(request, request.inputs.read(&self.declared())?)
    }

    /// The inputs of the model, as its file would declare them.
    pub(super) fn declared(&self) -> Vec<DeclaredInput> {
        self.inputs.iter().map(|(name, ty)| DeclaredInput::of(name, ty)).collect()
    }

    /// As [`Staged::prepare`], of these values.
    pub(super) fn complete(
        &self,
        request: &Request,
        given: BTreeMap<String, Value>,
    ) -> Result<(Vec<Value>, Vec<String>)> {
        let mut signature = Graph::new("plan");
        for (name, ty) in &self.inputs {
            signature.add_input(name, ty.clone());
        }
        let Prepared { graph, inputs, notes, .. } = request.prepare_for(signature, given)?;
        for (&v, value) in graph.inputs().iter().zip(&inputs) {
            let (name, ty) = (&graph.value(v).name, graph.ty(v));
            let is = value.as_tensor().map(|t| Type::Tensor(t.ty()));
            if is.as_ref() != Some(ty) {
                let is = is.map_or_else(|| "no tensor".to_owned(), |is| is.to_string());
                return Err(Error::user(format!("the input `{name}` is {is}, and {ty} is wanted")));
            }
        }
        self.check_sizes(&inputs)?;
        Ok((inputs, notes))
    }

    /// That sizes which the model needs are not negative.
    fn check_sizes(&self, inputs: &[Value]) -> Result<()> {
        let mut dims = DimEnv::new();
        for ((_, ty), value) in self.inputs.iter().zip(inputs) {
            let (Some(ty), Some(tensor)) = (ty.as_tensor(), value.as_tensor()) else { continue };
            for (dim, &size) in ty.shape.iter().zip(tensor.shape()) {
                if let (Some(symbol), Ok(size)) = (dim.as_symbol(), i64::try_from(size)) {
                    dims.insert(symbol.to_owned(), size);
                }
            }
        }
        for size in &self.not_negative {
            let bad = |e: String| Error::user(format!("not_negative of the plan: `{size}`: {e}"));
            let dim = text::parse_dim(size).map_err(|e| bad(e.to_string()))?;
            let is = dim.eval(&dims).ok_or_else(|| bad("the dims of the inputs do not tell it".into()))?;
            if is < 0 {
                let dims: Vec<String> = dims.iter().map(|(name, v)| format!("{name}={v}")).collect();
                return Err(Error::user(format!(
                    "the model has no result for {}: its size `{size}` would be {is}",
                    dims.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Run the stages: inputs in the order of the model's inputs, results in the order of its outputs.
    ///
    /// # Errors
    /// As compiled code has them, with the stage.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        let mut flight = self.start(inputs.to_vec());
        (0..self.stages.len()).try_for_each(|k| self.step(k, &mut flight))?;
        self.finish(flight)
    }

    /// A sample before the first stage.
    pub(super) fn start(&self, inputs: Vec<Value>) -> Flight<'_> {
        let names = self.inputs.iter().map(|(name, _)| name.as_str());
        Flight { values: names.zip(inputs).collect(), outputs: BTreeMap::new() }
    }

    /// Run a stage on a sample that is through those before it.
    pub(super) fn step<'s>(&'s self, k: usize, flight: &mut Flight<'s>) -> Result<()> {
        let (stage, Flight { values, outputs }) = (&self.stages[k], flight);
        let lost = |name: &str| Error::internal(format!("stage {k} has no value `{name}`"));
        let take = |name: &String| values.get(name.as_str()).cloned().ok_or_else(|| lost(name));
        let given = stage.inputs.iter().map(take).collect::<Result<Vec<_>>>()?;
        let results = stage.native.run(&given);
        let results = results.map_err(|e| e.at(format!("stage {k} ({})", stage.file)))?;
        for (name, value) in stage.outputs.iter().zip(results) {
            if self.outputs.contains(name) {
                outputs.insert(name, value.clone());
            }
            // A model's input of the name of an output stays what it is: no cut has such a value.
            if !self.inputs.iter().any(|(input, _)| input == name) {
                values.insert(name, value);
            }
        }
        values.retain(|name, _| self.stages[k + 1..].iter().any(|s| s.inputs.iter().any(|i| i == name)));
        Ok(())
    }

    /// The model's outputs, of a sample that is through all stages.
    pub(super) fn finish(&self, mut flight: Flight<'_>) -> Result<Vec<Value>> {
        let take = |name: &String| {
            let output = flight.outputs.remove(name.as_str());
            output.ok_or_else(|| Error::internal(format!("no output `{name}`")))
        };
        self.outputs.iter().map(take).collect()
    }
}

/// The type of an input of the model, as the stages have it.
fn type_of(name: &str, stages: &[Graph]) -> Result<Type> {
    let of = |g: &Graph| {
        let port = g.inputs().iter().find(|&&v| g.value(v).name == name);
        port.map(|&v| g.ty(v).clone())
    };
    stages
        .iter()
        .find_map(of)
        .ok_or_else(|| Error::user(format!("no stage takes the input `{name}` of the plan")))
}

/// The kernels of a stage, which the passes have been over.
pub(super) fn lower(graph: Graph, options: &Options) -> Result<Lowered> {
    let mut trace = Trace::new();
    let lowered = pipeline::program(&graph, options, &BTreeMap::new(), &mut trace);
    let (egret_lower::Lowered { program, nodes }, slow) =
        lowered.map_err(|e| pipeline::because_of_free_dims(&graph, e))?;
    Ok(Lowered { graph, program, nodes, slow, trace })
}

fn compile(graph: Graph, options: &Options, pool: &Arc<Pool>) -> Result<Native> {
    Native::of_lowered_on(&lower(graph, options)?, options, pool.clone())
}
