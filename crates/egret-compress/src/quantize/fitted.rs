//! Weights fitted to the outputs of the original, layer after layer, each with a bias for what is lost of its mean.

use crate::constants::Constants;
use crate::data::original::{self, Original, Target};
use crate::data::reconstruct::reconstruct;
use crate::layers::Contraction;
use crate::moments::Moments;
use crate::numbers;
use crate::quantize::Planned;
use crate::quantize::columns;
use crate::quantize::integers::{Form, Integers};
use crate::report::Quality;
use crate::request::Watch;
use egret::Result;
use egret::samples::Samples;
use onnx_protobuf::ModelProto;
use std::collections::BTreeMap;
use std::path::Path;

/// What was made of a contraction.
#[derive(Default)]
pub struct Made {
    /// Its integers, and the weights that they stand for; `None` where they are still to be rounded.
    pub integers: Option<(Integers, Vec<f64>)>,
    /// How good its outputs are.
    pub output: Option<Quality>,
    /// For the report: why no data were used.
    pub note: String,
}

/// The model with biases and what was made of each contraction. Weights in it are what integers stand for.
pub fn fitted(
    model: &ModelProto,
    path: &Path,
    found: &[Contraction],
    plan: &[Planned],
    samples: &Samples,
    watch: &mut Watch<'_>,
) -> Result<(ModelProto, Vec<Made>)> {
    let mut made: Vec<Made> = vec![];
    let mut tasks: Vec<Option<Form>> = vec![];
    let graph = model.graph.get_or_default();
    let constants = Constants::new(graph);
    for (c, planned) in found.iter().zip(plan) {
        let mut note = String::new();
        let task = match (planned, &c.layer) {
            (Ok(weights), Ok(layer)) => match original::fits(graph, &constants, layer) {
                Ok(()) => weights.first().map(|w| w.form),
                Err((_, text)) => {
                    note = format!("; {text}");
                    None
                }
            },
            (Ok(_), Err(_)) => {
                note = format!("; {}: not done with data yet", c.op);
                None
            }
            (Err(_), _) => None,
        };
        tasks.push(task);
        made.push(Made { note, ..Made::default() });
    }
    let original = Original::new(model, path, found, &tasks)?;
    let mut ready: BTreeMap<usize, (Integers, Vec<f64>)> = BTreeMap::new();
    let start = original.model.clone();
    let mut solve = |target: &Target<Form>, _: &[f64], moments: &[Moments]| {
        let tensor = target.layer.place.of(original.graph())?;
        let integers = columns::solve(tensor, target.task, &target.layer.layout, moments)?;
        let values = integers.values();
        ready.insert(target.index, (integers, numbers::read(tensor)?));
        Some(target.layer.layout.offsets().into_iter().map(|at| values[at]).collect())
    };
    // Rows are not scaled: their scales are fitted already.
    let (model, qualities) = reconstruct(&original, start, found.len(), samples, 1.0, &mut solve, watch)?;
    for ((index, made), output) in made.iter_mut().enumerate().zip(qualities) {
        made.output = output;
        made.integers = ready.remove(&index);
    }
    Ok((model, made))
}
