//! Ways through a graph: what a value depends on, and the layer that Grad-CAM looks at.

use crate::numbers::to_f64;
use crate::target::real;
use egret::ir::{Graph, Node, Op, Type, ValueId};
use egret::{Error, Result, grad};

/// By value: whether `of` depends on it.
pub(crate) fn upstream(graph: &Graph, of: ValueId) -> Vec<bool> {
    let mut seen = vec![false; graph.value_count()];
    let mut open = vec![of];
    while let Some(v) = open.pop() {
        if std::mem::replace(&mut seen[v.0 as usize], true) {
            continue;
        }
        if let Some(n) = graph.producer(v) {
            open.extend(graph.node(n).operands.iter().flatten());
        }
    }
    seen
}

/// By value: whether it depends on one of `on`.
pub(crate) fn downstream(graph: &Graph, on: &[ValueId]) -> Result<Vec<bool>> {
    let mut seen = vec![false; graph.value_count()];
    on.iter().for_each(|v| seen[v.0 as usize] = true);
    for node in nodes(graph)? {
        if node.operands.iter().flatten().any(|v| seen[v.0 as usize]) {
            node.results.iter().for_each(|v| seen[v.0 as usize] = true);
        }
    }
    Ok(seen)
}

fn nodes(graph: &Graph) -> Result<Vec<&Node>> {
    let order =
        graph.topological().map_err(|n| Error::internal(format!("{n} of the graph lies on a cycle")))?;
    Ok(order.into_iter().map(|n| graph.node(n)).collect())
}

/// A layer of feature maps.
pub(crate) struct Layer {
    pub value: ValueId,
    pub name: String,
}

/// The layer of a name, or the last convolution between `on` and `of` with its bias and, if `rectified`, a ReLU behind it.
pub(crate) fn layer(
    graph: &Graph,
    of: ValueId,
    on: &[ValueId],
    name: Option<&str>,
    rectified: bool,
) -> Result<Layer> {
    let layer = match name {
        Some(name) => Layer { value: by_name(graph, name)?, name: name.to_owned() },
        None => last_convolution(graph, of, on, rectified)?,
    };
    let ty = graph.ty(layer.value);
    match ty {
        Type::Tensor(t) if real(t.dtype) && t.rank() >= 3 => Ok(layer),
        _ => Err(Error::user(format!(
            "the layer `{}` is {ty}, but feature maps are floats of samples, channels and one or more axes of places",
            layer.name
        ))),
    }
}

/// A value's name, or that of an ONNX node (`Conv:/conv2/Conv` or `/conv2/Conv`), which stands for its last result.
fn by_name(graph: &Graph, name: &str) -> Result<ValueId> {
    if let Some(v) = grad::find(graph, name) {
        return Ok(v);
    }
    let all = nodes(graph)?;
    let is_it = |source: &String| source == name || source.split_once(':').is_some_and(|(_, n)| n == name);
    let made = all.iter().rev().find(|n| n.sources.iter().any(is_it)).and_then(|n| n.results.first());
    made.copied().ok_or_else(|| {
        let convolutions = all.iter().filter(|n| is_convolution(n.op)).flat_map(|n| n.sources.iter());
        let list: Vec<String> = convolutions.map(|s| format!("`{s}`")).collect();
        Error::user(match list.is_empty() {
            true => format!("the model has no value or node `{name}`, and no convolution; `egret print` shows the names"),
            false => format!(
                "the model has no value or node `{name}`; its convolutions are {}, `egret print` shows the other names",
                list.join(", ")
            ),
        })
    })
}

fn is_convolution(op: Op) -> bool {
    matches!(op, Op::Conv | Op::ConvTranspose | Op::DeformConv)
}

/// The larger of a value and the constant 0.
fn is_relu(graph: &Graph, node: &Node) -> bool {
    let zero = |v: &ValueId| {
        let constant = graph.as_const(*v).map(|t| to_f64(&t.clone().into()));
        constant.is_some_and(|c| c.is_ok_and(|c| c.iter().all(|x| *x == 0.0)))
    };
    node.op == Op::Max && node.operands.iter().flatten().any(zero)
}

fn last_convolution(graph: &Graph, of: ValueId, on: &[ValueId], rectified: bool) -> Result<Layer> {
    let (reaching, reached) = (upstream(graph, of), downstream(graph, on)?);
    let between = |v: ValueId| reaching[v.0 as usize] && reached[v.0 as usize];
    let all = nodes(graph)?;
    let found = all.iter().rev().find(|n| is_convolution(n.op) && between(n.results[0]));
    let node = found.ok_or_else(|| {
        Error::user("there is no convolution between the inputs and the target; name a value of feature maps by --layer")
    })?;
    // Its bias is a node of its own.
    let mut value = node.results[0];
    while let [user] = graph.users(value)[..] {
        let next = graph.node(user);
        if next.sources != node.sources || next.sources.is_empty() || !between(next.results[0]) {
            break;
        }
        value = next.results[0];
    }
    let mut node = *node;
    if let [user] = graph.users(value)[..]
        && rectified
        && is_relu(graph, graph.node(user))
        && between(graph.node(user).results[0])
    {
        node = graph.node(user);
        value = node.results[0];
    }
    let name = match (graph.value(value).name.as_str(), node.sources.first()) {
        ("", Some(source)) => source.clone(),
        ("", None) => value.to_string(),
        (name, _) => name.to_owned(),
    };
    Ok(Layer { value, name })
}
