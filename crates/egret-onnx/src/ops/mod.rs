//! The ONNX operators: one function each, all its opset versions in it, listed in the table of its file.

mod activation;
mod constant;
mod control;
mod emit;
mod indexing;
mod inline;
mod math;
mod recurrent;
mod resize;
mod sequence;
mod shape;
mod slicing;

use crate::context::{NodeCtx, OpResult};

/// A row: domain (`""` for ai.onnx), operator, the opsets it covers (first, last), its function.
#[derive(Copy, Clone)]
pub struct OnnxOp {
    /// Domain; empty for ai.onnx.
    pub domain: &'static str,
    /// `op_type`.
    pub name: &'static str,
    /// First opset version whose meaning the function implements.
    pub since: i64,
    /// Lowers a node to primitives.
    pub import: fn(&mut NodeCtx) -> OpResult,
}

/// A row of ai.onnx.
pub(crate) const fn onnx(name: &'static str, since: i64, import: fn(&mut NodeCtx) -> OpResult) -> OnnxOp {
    OnnxOp { domain: "", name, since, import }
}

/// The tables of all files.
#[rustfmt::skip] // One line per file.
pub fn tables() -> &'static [&'static [OnnxOp]] {
    &[
        activation::TABLE,
        constant::TABLE,
        control::TABLE,
        indexing::TABLE,
        recurrent::TABLE,
        math::TABLE,
        resize::TABLE,
        sequence::TABLE,
        shape::TABLE,
        slicing::TABLE,
    ]
}

/// The row of an operator, if there is one.
pub fn find(domain: &str, name: &str) -> Option<&'static OnnxOp> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    tables().iter().copied().flatten().find(|row| row.domain == domain && row.name == name)
}
