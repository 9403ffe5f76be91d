//! Elementwise operations.

use super::Spelling::{self, Nodes, Same};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Elementwise as E;
use egret_ir::{DType, Node, Op, ValueId};

pub(super) fn spelling(op: E) -> Spelling {
    match op {
        E::Neg => Nodes("Neg (Sub from 0 for unsigned integers)", neg),
        E::Abs => Same("Abs"),
        E::Sign => Same("Sign"),
        E::Floor => Same("Floor"),
        E::Ceil => Same("Ceil"),
        E::Round => Same("Round"),
        E::Sqrt => Same("Sqrt"),
        E::Exp => Same("Exp"),
        E::Log => Same("Log"),
        E::Sin => Same("Sin"),
        E::Cos => Same("Cos"),
        E::Tan => Same("Tan"),
        E::Asin => Same("Asin"),
        E::Acos => Same("Acos"),
        E::Atan => Same("Atan"),
        E::Sinh => Same("Sinh"),
        E::Cosh => Same("Cosh"),
        E::Tanh => Same("Tanh"),
        E::Asinh => Same("Asinh"),
        E::Acosh => Same("Acosh"),
        E::Atanh => Same("Atanh"),
        E::Erf => Same("Erf"),
        E::Sigmoid => Same("Sigmoid"),
        E::Softplus => Same("Softplus"),
        E::Gelu => Nodes("Gelu", gelu),
        E::Silu => Nodes("Mul by Sigmoid", silu),
        E::HardSwish => Same("HardSwish"),
        E::Not => Same("Not"),
        E::BitNot => Same("BitwiseNot"),
        E::IsNan => Same("IsNaN"),
        E::IsInf => Nodes("IsInf", is_inf),
        E::Cast => Nodes(
            "Cast; QuantizeLinear of rounded floats as 8- and 16-bit integers, Clip before Cast of others",
            cast,
        ),
        E::Add => Same("Add"),
        E::Sub => Same("Sub"),
        E::Mul => Same("Mul"),
        E::Div => Same("Div"),
        E::Mod => Nodes("Mod (with Where for floats with the sign of the divisor)", modulo),
        E::Pow => Same("Pow"),
        E::Max => Same("Max"),
        E::Min => Same("Min"),
        E::And => Same("And"),
        E::Or => Same("Or"),
        E::Xor => Same("Xor"),
        E::BitAnd => Same("BitwiseAnd"),
        E::BitOr => Same("BitwiseOr"),
        E::BitXor => Same("BitwiseXor"),
        E::ShiftLeft => Nodes("BitShift, in unsigned integers", |c| shift(c, "LEFT")),
        E::ShiftRight => Nodes("BitShift, in unsigned integers", |c| shift(c, "RIGHT")),
        E::Equal => Same("Equal"),
        E::Less => Same("Less"),
        E::LessEqual => Same("LessOrEqual"),
        E::Where => Same("Where"),
    }
}

fn neg(c: &mut Call<'_, '_>) -> Written {
    let (x, dtype) = (c.opt(0), c.ty(0)?.dtype);
    if dtype.is_float() || dtype.is_signed_int() {
        return Ok(vec![c.op("Neg", &[&x], vec![])]);
    }
    let zero = c.number(dtype, 0.0)?;
    Ok(vec![c.op("Sub", &[&zero, &x], vec![])])
}

fn gelu(c: &mut Call<'_, '_>) -> Written {
    let (x, how) = (c.opt(0), c.attrs().str("approximate").to_owned());
    Ok(vec![c.op("Gelu", &[&x], vec![proto::text("approximate", &how)])])
}

/// Rounded once: in f32 for smaller floats.
fn silu(c: &mut Call<'_, '_>) -> Written {
    let (mut x, dtype) = (c.opt(0), c.ty(0)?.dtype);
    let narrow = matches!(dtype, DType::F16 | DType::BF16);
    if narrow {
        x = c.cast(&x, DType::F32);
    }
    let gate = c.op("Sigmoid", &[&x], vec![]);
    let y = c.op("Mul", &[&x, &gate], vec![]);
    Ok(vec![if narrow { c.cast(&y, dtype) } else { y }])
}

