//! The reference interpreter: what every operation means, slow and obvious.

use crate::{Attrs, DimEnv, Graph, Op, Value};
use std::fmt;

/// Why a graph cannot be run on these inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalError {
    /// Where: a node's text spelling and sources, or an input's name; empty inside a single operation.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.at, self.message) }
    }
}
impl std::error::Error for EvalError {}

/// Run a graph. Inputs in the order of [`Graph::inputs`]; free dims are bound by the inputs' shapes.
///
/// # Errors
/// An input whose dtype, rank or dims do not fit its type, an index out of range, an unsupported dtype.
pub fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>, EvalError> {
    let _ = (graph, inputs);
    Err(EvalError { at: String::new(), message: "the interpreter is not there yet".into() })
}

/// Evaluate one operation. `operands[i]` is `None` where left out; symbols in `attrs` must be bound (see
/// [`Attrs::substitute`]); `regions` are its sub-graphs.
///
/// # Errors
/// As [`run`].
pub fn eval_op(op: Op, attrs: &Attrs, operands: &[Option<Value>], regions: &[Graph]) -> Result<Vec<Value>, EvalError> {
    let _ = (attrs, operands, regions, DimEnv::new());
    Err(EvalError { at: String::new(), message: format!("no evaluation for {op}") })
}
