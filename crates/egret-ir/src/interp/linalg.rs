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
    use super::*;

    #[test]
    fn determinants() {
        assert_eq!(det(&Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0])).unwrap().data::<f32>(), [-2.0]);
    }
}