fn is_inf(c: &mut Call<'_, '_>) -> Written {
    let x = c.opt(0);
    let attributes = vec![
        proto::int("detect_negative", c.attrs().int("negative")),
        proto::int("detect_positive", c.attrs().int("positive")),
    ];
    Ok(vec![c.op("IsInf", &[&x], attributes)])
}

fn cast(c: &mut Call<'_, '_>) -> Written {
    let (from, to) = (c.ty(0)?.dtype, c.attrs().dtype("to"));
    if matches!(to, DType::I8 | DType::U8 | DType::I16 | DType::U16) && from.is_float() {
        return saturated(c, from, to);
    }
    let x = c.opt(0);
    let mut attributes = vec![proto::int("to", proto::code(to))];
    // Only 8-bit floats ask for it.
    if !c.attrs().flag("saturate") {
        attributes.push(proto::int("saturate", 0));
    }
    if to == DType::F8E8M0 {
        attributes.push(proto::text("round_mode", c.attrs().str("round")));
    }
    Ok(vec![c.op("Cast", &[&x], attributes)])
}

/// The least and the largest number of a small integer type.
fn bounds(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I16 => (-32768.0, 32767.0),
        _ => (0.0, 65535.0),
    }
}

/// A float as a small integer. ONNX leaves open what becomes of one out of range: it is clipped, or quantised, which saturates.
fn saturated(c: &mut Call<'_, '_>, from: DType, to: DType) -> Written {
    if from == DType::F32
        && let Some(quantised) = quantised(c, to)
    {
        return Ok(vec![quantised]);
    }
    let mut x = c.opt(0);
    // The bounds are numbers of the type that is clipped.
    let work = if from == DType::F64 { from } else { DType::F32 };
    if from != work {
        x = c.cast(&x, work);
    }
    let (low, high) = bounds(to);
    let (low, high) = (c.number(work, low)?, c.number(work, high)?);
    let x = c.op("Clip", &[&x, &low, &high], vec![]);
    Ok(vec![c.cast(&x, to)])
}

/// The node that makes a value, if it is of an operation.
fn made_by<'g>(c: &Call<'g, '_>, v: ValueId, op: Op) -> Option<&'g Node> {
    c.graph.producer(v).map(|n| c.graph.node(n)).filter(|n| n.op == op)
}

/// One number that is known.
fn known(c: &Call<'_, '_>, v: ValueId) -> Option<f32> {
    let t = c.graph.as_const(v).filter(|t| t.dtype() == DType::F32 && t.rank() == 0)?;
    t.data::<f32>().first().copied()
}

/// The integer of a type, without axes, that a float stands for.
fn cast_of(c: &Call<'_, '_>, v: ValueId, dtype: DType) -> Option<ValueId> {
    let from = made_by(c, v, Op::Cast)?.operand(0);
    c.graph.ty(from).as_tensor().filter(|t| t.dtype == dtype && t.rank() == 0).map(|_| from)
}

