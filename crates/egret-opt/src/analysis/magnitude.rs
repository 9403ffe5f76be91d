//! How large the elements of a constant are, so that no rule makes a constant that its element type cannot hold.
//!
//! Weights of 0.05 times a scale of 1e-4 are denormal in f16: `x * w * c` has three digits, `x * (w * c)` one. Bounds are powers of two, and
//! coarse, so that blocks with different weights still have equal keys.

use egret_ir::{DType, Magnitudes, Op, Tensor};

/// Bounds of the binary logarithms of a constant's elements; zeros do not count.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Magnitude {
    /// No element is larger.
    pub high: i32,
    /// The largest element is not smaller.
    pub low: Option<i32>,
    /// No element is smaller; `None` where a short constant has a zero, by which nothing is divided.
    pub least: Option<i32>,
}

/// The length up to which a constant counts as a vector, by which may be divided.
pub(super) const VECTOR: usize = 4096;

/// The exponents of a float type: of its smallest normal number and of its largest one; bits of its significand; and the steps of bounds:
/// ordinary `high`, `low` and `least`, and the multiples beyond.
struct Limits {
    normal: i32,
    largest: i32,
    digits: i32,
    ordinary: (i32, i32, i32),
    step: i32,
}

fn limits(dtype: DType) -> Option<Limits> {
    let wide =
        |normal, largest, digits| Limits { normal, largest, digits, ordinary: (16, -16, -32), step: 32 };
    Some(match dtype {
        DType::F16 => Limits { normal: -14, largest: 15, digits: 11, ordinary: (2, -4, -4), step: 2 },
        DType::BF16 => wide(-126, 127, 8),
        DType::F32 => wide(-126, 127, 24),
        DType::F64 => wide(-1022, 1023, 53),
        _ => return None,
    })
}

impl Magnitude {
    /// Of the elements of a float tensor; `None` for other types and where an element is infinite or no number.
    pub fn of(t: &Tensor) -> Option<Magnitude> {
        let limits = limits(t.dtype())?;
        let Magnitudes { largest, least, zero } = t.magnitudes()?;
        if !largest.is_finite() {
            return None;
        }
        let (floor, ceil) = (|v: f64| v.log2().floor() as i32, |v: f64| v.log2().ceil() as i32);
        let exact = match largest == 0.0 {
            true => Magnitude { high: 0, low: Some(0), least: Some(0) },
            false => {
                Magnitude { high: ceil(largest), low: Some(floor(largest)), least: Some(floor(least)) }
            }
        };
        let coarse = exact.coarse(&limits);
        // A vector may be divided by; trained weights with zeros and those without are alike.
        let divides = !(zero && t.len() <= VECTOR);
        Some(Magnitude { least: coarse.least.filter(|_| divides), ..coarse })
    }

    fn coarse(self, limits: &Limits) -> Magnitude {
        let (high, low, least) = limits.ordinary;
        let down = |v: i32, ordinary: i32| {
            if v >= ordinary { ordinary } else { v.div_euclid(limits.step) * limits.step }
        };
        Magnitude {
            high: if self.high <= high {
                high
            } else {
                -(-self.high).div_euclid(limits.step) * limits.step
            },
            low: self.low.map(|v| down(v, low)),
            least: self.least.map(|v| down(v, least)),
        }
    }

    /// What is known of two equal constants together.
    pub fn and(self, other: Magnitude) -> Magnitude {
        Magnitude {
            high: self.high.min(other.high),
            low: self.low.max(other.low),
            least: self.least.max(other.least),
        }
    }

    /// As numbers for a key.
    pub(crate) fn encode(self) -> [u32; 3] {
        [self.high, self.low.unwrap_or(i32::MIN), self.least.unwrap_or(i32::MIN)].map(|v| v as u32)
    }
}

