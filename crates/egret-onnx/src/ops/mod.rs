//! The ONNX operators: one function each, all its opset versions in it, listed in the table of its file.
//!
//! Operators are in the file of the family of primitives that they are like (`ir-spec/ops`); beside those there are files
//! for what is made of several families: activations, losses, signals, steps of optimisers, ...

mod activation;
mod appended;
mod attention;
mod bytes;
mod constant;
mod contraction;
mod control;
mod einsum;
mod elements;
mod elementwise;
mod emit;
mod gather_scatter;
mod geometry;
pub(crate) mod gradient;
mod image;
mod inline;
mod linalg;
mod linear_attention;
mod loss;
mod microsoft;
mod ml;
mod movement;
mod normalization;
mod pad;
mod quantization;
mod random;
mod range;
mod recurrent;
mod reduction;
mod reshape;
mod sampling;
mod sequence;
mod shape;
mod signal;
mod sort;
mod span;
mod text;
mod training;
mod window;

use crate::context::{NodeCtx, OpResult};

/// A row: domain, operator, the first opset that it covers, its function.
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

/// The tables of all files, each with the name of its file.
#[rustfmt::skip] // One line per file.
pub fn tables() -> &'static [(&'static str, &'static [OnnxOp])] {
    &[
        ("activation", activation::TABLE),
        ("attention", attention::TABLE),
        ("constant", constant::TABLE),
        ("contraction", contraction::TABLE),
        ("control", control::TABLE),
        ("einsum", einsum::TABLE),
        ("elementwise", elementwise::TABLE),
        ("gather_scatter", gather_scatter::TABLE),
        ("gradient", gradient::TABLE),
        ("image", image::TABLE),
        ("linalg", linalg::TABLE),
        ("linear_attention", linear_attention::TABLE),
        ("loss", loss::TABLE),
        ("microsoft/activation", microsoft::activation::TABLE),
        ("microsoft/attention", microsoft::attention::TABLE),
        ("microsoft/dynamic_lstm", microsoft::dynamic_lstm::TABLE),
        ("microsoft/grouped", microsoft::grouped::TABLE),
        ("microsoft/integer", microsoft::integer::TABLE),
        ("microsoft/nbits", microsoft::nbits::TABLE),
        ("microsoft/norm", microsoft::norm::TABLE),
        ("microsoft/product", microsoft::product::TABLE),
        ("microsoft/quantised", microsoft::quantised::TABLE),
        ("microsoft/renamed", microsoft::renamed::TABLE),
        ("ml/linear", ml::linear::TABLE),
        ("ml/mod", ml::TABLE),
        ("ml/prepare", ml::prepare::TABLE),
        ("ml/trees", ml::trees::TABLE),
        ("movement", movement::TABLE),
        ("normalization", normalization::TABLE),
        ("pad", pad::TABLE),
        ("quantization", quantization::TABLE),
        ("random", random::TABLE),
        ("recurrent", recurrent::TABLE),
        ("reduction", reduction::TABLE),
        ("sampling", sampling::TABLE),
        ("sequence", sequence::TABLE),
        ("shape", shape::TABLE),
        ("signal", signal::TABLE),
        ("sort", sort::TABLE),
        ("text", text::TABLE),
        ("training", training::TABLE),
        ("window", window::TABLE),
    ]
}

pub(crate) use recurrent::OWN_DOMAIN;

/// The row of an operator, if there is one.
pub fn find(domain: &str, name: &str) -> Option<&'static OnnxOp> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    tables().iter().flat_map(|(_, rows)| *rows).find(|row| row.domain == domain && row.name == name)
}
