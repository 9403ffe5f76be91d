//! What prepares features and names results in pipelines of ai.onnx.ml: encoders, imputers, normalizers, maps.

use super::DOMAIN;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::ops::OnnxOp;
use crate::ops::emit::{dim, product};
use egret_ir::{DType, Op, Tensor, ValueId, attrs};
use std::collections::BTreeSet;

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    OnnxOp { domain: DOMAIN, name: "CategoryMapper", since: 1, import: category_mapper },
    OnnxOp { domain: DOMAIN, name: "FeatureVectorizer", since: 1, import: feature_vectorizer },
    OnnxOp { domain: DOMAIN, name: "Imputer", since: 1, import: imputer },
    OnnxOp { domain: DOMAIN, name: "Normalizer", since: 1, import: normalizer },
    OnnxOp { domain: DOMAIN, name: "OneHotEncoder", since: 1, import: one_hot_encoder },
    OnnxOp { domain: DOMAIN, name: "ZipMap", since: 1, import: zip_map },
];

type Emitted = Result<ValueId, ImportError>;

fn invalid(ctx: &NodeCtx, what: &str) -> ImportError {
    ImportError::invalid(format!("{} {what}", ctx.op_type))
}

/// Strings to integers or back, whichever way the input says.
fn category_mapper(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let (ints, strings) = (ctx.opt_ints("cats_int64s")?, ctx.opt_strings("cats_strings")?);
    let int = Tensor::new(&[1], vec![ctx.int("default_int64", -1)?]);
    let text = Tensor::from_strings(&[1], vec![ctx.str("default_string", "_Unused")?]);
    let (Some(ints), Some(strings)) = (ints, strings) else {
        return Err(invalid(ctx, "needs its `cats_int64s` and `cats_strings`"));
    };
    let (ints, strings) =
        (Tensor::new(&[ints.len()], ints), Tensor::from_strings(&[strings.len()], strings));
    let (keys, values, default) =
        if ctx.dtype(x)? == DType::String { (strings, ints, int) } else { (ints, strings, text) };
    let attrs = attrs! { to: values.dtype(), keys: keys, values: values, default: default };
    Ok(vec![ctx.emit(Op::LabelEncode, attrs, &[x])?])
}

