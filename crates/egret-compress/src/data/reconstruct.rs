//! Sequential reconstruction: layer after layer, from the inputs that it has in the compressed model towards the outputs that it had in
//! the original, so that each makes up for what those before it lost.

use crate::constants::Place;
use crate::data::bias::Bias;
use crate::data::original::{Original, Seen, Source, Target};
use crate::data::restore::{Tally, restore};
use crate::data::rounds::rounds;
use crate::integers::Integers;
use crate::layout::Layout;
use crate::moments::Moments;
use crate::numbers;
use crate::report::Quality;
use crate::request::Watch;
use crate::state::{Pack, State, Unpack};
use crate::stats::{Kind, Stats};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto};

/// The model, and what became of each contraction that was compressed, by its index.
pub type Reconstructed = (ModelProto, Vec<Option<Settled>>);

/// New weights for a layer that had these, or that the data make no system that can be solved.
pub type Solve<'a, T> = dyn FnMut(&Target<T>, &[f64], &Seen) -> Option<Solved> + 'a;

/// New weights of a layer.
pub struct Solved {
    /// In the order of the layout.
    pub weights: Vec<f64>,
    /// The integers that they are.
    pub integers: Option<Integers>,
}

impl From<Vec<f64>> for Solved {
    fn from(weights: Vec<f64>) -> Solved {
        Solved { weights, integers: None }
    }
}

/// How good the outputs of contractions are.
pub fn qualities(list: &[Option<Settled>]) -> Vec<Option<Quality>> {
    list.iter().map(|s| s.as_ref().map(|s| s.quality)).collect()
}

/// What layers are fitted to, and where they are kept when they are done.
#[derive(Copy, Clone)]
pub struct Fit<'a> {
    /// Samples of the inputs of the model.
    pub samples: &'a Samples,
    /// Where they are kept.
    pub state: &'a State,
    /// What stands before their numbers there.
    pub pass: &'a str,
    /// Whether some samples judge how layers are fitted.
    pub held: bool,
}

impl Fit<'_> {
    fn name<T>(&self, target: &Target<T>) -> String {
        format!("{} layer {}", self.pass, target.index)
    }
}

/// Compress all targets.
///
/// `model` is the original, or has other weights in layers that are no targets. The rows of a layer's new weights are scaled by what `most` says at most.
/// Layers that are kept are taken, and others are kept.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn reconstruct<T: Copy>(
    original: &Original<'_, T>,
    mut model: ModelProto,
    count: usize,
    fit: Fit<'_>,
    most: &dyn Fn(T) -> f64,
    solve: &mut Solve<'_, T>,
    watch: &mut Watch<'_>,
) -> Result<Reconstructed> {
    let mut out: Vec<Option<Settled>> = (0..count).map(|_| None).collect();
    let nodes: Vec<usize> = original.targets.iter().map(|t| t.layer.node).collect();
    let mut done = 0;
    for round in rounds(original.graph(), &nodes) {
        let targets: Vec<&Target<T>> =
            original.targets.iter().filter(|t| round.contains(&t.layer.node)).collect();
        watch(done, nodes.len(), &targets[0].name);
        done += targets.len();
        // All of a round or none: the code that computes values depends on which are asked for, and so may their last bits.
        let mut seen: Vec<Seen> = match targets.iter().all(|t| fit.state.has(&fit.name(t))) {
            true => vec![],
            false if fit.held => original.seen(&model, &targets, fit.samples)?,
            false => {
                let all = original.moments(&model, &targets, fit.samples)?;
                all.into_iter().map(|all| Seen { all, parts: None }).collect()
            }
        };
        seen.resize_with(targets.len(), || Seen { all: vec![], parts: None });
        for (target, seen) in targets.iter().zip(&seen) {
            let name = fit.name(target);
            let mut settled = match fit.state.get(&name)? {
                Some(bytes) => {
                    fit.state.whole(&bytes, |parts| Settled::unpack(parts, &target.layer.layout))?
                }
                None => {
                    let settled = settle(original, target, seen, most, solve)?;
                    fit.state.put(&name, &settled.pack())?;
                    settled
                }
            };
            settled.put(&mut model, target);
            out[target.index] = Some(settled);
        }
    }
    Ok((model, out))
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
    let mut out: Vec<Option<Settled>> = (0..count).map(|_| None).collect();
    let targets: Vec<&Target<T>> = original.targets.iter().collect();
    let mut each = |at: usize, moments: &[Moments]| {
        let seen = Seen { all: moments.to_vec(), parts: None };
        let mut settled = settle(original, targets[at], &seen, most, solve)?;
        settled.put(&mut model, targets[at]);
        out[targets[at].index] = Some(settled);
        Ok(())
    };
    original.each_moments(&targets, Source::Stats(stats, kind), &|_| false, &mut each, watch)?;
    Ok((model, out))
}

/// Find a layer's new weights and what is to be added to its bias.
fn settle<T: Copy>(
    original: &Original<'_, T>,
    target: &Target<T>,
    seen: &Seen,
    most: &dyn Fn(T) -> f64,
    solve: &mut Solve<'_, T>,
) -> Result<Settled> {
    let weights = original.weights(target)?;
    let Solved { mut weights, integers } = solve(target, &weights, seen).ok_or_else(|| {
        Error::user(format!("`{}`: its data make no system that can be solved", target.name))
    })?;
    let (mut tally, mut shift) = (Tally::default(), vec![]);
    let size = (weights.len() / seen.all.len().max(1)).max(1);
    for (part, moments) in weights.chunks_exact_mut(size).zip(&seen.all) {
        shift.extend(restore(part, moments, most(target.task), &mut tally));
    }
    Ok(Settled { quality: tally.quality(), weights, integers, shift })
}

/// What became of a layer.
pub struct Settled {
    /// How good its outputs are.
    pub quality: Quality,
    /// The integers that its weights are.
    pub integers: Option<Integers>,
    /// In the order of its layout; empty when they have been put.
    weights: Vec<f64>,
    /// What is added to its bias.
    shift: Vec<f64>,
}

impl Settled {
    /// Give the layer its new weights and its new bias.
    fn put<T>(&mut self, model: &mut ModelProto, target: &Target<T>) {
        put_layer(model, target, &std::mem::take(&mut self.weights), &self.shift);
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Pack::default();
        out.number(self.quality.error);
        out.number(self.quality.deviation);
        out.numbers(&self.shift);
        out.whole(u64::from(self.integers.is_some()));
        match &self.integers {
            Some(integers) => integers.pack(&mut out),
            None => out.sparse(&self.weights),
        }
        out.done()
    }

    fn unpack(parts: &mut Unpack<'_>, layout: &Layout) -> Option<Settled> {
        let quality = Quality { error: parts.number()?, deviation: parts.number()? };
        let shift = parts.numbers()?;
        let integers = match parts.whole()? {
            0 => None,
            _ => Some(Integers::unpack(parts)?),
        };
        let weights = match &integers {
            Some(integers) => {
                let values = integers.values();
                layout.offsets().into_iter().map(|at| values.get(at).copied()).collect::<Option<_>>()?
            }
            None => parts.sparse().filter(|w| w.len() == layout.offsets().len())?,
        };
        Some(Settled { quality, integers, weights, shift })
    }
}

/// Give a layer new weights, and add to its bias.
pub fn put_layer<T>(model: &mut ModelProto, target: &Target<T>, weights: &[f64], shift: &[f64]) {
    let graph = model.graph.mut_or_insert_default();
    put(graph, target.layer.place, &target.layer.layout.offsets(), weights);
    add_bias(graph, &target.bias, shift);
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
