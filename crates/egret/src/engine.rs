//! The ways to run a graph, behind one type.

use crate::error::{Error, Result};
use crate::host::{self, InMemory, Mixed};
use crate::native::{Native, NativeSession};
use crate::options::Options;
use egret_ir::interp::Bounds;
use egret_ir::{Denormals, Graph, Tensor, Value, interp};
use egret_runtime::memory;
use std::collections::BTreeMap;
use std::str::FromStr;

/// A way to run a model.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The reference interpreter.
    Interp,
    /// Machine code in memory.
    #[default]
    Jit,
    /// Machine code in memory, without any optimisation of the graph.
    JitNoOpt,
    /// Machine code in memory, the first dim of the inputs left free.
    JitFree,
    /// Machine code in memory, all dims of the inputs but those of 1 left free.
    JitSymbolic,
    /// Machine code in a shared library on disk, loaded from there.
    Aot,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Engine; 6] =
        [Engine::Interp, Engine::Jit, Engine::JitNoOpt, Engine::JitFree, Engine::JitSymbolic, Engine::Aot];

    /// The spelling on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Interp => "interp",
            Engine::Jit => "jit",
            Engine::JitNoOpt => "jit-noopt",
            Engine::JitFree => "jit-free",
            Engine::JitSymbolic => "jit-symbolic",
            Engine::Aot => "aot",
        }
    }
}

impl Options {
    /// The same options as an engine needs them.
    pub fn for_engine(&self, engine: Engine) -> Options {
        let mut out = self.clone();
        if engine == Engine::JitNoOpt {
            out.passes = Some(vec![]);
        }
        out
    }
}

impl FromStr for Engine {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Engine, String> {
        let names = || Engine::ALL.map(Engine::name).join(", ");
        Engine::ALL
            .into_iter()
            .find(|e| e.name() == s)
            .ok_or_else(|| format!("no engine `{s}`; there are {}", names()))
    }
}

/// A model that is ready to run on inputs of the shapes it was made for.
pub enum Executable {
    /// The graph itself, for the interpreter, and what becomes of subnormal numbers.
    Interp(Box<Graph>, Denormals),
    /// Machine code.
    Native(Box<Native>),
    /// Machine code for the parts that hold tensors of numbers only, the interpreter for the rest.
    Mixed(Box<Mixed>),
}

/// How large machine code is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeSize {
    /// Distinct kernels.
    pub kernels: usize,
    /// Bytes of memory for intermediate results.
    pub arena_bytes: u64,
    /// Bytes of weights.
    pub weights_bytes: u64,
}

impl Executable {
    /// Make a graph ready for an engine. `bound`: inputs whose values were fixed at import.
    pub fn new(
        graph: Graph,
        engine: Engine,
        options: &Options,
        bound: &BTreeMap<String, Tensor>,
    ) -> Result<Executable> {
        let options = options.for_engine(engine);
        Ok(match engine {
            Engine::Interp => Executable::Interp(Box::new(graph), options.denormals()),
            // Who imports a model frees its dim.
            Engine::JitFree if graph.free_dims().is_empty() => {
                return Err(Error::user(
                    "--engine jit-free compiles models with a free dim, and this one has none: `egret test` frees the first dim of a case's \
                     inputs; elsewhere use --engine jit",
                ));
            }
            Engine::Jit | Engine::JitNoOpt => {
                Executable::in_memory(host::jit(graph, &options, bound)?, &options)?
            }
            Engine::JitSymbolic => {
                return Executable::jit_around_values(graph, &options, bound);
            }
            // It stands for artifacts with free dims, which have no host.
            Engine::JitFree => Executable::Native(Box::new(Native::jit(graph, &options, bound)?)),
            Engine::Aot => Executable::Native(Box::new(Native::aot(graph, &options, bound)?)),
        })
    }

    /// Machine code in memory, with host steps for strings, sequences, optionals and encoded images alone: what else compiled code does
    /// not do is refused. `bound`: inputs whose values were fixed at import.
    ///
    /// # Errors
    /// What cannot be compiled.
    pub fn jit_around_values(
        graph: Graph,
        options: &Options,
        bound: &BTreeMap<String, Tensor>,
    ) -> Result<Executable> {
        Executable::in_memory(host::jit_around_values(graph, options, bound)?, options)
    }

