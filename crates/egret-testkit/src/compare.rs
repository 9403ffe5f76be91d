//! Comparisons of tensors. A message names the first element that differs.

use crate::tensors::to_f64;
use egret_ir::{DType, Tensor};
use std::fmt::Display;

/// How far a number may be off: `relative * max(|wanted|, least)`.
#[derive(Copy, Clone, Debug)]
pub struct Tolerance {
    /// Relative to the wanted number.
    pub relative: f64,
    /// Smaller wanted numbers count as this large; 0 for a purely relative tolerance.
    pub least: f64,
}

impl Tolerance {
    /// Whether a number is near enough. Infinities are equal to themselves only, any NaN to any NaN.
    pub fn allows(self, want: f64, got: f64) -> bool {
        want == got
            || want.is_nan() && got.is_nan()
            || want.is_finite()
                && got.is_finite()
                && (got - want).abs() <= self.relative * want.abs().max(self.least)
    }
}

/// Whether two tensors are the same to the bit.
///
/// # Errors
/// What differs.
pub fn same(want: &Tensor, got: &Tensor) -> Result<(), String> {
    same_type(want, got)?;
    first(want, got, |i| bits(want, i) == bits(got, i))
}

/// Whether two tensors are of one type and the numbers of one are near those of the other. Integers are
/// held to the same tolerance.
///
/// # Errors
/// What differs.
pub fn near(want: &Tensor, got: &Tensor, tolerance: Tolerance) -> Result<(), String> {
    same_type(want, got)?;
    let (w, g) = (to_f64(want), to_f64(got));
    first(want, got, |i| tolerance.allows(w[i], g[i]))
}

/// Holds two tensors to be the same to the bit.
#[track_caller]
pub fn assert_same(want: &Tensor, got: &Tensor, what: impl Display) {
    same(want, got).unwrap_or_else(|e| panic!("{what}: {e}"));
}

/// Holds two tensors to be [`near`] each other.
#[track_caller]
pub fn assert_near(want: &Tensor, got: &Tensor, tolerance: Tolerance, what: impl Display) {
    near(want, got, tolerance).unwrap_or_else(|e| panic!("{what}: {e}"));
}

fn same_type(want: &Tensor, got: &Tensor) -> Result<(), String> {
    if want.ty() == got.ty() { Ok(()) } else { Err(format!("{} instead of {}", got.ty(), want.ty())) }
}

/// The bytes of an element; of a string, its text.
fn bits(t: &Tensor, i: usize) -> &[u8] {
    if t.dtype() == DType::String {
        return t.strings()[i].as_bytes();
    }
    let size = t.dtype().size();
    &t.bytes()[i * size..(i + 1) * size]
}

fn first(want: &Tensor, got: &Tensor, equal: impl Fn(usize) -> bool) -> Result<(), String> {
    let Some(i) = (0..want.len()).find(|&i| !equal(i)) else { return Ok(()) };
    let shown = |t: &Tensor| match t.dtype() {
        DType::String => format!("{:?}", t.strings()[i]),
        _ => format!("{:?} ({:02x?})", to_f64(t)[i], bits(t, i)),
    };
    Err(format!("element {i} of {} is {} instead of {}", want.ty(), shown(got), shown(want)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(numbers: &[f32]) -> Tensor {
        Tensor::new(&[numbers.len()], numbers.to_vec())
    }

    #[test]
    fn bits_decide_and_the_first_difference_is_named() {
        assert_eq!(same(&t(&[1.0, f32::NAN]), &t(&[1.0, f32::NAN])), Ok(()));
        let error = same(&t(&[1.0, 0.0, 2.0]), &t(&[1.0, -0.0, 3.0])).unwrap_err();
        assert!(error.starts_with("element 1 of f32[3] is -0.0"), "{error}");
        assert_eq!(same(&t(&[]), &t(&[1.0])).unwrap_err(), "f32[1] instead of f32[0]");
        let texts = |s: &str| Tensor::from_strings(&[1], vec![s.to_owned()]);
        assert!(same(&texts("a"), &texts("a")).is_ok() && same(&texts("a"), &texts("b")).is_err());
    }

    #[test]
    fn tolerance_is_relative_down_to_its_least() {
        let (inf, tolerance) = (f32::INFINITY, Tolerance { relative: 0.25, least: 1.0 });
        for (want, got, is_near) in
            [(8.0, 10.0, true), (8.0, 11.0, false), (0.0, 0.25, true), (inf, 1.0, false), (inf, inf, true)]
        {
            assert_eq!(near(&t(&[want]), &t(&[got]), tolerance).is_ok(), is_near, "{want} {got}");
        }
    }
}
