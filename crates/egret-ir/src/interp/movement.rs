//! Data movement whose places are known from attributes alone.

use super::convert::{bit_cast, from_floats, from_ints};
use super::support::*;
use crate::families::Movement;
use crate::{Attrs, DType, Tensor, Value};

/// Evaluate a movement operation.
pub(super) fn eval(op: Movement, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = || tensor(operands, 0);
    match op {
        Movement::Iota => iota(attrs),
        Movement::Range => range(x()?),
        Movement::Concat => concat(attrs, operands),
        Movement::BitCast => bit_cast(x()?, attrs.dtype("to")),
        Movement::Shape => {
            let x = x()?;
            Ok(Tensor::new(&[x.rank()], x.shape().iter().map(|&d| d as i64).collect()))
        }
        Movement::Reshape => reshaped(x()?, &shape_attr(attrs, "shape")?),
        Movement::Broadcast => broadcast(x()?, &shape_attr(attrs, "shape")?),
        Movement::Transpose => transpose(x()?, attrs),
        Movement::Slice => slice(x()?, attrs),
        Movement::Pad => pad(x()?, optional(operands, 1)?, attrs),
        Movement::Dilate => dilate(x()?, tensor(operands, 1)?, attrs),
    }
}

fn iota(attrs: &Attrs) -> Res<Tensor> {
    let (to, shape) = (attrs.dtype("to"), shape_attr(attrs, "shape")?);
    let axis = axis(attrs, "axis", shape.len())?;
    let n = count(&shape, to.size())?;
    let inner: usize = shape[axis + 1..].iter().product();
    let at = (0..n).map(|i| i / inner.max(1) % shape[axis]);
    Ok(if to.is_float() {
        from_floats(to, &shape, &at.map(|i| i as f64).collect::<Vec<_>>())
    } else if to == DType::String {
        return fail("iota of strings");
    } else {
        from_ints(to, &shape, &at.map(|i| i as i128).collect::<Vec<_>>())
    })
}

fn range(n: &Tensor) -> Res<Tensor> {
    let n = n.to_i64s().and_then(|n| n.first().copied()).unwrap_or(-1);
    let Ok(length) = usize::try_from(n) else { return fail(format!("a dim cannot be {n}")) };
    count(&[length], DType::I64.size())?;
    Ok(Tensor::new(&[length], (0..n).collect()))
}

fn broadcast(x: &Tensor, shape: &[usize]) -> Res<Tensor> {
    count(shape, x.dtype().size())?;
    if broadcast_shape(&[x.shape(), shape])? != shape {
        return fail(format!("{:?} does not broadcast to {shape:?}", x.shape()));
    }
    view(x, shape, 0, &broadcast_strides(x.shape(), shape))
}

fn transpose(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let perm = sizes(attrs, "perm", x.rank(), 0)?;
    let mut seen = vec![false; perm.len()];
    for &p in &perm {
        if p >= perm.len() || std::mem::replace(&mut seen[p], true) {
            return fail(format!("`perm` {perm:?} is no permutation"));
        }
    }
    permuted(x, &perm)
}

/// Result axis i is axis `perm[i]` of x; `perm` is a permutation.
pub(super) fn permuted(x: &Tensor, perm: &[usize]) -> Res<Tensor> {
    let own = strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let steps: Vec<isize> = perm.iter().map(|&p| own[p]).collect();
    view(x, &shape, 0, &steps)
}

fn slice(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let (starts, shape) = (bound_dims(attrs, "starts")?, shape_attr(attrs, "sizes")?);
    let steps = attrs.ints("steps");
    if [starts.len(), shape.len(), steps.len()] != [x.rank(); 3] {
        return fail(format!("the slice has another number of axes than {}", x.ty()));
    }
    count(&shape, x.dtype().size())?;
    // Of an axis along which nothing is taken nothing is needed; of the others it is, also where there is nothing to read.
    for i in (0..x.rank()).filter(|&i| shape[i] > 0) {
        let last = (shape[i] as i64 - 1).checked_mul(steps[i]).and_then(|l| l.checked_add(starts[i]));
        for at in [Some(starts[i]), last] {
            if !at.is_some_and(|v| (0..x.shape()[i] as i64).contains(&v)) {
                return fail(format!(
                    "the slice from {} by {} of size {} leaves axis {i} of {}",
                    starts[i],
                    steps[i],
                    shape[i],
                    x.ty()
                ));
            }
        }
    }
    let own = strides(x.shape());
    let offset =
        if shape.contains(&0) { 0 } else { starts.iter().zip(&own).map(|(&s, &o)| s as isize * o).sum() };
    // The step of an axis that is not walked may be any number.
    let steps: Vec<isize> = (0..x.rank())
        .map(|i| if shape[i] < 2 || shape.contains(&0) { 0 } else { steps[i] as isize * own[i] })
        .collect();
    view(x, &shape, offset, &steps)
}

