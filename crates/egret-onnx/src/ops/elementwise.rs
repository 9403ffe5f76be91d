//! Elementwise arithmetic, comparison, logic, bits, rounding and conversion.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OnnxAttr, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("Abs", 1, |c| unary(c, Op::Abs)),
    onnx("Acos", 7, |c| unary(c, Op::Acos)),
    onnx("Acosh", 9, |c| unary(c, Op::Acosh)),
    onnx("Add", 1, |c| binary(c, Op::Add)),
    onnx("And", 1, |c| binary(c, Op::And)),
    onnx("Asin", 7, |c| unary(c, Op::Asin)),
    onnx("Asinh", 9, |c| unary(c, Op::Asinh)),
    onnx("Atan", 7, |c| unary(c, Op::Atan)),
    onnx("Atanh", 9, |c| unary(c, Op::Atanh)),
    onnx("BitCast", 1, bit_cast),
    onnx("BitShift", 11, bit_shift),
    onnx("BitwiseAnd", 18, |c| binary(c, Op::BitAnd)),
    onnx("BitwiseNot", 18, |c| unary(c, Op::BitNot)),
    onnx("BitwiseOr", 18, |c| binary(c, Op::BitOr)),
    onnx("BitwiseXor", 18, |c| binary(c, Op::BitXor)),
    onnx("Cast", 1, cast),
    onnx("CastLike", 15, cast_like),
    onnx("Ceil", 1, |c| unary(c, Op::Ceil)),
    onnx("Cos", 7, |c| unary(c, Op::Cos)),
    onnx("Cosh", 9, |c| unary(c, Op::Cosh)),
    onnx("Div", 1, |c| binary(c, Op::Div)),
    onnx("Dropout", 1, dropout),
    onnx("Equal", 1, |c| binary(c, Op::Equal)),
    onnx("Erf", 9, |c| unary(c, Op::Erf)),
    onnx("Exp", 1, |c| unary(c, Op::Exp)),
    onnx("Floor", 1, |c| unary(c, Op::Floor)),
    onnx("Greater", 1, |c| swapped(c, Op::Less)),
    onnx("GreaterOrEqual", 12, |c| swapped(c, Op::LessEqual)),
    onnx("Identity", 1, |c| Ok(vec![c.input(0)?])),
    onnx("IsInf", 10, is_inf),
    onnx("IsNaN", 9, |c| unary(c, Op::IsNan)),
    onnx("Less", 1, |c| binary(c, Op::Less)),
    onnx("LessOrEqual", 12, |c| binary(c, Op::LessEqual)),
    onnx("Log", 1, |c| unary(c, Op::Log)),
    onnx("Max", 1, |c| Ok(vec![variadic(c, Op::Max)?])),
    onnx("Mean", 1, mean),
    onnx("Min", 1, |c| Ok(vec![variadic(c, Op::Min)?])),
    onnx("Mod", 10, modulo),
    onnx("Mul", 1, |c| binary(c, Op::Mul)),
    onnx("Neg", 1, |c| unary(c, Op::Neg)),
    onnx("Not", 1, |c| unary(c, Op::Not)),
    onnx("Or", 1, |c| binary(c, Op::Or)),
    onnx("Pow", 1, pow),
    onnx("Reciprocal", 1, reciprocal),
    onnx("Round", 11, |c| unary(c, Op::Round)),
    onnx("Sigmoid", 1, |c| unary(c, Op::Sigmoid)),
    onnx("Sign", 9, |c| unary(c, Op::Sign)),
    onnx("Sin", 7, |c| unary(c, Op::Sin)),
    onnx("Sinh", 9, |c| unary(c, Op::Sinh)),
    onnx("Sqrt", 1, |c| unary(c, Op::Sqrt)),
    onnx("Sub", 1, |c| binary(c, Op::Sub)),
    onnx("Sum", 1, |c| Ok(vec![variadic(c, Op::Add)?])),
    onnx("Tan", 7, |c| unary(c, Op::Tan)),
    onnx("Tanh", 1, |c| unary(c, Op::Tanh)),
    onnx("Where", 9, where_),
    onnx("Xor", 1, |c| binary(c, Op::Xor)),
];

/// Opset 1 marked inputs that an implementation may overwrite; it means nothing here.
pub(super) fn skip_consumed(ctx: &mut NodeCtx) {
    if ctx.opset < 6 {
        ctx.take("consumed_inputs");
    }
}

/// One primitive on the first input.
pub(super) fn unary(ctx: &mut NodeCtx, op: Op) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    Ok(vec![ctx.unary(op, x)?])
}

