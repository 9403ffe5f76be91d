//! Constant, in all forms of its attribute.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::Tensor;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("Constant", 1, constant)];

fn constant(ctx: &mut NodeCtx) -> OpResult {
    let Some((name, value)) = ctx.attrs.pop_first() else {
        return Err(ImportError::invalid("Constant without a value"));
    };
    let tensor = match (name.as_str(), value) {
        // A sparse value has been made dense by the decoder.
        ("value" | "sparse_value", OnnxAttr::Tensor(t)) => t,
        ("value_float", OnnxAttr::Float(v)) => Tensor::scalar(v),
        ("value_int", OnnxAttr::Int(v)) => Tensor::scalar(v),
        ("value_string", OnnxAttr::String(v)) => Tensor::from_strings(&[], vec![v]),
        ("value_floats", OnnxAttr::Floats(v)) => Tensor::new(&[v.len()], v),
        ("value_ints", OnnxAttr::Ints(v)) => Tensor::new(&[v.len()], v),
        ("value_strings", OnnxAttr::Strings(v)) => Tensor::from_strings(&[v.len()], v),
        (other, _) => {
            return Err(ImportError::invalid(format!("Constant has no attribute `{other}` of this type")));
        }
    };
    Ok(vec![ctx.builder.constant(tensor)])
}
