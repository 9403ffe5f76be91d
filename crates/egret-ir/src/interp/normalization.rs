//! Rows divided by what they amount to: softmax, layer norm, root mean square.

use super::convert::{floats, from_floats};
use super::elementwise::max;
use super::support::*;
use crate::families::Normalization;
use crate::{Attrs, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Normalization, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = tensor(operands, 0)?;
    match op {
        Normalization::Softmax => softmax(x, attrs),
        Normalization::LayerNorm => layer_norm(x, attrs),
        Normalization::RmsNorm => rms_norm(x, attrs),
    }
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
        let mean = sum(row.iter().copied()) / n as f64;
        let variance = sum(row.iter().map(|v| (v - mean) * (v - mean))) / n as f64;
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
        let scale = (sum(row.iter().map(|v| v * v)) / n as f64 + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v /= scale);
    }
    Ok(from_floats(x.dtype(), x.shape(), &v))
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
    }
}
