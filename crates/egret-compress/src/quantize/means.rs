//! Means: what rounding changes of the mean of a layer's outputs goes into its bias. Codes of weights and inputs err to one side where a
//! channel has few inputs, or where many of its inputs are clipped; all samples have that part of the error, and a bias takes it away.
//!
//! Layers are put right as they follow each other, each from the inputs that it has in the quantised copy (see [`Walk`]), over 64 samples at
//! most. A quarter of them is held back: a layer whose error grows there stays as it is; so does the whole model where its outputs lose on
//! every fourth of all samples.

use crate::constants::{Constants, Place};
use crate::data::bias;
use crate::data::distance::Distance;
use crate::data::original::HELD;
use crate::data::rounds::rounds;
use crate::data::taps::{Taps, floats};
use crate::layers::{Contraction, Layer};
use crate::layout::Side;
use crate::numbers;
use crate::quantize::walk::Walk;
use crate::quantize::{Activations, Planned};
use crate::request::Watch;
use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::samples::{Sample, Samples};
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The most samples that means are taken over.
const MOST: usize = 64;

/// Whether a sample is held back, by its number: of every four one that chance takes, as samples may come in an order that goes by fours.
fn held(number: usize) -> bool {
    let block = number / HELD;
    number % HELD == Rng::new(block as u64).below(HELD)
}

/// A layer whose bias may change.
struct Site {
    /// Its index among the contractions.
    index: usize,
    node: usize,
    /// Its output in the model before quantisation, and in the copy.
    names: [String; 2],
    /// The axis of its outputs, counted from the first or from the last.
    axis: Axis,
    outputs: usize,
    /// The name of its bias.
    bias: String,
    /// What the bias is multiplied by.
    scale: f64,
}

#[derive(Copy, Clone)]
enum Axis {
    First(usize),
    Last(usize),
}

/// What became of the means.
pub enum Means {
    /// The contractions whose biases were changed, by their indices; how many layers were not looked at, as they come too late.
    Right(BTreeSet<usize>, usize),
    /// They are as they were: why.
    Stay(&'static str),
}

/// The model before quantisation, whose means are wanted.
pub struct Wanted<'a> {
    model: ModelProto,
    path: &'a Path,
    sites: Vec<Site>,
}

