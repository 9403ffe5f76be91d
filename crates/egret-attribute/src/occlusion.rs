//! Occlusion: what the score loses when a window of an input is set to the baseline.

use crate::explanation::Explanation;
use crate::feature::Feature;
use crate::program::Model;
use crate::target::Wanted;
use crate::variants::scores;
use crate::windows::{Step, windows};
use egret::Result;

/// Attributions by windows over the last axes of each input.
pub(crate) fn attribute(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    window: Option<&[usize]>,
    stride: Option<&[usize]>,
) -> Result<Explanation> {
    let (windows, mut notes) = windows(features, window, &Step::Overlapping(stride))?;
    let without = |w: usize, i: usize, data: &mut Vec<f64>| {
        let from = data.len();
        data.extend(&features[i].data);
        if windows[w].feature == i {
            windows[w].elements.iter().for_each(|&e| data[from + e] = features[i].baseline[e]);
        }
    };
    let found = scores(model, wanted, features, windows.len(), &without)?;
    notes.push(found.note);
    let mut sums: Vec<Vec<f64>> = features.iter().map(|f| vec![0.0; f.data.len()]).collect();
    let mut counts = sums.clone();
    for (w, s) in windows.iter().zip(&found.scores) {
        for &e in &w.elements {
            sums[w.feature][e] += found.elements.target.score - s;
            counts[w.feature][e] += 1.0;
        }
    }
    let mean = |(s, c): (Vec<f64>, &Vec<f64>)| s.iter().zip(c).map(|(s, c)| s / c).collect::<Vec<f64>>();
    let maps =
        features.iter().zip(sums.into_iter().zip(&counts).map(mean)).map(|(f, v)| f.map(v)).collect();
    Ok(Explanation { notes, ..Explanation::new(found.elements.target, maps) })
}
