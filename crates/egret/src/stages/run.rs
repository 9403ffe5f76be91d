//! Running a plan: its stages in this process, or each in one of its own. Stages of one step run at the same time.

use super::held::{Held, Values};
use super::opened::{fingerprint, lower, read, settle};
use super::plan::Plan;
#[cfg(unix)]
use super::{process::Process, shared::Memory};
use crate::error::{Error, Result};
use crate::frontend::DeclaredInput;
use crate::native::Native;
use crate::options::Options;
use crate::pipeline;
use crate::source::{Prepared, Request};
use egret_ir::{DimEnv, Graph, Tensor, Type, Value, text};
use egret_runtime::Pool;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
#[cfg(unix)]
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A plan whose stages are compiled.
pub struct Staged {
    stages: Vec<Compiled>,
    /// The stages of each step.
    steps: Vec<Range<usize>>,
    /// Inputs of the model by name, with the types that the stages have them with.
    inputs: Vec<(String, Type)>,
    outputs: Vec<String>,
    /// Sizes that must not be negative.
    not_negative: Vec<String>,
    /// Values that inputs of the model are fixed to.
    bound: BTreeMap<String, Tensor>,
    threads: usize,
}

/// A stage.
struct Compiled {
    file: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// How many workers have it.
    copies: usize,
    /// One for each of them, or one that serves them all.
    runners: Vec<Runner>,
}

/// What runs a stage.
enum Runner {
    /// This process.
    Here(Box<Native>),
    /// One of its own.
    #[cfg(unix)]
    There(Process),
    /// Another process, to which whole samples go.
    Elsewhere,
}

impl Runner {
    fn run(&self, inputs: Vec<Held>) -> Result<Vec<Held>> {
        match self {
            Runner::Here(native) => {
                let inputs = inputs.into_iter().map(Held::value).collect::<Result<Vec<_>>>()?;
                Ok(native.run(&inputs)?.into_iter().map(Held::Here).collect())
            }
            #[cfg(unix)]
            Runner::There(process) => process.run(inputs),
            Runner::Elsewhere => Err(Error::internal("this process does not have it")),
        }
    }
}

impl Staged {
    /// Read a plan, hold it against its stages, and compile these as they are: no pass runs, as all have run when the plan was made.
    /// Of the options, the rules decide nothing, and the tier is the plan's; subnormal numbers become what the plan says unless the options do.
    ///
    /// # Errors
    /// A plan that is damaged or does not fit its stages; a stage that cannot be read or compiled.
    pub fn open(path: &Path, options: &Options) -> Result<Staged> {
        Staged::of_plan(path, options, |_| options.threads)
    }

    /// As [`Staged::open`], for [`Staged::stream`]: each copy of a stage has a thread of its own, and the threads of the options that are left help
    /// whichever stage has work for them.
    ///
    /// # Errors
    /// As of [`Staged::open`].
    pub fn open_to_stream(path: &Path, options: &Options) -> Result<Staged> {
        let staged =
            Staged::of_plan(path, options, |plan| options.threads.saturating_sub(plan.workers()) + 1)?;
        let threads = options.threads.max(staged.copies().sum());
        Ok(Staged { threads, ..staged })
    }

    /// As [`Staged::open_to_stream`], with each copy of a stage in a process of its own, of as many threads as its share of those of the options is.
    /// `command` is what starts the process of a stage: it must come to [`serve`](super::serve) with the same plan and options.
    /// A process that does not answer within `limit`, when it compiles or has a sample, counts as lost.
    ///
    /// # Errors
    /// As of [`Staged::open`]; a process that cannot be started, ends, does not answer, or has another plan or other weights.
    #[cfg(unix)]
    pub fn open_processes(
        path: &Path,
        options: &Options,
        limit: Duration,
        command: impl Fn(usize) -> Command,
    ) -> Result<Staged> {
        let (plan, graphs) = read(path)?;
        let at =
            |k: usize, e: Error| e.at(format!("{}: stage {k} ({})", path.display(), plan.stages[k].file));
        settle(path, &plan, options, 1)?;
        let memory = Memory::new()?;
        // They compile at the same time.
        let start = |k| Process::start(command(k), &memory, limit).map_err(|e| at(k, e));
        let copies = |k: usize| (0..plan.stages[k].copies).map(|_| start(k)).collect::<Result<Vec<_>>>();
        let mut processes = (0..graphs.len()).map(copies).collect::<Result<Vec<_>>>()?;
        let mut several: Vec<_> =
            processes.iter_mut().enumerate().filter(|(_, copies)| copies.len() > 1).collect();
        several.iter_mut().try_for_each(|(k, copies)| Process::lay(copies).map_err(|e| at(*k, e)))?;
        several.iter().try_for_each(|(k, copies)| Process::take(copies).map_err(|e| at(*k, e)))?;
        for (k, (copies, graph)) in processes.iter().zip(&graphs).enumerate() {
            let fingerprint = fingerprint(&plan, [graph])?;
            copies.iter().try_for_each(|process| process.ready(&fingerprint)).map_err(|e| at(k, e))?;
        }
        let threads = plan.share(options.threads) * plan.workers();
        let runners = processes.into_iter().map(|copies| copies.into_iter().map(Runner::There).collect());
        let runners = runners.collect();
        Staged::of_runners(path, plan, &graphs, runners, threads)
    }

