//! Comparing results: numpy.allclose with equal dtypes and shapes, NaN equal to NaN, strings exactly.

use egret_ir::{DType, Tensor, Value};

/// Largest allowed |a - b| is `atol + rtol * |expected|`.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { rtol: 1e-3, atol: 1e-7 }
    }
}

/// bfloat16 has 8 bits of mantissa: no tolerance below this makes sense for it.
const BF16_RTOL: f64 = 1.0 / 64.0;

/// How far a float result is from the expected one.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Distance {
    /// Largest |a - b| over the finite elements.
    pub max_abs: f64,
    /// Largest |expected|: the output's scale.
    pub scale: f64,
    /// Elements outside the tolerance.
    pub outside: usize,
    /// Flat index of the first of them.
    pub first: usize,
}

/// Whether `got` is `expected` within the tolerance; the message says where it is not.
pub fn compare(expected: &Value, got: &Value, tolerance: Tolerance) -> Result<(), String> {
    match (expected, got) {
        (Value::Tensor(e), Value::Tensor(g)) => compare_tensors(e, g, tolerance),
        (Value::Sequence(e), Value::Sequence(g)) => {
            if e.len() != g.len() {
                return Err(format!("a sequence of {} instead of {}", g.len(), e.len()));
            }
            e.iter().zip(g).enumerate().try_for_each(|(i, (e, g))| {
                compare(e, g, tolerance).map_err(|m| format!("element {i}: {m}"))
            })
        }
        (Value::Optional(None), Value::Optional(None)) => Ok(()),
        (Value::Optional(Some(e)), Value::Optional(Some(g))) => compare(e, g, tolerance),
        // A model may declare an optional but a case hold the bare value, and the other way round.
        (Value::Optional(Some(e)), g) => compare(e, g, tolerance),
        (e, Value::Optional(Some(g))) => compare(e, g, tolerance),
        _ => Err(format!("{} instead of {}", kind(got), kind(expected))),
    }
}

/// Whether `got` has the dtype and shape of `expected`; for results that are random by definition.
pub fn compare_types(expected: &Value, got: &Value) -> Result<(), String> {
    match (expected, got) {
        (Value::Tensor(e), Value::Tensor(g)) => same_type(e, g),
        (Value::Sequence(e), Value::Sequence(g)) if e.len() == g.len() => {
            e.iter().zip(g).try_for_each(|(e, g)| compare_types(e, g))
        }
        (Value::Optional(None), Value::Optional(None)) => Ok(()),
        (Value::Optional(Some(e)), Value::Optional(Some(g))) => compare_types(e, g),
        _ => Err(format!("{} instead of {}", kind(got), kind(expected))),
    }
}

fn kind(v: &Value) -> String {
    match v {
        Value::Tensor(t) => t.ty().to_string(),
        Value::Sequence(s) => format!("a sequence of {}", s.len()),
        Value::Optional(Some(_)) => "an optional value".into(),
        Value::Optional(None) => "nothing".into(),
    }
}

fn same_type(expected: &Tensor, got: &Tensor) -> Result<(), String> {
    if expected.dtype() == got.dtype() && expected.shape() == got.shape() {
        return Ok(());
    }
    Err(format!("{} instead of {}", got.ty(), expected.ty()))
}

