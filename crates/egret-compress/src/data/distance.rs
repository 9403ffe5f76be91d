//! How far the outputs of a model's copies are from its own.

use crate::data::taps::{Taps, floats};
use egret::ir::Tensor;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::ModelProto;
use std::collections::BTreeMap;
use std::path::Path;

/// Sums over the elements of an output.
#[derive(Default)]
struct Sums {
    count: f64,
    sum: f64,
    square: f64,
    difference: f64,
}

impl Sums {
    /// The mean square of the difference, relative to the variance.
    fn relative(&self) -> f64 {
        let mean = self.sum / self.count.max(1.0);
        let variance = self.square / self.count.max(1.0) - mean * mean;
        let difference = self.difference / self.count.max(1.0);
        if difference == 0.0 { 0.0 } else { difference / variance.max(0.0) }
    }
}

/// The outputs of a model, which those of its copies are compared with.
pub struct Distance<'a> {
    path: &'a Path,
    /// Outputs in the order of the model.
    names: Vec<String>,
    original: Taps,
}

impl<'a> Distance<'a> {
    /// From this model.
    pub fn new(model: &ModelProto, path: &'a Path) -> Distance<'a> {
        let names: Vec<String> = model.graph.output.iter().map(|o| o.name.clone()).collect();
        let original = Taps::new(model, path, &names.iter().cloned().collect());
        Distance { path, names, original }
    }

    /// The names of the outputs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The outputs of a copy, to be computed.
    pub fn taps(&self, copy: &ModelProto) -> Taps {
        Taps::new(copy, self.path, &self.names.iter().cloned().collect())
    }

    /// The mean square of the difference of outputs, relative to their variance: of the output where it is largest. It is over the samples
    /// whose number among all is one that `counts`. `None` where no output is of floats.
    ///
    /// # Errors
    /// A model that does not run, or whose outputs have other shapes.
    pub fn of(
        &mut self,
        copy: &ModelProto,
        samples: &Samples,
        counts: &dyn Fn(usize) -> bool,
    ) -> Result<Option<f64>> {
        let mut taps = self.taps(copy);
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        let (names, original) = (&self.names, &mut self.original);
        let mut seen = 0;
        samples.each(&mut |number, sample| {
            seen += 1;
            if !counts(seen - 1) {
                return Ok(());
            }
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
            return Ok(None);
        }
        // What is no number is as bad as can be.
        let number = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
        Ok(Some(sums.values().map(Sums::relative).map(number).fold(0.0, f64::max)))
    }
}
