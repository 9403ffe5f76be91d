//! The ways to run a graph, behind one type.

use crate::error::{Error, ErrorKind, Result};
use egret_ir::{Graph, Value, interp};
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
    /// Machine code in a shared library on disk, loaded from there.
    Aot,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Engine; 4] = [Engine::Interp, Engine::Jit, Engine::JitNoOpt, Engine::Aot];

    /// The spelling on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Interp => "interp",
            Engine::Jit => "jit",
            Engine::JitNoOpt => "jit-noopt",
            Engine::Aot => "aot",
        }
    }
}

impl FromStr for Engine {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Engine, String> {
        let names = || Engine::ALL.map(Engine::name).join(", ");
        Engine::ALL.into_iter().find(|e| e.name() == s).ok_or_else(|| format!("no engine `{s}`; there are {}", names()))
    }
}

/// A model that is ready to run on inputs of the shapes it was made for.
pub struct Executable {
    graph: Graph,
}

impl Executable {
    /// Make a graph ready for an engine.
    pub fn new(graph: Graph, engine: Engine) -> Result<Executable> {
        match engine {
            Engine::Interp => Ok(Executable { graph }),
            other => {
                Err(Error::unsupported(format!("this build has no code generator for --engine {}; use --engine interp", other.name())))
            }
        }
    }

    /// The graph it was made from.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Run it: inputs in the order of the graph's inputs, results in the order of its outputs.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        interp::run(&self.graph, inputs).map_err(|e| Error { kind: ErrorKind::User, message: e.to_string() })
    }
}
