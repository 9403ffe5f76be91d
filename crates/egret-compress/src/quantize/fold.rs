//! Batch normalisations behind convolutions become part of their weights and biases, so that nothing stands between a layer and the
//! bytes of its output.

use crate::constants::Constants;
use crate::data::bias::{self, Bias};
use crate::layers::{Contraction, Layer};
use crate::layout::integer;
use crate::{contractions, numbers};
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};
use std::collections::BTreeSet;

/// `epsilon` where a node gives none.
const EPSILON: f32 = 1e-5;

/// A normalisation that goes.
struct Fold<'a> {
    layer: &'a Layer,
    /// Its node.
    at: usize,
    /// What each output is multiplied by, and what is added to it then.
    factors: Vec<f64>,
    shifts: Vec<f64>,
}

/// Fold all that can be folded into these layers; how many.
pub fn fold(
    graph: &mut GraphProto,
    found: &[Contraction],
    skipped: &dyn Fn(&Contraction) -> bool,
) -> usize {
    let folds: Vec<Fold<'_>> = {
        let constants = Constants::new(graph);
        let layers = found.iter().filter(|c| !skipped(c)).filter_map(|c| c.layer.as_ref().ok());
        layers.filter_map(|l| of(graph, &constants, l)).collect()
    };
    // Convolutions take a bias as an input: no node is added.
    bias::add(graph, &folds.iter().map(|f| f.layer).collect::<Vec<_>>());
    let biases: Vec<Option<Bias>> = {
        let constants = Constants::new(graph);
        folds.iter().map(|f| bias::find(graph, &constants, f.layer).ok()).collect()
    };
    let mut gone = BTreeSet::new();
    for (fold, bias) in folds.iter().zip(biases) {
        let Some(bias) = bias else { continue };
        let layout = &fold.layer.layout;
        let each = (layout.len() / fold.factors.len().max(1)).max(1);
        let offsets = layout.offsets();
        change(fold.layer.place.of_mut(graph), |weights| {
            offsets.iter().enumerate().for_each(|(k, &i)| weights[i] *= fold.factors[k / each]);
        });
        change(bias.place.of_mut(graph), |list| {
            for ((b, factor), shift) in list.iter_mut().zip(&fold.factors).zip(&fold.shifts) {
                *b = *b * factor + shift;
            }
        });
        let y = std::mem::take(&mut graph.node[fold.at].output[0]);
        let inner = std::mem::replace(&mut graph.node[fold.layer.node].output[0], y);
        graph.value_info.retain(|v| v.name != inner);
        gone.insert(fold.at);
    }
    let mut parameters = BTreeSet::new();
    let mut at = 0;
    graph.node.retain(|node| {
        at += 1;
        let goes = gone.contains(&(at - 1));
        if goes {
            parameters.extend(node.input[1..].iter().cloned());
        }
        !goes
    });
    drop_unread(graph, parameters);
    gone.len()
}

/// Take those of these constants out that nothing reads any more.
pub fn drop_unread(graph: &mut GraphProto, mut parameters: BTreeSet<String>) {
    let mut names = vec![];
    contractions::reads(&graph.node, &mut names);
    names.extend(graph.output.iter().map(|o| o.name.as_str()));
    let read: BTreeSet<&str> = names.into_iter().collect();
    parameters.retain(|n| !read.contains(n.as_str()));
    graph.initializer.retain(|t| !parameters.contains(&t.name));
    graph.input.retain(|i| !parameters.contains(&i.name));
    graph.node.retain(|n| n.op_type != "Constant" || !n.output.iter().any(|o| parameters.contains(o)));
}

fn change(tensor: Option<&mut TensorProto>, how: impl FnOnce(&mut [f64])) {
    if let Some(tensor) = tensor
        && let Some(mut values) = numbers::read(tensor)
    {
        how(&mut values);
        numbers::write(tensor, &values);
    }
}

/// The normalisation that alone reads a convolution.
fn of<'a>(graph: &GraphProto, constants: &Constants<'_>, layer: &'a Layer) -> Option<Fold<'a>> {
    let node = &graph.node[layer.node];
    if !["Conv", "ConvTranspose"].contains(&node.op_type.as_str())
        || matches!(bias::find(graph, constants, layer), Err(Some(_)))
    {
        return None;
    }
    let y = node.output.first().filter(|y| constants.is_read_once(y))?;
    let at =
        graph.node.iter().position(|n| n.op_type == "BatchNormalization" && n.input.first() == Some(y))?;
    let norm = &graph.node[at];
    let results = norm.output.iter().filter(|o| !o.is_empty()).count();
    // The spatial one of inference; domains other than ONNX's have their own.
    let plain = norm.domain.is_empty() || norm.domain == "ai.onnx";
    if !plain || results != 1 || integer(norm, "training_mode", 0) != 0 || integer(norm, "spatial", 1) == 0
    {
        return None;
    }
    let epsilon = norm.attribute.iter().find(|a| a.name == "epsilon").map_or(EPSILON, |a| a.f);
    let outputs = layer.layout.group_count() * layer.layout.row_count();
    let list = |slot: usize| values(graph, norm, slot).filter(|v| v.len() == outputs);
    let (scale, bias, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
    let factors: Vec<f64> =
        scale.iter().zip(&variance).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let shifts: Vec<f64> = (0..outputs).map(|i| bias[i] - mean[i] * factors[i]).collect();
    let all_finite = factors.iter().chain(&shifts).all(|v| v.is_finite());
    all_finite.then_some(Fold { layer, at, factors, shifts })
}

/// The numbers of a constant input.
fn values(graph: &GraphProto, node: &NodeProto, slot: usize) -> Option<Vec<f64>> {
    let name = node.input.get(slot)?;
    if let Some(tensor) = graph.initializer.iter().find(|t| t.name == *name) {
        return numbers::read(tensor);
    }
    let constant = graph.node.iter().find(|n| n.op_type == "Constant" && n.output.first() == Some(name))?;
    constant.attribute.iter().find(|a| a.name == "value").and_then(|a| numbers::read(a.t.as_ref()?))
}
