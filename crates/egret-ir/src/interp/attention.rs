//! What transformers are made of: rotary embedding.

use super::convert::{floats, from_floats};
use super::support::*;
use crate::{Attrs, Op, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Op, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    match op {
        Op::Rotary => rotary(attrs, operands),
        _ => fail(format!("{op} is no part of a transformer")),
    }
}

/// The flat indices with which `t` broadcasts to `shape`, which must not grow by it.
fn indices_within(t: &Tensor, shape: &[usize]) -> Res<Vec<usize>> {
    if broadcast_shape(&[t.shape(), shape])? != shape {
        return fail(format!("{} does not broadcast to {shape:?}", t.ty()));
    }
    Ok(broadcast_indices(t.shape(), shape))
}

fn rotary(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (x, cos, sin) = (tensor(operands, 0)?, tensor(operands, 1)?, tensor(operands, 2)?);
    if cos.dtype() != x.dtype() || sin.dtype() != x.dtype() {
        return fail(format!("rotary of {}, {} and {}", x.ty(), cos.ty(), sin.ty()));
    }
    let Some(&d) = x.shape().last().filter(|d| *d % 2 == 0) else {
        return fail(format!("rotary of {}: its last axis must have an even size", x.ty()));
    };
    let (at_cos, at_sin) = (indices_within(cos, x.shape())?, indices_within(sin, x.shape())?);
    let (v, cos, sin) = (floats(x)?, floats(cos)?, floats(sin)?);
    // The two elements of a pair stand next to each other, or half the axis apart.
    let step = if attrs.flag("interleaved") { 1 } else { d / 2 };
    let one = |i: usize| {
        let turned = if i % d / step % 2 == 0 { -v[i + step] } else { v[i - step] };
        v[i] * cos[at_cos[i]] + turned * sin[at_sin[i]]
    };
    Ok(from_floats(x.dtype(), x.shape(), &(0..v.len()).map(one).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::attrs;

    fn run(op: Op, attrs: Attrs, operands: &[&Tensor]) -> Tensor {
        let operands: Vec<_> = operands.iter().map(|&t| Some(t.clone().into())).collect();
        eval_op(op, &attrs, &operands, &[]).unwrap()[0].as_tensor().unwrap().clone()
    }

    #[test]
    fn rotations() {
        let x = Tensor::new(&[2, 4], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let (cos, sin) = (Tensor::scalar(0f32), Tensor::new(&[2, 1], vec![1f32, 10.0]));
        let halves = run(Op::Rotary, attrs! { interleaved: 0 }, &[&x, &cos, &sin]);
        assert_eq!(halves.data::<f32>(), [-3.0, -4.0, 1.0, 2.0, -70.0, -80.0, 50.0, 60.0]);
        let pairs = run(Op::Rotary, attrs! { interleaved: 1 }, &[&x, &sin, &cos]);
        assert_eq!(pairs.data::<f32>(), [1.0, 2.0, 3.0, 4.0, 50.0, 60.0, 70.0, 80.0]);
        let pairs = run(Op::Rotary, attrs! { interleaved: 1 }, &[&x, &cos, &sin]);
        assert_eq!(pairs.data::<f32>(), [-2.0, 1.0, -4.0, 3.0, -60.0, 50.0, -80.0, 70.0]);
    }
}