    /// As [`Staged::open`], of which `mine` says by the copies of each stage which of them this process runs; and what tells whether others have the same plan, stages and
    /// code.
    pub(super) fn open_some(
        path: &Path,
        options: &Options,
        mine: impl FnOnce(&[usize]) -> Range<usize>,
    ) -> Result<(Staged, String)> {
        let (plan, graphs) = read(path)?;
        let mine = mine(&plan.copies());
        let options = settle(path, &plan, options, options.threads)?;
        let code = format!("{} {:?} {}", pipeline::target_name(&options)?, options.denormals, options.wide);
        let fingerprint = format!("{} {code}", fingerprint(&plan, &graphs)?);
        let runners = runners(path, &graphs, &options, &mine)?;
        Ok((Staged::of_runners(path, plan, &graphs, runners, options.threads)?, fingerprint))
    }

    /// A name of the plan.
    pub(super) fn known(&self, name: &str) -> Result<&str> {
        let inputs = self.inputs.iter().map(|(name, _)| name);
        let mut all = inputs.chain(self.stages.iter().flat_map(|s| &s.outputs));
        let found = all.find(|n| *n == name);
        found.map(String::as_str).ok_or_else(|| Error::internal(format!("the plan has no value `{name}`")))
    }

    /// Stages that share a pool, of as many threads as `pool` says for the plan.
    fn of_plan(path: &Path, options: &Options, pool: impl FnOnce(&Plan) -> usize) -> Result<Staged> {
        let (plan, graphs) = read(path)?;
        let threads = pool(&plan);
        let options = settle(path, &plan, options, threads)?;
        let runners = runners(path, &graphs, &options, &(0..graphs.len()))?;
        Staged::of_runners(path, plan, &graphs, runners, threads)
    }

    /// Stages of a plan that fits them.
    fn of_runners(
        path: &Path,
        plan: Plan,
        graphs: &[Graph],
        runners: Vec<Vec<Runner>>,
        threads: usize,
    ) -> Result<Staged> {
        let inputs = plan.inputs.iter().map(|p| Ok((p.name.clone(), type_of(&p.name, graphs)?)));
        let inputs = inputs.collect::<Result<Vec<_>>>().map_err(|e| e.at(path.display()))?;
        let stages = plan.stages.iter().zip(graphs).zip(runners);
        let steps = plan.steps();
        let stages = stages.map(|((stage, graph), runners)| Compiled {
            file: stage.file.clone(),
            inputs: graph.inputs().iter().map(|&v| graph.value(v).name.clone()).collect(),
            outputs: graph.output_names().to_vec(),
            copies: stage.copies,
            runners,
        });
        let outputs = plan.outputs.iter().map(|p| p.name.clone()).collect();
        let stages = stages.collect();
        Ok(Staged {
            stages,
            steps,
            inputs,
            outputs,
            not_negative: plan.not_negative,
            bound: plan.bound,
            threads,
        })
    }

