//! The ONNX operators: one function each, all its opset versions in it, listed in the table of its file.

mod activation;
mod attention;
mod constant;
mod contraction;
mod control;
mod einsum;
mod emit;
mod indexing;
mod inline;
mod linear_attention;
mod loss;
mod math;
mod microsoft;
mod ml;
mod normalization;
mod pooling;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod resize;
mod sequence;
mod shape;
mod signal;
mod slicing;
mod strings;
mod training;
mod window;

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
        attention::TABLE,
        constant::TABLE,
        contraction::TABLE,
        control::TABLE,
        einsum::TABLE,
        indexing::TABLE,
        linear_attention::TABLE,
        loss::TABLE,
        math::TABLE,
        microsoft::TABLE,
        ml::TABLE,
        normalization::TABLE,
        pooling::TABLE,
        quantization::TABLE,
        random::TABLE,
        recurrent::TABLE,
        reduction::TABLE,
        resize::TABLE,
        sequence::TABLE,
        shape::TABLE,
        signal::TABLE,
        slicing::TABLE,
        strings::TABLE,
        training::TABLE,
    ]
}

/// The row of an operator, if there is one.
pub fn find(domain: &str, name: &str) -> Option<&'static OnnxOp> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    tables().iter().copied().flatten().find(|row| row.domain == domain && row.name == name)
}
