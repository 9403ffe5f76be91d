//! Where and how much: the points of Gauss and Legendre.

/// `n` points of 0..1 and their weights, which add up to 1: polynomials of degree 2 n - 1 are integrated exactly.
pub(crate) fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let mut out = vec![(0.0, 0.0); n];
    for i in 0..n.div_ceil(2) {
        // Newton's method from Tricomi's estimate of the root.
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        for _ in 0..100 {
            let (p, slope) = legendre(n, x);
            let step = p / slope;
            x -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        let (_, slope) = legendre(n, x);
        let weight = 1.0 / ((1.0 - x * x) * slope * slope);
        out[i] = ((1.0 - x) / 2.0, weight);
        out[n - 1 - i] = ((1.0 + x) / 2.0, weight);
    }
    out
}

/// The Legendre polynomial of degree `n` and its slope.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut p) = (1.0, x);
    for k in 2..=n {
        let k = k as f64;
        (before, p) = (p, ((2.0 * k - 1.0) * x * p - (k - 1.0) * before) / k);
    }
    (p, n as f64 * (x * p - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for n in [1, 2, 3, 8, 64, 501] {
            let points = gauss_legendre(n);
            assert!(points.windows(2).all(|w| w[0].0 < w[1].0), "{n}: {points:?}");
            for degree in [0, 1, 3, 15].into_iter().filter(|d| *d < 2 * n as i32) {
                let sum: f64 = points.iter().map(|(x, w)| w * x.powi(degree)).sum();
                let exact = 1.0 / f64::from(degree + 1);
                assert!((sum - exact).abs() < 1e-13, "{n} points, degree {degree}: {sum}");
            }
        }
    }
}
