//! Affine places of elements in a buffer.

use crate::geometry::shape::strides;
use egret_ir::{Dim, ValueId};
use std::collections::BTreeMap;

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

/// Elements of a value in the memory of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The other value, which is none itself.
    pub of: ValueId,
    /// The element there of the first index.
    pub offset: Dim,
    /// The distance of neighbours along each axis, in elements.
    pub strides: Vec<Dim>,
}

/// The views of a graph with free dims (`plan/views.rs`).
pub type Views = BTreeMap<ValueId, View>;
