//! What compiled code cannot hold at all: strings, sequences, sub-graphs, shapes that are not constant.

use crate::error::Refusal;
use egret_ir::{DType, Graph, Op, Type};

/// Whether a shape of the graph is not constant.
pub fn has_open_shapes(graph: &Graph) -> bool {
    let open = |v: egret_ir::ValueId| graph.ty(v).as_tensor().is_none_or(|t| t.const_dims().is_none());
    graph.inputs().iter().any(|&v| open(v))
        || graph.node_ids().iter().any(|&n| graph.node(n).results.iter().any(|&v| open(v)))
}

/// Everything in a graph that cannot be compiled; `refusal` says why an operation never is.
pub fn graph(graph: &Graph, refusal: fn(Op) -> Option<&'static str>) -> Vec<Refusal> {
    let mut out = vec![];
    for &v in graph.inputs() {
        if let Err(reason) = holdable(graph.ty(v)) {
            out.push(Refusal::of_graph(format!("input `{}`: {reason}", graph.value(v).name)));
        }
    }
    for (&v, name) in graph.outputs().iter().zip(graph.output_names()) {
        if graph.producer(v).is_none()
            && let Err(reason) = holdable(graph.ty(v))
        {
            out.push(Refusal::of_graph(format!("output `{name}`: {reason}")));
        }
    }
    for id in graph.node_ids() {
        let node = graph.node(id);
        let reason = if let Some(reason) = refusal(node.op) {
            Some(reason.to_owned())
        } else if node.operands.iter().flatten().all(|&v| holdable(graph.ty(v)).is_ok()) {
            // Where an operand is at fault, its producer has been named already.
            node.results.iter().find_map(|&v| holdable(graph.ty(v)).err())
        } else if node
            .operands
            .iter()
            .flatten()
            .any(|&v| graph.ty(v).as_tensor().is_some_and(|t| t.dtype == DType::String))
        {
            Some("works on strings, which compiled code does not hold".to_owned())
        } else {
            None
        };
        out.extend(reason.map(|r| Refusal::of_node(graph, id, r)));
    }
    out
}

fn holdable(ty: &Type) -> Result<(), String> {
    let Type::Tensor(t) = ty else { return Err(format!("is {ty}, and compiled code holds tensors only")) };
    if t.dtype == DType::String {
        return Err("is a tensor of strings, which compiled code does not hold".into());
    }
    if t.const_dims().is_none() {
        let mut symbols = vec![];
        t.shape.iter().for_each(|d| d.collect_symbols(&mut symbols));
        return Err(format!(
            "has the shape {t}; bind its dims with `--dim {}=N`",
            symbols.first().map_or("NAME", |s| s)
        ));
    }
    Ok(())
}
