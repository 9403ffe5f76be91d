//! What transformers are made of: rotary embedding.

use super::{Call, dims, one};
use crate::{Dim, Type};

/// Refuse operand `i` unless it broadcasts to `shape` without making it larger.
fn expect_broadcasts_to(call: &Call, i: usize, shape: &[Dim]) -> Result<(), String> {
    let t = call.tensor(i)?;
    let joint = dims::broadcast(shape, &t.shape);
    if joint.is_some_and(|joint| dims::shapes_may_equal(&joint, shape)) {
        Ok(())
    } else {
        Err(format!("{} is {t}, which does not broadcast to {shape:?}", call.operand_name(i)))
    }
}

pub(super) fn rotary(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let Some(last) = x.shape.last() else { return Err(format!("operand `x` is {x}, which has no axis to rotate along")) };
    if last.as_const().is_some_and(|d| d % 2 != 0) {
        return Err(format!("operand `x` is {x}, but the size of its last axis must be even"));
    }
    for i in 1..3 {
        call.expect_dtype(i, call.tensor(i)?, x.dtype)?;
        expect_broadcasts_to(call, i, &x.shape)?;
    }
    one(x.dtype, x.shape.clone())
}
