//! Elements at places that only the data name: gathers, scatters, selection by a condition.

use super::convert::{Nums, ints};
use super::elementwise::{max, min};
use super::support::*;
use crate::families::GatherScatter;
use crate::{Attrs, DType, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: GatherScatter, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = tensor(operands, 0)?;
    let indices = || tensor(operands, 1);
    match op {
        GatherScatter::Nonzero => nonzero(x),
        GatherScatter::Compress => compress(x, indices()?, attrs),
        GatherScatter::Gather => gather(x, indices()?, attrs),
        GatherScatter::GatherElements => {
            let indices = indices()?;
            let places = element_places(x, indices, axis(attrs, "axis", x.rank())?)?;
            select(x, None, indices.shape(), &places)
        }
        GatherScatter::GatherNd => gather_nd(x, indices()?, attrs),
        GatherScatter::ScatterElements => {
            let (indices, updates) = (indices()?, tensor(operands, 2)?);
            if updates.shape() != indices.shape() {
                return fail(format!("updates {} for indices {}", updates.ty(), indices.ty()));
            }
            let places = element_places(x, indices, axis(attrs, "axis", x.rank())?)?;
            scatter(x, &places, updates, attrs.str("reduction"))
        }
        GatherScatter::ScatterNd => {
            let (indices, updates) = (indices()?, tensor(operands, 2)?);
            let (places, slice) = tuple_places(x, indices, 0)?;
            let mut shape = indices.shape()[..indices.rank() - 1].to_vec();
            shape.extend(&slice);
            if updates.shape() != shape {
                return fail(format!("updates {} where {shape:?} is needed", updates.ty()));
            }
            scatter(x, &spread(&places, &slice), updates, attrs.str("reduction"))
        }
        GatherScatter::ReverseSequence => reverse_sequence(x, indices()?, attrs),
    }
}

fn gather(x: &Tensor, indices: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let n = x.shape()[axis];
    let at = ints(indices)?.into_iter().map(|i| wrap_index(i, n)).collect::<Res<Vec<_>>>()?;
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let outer: usize = x.shape()[..axis].iter().product();
    let mut shape = x.shape()[..axis].to_vec();
    shape.extend(indices.shape());
    shape.extend(&x.shape()[axis + 1..]);
    let mut pick = Vec::with_capacity(count(&shape, x.dtype().size())?);
    for o in 0..outer {
        for &i in &at {
            let base = (o * n + i) * inner;
            pick.extend(base..base + inner);
        }
    }
    select(x, None, &shape, &pick)
}

/// For every index its flat place in x: its own coordinates, but the index along `axis`.
fn element_places(x: &Tensor, indices: &Tensor, axis: usize) -> Res<Vec<usize>> {
    let (own, shape) = (strides(x.shape()), indices.shape());
    if shape.len() != x.rank()
        || (0..shape.len()).any(|i| i != axis && shape[i] > x.shape()[i] && !indices.is_empty())
    {
        return fail(format!("indices {} do not fit {} along axis {axis}", indices.ty(), x.ty()));
    }
    let steps: Vec<isize> = (0..own.len()).map(|i| if i == axis { 0 } else { own[i] }).collect();
    let bases = strided(shape, 0, &steps);
    let at = ints(indices)?;
    bases
        .into_iter()
        .zip(at)
        .map(|(b, i)| Ok(b + wrap_index(i, x.shape()[axis])? * own[axis] as usize))
        .collect()
}

