//! Affine places of elements in a buffer.

use crate::geometry::shape::strides;

/// Where the elements of an operand stand: result index `i` reads element `offset + sum(i * strides)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StridedAccess {
    /// Element of result index 0.
    pub offset: i64,
    /// One per axis of the result; 0 where the operand is repeated.
    pub strides: Vec<i64>,
}

impl StridedAccess {
    /// The element order of the result itself.
    pub fn dense(dims: &[i64]) -> StridedAccess {
        StridedAccess { offset: 0, strides: strides(dims) }
    }

    /// Whether every element stands where it does in the result (axes of size 1 do not matter).
    pub fn is_dense(&self, dims: &[i64]) -> bool {
        self.offset == 0
            && strides(dims).iter().zip(&self.strides).zip(dims).all(|((a, b), d)| a == b || *d == 1)
    }
}
