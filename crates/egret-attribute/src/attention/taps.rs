//! Taps: outputs of a graph with the shares of its attentions.

use egret::ir::{Attrs, Builder, DType, Graph, Node, NodeId, Op, Tensor, TypeError, ValueId, attrs};
use egret::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Where shares come out.
pub(super) struct Tap {
    /// The ONNX node that the shares are of.
    pub name: String,
    /// Whether it is of an `attention`; else of a softmax that no rule made part of one.
    pub fused: bool,
    /// Whether the model computes it in f64.
    pub wide: bool,
}

/// A graph with taps.
pub(super) struct Tapped {
    pub graph: Graph,
    pub taps: Vec<Tap>,
    /// The shares of each tap.
    pub values: Vec<ValueId>,
    /// Attentions inside bodies of loops and branches, which have no one value.
    pub hidden: usize,
}

/// What becomes of the graph that is tapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// The shares are its only outputs.
    Shares,
    /// Its own stay, and are computed from the shares.
    Own,
}

/// A graph on which the passes have found attentions, with the shares of each, in the order of computation.
pub(super) fn tapped(graph: Graph, outputs: Outputs) -> Result<Tapped> {
    let order =
        graph.topological().map_err(|n| Error::internal(format!("{n} of the graph lies on a cycle")))?;
    let mut b = Builder::from_graph(graph);
    let (mut taps, mut values, mut named, mut hidden) = (vec![], vec![], BTreeMap::new(), 0);
    for id in order {
        let node = b.graph.node(id).clone();
        hidden += node.regions.iter().map(attentions_in).sum::<usize>();
        let fused = node.op == Op::Attention;
        let value = match node.op {
            Op::Attention => {
                let ill_typed = |e: TypeError| Error::internal(e.to_string());
                let shares = shares(&mut b, &node).map_err(ill_typed)?;
                if outputs == Outputs::Own {
                    let sums = weighed(&mut b, &node, shares).map_err(ill_typed)?;
                    b.graph.replace_uses(node.results[0], sums);
                }
                shares
            }
            Op::Softmax if weighs(&b.graph, id) => node.results[0],
            _ => continue,
        };
        let wide = b.tensor_ty(node.results[0]).dtype == DType::F64;
        let name = name(&b.graph, &node);
        let count = named.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
        let name = if *count > 1 { format!("{name}#{count}") } else { name };
        values.push(value);
        taps.push(Tap { name, fused, wide });
    }
    let mut graph = b.graph;
    if outputs == Outputs::Shares {
        graph.clear_outputs();
        values.iter().enumerate().for_each(|(i, &v)| graph.add_output(&format!("shares.{i}"), v));
    }
    graph.remove_dead();
    Ok(Tapped { graph, taps, values, hidden })
}

/// Attentions and softmaxes that weigh values, in a graph and the bodies within it.
fn attentions_in(graph: &Graph) -> usize {
    let one = |id: NodeId| {
        let node = graph.node(id);
        let itself = node.op == Op::Attention || node.op == Op::Softmax && weighs(graph, id);
        usize::from(itself) + node.regions.iter().map(attentions_in).sum::<usize>()
    };
    graph.node_ids().into_iter().map(one).sum()
}

/// The shares of an `attention`: the interpreter's definition, operation by operation, in the f64 that it computes in.
fn shares(b: &mut Builder, node: &Node) -> std::result::Result<ValueId, TypeError> {
    b.set_sources(node.sources.clone());
    let (q, k) = (wide(b, node.operand(0))?, wide(b, node.operand(1))?);
    let rank = b.tensor_ty(k).rank();
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    let turned = b.emit(Op::Transpose, attrs! { perm: perm }, &[k])?;
    let product = b.emit(Op::Matmul, attrs!(), &[q, turned])?;
    let scale = b.constant(Tensor::scalar(node.attrs.float("scale")));
    let mut scores = b.emit(Op::Mul, attrs!(), &[product, scale])?;
    if let Some(&Some(mask)) = node.operands.get(3) {
        scores = if b.tensor_ty(mask).dtype == DType::Bool {
            let fill = b.constant(Tensor::scalar(node.attrs.float("fill")));
            b.emit(Op::Where, attrs!(), &[mask, scores, fill])?
        } else {
            let mask = wide(b, mask)?;
            b.emit(Op::Add, attrs!(), &[scores, mask])?
        };
    }
    let axis = b.tensor_ty(scores).rank() as i64 - 1;
    let shares = b.emit(Op::Softmax, attrs! { axis: axis }, &[scores])?;
    if !node.attrs.flag("safe") {
        return Ok(shares);
    }
    let nan = b.emit(Op::IsNan, attrs!(), &[shares])?;
    let zero = b.constant(Tensor::scalar(0f64));
    b.emit(Op::Where, attrs!(), &[nan, zero, shares])
}

