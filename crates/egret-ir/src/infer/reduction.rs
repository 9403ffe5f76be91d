//! Reductions, scans along an axis, sorting and selection by score.

use super::{Call, check, dims, one, unknown};
use crate::{DType, Dim, Shape, Type};

fn drop_axes(shape: &[Dim], axes: &[usize], keep: bool) -> Shape {
    let mut out = vec![];
    for (i, dim) in shape.iter().enumerate() {
        match (axes.contains(&i), keep) {
            (true, true) => out.push(Dim::constant(1)),
            (true, false) => {}
            (false, _) => out.push(dim.clone()),
        }
    }
    out
}

pub(super) fn reduce(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let kind = call.one_of("kind", &["sum", "prod", "max", "min", "and", "or"])?;
    let bound = if matches!(kind, "and" | "or") { "bool" } else { "number" };
    if !check::within(bound, x.dtype) {
        return Err(format!("operand `x` is {x}, but `{kind}` needs {}", check::bound_text(bound)));
    }
    let axes = call.attrs.ints("axes");
    let fits = axes.iter().all(|&a| usize::try_from(a).is_ok_and(|a| a < x.rank()));
    if !fits || !axes.windows(2).all(|w| w[0] < w[1]) {
        return Err(format!("`axes` {axes:?} are not sorted, distinct axes of {x}"));
    }
    let axes: Vec<usize> = axes.iter().map(|&a| a as usize).collect();
    one(x.dtype, drop_axes(&x.shape, &axes, call.attrs.flag("keepdims")))
}

pub(super) fn arg_reduce(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.one_of("kind", &["max", "min"])?;
    let axis = call.axis("axis", x.rank())?;
    if x.shape[axis].as_const() == Some(0) {
        return Err(format!("axis {axis} of {x} is empty and has no extremum"));
    }
    one(DType::I64, drop_axes(&x.shape, &[axis], call.attrs.flag("keepdims")))
}

/// Operations that keep the shape of x and work along `axis`; `kinds` are the allowed values of `kind`, if there is one.
pub(super) fn along_axis(call: &Call, kinds: &[&str]) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.axis("axis", x.rank())?;
    if !kinds.is_empty() {
        call.one_of("kind", kinds)?;
    }
    one(x.dtype, x.shape.clone())
}

pub(super) fn top_k(call: &Call) -> Result<Vec<Type>, String> {
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

pub(super) fn nms(call: &Call) -> Result<Vec<Type>, String> {
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
