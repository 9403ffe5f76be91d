//! Halos: zeros around a value in its buffer, so that windows read beyond its edges without comparing
//! indices.

use crate::geometry::access::StridedAccess;
use crate::geometry::shape::strides;

/// Indices before and after a value's own, one entry per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halo {
    /// Before index 0.
    pub low: Vec<i64>,
    /// After the last index.
    pub high: Vec<i64>,
}

impl Halo {
    /// No halo, for a value of that many axes.
    pub fn none(rank: usize) -> Halo {
        Halo { low: vec![0; rank], high: vec![0; rank] }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.low.iter().chain(&self.high).all(|n| *n == 0)
    }

    /// Dims of the buffer around a value of dims `dims`.
    pub fn outer(&self, dims: &[i64]) -> Vec<i64> {
        dims.iter().zip(&self.low).zip(&self.high).map(|((d, l), h)| d + l + h).collect()
    }

    /// Where the value's elements stand in that buffer.
    pub fn access(&self, dims: &[i64]) -> StridedAccess {
        let strides = strides(&self.outer(dims));
        StridedAccess { offset: self.low.iter().zip(&strides).map(|(l, s)| l * s).sum(), strides }
    }

    /// At least as much as another.
    pub fn widen(&mut self, other: &Halo) {
        let wider = |mine: &mut [i64], others: &[i64]| {
            mine.iter_mut().zip(others).for_each(|(m, o)| *m = (*m).max(*o))
        };
        wider(&mut self.low, &other.low);
        wider(&mut self.high, &other.high);
    }
}