fn compare_tensors(expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> Result<(), String> {
    same_type(expected, got)?;
    if expected.dtype() == DType::String {
        return match expected.strings().iter().zip(got.strings()).position(|(e, g)| e != g) {
            None => Ok(()),
            Some(i) => Err(format!(
                "at {:?}: {:?} instead of {:?}",
                unravel(i, expected.shape()),
                got.strings()[i],
                expected.strings()[i]
            )),
        };
    }
    if expected.bytes() == got.bytes() {
        return Ok(());
    }
    let d = distance(expected, got, tolerance)?;
    if d.outside == 0 {
        return Ok(());
    }
    let (e, g) = (to_f64(expected)?, to_f64(got)?);
    Err(format!(
        "{} of {} elements differ, first at {:?}: {} instead of {}; largest error {:e} at a scale of {:e}",
        d.outside,
        expected.len(),
        unravel(d.first, expected.shape()),
        g[d.first],
        e[d.first],
        d.max_abs,
        d.scale
    ))
}

/// How far two tensors of one numeric type are from each other.
pub fn distance(expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> Result<Distance, String> {
    same_type(expected, got)?;
    let mut out = Distance::default();
    let (e, g) = (to_f64(expected)?, to_f64(got)?);
    // i64 and u64 do not fit an f64: beyond 2^53 equality is decided on the bytes.
    let exact = matches!(expected.dtype(), DType::I64 | DType::U64);
    let rtol = if expected.dtype() == DType::BF16 { tolerance.rtol.max(BF16_RTOL) } else { tolerance.rtol };
    for (i, (&e, &g)) in e.iter().zip(&g).enumerate() {
        if e.is_finite() && e.abs() > out.scale {
            out.scale = e.abs();
        }
        let close = if exact && e.abs() > 9e15 {
            expected.bytes()[i * 8..i * 8 + 8] == got.bytes()[i * 8..i * 8 + 8]
        } else if e == g || (e.is_nan() && g.is_nan()) {
            true
        } else if e.is_finite() && g.is_finite() {
            out.max_abs = out.max_abs.max((e - g).abs());
            (e - g).abs() <= tolerance.atol + rtol * e.abs()
        } else {
            out.max_abs = f64::INFINITY;
            false
        };
        if !close {
            if out.outside == 0 {
                out.first = i;
            }
            out.outside += 1;
        }
    }
    Ok(out)
}

/// The elements of a numeric or bool tensor as f64.
pub fn to_f64(t: &Tensor) -> Result<Vec<f64>, String> {
    t.to_f64s().ok_or_else(|| "strings are no numbers".into())
}

/// A flat index as the index of every axis.
pub fn unravel(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut out = vec![0; shape.len()];
    for (axis, &dim) in shape.iter().enumerate().rev() {
        out[axis] = rest % dim.max(1);
        rest /= dim.max(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(e: &[f32], g: &[f32]) -> Result<(), String> {
        let t = |v: &[f32]| Value::from(Tensor::new(&[v.len()], v.to_vec()));
        compare(&t(e), &t(g), Tolerance::default())
    }

    #[test]
    fn follows_numpy_allclose() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(check(&[1.0, nan, inf, -inf], &[1.0005, nan, inf, -inf]).is_ok());
        assert!(check(&[1.0], &[1.5]).unwrap_err().contains("at [0]: 1.5"));
        assert!(check(&[0.0], &[5e-8]).is_ok());
        assert!(check(&[0.0], &[5e-7]).is_err());
        assert!(check(&[inf], &[1e30]).is_err());
        assert!(check(&[inf], &[-inf]).is_err());
        assert!(check(&[1.0], &[nan]).is_err());
        assert!(check(&[1.0], &[1.0, 1.0]).unwrap_err().contains("f32[2] instead of f32[1]"));
    }

    #[test]
    fn bfloat16_is_compared_by_its_own_precision() {
        let t = |v: f32| Value::from(Tensor::new(&[1], vec![half::bf16::from_f32(v)]));
        assert!(compare(&t(1.0), &t(1.0078125), Tolerance::default()).is_ok());
        assert!(compare(&t(1.0), &t(1.03), Tolerance::default()).is_err());
    }

    #[test]
    fn large_integers_are_exact() {
        let t = |v: i64| Value::from(Tensor::new(&[1], vec![v]));
        assert_eq!(unravel(5, &[2, 3]), [1, 2]);
        assert!(compare(&t(i64::MAX), &t(i64::MAX), Tolerance::default()).is_ok());
    }
}
