//! Bounds of values: what guards such as `at_least(?x, 0)` rest on.

use crate::facts::Facts;
use egret_ir::{Attrs, Op};

/// Bounds of an operation's elements from those of its operands; NaN is possible beside them.
pub(crate) fn of(op: Op, attrs: &Attrs, operands: &[&Facts]) -> Option<(f64, f64)> {
    let range = |i: usize| operands.get(i).and_then(|f| f.range);
    let all = (f64::NEG_INFINITY, f64::INFINITY);
    if !operands.first().and_then(|f| f.dtype()).is_some_and(|d| d.is_float()) {
        return None;
    }
    match op {
        Op::Sigmoid | Op::Softmax => Some((0.0, 1.0)),
        Op::Tanh | Op::Erf | Op::Sin | Op::Cos => Some((-1.0, 1.0)),
        Op::Exp => Some((0.0, f64::INFINITY)),
        Op::Sqrt => Some((-0.0, f64::INFINITY)),
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
        Op::Mul if operands.len() == 2 && std::ptr::eq(operands[0], operands[1]) => Some((0.0, f64::INFINITY)),
        Op::Reduce if matches!(attrs.str("kind"), "max" | "min") => range(0),
        Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice => range(0),
        _ => None,
    }
}
