//! Elementwise operations: operands of one element type broadcast against each other.

use super::{Call, dims, one};
use crate::families::Elementwise;
use crate::{DType, Shape, Type};

/// The types of the results of an operation of this family: the op table says all, but of the two whose operands differ.
pub(super) fn infer(op: Elementwise, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Elementwise::Cast => cast(call),
        Elementwise::Where => select(call),
        _ => broadcasting(call),
    }
}

/// Any operation whose operands share one element type; the op table names the result's.
pub(super) fn broadcasting(call: &Call) -> Result<Vec<Type>, String> {
    let first = call.bounded(0)?;
    for i in 1..call.operands.len() {
        let other = call.bounded(i)?;
        if other.dtype != first.dtype {
            return Err(format!("the operands {first} and {other} have different element types"));
        }
    }
    let dtype = match call.op.info().result {
        "same" => first.dtype,
        name => DType::from_name(name)
            .ok_or_else(|| format!("the op table names the unknown element type {name}"))?,
    };
    one(dtype, joint_shape(call, 0)?)
}

/// The shape that the operands from `start` on broadcast to.
fn joint_shape(call: &Call, start: usize) -> Result<Shape, String> {
    let mut shape = call.tensor(start)?.shape.clone();
    for i in start + 1..call.operands.len() {
        let other = call.tensor(i)?;
        shape = dims::broadcast(&shape, &other.shape).ok_or_else(|| {
            format!("the shape {shape:?} does not broadcast against operand {i}, {other}")
        })?;
    }
    Ok(shape)
}

fn cast(call: &Call) -> Result<Vec<Type>, String> {
    one(call.attrs.dtype("to"), call.tensor(0)?.shape.clone())
}

fn select(call: &Call) -> Result<Vec<Type>, String> {
    let (cond, a, b) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    call.expect_dtype(0, cond, DType::Bool)?;
    if a.dtype != b.dtype {
        return Err(format!("the operands {a} and {b} have different element types"));
    }
    one(a.dtype, joint_shape(call, 0)?)
}
