//! The reference interpreter: what every operation means, slow and obvious.
//!
//! One file per family of operations. Floats are computed in f64 and rounded once to the element type; integers wrap.

mod attention;
mod contract;
mod control;
mod convert;
mod elementwise;
mod indexing;
mod ml;
mod movement;
mod nms;
#[cfg(test)]
mod odd_inputs;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod run;
mod sample;
mod sequence;
mod sets;
mod support;
mod text;
mod window;

pub use random::draw;
pub use recurrent::{Activation, activations};
pub use resize::{Taps, resize_taps};

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
    if op.is_elementwise() {
        return one(elementwise::eval(op, attrs, operands));
    }
    match op {
        Op::BitCast
        | Op::Shape
        | Op::Reshape
        | Op::Broadcast
        | Op::Transpose
        | Op::Slice
        | Op::Pad
        | Op::Dilate
        | Op::Concat
        | Op::Iota => one(movement::eval(op, attrs, operands)),
        Op::Reduce
        | Op::ArgReduce
        | Op::Cumulative
        | Op::Softmax
        | Op::LayerNorm
        | Op::RmsNorm
        | Op::TopK
        | Op::Det => many(reduce::eval(op, attrs, operands)),
        Op::Attention | Op::Rotary => one(attention::eval(op, attrs, operands)),
        Op::Matmul | Op::Conv | Op::ConvTranspose => one(contract::eval(op, attrs, operands)),
        Op::Pool | Op::MaxPoolIndices | Op::Col2im => many(window::eval(op, attrs, operands)),
        Op::Gather
        | Op::GatherElements
        | Op::GatherNd
        | Op::ScatterElements
        | Op::ScatterNd
        | Op::ReverseSequence => one(indexing::eval(op, attrs, operands)),
        Op::Nonzero | Op::Compress | Op::Unique => many(sets::eval(op, attrs, operands)),
        Op::Resize => one(resize::eval(attrs, operands)),
        Op::GridSample | Op::RoiAlign | Op::DeformConv => one(sample::eval(op, attrs, operands)),
        Op::Nms => one(nms::eval(attrs, operands)),
        Op::Lstm | Op::Gru | Op::Rnn => many(recurrent::eval(op, attrs, operands)),
        Op::RandomUniform | Op::RandomNormal => one(random::eval(op, attrs)),
        Op::If | Op::Loop | Op::Scan | Op::SequenceMap => control::eval(op, attrs, operands, regions, env),
        Op::StringConcat | Op::StringNormalize | Op::StringSplit | Op::RegexFullMatch => {
            many(text::eval(op, attrs, operands))
        }
        Op::Tfidf | Op::LabelEncode | Op::TreeEnsemble => one(ml::eval(op, attrs, operands)),
        Op::SequenceConstruct
        | Op::SequenceEmpty
        | Op::SequenceInsert
        | Op::SequenceErase
        | Op::SequenceAt
        | Op::SequenceLength
        | Op::SequenceConcat
        | Op::SequenceSplit
        | Op::OptionalSome
        | Op::OptionalNone
        | Op::OptionalGet
        | Op::OptionalHas => Ok(vec![sequence::eval(op, attrs, operands)?]),
        _ => support::fail(format!("no evaluation for {op}")),
    }
}
