//! Dims that data decides: how many elements a node can find at most.

use crate::geometry::shape::volume;
use egret_ir::{Dim, DimOp, Graph, Node, NodeId, Op, ValueId, symbolic};

/// The dims of a node's results that data decides, and the most that each can be; each once. `is_bounded`: whether a dim is at most what it is
/// for the most of what data decides before the node.
pub fn of(graph: &Graph, id: NodeId, is_bounded: impl Fn(&Dim) -> bool) -> Vec<(String, Dim)> {
    let node = graph.node(id);
    let shape = |v: ValueId| graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec());
    let x = node.operands.first().copied().flatten().map_or(vec![], shape);
    let most = match node.op {
        Op::Nonzero => volume(&x),
        Op::Compress => shape(node.operand(1)).first().cloned().unwrap_or(Dim::constant(0)),
        Op::Unique if node.attrs.flag("flat") => volume(&x),
        Op::Unique => x[node.attrs.index("axis")].clone(),
        // Of every class of every batch all boxes, or as many as are asked for.
        Op::Nms => {
            let scores = shape(node.operand(1));
            let asked = node.operands.get(2).copied().flatten();
            let asked = match asked.map(|v| graph.as_const(v)) {
                Some(Some(t)) => t.to_i64s().and_then(|n| Some(Dim::constant((*n.first()?).max(0)))),
                Some(None) => None,
                None => Some(Dim::constant(0)),
            };
            let of_class = match (asked, scores[2].as_const()) {
                (Some(asked), Some(n)) => Dim::constant(asked.as_const().unwrap_or(n).min(n)),
                (Some(asked), None) => asked.op(DimOp::Min, &scores[2]),
                (None, _) => scores[2].clone(),
            };
            scores[0].clone() * scores[1].clone() * of_class
        }
        Op::Loop | Op::Range => return counted(graph, node, is_bounded),
        _ => return vec![],
    };
    let mut out: Vec<(String, Dim)> = vec![];
    for dim in node.results.iter().flat_map(|&v| shape(v)) {
        let declared = dim.as_symbol().filter(|s| node.attrs.declared().iter().flatten().any(|d| d == s));
        if let Some(name) = declared
            && out.iter().all(|(n, _)| n != name)
        {
            out.push((name.to_owned(), most.clone()));
        }
    }
    out
}

/// The dims that a loop or a range declares: as many elements as the node says, or else as often as the loop runs at most, and what the range
/// counts to, if the dims of the graph's inputs decide that.
fn counted(graph: &Graph, node: &Node, is_bounded: impl Fn(&Dim) -> bool) -> Vec<(String, Dim)> {
    let trips = match node.op == Op::Range || node.attrs.flag("has_trip_count") {
        true => rounds(graph, node.operand(0)).filter(&is_bounded),
        false => None,
    };
    let trips = trips.map(|trips| trips.op(DimOp::Max, &Dim::constant(0)));
    // A loop counts what it stacks: the first dim of the results behind those that it carries.
    let carried = if node.op == Op::Loop { node.attrs.index("carried") } else { 0 };
    let dims = node.results.iter().enumerate().flat_map(|(i, &v)| {
        graph.ty(v).fixed_dims().iter().enumerate().map(move |(axis, dim)| (dim, i >= carried && axis == 0))
    });
    let mut out: Vec<(String, Dim)> = vec![];
    for (place, (name, (dim, is_counted))) in node.attrs.declared().iter().zip(dims).enumerate() {
        if !is_counted {
            continue;
        }
        let said = node.attrs.at_most(place).filter(|most| is_bounded(most)).cloned();
        if let (Some(name), Some(most)) = (name, said.or_else(|| trips.clone()))
            // Where passes have found out what a dim is, nothing has to be found.
            && dim.as_symbol() == Some(name)
            && out.iter().all(|(n, _)| n != name)
        {
            out.push((name.clone(), most));
        }
    }
    out
}

/// The trip count of a loop, or the number of elements of a range, if it is made of dims.
fn rounds(graph: &Graph, trips: ValueId) -> Option<Dim> {
    symbolic::content(graph, trips)?.into_iter().next()
}
