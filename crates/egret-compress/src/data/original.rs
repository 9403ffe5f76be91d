//! The original: the model as it was, with a bias for every layer that is compressed with data, and the moments of these layers on samples.

use crate::constants::{Constants, Refusal};
use crate::data::bias::{self, Bias};
use crate::data::taps::Taps;
use crate::data::view::View;
use crate::flat::{self, Tree};
use crate::layers::{Contraction, Layer, contractions};
use crate::moments::{Moments, Sums};
use crate::numbers;
use crate::pattern::Pattern;
use crate::plan::Step;
use crate::report::Reason;
use crate::request::Watch;
use crate::stats::{Key, Kind, Stats, dims};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto};
use std::collections::BTreeSet;
use std::path::Path;

/// Numbers of second moments that are in memory at once.
const ROOM: usize = 1 << 23;
/// One sample of so many judges how a layer is fitted.
pub const HELD: usize = 4;

/// Where the moments of layers in the original come from.
#[derive(Copy, Clone)]
pub enum Source<'a> {
    /// The model, run on samples.
    Samples(&'a Samples),
    /// A run of `egret stats`, and the kind of its records.
    Stats(&'a Stats, Kind),
}

/// A layer that is compressed with data.
pub struct Target<T> {
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
    /// What is to be done with it.
    pub task: T,
}

/// What samples tell of a layer, group by group.
pub struct Seen {
    /// Moments of all samples.
    pub all: Vec<Moments>,
    /// Moments of the samples that a layer is fitted to by turns, and of every [`HELD`]th, which judges the fit then.
    pub parts: Option<[Vec<Moments>; 2]>,
}

/// What becomes zero.
#[derive(Copy, Clone)]
pub struct Zeros {
    /// By which pattern.
    pub pattern: Pattern,
    /// Whether the pattern is the layer's own.
    pub own: bool,
}

/// The model as it was, with a bias for every layer that is compressed.
pub struct Original<'a, T> {
    /// The model.
    pub model: ModelProto,
    /// Its file.
    pub path: &'a Path,
    /// What is compressed.
    pub targets: Vec<Target<T>>,
}

/// Whether a layer can be compressed with data.
///
/// # Errors
/// Why not.
pub fn fits(
    graph: &GraphProto,
    constants: &Constants<'_>,
    layer: &Layer,
) -> std::result::Result<(), Refusal> {
    View::of(&graph.node[layer.node], layer)?;
    bias::find(graph, constants, layer).map(|_| ()).or_else(|e| e.map_or(Ok(()), Err))
}

/// Why no sample reaches contractions: they are in the body of a loop, or in a branch that no sample takes.
///
/// # Errors
/// A sample that the model does not take.
pub fn unreached(
    model: &ModelProto,
    path: &Path,
    found: &[Contraction],
    samples: &Samples,
) -> Result<Vec<Option<Refusal>>> {
    let graph = model.graph.get_or_default();
    if !flat::has_inside(graph) {
        return Ok(vec![None; found.len()]);
    }
    let (tree, homes) = (Tree::new(graph), flat::homes(graph));
    let outputs = found.iter().filter_map(|c| graph.node[c.node?].output.first().cloned());
    let mut taps = Taps::new(model, path, &outputs.collect());
    let mut reached = BTreeSet::from([0]);
    samples.each(&mut |number, sample| {
        reached.extend(taps.reached(sample).map_err(|e| e.at(format!("sample {number}")))?);
        Ok(())
    })?;
    let of = |c: &Contraction| {
        let home = homes[c.node?];
        let text = match flat::in_loop(graph, &tree, home) {
            true => "samples do not reach bodies of loops yet",
            false => "no sample takes its branch",
        };
        (!reached.contains(&home)).then(|| (Reason::NoSamples, text.to_owned()))
    };
    Ok(found.iter().map(of).collect())
}

/// Leave what cannot be pruned with data; `unreached` as of [`unreached`].
///
/// # Errors
/// A layer of that kind that has a pattern of its own.
pub fn check(
    graph: &GraphProto,
    found: &[Contraction],
    unreached: &[Option<Refusal>],
    steps: &mut [Step],
) -> Result<()> {
    let constants = Constants::new(graph);
    for ((c, step), unreached) in found.iter().zip(steps).zip(unreached) {
        let (Ok(layer), Step::Prune { own, .. }) = (&c.layer, &*step) else { continue };
        let fits = unreached.clone().map_or_else(|| fits(graph, &constants, layer), Err);
        match (fits, own) {
            (Ok(()), _) => {}
            (Err((_, text)), true) => return Err(Error::user(format!("--layer {}: {text}", c.name))),
            (Err((reason, text)), false) => *step = Step::Leave(reason, text),
        }
    }
    Ok(())
}

