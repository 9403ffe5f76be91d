//! The score of many variants of the inputs: in batches where the model's batch is free, else one by one.

use crate::batch::{Batched, batched};
use crate::feature::Feature;
use crate::numbers::to_f64;
use crate::program::{Model, only, score};
use crate::target::{Elements, Wanted};
use egret::ir::{Tensor, Value};
use egret::{Error, Result};

/// Scores, each of one variant.
pub(crate) struct Scores {
    /// The target in the model as it is given.
    pub elements: Elements,
    pub scores: Vec<f64>,
    /// How they were run.
    pub note: String,
}

/// Adds the data of a feature in a variant to a list.
type Fill<'a> = &'a dyn Fn(usize, usize, &mut Vec<f64>);

/// The scores of `count` variants; `fill(variant, feature, data)` adds the data of a feature in one of them.
///
/// # Errors
/// What cannot be compiled or run; a target whose size follows from the inputs' values.
pub(crate) fn scores(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    count: usize,
    fill: Fill,
) -> Result<Scores> {
    let several = match batched(model, wanted, features, count + 1)? {
        Ok(batch) => in_batches(model, wanted, features, count, fill, &batch)?,
        Err(why) => Err(why),
    };
    match several {
        Ok(scores) => Ok(scores),
        Err(why) => one_by_one(model, wanted, features, count, fill, &why),
    }
}

fn the_tensor(outputs: &[Value]) -> Result<&Tensor> {
    outputs.first().and_then(Value::as_tensor).ok_or_else(|| Error::internal("the target is no tensor"))
}

/// A run for the inputs as they are, and one for each variant.
fn one_by_one(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    count: usize,
    fill: Fill,
    why: &str,
) -> Result<Scores> {
    let executable = model.ready(only(&model.graph, wanted.value), &model.bound)?;
    let whole = executable.run(&model.inputs)?;
    let elements = wanted.elements(the_tensor(&whole)?.shape(), &to_f64(&whole[0])?)?;
    let one = |variant: usize| {
        let data = |i| {
            let mut data = vec![];
            fill(variant, i, &mut data);
            data
        };
        let inputs = model.inputs_with(features, (0..features.len()).map(data).collect())?;
        let out = to_f64(&executable.run(&inputs)?[0])?;
        match elements.at.iter().all(|&(i, _)| i < out.len()) {
            true => Ok(score(&out, &elements.at)),
            false => Err(Error::unsupported("the size of the target follows from the inputs' values")),
        }
    };
    let scores = (0..count).map(one).collect::<Result<_>>()?;
    Ok(Scores { elements, scores, note: format!("run one by one: {why}") })
}

/// As [`one_by_one`] in batches. The inputs as they are run as copies of one another, and again beside variants: a score that differs says that
/// samples of a batch are not independent, as nodes of a graph, of which an input that is not copied reaches the first only.
fn in_batches(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    count: usize,
    fill: Fill,
    batch: &Batched,
) -> Result<std::result::Result<Scores, String>> {
    let copies = batch.copies;
    let whole: Vec<Value> =
        (0..model.inputs.len()).map(|i| copied(model, batch, i)).collect::<Result<_>>()?;
    let outputs = match batch.executable.run(&whole) {
        Ok(outputs) => outputs,
        Err(e) => return Ok(Err(format!("the model takes no batch of {copies} ({e})"))),
    };
    let mut shape = the_tensor(&outputs)?.shape().to_vec();
    shape[0] /= copies;
    let each: usize = shape.iter().product();
    let all = to_f64(&outputs[0])?;
    let elements = wanted.elements(&shape, &all[..each])?;
    let target = elements.target.clone();
    let differs = |other: f64| {
        // The same NaN is no difference.
        let near = (other - target.score).abs() <= 1e-5 * (1.0 + target.score.abs());
        !(near || other.is_nan() && target.score.is_nan())
    };
    let dependent = |other: f64, how: &str| {
        let spelt = target.spelt();
        let score = target.score;
        format!("the samples of a batch are not independent ({spelt} is {score} first and {other} {how})")
    };
    let others = (1..copies).map(|k| score(&all[k * each..(k + 1) * each], &elements.at));
    if let Some(other) = others.into_iter().find(|&other| differs(other)) {
        return Ok(Err(dependent(other, "in a copy")));
    }
    let mut scores = vec![];
    // The first copy of the first batch stays whole.
    let jobs: Vec<Option<usize>> = std::iter::once(None).chain((0..count).map(Some)).collect();
    for chunk in jobs.chunks(copies) {
        let mut inputs = whole.clone();
        for (i, f) in features.iter().enumerate() {
            let mut data = Vec::with_capacity(copies * f.data.len());
            for job in chunk.iter().copied().chain(std::iter::repeat(None)).take(copies) {
                match job {
                    Some(variant) => fill(variant, i, &mut data),
                    None => data.extend(&f.data),
                }
            }
            let mut shape = f.shape.clone();
            shape[0] *= copies;
            inputs[f.position] = Tensor::from_f64s(f.dtype, &shape, data).into();
        }
        let out = to_f64(&batch.executable.run(&inputs)?[0])?;
        scores.extend((0..chunk.len()).map(|k| score(&out[k * each..(k + 1) * each], &elements.at)));
    }
    let again = scores.remove(0);
    if differs(again) {
        return Ok(Err(dependent(again, "beside others")));
    }
    let runs = jobs.len().div_ceil(copies);
    let note = format!("run in {runs} batch{}", if runs == 1 { "" } else { "es" });
    Ok(Ok(Scores { elements, scores, note }))
}

/// An input as often as the batch holds it.
fn copied(model: &Model, batch: &Batched, i: usize) -> Result<Value> {
    let value = &model.inputs[i];
    let Some(tensor) = value.as_tensor().filter(|_| batch.copied[i]) else { return Ok(value.clone()) };
    let mut shape = tensor.shape().to_vec();
    shape[0] *= batch.copies;
    if tensor.strings().is_empty() {
        return Ok(Tensor::from_bytes(tensor.dtype(), &shape, &tensor.bytes().repeat(batch.copies)).into());
    }
    let texts = std::iter::repeat_n(tensor.strings(), batch.copies).flatten().cloned().collect();
    Ok(Tensor::from_strings(&shape, texts).into())
}
