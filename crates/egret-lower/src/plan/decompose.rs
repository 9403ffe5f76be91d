//! Operations without a kernel of their own, as the operations that they are made of, before nodes are
//! grouped.
//!
//! `attention` becomes two products and a softmax: scale and mask then run on the sums of the first product
//! or inside the softmax, like any elementwise neighbours. Smaller floats are computed in f32 throughout
//! and rounded once.
//!
//! A `matmul` by one column becomes the sum of each row times that column, which reads whole vectors of a row: a tile's vectors
//! are of columns.

use egret_ir::{Builder, DType, Graph, Node, NodeId, Op, Tensor, TypeError, ValueId, attrs};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// For each node that stands for a part of another one: that one, by its number in the graph before.
pub type Origins = BTreeMap<NodeId, NodeId>;

/// The graph with such nodes replaced, and what they were; itself where there are none.
///
/// # Errors
/// A rule of types that the replacement breaks, which an unverified graph may cause.
pub fn decompose(graph: &Graph) -> Result<(Cow<'_, Graph>, Origins), TypeError> {
    let decomposes = |n: &NodeId| graph.node(*n).op == Op::Attention || is_by_column(graph, graph.node(*n));
    let nodes: Vec<_> = graph.node_ids().into_iter().filter(decomposes).collect();
    if nodes.is_empty() {
        return Ok((Cow::Borrowed(graph), Origins::new()));
    }
    let mut origins = Origins::new();
    let mut b = Builder::from_graph(graph.clone());
    for id in nodes {
        // Read anew: operands may be results of a node that has been replaced.
        let node = b.graph.node(id).clone();
        b.set_sources(node.sources.clone());
        let before: BTreeSet<NodeId> = b.graph.node_ids().into_iter().collect();
        let result = match node.op {
            Op::Matmul => by_column(&mut b, &node)?,
            _ => attention(&mut b, &node)?,
        };
        // A number that is free again is given out again: the last word counts.
        origins.extend(b.graph.node_ids().into_iter().filter(|n| !before.contains(n)).map(|n| (n, id)));
        b.graph.replace_uses(node.results[0], result);
        b.graph.remove_node(id);
    }
    Ok((Cow::Owned(b.graph), origins))
}

fn attention(b: &mut Builder, node: &Node) -> Result<ValueId, TypeError> {
    let (q, k, v) = (node.operand(0), node.operand(1), node.operand(2));
    let dtype = b.tensor_ty(q).dtype;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (q, k, v) = (cast(b, q, wide)?, cast(b, k, wide)?, cast(b, v, wide)?);
    let turned = turned(b, k)?;
    let mut scores = b.emit(Op::Matmul, attrs!(), &[q, turned])?;
    let scale = node.attrs.float("scale");
    if scale != 1.0 {
        let scale = number(b, scale, wide);
        scores = b.emit(Op::Mul, attrs!(), &[scores, scale])?;
    }
    if let Some(&Some(mask)) = node.operands.get(3) {
        scores = if b.tensor_ty(mask).dtype == DType::Bool {
            let fill = number(b, node.attrs.float("fill"), wide);
            b.emit(Op::Where, attrs!(), &[mask, scores, fill])?
        } else {
            let mask = cast(b, mask, wide)?;
            b.emit(Op::Add, attrs!(), &[scores, mask])?
        };
    }
    let axis = b.tensor_ty(scores).rank() as i64 - 1;
    let mut shares = b.emit(Op::Softmax, attrs! { axis: axis }, &[scores])?;
    if node.attrs.flag("safe") {
        let nan = b.emit(Op::IsNan, attrs!(), &[shares])?;
        let zero = number(b, 0.0, wide);
        shares = b.emit(Op::Where, attrs!(), &[nan, zero, shares])?;
    }
    let result = b.emit(Op::Matmul, attrs!(), &[shares, v])?;
    cast(b, result, dtype)
}

/// Rows of at least so many elements are read in vectors: of fewer, their sum takes longer than their products.
const LONG_ROW: i64 = 64;

/// Whether a node is a product of floats by one column, with long rows.
fn is_by_column(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Matmul {
        return false;
    }
    let dims = |i: usize| {
        let ty = graph.ty(node.operand(i)).as_tensor()?;
        let dims: Option<Vec<i64>> = ty.shape.iter().map(|d| d.as_const()).collect();
        matches!(ty.dtype, DType::F32 | DType::F64).then_some(dims?)
    };
    match (dims(0), dims(1)) {
        (Some(x), Some(w)) => {
            x.len() >= 2 && w.len() >= 2 && w.last() == Some(&1) && x.last().is_some_and(|k| *k >= LONG_ROW)
        }
        _ => false,
    }
}

fn by_column(b: &mut Builder, node: &Node) -> Result<ValueId, TypeError> {
    let (x, column) = (node.operand(0), node.operand(1));
    let mut dims = b.tensor_ty(column).shape.to_vec();
    let rank = dims.len();
    dims.swap(rank - 2, rank - 1);
    let row = b.emit(Op::Reshape, attrs! { shape: dims }, &[column])?;
    let products = b.emit(Op::Mul, attrs!(), &[x, row])?;
    let last = b.tensor_ty(products).rank() as i64 - 1;
    b.emit(Op::Reduce, attrs! { axes: vec![last], keepdims: 1i64, kind: "sum" }, &[products])
}

/// A scalar of f64 or f32.
fn number(b: &mut Builder, v: f64, dtype: DType) -> ValueId {
    b.constant(if dtype == DType::F64 { Tensor::scalar(v) } else { Tensor::scalar(v as f32) })
}

/// k with its last two axes exchanged. Where k itself is transposed (heads split off a projection), one
/// transpose does both.
fn turned(b: &mut Builder, k: ValueId) -> Result<ValueId, TypeError> {
    let rank = b.tensor_ty(k).rank();
    let mut from = k;
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    if let Some(node) = b.graph.producer(k).map(|n| b.graph.node(n)).filter(|n| n.op == Op::Transpose) {
        from = node.operand(0);
        perm = node.attrs.ints("perm").to_vec();
    }
    perm.swap(rank - 2, rank - 1);
    b.emit(Op::Transpose, attrs! { perm: perm }, &[from])
}

fn cast(b: &mut Builder, x: ValueId, to: DType) -> Result<ValueId, TypeError> {
    if b.tensor_ty(x).dtype == to {
        return Ok(x);
    }
    b.emit(Op::Cast, attrs! { to: to, saturate: 0i64, round: "nearest" }, &[x])
}
