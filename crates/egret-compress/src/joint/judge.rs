//! The judge: how far a model's outputs are from those of the original, on samples that the weights were not fitted to.

use crate::data::distance::Distance;
use crate::data::taps::floats;
use crate::state::State;
use egret::ir::interp::erf;
use egret::samples::{Sample, Samples};
use egret::{Error, Result};
use onnx_protobuf::ModelProto;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// What is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Mean square of the difference of outputs, relative to their variance: of the output where it is largest.
    Mse,
    /// The part of the samples whose largest output is the one of their label.
    Top1,
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Metric> {
        match text {
            "mse" => Ok(Metric::Mse),
            "top1" => Ok(Metric::Top1),
            _ => {
                Err(Error::user(format!("no metric `{text}`; there are mse and top1 (which needs labels)")))
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Mse => "mse",
            Metric::Top1 => "top1",
        })
    }
}

/// How good a model is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Score {
    /// By the metric.
    pub value: f64,
    /// What is lost to the original: of `mse` the value itself, of `top1` a part of the samples, as counted or as the margins of the labels' scores tell if that is more.
    pub loss: f64,
}

/// How sure the original is of the labels of the samples, from which follows what a copy loses on samples like these. Hits alone are counted in whole samples: a copy that
/// changes no answer of 100 may well lose a point.
#[derive(Clone, Debug, Default)]
struct Margins(Vec<Margin>);

/// A sample's.
#[derive(Copy, Clone, Debug)]
struct Margin {
    /// The label's score less the largest of the others: positive where the answer is right.
    value: f64,
    /// The class with the largest score of the others.
    other: usize,
}

impl Margin {
    fn of(scores: &[f32], label: usize) -> Margin {
        let others = (0..scores.len()).filter(|&i| i != label);
        let other =
            others.max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))).unwrap_or(label);
        Margin { value: Margin::between(scores, label, other), other }
    }

    fn between(scores: &[f32], label: usize, other: usize) -> f64 {
        f64::from(scores[label]) - f64::from(scores[other])
    }

    /// How far it moved. What is no number or infinite before, as of a score that is minus infinity, tells nothing.
    fn moved(self, now: f64) -> f64 {
        if self.value.is_finite() && now != self.value { now - self.value } else { 0.0 }
    }
}

impl Margins {
    /// The part of the samples that are right before and not after, less that of those that are right after only, where each margin moves at random by as much as `moved` says
    /// that the copy's margins did: sums over samples of the normal distribution, whose deviation is the root mean square of these.
    fn expected_loss(&self, moved: &[f64]) -> f64 {
        let count = self.0.len().max(1) as f64;
        let deviation = (moved.iter().map(|d| d * d).sum::<f64>() / count).sqrt();
        if deviation == 0.0 {
            return 0.0;
        }
        if !deviation.is_finite() {
            return 1.0;
        }
        // How often a margin is on the other side of 0.
        let turned = |m: &Margin| {
            let part = 0.5 - 0.5 * erf(m.value.abs() / deviation / std::f64::consts::SQRT_2);
            if m.value > 0.0 { part } else { -part }
        };
        self.0.iter().filter(|m| m.value.is_finite()).map(turned).sum::<f64>() / count
    }
}

/// The judge of a model's copies.
pub struct Judge<'a> {
    samples: &'a Samples,
    metric: Metric,
    distance: Distance<'a>,
    /// Of the original, where the metric is `top1`.
    margins: Margins,
    /// The score of the original.
    pub base: f64,
}

