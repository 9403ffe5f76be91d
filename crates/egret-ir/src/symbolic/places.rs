//! Where each element of a result comes from whose operation only moves elements. Elements are numbered in row-major order, so that all sizes of a
//! tensor but the first have to be constants.

use crate::{Attrs, Dim, Graph, Op, ValueId};

/// The operand that an element of the result is taken from, and its number there; `None` if that is not known.
pub(super) type Source<'a> = Box<dyn Fn(usize) -> Option<(usize, usize)> + 'a>;

/// The sources of the elements of the result of a node with these dims; `None` if it does more than move them, or if its attributes or indices are
/// symbolic. `known` gives the content of indices.
pub(super) fn sources<'a>(
    op: Op,
    attrs: &'a Attrs,
    operands: &[Option<ValueId>],
    result: &'a [Dim],
    graph: &'a Graph,
    known: &dyn Fn(ValueId) -> Option<Vec<Dim>>,
) -> Option<Source<'a>> {
    let dims = |i: usize| -> Option<&'a [Dim]> {
        Some(&graph.ty(operands.get(i).copied().flatten()?).as_tensor()?.shape)
    };
    let x = dims(0)?;
    let axis = || usize::try_from(attrs.int("axis")).ok().filter(|&axis| axis < x.len());
    match op {
        Op::Reshape => Some(Box::new(|i| Some((0, i)))),
        Op::Broadcast => {
            let place = broadcast(x, result);
            Some(Box::new(move |i| Some((0, place(i)?))))
        }
        Op::Transpose => {
            let perm = attrs.ints("perm");
            Some(Box::new(move |i| {
                let mut at = vec![0; x.len()];
                for (&c, &axis) in coordinates(i, result)?.iter().zip(perm) {
                    *at.get_mut(usize::try_from(axis).ok()?)? = c;
                }
                Some((0, number(&at, x)?))
            }))
        }
        Op::Slice => {
            let (starts, steps) = (attrs.const_dims("starts")?, attrs.ints("steps"));
            Some(Box::new(move |i| {
                let walked = coordinates(i, result)?.into_iter().zip(starts.iter().zip(steps));
                let at = walked.map(|(c, (start, step))| {
                    let far = i64::try_from(c).ok()?.checked_mul(*step)?;
                    usize::try_from(start.checked_add(far)?).ok()
                });
                Some((0, number(&at.collect::<Option<Vec<_>>>()?, x)?))
            }))
        }
        Op::Pad if attrs.str("mode") == "constant" => {
            let low = attrs.const_dims("low")?;
            Some(Box::new(move |i| {
                let mut at = coordinates(i, result)?;
                for (axis, c) in at.iter_mut().enumerate() {
                    let moved = i64::try_from(*c).ok()?.checked_sub(*low.get(axis)?)?;
                    match usize::try_from(moved) {
                        Ok(moved) if moved < size(x.get(axis)?)? => *c = moved,
                        _ => return Some((1, 0)),
                    }
                }
                Some((0, number(&at, x)?))
            }))
        }
        Op::Concat => {
            let axis = axis()?;
            let parts = (0..operands.len()).map(dims).collect::<Option<Vec<_>>>()?;
            Some(Box::new(move |i| {
                let mut at = coordinates(i, result)?;
                for (operand, part) in parts.iter().enumerate() {
                    let length = size(part.get(axis)?);
                    // Behind all others it is as long as it may be.
                    let last = operand + 1 == parts.len();
                    match length.map(|length| at[axis].checked_sub(length)) {
                        Some(Some(left)) => at[axis] = left,
                        None if !last => return None,
                        Some(None) | None => return Some((operand, number(&at, part)?)),
                    }
                }
                None
            }))
        }
        Op::Gather => {
            let (axis, of) = (axis()?, dims(1)?);
            let indices: Vec<i64> = known(operands.get(1).copied().flatten()?)?
                .iter()
                .map(Dim::as_const)
                .collect::<Option<_>>()?;
            Some(Box::new(move |i| {
                let at = coordinates(i, result)?;
                let (before, rest) = at.split_at_checked(axis)?;
                let (index, after) = rest.split_at_checked(of.len())?;
                let index = *indices.get(number(index, of)?)?;
                let wrapped = if index < 0 { index.checked_add(x[axis].as_const()?)? } else { index };
                let at = [before, &[usize::try_from(wrapped).ok()?], after].concat();
                Some((0, number(&at, x)?))
            }))
        }
        _ => None,
    }
}

/// The number that an element of a result has in an operand which is broadcast to it.
pub(super) fn broadcast<'a>(from: &'a [Dim], to: &'a [Dim]) -> Box<dyn Fn(usize) -> Option<usize> + 'a> {
    let single = |d: &Dim| d.as_const() == Some(1);
    if from == to {
        return Box::new(Some);
    }
    if from.iter().all(single) {
        return Box::new(|_| Some(0));
    }
    Box::new(move |i| {
        let new = to.len().checked_sub(from.len())?;
        let mut at = coordinates(i, to)?.split_off(new);
        for (c, (from, to)) in at.iter_mut().zip(from.iter().zip(&to[new..])) {
            if single(from) {
                *c = 0;
            } else if from != to {
                // It may be 1.
                return None;
            }
        }
        number(&at, from)
    })
}

/// The coordinates of an element.
pub(super) fn coordinates(mut i: usize, dims: &[Dim]) -> Option<Vec<usize>> {
    let mut at = vec![0; dims.len()];
    for axis in (1..dims.len()).rev() {
        let n = size(&dims[axis])?;
        at[axis] = i.checked_rem(n)?;
        i /= n;
    }
    match at.first_mut() {
        Some(first) => *first = i,
        None if i > 0 => return None,
        None => {}
    }
    Some(at)
}

/// The number of the element that has these coordinates; none has those outside.
pub(super) fn number(at: &[usize], dims: &[Dim]) -> Option<usize> {
    if at.len() != dims.len() {
        return None;
    }
    let mut i = 0usize;
    for (axis, (&c, dim)) in at.iter().zip(dims).enumerate() {
        if size(dim).is_some_and(|n| c >= n) {
            return None;
        }
        i = if axis == 0 { c } else { i.checked_mul(size(dim)?)?.checked_add(c)? };
    }
    Some(i)
}

fn size(dim: &Dim) -> Option<usize> {
    usize::try_from(dim.as_const()?).ok()
}