/// What is to be done with each contraction that is pruned.
pub fn zeros(steps: &[Step]) -> Vec<Option<Zeros>> {
    let of = |step: &Step| match step {
        Step::Prune { pattern, own } => Some(Zeros { pattern: *pattern, own: *own }),
        Step::Leave(..) => None,
    };
    steps.iter().map(of).collect()
}

/// Whether a sample judges, by its number among those that are seen.
pub fn held(number: usize) -> bool {
    number % HELD == HELD - 1
}

/// Numbers of a layer's second moments.
fn size<T>(target: &Target<T>) -> usize {
    let l = &target.layer.layout;
    let columns = l.position_count() * l.channel_count();
    l.group_count() * columns * (columns + l.row_count())
}

impl<T> Target<T> {
    /// The key of its moments among stats.
    pub fn key(&self, kind: Kind) -> Key {
        (kind, u32::try_from(self.index).unwrap_or(u32::MAX), self.name.clone())
    }
}

/// Moments of each group.
fn finished<T>(target: &Target<T>, sums: Vec<Sums>) -> Result<Vec<Moments>> {
    let moments: Option<Vec<Moments>> = sums.into_iter().map(Sums::finish).collect();
    moments.ok_or_else(|| {
        Error::user(format!(
            "`{}`: the data give it no values, or values that are no finite numbers",
            target.name
        ))
    })
}

