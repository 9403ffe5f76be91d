//! Subnormal (denormal) floats: whether code keeps or flushes them, and what flushing does to a number; and rounding to 16 bits.
//!
//! Processors do it by a bit of the thread's floating-point state: the interpreters, which define what code computes, do it here.
//! As on x86, a result is subnormal if it is below the least normal number once it is rounded as if exponents had no end.
//!
//! ```
//! use egret_float::{Denormals, Float};
//!
//! assert_eq!(Denormals::Flush.operand(-1e-40f32).to_bits(), (-0.0f32).to_bits());
//! assert_eq!(Denormals::Keep.operand(-1e-40f32), -1e-40);
//! // Rounded to the grid of subnormals, this product is the least normal number.
//! let (a, b) = (f32::MIN_POSITIVE, 1.0 - f32::EPSILON / 2.0);
//! assert_eq!(a * b, f32::MIN_POSITIVE);
//! assert_eq!(Denormals::Flush.result(a * b, || a * f32::SCALE * b), 0.0);
//! ```
#![forbid(unsafe_code)]

mod halves;

pub use halves::{bf16_of, f16_of, to_odd};

use std::fmt;
use std::str::FromStr;

/// What arithmetic does with subnormal numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Denormals {
    /// A subnormal operand is a zero of its sign, and so is a subnormal result: many processors take a hundred cycles and more for
    /// an instruction that meets one.
    #[default]
    Flush,
    /// IEEE 754.
    Keep,
}

impl Denormals {
    /// Either.
    pub const ALL: [Denormals; 2] = [Denormals::Flush, Denormals::Keep];

    /// The spelling on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Denormals::Flush => "flush",
            Denormals::Keep => "keep",
        }
    }

    /// A number as an operand of arithmetic.
    pub fn operand<F: Float>(self, x: F) -> F {
        if self == Denormals::Flush && x.is_tiny() { x.zero() } else { x }
    }

    /// What an operation gives that has rounded to `x`. `scaled` is the same with operands that make the result [`Float::SCALE`] times
    /// as large: it tells whether the least normal number was rounded up to.
    pub fn result<F: Float>(self, x: F, scaled: impl FnOnce() -> F) -> F {
        let below = || x.is_least_normal() && scaled().is_below_scaled_least();
        if self == Denormals::Flush && (x.is_tiny() || below()) { x.zero() } else { x }
    }

    /// A number of f64 rounded to f32, as the result of an operation.
    pub fn round(self, exact: f64) -> f32 {
        // As for `result`: a subnormal f32 is a normal f64.
        self.result(exact as f32, || (exact * f64::from(f32::SCALE)) as f32)
    }
}

impl fmt::Display for Denormals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Denormals {
    type Err = String;
    fn from_str(s: &str) -> Result<Denormals, String> {
        Denormals::ALL
            .into_iter()
            .find(|d| d.name() == s)
            .ok_or_else(|| format!("`{s}` is neither flush nor keep, the ways to treat denormals"))
    }
}

/// A float type that has subnormal numbers.
pub trait Float: Copy {
    /// A power of two by which subnormals become normal numbers of no fewer digits.
    const SCALE: Self;
    /// Whether it is below the least normal number, zeros included.
    fn is_tiny(self) -> bool;
    /// Whether it is the least normal number, of either sign.
    fn is_least_normal(self) -> bool;
    /// Whether it is below the least normal number times [`Float::SCALE`].
    fn is_below_scaled_least(self) -> bool;
    /// A zero of its sign.
    fn zero(self) -> Self;
}

macro_rules! float {
    ($($t:ty: $scale:expr),*) => { $(
        impl Float for $t {
            const SCALE: $t = $scale;
            fn is_tiny(self) -> bool {
                self.abs() < <$t>::MIN_POSITIVE
            }
            fn is_least_normal(self) -> bool {
                self.abs() == <$t>::MIN_POSITIVE
            }
            fn is_below_scaled_least(self) -> bool {
                self.abs() < <$t>::MIN_POSITIVE * Self::SCALE
            }
            fn zero(self) -> $t {
                (0.0 as $t).copysign(self)
            }
        }
    )* };
}
// 2^32 and 2^64.
float!(f32: 4_294_967_296.0, f64: 18_446_744_073_709_551_616.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_flushed_to_zeros_of_their_sign() {
        for (x, flushed) in [
            (f32::from_bits(1), 0.0),
            (-f32::from_bits(0x7f_ffff), -0.0),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
        ] {
            assert_eq!(Denormals::Flush.operand(x).to_bits(), flushed.to_bits(), "{x:e}");
            assert_eq!(Denormals::Keep.operand(x).to_bits(), x.to_bits(), "{x:e}");
        }
        assert!(Denormals::Flush.operand(f64::NAN).is_nan());
        assert_eq!(Denormals::Flush.operand(-5e-324f64).to_bits(), (-0f64).to_bits());
    }

    /// The limit is half a last digit below the least normal number, not half of the least subnormal.
    #[test]
    fn a_result_is_tiny_before_it_is_rounded_to_the_grid_of_subnormals() {
        let least = f64::from(f32::MIN_POSITIVE);
        let (above, at) = (least * (1.0 - 2f64.powi(-26)), least * (1.0 - 2f64.powi(-25)));
        let below = least * (1.0 - 2f64.powi(-25) - 2f64.powi(-40));
        assert!([above, at, below].iter().all(|v| *v as f32 == f32::MIN_POSITIVE));
        assert_eq!(
            [above, at, below].map(|v| Denormals::Flush.round(v)),
            [f32::MIN_POSITIVE, f32::MIN_POSITIVE, 0.0]
        );
        assert_eq!([above, at, below].map(|v| Denormals::Keep.round(v)), [f32::MIN_POSITIVE; 3]);
    }

    #[test]
    fn names_are_read_back() {
        assert!(Denormals::ALL.iter().all(|d| d.to_string().parse() == Ok(*d)));
        assert!("none".parse::<Denormals>().is_err());
    }
}
