//! Attention maps that are weighted by the gradient of a score: what attention had to do with it (Chefer, Gur & Wolf 2021).
//!
//! Every `attention` that the passes find is taken apart into its shares and the sums of values by them, in f64, so that the shares are values
//! of the graph; `egret-grad` gives the gradient of the score by each of them.

use super::layer::Layer;
use super::maps::found;
use super::taps::{Outputs, Tapped, tapped};
use crate::numbers::to_f64;
use crate::program::{Gradients, only};
use crate::target::{Target, wanted};
use egret::grad::{Of, differentiate};
use egret::source::Prepared;
use egret::{Engine, Error, Executable, Options, Result};

/// Maps and the gradients of a score by them.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// The score.
    pub target: Target,
    /// The attentions on which the score depends, in the order of computation, with their shares.
    pub layers: Vec<Layer>,
    /// The same with max(0, share * gradient) in the place of each share: 0 where more attention would lower the score.
    pub maps: Vec<Layer>,
}

/// The maps of a model's attentions, weighted by the gradient of a target: a class of the first float output, `name[index]`, or `name`, its
/// largest element.
///
/// # Errors
/// A target that the model has not, or that depends on no attention outside loops and branches; unsupported: nodes that have no derivative
/// between an attention and the target.
pub fn weighted(model: &Prepared, target: &str, engine: Engine, options: &Options) -> Result<Weighted> {
    let wanted = wanted(&model.graph, Some(target))?;
    let graph = found(only(&model.graph, wanted.value), options)?;
    let Tapped { graph, taps, values, hidden } = tapped(graph, Outputs::Own)?;
    if taps.is_empty() {
        let within = match hidden {
            0 => String::new(),
            n => format!(" outside loops and branches, which hold {n}"),
        };
        return Err(Error::user(format!(
            "the target `{target}` depends on no attention{within}: there is nothing to weight"
        )));
    }
    let of = graph.outputs()[0];
    let mut program = differentiate(&graph, &Of::Seeded(of), &values)?;
    values.iter().enumerate().for_each(|(i, &v)| program.add_output(&format!("shares.{i}"), v));
    let executable = Executable::new(program, engine, options, &model.bound)?;
    let program = Gradients::of(&graph, executable, of, values.len())?;
    let output = program.run(model.inputs.clone(), &[])?.output;
    let elements = wanted.elements(&program.shape, &output)?;
    let point = program.run(model.inputs.clone(), &elements.at)?;
    let (mut layers, mut maps) = (vec![], vec![]);
    for ((tap, value), gradient) in taps.into_iter().zip(&point.further).zip(&point.gradients) {
        let shape = value.as_tensor().map(|t| t.shape().to_vec()).unwrap_or_default();
        let layer =
            Layer { name: tap.name, fused: tap.fused, wide: tap.wide, shape, shares: to_f64(value)? };
        // A query that sees no key has shares of NaN, and takes nothing.
        let weight = |(share, gradient): (&f64, &f64)| (share * gradient).max(0.0);
        let shares: Vec<f64> = layer.shares.iter().zip(gradient).map(weight).collect();
        if shares.iter().any(|v| v.is_infinite()) {
            return Err(Error::user(format!(
                "the gradient of `{target}` by the attention `{}` is infinite: the model overflows there",
                layer.name
            )));
        }
        maps.push(Layer { shares, ..layer.clone() });
        layers.push(layer);
    }
    Ok(Weighted { target: elements.target, layers, maps })
}
