//! Budgets: how many zeros each layer takes, so that all layers together have as many as asked, where they cost least.
//!
//! The cost of a weight is its score relative to the variance of its layer's outputs, from one pass of the original model; of methods that
//! fit layers to their inputs, times what the model loses for what those outputs do.

use crate::damping;
use crate::data::distance::Distance;
use crate::data::original::{self, HELD, Original, Source, Target, Zeros};
use crate::data::reconstruct::put_layer;
use crate::mask;
use crate::methods::{DAMPING, Problem};
use crate::moments::Moments;
use crate::pattern::Pattern;
use crate::request::{Request, Watch};
use crate::scope::Scope;
use egret::samples::Samples;
use egret::{Error, Result};

/// Give every layer without a pattern of its own the amount that it takes of the whole; rows are scaled by `scaled` at most.
///
/// # Errors
/// As of [`Original::moments`].
pub fn share(
    original: &mut Original<'_, Zeros>,
    source: Source<'_>,
    request: &Request,
    scaled: f64,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let Pattern::Unstructured(part) = request.pattern else { return Ok(()) };
    let targets: Vec<&Target<Zeros>> = original.targets.iter().filter(|t| !t.task.own).collect();
    let mut scores: Vec<Vec<f64>> = vec![];
    let mut each = |at: usize, moments: &[Moments]| {
        scores.push(relative(original, targets[at], moments, request)?);
        Ok(())
    };
    original.each_moments(&targets, source, &|_| false, &mut each, watch)?;
    // Stats, which know nothing of the whole model, give the bytes that samples give for the other methods.
    if let Source::Samples(samples) = source
        && request.method.fits_inputs()
        && samples.len() >= HELD
    {
        let mut distance = Distance::new(&original.model, original.path);
        for (done, (target, scores)) in targets.iter().zip(&mut scores).enumerate() {
            watch(done, targets.len(), &format!("what the model loses by {}", target.name));
            let factor = factor(original, target, &mut distance, samples, (request, scaled))?;
            scores.iter_mut().for_each(|s| *s *= factor);
        }
    }
    // Scores add up while zeros are few; so that they stay few, a layer keeps at least half of what it would keep by itself.
    let most = (1.0 + part) / 2.0;
    let amounts = amounts(&scores, part, most);
    let indices: Vec<usize> = targets.iter().map(|t| t.index).collect();
    for target in &mut original.targets {
        if let Some(at) = indices.iter().position(|i| *i == target.index) {
            target.task.pattern = Pattern::Unstructured(amounts[at]);
        }
    }
    Ok(())
}

/// How many times what a layer's outputs lose the model's do, where that layer alone has as many zeros as are asked of all: fitted to most of
/// the samples, and compared with the original on the others.
fn factor(
    original: &Original<'_, Zeros>,
    target: &Target<Zeros>,
    distance: &mut Distance<'_>,
    samples: &Samples,
    (request, scaled): (&Request, f64),
) -> Result<f64> {
    let bad = || Error::user(format!("`{}`: its data make no system that can be solved", target.name));
    let seen = original.seen(&original.model, &[target], samples)?.pop().ok_or_else(bad)?;
    let weights = original.weights(target)?;
    let (layout, pattern, scope) = (&target.layer.layout, target.task.pattern, Scope::Layer);
    let solve = |moments: &[Moments], damping: f64| {
        request.method.solve(&Problem { layout, weights: &weights, moments, pattern, scope, damping })
    };
    let damping = damping::best(&seen, scaled, &solve);
    let held = damping::held(&seen, scaled, damping, &solve).ok_or_else(bad)?;
    let mut model = original.model.clone();
    put_layer(&mut model, target, &held.weights, &held.shift);
    // Where no output is of floats, the layer's own error is all there is.
    let lost = distance.of(&model, samples, &original::held)?;
    Ok(lost.filter(|_| held.error > 0.0).map_or(1.0, |lost| lost / held.error))
}

fn relative(
    original: &Original<'_, Zeros>,
    target: &Target<Zeros>,
    moments: &[Moments],
    request: &Request,
) -> Result<Vec<f64>> {
    let weights = original.weights(target)?;
    let layout = &target.layer.layout;
    let (pattern, scope, damping) = (target.task.pattern, Scope::Layer, DAMPING);
    let problem = Problem { layout, weights: &weights, moments, pattern, scope, damping };
    request.method.costs(&problem).ok_or_else(|| {
        Error::user(format!("`{}`: its data make no system that can be solved", target.name))
    })
}

/// What part of each layer goes, if the lowest of all go and no layer loses more than `most`.
fn amounts(scores: &[Vec<f64>], part: f64, most: f64) -> Vec<f64> {
    let total: usize = scores.iter().map(Vec::len).sum();
    let mut keys = vec![];
    for (layer, list) in scores.iter().enumerate() {
        let mut order: Vec<(f64, usize)> = list.iter().copied().zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.truncate(mask::count(most, list.len()));
        keys.extend(order.into_iter().map(|(s, _)| (s, layer)));
    }
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut gone = vec![0usize; scores.len()];
    keys.iter().take(mask::count(part, total)).for_each(|k| gone[k.1] += 1);
    gone.iter().zip(scores).map(|(g, list)| *g as f64 / list.len().max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::amounts;

    #[test]
    fn the_cheapest_of_all_go_but_no_layer_goes_whole() {
        let scores = [vec![1.0, 2.0, 3.0, 4.0], vec![0.1, 0.2, 0.3, 9.0]];
        assert_eq!(amounts(&scores, 0.5, 1.0), [0.25, 0.75]);
        assert_eq!(amounts(&scores, 0.5, 0.5), [0.5, 0.5]);
        assert_eq!(amounts(&scores, 0.0, 0.5), [0.0, 0.0]);
    }
}
