//! The original: the model as it was, with a bias for every layer that is pruned, and the moments of these layers on samples.

use crate::constants::Constants;
use crate::data::bias::{self, Bias};
use crate::data::taps::Taps;
use crate::data::view::View;
use crate::layers::{Contraction, Layer, contractions};
use crate::moments::{Moments, Sums};
use crate::numbers;
use crate::pattern::Pattern;
use crate::plan::Step;
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

    /// Its graph.
    pub fn graph(&self) -> &GraphProto {
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
