//! What compiled code cannot hold at all: strings, sequences, sub-graphs, shapes that are not constant,
//! tensors that are too large (`geometry::size`).

use crate::error::Refusal;
use crate::geometry::size;
use egret_ir::{Attr, Attrs, DType, Graph, Node, Op, TensorType, Type, advice};

/// Whether a shape or attribute of the graph is not constant, or a tensor is too large.
/// Where this is `false`, all dims and lengths that lowering asks for are known.
pub fn has_open_dims(graph: &Graph) -> bool {
    let open = |v: egret_ir::ValueId| graph.ty(v).as_tensor().is_none_or(|t| unholdable(t, &[]).is_some());
    graph.inputs().iter().any(|&v| open(v))
        || graph
            .node_ids()
            .iter()
            .map(|&n| graph.node(n))
            .any(|node| node.results.iter().any(|&v| open(v)) || open_attribute(&node.attrs, &[]).is_some())
}

/// Everything in a graph that cannot be compiled; `refusal` says why an operation never is.
pub fn graph(graph: &Graph, refusal: fn(Op) -> Option<&'static str>) -> Vec<Refusal> {
    let mut out = vec![];
    let free = graph.free_dims();
    for &v in graph.inputs() {
        if let Err(reason) = holdable(graph.ty(v), &free) {
            out.push(Refusal::of_graph(format!("input `{}`: {reason}", graph.value(v).name)));
        }
    }
    for (&v, name) in graph.outputs().iter().zip(graph.output_names()) {
        if graph.producer(v).is_none()
            && let Err(reason) = holdable(graph.ty(v), &free)
        {
            out.push(Refusal::of_graph(format!("output `{name}`: {reason}")));
        }
    }
    for id in graph.node_ids() {
        let reason = node_refusal(graph, graph.node(id), &free, refusal);
        out.extend(reason.map(|r| Refusal::of_node(graph, id, r)));
    }
    out
}

/// What is never compiled, whatever dims are.
pub fn refused(graph: &Graph, refusal: fn(Op) -> Option<&'static str>) -> Vec<Refusal> {
    let inputs = graph.inputs().iter().filter_map(|&v| {
        let reason = host_value(graph.ty(v))?;
        Some(Refusal::of_graph(format!("input `{}`: {reason}", graph.value(v).name)))
    });
    let nodes = graph.node_ids().into_iter().filter_map(|id| {
        let node = graph.node(id);
        let result = || node.results.iter().find_map(|&v| host_value(graph.ty(v)));
        let reason = refusal(node.op).map(str::to_owned).or_else(result);
        Some(Refusal::of_node(graph, id, reason.or_else(|| strings(graph, node))?))
    });
    inputs.chain(nodes).collect()
}

/// Why a node that reads strings is not compiled.
fn strings(graph: &Graph, node: &Node) -> Option<String> {
    let is_text =
        |v: &egret_ir::ValueId| graph.ty(*v).as_tensor().is_some_and(|t| t.dtype == DType::String);
    let any = node.operands.iter().flatten().any(is_text);
    any.then(|| "works on strings, which compiled code does not hold".to_owned())
}

/// `free`: the free dims of the graph.
fn node_refusal(
    graph: &Graph,
    node: &Node,
    free: &[String],
    refusal: fn(Op) -> Option<&'static str>,
) -> Option<String> {
    if let Some(reason) = refusal(node.op) {
        return Some(reason.to_owned());
    }
    let operands = || node.operands.iter().flatten().map(|&v| graph.ty(v));
    // Where an operand is at fault, its producer has been named already.
    if operands().all(|ty| holdable(ty, free).is_ok())
        && let Some(reason) = node.results.iter().find_map(|&v| holdable(graph.ty(v), free).err())
    {
        return Some(reason);
    }
    strings(graph, node).or_else(|| open_attribute(&node.attrs, free))
}

/// Why a node with an attribute that depends on symbols cannot be compiled.
fn open_attribute(attrs: &Attrs, free: &[String]) -> Option<String> {
    attrs.0.iter().find_map(|(name, attr)| {
        let dims = match attr {
            Attr::Dim(d) => std::slice::from_ref(d),
            Attr::Dims(dims) => dims,
            _ => return None,
        };
        let open = dims.iter().find(|d| d.as_const().is_none())?;
        let remedy = advice::to_be_constant([open], free);
        Some(format!("has `{name}` = {open}, which is not constant: {remedy}"))
    })
}

/// Why a tensor has no known size: dims that are not constant, or too many bytes.
fn unholdable(t: &TensorType, free: &[String]) -> Option<String> {
    let Some(dims) = t.const_dims() else {
        return Some(format!("has the shape {t}: {}", advice::to_be_constant(&t.shape[..], free)));
    };
    let dims: Option<Vec<i64>> = dims.into_iter().map(|d| i64::try_from(d).ok()).collect();
    let fits = size::bytes(&dims.unwrap_or(vec![i64::MAX]), t.dtype.size());
    fits.err().map(|e| format!("of the shape {t} {e}"))
}

fn holdable(ty: &Type, free: &[String]) -> Result<(), String> {
    let reason = host_value(ty).or_else(|| unholdable(ty.as_tensor()?, free));
    reason.map_or(Ok(()), Err)
}

/// Why a value of a type is the host's alone: strings, sequences, optionals, maps. Nothing for what compiled code holds.
pub fn host_value(ty: &Type) -> Option<String> {
    match ty.as_tensor() {
        None => Some(format!("is {ty}, and compiled code holds tensors only")),
        Some(t) if t.dtype == DType::String => {
            Some("is a tensor of strings, which compiled code does not hold".to_owned())
        }
        Some(_) => None,
    }
}
