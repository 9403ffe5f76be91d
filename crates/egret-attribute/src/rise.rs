//! RISE: the mean score of randomly masked inputs, by what the masks leave (Petsiuk, Das and Saenko 2018).
//!
//! A mask is a coarse grid of zeros and ones, each by a coin, enlarged by linear interpolation and shifted by less than a cell. An
//! element of mask m is m times its own value and 1 - m times the baseline. Its attribution is the sum of score times mask over the sum that masks
//! are expected to have: the score that is expected while the element is there.

use crate::explanation::Explanation;
use crate::feature::Feature;
use crate::numbers::short;
use crate::program::Model;
use crate::target::{Wanted, real};
use crate::variants::scores;
use crate::windows::{Step, sizes};
use egret::ir::rng::{Rng, nth};
use egret::{Error, Result};

/// How often a cell of the grid is there.
const KEEP: f64 = 0.5;

/// Attributions by `samples` masks, whose cells are of the size `window` over the last axes of each input.
pub(crate) fn attribute(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    window: Option<&[usize]>,
    samples: usize,
    seed: u64,
) -> Result<Explanation> {
    let mut cells = vec![];
    let mut notes = vec![];
    for f in features {
        let (size, _) = sizes(f, window, &Step::Apart)?;
        if !real(f.dtype) && size.iter().any(|&s| s > 1) {
            return Err(Error::user(format!(
                "the input `{}` holds integers, and cells of more than one element blend them with the baseline; give --window 1",
                f.name
            )));
        }
        let spelt: Vec<String> = size.iter().map(ToString::to_string).collect();
        notes.push(format!(
            "{samples} masks of cells of {} over `{}`, seed {seed}",
            spelt.join("x"),
            f.name
        ));
        cells.push(size);
    }
    let mask_of = |sample: usize, i: usize| {
        let own = nth(seed, sample as u64).wrapping_add(nth(!seed, i as u64));
        mask(&features[i].shape, &cells[i], &mut Rng::new(own))
    };
    let fill = |sample: usize, i: usize, data: &mut Vec<f64>| {
        let f = &features[i];
        let known = f.data.iter().zip(&f.baseline).zip(mask_of(sample, i));
        data.extend(known.map(|((x, b), m)| m * x + (1.0 - m) * b));
    };
    let found = scores(model, wanted, features, samples, &fill)?;
    notes.push(found.note);
    let mut errors = (0.0f64, 0.0f64, 0usize);
    let one = |(i, f): (usize, &Feature)| {
        let (mut sums, mut squares) = (vec![0.0; f.data.len()], vec![0.0; f.data.len()]);
        for (sample, score) in found.scores.iter().enumerate() {
            for ((sum, square), m) in sums.iter_mut().zip(&mut squares).zip(mask_of(sample, i)) {
                let v = score * m / KEEP;
                *sum += v;
                *square += v * v;
            }
        }
        let n = samples as f64;
        for (sum, square) in sums.iter_mut().zip(squares) {
            *sum /= n;
            let error = ((square / n - *sum * *sum).max(0.0) / n).sqrt();
            errors = (errors.0 + error, errors.1.max(error), errors.2 + 1);
        }
        f.map(sums)
    };
    let maps = features.iter().enumerate().map(one).collect();
    let mean = errors.0 / errors.2.max(1) as f64;
    notes.push(format!("standard errors {} in the mean, {} at most", short(mean), short(errors.1)));
    Ok(Explanation { notes, ..Explanation::new(found.elements.target, maps) })
}

/// A mask over the last axes, the same along the others.
fn mask(shape: &[usize], cell: &[usize], rng: &mut Rng) -> Vec<f64> {
    let last = &shape[shape.len() - cell.len()..];
    let shifts: Vec<usize> = cell.iter().map(|&c| rng.below(c)).collect();
    // A grid's points lie a cell apart: one more than cells, and one for the shift.
    let points: Vec<usize> = last.iter().zip(cell).map(|(d, c)| d.div_ceil(*c) + 1).collect();
    let count: usize = points.iter().product();
    let mut block: Vec<f64> = (0..count).map(|_| (rng.bits() >> 63) as f64).collect();
    let mut done: Vec<usize> = points.clone();
    for axis in 0..cell.len() {
        let (old, new) = (done[axis], last[axis]);
        let outer: usize = done[..axis].iter().product();
        let inner: usize = done[axis + 1..].iter().product();
        let mut out = Vec::with_capacity(outer * new * inner);
        for o in 0..outer {
            for i in 0..new {
                let at = i + shifts[axis];
                let (low, part) = (at / cell[axis], (at % cell[axis]) as f64 / cell[axis] as f64);
                let row = |r: usize| &block[(o * old + r) * inner..][..inner];
                // The last point has no next one, and no part of it is asked for.
                let high = row((low + 1).min(old - 1));
                out.extend(row(low).iter().zip(high).map(|(l, h)| l + part * (h - l)));
            }
        }
        block = out;
        done[axis] = new;
    }
    let blocks = shape.iter().product::<usize>() / last.iter().product::<usize>().max(1);
    block.repeat(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_half_and_are_smooth() {
        let mut rng = Rng::new(1);
        let (mut sum, n) = ([0.0; 30], 4000);
        for _ in 0..n {
            let mask = mask(&[1, 2, 5, 6], &[2, 3], &mut rng);
            assert_eq!(mask.len(), 60);
            // All channels alike, and neighbours within a cell's slope.
            assert_eq!(mask[..30], mask[30..]);
            assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)));
            assert!(mask[..6].windows(2).all(|w| (w[0] - w[1]).abs() < 1.0 / 3.0 + 1e-12), "{mask:?}");
            sum.iter_mut().zip(&mask).for_each(|(s, m)| *s += m);
        }
        assert!(sum.iter().all(|s| (s / f64::from(n) - 0.5).abs() < 0.04), "{sum:?}");
        // Cells of one element are zeros and ones.
        assert!(mask(&[7], &[1], &mut rng).iter().all(|m| *m == 0.0 || *m == 1.0));
    }
}
