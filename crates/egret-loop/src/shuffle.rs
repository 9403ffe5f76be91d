//! Lanes of two vectors in one, by a fixed order.

use crate::elem::Elem;
use crate::ops::{Half, Parity};
use crate::ty::{BASE_VECTOR_BYTES, Ty};

/// How the lanes of two vectors come into one. Those by blocks see a vector as blocks of 16 bytes, of elements of 4 or 8 bytes: they are
/// what x86 does to wide vectors in one instruction, and what is left of a transpose when its vectors are split.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shuffle {
    /// The lanes of halves by turns: of `[a, b, c, d]` and `[e, f, g, h]` the low halves give `[a, e, b, f]`, the high ones
    /// `[c, g, d, h]`.
    Interleave(Half),
    /// Every other lane, of one vector after the other: of `[a, b, c, d]` and `[e, f, g, h]` the even ones are `[a, c, e, g]`.
    Deinterleave(Parity),
    /// The lanes of halves by turns, in each block by itself: of `f32x8` the low halves give `[a0, b0, a1, b1, a4, b4, a5, b5]`.
    Unpack(Half),
    /// Every other block, of one vector after the other: of `f32x8` the even ones give `[a0, a1, a2, a3, b0, b1, b2, b3]`.
    Blocks(Parity),
}

impl Shuffle {
    /// All of them, those of lanes first.
    pub const ALL: [Shuffle; 8] = [
        Shuffle::Interleave(Half::Low),
        Shuffle::Interleave(Half::High),
        Shuffle::Deinterleave(Parity::Even),
        Shuffle::Deinterleave(Parity::Odd),
        Shuffle::Unpack(Half::Low),
        Shuffle::Unpack(Half::High),
        Shuffle::Blocks(Parity::Even),
        Shuffle::Blocks(Parity::Odd),
    ];

    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Shuffle::Interleave(Half::Low) => "interleave_low",
            Shuffle::Interleave(Half::High) => "interleave_high",
            Shuffle::Deinterleave(Parity::Even) => "deinterleave_even",
            Shuffle::Deinterleave(Parity::Odd) => "deinterleave_odd",
            Shuffle::Unpack(Half::Low) => "unpack_low",
            Shuffle::Unpack(Half::High) => "unpack_high",
            Shuffle::Blocks(Parity::Even) => "blocks_even",
            Shuffle::Blocks(Parity::Odd) => "blocks_odd",
        }
    }

    /// The one of this name.
    pub fn of(name: &str) -> Option<Shuffle> {
        Shuffle::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether it may join vectors of this type.
    pub fn takes(self, ty: Ty) -> bool {
        let blocks = match self {
            Shuffle::Interleave(_) | Shuffle::Deinterleave(_) => true,
            Shuffle::Unpack(_) | Shuffle::Blocks(_) => {
                ty.elem.size() >= 4 && ty.lanes.is_multiple_of(Shuffle::block(ty.elem))
            }
        };
        ty.lanes > 1 && ty.elem != Elem::Bool && blocks
    }

    /// Lanes of a block.
    pub(crate) fn block(elem: Elem) -> u8 {
        (BASE_VECTOR_BYTES / elem.size()) as u8
    }

    /// The lane that becomes this one, counted through both vectors.
    pub fn source(self, ty: Ty, lane: usize) -> usize {
        let (n, block) = (usize::from(ty.lanes), usize::from(Shuffle::block(ty.elem)));
        let turns =
            |n: usize, half: Half, lane: usize| (if half == Half::Low { 0 } else { n / 2 }) + lane / 2;
        let other = |parity: Parity, at: usize| 2 * at + usize::from(parity == Parity::Odd);
        match self {
            Shuffle::Interleave(half) => turns(n, half, lane) + lane % 2 * n,
            Shuffle::Deinterleave(parity) => other(parity, lane),
            Shuffle::Unpack(half) => lane / block * block + turns(block, half, lane % block) + lane % 2 * n,
            Shuffle::Blocks(parity) => other(parity, lane / block) * block + lane % block,
        }
    }
}