/// The layers that are quantised, with their indices.
fn layers<'a>(
    found: &'a [Contraction],
    plan: &'a [Planned],
) -> impl Iterator<Item = (usize, &'a Layer)> + 'a {
    let of = |(index, (c, planned)): (usize, (&'a Contraction, &'a Planned))| {
        Some((index, c.layer.as_ref().ok().filter(|_| planned.is_ok())?))
    };
    found.iter().zip(plan).enumerate().filter_map(of)
}

impl<'a> Wanted<'a> {
    /// Of the model that is about to be quantised so.
    pub fn new(
        model: &ModelProto,
        path: &'a Path,
        found: &[Contraction],
        plan: &[Planned],
        activations: &Activations,
    ) -> Wanted<'a> {
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let results = activations.results(graph);
        let site = |(index, layer): (usize, &Layer)| {
            let node = &graph.node[layer.node];
            let bias = bias::find(graph, &constants, layer).ok()?;
            let y = node.output.first()?.clone();
            let copy = results.get(&y).unwrap_or(&y).clone();
            let axis = match node.op_type.as_str() {
                "Conv" | "ConvTranspose" => Axis::First(1),
                "MatMul" if layer.side == Side::Left => Axis::Last(2),
                _ => Axis::Last(1),
            };
            let name = match bias.place {
                Place::Initializer(at) => graph.initializer[at].name.clone(),
                Place::Attribute(at, _) => graph.node[at].output[0].clone(),
            };
            let outputs = layer.layout.group_count() * layer.layout.row_count();
            let (node, names) = (layer.node, [y, copy]);
            Some(Site { index, node, names, axis, outputs, bias: name, scale: bias.scale })
        };
        let sites = layers(found, plan).filter_map(site).collect();
        Wanted { model: model.clone(), path, sites }
    }

    /// Put the means of the copy right.
    ///
    /// # Errors
    /// A sample that the model does not take.
    pub fn restore(
        &self,
        copy: &mut ModelProto,
        samples: &Samples,
        watch: &mut Watch<'_>,
    ) -> Result<Means> {
        if samples.len() < HELD {
            return Ok(Means::Stay("there are fewer than 4 samples"));
        }
        if self.sites.is_empty() {
            return Ok(Means::Stay("no layer has a bias"));
        }
        let (wanted, states) = self.wanted(samples)?;
        let nodes: Vec<usize> = self.sites.iter().map(|s| s.node).collect();
        let (mut better, mut right, mut done) = (copy.clone(), BTreeSet::new(), 0);
        let mut walk = Walk::new(self.path, states);
        let mut rounds = rounds(self.model.graph.get_or_default(), &nodes);
        rounds.reverse();
        while let Some(round) = rounds.pop() {
            if walk.is_long() {
                break;
            }
            let in_round = |s: &&Site| round.contains(&s.node);
            let is_later = |s: &&Site| rounds.iter().any(|r| r.contains(&s.node));
            let sites: Vec<&Site> = self.sites.iter().filter(in_round).collect();
            let later: Vec<&Site> = self.sites.iter().filter(is_later).collect();
            watch(done, self.sites.len(), "means");
            done += sites.len();
            let names = |of: &[&Site]| of.iter().map(|s| s.names[1].clone()).collect::<BTreeSet<_>>();
            let biases = sites.iter().chain(&later).map(|s| s.bias.clone()).collect();
            let mut sums: Vec<Sums> = sites.iter().map(|s| Sums::new(s.outputs)).collect();
            let taken =
                walk.round(&mut better, [&names(&sites), &names(&later)], biases, &mut |number, values| {
                    for (site, sums) in sites.iter().zip(&mut sums) {
                        sums.add_from(values, site, 1, number);
                    }
                });
            match taken {
                // Values that a layer before has kept are no inputs that the model was made for.
                Err(_) if walk.has_kept() => {
                    return Ok(Means::Stay("a part of the quantised model does not run by itself"));
                }
                taken => taken?,
            }
            for (site, got) in sites.iter().zip(sums) {
                let Some(shift) = shift(&wanted[&site.index], &got) else { continue };
                let shift: Vec<f64> = shift.iter().map(|s| s / site.scale).collect();
                let graph = better.graph.mut_or_insert_default();
                if stored(graph, &site.bias).is_some_and(|b| b.add(graph, &shift)) {
                    right.insert(site.index);
                }
            }
        }
        if right.is_empty() {
            return Ok(Means::Stay("held-back samples have other means"));
        }
        let mut distance = Distance::new(&self.model, self.path);
        let [was, is] = [&*copy, &better].map(|model| distance.of(model, samples, &held));
        // Without outputs of floats nothing says that it helps.
        match (was?, is?) {
            (Some(was), Some(is)) if is < was => {
                *copy = better;
                Ok(Means::Right(right, self.sites.len() - done))
            }
            _ => Ok(Means::Stay("the outputs of held-back samples lose by it")),
        }
    }

    /// The sums of outputs of the model before, by site, over at most [`MOST`] samples that lie evenly among all; and these samples.
    fn wanted(&self, samples: &Samples) -> Result<(BTreeMap<usize, Sums>, Vec<Sample>)> {
        let names: BTreeSet<String> = self.sites.iter().map(|s| s.names[0].clone()).collect();
        let mut taps = Taps::new(&self.model, self.path, &names);
        let mut out: BTreeMap<usize, Sums> =
            self.sites.iter().map(|s| (s.index, Sums::new(s.outputs))).collect();
        let mut chosen = vec![];
        let count = samples.len().min(MOST);
        samples.each(&mut |number, sample| {
            if chosen.len() >= count || number < chosen.len() * samples.len() / count {
                return Ok(());
            }
            let values = taps.run(sample).map_err(|e: Error| e.at(format!("sample {number}")))?;
            for site in &self.sites {
                if let Some(sums) = out.get_mut(&site.index) {
                    sums.add_from(&values, site, 0, chosen.len());
                }
            }
            chosen.push(sample.clone());
            Ok(())
        })?;
        Ok((out, chosen))
    }
}

/// Sums of a layer's outputs over the samples that a bias is fitted to, and over those that are held back.
struct Sums {
    sums: [Vec<f64>; 2],
    /// How many numbers each output has had.
    counts: [f64; 2],
}

impl Sums {
    fn new(outputs: usize) -> Sums {
        Sums { sums: [0, 1].map(|_| vec![0.0; outputs]), counts: [0.0; 2] }
    }

    /// Add what a site has in a sample, by its number, in the model before (`which` is 0) or in the copy (1).
    fn add_from(&mut self, values: &BTreeMap<String, Tensor>, site: &Site, which: usize, number: usize) {
        // None is there in a branch that this sample does not take.
        if let Some(value) = values.get(&site.names[which]) {
            self.add(value, site, usize::from(held(number)));
        }
    }

