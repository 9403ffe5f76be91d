//! Operations whose result's size depends on the data: which elements there are.

use super::convert::Nums;
use super::reduce::comparer;
use super::support::*;
use crate::{Attrs, DType, Op, Tensor, Value};
use std::cmp::Ordering;

/// Evaluate an operation of this family.
pub(super) fn eval(op: Op, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = tensor(operands, 0)?;
    match op {
        Op::Nonzero => Ok(vec![nonzero(x)?]),
        Op::Compress => Ok(vec![compress(x, tensor(operands, 1)?, attrs)?]),
        Op::Unique => unique(x, attrs),
        _ => fail(format!("{op} selects nothing")),
    }
}

fn nonzero(x: &Tensor) -> Res<Tensor> {
    let hits: Vec<usize> = match Nums::of(x)? {
        Nums::F(v) => (0..v.len()).filter(|&i| v[i] != 0.0).collect(),
        Nums::I(v) => (0..v.len()).filter(|&i| v[i] != 0).collect(),
    };
    let mut out = vec![0i64; x.rank() * hits.len()];
    for (j, &flat) in hits.iter().enumerate() {
        for (i, c) in coordinates(flat, x.shape()).into_iter().enumerate() {
            out[i * hits.len() + j] = c as i64;
        }
    }
    Ok(Tensor::new(&[x.rank(), hits.len()], out))
}

fn compress(x: &Tensor, cond: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    if cond.dtype() != DType::Bool || cond.rank() != 1 || cond.len() > x.shape()[axis] {
        return fail(format!("the condition {} does not fit axis {axis} of {}", cond.ty(), x.ty()));
    }
    let keep: Vec<usize> =
        cond.bytes().iter().enumerate().filter(|(_, b)| **b != 0).map(|(i, _)| i).collect();
    slices(x, axis, &keep)
}

/// The slices of x at these places along an axis.
fn slices(x: &Tensor, axis: usize, keep: &[usize]) -> Res<Tensor> {
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let outer: usize = x.shape()[..axis].iter().product();
    let mut shape = x.shape().to_vec();
    shape[axis] = keep.len();
    let mut pick = Vec::with_capacity(count(&shape, x.dtype().size())?);
    for o in 0..outer {
        for &k in keep {
            let base = (o * x.shape()[axis] + k) * inner;
            pick.extend(base..base + inner);
        }
    }
    select(x, None, &shape, &pick)
}

fn unique(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    let flat;
    let (x, axis) = match attrs.flag("flat") {
        true => {
            flat = reshaped(x, &[x.len()])?;
            (&flat, 0)
        }
        false => (x, axis(attrs, "axis", x.rank())?),
    };
    let n = x.shape()[axis];
    let compare = comparer(x)?;
    // Flat offsets of the elements of a slice, in row-major order.
    let own = strides(x.shape());
    let mut rest = x.shape().to_vec();
    rest[axis] = 1;
    let offsets = strided(&rest, 0, &own);
    let step = own[axis] as usize;
    let order = |i: usize, j: usize| {
        offsets
            .iter()
            .map(|&o| compare(o + i * step, o + j * step))
            .find(|c| *c != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    };
    let mut sorted: Vec<usize> = (0..n).collect();
    sorted.sort_by(|&i, &j| order(i, j).then(i.cmp(&j)));
    // Groups of equal slices, each in ascending order of place.
    let mut groups: Vec<Vec<usize>> = vec![];
    for i in sorted {
        match groups.last_mut() {
            Some(g) if order(g[0], i) == Ordering::Equal => g.push(i),
            _ => groups.push(vec![i]),
        }
    }
    if !attrs.flag("sorted") {
        groups.sort_by_key(|g| g[0]);
    }
    let first: Vec<usize> = groups.iter().map(|g| g[0]).collect();
    let mut inverse = vec![0i64; n];
    for (k, g) in groups.iter().enumerate() {
        g.iter().for_each(|&i| inverse[i] = k as i64);
    }
    let values = slices(x, axis, &first)?;
    let k = groups.len();
    Ok(vec![
        values,
        Tensor::new(&[k], first.iter().map(|&i| i as i64).collect()),
        Tensor::new(&[n], inverse),
        Tensor::new(&[k], groups.iter().map(|g| g.len() as i64).collect()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    #[test]
    fn chosen() {
        let x = Tensor::new(&[2, 2], vec![0f32, 3.0, 4.0, 0.0]);
        let n = eval(Op::Nonzero, &attrs! {}, &[Some(x.clone().into())]).unwrap();
        assert_eq!((n[0].shape(), n[0].data::<i64>()), (&[2, 2][..], &[0i64, 1, 1, 0][..]));
        let cond = Some(Tensor::from_bools(&[2], &[false, true]).into());
        let c = eval(Op::Compress, &attrs! { axis: 1 }, &[Some(x.into()), cond]).unwrap();
        assert_eq!((c[0].shape(), c[0].data::<f32>()), (&[2, 1][..], &[3f32, 0.0][..]));
    }

    #[test]
    fn distinct() {
        let x: Value = Tensor::new(&[5], vec![2i32, 1, 1, 3, 2]).into();
        let u = eval(Op::Unique, &attrs! { axis: 0, flat: 1, sorted: 0 }, &[Some(x.clone())]).unwrap();
        assert_eq!(u[0].data::<i32>(), [2, 1, 3]);
        let u = eval(Op::Unique, &attrs! { axis: 0, flat: 1, sorted: 1 }, &[Some(x)]).unwrap();
        assert_eq!(u[0].data::<i32>(), [1, 2, 3]);
        assert_eq!(u[1].data::<i64>(), [1, 0, 3]);
        assert_eq!(u[2].data::<i64>(), [1, 0, 0, 2, 1]);
        assert_eq!(u[3].data::<i64>(), [2, 2, 1]);
        let m: Value = Tensor::new(&[3, 2], vec![1i8, 0, 1, 0, 0, 9]).into();
        let u = eval(Op::Unique, &attrs! { axis: 0, flat: 0, sorted: 1 }, &[Some(m)]).unwrap();
        assert_eq!((u[0].shape(), u[0].data::<i8>()), (&[2, 2][..], &[0i8, 9, 1, 0][..]));
    }
}
