//! Channels: grids for each channel of a value, which depthwise convolutions alone read. No sum is over channels, so that a scale for each is
//! as fast as one for all.

use crate::integers::grid::Grid;
use crate::quantize::histogram::bytes;

/// What a channel may be beyond the numbers that samples had there, times these. A channel is seen far less than a value as a whole,
/// and what is clipped costs more than the two bits that this takes.
const BEYOND: f64 = 4.0;
/// No channel has less than this part of the range of the whole value.
const LEAST: f64 = 1.0 / 64.0;
/// Channels keep one scale where those of their own leave more than this part of the squared steps.
const ALIKE: f64 = 0.9;

/// The least and the greatest number of each channel, axis 1, and zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels(Vec<[f64; 2]>);

impl Channels {
    /// Of so many channels; of none nothing is seen.
    pub fn new(count: usize) -> Channels {
        Channels(vec![[0.0; 2]; count])
    }

    /// See the numbers of a sample. A value of another shape has no channels.
    pub fn see(&mut self, shape: &[usize], numbers: &[f32]) {
        if self.0.is_empty() {
            return;
        }
        if shape.get(1) != Some(&self.0.len()) {
            self.0.clear();
            return;
        }
        let (inner, count) = (shape[2..].iter().product::<usize>().max(1), self.0.len());
        for (k, run) in numbers.chunks(inner).enumerate() {
            let [low, high] = &mut self.0[k % count];
            let least = run.iter().copied().fold(0.0, f32::min);
            let most = run.iter().copied().fold(0.0, f32::max);
            (*low, *high) = (low.min(f64::from(least)), high.max(f64::from(most)));
        }
    }

    /// The grid of each channel, within the range that samples gave all of them; none where that wins nothing over one grid of that range.
    /// A channel of zeros has the whole range.
    pub fn grids(&self) -> Vec<Grid> {
        let least = self.0.iter().map(|c| c[0]).fold(0.0, f64::min);
        let most = self.0.iter().map(|c| c[1]).fold(0.0, f64::max);
        let whole = bytes(least, most);
        let of = |&[low, high]: &[f64; 2]| match (low, high) {
            (0.0, 0.0) => whole,
            _ => {
                bytes((low * BEYOND).clamp(least, least * LEAST), (high * BEYOND).clamp(most * LEAST, most))
            }
        };
        let own: Vec<Grid> = self.0.iter().map(of).collect();
        let squares: f64 = own.iter().map(|g| g.scale * g.scale).sum();
        let wins = squares < ALIKE * whole.scale * whole.scale * own.len() as f64;
        if wins { own } else { vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels of two images of four numbers each: of which one is as large as the value, one a hundredth, one zero.
    fn seen(scales: [f32; 3]) -> Channels {
        let mut channels = Channels::new(3);
        for sign in [1.0, -0.5] {
            let numbers: Vec<f32> =
                scales.iter().flat_map(|s| [0.25, -0.5, 1.0, 0.0].map(|v| v * s * sign)).collect();
            channels.see(&[1, 3, 2, 2], &numbers);
        }
        channels
    }

    #[test]
    fn a_channel_has_its_own_range_within_that_of_the_value() {
        let whole = bytes(-0.5, 1.0);
        let own = seen([1.0, 0.05, 0.0]).grids();
        assert_eq!((own[0], own[2]), (whole, whole));
        let (low, high) = (own[1].value(own[1].low), own[1].value(own[1].high));
        assert!((low + 0.1).abs() < 0.002 && (high - 0.2).abs() < 0.002, "{low} {high}");
        // However small a channel is.
        let least = seen([1.0, 1e-6, 1.0]).grids()[1];
        assert!((least.scale * 64.0 / whole.scale - 1.0).abs() < 1e-3, "{least:?}");
        assert!(own.iter().chain([&least]).all(|g| g.value(g.code(0.0)) == 0.0));
    }

    #[test]
    fn channels_that_are_alike_have_one_scale() {
        assert!(seen([1.0, 0.9, 0.3]).grids().is_empty());
        assert!(Channels::default().grids().is_empty());
        let mut other = seen([1.0, 0.01, 0.01]);
        other.see(&[1, 4], &[0.0; 4]);
        assert!(other.grids().is_empty(), "one sample had other channels");
    }
}
