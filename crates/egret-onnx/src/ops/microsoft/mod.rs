//! Operators of the domain com.microsoft, which exporters and ONNX Runtime's optimiser write, by family: attention, normalisation, products
//! with what is fused to them, quantised tensors, and those that are an operator of ONNX under another name.

pub(super) mod activation;
mod apply;
pub(super) mod attention;
pub(super) mod dynamic_lstm;
pub(super) mod grouped;
pub(super) mod integer;
pub(super) mod nbits;
pub(super) mod norm;
pub(super) mod product;
pub(super) mod quantised;
pub(super) mod renamed;

use super::OnnxOp;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;

const fn row(name: &'static str, import: fn(&mut NodeCtx) -> OpResult) -> OnnxOp {
    OnnxOp { domain: "com.microsoft", name, since: 1, import }
}

/// Refuses a value of an INT attribute other than the one that is done.
fn refused_attr(ctx: &mut NodeCtx, name: &str, done: i64) -> Result<(), ImportError> {
    match ctx.opt_int(name)? {
        Some(v) if v != done => Err(ImportError::unsupported(format!(
            "attribute `{name}` = {v} of {} is not supported",
            ctx.op_type
        ))),
        _ => Ok(()),
    }
}

/// Refuses inputs of these places and names.
fn refused_inputs(ctx: &NodeCtx, inputs: &[(usize, &str)]) -> Result<(), ImportError> {
    match inputs.iter().find(|(at, _)| ctx.opt_input(*at).is_some()) {
        Some((_, name)) => {
            Err(ImportError::unsupported(format!("the input `{name}` of {} is not supported", ctx.op_type)))
        }
        None => Ok(()),
    }
}

/// Refuses outputs of these places and names, where they are wanted.
fn refused_outputs(ctx: &NodeCtx, outputs: &[(usize, &str)]) -> Result<(), ImportError> {
    match outputs.iter().find(|(at, _)| ctx.wanted.get(*at) == Some(&true)) {
        Some((_, name)) => Err(ImportError::unsupported(format!(
            "the output `{name}` of {} is not supported",
            ctx.op_type
        ))),
        None => Ok(()),
    }
}
