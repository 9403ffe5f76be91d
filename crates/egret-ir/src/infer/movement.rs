//! Data movement at places known from the attributes, and tensors made from a shape.

use super::{Call, check, dims, one, unknown};
use crate::families::Movement;
use crate::{DType, Dim, DimOp, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Movement, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Movement::BitCast => bit_cast(call),
        Movement::Shape => shape(call),
        Movement::Reshape => reshape(call),
        Movement::Broadcast => broadcast(call),
        Movement::Transpose => transpose(call),
        Movement::Slice => slice(call),
        Movement::Pad => pad(call),
        Movement::Dilate => dilate(call),
        Movement::Concat => concat(call),
        Movement::Iota => iota(call),
        Movement::Range => range(call),
    }
}

fn shape(call: &Call) -> Result<Vec<Type>, String> {
    one(DType::I64, vec![Dim::from(call.tensor(0)?.rank())])
}

fn reshape(call: &Call) -> Result<Vec<Type>, String> {
    let (x, shape) = (call.tensor(0)?, call.sizes("shape")?);
    if let (Some(before), Some(after)) = (dims::count(&x.shape), dims::count(shape))
        && !dims::may_equal(&before, &after)
    {
        return Err(format!("{x} has {before} elements, but the shape {shape:?} has {after}"));
    }
    one(x.dtype, shape)
}

fn broadcast(call: &Call) -> Result<Vec<Type>, String> {
    let (x, shape) = (call.tensor(0)?, call.sizes("shape")?);
    let Some(new) = shape.len().checked_sub(x.rank()) else {
        return Err(format!("{x} has more axes than the shape {shape:?}"));
    };
    for (from, to) in x.shape.iter().zip(&shape[new..]) {
        if from.as_const() != Some(1) && !dims::may_equal(from, to) {
            // A symbolic dim may turn out to be 1; a constant one is settled.
            if from.as_const().is_some() {
                return Err(format!("{x} does not broadcast to the shape {shape:?}"));
            }
        }
    }
    one(x.dtype, shape)
}

fn transpose(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let perm = call.attrs.ints("perm");
    let mut seen = vec![false; x.rank()];
    for &p in perm {
        match usize::try_from(p).ok().and_then(|p| seen.get_mut(p)) {
            Some(slot) if !*slot => *slot = true,
            _ => return Err(format!("`perm` {perm:?} is no permutation of the axes of {x}")),
        }
    }
    if perm.len() != x.rank() {
        return Err(format!("`perm` {perm:?} is no permutation of the axes of {x}"));
    }
    one(x.dtype, perm.iter().map(|&p| x.shape[p as usize].clone()).collect::<Vec<_>>())
}

fn slice(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let (starts, sizes) = (call.dims("starts", x.rank())?, call.dims("sizes", x.rank())?);
    let steps = call.extents("steps", x.rank(), -check::MAX_EXTENT)?;
    call.sizes("sizes")?;
    for axis in 0..x.rank() {
        if steps[axis] == 0 {
            return Err(format!("`steps` is {steps:?}, but a step of 0 stands still"));
        }
        let (Some(start), Some(size)) = (starts[axis].as_const(), sizes[axis].as_const()) else { continue };
        if size == 0 {
            continue;
        }
        let last = i128::from(start) + (i128::from(size) - 1) * i128::from(steps[axis]);
        let out = |i: i128| i < 0 || x.shape[axis].as_const().is_some_and(|d| i >= i128::from(d));
        if out(i128::from(start)) || out(last) {
            return Err(format!(
                "axis {axis} of {x} is read from {start} to {last}, which is out of range"
            ));
        }
    }
    one(x.dtype, sizes)
}

