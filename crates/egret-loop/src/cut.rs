//! How long reductions are cut: a sum of thousands of products in one f32 loses digits that sums of sums keep.

use crate::ir::Axis;

/// Turns of an innermost axis go into blocks in multiples of this, so that unrolled loops come out even.
const EVEN: i64 = 8;

/// A reduction cut into blocks: so many turns of one axis each, the last one along it shorter, and anew in every turn of the axes
/// around it. It depends on the reduction only, so that all elements of a result sum in the same order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The axis that is cut.
    pub depth: usize,
    /// Its turns in a block.
    pub turns: i64,
    /// Products of a block.
    products: i64,
    /// Products of all turns of the axis.
    around: i64,
}

impl Cut {
    /// The most products of a block that compiled models use. Halving it costs a leaf about 0.1 % of its speed; what it gains is
    /// least where blocks are as many as their products: at 1,536 products the error is 7.0e-7 uncut, 2.9e-7 in blocks of 256,
    /// 2.1e-7 in blocks of 128 (rms, relative).
    pub const PRODUCTS: i64 = 128;

    /// Blocks of at most `most` products, as even as possible; none where all fit into one. The reduction's axes are
    /// [joined](Axis::joined).
    pub fn new(axes: &[Axis], most: i64) -> Option<Cut> {
        let mut inner = 1;
        for (depth, axis) in axes.iter().enumerate().rev() {
            let around = inner * axis.extent;
            if around > most {
                let room = (most / inner).max(1);
                let blocks = (axis.extent + room - 1) / room;
                let even = (axis.extent + blocks - 1) / blocks;
                let turns = if inner == 1 { room.min((even + EVEN - 1) / EVEN * EVEN) } else { even };
                return Some(Cut { depth, turns, products: turns * inner, around });
            }
            inner = around;
        }
        None
    }

    /// Whether a block ends with this step of the whole reduction.
    pub fn ends(&self, step: i64) -> bool {
        let at = step % self.around + 1;
        at % self.products == 0 || at == self.around
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the blocks of a reduction over axes of these extents, which nothing joins.
    fn blocks(extents: &[i64], most: i64) -> Vec<i64> {
        let axes: Vec<Axis> = extents.iter().map(|&extent| Axis { extent, a_stride: 0, b_stride: 1 }).collect();
        let Some(cut) = Cut::new(&axes, most) else { return vec![] };
        let mut lengths = vec![];
        let mut length = 0;
        for step in 0..extents.iter().product() {
            length += 1;
            if cut.ends(step) {
                lengths.push(length);
                length = 0;
            }
        }
        assert_eq!(length, 0, "the last block does not end");
        lengths
    }

    #[test]
    fn short_reductions_are_whole() {
        assert!(blocks(&[256], 256).is_empty());
        assert!(blocks(&[4, 8, 8], 256).is_empty());
    }

    #[test]
    fn blocks_are_even_and_follow_the_axes() {
        assert_eq!(blocks(&[576], 256), [192; 3]);
        assert_eq!(blocks(&[300], 256), [152, 148]);
        assert_eq!(blocks(&[3, 192], 256), [192; 3]);
        assert_eq!(blocks(&[5, 2, 50], 256), [200, 200, 100]);
        assert_eq!(blocks(&[2, 3, 300], 256), [152, 148].repeat(6));
        assert_eq!(blocks(&[2, 7], 3), [3, 3, 1, 3, 3, 1]);
        assert_eq!(blocks(&[2, 2], 1), [1; 4]);
    }
}
