//! Order among elements: sorting, distinct elements, selection by score.

use super::{Call, dims, one, unknown};
use crate::families::Sort;
use crate::{DType, Dim, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Sort, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Sort::TopK => top_k(call),
        Sort::Nms => nms(call),
        Sort::Unique => unique(call),
    }
}

fn top_k(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let axis = call.axis("axis", x.rank())?;
    let k = call.attrs.dim("k");
    match (k.as_const(), x.shape[axis].as_const()) {
        (Some(k), Some(d)) if k > d => {
            return Err(format!("`k` is {k}, more than there is along axis {axis} of {x}"));
        }
        (Some(k), _) if k < 0 => return Err(format!("`k` is {k}, which is negative")),
        _ => {}
    }
    let mut shape = x.shape.clone();
    shape[axis] = k.clone();
    Ok(vec![Type::tensor(x.dtype, shape.clone()), Type::tensor(DType::I64, shape)])
}

fn nms(call: &Call) -> Result<Vec<Type>, String> {
    let (boxes, scores) = (call.tensor(0)?, call.tensor(1)?);
    for (i, t) in [boxes, scores].into_iter().enumerate() {
        call.expect_dtype(i, t, DType::F32)?;
        call.expect_rank(i, t, 3)?;
    }
    let same = |a: &Dim, b: &Dim| dims::may_equal(a, b);
    if !same(&boxes.shape[0], &scores.shape[0])
        || !same(&boxes.shape[1], &scores.shape[2])
        || !same(&boxes.shape[2], &Dim::constant(4))
    {
        return Err(format!(
            "boxes {boxes} and scores {scores} are not [batches, n, 4] and [batches, classes, n]"
        ));
    }
    for (i, dtype) in [(2, DType::I64), (3, DType::F32), (4, DType::F32)] {
        if let Some(t) = call.optional_tensor(i)? {
            call.expect_dtype(i, t, dtype)?;
            call.expect_single(i, t)?;
        }
    }
    one(DType::I64, vec![unknown(), Dim::constant(3)])
}

fn unique(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let (values, inverse) = if call.attrs.flag("flat") {
        (vec![unknown()], dims::count(&x.shape).unwrap_or_else(unknown))
    } else {
        let axis = call.axis("axis", x.rank())?;
        let mut shape = x.shape.clone();
        shape[axis] = unknown();
        (shape, x.shape[axis].clone())
    };
    let vector = |dim| Type::tensor(DType::I64, vec![dim]);
    Ok(vec![Type::tensor(x.dtype, values), vector(unknown()), vector(inverse), vector(unknown())])
}
