//! Summaries of weights: constants whose elements rules do not see.

use super::elements::elements;
use super::magnitude::{Magnitude, VECTOR};
use egret_ir::Tensor;

/// Guards see the elements of constants up to this size. Larger ones are weights, of which rules know a
/// [`Summary`] only, so that blocks that differ in nothing but their weights are optimised once.
pub const SMALL: usize = 16;

/// A summary of a constant of any size. Only properties that few constants differ in, so that blocks with
/// different weights still have equal keys.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The value of all elements, if they are equal bit for bit. Trained weights never are.
    pub uniform: Option<f64>,
    /// Whether it may be divided by, see [`away_from_zero`].
    pub away_from_zero: bool,
    /// How large its elements are, where that is known.
    pub magnitude: Option<Magnitude>,
}

impl Summary {
    /// Summarises a constant.
    pub fn of(tensor: &Tensor) -> Summary {
        Summary {
            uniform: uniform(tensor),
            away_from_zero: away_from_zero(tensor),
            magnitude: Magnitude::of(tensor),
        }
    }

    /// Appends an encoding to a key: different summaries have different encodings, none a prefix of
    /// another.
    pub(crate) fn encode(&self, key: &mut Vec<u32>) {
        key.push(
            u32::from(self.away_from_zero)
                | u32::from(self.uniform.is_some()) << 1
                | u32::from(self.magnitude.is_some()) << 2,
        );
        key.extend(self.magnitude.into_iter().flat_map(Magnitude::encode));
        if let Some(bits) = self.uniform.map(f64::to_bits) {
            key.extend([bits as u32, (bits >> 32) as u32]);
        }
    }
}

/// The value of all elements if they are equal bit for bit, for element types that rules compute with.
fn uniform(t: &Tensor) -> Option<f64> {
    let (size, bytes) = (t.dtype().size(), t.bytes());
    let first = bytes.get(..size).filter(|f| !f.is_empty())?;
    let same = bytes.chunks_exact(size).all(|c| c == first);
    same.then(|| elements(t, 1)?.first().copied()).flatten()
}

/// Whether a float vector (of any rank, at most 4096 elements) may be divided by: every magnitude is
/// between 2⁻¹⁰ and 2¹⁰. Nearly all scales of norms are, so that asking it of weights seldom makes equal
/// blocks differ.
pub fn away_from_zero(t: &Tensor) -> bool {
    let vector = t.shape().iter().filter(|d| **d != 1).count() <= 1 && t.len() <= VECTOR;
    vector && t.magnitudes().is_some_and(|m| !m.zero && m.least >= 1.0 / 1024.0 && m.largest <= 1024.0)
}
