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
    /// Elements behind each plane (all axes from the third on), of any value, so that the next plane begins with a whole vector.
    pub gap: i64,
}

impl Halo {
    /// No halo, for a value of that many axes.
    pub fn none(rank: usize) -> Halo {
        Halo { low: vec![0; rank], high: vec![0; rank], gap: 0 }
    }

    /// Whether there are zeros around the value.
    pub fn has_zeros(&self) -> bool {
        self.low.iter().chain(&self.high).any(|n| *n != 0)
    }

    /// Dims of the value with the zeros around it.
    fn with_zeros(&self, dims: &[i64]) -> Vec<i64> {
        dims.iter().zip(&self.low).zip(&self.high).map(|((d, l), h)| d + l + h).collect()
    }

    /// Dims of the buffer around a value of dims `dims`; a plane with a gap behind it is one axis.
    pub fn outer(&self, dims: &[i64]) -> Vec<i64> {
        let mut outer = self.with_zeros(dims);
        if self.gap > 0 {
            let plane = outer.split_off(2);
            outer.push(plane.iter().product::<i64>() + self.gap);
        }
        outer
    }

    /// Where the value's elements stand in that buffer.
    pub fn access(&self, dims: &[i64]) -> StridedAccess {
        let outer = self.with_zeros(dims);
        let mut strides = strides(&outer);
        if self.gap > 0 {
            strides[1] += self.gap;
            strides[0] = outer[1] * strides[1];
        }
        StridedAccess { offset: self.low.iter().zip(&strides).map(|(l, s)| l * s).sum(), strides }
    }

    /// At least as much as another.
    pub fn widen(&mut self, other: &Halo) {
        let wider = |mine: &mut [i64], others: &[i64]| {
            mine.iter_mut().zip(others).for_each(|(m, o)| *m = (*m).max(*o))
        };
        wider(&mut self.low, &other.low);
        wider(&mut self.high, &other.high);
        self.gap = self.gap.max(other.gap);
    }
}
