//! Reductions over axes, and running ones along an axis.

use super::convert::{Nums, as_result, floats, int_range};
use super::denormals;
use super::elementwise::{max, min};
use super::sort::comparer;
use super::support::*;
use crate::families::Reduction;
use crate::{Attrs, DType, Tensor, Value};
use std::cmp::Ordering;

/// Evaluate an operation of this family.
pub(super) fn eval(op: Reduction, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = tensor(operands, 0)?;
    match op {
        Reduction::Reduce => reduce(x, attrs),
        Reduction::ArgReduce => arg_reduce(x, attrs),
        Reduction::Cumulative => cumulative(x, attrs),
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
    let (dtype, denormals) = (x.dtype(), denormals::current());
    let round = |v: f64| as_result(dtype, v, denormals);
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

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Op, attrs};

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
    }
}
