//! What transformers are made of: attention and rotary embedding.

use super::convert::{floats, from_floats};
use super::elementwise::max;
use super::support::*;
use crate::families::Attention;
use crate::{Attrs, DType, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Attention, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    match op {
        Attention::Attention => attention(attrs, operands),
        Attention::Rotary => rotary(attrs, operands),
    }
}

/// The flat indices with which `t` broadcasts to `shape`, which must not grow by it.
fn indices_within(t: &Tensor, shape: &[usize]) -> Res<Vec<usize>> {
    if broadcast_shape(&[t.shape(), shape])? != shape {
        return fail(format!("{} does not broadcast to {shape:?}", t.ty()));
    }
    Ok(broadcast_indices(t.shape(), shape))
}

/// A mask with the places of its elements among the scores.
enum Mask<'a> {
    None,
    Added(Vec<f64>, Vec<usize>),
    Allowed(&'a [u8], Vec<usize>),
}

fn attention(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (q, k, v, mask) =
        (tensor(operands, 0)?, tensor(operands, 1)?, tensor(operands, 2)?, optional(operands, 3)?);
    let misfit = || error(format!("attention of {}, {} and {}", q.ty(), k.ty(), v.ty()));
    let split = |t: &'_ Tensor| {
        t.shape().split_last_chunk::<2>().map(|(lead, last)| (lead.to_vec(), *last)).ok_or_else(misfit)
    };
    let ((lead_q, [rows, width]), (lead_k, [keys, width_k]), (lead_v, [keys_v, out])) =
        (split(q)?, split(k)?, split(v)?);
    let shared = mask.filter(|m| m.dtype() != DType::Bool);
    if width != width_k
        || keys != keys_v
        || [Some(k), Some(v), shared].into_iter().flatten().any(|t| t.dtype() != q.dtype())
    {
        return Err(misfit());
    }
    let lead = broadcast_shape(&[&lead_q, &lead_k, &lead_v])?;
    let (scores_shape, shape) =
        ([lead.as_slice(), &[rows, keys]].concat(), [lead.as_slice(), &[rows, out]].concat());
    count(&scores_shape, 8)?;
    let mut result = vec![0.0; count(&shape, 8)?];
    let places = |mask: &Tensor| indices_within(mask, &scores_shape);
    let mask = match mask {
        Some(mask) if mask.dtype() == DType::Bool => Mask::Allowed(mask.bytes(), places(mask)?),
        Some(mask) => Mask::Added(floats(mask)?, places(mask)?),
        None => Mask::None,
    };
    let (scale, fill, safe) = (attrs.float("scale"), attrs.float("fill"), attrs.flag("safe"));
    let (qs, ks, vs) = (floats(q)?, floats(k)?, floats(v)?);
    let places = [&lead_q, &lead_k, &lead_v].map(|own| broadcast_indices(own, &lead));
    let mut scores = vec![0.0; keys];
    for batch in 0..places[0].len() {
        let [q0, k0, v0] = [
            places[0][batch] * rows * width,
            places[1][batch] * keys * width,
            places[2][batch] * keys * out,
        ];
        for row in 0..rows {
            let at = batch * rows + row;
            for (j, score) in scores.iter_mut().enumerate() {
                let product = sum((0..width).map(|d| qs[q0 + row * width + d] * ks[k0 + j * width + d]));
                *score = match &mask {
                    Mask::None => scale * product,
                    Mask::Added(values, places) => scale * product + values[places[at * keys + j]],
                    Mask::Allowed(allowed, places) if allowed[places[at * keys + j]] != 0 => {
                        scale * product
                    }
                    Mask::Allowed(..) => fill,
                };
            }
            let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &s| max(a, s));
            scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
            let sum = sum(scores.iter().copied());
            for (j, &score) in scores.iter().enumerate() {
                let share = score / sum;
                let share = if safe && share.is_nan() { 0.0 } else { share };
                let sums = &mut result[at * out..(at + 1) * out];
                sums.iter_mut().zip(&vs[v0 + j * out..]).for_each(|(s, v)| *s += share * v);
            }
        }
    }
    Ok(from_floats(q.dtype(), &shape, &result))
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
        let turned = if (i % d / step).is_multiple_of(2) { -v[i + step] } else { v[i - step] };
        v[i] * cos[at_cos[i]] + turned * sin[at_sin[i]]
    };
    Ok(from_floats(x.dtype(), x.shape(), &(0..v.len()).map(one).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Op, attrs};

    fn run(op: Op, attrs: Attrs, operands: &[&Tensor]) -> Tensor {
        let operands: Vec<_> = operands.iter().map(|&t| Some(t.clone().into())).collect();
        eval_op(op, &attrs, &operands, &[]).unwrap()[0].as_tensor().unwrap().clone()
    }

    #[test]
    fn attends() {
        // Two queries of which the second sees the first key only; scores are 0 and ln 3.
        let q = Tensor::new(&[2, 1], vec![1f32, 1.0]);
        let k = Tensor::new(&[2, 1], vec![0f32, 3f32.ln() / 2.0]);
        let v = Tensor::new(&[2, 3], vec![4f32, 0.0, 8.0, 0.0, 4.0, 8.0]);
        let with = |fill: f32, safe: i64| attrs! { scale: 2.0, fill: f64::from(fill), safe: safe };
        let a = || with(0.0, 0);
        let close = |t: &Tensor, want: &[f32]| {
            assert_eq!(t.len(), want.len());
            t.data::<f32>()
                .iter()
                .zip(want)
                .for_each(|(g, w)| assert!((g - w).abs() < 1e-6 || (g.is_nan() && w.is_nan()), "{g} {w}"));
        };
        close(&run(Op::Attention, a(), &[&q, &k, &v]), &[1.0, 3.0, 8.0, 1.0, 3.0, 8.0]);
        let inf = f32::NEG_INFINITY;
        let mask = Tensor::new(&[2, 2], vec![0f32, 0.0, 0.0, inf]);
        close(&run(Op::Attention, a(), &[&q, &k, &v, &mask]), &[1.0, 3.0, 8.0, 4.0, 0.0, 8.0]);
        let nothing = Tensor::new(&[1, 2], vec![inf, inf]);
        close(&run(Op::Attention, a(), &[&q, &k, &v, &nothing]), &[f32::NAN; 6]);
        close(&run(Op::Attention, with(0.0, 1), &[&q, &k, &v, &nothing]), &[0.0; 6]);
        let allowed = Tensor::from_bools(&[2, 2], &[true, true, true, false]);
        close(&run(Op::Attention, with(inf, 0), &[&q, &k, &v, &allowed]), &[1.0, 3.0, 8.0, 4.0, 0.0, 8.0]);
        let none = Tensor::from_bools(&[1, 2], &[false, false]);
        close(&run(Op::Attention, with(-1e9, 0), &[&q, &k, &v, &none]), &[2.0, 2.0, 8.0, 2.0, 2.0, 8.0]);
        close(&run(Op::Attention, with(inf, 0), &[&q, &k, &v, &none]), &[f32::NAN; 6]);
        close(&run(Op::Attention, with(inf, 1), &[&q, &k, &v, &none]), &[0.0; 6]);
        // Grouped queries: three heads of queries share one of keys; the mask differs by head.
        let heads = Tensor::new(&[3, 2, 1], vec![1f32; 6]);
        let by_head = Tensor::new(&[3, 1, 2], vec![0f32, 0.0, 0.0, inf, inf, 0.0]);
        let y = run(Op::Attention, a(), &[&heads, &k.reshaped(&[1, 2, 1]), &v, &by_head]);
        close(
            &y,
            &[1.0, 3.0, 8.0, 1.0, 3.0, 8.0, 4.0, 0.0, 8.0, 4.0, 0.0, 8.0, 0.0, 4.0, 8.0, 0.0, 4.0, 8.0],
        );
        let (no_keys, no_values) =
            (Tensor::new::<f32>(&[0, 1], vec![]), Tensor::new::<f32>(&[0, 3], vec![]));
        close(&run(Op::Attention, a(), &[&q, &no_keys, &no_values]), &[0.0; 6]);
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
