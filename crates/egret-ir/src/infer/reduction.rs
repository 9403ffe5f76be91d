//! Reductions over axes, and running ones along an axis.

use super::{Call, check, one};
use crate::families::Reduction;
use crate::{DType, Dim, Shape, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Reduction, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Reduction::Reduce => reduce(call),
        Reduction::ArgReduce => arg_reduce(call),
        Reduction::Cumulative => cumulative(call),
    }
}

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

fn reduce(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let kind = call.attrs.str("kind");
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

fn arg_reduce(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let axis = call.axis("axis", x.rank())?;
    let found = drop_axes(&x.shape, &[axis], call.attrs.flag("keepdims"));
    let is_empty = |d: &Dim| d.as_const() == Some(0);
    if is_empty(&x.shape[axis]) && !found.iter().any(is_empty) {
        return Err(format!("axis {axis} of {x} is empty and has no extremum"));
    }
    one(DType::I64, found)
}

fn cumulative(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.axis("axis", x.rank())?;
    one(x.dtype, x.shape.clone())
}
