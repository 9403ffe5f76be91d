//! Summaries of weights: constants whose elements rules do not see.

use super::elements::{all_whole, elements};
use super::magnitude::{Magnitude, VECTOR};
use super::mostly_zeros::MostlyZeros;
use egret_ir::{DType, Tensor};

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
    /// How many bits its integers take, where that is few.
    pub bits: Option<Bits>,
    /// Whether its floats are whole numbers: integers that were cast. Trained weights never are.
    pub whole: bool,
    /// What is known of it if it is mostly zeros.
    pub zeros: Option<MostlyZeros>,
}

/// Ranges of integers in wider types: those of bytes, and of differences of bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Bits {
    /// -128..=127
    I8,
    /// 0..=255
    U8,
    /// -255..=255
    I9,
}

impl Bits {
    /// The least and the greatest value.
    pub fn range(self) -> (f64, f64) {
        match self {
            Bits::I8 => (-128.0, 127.0),
            Bits::U8 => (0.0, 255.0),
            Bits::I9 => (-255.0, 255.0),
        }
    }

    /// Of the elements of an i32 constant.
    fn of(t: &Tensor) -> Option<Bits> {
        if t.dtype() != DType::I32 || t.is_empty() {
            return None;
        }
        let all = t.bytes().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (low, high) = all.fold((i32::MAX, i32::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let holds = |bits: &Bits| bits.range().0 <= low.into() && f64::from(high) <= bits.range().1;
        [Bits::I8, Bits::U8, Bits::I9].into_iter().find(holds)
    }
}

impl Summary {
    /// Summarises a constant.
    pub fn of(tensor: &Tensor) -> Summary {
        Summary { zeros: MostlyZeros::of(tensor), ..Summary::without_zeros(tensor) }
    }

    /// The same but for its zeros.
    pub fn without_zeros(tensor: &Tensor) -> Summary {
        Summary {
            uniform: uniform(tensor),
            away_from_zero: away_from_zero(tensor),
            magnitude: Magnitude::of(tensor),
            bits: Bits::of(tensor),
            whole: all_whole(tensor),
            zeros: None,
        }
    }

    /// What a summary says of a constant's zeros, and nothing else.
    pub fn of_zeros(tensor: &Tensor) -> Summary {
        Summary { zeros: MostlyZeros::of(tensor), ..Summary::default() }
    }

    /// Appends an encoding to a key: different summaries have different encodings, none a prefix of
    /// another.
    pub(crate) fn encode(&self, key: &mut Vec<u32>) {
        key.push(
            u32::from(self.away_from_zero)
                | u32::from(self.uniform.is_some()) << 1
                | u32::from(self.magnitude.is_some()) << 2
                | self.bits.map_or(0, |b| b as u32 + 1) << 3
                | u32::from(self.whole) << 5
                | self.zeros.map_or(0, |z| z.encode() + 1) << 6,
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
