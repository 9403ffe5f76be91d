//! The judge: how far a model's outputs are from those of the original, on samples that the weights were not fitted to.

use crate::data::taps::{Taps, floats};
use crate::state::State;
use egret::ir::Tensor;
use egret::samples::{Sample, Samples};
use egret::{Error, Result};
use onnx_protobuf::ModelProto;
use std::collections::{BTreeMap, BTreeSet};
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
    /// What is lost to the original: of `mse` the value itself, of `top1` a part of the samples.
    pub loss: f64,
}

/// The judge of a model's copies.
pub struct Judge<'a> {
    path: &'a Path,
    samples: &'a Samples,
    metric: Metric,
    /// Outputs in the order of the model.
    names: Vec<String>,
    original: Taps,
    /// The score of the original.
    pub base: f64,
}

/// Sums over the elements of an output.
#[derive(Default)]
struct Sums {
    count: f64,
    sum: f64,
    square: f64,
    difference: f64,
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
        let names: Vec<String> = model.graph.output.iter().map(|o| o.name.clone()).collect();
        let original = Taps::new(model, path, &names.iter().cloned().collect());
        let mut out = Judge { path, samples, metric, names, original, base: 0.0 };
        if metric == Metric::Top1 {
            let hits = state.numbers("hits of the original", || Ok(vec![out.hits(model)?]))?;
            out.base = hits.first().copied().unwrap_or_default();
        }
        Ok(out)
    }

    fn taps(&self, model: &ModelProto) -> Taps {
        let names: BTreeSet<String> = self.names.iter().cloned().collect();
        Taps::new(model, self.path, &names)
    }

    /// How good a copy is.
    ///
    /// # Errors
    /// A model that does not run; outputs that the metric does not go with.
    pub fn score(&mut self, model: &ModelProto) -> Result<Score> {
        match self.metric {
            Metric::Top1 => {
                let value = self.hits(model)?;
                Ok(Score { value, loss: self.base - value })
            }
            Metric::Mse => {
                let value = self.distance(model)?;
                Ok(Score { value, loss: value })
            }
        }
    }

    fn distance(&mut self, model: &ModelProto) -> Result<f64> {
        let mut taps = self.taps(model);
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        let (samples, names, original) = (self.samples, &self.names, &mut self.original);
        samples.each(&mut |number, sample| {
            let run = |taps: &mut Taps| taps.run(sample).map_err(|e| e.at(format!("sample {number}")));
            let (was, is) = (run(original)?, run(&mut taps)?);
            for name in names {
                let of = |values: &BTreeMap<String, Tensor>| values.get(name).and_then(floats);
                let (Some(was), Some(is)) = (of(&was), of(&is)) else { continue };
                if was.len() != is.len() {
                    return Err(Error::user(format!(
                        "`{name}` of sample {number} has another shape than before"
                    )));
                }
                let sums = sums.entry(name.clone()).or_default();
                for (a, b) in was.iter().zip(&is).map(|(a, b)| (f64::from(*a), f64::from(*b))) {
                    sums.count += 1.0;
                    sums.sum += a;
                    sums.square += a * a;
                    // Infinities that are the same are no difference.
                    sums.difference += if a == b { 0.0 } else { (a - b) * (a - b) };
                }
            }
            Ok(())
        })?;
        if sums.is_empty() {
            return Err(Error::user("--metric mse needs an output of floats; with labels there is top1"));
        }
        let of = |s: &Sums| {
            let mean = s.sum / s.count.max(1.0);
            let variance = s.square / s.count.max(1.0) - mean * mean;
            let difference = s.difference / s.count.max(1.0);
            if difference == 0.0 { 0.0 } else { difference / variance.max(0.0) }
        };
        // What is no number is as bad as can be.
        Ok(sums.values().map(of).map(|v| if v.is_nan() { f64::INFINITY } else { v }).fold(0.0, f64::max))
    }

    /// The part of the samples that it gets right.
    fn hits(&self, model: &ModelProto) -> Result<f64> {
        let mut taps = self.taps(model);
        let (mut right, mut all) = (0usize, 0usize);
        self.samples.each_labelled(&mut |number, sample: &Sample, label| {
            let values = taps.run(sample).map_err(|e| e.at(format!("sample {number}")))?;
            let output = self.names.iter().find_map(|n| Some((n, values.get(n)?, values.get(n).and_then(floats)?)));
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
            if !usize::try_from(label).is_ok_and(|l| l < scores.len()) {
                return Err(Error::user(format!(
                    "the label {label} of sample {number} is no class: `{name}` has {}",
                    scores.len()
                )));
            }
            all += 1;
            right += usize::from(i64::try_from(largest) == Ok(label) && !scores[largest].is_nan());
            Ok(())
        })?;
        Ok(right as f64 / all.max(1) as f64)
    }
}