/// For every index tuple (last axis of `indices`) the flat place in x where its slice begins, and the slice's shape.
fn tuple_places(x: &Tensor, indices: &Tensor, batch: usize) -> Res<(Vec<usize>, Vec<usize>)> {
    let bad = || error(format!("indices {} do not fit {} after {batch} shared axes", indices.ty(), x.ty()));
    let (&width, lead) = indices.shape().split_last().ok_or_else(bad)?;
    if batch > lead.len() || batch + width > x.rank() || x.shape()[..batch] != lead[..batch] {
        return Err(bad());
    }
    let own = strides(x.shape());
    let at = ints(indices)?;
    let tuples: usize = lead.iter().product();
    let per_batch: usize = lead[batch..].iter().product();
    let slice = x.shape()[batch + width..].to_vec();
    let batch_size: usize = x.shape()[batch..].iter().product();
    let mut places = Vec::with_capacity(tuples);
    for t in 0..tuples {
        let mut place = t / per_batch.max(1) * batch_size;
        for j in 0..width {
            place += wrap_index(at[t * width + j], x.shape()[batch + j])? * own[batch + j] as usize;
        }
        places.push(place);
    }
    Ok((places, slice))
}

/// Every element of the slices that begin at these places.
fn spread(places: &[usize], slice: &[usize]) -> Vec<usize> {
    let n: usize = slice.iter().product();
    places.iter().flat_map(|&p| p..p + n).collect()
}

fn gather_nd(x: &Tensor, indices: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let batch = usize::try_from(attrs.int("batch_dims")).map_err(|_| error("`batch_dims` is negative"))?;
    let (places, slice) = tuple_places(x, indices, batch)?;
    let mut shape = indices.shape()[..indices.rank() - 1].to_vec();
    shape.extend(&slice);
    count(&shape, x.dtype().size())?;
    select(x, None, &shape, &spread(&places, &slice))
}

fn scatter(x: &Tensor, places: &[usize], updates: &Tensor, reduction: &str) -> Res<Tensor> {
    if x.dtype() != updates.dtype() {
        return fail(format!("updates of {} for {}", updates.dtype(), x.dtype()));
    }
    if reduction == "none" {
        // The last update of a place stays.
        let mut pick: Vec<usize> = (0..x.len()).collect();
        for (u, &p) in places.iter().enumerate() {
            pick[p] = x.len() + u;
        }
        return select(&joined(&[x, updates])?, None, x.shape(), &pick);
    }
    let unknown = || error(format!("scatter with `{reduction}` of {}", x.dtype()));
    let truth = x.dtype() == DType::Bool;
    Ok(match (Nums::of(x)?, Nums::of(updates)?) {
        (Nums::F(mut v), Nums::F(u)) => {
            let f: fn(f64, f64) -> f64 = match reduction {
                "add" => |a, b| a + b,
                "mul" => |a, b| a * b,
                "max" => max,
                "min" => min,
                _ => return Err(unknown()),
            };
            places.iter().zip(u).for_each(|(&p, u)| v[p] = f(v[p], u));
            Nums::F(v)
        }
        (Nums::I(mut v), Nums::I(u)) => {
            let f: fn(i128, i128) -> i128 = match reduction {
                "add" if truth => i128::max,
                "mul" if truth => i128::min,
                "add" => i128::wrapping_add,
                "mul" => i128::wrapping_mul,
                "max" => i128::max,
                "min" => i128::min,
                _ => return Err(unknown()),
            };
            places.iter().zip(u).for_each(|(&p, u)| v[p] = f(v[p], u));
            Nums::I(v)
        }
        _ => return Err(unknown()),
    }
    .tensor(x.dtype(), x.shape()))
}

