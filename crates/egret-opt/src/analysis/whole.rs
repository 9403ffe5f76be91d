//! Which floats are whole numbers: sums of their products are those of integers as long as they are below 2^24, until a factor
//! goes into one of them.

use super::facts::Facts;
use egret_ir::{Attrs, DType, Op};

/// Whether all elements of what an operation gives are known to be whole numbers. Infinities that overflow makes count as such.
pub(super) fn of(op: Op, attrs: &Attrs, operands: &[&Facts]) -> bool {
    let is = |f: &Facts| f.whole || f.dtype().is_some_and(|d| d.is_int() || d == DType::Bool);
    let first = |n: usize| operands.len() >= n && operands[..n].iter().all(|f| is(f));
    match op {
        Op::Cast | Op::Neg | Op::Abs => first(1),
        Op::Add | Op::Sub | Op::Mul | Op::Max | Op::Min => first(2),
        Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice => first(1),
        Op::Pad => first(if attrs.str("mode") == "constant" { 2 } else { 1 }),
        Op::Concat => first(operands.len().max(1)),
        _ => false,
    }
}
