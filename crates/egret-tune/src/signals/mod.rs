//! Signals: what weights, activations and gradients are like over data, and how much the loss depends on each weight.
//!
//! Samples are run one at a time, so that each has its own gradient g of the loss. Of weights two sums are kept: of g, whose mean is the gradient
//! of the loss, and of g², whose mean is the diagonal of the empirical Fisher information. Of activations and the gradients by them
//! [`Sketch`]es are kept. None of it grows with the samples, and each file of data is read by itself.

mod layers;
mod page;
mod sketch;

pub use page::page;
pub use sketch::Sketch;

use crate::data::Data;
use crate::program::Model;
use crate::request::{Loss, Request};
use crate::set::Set;
use crate::weights::{self, Weight};
use egret::frontend::ModelFile;
use egret::ir::Tensor;
use egret::{Error, Options, Result, source};
use egret_compress::Scores;
use layers::{Place, layers};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose gradients.
    pub loss: Loss,
    /// Files of samples and labels, as [`Request::data`] each.
    pub data: Vec<PathBuf>,
    /// A `.npy` file of classes or targets, where the only file of data does not hold them.
    pub labels: Option<PathBuf>,
    /// The output that the loss is of; `None` = the first that is of floats.
    pub of: Option<String>,
    /// Patterns of weights that are left out.
    pub skip: Vec<String>,
    /// How code is compiled.
    pub options: Options,
}

/// A weight.
#[derive(Clone, Debug)]
pub struct WeightSignals {
    /// The initialiser's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub numbers: Sketch,
    /// The norms of its gradient: of the mean over samples, and the root of the mean square of a sample's; `None` where the loss does not
    /// depend on it.
    pub gradient: Option<[f64; 2]>,
}

/// The value that a layer hands on.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Its name.
    pub name: String,
    /// How many units there are: channels of a convolution, else elements of the last axis.
    pub units: usize,
    /// Units that were 0 for every sample, at every position.
    pub dead: Vec<usize>,
    /// Its numbers over all samples.
    pub values: Sketch,
    /// The gradients of the samples' losses by them.
    pub gradients: Sketch,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Its weights and biases, those of what follows it included.
    pub weights: Vec<WeightSignals>,
    /// What it hands on; `None` where the loss does not depend on that, or its sample cannot be told from the batch.
    pub activation: Option<Activation>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The loss, by name.
    pub loss: &'static str,
    /// The output that it is of.
    pub output: String,
    /// The mean loss of the samples.
    pub mean: f64,
    /// How many there are.
    pub samples: u64,
    /// The layers, in the order of the file.
    pub layers: Vec<Layer>,
    /// How much the loss depends on each weight.
    pub scores: Scores,
}

/// The signals of a model, an `.onnx` file or the folder of a test case, on data.
///
/// # Errors
/// A model or data that do not fit each other; a loss or a gradient that is no number.
pub fn signals(path: &Path, wanted: &Wanted) -> Result<Signals> {
    let [_, ..] = wanted.data[..] else {
        return Err(Error::user("no data; write --data FILE.npz"));
    };
    if wanted.labels.is_some() && wanted.data.len() > 1 {
        return Err(Error::user(
            "--labels goes with one --data; with several each .npz file holds its own labels",
        ));
    }
    let (path, file) = source::single_file(path, "signals")?;
    let graph = file.proto().graph.as_ref().ok_or_else(|| Error::user("the model has no graph"))?;
    let weights = weights::learned(graph, &wanted.skip)?;
    let places = layers(graph, &weights);
    let mut all = Sums { output: String::new(), loss: 0.0, samples: 0, weights: vec![], values: vec![] };
    for data in &wanted.data {
        all.see(&path, &file, wanted, data, &weights, &places)?;
    }
    all.told(&path, wanted, &weights, places)
}

/// What is added up.
struct Sums {
    output: String,
    loss: f64,
    samples: u64,
    /// By weight on which the loss depends: the sum of gradients, and of their squares.
    weights: Vec<Option<[Vec<f64>; 2]>>,
    /// By layer.
    values: Vec<Option<Seen>>,
}

/// What was seen of a layer's value.
struct Seen {
    live: Vec<bool>,
    values: Sketch,
    gradients: Sketch,
}

