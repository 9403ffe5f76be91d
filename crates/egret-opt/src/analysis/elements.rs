//! Elements of constants as f64, and scalars made of f64.

use egret_ir::{DType, Tensor};

/// Guards see the elements of constants up to this size. Larger ones are weights, of which rules know a
/// [`Summary`](super::Summary) only, so that blocks that differ in nothing but their weights are optimised once.
pub const SMALL: usize = 16;

/// The first elements as f64; `None` for element types that rules do not compute with.
pub fn elements(t: &Tensor, at_most: usize) -> Option<Vec<f64>> {
    let n = at_most.min(t.len());
    Some(match t.dtype() {
        DType::F32 => t.data::<f32>()[..n].iter().map(|&v| f64::from(v)).collect(),
        DType::F64 => t.data::<f64>()[..n].to_vec(),
        DType::F16 | DType::BF16 => {
            let bits = t.bytes().chunks_exact(2).take(n).map(|c| u16::from_le_bytes([c[0], c[1]]));
            match t.dtype() {
                DType::F16 => bits.map(|b| half::f16::from_bits(b).to_f64()).collect(),
                _ => bits.map(|b| half::bf16::from_bits(b).to_f64()).collect(),
            }
        }
        d if d.is_int() || d == DType::Bool => t.to_i64s()?[..n].iter().map(|&v| v as f64).collect(),
        _ => return None,
    })
}

pub(super) fn bounds(t: &Tensor) -> Option<(f64, f64)> {
    let all = elements(t, t.len())?;
    if all.is_empty() {
        return None;
    }
    let fold = |f: fn(f64, f64) -> f64, start: f64| all.iter().copied().fold(start, f);
    Some((fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY)))
}

/// For each axis the indices whose slice is all +0.
pub(super) fn zeros(t: &Tensor) -> Vec<Vec<usize>> {
    let (shape, size) = (t.shape(), t.dtype().size());
    let mut used: Vec<Vec<bool>> = shape.iter().map(|&d| vec![false; d]).collect();
    if size > 0 {
        for (i, element) in t.bytes().chunks_exact(size).enumerate() {
            if element.iter().any(|&b| b != 0) {
                let mut rest = i;
                for axis in (0..shape.len()).rev() {
                    used[axis][rest % shape[axis]] = true;
                    rest /= shape[axis];
                }
            }
        }
    }
    used.into_iter().map(|u| u.iter().enumerate().filter(|(_, u)| !**u).map(|(i, _)| i).collect()).collect()
}

/// Whether a constant of this element type has the value of a number in a pattern, after rounding that to
/// the type. The signs of zeros count.
pub fn same_value(is: f64, wanted: f64, dtype: Option<DType>) -> bool {
    let rounded = match dtype {
        Some(DType::F32) => f64::from(wanted as f32),
        Some(DType::F16) => egret_ir::f16_of(wanted).to_f64(),
        Some(DType::BF16) => egret_ir::bf16_of(wanted).to_f64(),
        _ => wanted,
    };
    is.to_bits() == rounded.to_bits()
}

/// A scalar constant.
///
/// # Errors
/// An element type that rules do not make constants of.
pub fn scalar(value: f64, dtype: DType) -> Result<Tensor, String> {
    Ok(match dtype {
        DType::F32 => Tensor::scalar(value as f32),
        DType::F64 => Tensor::scalar(value),
        DType::F16 => Tensor::scalar(egret_ir::f16_of(value)),
        DType::BF16 => Tensor::scalar(egret_ir::bf16_of(value)),
        DType::I64 => Tensor::scalar(value as i64),
        DType::I32 => Tensor::scalar(value as i32),
        other => return Err(format!("rules make no {other} constants")),
    })
}

/// Whether no element of a constant is -0.
pub(super) fn without_negative_zero(t: &Tensor) -> bool {
    elements(t, t.len()).is_some_and(|all| all.iter().all(|v| *v != 0.0 || v.is_sign_positive()))
}

/// Whether the elements of a constant of floats are whole numbers, of which there is at least one.
pub(super) fn all_whole(t: &Tensor) -> bool {
    let whole = |v: f64| v.is_finite() && v.fract() == 0.0;
    !t.is_empty()
        && match t.dtype() {
            DType::F32 => t.data::<f32>().iter().all(|&v| whole(v.into())),
            DType::F64 => t.data::<f64>().iter().all(|&v| whole(v)),
            _ => false,
        }
}
