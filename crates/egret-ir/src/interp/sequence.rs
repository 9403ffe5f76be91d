//! Sequences and optionals.

use super::convert::ints;
use super::movement::join;
use super::support::*;
use crate::families::Sequence;
use crate::{Attrs, Tensor, Value};

/// Evaluate an operation on sequences or optionals.
pub(super) fn eval(op: Sequence, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Value> {
    Ok(match op {
        Sequence::SequenceEmpty => Value::Sequence(vec![]),
        Sequence::SequenceConstruct => {
            Value::Sequence((0..operands.len()).map(|i| value(operands, i).cloned()).collect::<Res<_>>()?)
        }
        Sequence::SequenceInsert => {
            let mut items = items(operands)?.to_vec();
            let n = items.len();
            // One place more than there are elements: the end.
            let at = position(operands, 2)?.map_or(Ok(n), |at| {
                wrap_index(at, n).or_else(|e| if at == n as i64 { Ok(n) } else { Err(e) })
            })?;
            items.insert(at, value(operands, 1)?.clone());
            Value::Sequence(items)
        }
        Sequence::SequenceErase => {
            let mut items = items(operands)?.to_vec();
            items.remove(wrap_index(position(operands, 1)?.unwrap_or(-1), items.len())?);
            Value::Sequence(items)
        }
        Sequence::SequenceAt => {
            let items = items(operands)?;
            items[wrap_index(position(operands, 1)?.unwrap_or(-1), items.len())?].clone()
        }
        Sequence::SequenceLength => Tensor::scalar(items(operands)?.len() as i64).into(),
        Sequence::SequenceConcat => concat(items(operands)?, attrs)?.into(),
        Sequence::SequenceSplit => split(tensor(operands, 0)?, optional(operands, 1)?, attrs)?,
        Sequence::OptionalSome => Value::Optional(Some(Box::new(value(operands, 0)?.clone()))),
        Sequence::OptionalNone => Value::Optional(None),
        Sequence::OptionalGet => match value(operands, 0)? {
            Value::Optional(Some(v)) => v.as_ref().clone(),
            Value::Optional(None) => return fail("the optional is empty"),
            other => other.clone(),
        },
        Sequence::OptionalHas => {
            let has = !matches!(operands.first(), None | Some(None | Some(Value::Optional(None))));
            Tensor::from_bools(&[], &[has]).into()
        }
    })
}

fn items(operands: &[Option<Value>]) -> Res<&[Value]> {
    match value(operands, 0)? {
        Value::Sequence(items) => Ok(items),
        _ => fail("operand 0 is no sequence"),
    }
}

fn position(operands: &[Option<Value>], i: usize) -> Res<Option<i64>> {
    match optional(operands, i)? {
        None => Ok(None),
        Some(t) => ints(t)?.first().copied().map(Some).ok_or_else(|| error("the position is empty")),
    }
}

fn concat(items: &[Value], attrs: &Attrs) -> Res<Tensor> {
    let mut parts: Vec<Tensor> = items
        .iter()
        .map(|v| v.as_tensor().cloned().ok_or_else(|| error("an element is no tensor")))
        .collect::<Res<_>>()?;
    let Some(first) = parts.first() else { return fail("the sequence is empty") };
    let new_axis = attrs.flag("new_axis");
    let axis = wrap_index(attrs.int("axis"), first.rank() + usize::from(new_axis))?;
    if new_axis {
        for p in &mut parts {
            let mut shape = p.shape().to_vec();
            shape.insert(axis.min(p.rank()), 1);
            *p = p.reshaped(&shape);
        }
    }
    join(&parts.iter().collect::<Vec<_>>(), axis)
}

fn split(x: &Tensor, by: Option<&Tensor>, attrs: &Attrs) -> Res<Value> {
    let axis = wrap_index(attrs.int("axis"), x.rank())?;
    let n = x.shape()[axis];
    let by = if attrs.flag("has_split") { by } else { None };
    let sizes: Vec<usize> = match by {
        None => vec![1; n],
        Some(t) => {
            let sizes: Vec<usize> = ints(t)?
                .into_iter()
                .map(|v| usize::try_from(v).map_err(|_| error("a negative part")))
                .collect::<Res<_>>()?;
            if t.rank() == 0 {
                let size = sizes[0];
                if size == 0 {
                    return fail("parts of no elements");
                }
                (0..n.div_ceil(size)).map(|i| size.min(n - i * size)).collect()
            } else {
                sizes
            }
        }
    };
    if sizes.iter().try_fold(0usize, |a, &s| a.checked_add(s)) != Some(n) {
        return fail(format!("parts {sizes:?} of an axis of {n}"));
    }
    let own = strides(x.shape());
    let (mut at, mut out) = (0, vec![]);
    for size in sizes {
        let mut shape = x.shape().to_vec();
        shape[axis] = size;
        let part = strided(&shape, at as isize * own[axis], &own);
        if by.is_none() && !attrs.flag("keepdims") {
            shape.remove(axis);
        }
        out.push(select(x, None, &shape, &part)?.into());
        at += size;
    }
    Ok(Value::Sequence(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    fn one(v: i64) -> Value {
        Tensor::scalar(v).into()
    }

    #[test]
    fn sequences() {
        let seq = eval(Sequence::SequenceConstruct, &attrs! {}, &[Some(one(1)), Some(one(2))]).unwrap();
        let put = |at: i64| {
            eval(Sequence::SequenceInsert, &attrs! {}, &[Some(seq.clone()), Some(one(9)), Some(one(at))])
        };
        assert_eq!(put(-1).unwrap(), Value::Sequence(vec![one(1), one(9), one(2)]));
        assert_eq!(put(2).unwrap(), Value::Sequence(vec![one(1), one(2), one(9)]));
        assert!(put(3).is_err());
        assert_eq!(
            eval(Sequence::SequenceAt, &attrs! {}, &[Some(seq.clone()), Some(one(-2))]).unwrap(),
            one(1)
        );
        assert_eq!(
            eval(Sequence::SequenceErase, &attrs! {}, &[Some(seq.clone()), None]).unwrap(),
            Value::Sequence(vec![one(1)])
        );
        let joined =
            eval(Sequence::SequenceConcat, &attrs! { axis: 0, new_axis: 1 }, &[Some(seq)]).unwrap();
        assert_eq!(joined, Tensor::new(&[2], vec![1i64, 2]).into());
    }

    #[test]
    fn splitting() {
        let x = Tensor::new(&[3], vec![1i32, 2, 3]);
        let a = attrs! { axis: 0, keepdims: 0, has_split: 1 };
        let parts = eval(Sequence::SequenceSplit, &a, &[Some(x.clone().into()), Some(one(2))]).unwrap();
        assert_eq!(
            parts,
            Value::Sequence(vec![
                Tensor::new(&[2], vec![1i32, 2]).into(),
                Tensor::new(&[1], vec![3i32]).into()
            ])
        );
        let a = attrs! { axis: 0, keepdims: 0, has_split: 0 };
        let Value::Sequence(parts) = eval(Sequence::SequenceSplit, &a, &[Some(x.into()), None]).unwrap()
        else {
            panic!("no sequence")
        };
        assert_eq!(parts[2], Tensor::scalar(3i32).into());
    }

    #[test]
    fn optionals() {
        let some = eval(Sequence::OptionalSome, &attrs! {}, &[Some(one(3))]).unwrap();
        assert_eq!(eval(Sequence::OptionalGet, &attrs! {}, &[Some(some.clone())]).unwrap(), one(3));
        assert!(eval(Sequence::OptionalGet, &attrs! {}, &[Some(Value::Optional(None))]).is_err());
        let has = |v| eval(Sequence::OptionalHas, &attrs! {}, &[v]).unwrap();
        assert_eq!(has(Some(some)), Tensor::from_bools(&[], &[true]).into());
        assert_eq!(has(Some(Value::Optional(None))), Tensor::from_bools(&[], &[false]).into());
    }
}
