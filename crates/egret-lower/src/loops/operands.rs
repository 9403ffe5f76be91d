//! Buffers as a kernel walks them: strides over the axes of its loops.

use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::size;
use egret_loop::{Arg, Elem};

/// Where the elements of a buffer stand: an argument and the strides from its first element on.
#[derive(Clone, Debug)]
pub struct StridedOperand {
    /// Element type of the parameter.
    pub elem: Elem,
    /// Where its elements stand.
    pub access: StridedAccess,
}

/// Drops axes of size 1, joins axes of one kind that are one for all operands, and moves each argument to
/// the first element it touches.
pub fn normalise(
    dims: &[i64],
    kinds: &[bool],
    operands: &mut [StridedOperand],
    args: &mut [Arg],
) -> Result<(Vec<i64>, Vec<bool>), Unsupported> {
    let (mut out, mut out_kinds): (Vec<i64>, Vec<bool>) = (vec![], vec![]);
    let mut strides: Vec<Vec<i64>> = vec![vec![]; operands.len()];
    for (axis, &d) in dims.iter().enumerate().filter(|(_, d)| **d != 1) {
        let as_one = |(s, kept): (&StridedOperand, &Vec<i64>), last: usize| {
            kept[last] == s.access.strides[axis].saturating_mul(d)
        };
        let joins = out.len().checked_sub(1).filter(|&last| {
            out_kinds[last] == kinds[axis] && operands.iter().zip(&strides).all(|pair| as_one(pair, last))
        });
        for (s, kept) in operands.iter().zip(&mut strides) {
            match joins {
                Some(last) => kept[last] = s.access.strides[axis],
                None => kept.push(s.access.strides[axis]),
            }
        }
        match joins {
            Some(last) => out[last] *= d,
            None => {
                out.push(d);
                out_kinds.push(kinds[axis]);
            }
        }
    }
    for ((s, kept), arg) in operands.iter_mut().zip(strides).zip(args) {
        // Axes along which the operand is read backwards, the other way round.
        let back = kept.iter().zip(&out).filter(|(stride, _)| **stride < 0);
        let back = size::reach(back.map(|(&stride, &d)| (d, stride.saturating_neg())))? as i64 - 1;
        arg.offset += size::offset(s.access.offset - back)?;
        s.access = StridedAccess { offset: back, strides: kept };
    }
    Ok((out, out_kinds))
}

/// Elements from the first to the last that an operand touches.
pub fn touched(dims: &[i64], access: &StridedAccess) -> Result<usize, Unsupported> {
    let forward = access.strides.iter().zip(dims).filter(|(stride, _)| **stride > 0);
    Ok(size::offset(access.offset)? + size::reach(forward.map(|(&stride, &d)| (d, stride)))?)
}
