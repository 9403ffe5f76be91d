//! Numbers that are special in some element type.

use egret::ir::Tensor;

/// Not a number, infinities, zeros of both signs, subnormal numbers, extremes, halves; conversion makes them each type's own extremes.
pub const SPECIAL: [f64; 41] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    3.0,
    -3.0,
    2.5,
    -7.0,
    100.0,
    255.0,
    -128.0,
    6.1e-5,
    -5.9e-8,
    1.18e-38,
    -1e-45,
    5e-324,
    65504.0,
    3.4e38,
    -3.4e38,
    1e300,
    -1.7e308,
    1e7,
    -4e8,
    1e18,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1e-3,
    // Activations are a zero with a sign here, and exponentials subnormal: of f32, and of f64.
    -20.0,
    -40.0,
    89.5,
    -88.8,
    -95.0,
    -720.0,
    // Rounded to f32 first, these would be halfway between two of f16, and of bf16.
    ABOVE_HALFWAY[0],
    -ABOVE_HALFWAY[1],
    ABOVE_HALFWAY[2],
    -ABOVE_HALFWAY[3],
];

/// Just above the halfway point of two neighbours: of f16, of bf16, of bf16 as whole numbers.
const ABOVE_HALFWAY: [f64; 4] = [
    1.0 + 1.0 / 2048.0 + 1.0 / (1u64 << 40) as f64,
    1.0 + 1.0 / 256.0 + 1.0 / (1u64 << 40) as f64,
    ((1u64 << 30) + (1 << 22) + 1) as f64,
    ((1u64 << 60) + (1 << 52) + (1 << 10)) as f64,
];

/// The bits of each element as a f64, one NaN for all.
///
/// # Panics
/// Where the elements are no numbers.
pub fn bits(t: &Tensor) -> Vec<u64> {
    let numbers = t.to_f64s().expect("numbers");
    numbers.into_iter().map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }).collect()
}
