//! Interval analysis: bounds of the elements of values, for guards such as `at_least(?x, 0)`.

use super::facts::Facts;
use egret_ir::{Attrs, DType, Op};

/// Bounds of an operation's result from those of its operands. An element may be NaN nevertheless.
pub(crate) fn of(op: Op, attrs: &Attrs, operands: &[&Facts]) -> Option<(f64, f64)> {
    let range = |i: usize| operands.get(i).and_then(|f| f.range);
    let all = (f64::NEG_INFINITY, f64::INFINITY);
    let dtype = operands.first().and_then(|f| f.dtype())?;
    if !dtype.is_float() {
        return of_integers(op, attrs, operands, dtype);
    }
    if let Some(range) = op.info().range {
        return Some(range);
    }
    match op {
        Op::Abs => Some((0.0, range(0).map_or(f64::INFINITY, |(l, h)| l.abs().max(h.abs())))),
        Op::Neg => range(0).map(|(l, h)| (-h, -l)),
        Op::Max => {
            let (a, b) = (range(0).unwrap_or(all), range(1).unwrap_or(all));
            Some((a.0.max(b.0), a.1.max(b.1))).filter(|r| *r != all)
        }
        Op::Min => {
            let (a, b) = (range(0).unwrap_or(all), range(1).unwrap_or(all));
            Some((a.0.min(b.0), a.1.min(b.1))).filter(|r| *r != all)
        }
        Op::Mul if operands.len() == 2 && std::ptr::eq(operands[0], operands[1]) => {
            Some((0.0, f64::INFINITY))
        }
        Op::Reduce if matches!(attrs.str("kind"), "max" | "min") => range(0),
        Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice => range(0),
        _ => None,
    }
}

/// The same for integers; `None` if the result might wrap.
fn of_integers(op: Op, attrs: &Attrs, operands: &[&Facts], dtype: DType) -> Option<(f64, f64)> {
    let range = |i: usize| operands.get(i).and_then(|f| known(f));
    let (bounds, to) = match op {
        Op::Cast => (range(0)?, attrs.dtype("to")),
        Op::Sub => {
            let ((low, high), (less, more)) = (range(0)?, range(1)?);
            ((low - more, high - less), dtype)
        }
        Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice => (range(0)?, dtype),
        _ => return None,
    };
    let (least, most) = match to {
        // Whole numbers up to here are floats; rounding makes more of those beyond.
        DType::F32 | DType::F64 => (-(24f64.exp2()), 24f64.exp2()),
        _ => of_dtype(to)?,
    };
    (least <= bounds.0 && bounds.1 <= most).then_some(bounds)
}

/// Bounds of a value: those in its facts, else the limits of an integer type of at most 16 bits.
pub(crate) fn known(f: &Facts) -> Option<(f64, f64)> {
    f.range.or_else(|| of_dtype(f.dtype()?).filter(|(_, most)| *most <= f64::from(u16::MAX)))
}

/// The least and the greatest value of an integer type of at most 32 bits.
fn of_dtype(dtype: DType) -> Option<(f64, f64)> {
    let (signed, bits) = match dtype {
        DType::I2 => (true, 2),
        DType::U2 => (false, 2),
        DType::I4 => (true, 4),
        DType::U4 => (false, 4),
        DType::I8 => (true, 8),
        DType::U8 => (false, 8),
        DType::I16 => (true, 16),
        DType::U16 => (false, 16),
        DType::I32 => (true, 32),
        DType::U32 => (false, 32),
        _ => return None,
    };
    let all = f64::from(bits).exp2();
    Some(if signed { (-all / 2.0, all / 2.0 - 1.0) } else { (0.0, all - 1.0) })
}