/// The two operands, the second brought into place where an old opset's `axis` says which axes of the first it stands for.
fn operands(ctx: &mut NodeCtx) -> Result<(ValueId, ValueId), ImportError> {
    let (a, b) = (ctx.input(0)?, ctx.input(1)?);
    if ctx.opset >= 7 {
        return Ok((a, b));
    }
    skip_consumed(ctx);
    ctx.take("broadcast");
    let Some(axis) = ctx.opt_int("axis")? else { return Ok((a, b)) };
    let (rank, mut shape) = (ctx.rank(a)?, ctx.tensor(b)?.shape);
    let start = ctx.axis(axis, rank.max(1))?;
    let Some(trailing) = rank.checked_sub(start + shape.len()) else {
        return Err(ImportError::invalid(format!("axis {axis} leaves no room for the second operand")));
    };
    shape.extend(std::iter::repeat_n(Dim::constant(1), trailing));
    Ok((a, ctx.reshape(b, shape)?))
}

fn binary(ctx: &mut NodeCtx, op: Op) -> OpResult {
    let (a, b) = operands(ctx)?;
    Ok(vec![ctx.binary(op, a, b)?])
}

fn swapped(ctx: &mut NodeCtx, op: Op) -> OpResult {
    let (a, b) = operands(ctx)?;
    Ok(vec![ctx.binary(op, b, a)?])
}

fn variadic(ctx: &mut NodeCtx, op: Op) -> Result<ValueId, ImportError> {
    skip_consumed(ctx);
    let mut result = ctx.input(0)?;
    for i in 1..ctx.inputs.len() {
        let next = ctx.input(i)?;
        result = ctx.binary(op, result, next)?;
    }
    Ok(result)
}

fn mean(ctx: &mut NodeCtx) -> OpResult {
    let sum = variadic(ctx, Op::Add)?;
    let count = ctx.inputs.len();
    Ok(vec![if count == 1 { sum } else { ctx.with_scalar(Op::Div, sum, count as f64)? }])
}

fn reciprocal(ctx: &mut NodeCtx) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let one = ctx.scalar(dtype, 1.0)?;
    Ok(vec![ctx.binary(Op::Div, one, x)?])
}

fn modulo(ctx: &mut NodeCtx) -> OpResult {
    let (a, b) = operands(ctx)?;
    let fmod = ctx.flag("fmod", false)?;
    Ok(vec![ctx.emit(Op::Mod, attrs! { fmod: fmod }, &[a, b])?])
}

fn pow(ctx: &mut NodeCtx) -> OpResult {
    let (a, b) = operands(ctx)?;
    let (x, y) = (ctx.dtype(a)?, ctx.dtype(b)?);
    // The result has the type of the base; it is computed in a type that holds both.
    let common = match (x.is_float(), y.is_float()) {
        _ if x == y => x,
        (true, _) => x,
        (false, true) => DType::F64,
        (false, false) => DType::I64,
    };
    let (a, b) = (ctx.cast(a, common)?, ctx.cast(b, common)?);
    let power = ctx.binary(Op::Pow, a, b)?;
    Ok(vec![ctx.cast(power, x)?])
}

fn bit_shift(ctx: &mut NodeCtx) -> OpResult {
    let op = match ctx.str("direction", "")?.as_str() {
        "LEFT" => Op::ShiftLeft,
        "RIGHT" => Op::ShiftRight,
        other => return Err(ctx.bad_attr("direction", format!("{other:?}"))),
    };
    binary(ctx, op)
}

fn is_inf(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let (positive, negative) = (ctx.flag("detect_positive", true)?, ctx.flag("detect_negative", true)?);
    Ok(vec![ctx.emit(Op::IsInf, attrs! { positive: positive, negative: negative }, &[x])?])
}

fn where_(ctx: &mut NodeCtx) -> OpResult {
    let (cond, a, b) = (ctx.input(0)?, ctx.input(1)?, ctx.input(2)?);
    Ok(vec![ctx.select(cond, a, b)?])
}

fn cast_to(ctx: &mut NodeCtx, x: ValueId, to: DType) -> OpResult {
    let saturate = ctx.flag("saturate", true)?;
    let round = ctx.str("round_mode", "up")?;
    if ctx.dtype(x)? == to {
        return Ok(vec![x]);
    }
    // The rounding mode is that of the one type without fractions, f8e8m0; everything else rounds to nearest.
    let round = if to == DType::F8E8M0 { round } else { "nearest".to_owned() };
    // A float wraps into a few-bit integer like an integer does; the primitive alone would saturate.
    let few_bits = matches!(to, DType::I2 | DType::U2 | DType::I4 | DType::U4);
    let x = if few_bits && ctx.dtype(x)?.is_float() { ctx.cast(x, DType::I32)? } else { x };
    Ok(vec![ctx.emit(Op::Cast, attrs! { to: to, saturate: saturate, round: round }, &[x])?])
}

