//! Scaling by a power of two (`scale`): by what, and how without an instruction for it.

use crate::elem::Elem;

/// The exponents of the operation `scale`, and how it is computed by other operations to the same bits.
///
/// The exponent is a whole number of `2 * least ..= 2 * most`; where a is NaN, it may be anything. (As with the amount of a shift, what
/// others give is not defined: the interpreter refuses them.) For example, f32 is scaled by 2^-252 to 2^254.
///
/// Without an instruction for it, a * 2^b is `a * 2^(b - near) * 2^near` with `near` the b that is held within `least ..= most`: both
/// factors are normal numbers, and where b is below `least`, a first product that is rounded, as it is subnormal, is 0 after the
/// second. A factor is made from its exponent by adding [`shift`](ScaleLimits::shift), which leaves the biased exponent in the lowest
/// bits, and shifting those up by [`mantissa_bits`](ScaleLimits::mantissa_bits).
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ScaleLimits {
    /// The exponent of the least normal number.
    pub least: f64,
    /// The exponent of the largest binade.
    pub most: f64,
    /// A number that an exponent is added to.
    pub shift: f64,
    /// Stored bits of the mantissa.
    pub mantissa_bits: u32,
}

impl ScaleLimits {
    /// Those of f32, or of f64.
    pub fn of(elem: Elem) -> ScaleLimits {
        let (mantissa_bits, bias) = if elem == Elem::F64 { (52, 1023.0) } else { (23, 127.0) };
        let shift = 1.5 * (1u64 << mantissa_bits) as f64 + bias;
        ScaleLimits { least: 1.0 - bias, most: bias, shift, mantissa_bits }
    }

    /// Whether an exponent is one.
    pub fn contains(&self, exponent: f64) -> bool {
        exponent.fract() == 0.0 && (2.0 * self.least..=2.0 * self.most).contains(&exponent)
    }
}
