//! Types of values: scalars and vectors.

use crate::elem::Elem;
use std::fmt;

/// Bytes of the vectors that every target has.
pub const BASE_VECTOR_BYTES: usize = 16;

/// The most bytes of a vector.
pub const MAX_VECTOR_BYTES: usize = 64;

/// The most lanes of a vector.
pub const MAX_LANES: usize = 16;

/// Type of a value: an element type and 1 lane, or a vector of 2 to 16 lanes, a power of two, in at most 64 bytes. A vector of
/// `Bool` has the lane count of the vectors compared. How wide lanes are where unlike elements meet, [`crate::masks`] says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ty {
    /// Element type.
    pub elem: Elem,
    /// 1, 2, 4, 8 or 16.
    pub lanes: u8,
}

impl Ty {
    /// A type, where there is one of so many lanes.
    pub fn new(elem: Elem, lanes: u8) -> Option<Ty> {
        let n = usize::from(lanes);
        let fits = n.is_power_of_two() && n <= MAX_LANES && n * elem.size() <= MAX_VECTOR_BYTES;
        fits.then_some(Ty { elem, lanes })
    }

    /// A scalar.
    pub fn scalar(elem: Elem) -> Ty {
        Ty { elem, lanes: 1 }
    }

    /// The vector of an element type that every target has.
    pub fn vector(elem: Elem) -> Ty {
        Ty::vector_of(elem, BASE_VECTOR_BYTES)
    }

    /// The vector of an element type for vectors of 16, 32 or 64 bytes; of small elements it has [`MAX_LANES`] and fewer bytes.
    pub fn vector_of(elem: Elem, bytes: usize) -> Ty {
        debug_assert!((BASE_VECTOR_BYTES..=MAX_VECTOR_BYTES).contains(&bytes) && bytes.is_power_of_two());
        Ty { elem, lanes: (bytes / elem.size()).min(MAX_LANES) as u8 }
    }

    /// The same lanes with another element type.
    pub fn with(self, elem: Elem) -> Ty {
        Ty { elem, lanes: self.lanes }
    }

    /// Bytes of a value in a buffer; those of a mask in a register are another number.
    pub fn bytes(self) -> usize {
        self.elem.size() * usize::from(self.lanes)
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes == 1 { write!(f, "{}", self.elem) } else { write!(f, "{}x{}", self.elem, self.lanes) }
    }
}