/// The result of an `attention` from its shares, in its own type.
fn weighed(b: &mut Builder, node: &Node, shares: ValueId) -> std::result::Result<ValueId, TypeError> {
    let v = wide(b, node.operand(2))?;
    let sums = b.emit(Op::Matmul, attrs!(), &[shares, v])?;
    let dtype = b.tensor_ty(node.results[0]).dtype;
    cast(b, sums, dtype)
}

fn wide(b: &mut Builder, x: ValueId) -> std::result::Result<ValueId, TypeError> {
    cast(b, x, DType::F64)
}

fn cast(b: &mut Builder, x: ValueId, to: DType) -> std::result::Result<ValueId, TypeError> {
    if b.tensor_ty(x).dtype == to {
        return Ok(x);
    }
    let attrs: Attrs = attrs! { to: to, saturate: 0i64, round: "nearest" };
    b.emit(Op::Cast, attrs, &[x])
}

/// Whether a softmax is that of an attention: along the last axis, of a product of two values that are computed, and on its way
/// into another such product from the left.
fn weighs(graph: &Graph, softmax: NodeId) -> bool {
    let node = graph.node(softmax);
    let last = graph.ty(node.results[0]).as_tensor().is_some_and(|t| {
        let rank = t.rank() as i64;
        rank >= 2 && node.attrs.int("axis") == rank - 1
    });
    last && of_product(graph, node.operand(0)) && into_product(graph, node.results[0])
}

/// What may stand between a product and the softmax: numbers are changed, and axes are split and joined.
fn passes_on(op: Op) -> bool {
    op.is_elementwise() || matches!(op, Op::Cast | Op::Reshape | Op::Transpose | Op::Broadcast)
}

fn computed(graph: &Graph, v: ValueId) -> bool {
    graph.as_const(v).is_none()
}

fn of_product(graph: &Graph, value: ValueId) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![value]);
    while let Some(v) = open.pop() {
        let Some(node) = graph.producer(v).filter(|_| seen.insert(v)).map(|n| graph.node(n)) else {
            continue;
        };
        if node.op == Op::Matmul && node.operands.iter().flatten().all(|&v| computed(graph, v)) {
            return true;
        }
        if passes_on(node.op) {
            open.extend(node.operands.iter().flatten());
        }
    }
    false
}

fn into_product(graph: &Graph, value: ValueId) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![value]);
    while let Some(v) = open.pop() {
        if !seen.insert(v) {
            continue;
        }
        for user in graph.users(v) {
            let node = graph.node(user);
            if node.op == Op::Matmul && node.operand(0) == v && computed(graph, node.operand(1)) {
                return true;
            }
            if passes_on(node.op) {
                open.extend(&node.results);
            }
        }
    }
    false
}

/// The ONNX node that shares are named by: an attention, else the softmax, else the first; without any, the value.
fn name(graph: &Graph, node: &Node) -> String {
    let of = |what: &str| {
        node.sources.iter().find(|s| s.split(':').next().is_some_and(|op| op.contains(what))).cloned()
    };
    let value = || match graph.value(node.results[0]).name.as_str() {
        "" => node.results[0].to_string(),
        name => name.to_owned(),
    };
    of("Attention")
        .or_else(|| of("Softmax"))
        .or_else(|| node.sources.first().cloned())
        .unwrap_or_else(value)
}
