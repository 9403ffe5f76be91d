//! Elements of constants as text, exact to the bit, and constants made by rule.

use crate::rng::{self, Rng};
use crate::{DType, Tensor};
use half::{bf16, f16};

/// Bytes that a constant in text may have when it is made by a rule such as `splat`.
pub(super) const MAX_BYTES: usize = 1 << 28;

/// The elements in row-major order.
pub(super) fn elements(t: &Tensor) -> Vec<String> {
    if t.dtype() == DType::String {
        return t.strings().iter().map(|s| format!("{s:?}")).collect();
    }
    let exact = |bytes: &[u8]| {
        let text = element(t.dtype(), bytes);
        // An unusual NaN, or a byte that no value of the type has: its bits.
        let same = read_element(t.dtype(), &text).is_some_and(|b| b == bytes);
        if same { text } else { format!("{:#x}", raw(bytes)) }
    };
    t.bytes().chunks(t.dtype().size()).map(exact).collect()
}

fn raw(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b))
}

fn element(dtype: DType, bytes: &[u8]) -> String {
    let raw = raw(bytes);
    match dtype {
        DType::Bool => (raw == 1).to_string(),
        DType::I8 | DType::I2 | DType::I4 => (raw as i8).to_string(),
        DType::I16 => (raw as i16).to_string(),
        DType::I32 => (raw as i32).to_string(),
        DType::I64 => (raw as i64).to_string(),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::U2 | DType::U4 => raw.to_string(),
        DType::F64 => float64(f64::from_bits(raw)),
        DType::F32 => single(f32::from_bits(raw as u32)),
        DType::F16 => single(f16::from_bits(raw as u16).to_f32()),
        DType::BF16 => single(bf16::from_bits(raw as u16).to_f32()),
        _ => format!("{raw:#x}"),
    }
}

fn single(v: f32) -> String {
    special(v.is_nan(), v.is_infinite(), v < 0.0).unwrap_or_else(|| format!("{v:?}"))
}

/// An f64 in the shortest form that reads back to the same bits.
pub(super) fn float64(v: f64) -> String {
    if v.is_nan() && v.to_bits() != f64::NAN.to_bits() {
        return format!("{:#x}", v.to_bits());
    }
    special(v.is_nan(), v.is_infinite(), v < 0.0).unwrap_or_else(|| format!("{v:?}"))
}

fn special(nan: bool, infinite: bool, negative: bool) -> Option<String> {
    match (nan, infinite, negative) {
        (true, ..) => Some("nan".into()),
        (_, true, false) => Some("inf".into()),
        (_, true, true) => Some("-inf".into()),
        _ => None,
    }
}

/// Read an f64 as [`float64`] spells it.
pub(super) fn read_float64(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(f64::from_bits),
        None => text.parse().ok(),
    }
}

/// The bytes of one element that is spelt `text`.
pub(super) fn read_element(dtype: DType, text: &str) -> Option<Vec<u8>> {
    let size = dtype.size();
    if let Some(hex) = text.strip_prefix("0x") {
        let raw = u64::from_str_radix(hex, 16).ok()?;
        let fits = size == 8 || (size > 0 && raw >> (8 * size) == 0);
        return fits.then(|| raw.to_le_bytes()[..size].to_vec());
    }
    let within = |low: i64, high: i64| text.parse::<i64>().ok().filter(|v| (low..=high).contains(v));
    Some(match dtype {
        DType::Bool => vec![u8::from(text.parse::<bool>().ok()?)],
        DType::I2 => vec![within(-2, 1)? as u8],
        DType::I4 => vec![within(-8, 7)? as u8],
        DType::U2 => vec![within(0, 3)? as u8],
        DType::U4 => vec![within(0, 15)? as u8],
        DType::I8 => text.parse::<i8>().ok()?.to_le_bytes().to_vec(),
        DType::I16 => text.parse::<i16>().ok()?.to_le_bytes().to_vec(),
        DType::I32 => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
        DType::I64 => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
        DType::U8 => text.parse::<u8>().ok()?.to_le_bytes().to_vec(),
        DType::U16 => text.parse::<u16>().ok()?.to_le_bytes().to_vec(),
        DType::U32 => text.parse::<u32>().ok()?.to_le_bytes().to_vec(),
        DType::U64 => text.parse::<u64>().ok()?.to_le_bytes().to_vec(),
        DType::F64 => text.parse::<f64>().ok()?.to_le_bytes().to_vec(),
        DType::F32 => text.parse::<f32>().ok()?.to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(text.parse().ok()?).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(text.parse().ok()?).to_le_bytes().to_vec(),
        _ => return None,
    })
}

/// Bytes of `len` elements from a fixed generator: floats in [-1, 1), integers in 0..8, bools. `None` for other types.
pub(super) fn random(dtype: DType, len: usize, seed: u64) -> Option<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut out = Vec::with_capacity(len.checked_mul(dtype.size())?);
    for _ in 0..len {
        let z = rng.bits();
        let unit = 2.0 * rng::unit(z) - 1.0;
        match dtype {
            DType::F32 => out.extend(unit.to_le_bytes()),
            DType::F64 => out.extend(f64::from(unit).to_le_bytes()),
            DType::F16 => out.extend(f16::from_f32(unit).to_le_bytes()),
            DType::BF16 => out.extend(bf16::from_f32(unit).to_le_bytes()),
            DType::Bool => out.push((z & 1) as u8),
            DType::I4
            | DType::U4
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64 => {
                out.extend(&(z & 7).to_le_bytes()[..dtype.size()]);
            }
            _ => return None,
        }
    }
    Some(out)
}