impl<T: Copy> Original<'_, T> {
    /// The model with biases, and its layers to be compressed: the contractions with a task.
    pub fn new<'a>(
        model: &ModelProto,
        path: &'a Path,
        found: &[Contraction],
        tasks: &[Option<T>],
    ) -> Result<Original<'a, T>> {
        let mut model = model.clone();
        let layers: Vec<&Layer> = found
            .iter()
            .zip(tasks)
            .filter_map(|(c, task)| c.layer.as_ref().ok().filter(|_| task.is_some()))
            .collect();
        if let Some(graph) = model.graph.as_mut() {
            bias::add(graph, &layers);
        }
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let mut targets = vec![];
        // Biases are no contractions: the list is the same, nodes have moved.
        for (index, (c, task)) in contractions(&model).into_iter().zip(tasks).enumerate() {
            let (Ok(layer), Some(task)) = (c.layer, *task) else { continue };
            let lost = || Error::internal(format!("`{}` is no layer any more", layer.weight));
            let view = View::of(&graph.node[layer.node], &layer).map_err(|_| lost())?;
            let bias = bias::find(graph, &constants, &layer).map_err(|_| lost())?;
            let name = found[index].name.clone();
            targets.push(Target { index, name, layer, view, bias, task });
        }
        Ok(Original { model, path, targets })
    }

    /// Its graph.
    pub fn graph(&self) -> &GraphProto {
        self.model.graph.get_or_default()
    }

    /// The names of a layer's input and output.
    fn ports(&self, target: &Target<T>) -> (String, String) {
        let node = &self.graph().node[target.layer.node];
        (node.input[target.layer.input()].clone(), node.output[0].clone())
    }

    /// The moments of some layers: inputs in `model`, outputs in the original. One list per layer, one element per group.
    pub fn moments(
        &self,
        model: &ModelProto,
        targets: &[&Target<T>],
        samples: &Samples,
    ) -> Result<Vec<Vec<Moments>>> {
        let sums = self.sums(model, targets, samples)?;
        targets.iter().zip(sums).map(|(target, sums)| finished(target, sums)).collect()
    }

    /// As [`Original::moments`], with those of the samples that judge apart, where there are as many as [`HELD`].
    pub fn seen(&self, model: &ModelProto, targets: &[&Target<T>], samples: &Samples) -> Result<Vec<Seen>> {
        if samples.len() < HELD {
            let all = self.moments(model, targets, samples)?;
            return Ok(all.into_iter().map(|all| Seen { all, parts: None }).collect());
        }
        let [fit, held] = self.parts(model, targets, samples, &held)?;
        let of = |((target, fit), held): ((&&Target<T>, Vec<Sums>), Vec<Sums>)| {
            let mut all = fit.clone();
            all.iter_mut().zip(&held).for_each(|(all, held)| all.merge(held.clone()));
            // Some samples may not reach a layer in a branch.
            let part = |sums: Vec<Sums>| sums.into_iter().map(Sums::finish).collect::<Option<Vec<_>>>();
            let parts = part(fit).zip(part(held)).map(|(fit, held)| [fit, held]);
            Ok(Seen { all: finished(target, all)?, parts })
        };
        targets.iter().zip(fit).zip(held).map(of).collect()
    }

    /// As [`Original::moments`], before they are done: others can be added.
    pub fn sums(
        &self,
        model: &ModelProto,
        targets: &[&Target<T>],
        samples: &Samples,
    ) -> Result<Vec<Vec<Sums>>> {
        let [all, _] = self.parts(model, targets, samples, &|_| false)?;
        Ok(all)
    }

    /// The sums of layers over the samples that are not held back, and over those that are.
    fn parts(
        &self,
        model: &ModelProto,
        targets: &[&Target<T>],
        samples: &Samples,
        held: &dyn Fn(usize) -> bool,
    ) -> Result<[Vec<Vec<Sums>>; 2]> {
        let ports: Vec<(String, String)> = targets.iter().map(|t| self.ports(t)).collect();
        let (xs, ys): (BTreeSet<String>, BTreeSet<String>) = ports.iter().cloned().unzip();
        let mut wanted = Taps::new(&self.model, self.path, &ys);
        let mut given = Taps::new(model, self.path, &xs);
        let none = |t: &&Target<T>| -> Vec<Sums> {
            let l = &t.layer.layout;
            let columns = l.position_count() * l.channel_count();
            (0..l.group_count()).map(|_| Sums::new(columns, l.row_count())).collect()
        };
        let mut parts: [Vec<Vec<Sums>>; 2] = [0, 1].map(|_| targets.iter().map(none).collect());
        let mut seen = 0;
        samples.each(&mut |number, sample| {
            let place = |e: Error| e.at(format!("sample {number}"));
            let (x, y) = (given.run(sample).map_err(place)?, wanted.run(sample).map_err(place)?);
            let sums = &mut parts[usize::from(held(seen))];
            seen += 1;
            for ((target, (x_name, y_name)), sums) in targets.iter().zip(&ports).zip(sums) {
                if given.lacks(x_name) || wanted.lacks(y_name) {
                    continue;
                }
                let lost = || Error::unsupported(format!("`{}`: it works on no tensors", target.name));
                let (x, y) = (x.get(x_name).ok_or_else(lost)?, y.get(y_name).ok_or_else(lost)?);
                target.view.add(&target.layer, x, y, number, sums).map_err(place)?;
            }
            Ok(())
        })?;
        Ok(parts)
    }

    /// The moments of layers in the original, a few layers at a time: as many as there is room for. Where all of these are `known`, they are
    /// passed over.
    pub fn each_moments(
        &self,
        targets: &[&Target<T>],
        source: Source<'_>,
        known: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(usize, &[Moments]) -> Result<()>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let (samples, stats) = match source {
            Source::Samples(samples) => (Some(samples), None),
            Source::Stats(stats, kind) => (None, Some((stats, kind))),
        };
        let mut done = |at: usize, sums| each(at, &finished(targets[at], sums)?);
        self.each_sums(targets, samples, stats, known, &mut done, watch)
    }

    /// As [`Original::each_moments`], before they are done; with samples and stats, of both together.
    pub fn each_sums(
        &self,
        targets: &[&Target<T>],
        samples: Option<&Samples>,
        stats: Option<(&Stats, Kind)>,
        known: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(usize, Vec<Sums>) -> Result<()>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let mut next = 0;
        while next < targets.len() {
            let (from, mut room) = (next, 0);
            while next < targets.len() && (next == from || room + size(targets[next]) <= ROOM) {
                room += size(targets[next]);
                next += 1;
            }
            if (from..next).all(known) {
                continue;
            }
            watch(from, targets.len(), &format!("moments of {}", targets[from].name));
            let targets = &targets[from..next];
            let mut seen: Vec<Option<Vec<Sums>>> = match samples {
                Some(samples) => self.sums(&self.model, targets, samples)?.into_iter().map(Some).collect(),
                None => vec![None; targets.len()],
            };
            for (k, (target, seen)) in targets.iter().zip(&mut seen).enumerate() {
                let mut all = seen.take();
                if let Some((stats, kind)) = stats {
                    let mut sums = stats.sums(&target.key(kind), dims(&target.layer.layout))?;
                    if let Some(more) = all {
                        sums.iter_mut().zip(more).for_each(|(sums, more)| sums.merge(more));
                    }
                    all = Some(sums);
                }
                each(from + k, all.unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// The weights of a layer, in the order of its layout.
    pub fn weights(&self, target: &Target<T>) -> Result<Vec<f64>> {
        let values = target.layer.place.of(self.graph()).and_then(numbers::read);
        let values = values.ok_or_else(|| Error::internal(format!("`{}` is gone", target.layer.weight)))?;
        Ok(target.layer.layout.offsets().into_iter().map(|at| values[at]).collect())
    }
}
