//! Operators of ai.onnx.ml: models in [`linear`] and [`trees`], what is around them in [`prepare`] and here.

mod labels;
pub(super) mod linear;
pub(super) mod prepare;
mod scores;
pub(super) mod trees;

use super::OnnxOp;
use super::emit::{dim, product};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Op, Tensor, attrs};

const DOMAIN: &str = "ai.onnx.ml";

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    OnnxOp { domain: DOMAIN, name: "ArrayFeatureExtractor", since: 1, import: array_feature_extractor },
    OnnxOp { domain: DOMAIN, name: "Binarizer", since: 1, import: binarizer },
    OnnxOp { domain: DOMAIN, name: "LabelEncoder", since: 1, import: label_encoder },
    OnnxOp { domain: DOMAIN, name: "Scaler", since: 1, import: scaler },
];

/// Columns of the last axis; a vector counts as one row.
fn array_feature_extractor(ctx: &mut NodeCtx) -> OpResult {
    let (mut x, indices) = (ctx.input(0)?, ctx.input(1)?);
    if ctx.rank(x)? < 2 {
        let count = product(&ctx.shape_of(x)?);
        x = ctx.reshape(x, vec![dim(1), count])?;
    }
    let axis = ctx.rank(x)? as i64 - 1;
    let count = product(&ctx.shape_of(indices)?);
    let indices = ctx.reshape(indices, vec![count])?;
    Ok(vec![ctx.emit(Op::Gather, attrs! { axis: axis }, &[x, indices])?])
}

/// (x - offset) * scale, in f32, with one entry of each for every column or one for all.
fn scaler(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let mut y = ctx.cast(x, egret_ir::DType::F32)?;
    for (name, op) in [("offset", Op::Sub), ("scale", Op::Mul)] {
        if let Some(values) = ctx.opt_floats(name)? {
            let values = ctx.builder.constant(Tensor::new(&[values.len()], values));
            y = ctx.binary(op, y, values)?;
        }
    }
    Ok(vec![y])
}

fn binarizer(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let threshold = ctx.float("threshold", 0.0)?;
    let threshold = ctx.scalar(dtype, threshold.into())?;
    let above = ctx.binary(Op::Less, threshold, x)?;
    Ok(vec![ctx.cast(above, dtype)?])
}

fn vector<T: egret_ir::Element>(values: Vec<T>) -> Tensor {
    Tensor::new(&[values.len()], values)
}

fn strings(values: Vec<String>) -> Tensor {
    Tensor::from_strings(&[values.len()], values)
}

/// The one of the attributes `{prefix}_tensor`, `_int64s`, `_floats`, `_strings` that is there.
fn list(ctx: &mut NodeCtx, prefix: &str) -> Result<Tensor, ImportError> {
    let mut found = vec![];
    found.extend(ctx.opt_tensor(&format!("{prefix}_tensor"))?);
    found.extend(ctx.opt_ints(&format!("{prefix}_int64s"))?.map(vector));
    found.extend(ctx.opt_floats(&format!("{prefix}_floats"))?.map(vector));
    found.extend(ctx.opt_strings(&format!("{prefix}_strings"))?.map(strings));
    match <[Tensor; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(all) => Err(ImportError::invalid(format!(
            "{} needs one list of {prefix}, but has {}",
            ctx.op_type,
            all.len()
        ))),
    }
}

fn label_encoder(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let int = Tensor::scalar(ctx.int("default_int64", -1)?);
    let float = Tensor::scalar(ctx.float("default_float", -0.0)?);
    let text = Tensor::from_strings(&[], vec![ctx.str("default_string", "_Unused")?]);
    let (keys, values) = if ctx.opset < 2 {
        // Version 1: the classes against their places, whichever way the input says.
        let classes = ctx
            .opt_strings("classes_strings")?
            .ok_or_else(|| ImportError::invalid("LabelEncoder needs its `classes_strings`"))?;
        let places = vector((0..classes.len() as i64).collect());
        let classes = strings(classes);
        if ctx.dtype(x)? == egret_ir::DType::String { (classes, places) } else { (places, classes) }
    } else {
        (list(ctx, "keys")?, list(ctx, "values")?)
    };
    let to = values.dtype();
    let default = match ctx.opt_tensor("default_tensor")? {
        Some(t) if t.len() == 1 => t.reshaped(&[]),
        Some(t) => {
            return Err(ImportError::invalid(format!(
                "the default of LabelEncoder has {} elements",
                t.len()
            )));
        }
        None => match [int, float, text].into_iter().find(|t| t.dtype() == to) {
            Some(t) => t,
            // Other element types came with the tensors: -1 for integers, -0 for floats.
            None => {
                let v = ctx.scalar(to, if to.is_float() { -0.0 } else { -1.0 })?;
                ctx.need_const(v, "the default of LabelEncoder")?
            }
        },
    };
    if let Some(y) = labels::looked_up(ctx, x, [&keys, &values, &default])? {
        return Ok(vec![y]);
    }
    Ok(vec![ctx.emit(
        Op::LabelEncode,
        attrs! { to: to, keys: keys, values: values, default: default },
        &[x],
    )?])
}
