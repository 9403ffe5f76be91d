//! Random numbers that every engine draws alike.

use super::convert::from_floats;
use super::support::{Res, count, fail, shape_attr};
use crate::families::Random;
use crate::{Attrs, Tensor, rng};

/// Draw `index` of the generator keyed by `seed`: a number in [0, 1), a multiple of 2^-24.
///
/// The key is the bits of `seed` as f64. With all arithmetic on u64, wrapping:
/// `z = key + (index + 1) * 0x9E3779B97F4A7C15`, then `z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9`, then
/// `z = (z ^ (z >> 27)) * 0x94D049BB133111EB`, then `z = z ^ (z >> 31)`; the draw is `(z >> 40) * 2^-24`.
///
/// - `random_uniform`: element i is `low + (high - low) * draw(seed, i)`, computed in f64, rounded to the element type.
/// - `random_normal`: with u = `draw(seed, 2 * i)` and v = `draw(seed, 2 * i + 1)`, element i is
///   `mean + scale * sqrt(-2 * ln(1 - u)) * cos(2 * pi * v)`, likewise.
pub fn draw(seed: f64, index: u64) -> f64 {
    f64::from(rng::unit(rng::nth(seed.to_bits(), index)))
}

/// Evaluate a random operation.
pub(super) fn eval(op: Random, attrs: &Attrs) -> Res<Tensor> {
    let (to, shape, seed) = (attrs.dtype("to"), shape_attr(attrs, "shape")?, attrs.float("seed"));
    if !to.is_float() {
        return fail(format!("random numbers of {to}"));
    }
    let n = count(&shape, 8)? as u64;
    let out: Vec<f64> = match op {
        Random::RandomUniform => {
            let (low, high) = (attrs.float("low"), attrs.float("high"));
            (0..n).map(|i| low + (high - low) * draw(seed, i)).collect()
        }
        Random::RandomNormal => {
            let (mean, scale) = (attrs.float("mean"), attrs.float("scale"));
            (0..n)
                .map(|i| {
                    let radius = (-2.0 * (1.0 - draw(seed, 2 * i)).ln()).sqrt();
                    mean + scale * radius * (std::f64::consts::TAU * draw(seed, 2 * i + 1)).cos()
                })
                .collect()
        }
    };
    Ok(from_floats(to, &shape, &out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Dim, attrs};

    #[test]
    fn moments() {
        let shape = vec![Dim::from(10_000i64)];
        let u = eval(
            Random::RandomUniform,
            &attrs! { to: DType::F32, shape: shape.clone(), low: 2.0, high: 4.0, seed: 7.0 },
        )
        .unwrap();
        let mean = |t: &Tensor| t.data::<f32>().iter().map(|&v| f64::from(v)).sum::<f64>() / 1e4;
        assert!((mean(&u) - 3.0).abs() < 0.02 && u.data::<f32>().iter().all(|v| (2.0..4.0).contains(v)));
        let n = eval(
            Random::RandomNormal,
            &attrs! { to: DType::F32, shape: shape, mean: 1.0, scale: 2.0, seed: 7.0 },
        )
        .unwrap();
        let variance = n.data::<f32>().iter().map(|&v| (f64::from(v) - 1.0).powi(2)).sum::<f64>() / 1e4;
        assert!((mean(&n) - 1.0).abs() < 0.06 && (variance - 4.0).abs() < 0.2);
        assert_ne!(draw(1.0, 0), draw(2.0, 0));
    }
}
