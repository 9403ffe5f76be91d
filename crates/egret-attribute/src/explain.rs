//! From a model and a request to an explanation.

use crate::explanation::Explanation;
use crate::feature::Feature;
use crate::features::features;
use crate::layer::upstream;
use crate::method::Method;
use crate::numbers::spelt;
use crate::program::Model;
use crate::request::Request;
use crate::target::{Wanted, wanted};
use crate::{curves, gradcam, gradients, occlusion, randomised, rise, surrogate, trees};
use egret::compare::unravel;
use egret::ir::Op;
use egret::{Error, Result, source};

/// An error of gradients, which decision trees have not.
fn with_trees(model: &Model, target: &Wanted, mut e: Error) -> Error {
    let reaching = upstream(&model.graph, target.value);
    let is_tree = |n| {
        let node = model.graph.node(n);
        node.op == Op::TreeEnsemble && node.results.iter().any(|r| reaching[r.0 as usize])
    };
    if model.graph.node_ids().into_iter().any(is_tree) {
        e.message += "; --method tree-shap explains decision trees";
    }
    e
}

/// The attributions of a target.
fn attributed(model: &Model, target: &Wanted, features: &[Feature]) -> Result<Explanation> {
    let out = match &model.request.method {
        Method::Occlusion { window, stride } => {
            occlusion::attribute(model, target, features, window.as_deref(), stride.as_deref())?
        }
        Method::Rise { window, samples, seed } => {
            rise::attribute(model, target, features, window.as_deref(), *samples, *seed)?
        }
        Method::GradCam { layer } => gradcam::attribute(model, target, features, layer.as_deref(), false)
            .map_err(|e| with_trees(model, target, e))?,
        Method::GradCamPlus { layer } => {
            gradcam::attribute(model, target, features, layer.as_deref(), true)
                .map_err(|e| with_trees(model, target, e))?
        }
        Method::KernelShap { .. } | Method::Lime { .. } => surrogate::attribute(model, target, features)?,
        Method::TreeShap => trees::attribute(model, target, features, &model.request.baseline)?,
        _ => gradients::attribute(model, target, features).map_err(|e| with_trees(model, target, e))?,
    };
    for map in &out.maps {
        if let Some(i) = map.values.iter().position(|v| !v.is_finite()) {
            return Err(Error::user(format!(
                "the attribution of {} is {}: the model overflows there, or its gradient does",
                spelt(&map.name, &unravel(i, &map.shape)),
                map.values[i]
            )));
        }
    }
    Ok(out)
}

/// Explain a score.
///
/// # Errors
/// What cannot be read, imported or compiled; a target, class, input, layer or window that the model has not;
/// unsupported: nodes that have no derivative, trees that are not summed.
pub fn explain(source: &source::Request, request: &Request) -> Result<Explanation> {
    let model = Model::new(source, request)?;
    explained(&model, &wanted(&model.graph, request.target.as_deref())?)
}

/// As [`explain`], by several methods in the place of the request's own. The largest element, where none is named, is that which the first finds.
///
/// # Errors
/// As [`explain`], with the method's name.
pub fn explain_by(
    source: &source::Request,
    request: &Request,
    methods: &[Method],
) -> Result<Vec<Explanation>> {
    let model = Model::new(source, request)?;
    let target = wanted(&model.graph, request.target.as_deref())?;
    let mut out: Vec<Explanation> = vec![];
    for method in methods {
        let request = Request { method: method.clone(), ..request.clone() };
        let model = Model { request: &request, ..model.clone() };
        let found = match out.first() {
            None => explained(&model, &target),
            Some(first) => explained(&model, &target.pinned(&first.target)),
        };
        out.push(found.map_err(|e| match methods.len() {
            1 => e,
            _ => Error { message: format!("{method}: {}", e.message), ..e },
        })?);
    }
    Ok(out)
}

fn explained(model: &Model, target: &Wanted) -> Result<Explanation> {
    let request = model.request;
    let features = features(model, target.value, &request.wrt, &request.method, &request.baseline)?;
    if request.checks.curves.is_some() && request.method == Method::TreeShap {
        return Err(Error::user(
            "--curves set features to a baseline, and tree-shap has rows of background instead; leave it out",
        ));
    }
    let mut out = attributed(model, target, &features)?;
    if let Some(steps) = request.checks.curves {
        let target = target.pinned(&out.target);
        out.curves = Some(curves::curves(model, &target, &features, &out.maps, steps)?);
    }
    if request.checks.randomised {
        let target = target.pinned(&out.target);
        let again = |model: &Model| attributed(model, &target, &features);
        out.randomised = Some(randomised::randomised(model, &target, &out, again)?);
    }
    Ok(out)
}