fn reverse_sequence(x: &Tensor, lengths: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let (time, batch) = (axis(attrs, "time_axis", x.rank())?, axis(attrs, "batch_axis", x.rank())?);
    let (n, lengths) = (x.shape()[time], ints(lengths)?);
    if time == batch
        || lengths.len() != x.shape()[batch]
        || lengths.iter().any(|&l| l < 0 || l as usize > n)
    {
        return fail(format!(
            "lengths {lengths:?} do not fit {} with time axis {time} and batch axis {batch}",
            x.ty()
        ));
    }
    let own = strides(x.shape());
    let pick: Vec<usize> = (0..x.len())
        .map(|flat| {
            let t = flat / own[time] as usize % n;
            let length = lengths[flat / own[batch] as usize % x.shape()[batch]] as usize;
            if t < length {
                flat - t * own[time] as usize + (length - 1 - t) * own[time] as usize
            } else {
                flat
            }
        })
        .collect();
    select(x, None, x.shape(), &pick)
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
pub(super) fn slices(x: &Tensor, axis: usize, keep: &[usize]) -> Res<Tensor> {
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

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Op, attrs};

    fn run(op: Op, attrs: Attrs, xs: &[&Tensor]) -> Res<Tensor> {
        let operands: Vec<_> = xs.iter().map(|&t| Some(t.clone().into())).collect();
        Ok(eval_op(op, &attrs, &operands, &[])?[0].as_tensor().unwrap().clone())
    }

    #[test]
    fn gathers() {
        let x = Tensor::new(&[2, 3], vec![1i32, 2, 3, 4, 5, 6]);
        let i = Tensor::new(&[2], vec![2i64, -3]);
        let g = run(Op::Gather, attrs! { axis: 1 }, &[&x, &i]).unwrap();
        assert_eq!((g.shape(), g.data::<i32>()), (&[2, 2][..], &[3, 1, 6, 4][..]));
        assert!(run(Op::Gather, attrs! { axis: 0 }, &[&x, &i]).is_err());
        let e =
            run(Op::GatherElements, attrs! { axis: 0 }, &[&x, &Tensor::new(&[1, 3], vec![1i64, 0, -1])])
                .unwrap();
        assert_eq!(e.data::<i32>(), [4, 2, 6]);
        let nd =
            run(Op::GatherNd, attrs! { batch_dims: 0 }, &[&x, &Tensor::new(&[2, 2], vec![1i64, 0, 0, 2])])
                .unwrap();
        assert_eq!(nd.data::<i32>(), [4, 3]);
        let b = run(Op::GatherNd, attrs! { batch_dims: 1 }, &[&x, &Tensor::new(&[2, 1], vec![1i64, 0])])
            .unwrap();
        assert_eq!(b.data::<i32>(), [2, 4]);
        let r = attrs! { time_axis: 1, batch_axis: 0 };
        assert_eq!(
            run(Op::ReverseSequence, r, &[&x, &Tensor::new(&[2], vec![2i64, 3])]).unwrap().data::<i32>(),
            [2, 1, 3, 6, 5, 4]
        );
    }

    #[test]
    fn scatters() {
        let x = Tensor::new(&[3], vec![1f32, 2.0, 3.0]);
        let i = Tensor::new(&[2], vec![1i64, 1]);
        let u = Tensor::new(&[2], vec![10f32, 20.0]);
        let s = |r: &str| {
            run(Op::ScatterElements, attrs! { axis: 0, reduction: r }, &[&x, &i, &u])
                .unwrap()
                .data::<f32>()
                .to_vec()
        };
        assert_eq!(s("none"), [1.0, 20.0, 3.0]);
        assert_eq!(s("add"), [1.0, 32.0, 3.0]);
        assert_eq!(s("mul"), [1.0, 400.0, 3.0]);
        let m = Tensor::new(&[2, 2], vec![0i8, 0, 0, 0]);
        let nd = run(
            Op::ScatterNd,
            attrs! { reduction: "none" },
            &[&m, &Tensor::new(&[1, 1], vec![1i64]), &Tensor::new(&[1, 2], vec![7i8, 8])],
        );
        assert_eq!(nd.unwrap().data::<i8>(), [0, 0, 7, 8]);
    }

    #[test]
    fn chosen() {
        let x = Tensor::new(&[2, 2], vec![0f32, 3.0, 4.0, 0.0]);
        let n = run(Op::Nonzero, attrs! {}, &[&x]).unwrap();
        assert_eq!((n.shape(), n.data::<i64>()), (&[2, 2][..], &[0i64, 1, 1, 0][..]));
        let cond = Tensor::from_bools(&[2], &[false, true]);
        let c = run(Op::Compress, attrs! { axis: 1 }, &[&x, &cond]).unwrap();
        assert_eq!((c.shape(), c.data::<f32>()), (&[2, 1][..], &[3f32, 0.0][..]));
    }
}
