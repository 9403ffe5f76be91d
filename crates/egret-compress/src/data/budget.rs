//! Budgets: how many zeros each layer takes, so that all layers together have as many as asked, where they cost least.
//!
//! The cost of a weight is its score relative to the variance of its layer's outputs, from one pass of the original model.

use crate::data::original::{Original, Source, Target, Zeros};
use crate::mask;
use crate::methods::{DAMPING, Problem};
use crate::moments::Moments;
use crate::pattern::Pattern;
use crate::request::{Request, Watch};
use crate::scope::Scope;
use egret::{Error, Result};

/// Give every layer without a pattern of its own the amount that it takes of the whole.
///
/// # Errors
/// As of [`Original::moments`].
pub fn share(
    original: &mut Original<'_, Zeros>,
    source: Source<'_>,
    request: &Request,
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
