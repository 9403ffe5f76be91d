//! Linear algebra beyond products.

use super::convert::{floats, from_floats};
use super::sort::order;
use super::support::*;
use crate::families::Linalg;
use crate::{Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Linalg, operands: &[Option<Value>]) -> Res<Tensor> {
    match op {
        Linalg::Det => det(tensor(operands, 0)?),
    }
}

/// Determinants of the matrices in the last two axes.
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

/// The product of the pivots of an elimination by rows. All of them count: beside a pivot of 0, an infinity or a NaN gives NaN.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut out = 1.0;
    for c in 0..n {
        // The first of the largest; NaN is the largest.
        let pivot =
            (c..n).rev().max_by(|&i, &j| order(a[i * n + c].abs(), a[j * n + c].abs())).unwrap_or(c);
        if pivot != c {
            (0..n).for_each(|k| a.swap(pivot * n + k, c * n + k));
            out = -out;
        }
        out *= a[c * n + c];
        // The column is all zeros from here down.
        if a[c * n + c] == 0.0 {
            continue;
        }
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
    use super::*;

    #[test]
    fn determinants() {
        assert_eq!(det(&Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0])).unwrap().data::<f32>(), [-2.0]);
        // One of two columns is 0, beside numbers and beside an infinity.
        assert_eq!(determinant(vec![0.0, 5.0, 0.0, 3.0], 2), 0.0);
        assert!(determinant(vec![0.0, 5.0, 0.0, f64::INFINITY], 2).is_nan());
        assert!(determinant(vec![0.0, 5.0, f64::NAN, 3.0], 2).is_nan());
    }
}
