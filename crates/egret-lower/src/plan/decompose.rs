//! Operations without a kernel of their own, as the operations that they are made of, before nodes are
//! grouped.
//!
//! `attention` becomes two products and a softmax: scale and mask then run on the sums of the first product
//! or inside the softmax, like any elementwise neighbours. Smaller floats are computed in f32 throughout
//! and rounded once. Long sequences are computed some rows of queries at a time, so that no matrix of all scores is ever there.
//!
//! A `matmul` by one column becomes the sum of each row times that column, which reads whole vectors of a row: a tile's vectors
//! are of columns. It needs fusion, without which the products would be stored.

use super::cache;
use egret_ir::{Attrs, Builder, DType, Dim, Graph, Node, NodeId, Op, Tensor, TypeError, ValueId, attrs};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// For each node that stands for a part of another one: that one, by its number in the graph before.
pub type Origins = BTreeMap<NodeId, NodeId>;

/// The graph with such nodes replaced, and what they were; itself where there are none. `fuse`: nodes will be fused.
///
/// # Errors
/// A rule of types that the replacement breaks, which an unverified graph may cause.
pub fn decompose(graph: &Graph, fuse: bool) -> Result<(Cow<'_, Graph>, Origins), TypeError> {
    let decomposes =
        |n: &NodeId| graph.node(*n).op == Op::Attention || fuse && is_by_column(graph, graph.node(*n));
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
    // What keys and values were made of and nothing reads any more would still count as a reader of those.
    b.graph.remove_dead();
    Ok((Cow::Owned(b.graph), origins))
}

/// The most elements of the scores that are there at once, unless there are very many rows of queries: 4 MiB of f32.
const SCORES: i64 = 1 << 20;

/// The least rows of queries that are computed at a time, and the most parts: k and v are read again for each.
const QUERIES: i64 = 64;
const PARTS: i64 = 32;

/// Into how many parts the rows of queries are cut, whose scores have these dims.
fn parts(scores: &[Dim]) -> i64 {
    let dims: Option<Vec<i64>> = scores.iter().map(|d| d.as_const()).collect();
    let Some(&[queries, _]) = dims.as_ref().and_then(|d| d.last_chunk::<2>()) else { return 1 };
    let all = dims.iter().flatten().fold(1i64, |n, d| n.saturating_mul(*d));
    ((all - 1) / SCORES + 1).min((queries - 1) / QUERIES + 1).clamp(1, PARTS)
}

fn attention(b: &mut Builder, node: &Node) -> Result<ValueId, TypeError> {
    let (q, k, v) = (node.operand(0), node.operand(1), node.operand(2));
    let dtype = b.tensor_ty(q).dtype;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (q, k, v) = (cast(b, q, wide)?, cast(b, k, wide)?, cast(b, v, wide)?);
    let mask = node.operands.get(3).copied().flatten();
    if let Some((keys, values)) = cache::pieces(b, k, v)? {
        let keys = [turned(b, keys[0])?, turned(b, keys[1])?];
        let rows = rows(b, &node.attrs, q, (&keys, &values), mask)?;
        return cast(b, rows, dtype);
    }
    let turned = turned(b, k)?;
    let result = b.tensor_ty(node.results[0]).shape.to_vec();
    let rank = result.len();
    let keys = b.tensor_ty(turned).shape.last().cloned();
    let scores: Vec<Dim> = result[..rank - 1].iter().cloned().chain(keys).collect();
    let (count, queries) = (parts(&scores), scores[rank - 2].as_const().unwrap_or(0));
    if count == 1 {
        let rows = rows(b, &node.attrs, q, (&[turned], &[v]), mask)?;
        return cast(b, rows, dtype);
    }
    let mut made = vec![];
    for i in 0..count {
        let part = queries * i / count..queries * (i + 1) / count;
        let q = some_rows(b, q, &part)?;
        let mask = match mask {
            Some(mask) if has_rows(b, mask) => Some(some_rows(b, mask, &part)?),
            mask => mask,
        };
        made.push(rows(b, &node.attrs, q, (&[turned], &[v]), mask)?);
    }
    let all = b.emit(Op::Concat, attrs! { axis: rank as i64 - 2 }, &made)?;
    cast(b, all, dtype)
}

/// Whether a mask differs from one row of queries to the next.
fn has_rows(b: &Builder, mask: ValueId) -> bool {
    let shape = &b.tensor_ty(mask).shape;
    shape.len() >= 2 && shape[shape.len() - 2].as_const() != Some(1)
}

/// A range along the last axis but one.
fn some_rows(b: &mut Builder, x: ValueId, rows: &Range<i64>) -> Result<ValueId, TypeError> {
    let mut sizes = b.tensor_ty(x).shape.to_vec();
    let mut starts = vec![Dim::constant(0); sizes.len()];
    let axis = sizes.len() - 2;
    starts[axis] = Dim::constant(rows.start);
    sizes[axis] = Dim::constant(rows.end - rows.start);
    let steps = vec![1i64; sizes.len()];
    b.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
}

/// Attention of some rows of queries to keys and values that are one piece each, or several; keys with their last two axes exchanged.
fn rows(
    b: &mut Builder,
    attrs: &Attrs,
    q: ValueId,
    (turned, values): (&[ValueId], &[ValueId]),
    mask: Option<ValueId>,
) -> Result<ValueId, TypeError> {
    let wide = b.tensor_ty(q).dtype;
    let mut scores = cache::scores(b, q, turned)?;
    let scale = attrs.float("scale");
    if scale != 1.0 {
        let scale = number(b, scale, wide);
        scores = b.emit(Op::Mul, attrs!(), &[scores, scale])?;
    }
    if let Some(mask) = mask {
        scores = if b.tensor_ty(mask).dtype == DType::Bool {
            let fill = number(b, attrs.float("fill"), wide);
            b.emit(Op::Where, attrs!(), &[mask, scores, fill])?
        } else {
            let mask = cast(b, mask, wide)?;
            b.emit(Op::Add, attrs!(), &[scores, mask])?
        };
    }
    let axis = b.tensor_ty(scores).rank() as i64 - 1;
    let mut shares = b.emit(Op::Softmax, attrs! { axis: axis }, &[scores])?;
    if attrs.flag("safe") {
        let nan = b.emit(Op::IsNan, attrs!(), &[shares])?;
        let zero = number(b, 0.0, wide);
        shares = b.emit(Op::Where, attrs!(), &[nan, zero, shares])?;
    }
    cache::weighted(b, shares, values)
}

/// Whether a node is a product of floats by one column that is computed as sums of rows.
fn is_by_column(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Matmul {
        return false;
    }
    let (Some(x), Some(w)) = (graph.ty(node.operand(0)).as_tensor(), graph.ty(node.operand(1)).as_tensor())
    else {
        return false;
    };
    // A free number of rows is one of units; other free dims make kernels of one node, which are not fused.
    let constant = |shape: &[Dim]| shape.iter().all(|d| d.as_const().is_some());
    let ([_, inner @ ..], [.., k, n]) = (&x.shape[..], &w.shape[..]) else { return false };
    matches!(x.dtype, DType::F32 | DType::F64)
        && !inner.is_empty()
        && constant(inner)
        && constant(&w.shape)
        && n.as_const().zip(k.as_const()).is_some_and(|(n, k)| egret_machine::sums_rows(n, k))
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