/// The magnitude of what an operation makes of constants.
pub(super) fn result(op: Op, operands: &[Option<Magnitude>]) -> Option<Magnitude> {
    let of = |i: usize| operands.get(i).copied().flatten();
    let sum = |a: Option<i32>, b: Option<i32>| a.zip(b).map(|(a, b)| a + b);
    let less = |a: Option<i32>, b: i32| a.map(|a| a - b);
    match op {
        Op::Neg | Op::Abs | Op::Reshape | Op::Transpose | Op::Broadcast => of(0),
        Op::Mul => {
            let (a, b) = (of(0)?, of(1)?);
            Some(Magnitude {
                high: a.high + b.high,
                low: sum(a.low, b.least).max(sum(a.least, b.low)),
                least: sum(a.least, b.least),
            })
        }
        Op::Div => {
            let (a, b) = (of(0)?, of(1)?);
            b.least.map(|least| Magnitude {
                high: a.high - least,
                low: less(a.low, b.high),
                least: less(a.least, b.high),
            })
        }
        Op::Add | Op::Sub => {
            Some(Magnitude { high: of(0)?.high.max(of(1)?.high) + 1, low: None, least: None })
        }
        _ => None,
    }
}

/// Holds what an operation makes of constants to their element type: products of finite constants stay finite, and the largest of each slice
/// keeps all of its digits.
///
/// # Errors
/// The element type cannot hold it.
pub fn fits(op: Op, dtype: DType, operands: &[Option<Magnitude>]) -> Result<(), String> {
    let Some(limits) = limits(dtype).filter(|_| matches!(op, Op::Mul | Op::Div | Op::Add | Op::Sub)) else {
        return Ok(());
    };
    let known: Option<Vec<Magnitude>> = operands.iter().copied().collect();
    if op == Op::Div && known.as_ref().is_some_and(|k| k[1].least.is_none()) {
        return Err("a division by zero".into());
    }
    let (Some(known), Some(result)) = (known, result(op, operands)) else {
        // Constants that are infinite, or not computed yet.
        return match dtype {
            DType::F16 => Err("a constant of f16 of unknown size".into()),
            _ => Ok(()),
        };
    };
    if matches!(op, Op::Add | Op::Sub) {
        let (larger, smaller) = (known[0].high.max(known[1].high), known[0].high.min(known[1].high));
        return match larger >= limits.largest && smaller > limits.largest - limits.digits {
            true => Err(format!("a sum of constants beyond {dtype}")),
            false => Ok(()),
        };
    }
    if result.high > limits.largest {
        return Err(format!("constants of up to 2^{}, which {dtype} does not hold", result.high));
    }
    // The largest elements of a slice may be some times smaller than those of the tensor.
    match result.low {
        Some(low) if low < limits.normal + 4 => {
            Err(format!("constants around 2^{low}, of which {dtype} keeps few digits"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f16(op: Op, a: f64, b: f64) -> bool {
        let of = |v| Magnitude::of(&Tensor::new(&[], vec![egret_ir::f16_of(v)]));
        fits(op, DType::F16, &[of(a), of(b)]).is_ok()
    }

    fn f32(op: Op, a: &[f32], b: &[f32]) -> bool {
        let of = |v: &[f32]| Magnitude::of(&Tensor::new(&[v.len()], v.to_vec()));
        fits(op, DType::F32, &[of(a), of(b)]).is_ok()
    }

    #[test]
    fn products_stay_within_their_type() {
        assert!(f16(Op::Mul, 0.5, 0.125));
        assert!(!f16(Op::Mul, 0.05, 1e-4));
        assert!(!f16(Op::Mul, 300.0, 300.0));
        assert!(!f16(Op::Div, 1.0, 1e-5));
        assert!(f32(Op::Mul, &[0.5, 1e-42], &[1e-6, 3.0]));
        assert!(!f32(Op::Mul, &[1e-20], &[1e-20]));
        assert!(!f32(Op::Mul, &[1e20], &[1e20]));
        assert!(!f32(Op::Div, &[1.0], &[1e-39]));
        assert!(!f32(Op::Div, &[1.0], &[2.0, 0.0]));
    }

    #[test]
    fn a_mask_and_a_bias_may_be_added() {
        assert!(f32(Op::Add, &[f32::MIN, 0.0], &[0.25]));
        assert!(!f32(Op::Add, &[f32::MIN], &[f32::MIN]));
        assert!(f32(Op::Add, &[f32::NEG_INFINITY], &[0.25]));
        assert!(!f16(Op::Add, -65504.0, -65504.0));
    }

    #[test]
    fn ordinary_weights_have_equal_bounds() {
        let bounds = |v: &[f32]| Magnitude::of(&Tensor::new(&[v.len()], v.to_vec()));
        assert_eq!(bounds(&[0.1, -0.9, 1e-6]), bounds(&[3.0, 0.5, -0.02]));
        assert_ne!(bounds(&[1e-12]), bounds(&[1.0]));
    }
}