/// `round(x / scale) + zero` as QuantizeLinear; where there is no scale it is 1. Scale and zero point are constants, or computed.
fn quantised(c: &mut Call<'_, '_>, to: DType) -> Option<String> {
    let (low, high) = bounds(to);
    let mut x = c.value(0)?;
    let mut zero = None;
    if let Some(add) = made_by(c, x, Op::Add) {
        let [Some(a), Some(b)] = add.operands[..] else { return None };
        let is_point = |v: ValueId| known(c, v).is_some() || cast_of(c, v, to).is_some();
        let (value, by) = if is_point(b) { (a, b) } else { (b, a) };
        zero = match (known(c, by), cast_of(c, by, to)) {
            (Some(0.0), _) => None,
            (Some(z), _) if z == z.round() && (low..=high).contains(&f64::from(z)) => {
                Some(c.number(to, z.into()).ok()?)
            }
            (None, Some(point)) => Some(c.writer.name(c.graph, point)),
            _ => return None,
        };
        x = value;
    }
    x = made_by(c, x, Op::Round)?.operand(0);
    let mut scale = None;
    if let Some(div) = made_by(c, x, Op::Div) {
        let by = div.operand(1);
        let plain = c.graph.ty(by).as_tensor().is_some_and(|t| t.dtype == DType::F32 && t.rank() == 0);
        if known(c, by).map_or(plain, |by| by > 0.0 && by.is_finite()) {
            (x, scale) = (div.operand(0), Some(c.writer.name(c.graph, by)));
        }
    }
    let x = c.writer.name(c.graph, x);
    let scale = scale.or_else(|| c.number(DType::F32, 1.0).ok())?;
    let Some(zero) = zero else {
        let to = proto::int("output_dtype", proto::code(to));
        return Some(c.op("QuantizeLinear", &[&x, &scale], vec![to]));
    };
    Some(c.op("QuantizeLinear", &[&x, &scale, &zero], vec![]))
}

fn modulo(c: &mut Call<'_, '_>) -> Written {
    let (a, b, dtype) = (c.opt(0), c.opt(1), c.ty(0)?.dtype);
    if c.attrs().flag("fmod") || !dtype.is_float() {
        let fmod = proto::int("fmod", c.attrs().int("fmod"));
        return Ok(vec![c.op("Mod", &[&a, &b], vec![fmod])]);
    }
    // ONNX has no such remainder of floats: b is added where the signs of the other one and of b differ.
    let zero = c.number(dtype, 0.0)?;
    let rest = c.op("Mod", &[&a, &b], vec![proto::int("fmod", 1)]);
    let product = c.op("Mul", &[&rest, &b], vec![]);
    let differ = c.op("Less", &[&product, &zero], vec![]);
    let shifted = c.op("Add", &[&rest, &b], vec![]);
    Ok(vec![c.op("Where", &[&differ, &shifted, &rest], vec![])])
}

/// BitShift is there for unsigned integers only; those of less than 32 bits are shifted in 32.
fn shift(c: &mut Call<'_, '_>, direction: &'static str) -> Written {
    let (mut a, b, dtype) = (c.opt(0), c.opt(1), c.ty(0)?.dtype);
    let direction = vec![proto::text("direction", direction)];
    let (signed, unsigned) = match dtype {
        DType::U8 | DType::U32 | DType::U64 => return Ok(vec![c.op("BitShift", &[&a, &b], direction)]),
        DType::I8 | DType::I16 | DType::I32 | DType::U16 => (DType::I32, DType::U32),
        DType::I64 => (DType::I64, DType::U64),
        other => return Err(ExportError::new(format!("ONNX shifts no {other}"))),
    };
    let by = c.cast(&b, unsigned);
    if direction[0].s == b"LEFT" || dtype == DType::U16 {
        let bits = c.cast(&a, unsigned);
        let shifted = c.op("BitShift", &[&bits, &by], direction);
        return Ok(vec![c.cast(&shifted, dtype)]);
    }
    // Of a negative number the complement is shifted.
    if dtype != signed {
        a = c.cast(&a, signed);
    }
    let zero = c.number(signed, 0.0)?;
    let negative = c.op("Less", &[&a, &zero], vec![]);
    let flipped = c.op("BitwiseNot", &[&a], vec![]);
    let positive = c.op("Where", &[&negative, &flipped, &a], vec![]);
    let bits = c.cast(&positive, unsigned);
    let shifted = c.op("BitShift", &[&bits, &by], direction);
    let shifted = c.cast(&shifted, signed);
    let back = c.op("BitwiseNot", &[&shifted], vec![]);
    let y = c.op("Where", &[&negative, &back, &shifted], vec![]);
    Ok(vec![if dtype == signed { y } else { c.cast(&y, dtype) }])
}
