//! The reference interpreter: what every operation means, slow and obvious.
//!
//! One file per family of operations; its `eval` names them all, so that the compiler asks for the meaning of a new one.
//! Floats are computed in f64 and rounded once to the element type; integers wrap.

mod attention;
mod contraction;
mod control;
mod convert;
mod elementwise;
#[cfg(test)]
mod fuzz_tests;
mod gather_scatter;
mod linalg;
mod ml;
mod movement;
mod normalization;
mod random;
mod recurrent;
mod reduction;
mod resize;
mod run;
mod sampling;
mod sequence;
mod sort;
mod support;
mod text;
mod window;

pub use ml::{TreeNode, tree_leaves, tree_nodes};
pub use random::draw;
pub use recurrent::{Activation, activations};
pub use resize::{Taps, resize_taps};

use crate::{Attrs, DimEnv, Graph, Member, Op, Value};
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
        if self.at.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.at, self.message)
        }
    }
}
impl std::error::Error for EvalError {}

/// Run a graph. Inputs in the order of [`Graph::inputs`]; free dims are bound by the inputs' shapes.
///
/// # Errors
/// An input whose dtype, rank or dims do not fit its type, an index out of range, an unsupported dtype.
pub fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>, EvalError> {
    run::run(graph, inputs, &DimEnv::new())
}

/// Evaluate one operation. `operands[i]` is `None` where left out; symbols in `attrs` must be bound (see
/// [`Attrs::substitute`]); `regions` are its sub-graphs.
///
/// # Errors
/// As [`run`].
pub fn eval_op(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<Value>],
    regions: &[Graph],
) -> Result<Vec<Value>, EvalError> {
    evaluate(op, attrs, operands, regions, &DimEnv::new())
}

/// As [`eval_op`], with the symbols that are visible inside `regions`.
fn evaluate(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<Value>],
    regions: &[Graph],
    env: &DimEnv,
) -> support::Res<Vec<Value>> {
    let one = |t: support::Res<crate::Tensor>| Ok(vec![Value::Tensor(t?)]);
    let many = |t: support::Res<Vec<crate::Tensor>>| Ok(t?.into_iter().map(Value::Tensor).collect());
    match op.member() {
        Member::Elementwise(op) => one(elementwise::eval(op, attrs, operands)),
        Member::Movement(op) => one(movement::eval(op, attrs, operands)),
        Member::Reduction(op) => one(reduction::eval(op, attrs, operands)),
        Member::Normalization(op) => one(normalization::eval(op, attrs, operands)),
        Member::Contraction(op) => one(contraction::eval(op, attrs, operands)),
        Member::Attention(op) => one(attention::eval(op, attrs, operands)),
        Member::Window(op) => many(window::eval(op, attrs, operands)),
        Member::Sampling(op) => one(sampling::eval(op, attrs, operands)),
        Member::GatherScatter(op) => one(gather_scatter::eval(op, attrs, operands)),
        Member::Sort(op) => many(sort::eval(op, attrs, operands)),
        Member::Linalg(op) => one(linalg::eval(op, operands)),
        Member::Recurrent(op) => many(recurrent::eval(op, attrs, operands)),
        Member::Random(op) => one(random::eval(op, attrs)),
        Member::Control(op) => control::eval(op, attrs, operands, regions, env),
        Member::Sequence(op) => Ok(vec![sequence::eval(op, attrs, operands)?]),
        Member::Text(op) => many(text::eval(op, attrs, operands)),
        Member::Ml(op) => one(ml::eval(op, attrs, operands)),
    }
}
