//! Running machine code: tensors in and out of a compiled model, the pool and the arena it runs with.

use crate::error::{Error, ErrorKind, Result};
use crate::files::Scratch;
use crate::options::Options;
use crate::pipeline::Lowered;
use crate::work::{self, Work};
use crate::{found, limits, link, pipeline};
use egret_ir::{DType, Graph, Tensor, Value};
use egret_loop::{Program, Weights};
use egret_runtime::abi::Code;
use egret_runtime::{AlignedBytes, BorrowedEnv, CallError, Input, Model, Needs, Phase, Pool, WeightsFile};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A compiled model with everything it needs to run.
pub struct Native {
    model: Model,
    pool: Arc<Pool>,
    /// One for each run at a time that there has been.
    arenas: Mutex<Vec<AlignedBytes>>,
    /// What each kernel run does.
    work: Vec<Work>,
    /// The limits of dims that it has room by.
    limits: String,
    /// The inputs of a compiled model on disk that were bound to values.
    bound: Vec<String>,
    /// What it was compiled from, where it is kept to be saved.
    kept: Option<Box<Kept>>,
    // The shared library's folder: deleted when the model is.
    _dir: Option<Scratch>,
}

/// A program, whose weights are those of the code that was made of it.
pub(crate) struct Kept {
    /// Of its weights it knows the length alone.
    pub program: Program,
    pub options: Options,
}

/// What a model did while its kernels were measured.
pub struct Profiled {
    /// Outputs of a run.
    pub outputs: Vec<Value>,
    /// Every kernel run of the program, in order, with its seconds: those of all its rounds in the run in which they were the median; 0 for one that did not run.
    pub kernels: Vec<(Work, f64)>,
    /// What ran when in the run that took the middle time, in order; of more than [`SPANS`] spans the first.
    pub spans: Vec<Span>,
    /// How many threads each kernel was shared between.
    pub threads: usize,
}

/// A kernel run, once: a loop runs one again and again.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Its number among the kernel runs of the program.
    pub kernel: usize,
    /// When it began, in seconds from the beginning of the run.
    pub began: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Spans of a run that are kept: a loop may have any number of rounds.
pub const SPANS: usize = 200_000;

/// What is measured of a run.
struct Clock {
    start: Instant,
    /// When the kernel that runs began.
    began: Option<Instant>,
    /// Seconds and rounds of each kernel, by its number.
    sums: Vec<(f64, u64)>,
    spans: Vec<Span>,
}

impl Clock {
    fn new(kernels: usize) -> Clock {
        Clock { start: Instant::now(), began: None, sums: vec![(0.0, 0); kernels], spans: vec![] }
    }

    fn tick(&mut self, kernel: usize, phase: Phase) {
        match phase {
            Phase::Begin => self.began = Some(Instant::now()),
            Phase::End => {
                let Some(began) = self.began.take() else { return };
                let seconds = began.elapsed().as_secs_f64();
                self.sums.resize(self.sums.len().max(kernel + 1), (0.0, 0));
                self.sums[kernel].0 += seconds;
                self.sums[kernel].1 += 1;
                if self.spans.len() < SPANS {
                    let began = began.saturating_duration_since(self.start).as_secs_f64();
                    self.spans.push(Span { kernel, began, seconds });
                }
            }
        }
    }
}

impl From<CallError> for Error {
    fn from(e: CallError) -> Error {
        let kind = match &e {
            CallError::Model(
                Code::Dtype
                | Code::Rank
                | Code::Dim
                | Code::Sizes
                | Code::BoundValue
                | Code::Weights
                | Code::Cpu
                | Code::Index,
                _,
            ) => ErrorKind::User,
            CallError::Load(_) => ErrorKind::User,
            CallError::Memory(_) => ErrorKind::Memory,
            CallError::Model(..) => ErrorKind::Internal,
        };
        Error { kind, message: e.to_string() }
    }
}

impl Native {
    fn new(model: Model, pool: Arc<Pool>, dir: Option<Scratch>) -> Result<Native> {
        // Where dims are free, a run tells how much it needs.
        let first = if model.is_fixed() { vec![model.new_arena()?] } else { vec![] };
        let arenas = Mutex::new(first);
        let work = work::unknown(model.kernels());
        Ok(Native {
            model,
            pool,
            arenas,
            work,
            limits: String::new(),
            bound: vec![],
            kept: None,
            _dir: dir,
        })
    }