/// A value that is looked at, of one sample.
struct Tap {
    layer: usize,
    /// Elements of a sample.
    len: usize,
    units: usize,
    /// Neighbouring elements of a unit.
    run: usize,
}

impl Sums {
    /// Add the samples of a file.
    fn see(
        &mut self,
        path: &Path,
        file: &ModelFile,
        wanted: &Wanted,
        data: &Path,
        weights: &[Weight],
        places: &[Place],
    ) -> Result<()> {
        let data = Data::read(data, wanted.labels.as_deref(), &file.declared()?.inputs)?;
        let of = wanted.of.as_deref();
        let model = Model::new(path, file, weights, of, &data, 1)?;
        let reached: Vec<bool> = weights.iter().map(|w| model.reached(&w.name).is_some()).collect();
        let on: Vec<Weight> =
            weights.iter().zip(&reached).filter(|(_, is)| **is).map(|(w, _)| w.clone()).collect();
        if on.is_empty() {
            return Err(Error::user(format!(
                "the output `{}` depends on no weight; --of names another one",
                model.output
            )));
        }
        // Those that the loss does not depend on are constants again.
        let model = Model::new(path, file, &on, of, &data, 1)?;
        let request = Request {
            of: wanted.of.clone(),
            options: wanted.options.clone(),
            ..Request::new(wanted.loss.clone(), PathBuf::new())
        };
        let set = Set::new(&request, &model, data)?;
        let (mut taps, mut values) = (vec![], vec![]);
        for (layer, place) in places.iter().enumerate() {
            let Some((value, shape)) = place.value.as_deref().and_then(|name| model.reached(name)) else {
                continue;
            };
            // Of a fixed batch the first sample is looked at; the others are its copies, which do not count.
            let (1.., true) = (shape.len(), model.size == 1 || shape.first() == Some(&model.size)) else {
                continue;
            };
            let axis = if place.channels { 1 } else { shape.len() - 1 };
            let len = shape.iter().product::<usize>() / model.size;
            let run = shape[axis + 1..].iter().product();
            taps.push(Tap { layer, len, units: shape[axis], run });
            values.push(value);
        }
        let program = model.signals(wanted.loss == Loss::Mse, &values, &wanted.options)?;
        self.begin(weights, &reached, places.len());
        self.output.clone_from(&model.output);
        let tensors: Vec<Tensor> = on.iter().map(|w| w.tensor(&w.start)).collect();
        let each = 1.0 / set.positions as f32;
        for row in 0..set.data.samples {
            let outputs = program.run(&set.data, &[row], &tensors, set.target(&[row]), each)?;
            let (loss, rest) = outputs.split_first().ok_or_else(|| Error::internal("no loss"))?;
            let (gradients, rest) = rest.split_at(on.len());
            let (by, seen) = rest.split_at(taps.len());
            let loss = loss.iter().sum::<f64>() - set.least[row] * f64::from(each);
            let finite = |list: &[Vec<f64>]| list.iter().flatten().all(|v| v.is_finite());
            if !(loss.is_finite() && [gradients, by, seen].into_iter().all(finite)) {
                return Err(set.data.error(format!(
                    "sample {row}: its loss is {loss}, and a gradient or an activation is NaN or infinite; leave it out"
                )));
            }
            self.loss += loss;
            self.samples += 1;
            for (sums, gradient) in self.weights.iter_mut().flatten().zip(gradients) {
                let [sum, squares] = sums;
                for ((s, q), g) in sum.iter_mut().zip(squares).zip(gradient) {
                    *s += g;
                    *q += g * g;
                }
            }
            for ((tap, by), values) in taps.iter().zip(by).zip(seen) {
                let own = self.values[tap.layer].get_or_insert_with(|| Seen {
                    live: vec![false; tap.units],
                    values: Sketch::default(),
                    gradients: Sketch::default(),
                });
                own.values.add(&values[..tap.len]);
                own.gradients.add(&by[..tap.len]);
                for (i, _) in values[..tap.len].iter().enumerate().filter(|(_, v)| **v != 0.0) {
                    own.live[i / tap.run % tap.units] = true;
                }
            }
        }
        Ok(())
    }