fn cast(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let to = match ctx.take("to") {
        Some(OnnxAttr::Int(code)) => crate::data::dtype(i32::try_from(code).unwrap_or(-1))?,
        // Opset 1 spells it out.
        Some(OnnxAttr::String(name)) => {
            dtype_named(&name).ok_or_else(|| ctx.bad_attr("to", format!("{name:?}")))?
        }
        _ => return Err(ImportError::invalid("Cast needs the attribute `to`")),
    };
    cast_to(ctx, x, to)
}

fn dtype_named(name: &str) -> Option<DType> {
    Some(match name {
        "FLOAT" => DType::F32,
        "UINT8" => DType::U8,
        "INT8" => DType::I8,
        "UINT16" => DType::U16,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        "STRING" => DType::String,
        "BOOL" => DType::Bool,
        "FLOAT16" => DType::F16,
        "DOUBLE" => DType::F64,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        _ => return None,
    })
}

fn cast_like(ctx: &mut NodeCtx) -> OpResult {
    let (x, like) = (ctx.input(0)?, ctx.input(1)?);
    let to = ctx.dtype(like)?;
    cast_to(ctx, x, to)
}

fn bit_cast(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let Some(to) = ctx.opt_dtype("to")? else {
        return Err(ImportError::invalid("BitCast needs the attribute `to`"));
    };
    Ok(vec![ctx.emit(Op::BitCast, attrs! { to: to }, &[x])?])
}

fn dropout(ctx: &mut NodeCtx) -> OpResult {
    skip_consumed(ctx);
    let x = ctx.input(0)?;
    let seed = ctx.opt_int("seed")?.map(|s| s as f64);
    let seed = super::random::seed_or_place(ctx, seed);
    let mut ratio = f64::from(ctx.float("ratio", 0.5)?);
    let mut training = ctx.opset < 7 && ctx.int("is_test", 0)? == 0 && ctx.wanted.get(1) == Some(&true);
    if let Some(r) = ctx.opt_input(1) {
        ratio = ctx.need_floats(r, "the ratio of Dropout")?.first().copied().unwrap_or(0.0);
    }
    if let Some(t) = ctx.opt_input(2) {
        training = ctx.need_const(t, "the training mode of Dropout")?.bytes().first() == Some(&1);
    }
    if training && ratio != 0.0 {
        return drop(ctx, x, ratio, seed);
    }
    let ty = ctx.tensor(x)?;
    // Before opset 10 the mask has the type of the data.
    let kept = ctx.builder.constant(Tensor::from_bools(&[], &[true]));
    let kept = if ctx.opset < 10 { ctx.cast(kept, ty.dtype)? } else { kept };
    Ok(vec![x, if ctx.wanted.get(1) == Some(&true) { ctx.broadcast(kept, ty.shape)? } else { kept }])
}

/// Each element is dropped with the probability `ratio`, the others are divided by the share that is kept: by which draw says the mask.
fn drop(ctx: &mut NodeCtx, x: ValueId, ratio: f64, seed: f64) -> OpResult {
    if !(0.0..1.0).contains(&ratio) {
        return Err(ImportError::invalid(format!(
            "the ratio of Dropout is {ratio}, but must be in [0, 1)"
        )));
    }
    let ty = ctx.tensor(x)?;
    let scalar = |ctx: &mut NodeCtx, v: f64, dtype| {
        let v = ctx.builder.constant(Tensor::scalar(v as f32));
        ctx.cast(v, dtype)
    };
    let draw = super::random::uniform(ctx, DType::F32, ty.shape, 0.0, 1.0, seed)?;
    let least = scalar(ctx, ratio, DType::F32)?;
    let kept = ctx.binary(Op::LessEqual, least, draw)?;
    let mask = ctx.cast(kept, ty.dtype)?;
    let scale = scalar(ctx, 1.0 / (1.0 - ratio), ty.dtype)?;
    let scaled = ctx.binary(Op::Mul, x, scale)?;
    let y = ctx.binary(Op::Mul, scaled, mask)?;
    // Before opset 10 the mask has the type of the data.
    Ok(vec![y, if ctx.opset < 10 { mask } else { kept }])
}