    /// Compile a graph into memory.
    pub fn jit(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<Native> {
        Native::of_lowered(&pipeline::lower(graph, options, bound)?, options)
    }

    /// Compile a lowered graph into memory.
    pub(crate) fn of_lowered(lowered: &Lowered, options: &Options) -> Result<Native> {
        Native::of_lowered_on(lowered, options, pool(options.threads))
    }

    /// As [`Native::of_lowered`], to be [saved](Native::save) too: the program is kept, its weights in the code alone.
    pub(crate) fn of_lowered_kept(lowered: Lowered, options: &Options) -> Result<Native> {
        let native = Native::of_lowered(&lowered, options)?;
        let weights = Weights::unknown(lowered.program.weights.len());
        let program = Program { weights, ..lowered.program };
        Ok(Native { kept: Some(Box::new(Kept { program, options: options.clone() })), ..native })
    }

    /// What was loaded from a file.
    pub(crate) fn of_saved(model: Model, limits: String, threads: usize) -> Result<Native> {
        Ok(Native { limits, ..Native::new(model, pool(threads), None)? })
    }

    /// What it was compiled from, where that was kept.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// The limits of dims that it has room by.
    pub(crate) fn limits(&self) -> &str {
        &self.limits
    }

    /// As [`Native::of_lowered`], to run on the threads of a pool that others run on too.
    pub(crate) fn of_lowered_on(lowered: &Lowered, options: &Options, pool: Arc<Pool>) -> Result<Native> {
        Native::of_lowered_with(lowered, options, pool, None)
    }

    /// As [`Native::of_lowered_on`], with weights that are packed already, if there are some.
    pub(crate) fn of_lowered_with(
        lowered: &Lowered,
        options: &Options,
        pool: Arc<Pool>,
        packed: Option<WeightsFile>,
    ) -> Result<Native> {
        let limits = limits::said(&lowered.graph);
        limits::fit(&lowered.program, &limits)?;
        let native = Native::new(pipeline::jit_with(&lowered.program, options, packed)?, pool, None)?;
        Ok(Native { work: work::of(lowered), limits, ..native })
    }

    /// Compile a program into memory.
    pub(crate) fn of_program(program: &Program, options: &Options) -> Result<Native> {
        Native::new(pipeline::jit(program, options)?, pool(options.threads), None)
    }

    /// Compile a graph into a shared library in a temporary folder and load it.
    pub fn aot(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<Native> {
        let (dir, library, lowered) = Native::library(graph, options, bound)?;
        // SAFETY: just written by this process.
        let model = unsafe { egret_runtime::load(&library, &options.name, None) }?;
        let (work, limits) = (work::of(&lowered), limits::said(&lowered.graph));
        Ok(Native { work, limits, ..Native::new(model, pool(options.threads), Some(dir))? })
    }

    /// Seconds from an artifact on disk to ready to run.
    pub fn load_time(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<f64> {
        let (dir, library, _) = Native::library(graph, options, bound)?;
        let began = Instant::now();
        // SAFETY: just written by this process.
        let model = unsafe { egret_runtime::load(&library, &options.name, None) }?;
        let _ready = Native::new(model, pool(options.threads), Some(dir))?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// A shared library in a temporary folder.
    fn library(
        graph: Graph,
        options: &Options,
        bound: &BTreeMap<String, Tensor>,
    ) -> Result<(Scratch, PathBuf, Lowered)> {
        let lowered = pipeline::lower(graph, options, bound)?;
        limits::fit(&lowered.program, &limits::said(&lowered.graph))?;
        let dir = Scratch::new()?;
        let object = dir.path().join("model.o");
        let library = dir.path().join("model.so");
        let bytes = pipeline::object(&lowered.program, options, &pipeline::ObjectOptions::default())?;
        std::fs::write(&object, bytes).map_err(|e| Error::io("write", &object, &e))?;
        link::shared(&[object], &library, None)?;
        Ok((dir, library, lowered))
    }

    /// Load what `egret compile --emit so` wrote into a folder.
    pub fn open(dir: &Path, threads: usize) -> Result<Native> {
        let found = found::find(dir)?;
        if let Some(weights) = &found.weights {
            found::check_weights(weights)?;
        }
        // SAFETY: the user asks to run this artifact; its manifest says that Egret wrote it.
        let model = unsafe { egret_runtime::load(&found.library, &found.name, found.weights.as_deref()) }?;
        Ok(Native { bound: found.bound, ..Native::new(model, pool(threads), None)? })
    }

    /// The inputs of a compiled model on disk that were bound to values, and take no others.
    pub(crate) fn bound(&self) -> &[String] {
        &self.bound
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Threads it runs on.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Keep its threads and the calling one each on a core of its own ([`Pool::pin`]).
    ///
    /// # Errors
    /// Those of [`Pool::pin`].
    pub fn pin(&self) -> Result<()> {
        self.pool.pin().map_err(|e| Error::user(format!("the threads cannot be pinned to cores: {e}")))
    }

    /// Run it on tensors in the order of its inputs.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        let mut session = self.session(inputs)?;
        session.step()?;
        session.outputs()
    }

    /// Run it on bytes, without a copy. `outputs[i]` takes those of output `i` and must have its exact size. Several threads
    /// may do so at once. Gives the dims of the outputs where data decides some, and nothing for other models ([`Model::run`]).
    ///
    /// # Errors
    /// Inputs that do not fit the model, or an index in them that is outside its axis.
    pub fn call(&self, inputs: &[Input<'_>], outputs: &mut [AlignedBytes]) -> Result<Vec<Vec<i64>>> {
        self.step(inputs, outputs, self.pool.env())
    }

    /// What a run on such inputs needs.
    fn needs(&self, ins: &[Input<'_>]) -> Result<Needs> {
        let dims: Vec<&[i64]> = ins.iter().map(|i| i.dims).collect();
        Ok(self.model.needs(&dims)?)
    }

    /// A run in an arena that no other run uses meanwhile.
    fn step(
        &self,
        ins: &[Input<'_>],
        outs: &mut [AlignedBytes],
        env: BorrowedEnv<'_>,
    ) -> Result<Vec<Vec<i64>>> {
        let arenas = || self.arenas.lock().unwrap_or_else(|e| e.into_inner());
        let needed = match self.model.is_fixed() {
            true => self.model.arena_bytes(),
            false => self.needs(ins)?.arena_bytes,
        };
        let kept = arenas().pop();
        let mut arena = match kept.filter(|arena| arena.len() >= needed) {
            Some(arena) => arena,
            None => self.model.arena_of(needed).map_err(|e| limits::blame(e.into(), &self.limits))?,
        };
        let result = self.model.run(ins, outs, &mut arena, env);
        arenas().push(arena);
        Ok(result?)
    }

    /// Everything that runs on the same inputs share.
    pub fn session(&self, inputs: &[Value]) -> Result<NativeSession<'_>> {
        let (have, need) = (inputs.len(), self.model.inputs().len());
        if have != need {
            return Err(Error::user(format!("{have} inputs given, the model has {need}")));
        }
        let mut tensors = vec![];
        for (value, port) in inputs.iter().zip(self.model.inputs()) {
            let t = value
                .as_tensor()
                .ok_or_else(|| Error::user(format!("the input `{}` must be a tensor", port.name)))?;
            let bytes = AlignedBytes::copy_of(t.bytes()).ok_or_else(|| {
                Error::memory(format!(
                    "there is no memory for the input `{}` {:?}; give smaller inputs or dims",
                    port.name,
                    t.shape()
                ))
            })?;
            let dims = t.shape().iter().map(|&d| d as i64).collect();
            tensors.push(AlignedInput { bytes, dtype: t.dtype().abi_code(), dims });
        }
        let dims: Vec<&[i64]> = tensors.iter().map(|t| t.dims.as_slice()).collect();
        let shapes: Vec<Vec<i64>> = match self.model.is_fixed() {
            true => self.model.outputs().iter().map(|p| p.dims.clone()).collect(),
            false => self.model.needs(&dims)?.outputs,
        };
        let room = |(p, dims): (&egret_runtime::Port, &Vec<i64>)| {
            p.bytes_with(dims).and_then(AlignedBytes::zeroed).ok_or_else(|| {
                let message =
                    format!("the output `{}` {dims:?} does not fit; give smaller inputs or dims", p.name);
                limits::blame(Error::memory(message), &self.limits)
            })
        };
        let outputs = self.model.outputs().iter().zip(&shapes).map(room);
        let outputs = outputs.collect::<Result<Vec<AlignedBytes>>>()?;
        Ok(NativeSession { native: self, inputs: tensors, outputs, shapes, env: self.pool.env() })
    }

    /// Run it a few times and measure every kernel run of the program, branches one after the other. One run alone would tell of whatever else the machine did.
    ///
    /// # Errors
    /// As of [`Native::run`].
    pub fn profile(&self, inputs: &[Value]) -> Result<Profiled> {
        let clock = RefCell::new(Clock::new(0));
        let tick = |kernel: u32, phase: Phase| clock.borrow_mut().tick(kernel as usize, phase);
        let mut session = self.session(inputs)?;
        // Before, so that caches are as warm as in later runs, and threads awake.
        session.step()?;
        session.env = session.env.with_profile(&tick);
        let mut runs = vec![];
        for _ in 0..PROFILED {
            clock.replace(Clock::new(self.work.len()));
            session.step()?;
            runs.push(clock.replace(Clock::new(0)));
        }
        let outputs = session.outputs()?;
        let kernels = runs.iter().map(|run| run.sums.len()).max().unwrap_or(0);
        let of = |k: usize| {
            let mut took: Vec<(f64, u64)> =
                runs.iter().map(|run| run.sums.get(k).copied().unwrap_or_default()).collect();
            took.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (time, rounds) = took[took.len() / 2];
            let known = self.work.get(k).cloned();
            let work = known.unwrap_or_else(|| work::unknown(&[format!("kernel {k}")]).remove(0));
            (work.times(rounds), time)
        };
        let kernels = (0..kernels).map(of).collect();
        let total = |run: &Clock| run.sums.iter().map(|(seconds, _)| seconds).sum::<f64>();
        runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
        let spans = runs.swap_remove(runs.len() / 2).spans;
        Ok(Profiled { outputs, kernels, spans, threads: self.threads() })
    }
}

/// Runs that a profile is taken of.
const PROFILED: usize = 5;

/// A pool of one model.
fn pool(threads: usize) -> Arc<Pool> {
    Arc::new(Pool::new(threads))
}

/// An input where vectors of it end with cache lines, as everything of an arena does.
struct AlignedInput {
    bytes: AlignedBytes,
    dtype: u32,
    dims: Vec<i64>,
}

/// Inputs and room for outputs of a compiled model.
pub struct NativeSession<'a> {
    native: &'a Native,
    inputs: Vec<AlignedInput>,
    outputs: Vec<AlignedBytes>,
    /// Dims of the outputs; where data decides them, those of the last run, or the most that they can be before the first.
    shapes: Vec<Vec<i64>>,
    env: BorrowedEnv<'a>,
}

impl NativeSession<'_> {
    /// Run the model once.
    pub fn step(&mut self) -> Result<()> {
        let ins: Vec<Input<'_>> =
            self.inputs.iter().map(|t| Input { bytes: &t.bytes, dtype: t.dtype, dims: &t.dims }).collect();
        let found = self.native.step(&ins, &mut self.outputs, self.env)?;
        if !found.is_empty() {
            self.shapes = found;
        }
        Ok(())
    }

    /// The outputs of the last run.
    pub fn outputs(&self) -> Result<Vec<Value>> {
        type Output<'a> = ((&'a AlignedBytes, &'a egret_runtime::Port), &'a Vec<i64>);
        let back = |((bytes, port), dims): Output<'_>| -> Result<Value> {
            let dtype = DType::from_abi_code(port.dtype).ok_or_else(|| {
                Error::internal(format!("the output `{}` has the unknown dtype {}", port.name, port.dtype))
            })?;
            let shape: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
            let bytes = port.bytes_with(dims).and_then(|n| bytes.get(..n));
            let bytes = bytes.ok_or_else(|| {
                Error::internal(format!(
                    "the output `{}` has come to {dims:?}, for which it has no room",
                    port.name
                ))
            })?;
            Ok(Tensor::from_bytes(dtype, &shape, bytes).into())
        };
        self.outputs.iter().zip(self.native.model.outputs()).zip(&self.shapes).map(back).collect()
    }
}
