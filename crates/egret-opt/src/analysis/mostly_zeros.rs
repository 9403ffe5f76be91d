//! Constants that are mostly zeros: what may be left out of products, and how far sums of the others reach.

use super::elements::SMALL;
use egret_ir::{Attrs, DType, Op, Quads, Tensor};

/// What is known of a constant that is mostly zeros. So coarse that layers that were pruned alike have the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MostlyZeros {
    /// How many [`PARTS`]th of its elements are not zero, rounded up.
    pub parts: u8,
    /// The same of quads ([`egret_ir::Quads`]), if it is a filter of integers that has such.
    pub quads: Option<u8>,
    /// Of integers the powers of two up to which the sizes of its elements add up: those at one index of the first axis, and of the last.
    pub sums: Option<[u8; 2]>,
}

/// What nonzeros are counted in.
pub const PARTS: u64 = 16;
/// Nonzeros of what is mostly zeros, at most. More are never left out ([`egret_machine::CostModel::nonzeros_at_most`]).
const FEW_PARTS: u64 = 6;

impl MostlyZeros {
    /// Of a constant of f32 or of integers that are weights: i8, or i32 that such were cast to.
    pub fn of(t: &Tensor) -> Option<MostlyZeros> {
        if t.len() <= SMALL {
            return None;
        }
        let words = t.bytes().as_chunks::<4>().0;
        let count = match t.dtype() {
            DType::F32 => words.iter().filter(|b| f32::from_le_bytes(**b) != 0.0).count(),
            DType::I32 => words.iter().filter(|b| **b != [0; 4]).count(),
            DType::I8 => t.bytes().iter().filter(|b| **b != 0).count(),
            _ => return None,
        };
        let parts = (count as u64 * PARTS).div_ceil(t.len() as u64);
        let parts = u8::try_from(parts).ok().filter(|_| parts <= FEW_PARTS)?;
        let sums = match t.dtype() {
            DType::I32 => sums(t.shape(), words.iter().map(|b| i32::from_le_bytes(*b).unsigned_abs())),
            DType::I8 => sums(t.shape(), t.bytes().iter().map(|b| u32::from((*b as i8).unsigned_abs()))),
            _ => None,
        };
        let quads = if sums.is_some() { quads(t) } else { None };
        Some(MostlyZeros { parts, quads, sums })
    }

    /// Of what an operation makes of a constant, from type `from`: integers stay what they are as numbers of types that hold them all, and elements may be
    /// moved. In others they wrap, and may become larger: -1 as u8 is 255.
    pub fn result(op: Op, attrs: &Attrs, of: MostlyZeros, from: DType, rank: usize) -> Option<MostlyZeros> {
        match op {
            Op::Cast if of.sums.is_some() => {
                let to = attrs.dtype("to");
                let held = match from {
                    DType::I8 => matches!(to, DType::I8 | DType::I16),
                    _ => false,
                } || matches!(to, DType::I32 | DType::I64 | DType::F32 | DType::F64);
                Some(MostlyZeros { sums: of.sums.filter(|_| held), ..of })
            }
            Op::Transpose if rank == 2 && attrs.ints("perm") == [1, 0] => {
                Some(MostlyZeros { quads: None, sums: of.sums.map(|[first, last]| [last, first]), ..of })
            }
            _ => None,
        }
    }

    /// Of a value that both are true of.
    pub fn and(self, other: MostlyZeros) -> MostlyZeros {
        let sums = match (self.sums, other.sums) {
            (Some(a), Some(b)) => Some([a[0].min(b[0]), a[1].min(b[1])]),
            (a, b) => a.or(b),
        };
        let quads = match (self.quads, other.quads) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        MostlyZeros { parts: self.parts.min(other.parts), quads, sums }
    }

    /// A number of its own below 2^26.
    pub fn encode(self) -> u32 {
        let sums = self.sums.map_or(0, |[first, last]| 1 + (u32::from(first) << 7 | u32::from(last)));
        u32::from(self.parts) | self.quads.map_or(0, |q| u32::from(q) + 1) << 5 | sums << 10
    }
}