fn pad(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let mode = call.attrs.str("mode");
    let (low, high) = (call.dims("low", x.rank())?, call.dims("high", x.rank())?);
    match call.optional_tensor(1)? {
        Some(value) => {
            call.expect_dtype(1, value, x.dtype)?;
            call.expect_single(1, value)?;
        }
        None if mode == "constant" => {
            return Err("operand `value` is left out, but the mode is `constant`".into());
        }
        None => {}
    }
    let mut shape = vec![];
    for (axis, dim) in x.shape.iter().enumerate() {
        let size = dim.clone() + low[axis].clone() + high[axis].clone();
        if mode != "constant" && dim.as_const() == Some(0) && size.as_const() != Some(0) {
            return Err(format!("axis {axis} of {x} is empty: there is nothing to `{mode}`"));
        }
        // Both sides may be cropped, but not by more than there is.
        if [&low[axis], &high[axis]].iter().any(|p| p.is_saturated())
            || size.as_const().is_some_and(|s| s < 0)
        {
            return Err(format!(
                "axis {axis} of {x} is padded by {} and {}, which is out of range",
                low[axis], high[axis]
            ));
        }
        shape.push(size);
    }
    one(x.dtype, shape)
}

fn dilate(call: &Call) -> Result<Vec<Type>, String> {
    let (x, value) = (call.tensor(0)?, call.tensor(1)?);
    call.expect_dtype(1, value, x.dtype)?;
    call.expect_single(1, value)?;
    let factors = call.extents("factors", x.rank(), 1)?;
    let one_dim = Dim::constant(1);
    let shape: Vec<Dim> = x
        .shape
        .iter()
        .zip(factors)
        .map(|(d, &f)| {
            if f == 1 {
                return d.clone();
            }
            // An empty axis stays empty.
            let size = (d.clone() - one_dim.clone()) * Dim::constant(f) + one_dim.clone();
            size.op(DimOp::Max, &Dim::constant(0))
        })
        .collect();
    one(x.dtype, shape)
}

fn concat(call: &Call) -> Result<Vec<Type>, String> {
    if call.operands.is_empty() {
        return Err("there is no operand".into());
    }
    let first = call.tensor(0)?;
    let axis = call.axis("axis", first.rank())?;
    let mut shape = first.shape.clone();
    for i in 1..call.operands.len() {
        let other = call.tensor(i)?;
        let misfit = || format!("{first} and {other} do not fit together along axis {axis}");
        if other.dtype != first.dtype || other.rank() != first.rank() {
            return Err(misfit());
        }
        for (k, dim) in other.shape.iter().enumerate() {
            shape[k] = if k == axis {
                shape[k].clone() + dim.clone()
            } else {
                dims::same(&shape[k], dim).ok_or_else(misfit)?
            };
        }
    }
    one(first.dtype, shape)
}

fn range(call: &Call) -> Result<Vec<Type>, String> {
    let n = call.tensor(0)?;
    call.expect_dtype(0, n, DType::I64)?;
    call.expect_rank(0, n, 0)?;
    one(DType::I64, vec![unknown()])
}

fn iota(call: &Call) -> Result<Vec<Type>, String> {
    let shape = call.sizes("shape")?;
    call.axis("axis", shape.len())?;
    made(call, shape)
}

/// A tensor of these dims and of the element type `to`.
pub(super) fn made(call: &Call, shape: &[Dim]) -> Result<Vec<Type>, String> {
    let (to, bound) = (call.attrs.dtype("to"), call.op.info().types);
    if !check::within(bound, to) {
        return Err(format!("`to` is {to}, but must be {}", check::bound_text(bound)));
    }
    one(to, shape)
}

fn bit_cast(call: &Call) -> Result<Vec<Type>, String> {
    let (x, to) = (call.tensor(0)?, call.attrs.dtype("to"));
    // Sub-byte types occupy a byte each, but not all of its bits.
    if x.dtype.size() != to.size()
        || x.dtype == DType::String
        || to == DType::String
        || bits(x.dtype) != bits(to)
    {
        return Err(format!("operand `x` is {x}, whose elements do not have the size of {to}"));
    }
    one(to, x.shape.clone())
}

fn bits(dtype: DType) -> usize {
    match dtype {
        DType::I2 | DType::U2 => 2,
        DType::I4 | DType::U4 | DType::F4E2M1 => 4,
        other => 8 * other.size(),
    }
}
