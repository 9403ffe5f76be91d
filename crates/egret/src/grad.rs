//! Gradients of a model as a graph that runs, prints and compiles like any other.

use crate::error::{Error, Result};
use egret_grad::GradError;
use egret_ir::{Graph, Type, ValueId, verify};

pub use egret_grad::{Of, Shares, find};

/// What is differentiated, by the model's own names: of inputs, outputs, intermediates and weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `logits[3]`: the element at an index of the last axes, summed over the others; `loss`: the sum of all elements.
    pub of: String,
    /// The values to differentiate by. Weights among them have to be named when the model is imported, by [`crate::ImportOptions::apart`] or
    /// [`crate::source::Request::apart`], to be told from equal constants. If there are none, every float input that the model uses.
    pub wrt: Vec<String>,
    /// Whether a further input `seed` weighs the elements of `of`, which then has no index: the vector-Jacobian product.
    pub seeded: bool,
}

/// The graph that computes the value and its gradients: outputs `NAME` and `grad.NAME` for each of [`Request::wrt`].
///
/// # Errors
/// Unknown names, an index out of range; unsupported: nodes that have no derivative.
pub fn gradient(graph: &Graph, request: &Request) -> Result<Graph> {
    let (value, index) = target(graph, &request.of)?;
    let of = match (request.seeded, index) {
        (true, index) if !index.is_empty() => {
            return Err(Error::user(format!(
                "`{}`: a seed weighs all elements; leave the index out",
                request.of
            )));
        }
        (true, _) => Of::Seeded(value),
        (false, index) => Of::Element(value, index),
    };
    let wrt = if request.wrt.is_empty() {
        inputs(graph)?
    } else {
        request.wrt.iter().map(|name| named(graph, name)).collect::<Result<_>>()?
    };
    differentiate(graph, &of, &wrt)
}

/// As [`gradient`], of values that were found already.
///
/// # Errors
/// As [`gradient`].
pub fn differentiate(graph: &Graph, of: &Of, wrt: &[ValueId]) -> Result<Graph> {
    sound(egret_grad::grad(graph, of, wrt))
}

/// The graph that computes the value and shares it out, weighed by a further input `seed`, among values: outputs `NAME` and
/// `relevance.NAME` for each of `wrt` (see [`egret_grad::relevance`]).
///
/// # Errors
/// Unsupported: nodes that have no rule; a value on which the other does not depend.
pub fn relevance(graph: &Graph, of: ValueId, shares: Shares, wrt: &[ValueId]) -> Result<Graph> {
    sound(egret_grad::relevance(graph, of, shares, wrt))
}

/// What was made, if it can run.
fn sound(made: std::result::Result<Graph, GradError>) -> Result<Graph> {
    let graph = made.map_err(|e| match e {
        GradError::NotDifferentiable(_) | GradError::NoRelevance(_) => Error::unsupported(e.to_string()),
        GradError::Rule(..) => Error::internal(e.to_string()),
        GradError::Request(_) | GradError::NoPath { .. } => Error::user(e.to_string()),
    })?;
    if let Err(errors) = verify(&graph) {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Error::internal(format!("the gradient is no sound graph: {}", list.join("\n"))));
    }
    Ok(graph)
}

/// `name[index]`; a value whose name is the whole text goes first.
///
/// # Errors
/// No value has that name; an index that is none.
pub fn target(graph: &Graph, spelt: &str) -> Result<(ValueId, Vec<i64>)> {
    if let Some(value) = egret_grad::find(graph, spelt) {
        return Ok((value, vec![]));
    }
    let Some((name, index)) = spelt.strip_suffix(']').and_then(|s| s.rsplit_once('[')) else {
        return Ok((named(graph, spelt)?, vec![]));
    };
    let index = index.split(',').map(|i| i.trim().parse::<i64>().ok()).collect::<Option<_>>();
    let index = index
        .ok_or_else(|| Error::user(format!("`{spelt}`: write the index as in logits[3] or x[0,2]")))?;
    Ok((named(graph, name)?, index))
}

fn named(graph: &Graph, name: &str) -> Result<ValueId> {
    egret_grad::find(graph, name).ok_or_else(|| {
        let inputs = graph.inputs().iter().map(|&v| graph.value(v).name.clone());
        let all: Vec<String> =
            inputs.chain(graph.output_names().iter().cloned()).map(|n| format!("`{n}`")).collect();
        let named: Vec<&str> =
            graph.value_ids().map(|v| graph.value(v).name.as_str()).filter(|n| !n.is_empty()).collect();
        let near = crate::near(name, named).join(", ");
        Error::user(format!(
            "the model has no value `{name}`; its inputs and outputs are {}; the nearest names are {near}; `egret print MODEL` shows all",
            all.join(", ")
        ))
    })
}

/// The float inputs that the model uses.
fn inputs(graph: &Graph) -> Result<Vec<ValueId>> {
    let float = |v: &ValueId| matches!(graph.ty(*v), Type::Tensor(t) if t.dtype.is_float());
    let used = |v: &ValueId| !graph.users(*v).is_empty();
    let inputs: Vec<ValueId> = graph.inputs().iter().copied().filter(|v| float(v) && used(v)).collect();
    if inputs.is_empty() {
        return Err(Error::user("no input of the model is a float tensor; name what to differentiate by"));
    }
    Ok(inputs)
}