/// See [`MostlyZeros::quads`].
fn quads(t: &Tensor) -> Option<u8> {
    let [outputs, channels, taps @ ..] = t.shape() else { return None };
    if taps.is_empty() {
        return None;
    }
    let quads = Quads::new(*outputs, *channels, taps.iter().product())?;
    let count = match t.dtype() {
        DType::I8 => quads.nonzeros(t.bytes()).count(),
        // Whether an integer is zero, as a byte.
        _ => {
            let words = t.bytes().as_chunks::<4>().0.iter();
            quads.nonzeros(&words.map(|w| u8::from(*w != [0; 4])).collect::<Vec<u8>>()).count()
        }
    };
    u8::try_from((count as u64 * PARTS).div_ceil(quads.count() as u64)).ok()
}

/// See [`MostlyZeros::sums`]. `sizes`: of the elements.
fn sums(shape: &[usize], sizes: impl Iterator<Item = u32>) -> Option<[u8; 2]> {
    let (&first, &last) = (shape.first()?, shape.last()?);
    let of_first = shape[1..].iter().product::<usize>();
    let (mut rows, mut columns) = (vec![0u64; first], vec![0u64; last]);
    for (i, size) in sizes.enumerate() {
        rows[i / of_first] += u64::from(size);
        columns[i % last] += u64::from(size);
    }
    let power = |sums: &[u64]| sums.iter().max().map(|n| n.next_power_of_two().ilog2() as u8);
    Some([power(&rows)?, power(&columns)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::attrs;

    #[test]
    fn sums_are_of_the_first_axis_and_of_the_last() {
        let mut weights = vec![0i8; 2 * 3 * 4];
        (weights[0], weights[3], weights[12]) = (-128, 5, 2);
        let of = |t: &Tensor| MostlyZeros::of(t).expect("mostly zeros");
        let zeros = of(&Tensor::new(&[2, 3, 4], weights.clone()));
        // 133 in the first row, 130 in the first column.
        assert_eq!(zeros, MostlyZeros { parts: 2, quads: Some(6), sums: Some([8, 8]) });
        let wide: Vec<i32> = weights.iter().map(|w| i32::from(*w)).collect();
        assert_eq!(of(&Tensor::new(&[2, 3, 4], wide.clone())), zeros);
        let floats: Vec<f32> = wide.iter().map(|w| *w as f32).collect();
        assert_eq!(of(&Tensor::new(&[2, 3, 4], floats)).sums, None);
        let tall = of(&Tensor::new(&[12, 2], weights));
        assert_eq!(tall.sums, Some([7, 8]));
        let turned = MostlyZeros::result(Op::Transpose, &attrs! { perm: vec![1, 0] }, tall, DType::I8, 2);
        assert_eq!(turned.and_then(|t| t.sums), Some([8, 7]));
        let cast = |from: DType, to: DType| {
            let attrs = attrs! { to: to, saturate: 1, round: "nearest" };
            MostlyZeros::result(Op::Cast, &attrs, tall, from, 2).expect("mostly zeros").sums.is_some()
        };
        assert!(cast(DType::I8, DType::I32) && cast(DType::I32, DType::F32) && cast(DType::I8, DType::I16));
        for (from, to) in [
            (DType::I8, DType::U8),
            (DType::I8, DType::U16),
            (DType::I32, DType::I8),
            (DType::I32, DType::U32),
            (DType::I8, DType::F16),
        ] {
            assert!(!cast(from, to), "{from} as {to} may become larger");
        }
        assert_eq!(tall.and(MostlyZeros { parts: 1, quads: None, sums: Some([8, 6]) }).sums, Some([7, 6]));
        assert_ne!(tall.encode(), zeros.encode());
    }

    #[test]
    fn what_is_not_mostly_zeros_is_not() {
        let weights: Vec<i8> = (0..20).map(|i| i % 2).collect();
        assert_eq!(MostlyZeros::of(&Tensor::new(&[4, 5], weights)), None);
        assert_eq!(MostlyZeros::of(&Tensor::new(&[2, 2], vec![0i8; 4])), None);
    }
}
