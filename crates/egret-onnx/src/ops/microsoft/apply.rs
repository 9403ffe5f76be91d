//! Operators of ONNX as parts of others: applied to a value, or to images whose channels come last.

use super::super::find;
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::ValueId;
use std::collections::BTreeMap;

/// The first result of an operator of ai.onnx as an opset has it.
pub(super) fn applied(
    ctx: &mut NodeCtx,
    name: &'static str,
    opset: i64,
    inputs: Vec<Option<ValueId>>,
    attrs: BTreeMap<String, OnnxAttr>,
) -> Result<ValueId, ImportError> {
    let (outputs, wanted) = (1, vec![true]);
    let results = applied_for(ctx, name, opset, (inputs, outputs, wanted), attrs)?;
    results.first().copied().ok_or_else(|| ImportError::invalid(format!("{name} has no result")))
}

/// The node itself as one of ai.onnx under the name `name`.
pub(super) fn renamed(ctx: &mut NodeCtx, name: &'static str, opset: i64) -> OpResult {
    let inputs = ctx.inputs.clone();
    let attrs = std::mem::take(&mut ctx.attrs);
    let (outputs, wanted) = (ctx.outputs, ctx.wanted.clone());
    applied_for(ctx, name, opset, (inputs, outputs, wanted), attrs)
}

fn applied_for(
    ctx: &mut NodeCtx,
    name: &'static str,
    opset: i64,
    (inputs, outputs, wanted): (Vec<Option<ValueId>>, usize, Vec<bool>),
    attrs: BTreeMap<String, OnnxAttr>,
) -> OpResult {
    let row = find("", name).ok_or_else(|| ImportError::unsupported(format!("{name} is not supported")))?;
    let builder = &mut *ctx.builder;
    let mut inner = NodeCtx {
        builder,
        opset,
        op_type: name,
        inputs,
        outputs,
        wanted,
        named: BTreeMap::new(),
        attrs,
        lengths: &mut *ctx.lengths,
        lengths_anywhere: ctx.lengths_anywhere,
        clamped: vec![],
        holding: vec![],
    };
    let results = (row.import)(&mut inner)?;
    let (left, clamped, holding) = (inner.attrs, inner.clamped, inner.holding);
    ctx.clamped.extend(clamped);
    ctx.holding.extend(holding);
    // What the operator does not know is for the importer to refuse.
    ctx.attrs.extend(left);
    Ok(results)
}

/// `f` on the node with its image, the first input, brought to channels first if they come last; its result goes back.
pub(super) fn channels_first(
    ctx: &mut NodeCtx,
    last: bool,
    f: impl FnOnce(&mut NodeCtx) -> OpResult,
) -> OpResult {
    if !last {
        return f(ctx);
    }
    let x = ctx.input(0)?;
    let rank = ctx.rank(x)? as i64;
    if rank < 2 {
        return Err(ImportError::invalid(format!("{} needs an image", ctx.op_type)));
    }
    ctx.inputs[0] = Some(ctx.transpose(x, [0, rank - 1].into_iter().chain(1..rank - 1).collect())?);
    let results = f(ctx)?;
    results
        .into_iter()
        .map(|y| ctx.transpose(y, [0].into_iter().chain(2..rank).chain([1]).collect()))
        .collect()
}