/// For every axis the source coordinate of each result coordinate, or `FILL`; then all combinations.
fn by_axis(x: &Tensor, fill: Option<&Tensor>, maps: &[Vec<usize>]) -> Res<Tensor> {
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    count(&shape, x.dtype().size())?;
    let own = strides(x.shape());
    let mut at = vec![0usize];
    for (map, &step) in maps.iter().zip(&own) {
        let mut next = Vec::with_capacity(at.len() * map.len());
        for &base in &at {
            next.extend(
                map.iter()
                    .map(|&m| if base == FILL || m == FILL { FILL } else { base + m * step as usize }),
            );
        }
        at = next;
    }
    select(x, fill, &shape, &at)
}

fn pad(x: &Tensor, fill: Option<&Tensor>, attrs: &Attrs) -> Res<Tensor> {
    let (low, high) = (bound_dims(attrs, "low")?, bound_dims(attrs, "high")?);
    let mode = attrs.str("mode");
    let absurd = |&p: &i64| p.unsigned_abs() > 1 << 40;
    if low.len() != x.rank() || high.len() != x.rank() || low.iter().chain(&high).any(absurd) {
        return fail(format!("the padding {low:?}, {high:?} does not fit {}", x.ty()));
    }
    let shape: Option<Vec<usize>> = (0..x.rank())
        .map(|i| {
            (x.shape()[i] as i64)
                .checked_add(low[i])?
                .checked_add(high[i])
                .and_then(|v| usize::try_from(v).ok())
        })
        .collect();
    let shape = shape.ok_or_else(|| {
        error(format!("padding {low:?}, {high:?} of {} leaves less than nothing", x.ty()))
    })?;
    count(&shape, x.dtype().size())?;
    let mut maps = vec![];
    for (i, &size) in shape.iter().enumerate() {
        let n = x.shape()[i] as i64;
        let mut map = Vec::with_capacity(size);
        for o in 0..size as i64 {
            let at = o - low[i];
            map.push(match mode {
                _ if (0..n).contains(&at) => at as usize,
                "constant" if fill.is_none() => return fail("constant padding without a value"),
                "constant" => FILL,
                _ if n == 0 => return fail(format!("`{mode}` padding of the empty axis {i}")),
                "edge" => at.clamp(0, n - 1) as usize,
                "wrap" => at.rem_euclid(n) as usize,
                // The pattern 0 1 .. n-1 n-2 .. 1 repeats.
                "reflect" if n == 1 => 0,
                "reflect" => {
                    let m = at.rem_euclid(2 * n - 2);
                    m.min(2 * n - 2 - m) as usize
                }
                other => return fail(format!("padding mode `{other}`")),
            });
        }
        maps.push(map);
    }
    by_axis(x, fill, &maps)
}

fn dilate(x: &Tensor, fill: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let factors = sizes(attrs, "factors", x.rank(), 1)?;
    let shape: Option<Vec<usize>> = x
        .shape()
        .iter()
        .zip(&factors)
        .map(|(&n, &f)| if n == 0 { Some(0) } else { (n - 1).checked_mul(f)?.checked_add(1) })
        .collect();
    let shape = shape.ok_or_else(|| error(format!("dilation by {factors:?} is too large")))?;
    count(&shape, x.dtype().size())?;
    let maps: Vec<Vec<usize>> = shape
        .iter()
        .zip(&factors)
        .map(|(&n, &f)| (0..n).map(|i| if i % f == 0 { i / f } else { FILL }).collect())
        .collect();
    by_axis(x, Some(fill), &maps)
}

fn concat(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let parts: Vec<&Tensor> = (0..operands.len()).map(|i| tensor(operands, i)).collect::<Res<_>>()?;
    let Some(first) = parts.first() else { return fail("concat of nothing") };
    join(&parts, axis(attrs, "axis", first.rank())?)
}

