//! f64 rounded to floats of 16 bits, once.
//!
//! Through f32 a number may be rounded twice: 1 + 2^-11 + 2^-40 is 1 + 2^-11 in f32, which lies halfway between two f16 and goes to
//! the even one, while the number itself lies nearer to the other. So f32 is rounded **to odd** here: an inexact number becomes the one
//! of the two neighbours whose last bit is 1, which no halfway point has (Boldo and Melquiond, "Emulation of FMA and correctly rounded
//! sums: proved algorithms using rounding to odd", 2008).

use half::{bf16, f16};

/// The f32 next to a number whose last bit is 1, or the number itself if it is an f32.
pub fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if back == x || x.is_nan() {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(back.abs() > x.abs());
    f32::from_bits(toward_zero | 1)
}

/// A number rounded to f16, ties to even.
pub fn f16_of(x: f64) -> f16 {
    f16::from_f32(to_odd(x))
}

/// A number rounded to bf16, ties to even.
pub fn bf16_of(x: f64) -> bf16 {
    bf16::from_f32(to_odd(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers beside the halfway points of all neighbours, by the neighbours themselves.
    #[test]
    fn each_number_goes_to_the_nearer_neighbour() {
        let mut seen = 0;
        for code in 0..0x7c00u16 {
            let (low, high) = (f16::from_bits(code), f16::from_bits(code + 1));
            let even = if code % 2 == 0 { low } else { high };
            // What follows the largest number would be 2^16.
            let above = if high.is_finite() { high.to_f64() } else { 65536.0 };
            let middle = f64::midpoint(low.to_f64(), above);
            for (x, nearest) in [(middle, even), (middle.next_down(), low), (middle.next_up(), high)] {
                assert_eq!([f16_of(x), f16_of(-x)], [nearest, -nearest], "{x:e}");
                seen += 1;
            }
        }
        for code in 0..0x7f80u16 {
            let (low, high) = (bf16::from_bits(code), bf16::from_bits(code + 1));
            let even = if code % 2 == 0 { low } else { high };
            let above = if high.is_finite() { high.to_f64() } else { 2f64.powi(128) };
            let middle = f64::midpoint(low.to_f64(), above);
            for (x, nearest) in [(middle, even), (middle.next_down(), low), (middle.next_up(), high)] {
                assert_eq!([bf16_of(x), bf16_of(-x)], [nearest, -nearest], "{x:e}");
                seen += 1;
            }
        }
        assert_eq!(seen, 3 * (0x7c00 + 0x7f80));
    }

    #[test]
    fn the_ends_of_the_range() {
        assert!(f16_of(f64::NAN).is_nan() && bf16_of(f64::NAN).is_nan());
        assert_eq!([1e300, f64::INFINITY].map(f16_of), [f16::INFINITY; 2]);
        assert_eq!([-1e300, f64::NEG_INFINITY].map(bf16_of), [bf16::NEG_INFINITY; 2]);
        assert_eq!(f16_of(-5e-324).to_bits(), 0x8000);
        assert_eq!(bf16_of(5e-324).to_bits(), 0);
    }
}
