//! Random tensors of every element type.

use egret_ir::rng::Rng;
use egret_ir::{DType, Tensor};

/// A tensor of these numbers, rounded to the element type.
///
/// # Panics
/// If there are more or fewer numbers than the shape has, or the type holds no numbers.
pub fn of(dtype: DType, shape: &[usize], numbers: Vec<f64>) -> Tensor {
    Tensor::from_f64s(dtype, shape, numbers)
}

/// Whole numbers from `-most` to `most`, for float types multiplied by `step`. With a power of two as the
/// step, short sums and products of them are exact.
pub fn grid(rng: &mut Rng, dtype: DType, shape: &[usize], most: i64, step: f64) -> Tensor {
    let step = if dtype.is_float() { step } else { 1.0 };
    let number = |_| rng.range(-most, most) as f64 * step;
    of(dtype, shape, (0..shape.iter().product::<usize>()).map(number).collect())
}

/// The elements as f64; exact for all types but 64-bit integers.
///
/// # Panics
/// If the tensor holds strings.
pub fn to_f64(t: &Tensor) -> Vec<f64> {
    t.to_f64s().expect("numbers")
}
