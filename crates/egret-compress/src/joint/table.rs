//! The table of levels: for each layer and each of its levels, the error of its outputs if it alone is at that level.

use crate::constants::Constants;
use crate::data::original::{Original, Target};
use crate::data::restore::{Tally, restore};
use crate::joint::base::{Base, Choice};
use crate::joint::level::Level;
use crate::joint::search::Cost;
use crate::moments::Moments;
use crate::numbers;
use crate::quantize::fitted::Task;
use crate::quantize::integers::Integers;
use crate::quantize::weights::{Weight, weights};
use crate::request::Watch;
use egret::samples::Samples;
use egret::{Error, Result};

/// Bytes and errors of the layers with choices, in their order.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn table(base: &Base, samples: &Samples, watch: &mut Watch<'_>) -> Result<Vec<Vec<Cost>>> {
    let tasks: Vec<Option<()>> =
        base.choices.iter().zip(&base.fits).map(|(c, fits)| (c.is_ok() && *fits).then_some(())).collect();
    let original = Original::new(&base.model, &base.path, &base.found, &tasks)?;
    let targets: Vec<&Target<()>> = original.targets.iter().collect();
    let mut errors: Vec<Vec<f64>> = vec![vec![]; base.found.len()];
    let mut each = |at: usize, moments: &[Moments]| {
        let target = targets[at];
        let choices = base.choices[target.index].as_deref().unwrap_or_default();
        let of = |c: &Choice| error(base, &original, target, c.level, moments);
        errors[target.index] = choices.iter().map(of).collect::<Result<_>>()?;
        Ok(())
    };
    original.each_moments(&targets, samples, &mut each, watch)?;
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
    let (mut weights, _) = task.solve(tensor, &target.layer.layout, &weights, moments).ok_or_else(bad)?;
    let mut tally = Tally::default();
    let size = (weights.len() / moments.len().max(1)).max(1);
    for (part, moments) in weights.chunks_exact_mut(size).zip(moments) {
        restore(part, moments, task.most(), &mut tally);
    }
    Ok(tally.quality().error)
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
