//! What the model loses by one layer: errors of layers' own outputs do not say which of them the model needs.

use crate::damping;
use crate::data::distance::Distance;
use crate::data::original::{self, HELD, Original, Target};
use crate::data::reconstruct::put_layer;
use crate::joint::base::{Base, Choice};
use crate::joint::level::Level;
use crate::moments::Moments;
use crate::quantize::fitted::Task;
use crate::request::Watch;
use crate::search::Cost;
use crate::state::State;
use egret::samples::Samples;
use egret::{Error, Result};

/// Scale the errors of each layer that zeros are levels of, so that the largest of them is what a copy loses in which that layer alone has its
/// zeros: fitted to most of the samples, and compared with the original on the others. Fewer than four samples say nothing.
///
/// # Errors
/// Data that do not fit the model, or make no numbers.
pub fn weigh(
    base: &Base,
    costs: &mut [Vec<Cost>],
    samples: &Samples,
    state: &State,
    watch: &mut Watch<'_>,
) -> Result<()> {
    if samples.len() < HELD {
        return Ok(());
    }
    let worst = |index: usize| -> Option<usize> {
        let list: &[Choice] = base.choices[index].as_deref().ok()?;
        let zeros = |c: &Choice| matches!(c.level, Level::Zeros(_));
        let least = list.iter().filter(|c| zeros(c)).map(|c| c.kept).min()?;
        list.iter().position(|c| zeros(c) && c.kept == least)
    };
    let tasks: Vec<Option<usize>> =
        (0..base.found.len()).map(|i| worst(i).filter(|_| base.fits[i])).collect();
    let original = Original::new(&base.model, &base.path, &base.found, &tasks)?;
    let mut distance = Distance::new(&original.model, &base.path);
    let at: Vec<usize> = base.layers().map(|(index, _)| index).collect();
    for (done, target) in original.targets.iter().enumerate() {
        watch(done, original.targets.len(), &format!("what the model loses by {}", target.name));
        let name = format!("{}loss of the model by {}", base.prefix(), target.index);
        let lost =
            state.numbers(&name, || Ok(vec![loss(base, &original, target, &mut distance, samples)?]))?;
        let Some(list) = at.iter().position(|&i| i == target.index).map(|k| &mut costs[k]) else {
            continue;
        };
        let own = list.get(target.task).map_or(0.0, |c| c.error);
        if own > 0.0 {
            let scale = lost.first().map_or(1.0, |lost| lost / own);
            list.iter_mut().for_each(|c| c.error *= scale);
        }
    }
    Ok(())
}

/// What the model loses on the samples that are held back if a layer has its most zeros.
fn loss(
    base: &Base,
    original: &Original<'_, usize>,
    target: &Target<usize>,
    distance: &mut Distance<'_>,
    samples: &Samples,
) -> Result<f64> {
    let bad = || Error::user(format!("`{}`: its data make no system that can be solved", target.name));
    let choice = base.choices[target.index].as_ref().ok().and_then(|list| list.get(target.task));
    let Some(Choice { level: Level::Zeros(pattern), .. }) = choice else { return Err(bad()) };
    let task = Task::Zeros(*pattern);
    let seen = original.seen(&original.model, &[target], samples)?.pop().ok_or_else(bad)?;
    let weights = original.weights(target)?;
    let tensor = target.layer.place.of(original.graph()).ok_or_else(bad)?;
    let solve = |moments: &[Moments], damping: f64| {
        task.solve(tensor, &target.layer.layout, &weights, moments, damping).map(|s| s.0)
    };
    let damping = damping::best(&seen, task.most(), &solve);
    let held = damping::held(&seen, task.most(), damping, &solve).ok_or_else(bad)?;
    let mut model = original.model.clone();
    put_layer(&mut model, target, &held.weights, &held.shift);
    // Where no output is of floats, the layer's own error is all there is.
    Ok(distance.of(&model, samples, &original::held)?.unwrap_or(held.error))
}
