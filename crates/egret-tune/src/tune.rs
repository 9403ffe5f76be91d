//! The whole: data, programs, epochs, and the file.

use crate::checkpoint::{self, Checkpoint};
use crate::data::Data;
use crate::optimizer::{State, Steps};
use crate::program::{Model, Program};
use crate::report::{Quality, Report, Trained};
use crate::request::{Loss, Request};
use crate::set::Set;
use crate::weights::{self, Weight};
use egret::frontend::ModelFile;
use egret::ir::Tensor;
use egret::ir::rng::{Rng, nth};
use egret::{Error, Result, source};
use onnx_protobuf::Message;
use std::collections::BTreeMap;
use std::path::Path;

/// A tuned model.
pub struct Tuned {
    /// The file.
    pub model: Vec<u8>,
    /// What was done.
    pub report: Report,
}

/// How far a tuning is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Progress {
    /// Epochs that are done, and all.
    pub epochs: [usize; 2],
    /// Steps of the epoch that are done, and all.
    pub steps: [usize; 2],
    /// The mean loss of the epoch so far.
    pub loss: f64,
}

/// Told after each step; the epoch's last one has as many steps done as there are.
pub type Watch<'a> = dyn FnMut(&Progress) + 'a;

/// Tune a model: an `.onnx` file, or the folder of a test case.
///
/// # Errors
/// A model, a request or data that do not fit each other; a loss that is no number any more.
pub fn tune(path: &Path, request: &Request) -> Result<Tuned> {
    tune_watched(path, request, &mut |_| {})
}

/// As [`tune`], telling how far it is.
///
/// # Errors
/// As of [`tune`].
pub fn tune_watched(path: &Path, request: &Request, watch: &mut Watch<'_>) -> Result<Tuned> {
    request.check()?;
    let (path, file) = source::single_file(path, "tune")?;
    let graph = file.proto().graph.as_ref().ok_or_else(|| Error::user("the model has no graph"))?;
    let weights = weights::select(graph, &request.train, &request.skip)?;
    let declared = file.declared()?.inputs;
    let data = Data::read(&request.data, request.labels.as_deref(), &declared)?;
    let model = Model::new(&path, &file, &weights, request.of.as_deref(), &data, request.batch)?;
    let square = request.loss == Loss::Mse;
    let set = Set::new(request, &model, data)?;
    let eval = match &request.eval {
        Some(path) => Some(Set::new(request, &model, Data::read(path, None, &declared)?)?),
        None => None,
    };
    let (forward, gradients) = model.loss(square, &request.options)?;

    let all: Vec<usize> = (0..set.data.samples).collect();
    let held = (set.data.samples as f64 * request.hold_back).round() as usize;
    let (train, held) = all.split_at(set.data.samples - held);
    if train.is_empty() || (request.hold_back > 0.0 && held.is_empty()) {
        return Err(set.data.error(format!(
            "of {} samples, --hold-back {} leaves {} to train on and {} to measure the loss on",
            set.data.samples,
            request.hold_back,
            train.len(),
            held.len()
        )));
    }
    let (measured, rows, trained): (&Set, Vec<usize>, bool) = match &eval {
        Some(set) => (set, (0..set.data.samples).collect(), false),
        None if held.is_empty() => (&set, train.to_vec(), true),
        None => (&set, held.to_vec(), false),
    };

    let start: Vec<Vec<f32>> = weights.iter().map(|w| w.start.clone()).collect();
    let before = measure(&forward, &model, measured, &rows, &tensors(&weights, &start))?;
    if !before.loss.is_finite() {
        return Err(Error::user(format!(
            "the loss is {} before the first step; look at the data and the model's output `{}`",
            before.loss, model.output
        )));
    }
    let about = checkpoint::about(
        request.settings(),
        BTreeMap::from([
            ("data", set.data.hash()),
            ("model", blob(&file)?),
            ("weights", weights.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(",")),
            ("teacher", teacher_blob(&request.loss)?),
        ]),
    );
    let mut at = Checkpoint { epochs: 0, state: State::new(&start), weights: start };
    if let (true, Some(file)) = (request.resume, &request.checkpoint) {
        let lengths: Vec<usize> = weights.iter().map(|w| w.start.len()).collect();
        at = Checkpoint::read(file, &about, &lengths)?;
        if at.epochs > request.epochs {
            return Err(Error::user(format!(
                "{}: it has {} epochs already; --epochs {} asks for fewer",
                file.display(),
                at.epochs,
                request.epochs
            )));
        }
    }
    let resumed = at.epochs;
    let job = Job {
        request,
        model: &model,
        forward: &forward,
        gradients: &gradients,
        weights: &weights,
        set: &set,
    };
    while at.epochs < request.epochs {
        job.epoch(&mut at, train, watch)?;
        if let Some(file) = &request.checkpoint {
            at.write(file, &about)?;
        }
    }
    let after = measure(&forward, &model, measured, &rows, &tensors(&weights, &at.weights))?;
    if !after.loss.is_finite() {
        return Err(Error::user(format!(
            "the loss is {} after the last epoch; a smaller --rate keeps it in bounds; nothing was written",
            after.loss
        )));
    }
    let report = Report {
        loss: request.loss.name().to_owned(),
        output: model.output.clone(),
        weights: weights.iter().zip(&at.weights).map(|(w, now)| trained_weight(w, now)).collect(),
        samples: train.len(),
        batch: [request.batch, model.size],
        epochs: [at.epochs, resumed],
        steps: at.state.steps,
        measured: (rows.len(), trained),
        before,
        after,
    };
    let mut made = file.proto().clone();
    weights::write(made.graph.mut_or_insert_default(), &weights, &at.weights);
    let model = made
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the tuned model cannot be written: {e}")))?;
    Ok(Tuned { model, report })
}