/// The inputs as rows in f32, cut or filled up with zeros to their `inputdimensions`, side by side; a vector is one row.
fn feature_vectorizer(ctx: &mut NodeCtx) -> OpResult {
    let inputs = (0..ctx.inputs.len()).map(|i| ctx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let sizes = ctx.opt_ints("inputdimensions")?.filter(|s| !s.is_empty());
    if sizes.as_ref().is_some_and(|s| s.len() != inputs.len() || s.iter().any(|&n| n < 0)) {
        return Err(invalid(ctx, "needs one of `inputdimensions` for each input"));
    }
    let mut parts = vec![];
    for (i, x) in inputs.into_iter().enumerate() {
        let shape = ctx.shape_of(x)?;
        let (count, width) = match &shape[..] {
            [] => return Err(invalid(ctx, "takes no scalar")),
            [features] => (dim(1), features.clone()),
            [rows, rest @ ..] => (rows.clone(), product(rest)),
        };
        let mut part = ctx.reshape(x, vec![count, width.clone()])?;
        if let Some(sizes) = &sizes {
            let (Some(have), want) = (width.as_const(), sizes[i]) else {
                return Err(ImportError::open("FeatureVectorizer needs the width of its inputs", &width));
            };
            if want < have {
                part = ctx.narrow(part, 1, dim(0), dim(want))?;
            } else if want > have {
                part = ctx.pad(part, vec![dim(0); 2], vec![dim(0), dim(want - have)], "constant", None)?;
            }
        }
        parts.push(ctx.cast(part, DType::F32)?);
    }
    if parts.is_empty() {
        return Err(invalid(ctx, "needs an input"));
    }
    Ok(vec![ctx.concat(&parts, 1)?])
}

/// `replaced_value_*` (NaN equals NaN) becomes the imputed value of its column, or of all.
fn imputer(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let floats = ctx.opt_floats("imputed_value_floats")?.filter(|l| !l.is_empty());
    let ints = ctx.opt_ints("imputed_value_int64s")?.filter(|l| !l.is_empty());
    let replaced = ctx.float("replaced_value_float", 0.0)?;
    let replaced_int = ctx.int("replaced_value_int64", 0)?;
    let (values, replaced, is_nan) = match (floats, ints) {
        (Some(l), None) if dtype.is_float() => {
            (Tensor::new(&[l.len()], l), Tensor::scalar(replaced), replaced.is_nan())
        }
        (None, Some(l)) if !dtype.is_float() => {
            (Tensor::new(&[l.len()], l), Tensor::scalar(replaced_int), false)
        }
        _ => return Err(invalid(ctx, "needs imputed values, floats or integers as its input has")),
    };
    let columns = ctx.shape_of(x)?.last().and_then(egret_ir::Dim::as_const);
    if values.len() > 1 && columns.is_some_and(|c| c != values.len() as i64) {
        return Err(invalid(
            ctx,
            &format!("has {} imputed values for another number of columns", values.len()),
        ));
    }
    let values = ctx.builder.constant(values);
    let values = ctx.cast(values, dtype)?;
    let hit = if is_nan {
        ctx.unary(Op::IsNan, x)?
    } else {
        let replaced = ctx.builder.constant(replaced);
        let replaced = ctx.cast(replaced, dtype)?;
        ctx.binary(Op::Equal, x, replaced)?
    };
    Ok(vec![ctx.select(hit, values, x)?])
}

/// Rows divided by their norm, in f32; rows of norm 0 stay as they are. As in ONNX Runtime MAX is the greatest element, not the greatest
/// absolute value, and NaN does not count for it.
fn normalizer(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let rank = ctx.rank(x)?;
    if !(1..=2).contains(&rank) {
        return Err(invalid(ctx, &format!("takes rows (rank 1 or 2), not a tensor of rank {rank}")));
    }
    let x = ctx.cast(x, DType::F32)?;
    let last = vec![rank as i64 - 1];
    let norm = match ctx.str("norm", "MAX")?.as_str() {
        "MAX" => {
            let least = ctx.scalar(DType::F32, f64::from(f32::MIN))?;
            let nan = ctx.unary(Op::IsNan, x)?;
            let numbers = ctx.select(nan, least, x)?;
            ctx.reduce("max", numbers, last, true)?
        }
        "L1" => {
            let size = ctx.unary(Op::Abs, x)?;
            ctx.reduce("sum", size, last, true)?
        }
        "L2" => {
            let square = ctx.binary(Op::Mul, x, x)?;
            let sum = ctx.reduce("sum", square, last, true)?;
            ctx.unary(Op::Sqrt, sum)?
        }
        other => return Err(ctx.bad_attr("norm", other)),
    };
    let zero = ctx.zero(DType::F32);
    let none = ctx.binary(Op::Equal, norm, zero)?;
    let one = ctx.scalar(DType::F32, 1.0)?;
    let norm = ctx.select(none, one, norm)?;
    Ok(vec![ctx.binary(Op::Div, x, norm)?])
}

/// The integer part of a float, exactly: as f64.
fn whole(ctx: &mut NodeCtx, x: ValueId) -> Emitted {
    let x = ctx.cast(x, DType::F64)?;
    let zero = ctx.zero(DType::F64);
    let negative = ctx.binary(Op::Less, x, zero)?;
    let (up, down) = (ctx.unary(Op::Ceil, x)?, ctx.unary(Op::Floor, x)?);
    ctx.select(negative, up, down)
}

/// A new last axis with 1 at the category, in f32. Another category is zeros, or with `zeros` = 0 an error while the model runs: there it is looked up
/// in a table beyond whose end it lies.
fn one_hot_encoder(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ints = ctx.opt_ints("cats_int64s")?.filter(|l| !l.is_empty());
    let strings = ctx.opt_strings("cats_strings")?.filter(|l| !l.is_empty());
    let zeros = ctx.flag("zeros", true)?;
    let dtype = ctx.dtype(x)?;
    let repeated = || ImportError::invalid("OneHotEncoder has a category twice");
    // Numbers are compared as they are, strings by their places among the categories.
    let (x, categories) = match (ints, strings) {
        (Some(l), None) if dtype != DType::String => {
            if l.iter().collect::<BTreeSet<_>>().len() != l.len() {
                return Err(repeated());
            }
            let x = if dtype.is_float() { whole(ctx, x)? } else { ctx.cast(x, DType::I64)? };
            let to = ctx.dtype(x)?;
            let categories = ctx.ints_const(&l);
            (x, (ctx.cast(categories, to)?, l.len()))
        }
        (None, Some(l)) if dtype == DType::String => {
            if l.iter().collect::<BTreeSet<_>>().len() != l.len() {
                return Err(repeated());
            }
            let places: Vec<i64> = (0..l.len() as i64).collect();
            let categories = (ctx.ints_const(&places), l.len());
            let (keys, values) =
                (Tensor::from_strings(&[l.len()], l), Tensor::new(&[places.len()], places));
            let default = Tensor::new(&[1], vec![-1i64]);
            let attrs = attrs! { to: DType::I64, keys: keys, values: values, default: default };
            (ctx.emit(Op::LabelEncode, attrs, &[x])?, categories)
        }
        _ => return Err(invalid(ctx, "needs categories, strings or integers as its input has")),
    };
    let (categories, count) = categories;
    let rank = ctx.rank(x)?;
    let x = ctx.unsqueeze(x, rank)?;
    let equal = ctx.binary(Op::Equal, x, categories)?;
    let hot = ctx.cast(equal, DType::F32)?;
    if zeros {
        return Ok(vec![hot]);
    }
    let known = ctx.reduce("or", equal, vec![rank as i64], false)?;
    let attrs = attrs! { kind: "max", axis: rank as i64, keepdims: false, last: false };
    let place = ctx.emit(Op::ArgReduce, attrs, &[hot])?;
    let beyond = ctx.scalar(DType::I64, count as f64)?;
    let place = ctx.select(known, place, beyond)?;
    let identity: Vec<f32> =
        (0..count * count).map(|i| f32::from(u8::from(i % (count + 1) == 0))).collect();
    let identity = ctx.builder.constant(Tensor::new(&[count, count], identity));
    Ok(vec![ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[identity, place])?])
}

/// A sequence of maps is no value of Egret: its tensor stands for it, whose columns are the keys in their order.
/// `zipped_outputs` says so of an output.
fn zip_map(ctx: &mut NodeCtx) -> OpResult {
    let ints = ctx.opt_ints("classlabels_int64s")?.map(|l| l.len());
    let strings = ctx.opt_strings("classlabels_strings")?.map(|l| l.len());
    let x = ctx.input(0)?;
    let columns = ctx.shape_of(x)?.last().and_then(egret_ir::Dim::as_const);
    match (ints, strings) {
        (Some(n), None) | (None, Some(n)) if columns.is_none_or(|c| c == n as i64) => Ok(vec![x]),
        (Some(n), None) | (None, Some(n)) => {
            Err(invalid(ctx, &format!("has {n} labels for another number of columns")))
        }
        _ => Err(invalid(ctx, "needs one of `classlabels_int64s` and `classlabels_strings`")),
    }
}
