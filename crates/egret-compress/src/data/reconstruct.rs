//! Sequential reconstruction: layer after layer, from the inputs that it has in the pruned model towards the outputs that it had in the
//! original, so that each makes up for what those before it lost.

use crate::constants::Place;
use crate::data::bias::Bias;
use crate::data::budget;
use crate::data::original::{Original, Target};
use crate::data::restore::{Tally, restore};
use crate::data::rounds::rounds;
use crate::methods::Problem;
use crate::numbers;
use crate::report::Quality;
use crate::request::{Request, Watch};
use crate::scope::Scope;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto};

/// What became of each contraction, by its index, and the model.
pub struct Reconstructed {
    /// The pruned model.
    pub model: ModelProto,
    /// For those that were pruned, how good their outputs are.
    pub qualities: Vec<Option<Quality>>,
}

/// Prune all targets.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn reconstruct(
    original: &mut Original<'_>,
    count: usize,
    samples: &Samples,
    request: &Request,
    scope: Scope,
    watch: &mut Watch<'_>,
) -> Result<Reconstructed> {
    if scope == Scope::Global {
        budget::share(original, samples, request, watch)?;
    }
    let original = &*original;
    let mut model = original.model.clone();
    let mut qualities = vec![None; count];
    let nodes: Vec<usize> = original.targets.iter().map(|t| t.layer.node).collect();
    let mut done = 0;
    for round in rounds(original.graph(), &nodes) {
        let targets: Vec<&Target> =
            original.targets.iter().filter(|t| round.contains(&t.layer.node)).collect();
        watch(done, nodes.len(), &targets[0].name);
        done += targets.len();
        let moments = original.moments(&model, &targets, samples)?;
        for (target, moments) in targets.iter().zip(&moments) {
            let weights = original.weights(target)?;
            let problem = Problem {
                layout: &target.layer.layout,
                weights: &weights,
                moments,
                pattern: target.pattern,
                scope: if scope == Scope::Global { Scope::Layer } else { scope },
            };
            let mut weights = request.method.solve(&problem).ok_or_else(|| {
                Error::user(format!("`{}`: its data make no system that can be solved", target.name))
            })?;
            let (mut tally, mut shift) = (Tally::default(), vec![]);
            let size = (weights.len() / moments.len().max(1)).max(1);
            for (part, moments) in weights.chunks_exact_mut(size).zip(moments) {
                shift.extend(restore(part, moments, &mut tally));
            }
            qualities[target.index] = Some(tally.quality());
            let graph = model.graph.mut_or_insert_default();
            put(graph, target.layer.place, &target.layer.layout.offsets(), &weights);
            add_bias(graph, &target.bias, &shift);
        }
    }
    Ok(Reconstructed { model, qualities })
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
