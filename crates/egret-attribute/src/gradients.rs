//! Methods that need one program of gradients by the inputs: saliency, input x gradient, integrated gradients, SmoothGrad; or of relevances.

use crate::explanation::{Completeness, Explanation};
use crate::feature::Feature;
use crate::method::Method;
use crate::program::{Gradients, Model, score};
use crate::quadrature::gauss_legendre;
use crate::target::Wanted;
use egret::Result;
use egret::ir::{ValueId, interp};

/// Attributions by a method of gradients.
pub(crate) fn attribute(model: &Model, wanted: &Wanted, features: &[Feature]) -> Result<Explanation> {
    let wrt: Vec<ValueId> = features.iter().map(|f| f.value).collect();
    let program = match model.request.method {
        Method::Relevance { shares } => Gradients::relevances(model, wanted.value, shares, &wrt)?,
        _ => Gradients::new(model, wanted.value, &wrt, &[])?,
    };
    let output = program.run(model.inputs.clone(), &[])?.output;
    let elements = wanted.elements(&program.shape, &output)?;
    let at = |data: Vec<Vec<f64>>| program.run(model.inputs_with(features, data)?, &elements.at);
    let mut completeness = None;
    let values = match model.request.method {
        Method::IntegratedGradients { steps } => {
            let from =
                score(&at(features.iter().map(|f| f.baseline.clone()).collect())?.output, &elements.at);
            let mut mean = zeros(features);
            for (t, weight) in gauss_legendre(steps) {
                let on_way = |f: &Feature| -> Vec<f64> {
                    f.data.iter().zip(&f.baseline).map(|(x, b)| b + t * (x - b)).collect()
                };
                add(&mut mean, &at(features.iter().map(on_way).collect())?.gradients, weight);
            }
            let values = each(features, &mean, |x, b, g| (x - b) * g);
            let sum = values.iter().flatten().sum();
            completeness =
                Some(Completeness { sum, baseline: from, difference: elements.target.score - from });
            values
        }
        Method::SmoothGrad { samples, noise, seed } => {
            let mut mean = zeros(features);
            let mut drawn = 0;
            for _ in 0..samples {
                let noisy = features.iter().map(|f| noisy(f, noise, seed, &mut drawn)).collect();
                add(&mut mean, &at(noisy)?.gradients, 1.0 / samples as f64);
            }
            mean
        }
        Method::Relevance { .. } => {
            let values = program.run(model.inputs.clone(), &elements.at)?.gradients;
            let sum = values.iter().flatten().sum();
            completeness = Some(Completeness { sum, baseline: 0.0, difference: elements.target.score });
            values
        }
        _ => {
            let gradients = program.run(model.inputs.clone(), &elements.at)?.gradients;
            match model.request.method {
                Method::InputXGradient => each(features, &gradients, |x, _, g| x * g),
                _ => each(features, &gradients, |_, _, g| g.abs()),
            }
        }
    };
    let maps = features.iter().zip(values).map(|(f, v)| f.map(v)).collect();
    Ok(Explanation { completeness, ..Explanation::new(elements.target, maps) })
}

fn zeros(features: &[Feature]) -> Vec<Vec<f64>> {
    features.iter().map(|f| vec![0.0; f.data.len()]).collect()
}

fn add(sum: &mut [Vec<f64>], more: &[Vec<f64>], weight: f64) {
    for (s, m) in sum.iter_mut().flatten().zip(more.iter().flatten()) {
        *s += weight * m;
    }
}

/// Of every feature its value, its baseline and its gradient.
fn each(features: &[Feature], gradients: &[Vec<f64>], of: impl Fn(f64, f64, f64) -> f64) -> Vec<Vec<f64>> {
    let one = |(f, g): (&Feature, &Vec<f64>)| {
        let known = f.data.iter().zip(&f.baseline).zip(g);
        known.map(|((&x, &b), &g)| of(x, b, g)).collect()
    };
    features.iter().zip(gradients).map(one).collect()
}

/// A copy with normal noise, whose deviation is relative to the range of the input's values.
fn noisy(f: &Feature, noise: f64, seed: u64, drawn: &mut u64) -> Vec<f64> {
    let low = f.data.iter().copied().fold(f64::INFINITY, f64::min);
    let high = f.data.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut draw = || {
        *drawn += 1;
        interp::draw(seed as f64, *drawn)
    };
    let mut normal = || {
        let radius = (-2.0 * (1.0 - draw()).ln()).sqrt();
        radius * (std::f64::consts::TAU * draw()).cos()
    };
    f.data.iter().map(|x| x + noise * (high - low) * normal()).collect()
}
