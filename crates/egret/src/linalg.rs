//! Dense linear algebra in f64: what least squares with a covariance matrix needs. Sums run in a fixed order.

/// Numbers that are summed side by side, so that the compiler may use vector instructions.
const LANES: usize = 8;

/// The sum of products.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_parts, a_rest) = a.as_chunks::<LANES>();
    let (b_parts, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_parts.iter().zip(b_parts) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// `y += a x`.
pub fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// A factor of the inverse of a symmetric positive matrix: upper triangular `U` with `inv(H) = U^T U`, row-major.
///
/// `None` where the matrix is not positive definite.
pub fn inverse_factor(h: &[f64], n: usize) -> Option<Vec<f64>> {
    // With both axes reversed, Cholesky gives `H = V V^T` with an upper V, and U is its inverse.
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let sum = h[(n - 1 - i) * n + (n - 1 - j)] - dot(&l[i * n..i * n + j], &l[j * n..j * n + j]);
            if i == j {
                if sum.is_nan() || sum <= 0.0 || sum.is_infinite() {
                    return None;
                }
                l[i * n + i] = sum.sqrt();
            } else {
                l[i * n + j] = sum / l[j * n + j];
            }
        }
    }
    let mut x = vec![0.0; n * n];
    for i in 0..n {
        let (done, row) = x.split_at_mut(i * n);
        let row = &mut row[..=i];
        for k in 0..i {
            axpy(&mut row[..=k], -l[i * n + k], &done[k * n..=k * n + k]);
        }
        let scale = 1.0 / l[i * n + i];
        row[..i].iter_mut().for_each(|v| *v *= scale);
        row[i] = scale;
    }
    x.reverse();
    Some(x)
}

/// The diagonal of the inverse, of its factor.
pub fn inverse_diagonal(u: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n];
    for row in u.chunks_exact(n.max(1)) {
        out.iter_mut().zip(row).for_each(|(o, v)| *o += v * v);
    }
    out
}

/// `B inv(H)` for rows B, with the factor of the inverse.
pub fn solve_rows(b: &[f64], u: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; b.len()];
    let mut half = vec![0.0; n];
    for (b, out) in b.chunks_exact(n.max(1)).zip(out.chunks_exact_mut(n.max(1))) {
        // (b U^T) U.
        for j in 0..n {
            half[j] = dot(&b[j..], &u[j * n + j..(j + 1) * n]);
        }
        for j in 0..n {
            axpy(&mut out[j..], half[j], &u[j * n + j..(j + 1) * n]);
        }
    }
    out
}

/// `row H` of a symmetric matrix; zeros of the row cost nothing.
pub fn times(row: &[f64], h: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (&w, line) in row.iter().zip(h.chunks_exact(row.len().max(1))) {
        if w != 0.0 {
            axpy(out, w, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::rng::Rng;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let n = 19;
        let mut rng = Rng::new(3);
        let a: Vec<f64> = (0..n * n).map(|_| rng.signed_f64()).collect();
        let at = |i: usize, j: usize| -> f64 {
            (0..n).map(|k| a[i * n + k] * a[j * n + k]).sum::<f64>() + if i == j { 0.5 } else { 0.0 }
        };
        let h: Vec<f64> = (0..n * n).map(|k| at(k / n, k % n)).collect();
        let u = inverse_factor(&h, n).expect("positive");
        assert!((0..n).all(|i| u[i * n..i * n + i].iter().all(|v| *v == 0.0)), "upper");
        let identity = solve_rows(&h, &u, n);
        for (k, v) in identity.iter().enumerate() {
            let want = if k / n == k % n { 1.0 } else { 0.0 };
            assert!((v - want).abs() < 1e-9, "{k}: {v}");
        }
        let unit: Vec<f64> = (0..n).map(|j| f64::from(u8::from(j == 4))).collect();
        let column = solve_rows(&unit, &u, n);
        assert!((inverse_diagonal(&u, n)[4] - column[4]).abs() < 1e-12);
        let mut back = vec![0.0; n];
        times(&column, &h, &mut back);
        assert!(back.iter().zip(&unit).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
    }

    #[test]
    fn what_is_not_positive_has_no_factor() {
        assert!(inverse_factor(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(inverse_factor(&[f64::NAN], 1).is_none());
        assert_eq!(inverse_factor(&[4.0], 1), Some(vec![0.5]));
    }
}