    /// Sums of these sizes, before the first file.
    fn begin(&mut self, weights: &[Weight], reached: &[bool], layers: usize) {
        if self.weights.is_empty() {
            let none = |w: &Weight| [vec![0.0; w.start.len()], vec![0.0; w.start.len()]];
            self.weights = weights.iter().zip(reached).map(|(w, is)| is.then(|| none(w))).collect();
            self.values.resize_with(layers, || None);
        }
    }

    fn told(self, path: &Path, wanted: &Wanted, weights: &[Weight], places: Vec<Place>) -> Result<Signals> {
        let count = self.samples as f64;
        let mut scores = Scores::new(path, self.samples)?;
        let mut told = vec![];
        for (weight, sums) in weights.iter().zip(self.weights) {
            let mut numbers = Sketch::default();
            numbers.add(&weight.start.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
            let gradient = sums.map(|[sum, squares]| {
                let mean = sum.iter().map(|v| (v / count).powi(2)).sum::<f64>().sqrt();
                let fisher: Vec<f64> = squares.iter().map(|v| v / count).collect();
                let each = fisher.iter().sum::<f64>().sqrt();
                scores.insert(&weight.name, &weight.shape, fisher);
                [mean, each]
            });
            let (name, shape) = (weight.name.clone(), weight.shape.clone());
            told.push(WeightSignals { name, shape, numbers, gradient });
        }
        let layer = |(place, seen): (Place, Option<Seen>)| Layer {
            weights: place.weights.iter().map(|&i| told[i].clone()).collect(),
            activation: seen.zip(place.value).map(|(seen, name)| Activation {
                name,
                units: seen.live.len(),
                dead: (0..seen.live.len()).filter(|&i| !seen.live[i]).collect(),
                values: seen.values,
                gradients: seen.gradients,
            }),
            name: place.name,
            op: place.op,
        };
        Ok(Signals {
            loss: wanted.loss.name(),
            output: self.output,
            mean: self.loss / count,
            samples: self.samples,
            layers: places.into_iter().zip(self.values).map(layer).collect(),
            scores,
        })
    }
}

impl Layer {
    /// The norm of all its weights.
    pub fn norm(&self) -> f64 {
        self.weights.iter().map(|w| w.numbers.norm().powi(2)).sum::<f64>().sqrt()
    }

    /// How many numbers it has, and how many of them are 0.
    pub fn numbers(&self) -> [u64; 2] {
        let sum = |of: fn(&Sketch) -> u64| self.weights.iter().map(|w| of(&w.numbers)).sum();
        [sum(Sketch::count), sum(Sketch::zeros)]
    }

    /// The norms of its gradient, as of [`WeightSignals::gradient`].
    pub fn gradient(&self) -> Option<[f64; 2]> {
        let all: Vec<[f64; 2]> = self.weights.iter().filter_map(|w| w.gradient).collect();
        let norm = |i: usize| all.iter().map(|g| g[i].powi(2)).sum::<f64>().sqrt();
        (!all.is_empty()).then(|| [norm(0), norm(1)])
    }
}

impl Signals {
    /// Everything but the scores.
    pub fn to_json(&self) -> Json {
        let gradient =
            |g: Option<[f64; 2]>| g.map(|[mean, each]| json!({ "norm": mean, "per_sample": each }));
        let weight = |w: &WeightSignals| {
            json!({
                "name": w.name,
                "shape": w.shape,
                "norm": w.numbers.norm(),
                "numbers": w.numbers.to_json(),
                "gradient": gradient(w.gradient),
            })
        };
        let activation = |a: &Activation| {
            json!({
                "name": a.name,
                "units": a.units,
                "dead": a.dead,
                "values": a.values.to_json(),
                "gradients": a.gradients.to_json(),
            })
        };
        let layer = |l: &Layer| {
            json!({
                "name": l.name,
                "op": l.op,
                "gradient": gradient(l.gradient()),
                "weights": l.weights.iter().map(weight).collect::<Vec<_>>(),
                "activation": l.activation.as_ref().map(activation),
            })
        };
        json!({
            "loss": { "name": self.loss, "output": self.output, "mean": self.mean },
            "samples": self.samples,
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}
