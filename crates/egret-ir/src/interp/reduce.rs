//! Operations along axes: reductions, running sums, softmax, normalisation, sorting, determinants.

use super::convert::{Nums, floats, from_floats, int_range};
use super::elementwise::{max, min};
use super::support::*;
use crate::{Attrs, DType, Op, Tensor, Value};
use std::cmp::Ordering;

/// Evaluate an operation of this family.
pub(super) fn eval(op: Op, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = tensor(operands, 0)?;
    match op {
        Op::Reduce => Ok(vec![reduce(x, attrs)?]),
        Op::ArgReduce => Ok(vec![arg_reduce(x, attrs)?]),
        Op::Cumulative => Ok(vec![cumulative(x, attrs)?]),
        Op::Softmax => Ok(vec![softmax(x, attrs)?]),
        Op::LayerNorm => Ok(vec![layer_norm(x, attrs)?]),
        Op::RmsNorm => Ok(vec![rms_norm(x, attrs)?]),
        Op::TopK => top_k(x, attrs),
        Op::Det => Ok(vec![det(x)?]),
        _ => fail(format!("{op} is no reduction")),
    }
}

fn reduce(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let kind = attrs.str("kind");
    let mut reduced = vec![false; x.rank()];
    for &a in attrs.ints("axes") {
        match usize::try_from(a).ok().and_then(|a| reduced.get_mut(a)) {
            Some(slot) => *slot = true,
            None => return fail(format!("axis {a} of {}", x.ty())),
        }
    }
    let own = strides(x.shape());
    let part = |keep: bool| -> (Vec<usize>, Vec<isize>) {
        (0..x.rank()).filter(|&i| reduced[i] != keep).map(|i| (x.shape()[i], own[i])).unzip()
    };
    let ((kept, kept_steps), (gone, gone_steps)) = (part(true), part(false));
    let shape: Vec<usize> = if attrs.flag("keepdims") {
        (0..x.rank()).map(|i| if reduced[i] { 1 } else { x.shape()[i] }).collect()
    } else {
        kept.clone()
    };
    count(&shape, x.dtype().size())?;
    let starts = strided(&kept, 0, &kept_steps);
    let offsets = strided(&gone, 0, &gone_steps);
    let unknown = || error(format!("reduction `{kind}` of {}", x.dtype()));
    Ok(match Nums::of(x)? {
        Nums::F(v) => {
            let (init, f): (f64, fn(f64, f64) -> f64) = match kind {
                "sum" => (0.0, |a, b| a + b),
                "prod" => (1.0, |a, b| a * b),
                "max" => (f64::NEG_INFINITY, max),
                "min" => (f64::INFINITY, min),
                _ => return Err(unknown()),
            };
            Nums::F(starts.iter().map(|&s| offsets.iter().fold(init, |a, &o| f(a, v[s + o]))).collect())
        }
        Nums::I(v) => {
            let (least, largest) = int_range(x.dtype());
            let truth = x.dtype() == DType::Bool;
            let (init, f): (i128, fn(i128, i128) -> i128) = match kind {
                "sum" => (0, i128::wrapping_add),
                "prod" => (1, i128::wrapping_mul),
                "max" if truth => (0, i128::max),
                "min" if truth => (1, i128::min),
                "max" => (least, i128::max),
                "min" => (largest, i128::min),
                "and" => (1, i128::min),
                "or" => (0, i128::max),
                _ => return Err(unknown()),
            };
            Nums::I(starts.iter().map(|&s| offsets.iter().fold(init, |a, &o| f(a, v[s + o]))).collect())
        }
    }
    .tensor(x.dtype(), &shape))
}

/// Order of two numbers; NaN above all.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The order of the elements at two flat indices.
pub(super) fn comparer(x: &Tensor) -> Res<Box<dyn Fn(usize, usize) -> Ordering>> {
    Ok(match x.dtype() {
        DType::String => {
            let v = x.strings().to_vec();
            Box::new(move |i, j| v[i].cmp(&v[j]))
        }
        _ => match Nums::of(x)? {
            Nums::F(v) => Box::new(move |i, j| order(v[i], v[j])),
            Nums::I(v) => Box::new(move |i, j| v[i].cmp(&v[j])),
        },
    })
}

