//! Windows over planes of pixels that have no zeros around them: a tap reads the pixels that are neighbours in memory, and masks tell which of these
//! lie beyond an edge of the image.
//!
//! An example: rows of 14 pixels, a window of 3x3 with zeros around the image. The tap to the left above reads the element 15 before that of the output's
//! pixel; of the first row, and of the first pixel of every row, its mask leaves the columns out.

use std::ops::Range;

/// The most masks: registers hold the first six, each other one is loaded where the step before has another mask.
const MOST: usize = 32;

/// How a window walks along one axis of an image.
#[derive(Copy, Clone, Debug)]
pub struct Walk {
    /// Pixels of the input, and of the output.
    pub input: i64,
    pub output: i64,
    /// Taps, and steps of the window and within it.
    pub kernel: i64,
    pub stride: i64,
    pub dilation: i64,
    /// Zeros before the input.
    pub low: i64,
}

/// A tap along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct TapPlace {
    /// The pixel of the input at output 0 is `offset` windows' steps away, in the plane of those `plane` behind a multiple of the step.
    pub plane: i64,
    pub offset: i64,
    /// The outputs whose pixel is one of the input.
    pub within: Range<i64>,
}

impl Walk {
    /// Whether there is one output for each step of the window over the input, so that outputs and the pixels of a tap are as many.
    pub fn keeps_pixels(self) -> bool {
        self.output.checked_mul(self.stride) == Some(self.input)
    }

    /// The taps, in order.
    pub fn taps(self) -> Vec<TapPlace> {
        let up = |n: i64| (n + self.stride - 1).div_euclid(self.stride);
        let tap = |k: i64| {
            let at = k * self.dilation - self.low;
            let first = up(-at).clamp(0, self.output);
            let within = first..up(self.input - at).clamp(first, self.output);
            TapPlace { plane: at.rem_euclid(self.stride), offset: at.div_euclid(self.stride), within }
        };
        (0..self.kernel).map(tap).collect()
    }
}

/// The masks of a product's taps.
#[derive(Clone, Debug)]
pub struct Edges {
    /// Rows and columns of the output.
    output: [i64; 2],
    /// The rows and columns of the output that each mask has.
    masks: Vec<[Range<i64>; 2]>,
}

impl Edges {
    /// None yet.
    pub fn new(output: [i64; 2]) -> Edges {
        Edges { output, masks: vec![] }
    }

    /// How many masks there are.
    pub fn count(&self) -> i64 {
        self.masks.len() as i64
    }

    /// The mask of a tap that has pixels of the input for these rows and columns only; `Err` where there are too many.
    pub fn mask(&mut self, within: [Range<i64>; 2]) -> Result<Option<u8>, ()> {
        if within == self.output.map(|n| 0..n) {
            return Ok(None);
        }
        let known = self.masks.iter().position(|m| *m == within);
        let at = known.unwrap_or(self.masks.len());
        if at == MOST {
            return Err(());
        }
        if known.is_none() {
            self.masks.push(within);
        }
        Ok(Some(at as u8))
    }

    /// The masks of tiles of so many columns over a run of pixels, of which the last one begins where it is whole: those of a tile one behind another, as i32.
    pub fn table(&self, run: i64, cols: i64) -> Vec<u8> {
        let tiles = (run + cols - 1) / cols;
        let word = |tile: i64, [rows, columns]: &[Range<i64>; 2]| {
            let begin = (tile * cols).min(run - cols);
            let read = |c: &i64| {
                let pixel = begin + c;
                rows.contains(&(pixel / self.output[1])) && columns.contains(&(pixel % self.output[1]))
            };
            (0..cols).filter(read).fold(0u32, |bits, c| bits | 1 << c)
        };
        (0..tiles).flat_map(|t| self.masks.iter().flat_map(move |m| word(t, m).to_le_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tap of windows over small images reads the pixel that it should, or is left out.
    #[test]
    fn taps_and_masks_are_those_of_the_window() {
        for (kernel, stride, dilation) in
            [(3, 1, 1), (3, 2, 1), (5, 1, 1), (2, 2, 1), (3, 1, 2), (7, 2, 1), (1, 3, 1)]
        {
            for low in 0..kernel {
                for output in 4..7 {
                    let walk = Walk { input: output * stride, output, kernel, stride, dilation, low };
                    assert!(walk.keeps_pixels());
                    let mut edges = Edges::new([1, output]);
                    for (k, tap) in walk.taps().into_iter().enumerate() {
                        let mask = edges.mask([0..1, tap.within.clone()]).unwrap();
                        let words = edges.table(output, output);
                        for o in 0..output {
                            let wanted = o * stride + k as i64 * dilation - low;
                            let is_read = mask.is_none_or(|m| words[4 * usize::from(m)] >> o & 1 == 1);
                            assert_eq!(
                                is_read,
                                (0..walk.input).contains(&wanted),
                                "{walk:?} tap {k} output {o}"
                            );
                            assert_eq!((o + tap.offset) * stride + tap.plane, wanted);
                        }
                    }
                }
            }
        }
    }

    /// Masks go on over the ends of rows, and what is behind the last row has none.
    #[test]
    fn tiles_go_over_the_ends_of_rows() {
        let mut edges = Edges::new([3, 3]);
        assert_eq!(edges.mask([0..3, 0..3]), Ok(None));
        assert_eq!(edges.mask([1..3, 1..3]), Ok(Some(0)));
        assert_eq!(edges.mask([0..3, 0..2]), Ok(Some(1)));
        assert_eq!(edges.mask([1..3, 1..3]), Ok(Some(0)));
        let words: Vec<u32> =
            edges.table(9, 4).as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        // Pixels 0 to 3, 4 to 7, 5 to 8.
        assert_eq!(words, [0b0000, 0b1011, 0b1011, 0b1101, 0b1101, 0b0110]);
        let behind = edges.table(12, 4);
        assert_eq!(behind[16] & 0b1110, 0, "no pixel is behind the last one");
    }

    #[test]
    fn there_are_not_too_many() {
        let mut edges = Edges::new([100, 100]);
        let all: Vec<_> = (0..40).map(|i| edges.mask([0..100, i + 1..100])).collect();
        assert!(all[..MOST].iter().all(Result::is_ok) && all[MOST..].iter().all(Result::is_err));
    }
}
