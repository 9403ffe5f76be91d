//! Sequential reconstruction: layer after layer, from the inputs that it has in the pruned model towards the outputs that it had in the
//! original, so that each makes up for what those before it lost.

use crate::constants::{Constants, Place};
use crate::data::bias::{self, Bias};
use crate::data::budget;
use crate::data::moments::{Moments, Sums};
use crate::data::restore::{Quality, Tally, restore};
use crate::data::rounds::rounds;
use crate::data::taps::Taps;
use crate::data::view::View;
use crate::layers::{Contraction, Layer, contractions};
use crate::methods::Problem;
use crate::numbers;
use crate::pattern::Pattern;
use crate::plan::Step;
use crate::prune::Watch;
use crate::request::{Request, Scope};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto};
use std::collections::BTreeSet;
use std::path::Path;

/// A layer that is pruned with data.
pub struct Target {
    /// Its index among the contractions.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The layer, in the model with biases.
    pub layer: Layer,
    /// How it reads its input.
    pub view: View,
    /// Where its bias stands.
    pub bias: Bias,
    /// What becomes zero.
    pub pattern: Pattern,
    /// Whether its pattern is its own.
    pub own: bool,
}

/// The model before pruning, with a bias for every layer that is pruned.
pub struct Original<'a> {
    /// The model.
    pub model: ModelProto,
    /// Its file.
    pub path: &'a Path,
    /// What is pruned.
    pub targets: Vec<Target>,
}

/// What became of each contraction, by its index, and the model.
pub struct Reconstructed {
    /// The pruned model.
    pub model: ModelProto,
    /// For those that were pruned, how good their outputs are.
    pub qualities: Vec<Option<Quality>>,
}

/// Leave what cannot be pruned with data.
///
/// # Errors
/// A layer of that kind that has a pattern of its own.
pub fn check(graph: &GraphProto, found: &[Contraction], steps: &mut [Step]) -> Result<()> {
    let constants = Constants::new(graph);
    for (c, step) in found.iter().zip(steps) {
        let (Ok(layer), Step::Prune { own, .. }) = (&c.layer, &*step) else { continue };
        let view = View::of(&graph.node[layer.node], layer).map(|_| ());
        let bias = bias::find(graph, &constants, layer).map(|_| ()).or_else(|e| e.map_or(Ok(()), Err));
        match (view.and(bias), own) {
            (Ok(()), _) => {}
            (Err((_, text)), true) => return Err(Error::user(format!("--layer {}: {text}", c.name))),
            (Err((reason, text)), false) => *step = Step::Leave(reason, text),
        }
    }
    Ok(())
}

impl Original<'_> {
    /// The model with biases, and its layers to be pruned.
    pub fn new<'a>(
        model: &ModelProto,
        path: &'a Path,
        found: &[Contraction],
        steps: &[Step],
    ) -> Result<Original<'a>> {
        let mut model = model.clone();
        let pruned = |step: &Step| matches!(step, Step::Prune { .. });
        let layers: Vec<&Layer> = found
            .iter()
            .zip(steps)
            .filter_map(|(c, s)| c.layer.as_ref().ok().filter(|_| pruned(s)))
            .collect();
        if let Some(graph) = model.graph.as_mut() {
            bias::add(graph, &layers);
        }
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let mut targets = vec![];
        // Biases are no contractions: the list is the same, nodes have moved.
        for (index, (c, step)) in contractions(&model).into_iter().zip(steps).enumerate() {
            let (Ok(layer), Step::Prune { pattern, own }) = (c.layer, step) else { continue };
            let lost = || Error::internal(format!("`{}` is no layer any more", layer.weight));
            let view = View::of(&graph.node[layer.node], &layer).map_err(|_| lost())?;
            let bias = bias::find(graph, &constants, &layer).map_err(|_| lost())?;
            let name = found[index].name.clone();
            targets.push(Target { index, name, layer, view, bias, pattern: *pattern, own: *own });
        }
        Ok(Original { model, path, targets })
    }

    fn graph(&self) -> &GraphProto {
        self.model.graph.get_or_default()
    }

    /// The names of a layer's input and output.
    fn ports(&self, target: &Target) -> (String, String) {
        let node = &self.graph().node[target.layer.node];
        (node.input[target.layer.input()].clone(), node.output[0].clone())
    }

    /// The moments of some layers: inputs in `model`, outputs in the original. One list per layer, one element per group.
    pub fn moments(
        &self,
        model: &ModelProto,
        targets: &[&Target],
        samples: &Samples,
    ) -> Result<Vec<Vec<Moments>>> {
        let ports: Vec<(String, String)> = targets.iter().map(|t| self.ports(t)).collect();
        let (xs, ys): (BTreeSet<String>, BTreeSet<String>) = ports.iter().cloned().unzip();
        let mut wanted = Taps::new(&self.model, self.path, &ys);
        let mut given = Taps::new(model, self.path, &xs);
        let mut sums: Vec<Vec<Sums>> = targets
            .iter()
            .map(|t| {
                let l = &t.layer.layout;
                let columns = l.position_count() * l.channel_count();
                (0..l.group_count()).map(|_| Sums::new(columns, l.row_count())).collect()
            })
            .collect();
        samples.each(&mut |number, sample| {
            let place = |e: Error| e.at(format!("sample {number}"));
            let (x, y) = (given.run(sample).map_err(place)?, wanted.run(sample).map_err(place)?);
            for ((target, (x_name, y_name)), sums) in targets.iter().zip(&ports).zip(&mut sums) {
                let lost = || Error::unsupported(format!("`{}`: it works on no tensors", target.name));
                let (x, y) = (x.get(x_name).ok_or_else(lost)?, y.get(y_name).ok_or_else(lost)?);
                target.view.add(&target.layer, x, y, number, sums).map_err(place)?;
            }
            Ok(())
        })?;
        let mut out = vec![];
        for (target, sums) in targets.iter().zip(sums) {
            let moments: Option<Vec<Moments>> = sums.into_iter().map(Sums::finish).collect();
            out.push(moments.ok_or_else(|| {
                Error::user(format!(
                    "`{}`: the data give it no values, or values that are no finite numbers",
                    target.name
                ))
            })?);
        }
        Ok(out)
    }

    /// The weights of a layer, in the order of its layout.
    pub fn weights(&self, target: &Target) -> Result<Vec<f64>> {
        let values = target.layer.place.of(self.graph()).and_then(numbers::read);
        let values = values.ok_or_else(|| Error::internal(format!("`{}` is gone", target.layer.weight)))?;
        Ok(target.layer.layout.offsets().into_iter().map(|at| values[at]).collect())
    }
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