    /// The files of the stages, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|s| s.file.as_str())
    }

    /// How many workers each stage has, in order.
    pub fn copies(&self) -> impl Iterator<Item = usize> {
        self.stages.iter().map(|s| s.copies)
    }

    /// How many stages there are.
    pub(super) fn count(&self) -> usize {
        self.stages.len()
    }

    /// Names of the inputs and of the outputs of a stage.
    pub(super) fn ports(&self, k: usize) -> (&[String], &[String]) {
        (&self.stages[k].inputs, &self.stages[k].outputs)
    }

    /// Names of the model's inputs, in order.
    pub(super) fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(name, _)| name.as_str())
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
    /// An input without a value, with one that does not fit, or with another than it is fixed to; dims that the model has no result for.
    pub fn prepare(&self, request: &Request) -> Result<(Vec<Value>, Vec<String>)> {
        self.complete(request, request.inputs.read(&self.declared())?)
    }

    /// The inputs of the model, as its file would declare them; those that are fixed to a value need not be given.
    pub(super) fn declared(&self) -> Vec<DeclaredInput> {
        let declared = |(name, ty): &(String, Type)| DeclaredInput {
            has_default: self.bound.contains_key(name),
            ..DeclaredInput::of(name, ty)
        };
        self.inputs.iter().map(declared).collect()
    }

    /// As [`Staged::prepare`], of these values.
    pub(super) fn complete(
        &self,
        request: &Request,
        mut given: BTreeMap<String, Value>,
    ) -> Result<(Vec<Value>, Vec<String>)> {
        for (name, tensor) in &self.bound {
            let value = given.entry(name.clone()).or_insert_with(|| tensor.clone().into());
            if value.as_tensor() != Some(tensor) {
                return Err(Error::user(format!(
                    "the input `{name}` has another value than it was bound to when the model was cut: {}",
                    text::constant(tensor)
                )));
            }
        }
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

    /// Run the stages: inputs in the order of the model's inputs, results in the order of its outputs. Stages of a step run at the same time where there is a thread for each.
    ///
    /// # Errors
    /// As compiled code has them, with the first stage that has one.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        let (mut values, mut outputs) = (self.start(inputs.to_vec()), Values::new());
        for step in &self.steps {
            for (k, made) in step.clone().zip(self.step(step, &values)) {
                self.keep(made?, &mut values, &mut outputs, k + 1..self.stages.len());
            }
        }
        self.finish(outputs)
    }

    /// What the stages of a step make.
    fn step<'s>(&'s self, step: &Range<usize>, values: &Values<'s>) -> Vec<Result<Values<'s>>> {
        let run = |k| self.compute(k, 0, values);
        if step.len() == 1 || self.threads < step.len() {
            return step.clone().map(run).collect();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (step.start + 1..step.end).map(|k| scope.spawn(move || run(k))).collect();
            let first = run(step.start);
            let ended = others.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("the thread of a stage panicked")))
            });
            std::iter::once(first).chain(ended).collect()
        })
    }

    /// How long each stage takes for a sample, by itself: the median of several runs, after one that fills caches.
    ///
    /// # Errors
    /// As of [`Staged::run`].
    pub fn measure(&self, inputs: &[Value]) -> Result<Vec<Duration>> {
        const FEWEST: usize = 5;
        const MOST: usize = 1000;
        const ENOUGH: Duration = Duration::from_secs(1);
        self.run(inputs)?;
        let mut times = vec![vec![]; self.stages.len()];
        let began = Instant::now();
        for run in 0..MOST {
            if run >= FEWEST && began.elapsed() > ENOUGH {
                break;
            }
            let (mut values, mut outputs) = (self.start(inputs.to_vec()), Values::new());
            for (k, times) in times.iter_mut().enumerate() {
                let began = Instant::now();
                let made = self.compute(k, 0, &values)?;
                times.push(began.elapsed());
                self.keep(made, &mut values, &mut outputs, k + 1..self.stages.len());
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        Ok(times.into_iter().map(median).collect())
    }

    /// The values of a sample before any stage.
    pub(super) fn start(&self, inputs: Vec<Value>) -> Values<'_> {
        self.input_names().zip(inputs.into_iter().map(Held::Here)).collect()
    }

    /// What a stage makes of values, on one of its copies.
    ///
    /// # Errors
    /// As compiled code has them, with the stage.
    pub(super) fn compute<'s>(&'s self, k: usize, copy: usize, values: &Values<'s>) -> Result<Values<'s>> {
        let stage = &self.stages[k];
        let lost = |name: &str| Error::internal(format!("stage {k} has no value `{name}`"));
        let take = |name: &String| values.get(name.as_str()).cloned().ok_or_else(|| lost(name));
        let given = stage.inputs.iter().map(take).collect::<Result<Vec<_>>>()?;
        let runner = &stage.runners[copy % stage.runners.len()];
        let results = runner.run(given).map_err(|e| e.at(format!("stage {k} ({})", stage.file)))?;
        if results.len() != stage.outputs.len() {
            return Err(Error::internal(format!("stage {k} gave {} values", results.len())));
        }
        Ok(stage.outputs.iter().map(String::as_str).zip(results).collect())
    }

    /// Keep what was made, for some of the stages and as outputs; what none of those takes goes.
    pub(super) fn keep<'s>(
        &self,
        made: Values<'s>,
        values: &mut Values<'s>,
        outputs: &mut Values<'s>,
        users: Range<usize>,
    ) {
        for (name, value) in made {
            if self.outputs.iter().any(|o| o == name) {
                outputs.insert(name, value.clone());
            }
            // A model's input of the name of an output stays what it is: no cut has such a value.
            if !self.input_names().any(|input| input == name) {
                values.insert(name, value);
            }
        }
        values.retain(|name, _| {
            self.stages[users.clone()].iter().any(|s| s.inputs.iter().any(|i| i == name))
        });
    }

    /// The model's outputs, of a sample that is through all stages.
    pub(super) fn finish(&self, mut outputs: Values<'_>) -> Result<Vec<Value>> {
        let take = |name: &String| {
            let output = outputs.remove(name.as_str());
            output.ok_or_else(|| Error::internal(format!("no output `{name}`")))?.value()
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

/// Those of the stages that this process runs, on a pool of the threads of the options.
fn runners(
    path: &Path,
    graphs: &[Graph],
    options: &Options,
    mine: &Range<usize>,
) -> Result<Vec<Vec<Runner>>> {
    let pool = Arc::new(Pool::new(options.threads));
    let runner = |(k, graph): (usize, &Graph)| {
        if !mine.contains(&k) {
            return Ok(vec![Runner::Elsewhere]);
        }
        let native = lower(graph.clone(), options)
            .and_then(|lowered| Native::of_lowered_on(&lowered, options, pool.clone()));
        native
            .map(|n| vec![Runner::Here(Box::new(n))])
            .map_err(|e| e.at(format!("{}: stage {k}", path.display())))
    };
    graphs.iter().enumerate().map(runner).collect()
}