/// What an epoch needs.
struct Job<'a> {
    request: &'a Request,
    model: &'a Model,
    forward: &'a Program,
    gradients: &'a Program,
    weights: &'a [Weight],
    set: &'a Set,
}

impl Job<'_> {
    /// Every sample once.
    fn epoch(&self, at: &mut Checkpoint, train: &[usize], watch: &mut Watch<'_>) -> Result<()> {
        let request = self.request;
        let by = Steps {
            optimizer: request.optimizer,
            rate: request.rate(),
            momentum: request.momentum,
            decay: request.decay(),
        };
        let order = shuffled(train, nth(request.seed, at.epochs as u64));
        let steps = order.len().div_ceil(request.batch);
        let mut sum = 0.0;
        for (step, rows) in order.chunks(request.batch).enumerate() {
            let (loss, mut gradients) = self.gradient(rows, &at.weights)?;
            let finite = |list: &[Vec<f32>]| list.iter().flatten().all(|v| v.is_finite());
            if !loss.is_finite() || !finite(&gradients) {
                return Err(self.lost(at.epochs, step, loss));
            }
            if request.keep_zeros {
                for (gradient, weight) in gradients.iter_mut().zip(self.weights) {
                    let pairs = gradient.iter_mut().zip(&weight.start);
                    pairs.filter(|(_, w)| **w == 0.0).for_each(|(g, _)| *g = 0.0);
                }
            }
            at.state.step(&by, &mut at.weights, &gradients);
            if !finite(&at.weights) {
                return Err(self.lost(at.epochs, step, loss));
            }
            sum += loss * rows.len() as f64;
            let seen = (step * request.batch + rows.len()) as f64;
            let done = at.epochs + usize::from(step + 1 == steps);
            watch(&Progress { epochs: [done, request.epochs], steps: [step + 1, steps], loss: sum / seen });
        }
        // A state is good if it has a loss, too: the last step may have gone out of bounds with finite weights.
        let last = order.chunks(request.batch).next_back().unwrap_or_default();
        let tensors = tensors(self.weights, &at.weights);
        let loss = measure(self.forward, self.model, self.set, last, &tensors)?.loss;
        if !loss.is_finite() {
            return Err(self.lost(at.epochs, steps - 1, loss));
        }
        at.epochs += 1;
        Ok(())
    }

    /// The mean loss of some samples, and its gradients by the weights.
    fn gradient(&self, rows: &[usize], weights: &[Vec<f32>]) -> Result<(f64, Vec<Vec<f32>>)> {
        let set = self.set;
        let tensors = tensors(self.weights, weights);
        let each = 1.0 / (rows.len() * set.positions) as f32;
        let mut loss = -rows.iter().map(|&r| set.least[r]).sum::<f64>() * f64::from(each);
        let mut sums: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
        for rows in rows.chunks(self.model.size) {
            let outputs = self.gradients.run(&set.data, rows, &tensors, set.target(rows), each)?;
            loss += outputs[0].iter().sum::<f64>();
            for (sum, gradient) in sums.iter_mut().zip(&outputs[1..]) {
                sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += *g as f32);
            }
        }
        Ok((loss, sums))
    }

    /// The loss or the weights are no numbers any more.
    fn lost(&self, epoch: usize, step: usize, loss: f64) -> Error {
        let what = if loss.is_finite() {
            "a gradient or a weight is no number".to_owned()
        } else {
            format!("the loss is {loss}")
        };
        let kept = match (&self.request.checkpoint, epoch) {
            (Some(file), 1..) => format!(
                "; {} keeps the state after epoch {epoch}, and --resume --epochs {epoch} writes its model",
                file.display()
            ),
            _ => String::new(),
        };
        Error::user(format!(
            "epoch {}, step {}: {what}; a smaller --rate keeps it in bounds{kept}; no model was written",
            epoch + 1,
            step + 1
        ))
    }
}