/// Tensors one after another along an axis.
pub(super) fn join(parts: &[&Tensor], axis: usize) -> Res<Tensor> {
    let Some(first) = parts.first() else { return fail("nothing to join") };
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for p in parts {
        let fits =
            p.rank() == shape.len() && (0..shape.len()).all(|i| i == axis || p.shape()[i] == shape[i]);
        if !fits {
            return fail(format!("{} and {} differ beside axis {axis}", first.ty(), p.ty()));
        }
        shape[axis] += p.shape()[axis];
    }
    let size = first.dtype().size();
    let n = count(&shape, size)?;
    if parts.iter().any(|p| p.dtype() != first.dtype()) {
        return fail(format!(
            "element types differ: {}",
            parts.iter().map(|t| t.ty().to_string()).collect::<Vec<_>>().join(", ")
        ));
    }
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    // The parts of one row of the result, each a run in its tensor.
    let rows = (0..outer).flat_map(|o| {
        parts.iter().map(move |p| {
            let run = p.shape()[axis] * inner;
            (*p, o * run..(o + 1) * run)
        })
    });
    if first.dtype() == DType::String {
        let mut strings = Vec::with_capacity(n);
        rows.for_each(|(p, run)| strings.extend_from_slice(&p.strings()[run]));
        return Ok(Tensor::from_strings(&shape, strings));
    }
    Ok(Tensor::filled(first.dtype(), &shape, |mut to| {
        for (p, run) in rows {
            let part = &p.bytes()[run.start * size..run.end * size];
            to.split_off_mut(..part.len()).into_iter().for_each(|t| t.copy_from_slice(part));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Dim, Op, attrs};

    fn dims(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|&v| Dim::from(v)).collect()
    }

    fn run(op: Op, attrs: Attrs, xs: &[Tensor]) -> Res<Tensor> {
        let operands: Vec<_> = xs.iter().map(|t| Some(t.clone().into())).collect();
        Ok(eval_op(op, &attrs, &operands, &[])?[0].as_tensor().unwrap().clone())
    }

    fn six() -> Tensor {
        Tensor::new(&[2, 3], vec![1i32, 2, 3, 4, 5, 6])
    }

    #[test]
    fn views() {
        assert_eq!(
            run(Op::Transpose, attrs! { perm: vec![1, 0] }, &[six()]).unwrap().data::<i32>(),
            [1, 4, 2, 5, 3, 6]
        );
        assert!(run(Op::Transpose, attrs! { perm: vec![0, 0] }, &[six()]).is_err());
        let s = attrs! { starts: dims(&[1, 2]), sizes: dims(&[1, 2]), steps: vec![1, -2] };
        assert_eq!(run(Op::Slice, s, &[six()]).unwrap().data::<i32>(), [6, 4]);
        let out = attrs! { starts: dims(&[0, 2]), sizes: dims(&[1, 2]), steps: vec![1, 1] };
        assert!(run(Op::Slice, out, &[six()]).is_err());
        assert!(run(Op::Reshape, attrs! { shape: dims(&[4]) }, &[six()]).is_err());
        assert!(run(Op::Reshape, attrs! { shape: dims(&[i64::MAX, 4]) }, &[six()]).is_err());
        let b = run(Op::Broadcast, attrs! { shape: dims(&[2, 2]) }, &[Tensor::new(&[2, 1], vec![7u8, 8])])
            .unwrap();
        assert_eq!(b.data::<u8>(), [7, 7, 8, 8]);
        let i = run(Op::Iota, attrs! { to: DType::F32, shape: dims(&[2, 3]), axis: 1 }, &[]).unwrap();
        assert_eq!(i.data::<f32>(), [0., 1., 2., 0., 1., 2.]);
    }

    #[test]
    fn padding() {
        let x = Tensor::new(&[3], vec![1i32, 2, 3]);
        let p = |mode: &str, low: i64, high: i64| {
            let a = attrs! { low: dims(&[low]), high: dims(&[high]), mode: mode };
            run(Op::Pad, a, &[x.clone(), Tensor::scalar(9i32)]).unwrap().data::<i32>().to_vec()
        };
        assert_eq!(p("constant", 1, -1), [9, 1, 2]);
        assert_eq!(p("edge", 2, 1), [1, 1, 1, 2, 3, 3]);
        assert_eq!(p("wrap", 2, 1), [2, 3, 1, 2, 3, 1]);
        assert_eq!(p("reflect", 2, 3), [3, 2, 1, 2, 3, 2, 1, 2]);
        let d = run(Op::Dilate, attrs! { factors: vec![2] }, &[x, Tensor::scalar(0i32)]).unwrap();
        assert_eq!(d.data::<i32>(), [1, 0, 2, 0, 3]);
    }

    #[test]
    fn joining() {
        let c = run(Op::Concat, attrs! { axis: 1 }, &[six(), Tensor::new(&[2, 1], vec![7i32, 8])]).unwrap();
        assert_eq!((c.shape(), c.data::<i32>()), (&[2, 4][..], &[1, 2, 3, 7, 4, 5, 6, 8][..]));
        let s = Tensor::from_strings(&[1], vec!["a".into()]);
        assert_eq!(run(Op::Concat, attrs! { axis: 0 }, &[s.clone(), s]).unwrap().strings(), ["a", "a"]);
    }
}