    fn add(&mut self, value: &Tensor, site: &Site, part: usize) {
        let rank = value.shape().len();
        let axis = match site.axis {
            Axis::First(axis) => Some(axis).filter(|a| *a < rank),
            Axis::Last(back) => rank.checked_sub(back),
        };
        let axis = axis.filter(|a| value.shape()[*a] == site.outputs);
        let (Some(axis), Some(numbers)) = (axis, floats(value)) else { return };
        let inner = value.shape()[axis + 1..].iter().product::<usize>().max(1);
        for (k, run) in numbers.chunks(inner).enumerate() {
            self.sums[part][k % site.outputs] += run.iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        self.counts[part] += (numbers.len() / site.outputs.max(1)) as f64;
    }

    /// The means of a part of the samples.
    fn means(&self, part: usize) -> Option<Vec<f64>> {
        let count = self.counts[part];
        (count > 0.0).then(|| self.sums[part].iter().map(|s| s / count).collect())
    }
}

/// What is to be added to outputs so that their means are the wanted ones, if that makes the error of the held-back samples less.
fn shift(wanted: &Sums, got: &Sums) -> Option<Vec<f64>> {
    if wanted.counts != got.counts {
        return None;
    }
    let missing = |part: usize| -> Option<Vec<f64>> {
        let (wanted, got) = (wanted.means(part)?, got.means(part)?);
        Some(wanted.iter().zip(&got).map(|(w, g)| w - g).collect())
    };
    let (fit, judge) = (missing(0)?, missing(1)?);
    // The mean square of an error e becomes that of e - s: by s * (s - 2 * mean e) more.
    let more: f64 = fit.iter().zip(&judge).map(|(s, e)| s * (s - 2.0 * e)).sum();
    (more < 0.0 && fit.iter().all(|v| v.is_finite())).then_some(fit)
}

/// How the bias of a layer stands in a quantised model.
enum Stored {
    /// As floats, in an initialiser.
    Initializer(usize),
    /// As floats, in a node `Constant`.
    Constant(usize),
    /// As `int32` in an initialiser, with these scales.
    Codes(usize, Vec<f64>),
}

fn stored(graph: &GraphProto, name: &str) -> Option<Stored> {
    let initializer = |name: &str| graph.initializer.iter().position(|t| t.name == name);
    if let Some(at) = initializer(name) {
        return Some(Stored::Initializer(at));
    }
    let at = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == name))?;
    let node = &graph.node[at];
    match (node.op_type.as_str(), &node.input[..]) {
        ("Constant", _) => Some(Stored::Constant(at)),
        ("DequantizeLinear", [codes, scales, ..]) => {
            let scales = numbers::read(&graph.initializer[initializer(scales)?])?;
            Some(Stored::Codes(initializer(codes)?, scales))
        }
        _ => None,
    }
}

impl Stored {
    /// Add to the bias; whether it can be.
    fn add(&self, graph: &mut GraphProto, shift: &[f64]) -> bool {
        let tensor = match self {
            Stored::Initializer(at) => Some(&mut graph.initializer[*at]),
            Stored::Constant(at) => {
                graph.node[*at].attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut())
            }
            Stored::Codes(at, scales) => return add_codes(&mut graph.initializer[*at], scales, shift),
        };
        let Some(tensor) = tensor else { return false };
        let Some(was) = numbers::read(tensor).filter(|b| b.len() == shift.len()) else { return false };
        let is: Vec<f64> = was.iter().zip(shift).map(|(b, s)| b + s).collect();
        numbers::write(tensor, &is);
        true
    }
}

/// Add to a bias of `int32`; whether all codes have room.
fn add_codes(tensor: &mut TensorProto, scales: &[f64], shift: &[f64]) -> bool {
    let was: Vec<i32> = tensor.raw_data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
    if was.len() != shift.len() || scales.len() != shift.len() {
        return false;
    }
    let code = |((&b, shift), scale): ((&i32, &f64), &f64)| {
        let code = f64::from(b) + (shift / scale).round_ties_even();
        (code.abs() <= f64::from(i32::MAX)).then_some(code as i32)
    };
    let is: Option<Vec<i32>> = was.iter().zip(shift).zip(scales).map(code).collect();
    let Some(is) = is else { return false };
    tensor.raw_data = is.iter().flat_map(|c| c.to_le_bytes()).collect();
    true
}
