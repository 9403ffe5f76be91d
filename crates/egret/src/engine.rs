//! The ways to run a graph, behind one type.

use crate::error::{Error, ErrorKind, Result};
use crate::native::{Native, NativeSession};
use crate::options::Options;
use egret_ir::interp::{Bounds, Fault};
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
            Engine::JitFree | Engine::JitSymbolic if graph.free_dims().is_empty() => {
                return Err(Error::user(format!(
                    "--engine {} compiles models with a free dim, and this one has none: `egret test` frees dims of a case's inputs; \
                     elsewhere use --engine jit",
                    engine.name()
                )));
            }
            Engine::Jit | Engine::JitNoOpt | Engine::JitFree | Engine::JitSymbolic => {
                Executable::Native(Box::new(Native::jit(graph, &options, bound)?))
            }
            Engine::Aot => Executable::Native(Box::new(Native::aot(graph, &options, bound)?)),
        })
    }

    /// The machine code, unless it is interpreted.
    pub fn native(&self) -> Option<&Native> {
        match self {
            Executable::Interp(..) => None,
            Executable::Native(n) => Some(n),
        }
    }

    /// Run it: inputs in the order of the graph's inputs, results in the order of its outputs.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        match self {
            Executable::Interp(graph, denormals) => interpret(graph, inputs, *denormals, Bounds::default()),
            Executable::Native(native) => native.run(inputs),
        }
    }

    /// Everything that runs on the same inputs share; for measuring.
    pub fn session<'a>(&'a self, inputs: &[Value]) -> Result<Session<'a>> {
        Ok(match self {
            Executable::Interp(..) => Session::Interp(self, inputs.to_vec()),
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
    interp::run_with(graph, inputs, denormals, &Bounds { bytes, ..bounds }).map_err(|e| {
        let kind = match e.fault {
            Fault::Memory => ErrorKind::Memory,
            Fault::Trips => ErrorKind::Bound,
            Fault::Model => ErrorKind::User,
        };
        Error { kind, message: e.to_string() }
    })
}

/// Runs of a model on the same inputs.
pub enum Session<'a> {
    /// Interpreted.
    Interp(&'a Executable, Vec<Value>),
    /// Machine code.
    Native(Box<NativeSession<'a>>),
}

impl Session<'_> {
    /// Run the model once.
    pub fn step(&mut self) -> Result<()> {
        match self {
            Session::Interp(e, inputs) => e.run(inputs).map(drop),
            Session::Native(s) => s.step(),
        }
    }
}