impl<'a> Judge<'a> {
    /// A judge of copies of this model.
    ///
    /// # Errors
    /// Samples without labels, where the metric needs them; a model that does not run.
    pub fn new(
        model: &ModelProto,
        path: &'a Path,
        samples: &'a Samples,
        metric: Metric,
        state: &State,
    ) -> Result<Judge<'a>> {
        if metric == Metric::Top1 && !samples.has_labels() {
            return Err(Error::user(
                "--metric top1 needs labels: an array `labels` in the .npz file of samples, a number for each",
            ));
        }
        let distance = Distance::new(model, path);
        let mut out = Judge { samples, metric, distance, margins: Margins::default(), base: 0.0 };
        if metric == Metric::Top1 {
            let numbers = state.numbers("margins of the original", || out.of_original(model))?;
            let [base, margins @ ..] = &numbers[..] else { return Err(Error::internal("no margins")) };
            let margin = |m: &[f64; 2]| Margin { value: m[0], other: m[1] as usize };
            (out.base, out.margins) = (*base, Margins(margins.as_chunks().0.iter().map(margin).collect()));
        }
        Ok(out)
    }

    /// How good a copy is.
    ///
    /// # Errors
    /// A model that does not run; outputs that the metric does not go with.
    pub fn score(&mut self, model: &ModelProto) -> Result<Score> {
        match self.metric {
            Metric::Top1 => {
                let (mut moved, mut margins) = (vec![], self.margins.0.iter());
                let value = self.hits(model, &mut |scores, label| {
                    if let Some(m) = margins.next().filter(|m| m.other < scores.len()) {
                        moved.push(m.moved(Margin::between(scores, label, m.other)));
                    }
                })?;
                let expected = self.margins.expected_loss(&moved);
                Ok(Score { value, loss: (self.base - value).max(expected) })
            }
            Metric::Mse => {
                let value = self.distance(model)?;
                Ok(Score { value, loss: value })
            }
        }
    }

    fn distance(&mut self, model: &ModelProto) -> Result<f64> {
        let found = self.distance.of(model, self.samples, &|_| true)?;
        let none = "--metric mse needs an output of floats; with labels there is top1";
        found.ok_or_else(|| Error::user(none))
    }

    /// The hits of the original, and of each sample the margin and the class that it is over.
    fn of_original(&self, model: &ModelProto) -> Result<Vec<f64>> {
        let mut out = vec![0.0];
        let hits = self.hits(model, &mut |scores, label| {
            let margin = Margin::of(scores, label);
            out.extend([margin.value, margin.other as f64]);
        })?;
        out[0] = hits;
        Ok(out)
    }

    /// The part of the samples that it gets right; each sample's scores and label are seen.
    fn hits(&self, model: &ModelProto, seen: &mut dyn FnMut(&[f32], usize)) -> Result<f64> {
        let mut taps = self.distance.taps(model);
        let (mut right, mut all) = (0usize, 0usize);
        self.samples.each_labelled(&mut |number, sample: &Sample, label| {
            let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
            let output = self.distance.names().iter().find_map(|n| Some((n, values.get(n)?, values.get(n).and_then(floats)?)));
            let (name, tensor, scores) =
                output.ok_or_else(|| Error::user("--metric top1 needs an output of floats: scores of classes"))?;
            if tensor.shape().last() != Some(&scores.len()) || scores.is_empty() {
                return Err(Error::user(format!(
                    "--metric top1 needs one row of scores for each sample, but `{name}` is {}; --metric mse takes any outputs",
                    tensor.ty()
                )));
            }
            let label = label.ok_or_else(|| Error::user(format!("sample {number} has no label")))?;
            let largest = (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
            let class = usize::try_from(label).ok().filter(|l| *l < scores.len()).ok_or_else(|| {
                Error::user(format!(
                    "the label {label} of sample {number} is no class: `{name}` has {}",
                    scores.len()
                ))
            })?;
            seen(&scores, class);
            all += 1;
            right += usize::from(i64::try_from(largest) == Ok(label) && !scores[largest].is_nan());
            Ok(())
        })?;
        Ok(right as f64 / all.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What margins tell is what is lost on the average when each moves by chance.
    #[test]
    fn margins_tell_what_chance_would_lose() {
        let margins = |v: &[f64]| Margins(v.iter().map(|&value| Margin { value, other: 0 }).collect());
        let sure = margins(&[5.0, 4.0, -6.0, 7.0]);
        assert_eq!(sure.expected_loss(&[0.0; 4]), 0.0);
        assert!(sure.expected_loss(&[0.1; 4]) < 1e-9);
        // One deviation: 15.87 % of the time on the other side; what is wrong becomes right as often.
        let near = margins(&[1.0, 1.0, 1.0, -1.0]);
        let loss = near.expected_loss(&[1.0, -1.0, 1.0, -1.0]);
        assert!((loss - 0.5 * 0.158_655).abs() < 1e-5, "{loss}");
        assert_eq!(near.expected_loss(&[f64::NAN; 4]), 1.0);
        assert_eq!(margins(&[]).expected_loss(&[]), 0.0);
        // A score of minus infinity, before and after.
        let infinite = Margin { value: f64::NEG_INFINITY, other: 0 };
        assert_eq!(
            (infinite.moved(f64::NEG_INFINITY), infinite.moved(1.0), infinite.moved(f64::NAN)),
            (0.0, 0.0, 0.0)
        );
        let some = Margins(vec![infinite, Margin { value: 1.0, other: 0 }]);
        assert!(some.expected_loss(&[0.0, 0.1]) < 1e-9);
        assert_eq!(some.expected_loss(&[0.0, f64::NEG_INFINITY]), 1.0);
    }

    #[test]
    fn margins_are_over_the_best_of_the_others() {
        let m = Margin::of(&[0.5, 2.0, 1.5, 1.5], 1);
        assert_eq!((m.value, m.other), (0.5, 2));
        let m = Margin::of(&[0.5, 2.0, 1.5], 0);
        assert_eq!((m.value, m.other), (-1.5, 1));
        assert_eq!(Margin::of(&[3.0], 0).value, 0.0);
    }
}
