//! Constant indices and lengths outside their axis: the kernel would fail on every run, so the model is refused. Those in a sub-graph are left to its runs.

use crate::error::Refusal;
use egret_ir::{Graph, Node, Op, Tensor};

/// The nodes of a graph of constant shapes whose constant indices or lengths are out of range.
pub fn refusals(graph: &Graph) -> Vec<Refusal> {
    let one = |n| fault(graph, graph.node(n)).map(|reason| Refusal::of_wrong_node(graph, n, reason));
    graph.node_ids().into_iter().filter_map(one).collect()
}

fn fault(graph: &Graph, node: &Node) -> Option<String> {
    let at = match node.op {
        Op::Lstm | Op::Gru | Op::Rnn => 4,
        _ => 1,
    };
    let constant = |i: usize| node.operands.get(i).copied().flatten().and_then(|v| graph.as_const(v));
    let x = graph.ty(node.operands.first().copied().flatten()?).as_tensor()?;
    let dims: Vec<i64> = x.const_dims()?.into_iter().map(|d| d as i64).collect();
    let axis = |name: &str| dims.get(node.attrs.index(name)).copied();
    match node.op {
        Op::Gather | Op::GatherElements | Op::ScatterElements => index(constant(at)?, &[axis("axis")?]),
        Op::GatherNd => tuple(constant(at)?, dims.get(node.attrs.index("batch_dims")..)?),
        Op::ScatterNd => tuple(constant(at)?, &dims),
        Op::ReverseSequence => length(constant(at)?, axis("time_axis")?),
        Op::Lstm | Op::Gru | Op::Rnn => length(constant(at)?, *dims.first()?),
        _ => None,
    }
}

/// The first index that is out of range, where they name these axes in turn.
fn index(t: &Tensor, extents: &[i64]) -> Option<String> {
    let indices = t.to_i64s()?;
    let wrong = |(&i, &n): (&i64, &i64)| !(-n..n).contains(&i);
    let (i, n) = indices.iter().zip(extents.iter().cycle()).find(|pair| wrong(*pair))?;
    Some(format!("index {i} is out of range for {n} elements"))
}

fn tuple(t: &Tensor, dims: &[i64]) -> Option<String> {
    index(t, dims.get(..*t.shape().last()?)?)
}

fn length(t: &Tensor, steps: i64) -> Option<String> {
    let wrong = t.to_i64s()?.into_iter().find(|l| !(0..=steps).contains(l))?;
    Some(format!("{wrong} is out of range, 0 to {steps} is right"))
}