fn arg_reduce(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let wanted = match attrs.str("kind") {
        "max" => Ordering::Greater,
        "min" => Ordering::Less,
        other => return fail(format!("arg_reduce by `{other}`")),
    };
    let last = attrs.flag("last");
    let (starts, step, n) = lines(x.shape(), axis);
    if n == 0 && !starts.is_empty() {
        return fail(format!("axis {axis} of {} is empty", x.ty()));
    }
    let compare = comparer(x)?;
    // NaN wins in both directions, as in `reduce`.
    let values = if x.dtype().is_float() { floats(x)? } else { vec![] };
    let nan = |i: usize| values.get(i).is_some_and(|v| v.is_nan());
    let out = starts
        .iter()
        .map(|&s| {
            (1..n).fold(0, |best, i| {
                let found = compare(s + i * step, s + best * step);
                let better = !nan(s + best * step) && (found == wanted || nan(s + i * step))
                    || (last && found == Ordering::Equal);
                if better { i } else { best }
            }) as i64
        })
        .collect();
    let mut shape = x.shape().to_vec();
    if attrs.flag("keepdims") {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    Ok(Tensor::new(&shape, out))
}

fn cumulative(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let (exclusive, reverse) = (attrs.flag("exclusive"), attrs.flag("reverse"));
    let (starts, step, n) = lines(x.shape(), axis);
    fn run<T: Copy>(
        v: &mut [T],
        places: impl Iterator<Item = usize>,
        init: T,
        exclusive: bool,
        f: impl Fn(T, T) -> T,
    ) {
        let mut sum = init;
        for i in places {
            let with = f(sum, v[i]);
            v[i] = if exclusive { sum } else { with };
            sum = with;
        }
    }
    let sum = match attrs.str("kind") {
        "sum" => true,
        "prod" => false,
        other => return fail(format!("cumulative `{other}`")),
    };
    let round: fn(f64) -> f64 = match x.dtype() {
        DType::F32 => |v| f64::from(v as f32),
        DType::F16 => |v| half::f16::from_f64(v).to_f64(),
        DType::BF16 => |v| half::bf16::from_f32(v as f32).to_f64(),
        _ => |v| v,
    };
    let mut nums = Nums::of(x)?;
    for s in starts {
        let places = (0..n).map(|i| s + step * if reverse { n - 1 - i } else { i });
        match &mut nums {
            Nums::F(v) => {
                let f = |a: f64, b: f64| round(if sum { a + b } else { a * b });
                run(v, places, if sum { 0.0 } else { 1.0 }, exclusive, f);
            }
            Nums::I(v) if sum => run(v, places, 0, exclusive, i128::wrapping_add),
            Nums::I(v) => run(v, places, 1, exclusive, i128::wrapping_mul),
        }
    }
    Ok(nums.tensor(x.dtype(), x.shape()))
}

fn softmax(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let mut v = floats(x)?;
    let (starts, step, n) = lines(x.shape(), axis);
    for s in starts {
        let largest = (0..n).fold(f64::NEG_INFINITY, |a, i| max(a, v[s + i * step]));
        let mut sum = 0.0;
        for i in 0..n {
            let e = (v[s + i * step] - largest).exp();
            v[s + i * step] = e;
            sum += e;
        }
        (0..n).for_each(|i| v[s + i * step] /= sum);
    }
    Ok(from_floats(x.dtype(), x.shape(), &v))
}

fn layer_norm(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let epsilon = attrs.float("epsilon");
    let mut v = floats(x)?;
    let n: usize = x.shape()[axis..].iter().product();
    for row in v.chunks_mut(n.max(1)) {
        let mean = row.iter().sum::<f64>() / n as f64;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        let scale = (variance + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v = (*v - mean) / scale);
    }
    Ok(from_floats(x.dtype(), x.shape(), &v))
}

fn rms_norm(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let axis = axis(attrs, "axis", x.rank())?;
    let epsilon = attrs.float("epsilon");
    let mut v = floats(x)?;
    let n: usize = x.shape()[axis..].iter().product();
    for row in v.chunks_mut(n.max(1)) {
        let scale = (row.iter().map(|v| v * v).sum::<f64>() / n as f64 + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v /= scale);
    }
    Ok(from_floats(x.dtype(), x.shape(), &v))
}

fn top_k(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    let axis = axis(attrs, "axis", x.rank())?;
    let k = attrs
        .dim("k")
        .as_const()
        .ok_or_else(|| error(format!("`k` has an unbound symbol: {}", attrs.dim("k"))))?;
    let n = x.shape()[axis];
    let k = usize::try_from(k)
        .ok()
        .filter(|&k| k <= n)
        .ok_or_else(|| error(format!("k = {k} of an axis of {n}")))?;
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    let (starts, step, _) = lines(x.shape(), axis);
    let (out_starts, out_step, _) = lines(&shape, axis);
    let (mut pick, mut places) = (vec![0usize; count(&shape, 8)?], vec![0i64; count(&shape, 8)?]);
    let compare = comparer(x)?;
    let largest = attrs.flag("largest");
    for (&s, &o) in starts.iter().zip(&out_starts) {
        let mut line: Vec<usize> = (0..n).collect();
        line.sort_by(|&i, &j| {
            let found = compare(s + i * step, s + j * step);
            if largest { found.reverse() } else { found }
        });
        for (i, &at) in line[..k].iter().enumerate() {
            pick[o + i * out_step] = s + at * step;
            places[o + i * out_step] = at as i64;
        }
    }
    Ok(vec![select(x, None, &shape, &pick)?, Tensor::new(&shape, places)])
}

fn det(x: &Tensor) -> Res<Tensor> {
    let Some((&[n, m], batch)) = x.shape().split_last_chunk::<2>().map(|(b, l)| (l, b)) else {
        return fail(format!("no matrices in {}", x.ty()));
    };
    if n != m {
        return fail(format!("the matrices of {} are not square", x.ty()));
    }
    let v = floats(x)?;
    let out: Vec<f64> = (0..batch.iter().product())
        .map(|b: usize| determinant(v[b * n * n..(b + 1) * n * n].to_vec(), n))
        .collect();
    Ok(from_floats(x.dtype(), batch, &out))
}

/// By elimination with row pivots.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut out = 1.0;
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| order(a[i * n + c].abs(), a[j * n + c].abs())).unwrap_or(c);
        if a[pivot * n + c] == 0.0 {
            return 0.0;
        }
        if pivot != c {
            (0..n).for_each(|k| a.swap(pivot * n + k, c * n + k));
            out = -out;
        }
        out *= a[c * n + c];
        for r in c + 1..n {
            let f = a[r * n + c] / a[c * n + c];
            for k in c..n {
                a[r * n + k] -= f * a[c * n + k];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Dim, attrs};

    fn run(op: Op, attrs: Attrs, x: &Tensor) -> Vec<Tensor> {
        let out = eval_op(op, &attrs, &[Some(x.clone().into())], &[]).unwrap();
        out.iter().map(|v| v.as_tensor().unwrap().clone()).collect()
    }

    #[test]
    fn reductions() {
        let x = Tensor::new(&[2, 3], vec![1i32, 5, 3, 4, 2, 6]);
        let r = |kind: &str, axes: Vec<i64>| {
            run(Op::Reduce, attrs! { kind: kind, axes: axes, keepdims: 0 }, &x)[0].clone()
        };
        assert_eq!(r("sum", vec![0]).data::<i32>(), [5, 7, 9]);
        assert_eq!(r("prod", vec![1]).data::<i32>(), [15, 48]);
        assert_eq!(r("max", vec![0, 1]).data::<i32>(), [6]);
        let empty = Tensor::new::<f32>(&[0, 2], vec![]);
        let m = run(Op::Reduce, attrs! { kind: "max", axes: vec![0], keepdims: 1 }, &empty);
        assert_eq!((m[0].shape(), m[0].data::<f32>()), (&[1, 2][..], &[f32::NEG_INFINITY; 2][..]));
        let a = run(Op::ArgReduce, attrs! { kind: "max", axis: 1, keepdims: 0, last: 0 }, &x);
        assert_eq!(a[0].data::<i64>(), [1, 2]);
        let same = Tensor::new(&[3], vec![2f32, 2.0, 1.0]);
        assert_eq!(
            run(Op::ArgReduce, attrs! { kind: "max", axis: 0, keepdims: 0, last: 1 }, &same)[0]
                .data::<i64>(),
            [1]
        );
    }

    #[test]
    fn running() {
        let x = Tensor::new(&[3], vec![1f32, 2.0, 3.0]);
        let c = |e: i64, r: i64| {
            run(Op::Cumulative, attrs! { kind: "sum", axis: 0, exclusive: e, reverse: r }, &x)[0]
                .data::<f32>()
                .to_vec()
        };
        assert_eq!(c(0, 0), [1., 3., 6.]);
        assert_eq!(c(1, 0), [0., 1., 3.]);
        assert_eq!(c(0, 1), [6., 5., 3.]);
        let t = run(
            Op::TopK,
            attrs! { k: Dim::from(2i64), axis: 0, largest: 1 },
            &Tensor::new(&[4], vec![1i8, 7, 7, -3]),
        );
        assert_eq!((t[0].data::<i8>(), t[1].data::<i64>()), (&[7i8, 7][..], &[1i64, 2][..]));
    }

    #[test]
    fn normalised() {
        let x = Tensor::new(&[1, 2], vec![0f64, 3f64.ln()]);
        let s = run(Op::Softmax, attrs! { axis: 1 }, &x);
        assert!((s[0].data::<f64>()[1] - 0.75).abs() < 1e-15);
        let l = run(Op::LayerNorm, attrs! { axis: 0, epsilon: 0.0 }, &Tensor::new(&[2], vec![1f32, 3.0]));
        assert_eq!(l[0].data::<f32>(), [-1.0, 1.0]);
        let r = run(
            Op::RmsNorm,
            attrs! { axis: 1, epsilon: 0.5 },
            &Tensor::new(&[2, 2], vec![1f32, 0.0, -1.0, 2.0]),
        );
        assert_eq!(r[0].data::<f32>(), [1.0, 0.0, -1.0 / 3f32.sqrt(), 2.0 / 3f32.sqrt()]);
        assert_eq!(
            run(Op::Det, attrs! {}, &Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]))[0].data::<f32>(),
            [-2.0]
        );
    }
}
