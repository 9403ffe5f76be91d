//! The table of levels: for each layer and each of its levels, the error of its outputs if it alone is at that level.

use crate::constants::Constants;
use crate::data::original::{Original, Source, Target};
use crate::data::restore::{Tally, restore};
use crate::data::view::View;
use crate::integers::Integers;
use crate::joint::base::{Base, Choice, input};
use crate::joint::build::inputs;
use crate::joint::level::Level;
use crate::methods::DAMPING;
use crate::moments::Moments;
use crate::numbers;
use crate::quantize::fitted::Task;
use crate::quantize::weights::{Weight, weights};
use crate::quantize::{Activations, Precision, Runtime};
use crate::request::Watch;
use crate::search::Cost;
use crate::state::State;
use egret::{Error, Result};

/// What stands before a layer's number in the names of records of errors.
pub const RECORD: &str = "errors ";

/// Bytes and errors of the layers with choices, in their order. Errors that are kept in `state` are taken from there.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn table(
    base: &Base,
    source: Source<'_>,
    state: &State,
    watch: &mut Watch<'_>,
) -> Result<Vec<Vec<Cost>>> {
    let tasks: Vec<Option<()>> =
        base.choices.iter().zip(&base.fits).map(|(c, fits)| (c.is_ok() && *fits).then_some(())).collect();
    let original = Original::new(&base.model, &base.path, &base.found, &tasks)?;
    let targets: Vec<&Target<()>> = original.targets.iter().collect();
    let steps = state.numbers(&format!("{}steps", base.prefix()), || steps(base, source, watch))?;
    let name = |at: usize| format!("{}{RECORD}{}", base.prefix(), targets[at].index);
    let mut errors: Vec<Vec<f64>> = vec![vec![]; base.found.len()];
    let mut each = |at: usize, moments: &[Moments]| {
        let target = targets[at];
        let choices = base.choices[target.index].as_deref().unwrap_or_default();
        let of = |c: &Choice| error(base, &original, target, c.level, steps[target.index], moments);
        let all = state.numbers(&name(at), || choices.iter().map(of).collect())?;
        if all.len() != choices.len() {
            return Err(Error::internal(format!("`{}`: levels without an error", target.name)));
        }
        errors[target.index] = all;
        Ok(())
    };
    // Those of whole groups are not looked for again.
    let known = |at: usize| state.has(&name(at));
    original.each_moments(&targets, source, &known, &mut each, watch)?;
    for (at, target) in targets.iter().enumerate() {
        if errors[target.index].is_empty() {
            let lost = || Err(Error::internal(format!("`{}`: no levels have an error", target.name)));
            errors[target.index] = state.numbers(&name(at), lost)?;
        }
    }
    let mut out = vec![];
    for (index, choices) in base.layers() {
        if !base.fits[index] {
            errors[index] =
                choices.iter().map(|c| of_weights(base, index, c.level)).collect::<Result<_>>()?;
        }
        let cost = |(c, &error): (&Choice, &f64)| Cost { bytes: c.bytes, error };
        out.push(choices.iter().zip(&errors[index]).map(cost).collect());
    }
    Ok(out)
}

fn planned(base: &Base, index: usize, level: Level) -> Result<Vec<Weight>> {
    let Level::Integers(precision) = level else { return Ok(vec![]) };
    let graph = base.model.graph.get_or_default();
    let c = &base.found[index];
    weights(graph, &Constants::new(graph), c, precision)
        .map_err(|(_, text)| Error::internal(format!("{}: {text}", c.name)))
}

/// Of outputs, relative to their variance.
fn error(
    base: &Base,
    original: &Original<'_, ()>,
    target: &Target<()>,
    level: Level,
    step: f64,
    moments: &[Moments],
) -> Result<f64> {
    let bad = || Error::user(format!("`{}`: its data make no system that can be solved", target.name));
    let task = match level {
        Level::Dense => return Ok(0.0),
        Level::Zeros(pattern) => Task::Zeros(pattern),
        Level::Integers(_) => {
            Task::Integers(planned(base, target.index, level)?.first().ok_or_else(bad)?.form)
        }
    };
    let tensor = target.layer.place.of(original.graph()).ok_or_else(bad)?;
    let weights = original.weights(target)?;
    let layout = &target.layer.layout;
    let (mut weights, _) = task.solve(tensor, layout, &weights, moments, DAMPING).ok_or_else(bad)?;
    let mut tally = Tally::default();
    let size = (weights.len() / moments.len().max(1)).max(1);
    for (part, moments) in weights.chunks_exact_mut(size).zip(moments) {
        restore(part, moments, task.most(), &mut tally);
    }
    let error = tally.quality().error;
    match level {
        Level::Integers(Precision::Static8) => {
            let scale = if let View::Lines { scale, .. } = target.view { f64::from(scale) } else { 1.0 };
            Ok(error + rounded_inputs(&weights, step * scale, moments))
        }
        _ => Ok(error),
    }
}

/// What rounding the inputs adds, relative to the variance of the outputs: the error of a rounding is as likely anywhere within a step,
/// so that its variance is a twelfth of the step's square, and no other depends on it.
fn rounded_inputs(weights: &[f64], step: f64, moments: &[Moments]) -> f64 {
    let energy: f64 = weights.iter().map(|w| w * w).sum();
    let wanted: f64 = moments.iter().flat_map(|m| &m.yy).sum();
    if wanted > 0.0 { step * step / 12.0 * energy / wanted } else { 0.0 }
}

/// The steps of the inputs of layers that may have them as bytes, by contraction; of what has no range 0: it stays as it is.
fn steps(base: &Base, source: Source<'_>, watch: &mut Watch<'_>) -> Result<Vec<f64>> {
    let level = Level::Integers(Precision::Static8);
    let has = |c: &Choice| c.level == level;
    let of: Vec<Option<Level>> = (base.choices.iter())
        .map(|c| c.as_ref().is_ok_and(|list| list.iter().any(has)).then_some(level))
        .collect();
    let inputs = inputs(&base.found, &of);
    if inputs.iter().all(Vec::is_empty) {
        return Ok(vec![0.0; base.found.len()]);
    }
    let (samples, stats) = match source {
        Source::Samples(samples) => (Some(samples), None),
        Source::Stats(stats, _) => (None, Some(stats)),
    };
    let activations =
        Activations::new(&base.model, &base.path, &inputs, &Runtime::default(), (samples, stats), watch)?;
    let graph = base.model.graph.get_or_default();
    let step = |c| input(graph, c).and_then(|name| activations.step(name)).unwrap_or(0.0);
    Ok(base.found.iter().map(step).collect())
}

/// Of weights, relative to their energy: what outputs lose if inputs are alike and do not depend on each other.
fn of_weights(base: &Base, index: usize, level: Level) -> Result<f64> {
    let graph = base.model.graph.get_or_default();
    let (mut energy, mut lost) = (0.0, 0.0);
    for weight in planned(base, index, level)? {
        let read = || {
            let tensor = weight.place.of(graph)?;
            Some((numbers::read(tensor)?, Integers::of(tensor, weight.form)?.values()))
        };
        let (was, is) = read()
            .ok_or_else(|| Error::user(format!("`{}` holds what is no finite number", weight.name)))?;
        energy += was.iter().map(|v| v * v).sum::<f64>();
        lost += was.iter().zip(&is).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    }
    Ok(if lost > 0.0 { lost / energy } else { 0.0 })
}
