//! Linear algebra beyond products.

use super::{Call, dims, one};
use crate::Type;
use crate::families::Linalg;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Linalg, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Linalg::Det => det(call),
    }
}

fn det(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let [batch @ .., m, n] = x.shape.as_slice() else { return Err(format!("{x} has no matrices")) };
    if !dims::may_equal(m, n) {
        return Err(format!("the matrices of {x} are not square"));
    }
    one(x.dtype, batch)
}
