//! Models with strings, sequences or optionals under the JIT engines: compiled parts between **host steps**.
//!
//! Compiled code holds tensors of numbers only. A graph with other values ("host values"), or with images to decode, is cut ([`Plan`]) into nodes
//! that touch none of them, which are compiled, and the rest, which the reference interpreter runs node by node:
//!
//! ```text
//! Plan  = [Step]
//! Step  = Compiled(Part) | Host(NodeId)
//! Part  = a graph of its own: tensors in, tensors out
//! ```
//!
//! **Order.** Every node has a level: a host node that of the latest node before it, a compiled one the same, or one more behind a host node. The
//! steps are the parts of level 0, its host nodes, the parts of level 1, and so on: nothing of a level needs a later one, so no cycle arises. A part
//! is what hangs together within its level.
//!
//! **Data.** [`Mixed`] keeps the values of a run by their [`egret_ir::ValueId`], as the interpreter does, and drops them after their last use.
//! Compiled parts copy tensors in and out, host steps share them. An output of the model may be a host value.
//!
//! **Sizes.** A part's free dims are known when it runs: [`egret_ir::interp::Scope`] binds symbols from the shapes of inputs and results, as in a run of
//! the interpreter. A part whose declaring node binds a symbol that other steps use gives that node's result too. A part is compiled for the sizes
//! of its symbols; the code of the last [`KEPT`] sizes is kept. A part without symbols is compiled with the model, so that what cannot be
//! compiled is told before any run. Sizes that data decides within a part are a matter of compiled code, as in any model. Sizes that leave no valid
//! graph (a window that does not fit its axis) may be those of a branch that is not taken: for them the interpreter runs the part, and names the node
//! at fault if it comes to it.
//!
//! **Control flow.** An `if`, `loop`, `scan` or `sequence_map` with host values among its operands or results, or anywhere in its bodies, is one host
//! step: its bodies are interpreted as a whole.
//!
//! **Sizes that only a loop's end tells.** Where a model cannot be compiled as a whole, and its control flow declares sizes of results (a `loop` that
//! stacks a value of each round, of which no most number is known; a `range` likewise), `jit` cuts it there too ([`Cut::Counted`]).
//!
//! **Passes** run on the whole graph before it is cut, so that host nodes which they find unneeded cost nothing, and on each part for its sizes.
//! (Where inputs have free dims, on the parts alone.)
//!
//! Nothing of this is silent: [`Mixed::notes`] begins with how many nodes run on the host, and which, and `egret run` prints it.
//!
//! Artifacts have no host: `egret compile` and the AOT engine refuse such a model, naming its nodes.

mod fit;
mod mixed;
mod part;
mod partition;

pub use mixed::Mixed;
pub use part::{KEPT, Part};
pub use partition::{Cut, Plan, Step};

use crate::error::{ErrorKind, Result};
use crate::options::Options;
use crate::pipeline::{self, Lowered};
use egret_ir::{Graph, Tensor};
use egret_trace::Trace;
use std::collections::BTreeMap;

/// A graph on its way to machine code in memory.
pub(crate) enum InMemory {
    /// All of it is compiled.
    Whole(Box<Lowered>),
    /// Some of it runs on the host.
    Mixed(Box<Mixed>),
}

/// Compile a graph for this process, with host steps where it needs them. `bound`: inputs whose values were fixed at import.
///
/// # Errors
/// What can neither be compiled nor runs on the host.
pub(crate) fn jit(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<InMemory> {
    if Plan::of(&graph, Cut::Counted)?.is_none() {
        return whole(graph, options, bound);
    }
    let made = cut(graph.clone(), Cut::Values, options, bound);
    match made {
        // What else is in the way is told as it is without a cut at loops.
        Err(e) if e.kind == ErrorKind::Unsupported => match cut(graph, Cut::Counted, options, bound) {
            Err(other) if other.kind == ErrorKind::Unsupported => Err(e),
            made => made,
        },
        made => made,
    }
}

/// As [`jit`], with host steps for host values alone: what else compiled code does not do is refused.
///
/// # Errors
/// What cannot be compiled.
pub(crate) fn jit_around_values(
    graph: Graph,
    options: &Options,
    bound: &BTreeMap<String, Tensor>,
) -> Result<InMemory> {
    cut(graph, Cut::Values, options, bound)
}

/// How many nodes of a graph run on the host, and which, if `egret run` runs it so: its [`Mixed::notes`]. `None`: it is compiled as a whole,
/// or cannot be run by the JIT engine at all.
pub fn told(graph: &Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Option<String> {
    match jit(graph.clone(), options, bound) {
        Ok(InMemory::Mixed(mixed)) => mixed.notes().first().cloned(),
        Ok(InMemory::Whole(_)) | Err(_) => None,
    }
}

fn whole(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<InMemory> {
    pipeline::lower(graph, options, bound).map(|lowered| InMemory::Whole(Box::new(lowered)))
}

/// As [`jit`], for a graph that may have nodes which the interpreter must run.
fn cut(graph: Graph, cut: Cut, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<InMemory> {
    let Some(plan) = Plan::of(&graph, cut)? else { return whole(graph, options, bound) };
    // The passes see the whole graph first, and parts of it then: approximations of both share the budget.
    let half = Options { budget: options.budget / 2.0, ..options.clone() };
    let passed = pipeline::optimize(graph.clone(), &half, None, &mut Trace::new())?;
    let mixed = match Plan::of(&passed, cut)? {
        // What needed the interpreter is gone.
        None => return whole(graph, options, bound),
        Some(plan) if graph.free_dims().is_empty() => Mixed::new(passed, plan, &half, bound)?,
        // Passes leave out sizes that a run must refuse; lowering would hold it to them, the interpreter does not.
        Some(_) => Mixed::new(graph, plan, options, bound)?,
    };
    Ok(InMemory::Mixed(Box::new(mixed)))
}