    fn in_memory(code: InMemory, options: &Options) -> Result<Executable> {
        Ok(match code {
            InMemory::Whole(lowered) => {
                Executable::Native(Box::new(Native::of_lowered_kept(*lowered, options)?))
            }
            InMemory::Mixed(mixed) => Executable::Mixed(mixed),
        })
    }

    /// The machine code, unless the model is interpreted, or has parts that are.
    pub fn native(&self) -> Option<&Native> {
        match self {
            Executable::Interp(..) | Executable::Mixed(_) => None,
            Executable::Native(n) => Some(n),
        }
    }

    /// Threads that its machine code runs on; `None` where there is none.
    pub fn threads(&self) -> Option<usize> {
        match self {
            Executable::Interp(..) => None,
            Executable::Native(native) => Some(native.threads()),
            Executable::Mixed(mixed) => Some(mixed.threads()),
        }
    }

    /// Keep its threads and the calling one, which is to run it, each on a core of its own ([`Native::pin`]).
    ///
    /// # Errors
    /// The system cannot; the model is interpreted, or compiled part by part while it runs.
    pub fn pin(&self) -> Result<()> {
        match self {
            Executable::Native(native) => native.pin(),
            Executable::Interp(..) => Err(Error::user(
                "--pin keeps threads of compiled code on their cores; the interpreter has one thread",
            )),
            Executable::Mixed(_) => Err(Error::user(
                "--pin is for models that are compiled as a whole; parts of this one run on the host, and others are compiled when their sizes are known",
            )),
        }
    }

    /// How large its machine code is: of a model with host values that which has been compiled so far, the newest of each part.
    pub fn size(&self) -> CodeSize {
        let of = |n: &Native| CodeSize {
            kernels: n.model().kernels().len(),
            arena_bytes: n.model().arena_bytes() as u64,
            weights_bytes: n.model().weights_bytes(),
        };
        match self {
            Executable::Interp(..) => CodeSize::default(),
            Executable::Native(native) => of(native),
            Executable::Mixed(mixed) => {
                mixed.code().iter().map(|n| of(n)).fold(CodeSize::default(), |a, b| CodeSize {
                    kernels: a.kernels + b.kernels,
                    arena_bytes: a.arena_bytes + b.arena_bytes,
                    weights_bytes: a.weights_bytes + b.weights_bytes,
                })
            }
        }
    }

    /// Run it: inputs in the order of the graph's inputs, results in the order of its outputs.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        match self {
            Executable::Interp(graph, denormals) => interpret(graph, inputs, *denormals, Bounds::default()),
            Executable::Native(native) => native.run(inputs),
            Executable::Mixed(mixed) => mixed.run(inputs),
        }
    }

    /// Everything that runs on the same inputs share; for measuring.
    pub fn session<'a>(&'a self, inputs: &[Value]) -> Result<Session<'a>> {
        Ok(match self {
            Executable::Interp(..) | Executable::Mixed(_) => Session::Whole(self, inputs.to_vec()),
            Executable::Native(native) => Session::Native(Box::new(native.session(inputs)?)),
        })
    }
}

/// Run a graph in the reference interpreter; a value that is larger than memory is refused.
///
/// # Errors
/// Inputs that do not fit; a value or a number of rounds beyond the bounds.
pub fn interpret(
    graph: &Graph,
    inputs: &[Value],
    denormals: Denormals,
    bounds: Bounds,
) -> Result<Vec<Value>> {
    let bytes = bounds.bytes.or_else(memory::available);
    interp::run_with(graph, inputs, denormals, &Bounds { bytes, ..bounds }).map_err(Error::from)
}

/// Runs of a model on the same inputs.
pub enum Session<'a> {
    /// Of a model that shares nothing between its runs.
    Whole(&'a Executable, Vec<Value>),
    /// Machine code.
    Native(Box<NativeSession<'a>>),
}

impl Session<'_> {
    /// Run the model once.
    pub fn step(&mut self) -> Result<()> {
        match self {
            Session::Whole(e, inputs) => e.run(inputs).map(drop),
            Session::Native(s) => s.step(),
        }
    }
}
