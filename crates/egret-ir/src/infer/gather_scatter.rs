//! Elements at places that only the data name: gathers, scatters, selection by a condition.

use super::{Call, dims, one, unknown};
use crate::families::GatherScatter;
use crate::{DType, Dim, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: GatherScatter, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        GatherScatter::Gather => gather(call),
        GatherScatter::GatherElements => gather_elements(call),
        GatherScatter::GatherNd => gather_nd(call),
        GatherScatter::ScatterElements => scatter_elements(call),
        GatherScatter::ScatterNd => scatter_nd(call),
        GatherScatter::ReverseSequence => reverse_sequence(call),
        GatherScatter::Nonzero => nonzero(call),
        GatherScatter::Compress => compress(call),
    }
}

fn gather(call: &Call) -> Result<Vec<Type>, String> {
    let (x, indices) = (call.tensor(0)?, call.integers(1)?);
    let axis = call.axis("axis", x.rank())?;
    let mut shape = x.shape[..axis].to_vec();
    shape.extend_from_slice(&indices.shape);
    shape.extend_from_slice(&x.shape[axis + 1..]);
    one(x.dtype, shape)
}

fn gather_elements(call: &Call) -> Result<Vec<Type>, String> {
    let (x, indices) = (call.tensor(0)?, call.integers(1)?);
    let axis = call.axis("axis", x.rank())?;
    within_except(call, axis)?;
    one(x.dtype, indices.shape.clone())
}

/// `indices` (operand 1) has the rank of x (operand 0) and reaches beyond it along `axis` at most.
fn within_except(call: &Call, axis: usize) -> Result<(), String> {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let fits = |(k, (i, d)): (usize, (&Dim, &Dim))| {
        k == axis || !matches!((i.as_const(), d.as_const()), (Some(i), Some(d)) if i > d)
    };
    if indices.rank() != x.rank() || !indices.shape.iter().zip(&x.shape).enumerate().all(fits) {
        return Err(format!("the indices {indices} do not fit into {x} along axis {axis}"));
    }
    Ok(())
}

/// The length of the index tuples in `indices`, which has to be known.
fn tuple_len(call: &Call) -> Result<usize, String> {
    let indices = call.integers(1)?;
    let last = indices.shape.last().ok_or_else(|| format!("the indices {indices} have no last axis"))?;
    last.as_const()
        .and_then(|c| usize::try_from(c).ok())
        .ok_or_else(|| format!("the last dim of the indices {indices} is not constant"))
}

fn gather_nd(call: &Call) -> Result<Vec<Type>, String> {
    let (x, indices) = (call.tensor(0)?, call.integers(1)?);
    let (tuple, batch) = (tuple_len(call)?, call.count("batch_dims")?);
    let misfit = || format!("the indices {indices} with {batch} batch axes do not fit {x}");
    if batch >= indices.rank() || batch.saturating_add(tuple) > x.rank() {
        return Err(misfit());
    }
    let mut shape = vec![];
    for (a, b) in indices.shape[..batch].iter().zip(&x.shape) {
        shape.push(dims::same(a, b).ok_or_else(misfit)?);
    }
    shape.extend_from_slice(&indices.shape[batch..indices.rank() - 1]);
    shape.extend_from_slice(&x.shape[batch + tuple..]);
    one(x.dtype, shape)
}

fn check_reduction(call: &Call, dtype: DType) -> Result<(), String> {
    let kind = call.attrs.str("reduction");
    if kind != "none" && !(dtype.is_float() || dtype.is_int()) {
        return Err(format!("elements of type {dtype} cannot be combined by `{kind}`"));
    }
    Ok(())
}

fn scatter_elements(call: &Call) -> Result<Vec<Type>, String> {
    let (x, indices, updates) = (call.tensor(0)?, call.integers(1)?, call.tensor(2)?);
    call.expect_dtype(2, updates, x.dtype)?;
    check_reduction(call, x.dtype)?;
    within_except(call, call.axis("axis", x.rank())?)?;
    if !dims::shapes_may_equal(&indices.shape, &updates.shape) {
        return Err(format!("the indices {indices} and updates {updates} have different shapes"));
    }
    one(x.dtype, x.shape.clone())
}

fn scatter_nd(call: &Call) -> Result<Vec<Type>, String> {
    let (x, indices, updates) = (call.tensor(0)?, call.integers(1)?, call.tensor(2)?);
    call.expect_dtype(2, updates, x.dtype)?;
    check_reduction(call, x.dtype)?;
    let tuple = tuple_len(call)?;
    if tuple > x.rank() {
        return Err(format!("the indices {indices} name more axes than {x} has"));
    }
    let mut expected = indices.shape[..indices.rank() - 1].to_vec();
    expected.extend_from_slice(&x.shape[tuple..]);
    if !dims::shapes_may_equal(&expected, &updates.shape) {
        return Err(format!(
            "the updates are {updates}, but the indices {indices} into {x} ask for the shape {expected:?}"
        ));
    }
    one(x.dtype, x.shape.clone())
}

fn reverse_sequence(call: &Call) -> Result<Vec<Type>, String> {
    let (x, lengths) = (call.tensor(0)?, call.integers(1)?);
    let (time, batch) = (call.axis("time_axis", x.rank())?, call.axis("batch_axis", x.rank())?);
    if time == batch {
        return Err(format!("`time_axis` and `batch_axis` are both {time}"));
    }
    call.expect_rank(1, lengths, 1)?;
    if !dims::may_equal(&lengths.shape[0], &x.shape[batch]) {
        return Err(format!("the lengths {lengths} are not one for each of axis {batch} of {x}"));
    }
    one(x.dtype, x.shape.clone())
}

fn nonzero(call: &Call) -> Result<Vec<Type>, String> {
    one(DType::I64, vec![Dim::from(call.tensor(0)?.rank()), unknown()])
}

fn compress(call: &Call) -> Result<Vec<Type>, String> {
    let (x, cond) = (call.tensor(0)?, call.tensor(1)?);
    call.expect_dtype(1, cond, DType::Bool)?;
    call.expect_rank(1, cond, 1)?;
    let axis = call.axis("axis", x.rank())?;
    if let (Some(c), Some(d)) = (cond.shape[0].as_const(), x.shape[axis].as_const())
        && c > d
    {
        return Err(format!("the condition {cond} is longer than axis {axis} of {x}"));
    }
    let mut shape = x.shape.clone();
    shape[axis] = unknown();
    one(x.dtype, shape)
}
