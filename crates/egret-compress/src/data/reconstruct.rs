//! Sequential reconstruction: layer after layer, from the inputs that it has in the compressed model towards the outputs that it had in
//! the original, so that each makes up for what those before it lost.

use crate::constants::Place;
use crate::data::bias::Bias;
use crate::data::original::{Original, Source, Target};
use crate::data::restore::{Tally, restore};
use crate::data::rounds::rounds;
use crate::moments::Moments;
use crate::numbers;
use crate::report::Quality;
use crate::request::Watch;
use crate::stats::{Kind, Stats};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto};

/// The model, and how good the outputs of each contraction are that was compressed, by its index.
pub type Reconstructed = (ModelProto, Vec<Option<Quality>>);

/// New weights for a layer that had these, or that the data make no system that can be solved; groups have moments.
pub type Solve<'a, T> = dyn FnMut(&Target<T>, &[f64], &[Moments]) -> Option<Vec<f64>> + 'a;

/// Compress all targets.
///
/// `model` is the original, or has other weights in layers that are no targets. The rows of a layer's new weights are scaled by what `most` says at most.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn reconstruct<T: Copy>(
    original: &Original<'_, T>,
    mut model: ModelProto,
    count: usize,
    samples: &Samples,
    most: &dyn Fn(T) -> f64,
    solve: &mut Solve<'_, T>,
    watch: &mut Watch<'_>,
) -> Result<Reconstructed> {
    let mut qualities = vec![None; count];
    let nodes: Vec<usize> = original.targets.iter().map(|t| t.layer.node).collect();
    let mut done = 0;
    for round in rounds(original.graph(), &nodes) {
        let targets: Vec<&Target<T>> =
            original.targets.iter().filter(|t| round.contains(&t.layer.node)).collect();
        watch(done, nodes.len(), &targets[0].name);
        done += targets.len();
        let moments = original.moments(&model, &targets, samples)?;
        for (target, moments) in targets.iter().zip(&moments) {
            let quality = settle(original, &mut model, target, moments, most, solve)?;
            qualities[target.index] = Some(quality);
        }
    }
    Ok((model, qualities))
}

/// As [`reconstruct`], each layer by itself: from the inputs that it has in the original, as stats have them, whatever became of the
/// layers before it.
///
/// # Errors
/// Stats that do not fit the model, or make no numbers.
pub fn reconstruct_apart<T: Copy>(
    original: &Original<'_, T>,
    mut model: ModelProto,
    count: usize,
    (stats, kind): (&Stats, Kind),
    most: &dyn Fn(T) -> f64,
    solve: &mut Solve<'_, T>,
    watch: &mut Watch<'_>,
) -> Result<Reconstructed> {
    let mut qualities = vec![None; count];
    let targets: Vec<&Target<T>> = original.targets.iter().collect();
    let mut each = |at: usize, moments: &[Moments]| {
        let quality = settle(original, &mut model, targets[at], moments, most, solve)?;
        qualities[targets[at].index] = Some(quality);
        Ok(())
    };
    original.each_moments(&targets, Source::Stats(stats, kind), &mut each, watch)?;
    Ok((model, qualities))
}

/// Give a layer its new weights and its new bias.
fn settle<T: Copy>(
    original: &Original<'_, T>,
    model: &mut ModelProto,
    target: &Target<T>,
    moments: &[Moments],
    most: &dyn Fn(T) -> f64,
    solve: &mut Solve<'_, T>,
) -> Result<Quality> {
    let weights = original.weights(target)?;
    let mut weights = solve(target, &weights, moments).ok_or_else(|| {
        Error::user(format!("`{}`: its data make no system that can be solved", target.name))
    })?;
    let (mut tally, mut shift) = (Tally::default(), vec![]);
    let size = (weights.len() / moments.len().max(1)).max(1);
    for (part, moments) in weights.chunks_exact_mut(size).zip(moments) {
        shift.extend(restore(part, moments, most(target.task), &mut tally));
    }
    let graph = model.graph.mut_or_insert_default();
    put(graph, target.layer.place, &target.layer.layout.offsets(), &weights);
    add_bias(graph, &target.bias, &shift);
    Ok(tally.quality())
}

/// Write elements of a constant.
fn put(graph: &mut GraphProto, place: Place, at: &[usize], values: &[f64]) {
    if let Some(mut all) = place.of(graph).and_then(numbers::read) {
        at.iter().zip(values).for_each(|(&i, &v)| all[i] = v);
        if let Some(tensor) = place.of_mut(graph) {
            numbers::write(tensor, &all);
        }
    }
}

fn add_bias(graph: &mut GraphProto, bias: &Bias, shift: &[f64]) {
    let at: Vec<usize> = (0..shift.len()).collect();
    let old = bias.place.of(graph).and_then(numbers::read).unwrap_or_default();
    let values: Vec<f64> = match bias.inside {
        true => shift.iter().map(|s| s / bias.scale).collect(),
        false => shift.iter().zip(old).map(|(s, old)| s + old).collect(),
    };
    put(graph, bias.place, &at, &values);
}
