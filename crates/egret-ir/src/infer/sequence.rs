//! Sequences and optionals.

use super::{Call, one, unknown};
use crate::families::Sequence;
use crate::{DType, Dim, SeqType, Shape, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Sequence, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Sequence::SequenceConstruct => sequence_construct(call),
        Sequence::SequenceEmpty => sequence_empty(call),
        Sequence::SequenceInsert => sequence_insert(call),
        Sequence::SequenceErase => sequence_erase(call),
        Sequence::SequenceAt => sequence_at(call),
        Sequence::SequenceLength => sequence_length(call),
        Sequence::SequenceConcat => sequence_concat(call),
        Sequence::SequenceSplit => sequence_split(call),
        Sequence::OptionalSome => optional_some(call),
        Sequence::OptionalNone => optional_none(call),
        Sequence::OptionalGet => optional_get(call),
        Sequence::OptionalHas => optional_has(call),
    }
}

fn sequence<'a>(call: &Call<'a>, i: usize) -> Result<&'a SeqType, String> {
    match call.any(i)? {
        Type::Sequence(s) => Ok(s),
        other => Err(format!("{} is {other}, not a sequence", call.operand_name(i))),
    }
}

fn sequence_of(dtype: DType, shape: Option<Shape>) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Sequence(Box::new(SeqType { dtype, shape }))])
}

/// What two shapes have in common: dims that differ become unknown, ranks that differ nothing.
fn common(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let dim = |(a, b): (&Dim, &Dim)| if a == b { a.clone() } else { unknown() };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(dim).collect())
}

/// The shape of one element: a symbol among the elements' dims differs from element to element.
fn element(s: &SeqType) -> Result<Shape, String> {
    let shape = s.shape.as_ref().ok_or_else(|| {
        format!("the rank of the elements of {} is not known", Type::Sequence(Box::new(s.clone())))
    })?;
    Ok(shape.iter().map(|d| if d.as_const().is_some() { d.clone() } else { unknown() }).collect())
}

fn position(call: &Call, i: usize) -> Result<(), String> {
    let at = call.integers(i)?;
    call.expect_single(i, at)
}

fn sequence_construct(call: &Call) -> Result<Vec<Type>, String> {
    if call.operands.is_empty() {
        return Err("there is no operand".into());
    }
    let first = call.tensor(0)?;
    let mut shape = Some(first.shape.clone());
    for i in 1..call.operands.len() {
        let other = call.tensor(i)?;
        if other.dtype != first.dtype {
            return Err(format!("the operands {first} and {other} have different element types"));
        }
        shape = shape.and_then(|s| common(&s, &other.shape));
    }
    sequence_of(first.dtype, shape)
}

fn sequence_empty(call: &Call) -> Result<Vec<Type>, String> {
    sequence_of(call.attrs.dtype("to"), None)
}

fn sequence_insert(call: &Call) -> Result<Vec<Type>, String> {
    let (s, x) = (sequence(call, 0)?, call.tensor(1)?);
    position(call, 2)?;
    call.expect_dtype(1, x, s.dtype)?;
    sequence_of(s.dtype, s.shape.as_ref().and_then(|shape| common(shape, &x.shape)))
}

fn sequence_erase(call: &Call) -> Result<Vec<Type>, String> {
    position(call, 1)?;
    let s = sequence(call, 0)?;
    sequence_of(s.dtype, s.shape.clone())
}

fn sequence_at(call: &Call) -> Result<Vec<Type>, String> {
    position(call, 1)?;
    let s = sequence(call, 0)?;
    one(s.dtype, element(s)?)
}

fn sequence_length(call: &Call) -> Result<Vec<Type>, String> {
    sequence(call, 0)?;
    one(DType::I64, vec![])
}

fn sequence_concat(call: &Call) -> Result<Vec<Type>, String> {
    let s = sequence(call, 0)?;
    let mut shape = element(s)?;
    if call.attrs.flag("new_axis") {
        shape.insert(call.axis("axis", shape.len() + 1)?, unknown());
    } else {
        let axis = call.axis("axis", shape.len())?;
        shape[axis] = unknown();
    }
    one(s.dtype, shape)
}

fn sequence_split(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let axis = call.axis("axis", x.rank())?;
    let mut shape = x.shape.clone();
    if call.attrs.flag("has_split") {
        if call.integers(1)?.rank() > 1 {
            return Err(format!("operand `split` is {}, but its rank must be 0 or 1", call.integers(1)?));
        }
        shape[axis] = unknown();
    } else if call.attrs.flag("keepdims") {
        shape[axis] = Dim::constant(1);
    } else {
        shape.remove(axis);
    }
    sequence_of(x.dtype, Some(shape))
}

fn optional_some(call: &Call) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Optional(Box::new(call.any(0)?.clone()))])
}

fn optional_none(call: &Call) -> Result<Vec<Type>, String> {
    match call.attrs.get("of") {
        Some(crate::Attr::Type(of)) => Ok(vec![Type::Optional(Box::new(of.clone()))]),
        _ => Err("attribute `of` is no type".into()),
    }
}

fn optional_get(call: &Call) -> Result<Vec<Type>, String> {
    Ok(vec![match call.any(0)? {
        Type::Optional(inner) => inner.as_ref().clone(),
        other => other.clone(),
    }])
}

fn optional_has(call: &Call) -> Result<Vec<Type>, String> {
    call.any(0)?;
    one(DType::Bool, vec![])
}
