//! From a model and its inputs to the maps of its layers.

use super::layer::Layer;
use super::taps::{Outputs, Tapped, tapped};
use crate::numbers::to_f64;
use egret::ir::Graph;
use egret::pipeline::{optimize, pass_names};
use egret::source::Prepared;
use egret::{Engine, Error, Executable, Options, Result, Tier, Trace};

/// The pass that finds attentions.
const FINDS: &str = "fuse";

/// A graph after the passes that find its attentions.
pub(super) fn found(graph: Graph, options: &Options) -> Result<Graph> {
    // Approximations would change what is looked at.
    let finding = Options { tier: Tier::Reassoc, passes: None, ..options.clone() };
    optimize(graph, &finding, Some(FINDS), &mut Trace::default())
}

/// The maps of every attention of a model, in the order of computation.
///
/// # Errors
/// Unsupported: a model without attention, or only within loops and branches. What cannot be compiled or run.
pub fn maps(model: &Prepared, engine: Engine, options: &Options) -> Result<Vec<Layer>> {
    let Tapped { graph, taps, hidden, .. } = tapped(found(model.graph.clone(), options)?, Outputs::Shares)?;
    let empty = model.graph.inputs().iter().zip(&model.inputs).find_map(|(&id, value)| {
        let shape = value.as_tensor()?.shape();
        shape.contains(&0).then(|| {
            format!("the input `{}` holds nothing (its shape is {shape:?})", model.graph.value(id).name)
        })
    });
    if let (true, Some(empty)) = (taps.is_empty() && hidden == 0, empty) {
        return Err(Error::user(format!(
            "{empty}: there is no token that attends to another; give at least one"
        )));
    }
    if taps.is_empty() {
        return Err(Error::unsupported(match hidden {
            0 => "the model has no attention: looked for `attention` after the passes, and for a softmax along the last axis, \
                  of a product of two values that are computed, that goes into such a product from the left"
                .to_owned(),
            n => format!("all attentions of the model ({n}) are within loops or branches, where they have no one map"),
        }));
    }
    let after = pass_names().into_iter().skip_while(|&p| p != FINDS).skip(1);
    let options = Options { passes: Some(after.map(str::to_owned).collect()), ..options.clone() };
    let values = Executable::new(graph, engine, &options, &model.bound)?.run(&model.inputs)?;
    let one = |(tap, value): (super::taps::Tap, &egret::ir::Value)| {
        let shape = value.as_tensor().map(|t| t.shape().to_vec()).unwrap_or_default();
        Ok(Layer { name: tap.name, fused: tap.fused, wide: tap.wide, shape, shares: to_f64(value)? })
    };
    taps.into_iter().zip(&values).map(one).collect()
}

/// The layer that `spelt` names: its number from 0, its ONNX node (`Softmax:/layer.0/Softmax`), or that without the operator.
///
/// # Errors
/// There is none; the message names those that there are.
pub fn find(layers: &[Layer], spelt: &str) -> Result<usize> {
    let is_it = |l: &Layer| l.name == spelt || l.name.split_once(':').is_some_and(|(_, n)| n == spelt);
    let number = || spelt.parse().ok().filter(|&i: &usize| i < layers.len());
    layers.iter().position(is_it).or_else(number).ok_or_else(|| {
        let list: Vec<String> =
            layers.iter().enumerate().map(|(i, l)| format!("{i} `{}`", l.name)).collect();
        Error::user(format!("no layer `{spelt}`; the model's attentions are {}", list.join(", ")))
    })
}
