//! What contraction tiles multiply.

use crate::elem::Elem;

/// What the steps of a [`Tile`](crate::Tile) multiply; the element types of `a` and `b` tell.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Products {
    /// f32 by f32, summed in f32.
    Floats,
    /// Four u8 by four i8, each pair multiplied, summed in i32 (wrapping).
    Bytes,
    /// Four i8 by four u8 as [`Products::Bytes`], of which an i32 holds four each, the first one in its low byte. Of nonzeros only: the weights are on the left.
    Quads,
}

impl Products {
    /// What elements of these types are multiplied by.
    pub fn of(a: Elem, b: Elem) -> Option<Products> {
        [Products::Floats, Products::Bytes, Products::Quads].into_iter().find(|p| p.operands() == (a, b))
    }

    /// The element types of `a` and `b`.
    pub fn operands(self) -> (Elem, Elem) {
        match self {
            Products::Floats => (Elem::F32, Elem::F32),
            Products::Bytes => (Elem::U8, Elem::I8),
            Products::Quads => (Elem::I32, Elem::I32),
        }
    }

    /// The element type of the sums.
    pub fn sum(self) -> Elem {
        match self {
            Products::Floats => Elem::F32,
            Products::Bytes | Products::Quads => Elem::I32,
        }
    }

    /// Elements of `a`, and of a column of `b`, that a step takes: 4 bytes of them.
    pub const fn depth(self) -> i64 {
        match self {
            Products::Floats | Products::Quads => 1,
            Products::Bytes => 4,
        }
    }

    /// Bytes of an element of `a` and of `b`.
    pub fn size(self) -> i64 {
        4 / self.depth()
    }

    /// The sum of the products of two quads, as i32.
    pub fn of_quads(a: u32, b: u32) -> i32 {
        let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        pairs.map(|(a, b)| i32::from(a as i8) * i32::from(b)).sum()
    }
}
