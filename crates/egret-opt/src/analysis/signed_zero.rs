//! Which values are never -0: where x + 0 is x to the bit.

use super::facts::Facts;
use egret_ir::{Attrs, Op};

/// Whether no element of what an operation gives is -0, from what is known of its operands. Products underflow to -0, and so do contractions.
pub(crate) fn never(op: Op, attrs: &Attrs, operands: &[&Facts]) -> bool {
    let operand = |i: usize| operands.get(i).is_some_and(|f| f.never_negative_zero);
    let at_least_zero = |i: usize| operand(i) && operands[i].range.is_some_and(|(low, _)| low >= 0.0);
    match op {
        Op::Exp | Op::Sigmoid | Op::Softmax | Op::Abs => true,
        // -0 + -0 alone is -0.
        Op::Add => operand(0) || operand(1),
        // -0 - 0 alone is -0.
        Op::Sub => operand(0),
        Op::Mul => operands.len() == 2 && std::ptr::eq(operands[0], operands[1]),
        Op::Max => at_least_zero(0) || at_least_zero(1),
        Op::Cast => operands.first().and_then(|f| f.dtype()).is_some_and(|d| d.is_int()),
        Op::Reduce => attrs.str("kind") == "sum",
        Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice => operand(0),
        Op::Concat => !operands.is_empty() && operands.iter().all(|f| f.never_negative_zero),
        _ => false,
    }
}
