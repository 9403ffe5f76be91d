//! The reference interpreter: what every operation means, slow and obvious.
//!
//! One file per family of operations; its `eval` names them all, so that the compiler asks for the meaning of a new one.
//! Floats are computed in f64 and rounded once to the element type; integers wrap. Subnormal numbers are kept or flushed, as the
//! caller says ([`run_with`]).

mod attention;
mod bounds;
mod contraction;
mod control;
mod convert;
mod denormals;
mod elementwise;
#[cfg(test)]
mod fuzz_tests;
mod gather_scatter;
mod image;
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
mod scope;
mod sequence;
mod sort;
mod support;
mod text;
mod window;

pub use bounds::{Bounds, Progress, size_text};
pub use elementwise::erf;
pub use ml::{TreeNode, tree_leaves, tree_nodes};
pub use random::draw;
pub use recurrent::{Activation, activations};
pub use resize::{Taps, resize_scale, resize_taps};
pub use scope::Scope;
pub use text::tfidf_grams;

use bounds::{Around, Meter};

use crate::{Attrs, DimEnv, Graph, Member, Op, Value};
use egret_float::Denormals;
use std::fmt;

/// Why a graph cannot be run on these inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalError {
    /// Where: a node's text spelling and sources, or an input's name; empty inside a single operation.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What kind of thing is wrong.
    pub fault: Fault,
}

/// What kind of thing keeps a graph from being run.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// The graph or its inputs.
    #[default]
    Model,
    /// A value is larger than memory, or than [`Bounds::bytes`].
    Memory,
    /// Loops ran more often than [`Bounds::trips`] allows.
    Trips,
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

/// Run a graph, with subnormal numbers kept. Inputs in the order of [`Graph::inputs`]; free dims are bound by the inputs' shapes.
///
/// # Errors
/// An input whose dtype, rank or dims do not fit its type, an index out of range, an unsupported dtype.
pub fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>, EvalError> {
    run_with(graph, inputs, Denormals::Keep, &Bounds::default())
}

/// As [`run`], with a choice of what becomes of subnormal numbers, and within bounds.
///
/// # Errors
/// As [`run`]; a bound that is reached.
pub fn run_with(
    graph: &Graph,
    inputs: &[Value],
    denormals: Denormals,
    bounds: &Bounds,
) -> Result<Vec<Value>, EvalError> {
    run::run(
        graph,
        inputs,
        Around { env: &DimEnv::new(), meter: &Meter::new(bounds), inner: false, denormals },
    )
}

/// Evaluate one operation, with subnormal numbers kept. `operands[i]` is `None` where left out; symbols in `attrs` must be bound (see
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
    eval_op_with(op, attrs, operands, regions, Denormals::Keep)
}

/// As [`eval_op`], with a choice of what becomes of subnormal numbers.
///
/// # Errors
/// As [`run`].
pub fn eval_op_with(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<Value>],
    regions: &[Graph],
    denormals: Denormals,
) -> Result<Vec<Value>, EvalError> {
    let (env, bounds) = (DimEnv::new(), Bounds::default());
    let around = Around { env: &env, meter: &Meter::new(&bounds), inner: true, denormals };
    evaluate(op, attrs, operands, regions, around)
}

/// As [`eval_op`], with what is around it.
fn evaluate(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<Value>],
    regions: &[Graph],
    around: Around<'_>,
) -> support::Res<Vec<Value>> {
    let _state = denormals::enter(denormals::of(op, attrs, operands, around.denormals));
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
        Member::Control(op) => control::eval(op, attrs, operands, regions, around),
        Member::Sequence(op) => Ok(vec![sequence::eval(op, attrs, operands)?]),
        Member::Text(op) => many(text::eval(op, attrs, operands)),
        Member::Image(op) => one(image::eval(op, attrs, operands)),
        Member::Ml(op) => one(ml::eval(op, attrs, operands)),
    }
}