/// The mean loss, and the part of labels that are hit.
fn measure(
    program: &Program,
    model: &Model,
    set: &Set,
    rows: &[usize],
    weights: &[Tensor],
) -> Result<Quality> {
    let (mut loss, mut hits) = (0.0, 0usize);
    let classes = model.shape.last().copied().unwrap_or(1);
    for rows in rows.chunks(model.size) {
        let outputs = program.run(&set.data, rows, weights, set.target(rows), 1.0)?;
        loss += outputs[0][..rows.len() * set.positions].iter().sum::<f64>();
        loss -= rows.iter().map(|&r| set.least[r]).sum::<f64>();
        let Some(labels) = &set.labels else { continue };
        for (i, row) in rows.iter().enumerate() {
            let scores = &outputs[1][i * set.width..(i + 1) * set.width];
            let wanted = &labels[row * set.positions..(row + 1) * set.positions];
            hits += scores.chunks(classes).zip(wanted).filter(|(s, w)| largest(s) == **w).count();
        }
    }
    let count = (rows.len() * set.positions) as f64;
    let accuracy = set.labels.as_ref().map(|_| hits as f64 / count);
    Ok(Quality { loss: loss / count, accuracy })
}

/// The first of the largest.
fn largest(list: &[f64]) -> usize {
    (0..list.len()).fold(0, |best, i| if list[i] > list[best] { i } else { best })
}

/// Fisher's and Yates' shuffle.
fn shuffled(list: &[usize], seed: u64) -> Vec<usize> {
    let (mut out, mut rng) = (list.to_vec(), Rng::new(seed));
    for i in (1..out.len()).rev() {
        out.swap(i, rng.below(i + 1));
    }
    out
}

fn tensors(weights: &[Weight], numbers: &[Vec<f32>]) -> Vec<Tensor> {
    weights.iter().zip(numbers).map(|(w, n)| w.tensor(n)).collect()
}

fn trained_weight(weight: &Weight, now: &[f32]) -> Trained {
    let norm = |list: &mut dyn Iterator<Item = f64>| list.map(|v| v * v).sum::<f64>().sqrt();
    let moved = norm(&mut weight.start.iter().zip(now).map(|(a, b)| f64::from(a - b)));
    let was = norm(&mut weight.start.iter().map(|v| f64::from(*v)));
    let change = if was > 0.0 { moved / was } else { moved };
    Trained { name: weight.name.clone(), shape: weight.shape.clone(), change }
}

/// What a model file is, for checkpoints.
fn blob(file: &ModelFile) -> Result<String> {
    let bytes = file
        .proto()
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the model cannot be written: {e}")))?;
    Ok(hash(&bytes))
}

fn teacher_blob(loss: &Loss) -> Result<String> {
    match loss {
        Loss::Kl(path) => {
            let (path, _) = source::locate(path)?;
            Ok(hash(&std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?))
        }
        _ => Ok(String::new()),
    }
}

fn hash(bytes: &[u8]) -> String {
    Tensor::from_bytes(egret::ir::DType::U8, &[bytes.len()], bytes).content_hash().to_string()
}
