//! What transformers are made of: attention and rotary embedding.

use super::{Call, dims, one};
use crate::families::Attention;
use crate::{DType, Dim, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Attention, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Attention::Attention => attention(call),
        Attention::Rotary => rotary(call),
    }
}

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

fn attention(call: &Call) -> Result<Vec<Type>, String> {
    let (q, k, v) = (call.bounded(0)?, call.bounded(1)?, call.bounded(2)?);
    let misfit = || format!("q {q}, k {k} and v {v} do not fit together");
    let ([lead_q @ .., rows, width], [lead_k @ .., keys, width_k], [lead_v @ .., keys_v, out]) =
        (&q.shape[..], &k.shape[..], &v.shape[..])
    else {
        return Err(misfit());
    };
    if k.dtype != q.dtype
        || v.dtype != q.dtype
        || !dims::may_equal(width, width_k)
        || !dims::may_equal(keys, keys_v)
    {
        return Err(misfit());
    }
    let lead = dims::broadcast(lead_q, lead_k)
        .and_then(|lead| dims::broadcast(&lead, lead_v))
        .ok_or_else(misfit)?;
    let of = |last: [&Dim; 2]| lead.iter().chain(last).cloned().collect::<Vec<_>>();
    if let Some(mask) = call.optional_tensor(3)? {
        if mask.dtype != DType::Bool {
            call.expect_dtype(3, mask, q.dtype)?;
        }
        expect_broadcasts_to(call, 3, &of([rows, keys]))?;
    }
    one(q.dtype, of([rows, out]))
}

fn rotary(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let Some(last) = x.shape.last() else {
        return Err(format!("operand `x` is {x}, which has no axis to rotate along"));
    };
    if last.as_const().is_some_and(|d| d % 2 != 0) {
        return Err(format!("operand `x` is {x}, but the size of its last axis must be even"));
    }
    for i in 1..3 {
        call.expect_dtype(i, call.tensor(i)?, x.dtype)?;
        expect_broadcasts_to(call, i, &x.shape)?;
    }
    one(x.dtype, x.shape.clone())
}
