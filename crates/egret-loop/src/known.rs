//! Integers of kernels that are known without running them: counts of loops, and what is computed of them.

use crate::ir::{BinOp, Elem, Inst, V};

/// The value of integer arithmetic on values that `get` knows.
pub fn integer(inst: &Inst, get: &dyn Fn(V) -> Option<i64>) -> Option<i64> {
    match inst {
        Inst::Const(ty, bits) if ty.elem == Elem::I64 => Some(bits.cast_signed()),
        Inst::Affine(terms, offset) => terms
            .iter()
            .try_fold(*offset, |sum, (v, factor)| sum.checked_add(get(*v)?.checked_mul(*factor)?)),
        Inst::Binary(op, a, b) => {
            let (a, b) = (get(*a)?, get(*b)?);
            match op {
                BinOp::Add => a.checked_add(b),
                BinOp::Sub => a.checked_sub(b),
                BinOp::Mul => a.checked_mul(b),
                BinOp::Div => a.checked_div(b),
                BinOp::Rem => a.checked_rem(b),
                BinOp::Min => Some(a.min(b)),
                BinOp::Max => Some(a.max(b)),
                _ => None,
            }
        }
        Inst::Compare(cmp, a, b) => {
            let (a, b) = (get(*a)?, get(*b)?);
            Some(i64::from(cmp.holds(a, b)))
        }
        Inst::Select(cond, a, b) => get(if get(*cond)? == 0 { *b } else { *a }),
        _ => None,
    }
}
