//! Convolutions that run as well with channels first, and that nothing around asks to compute with channels last: depthwise ones, and
//! those of a single tap, which are the product of their weights and the planes of an image.

use egret_ir::{DType, Dim, Graph, Node, NodeId, Op, UseLists, ValueId};
use std::collections::BTreeSet;

/// Whether each window of a convolution reads a single channel, in a shape that has a kernel with channels first (`planes` of
/// egret-lower).
fn runs_in_planes(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Conv {
        return false;
    }
    let (x, w) = (graph.tensor_ty(node.operand(0)), graph.tensor_ty(node.operand(1)));
    let channels = x.shape.get(1).and_then(|d| d.as_const());
    let (groups, last) = (node.attrs.int("groups"), node.attrs.ints("strides").last());
    node.attrs.str("layout") == "channels_first"
        && x.dtype == DType::F32
        && matches!(x.rank(), 3 | 4)
        && groups > 1
        && channels == Some(groups)
        && graph.as_const(node.operand(1)).is_some()
        && w.shape[2..].iter().try_fold(1, |n, d| Some(n * d.as_const()?)).is_some_and(|taps| taps <= 25)
        && matches!(last, Some(1 | 2))
}

/// With fewer pixels the product of weights and planes has no kernel (`pointwise` of egret-lower).
const LEAST_PIXELS: i64 = 128;

/// Whether a convolution multiplies each pixel's channels by the weights, in a shape that has a kernel with channels first.
fn is_pointwise(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Conv || node.attrs.str("layout") != "channels_first" {
        return false;
    }
    let all = |name: &str, n: i64| node.attrs.ints(name).iter().all(|&own| own == n);
    let (x, w) = (graph.tensor_ty(node.operand(0)), graph.tensor_ty(node.operand(1)));
    let pixels = |shape: &[Dim]| shape.iter().try_fold(1i64, |n, d| n.checked_mul(d.as_const()?));
    let every_pixel = node.attrs.int("groups") == 1 && all("strides", 1) && all("pads", 0);
    every_pixel
        && x.dtype == DType::F32
        && w.dtype == DType::F32
        && pixels(&w.shape[2..]) == Some(1)
        && pixels(&x.shape[2..]).is_some_and(|n| n >= LEAST_PIXELS)
}

/// Whether a convolution whose operand has channels first is to keep them: no transpose made the operand, and no other convolution
/// reads it or what becomes of the result. Otherwise a transpose is saved, or is needed in any case.
pub fn stays(graph: &Graph, uses: &UseLists, node: &Node) -> bool {
    let (x, y) = (node.operand(0), node.results[0]);
    let wanted_last = || match runs_in_planes(graph, node) {
        true => [x, y].iter().any(|&v| reaches(graph, uses, v)),
        false => !is_pointwise(graph, node) || !is_alone(graph, uses, node),
    };
    !wanted_last() && !is_transposed(graph, x)
}

/// Whether no transpose or other convolution reads the operand of a convolution, its result, or what is made of them with as many axes.
fn is_alone(graph: &Graph, uses: &UseLists, node: &Node) -> bool {
    let (x, y) = (node.operand(0), node.results[0]);
    let rank = |v: ValueId| graph.value(v).ty.as_tensor().map(|t| t.rank());
    let mut seen: BTreeSet<NodeId> = graph.producer(y).into_iter().collect();
    let mut work = vec![x, y];
    while let Some(v) = work.pop() {
        for &n in uses.users(v).iter().filter(|&&n| seen.insert(n)) {
            let user = graph.node(n);
            if matches!(user.op, Op::Conv | Op::ConvTranspose | Op::Transpose) {
                return false;
            }
            let follows = |&v: &ValueId| user.op == Op::Reshape || rank(v) == rank(y);
            work.extend(user.results.iter().copied().filter(follows));
        }
    }
    true
}

/// Whether what an operation computes lies as its operands do.
pub(super) fn keeps_layout(graph: &Graph, node: &Node) -> bool {
    node.op.is_elementwise()
        || matches!(node.op, Op::Pool | Op::Pad | Op::Resize)
        || runs_in_planes(graph, node)
}

/// Whether a value comes from a transpose.
fn is_transposed(graph: &Graph, v: ValueId) -> bool {
    let (mut seen, mut work) = (BTreeSet::new(), vec![v]);
    while let Some(v) = work.pop() {
        let Some(n) = graph.producer(v).filter(|n| seen.insert(*n)) else { continue };
        let node = graph.node(n);
        if node.op == Op::Transpose {
            return true;
        }
        if node.op == Op::Reshape || keeps_layout(graph, node) {
            work.extend(node.operands.iter().flatten());
        }
    }
    false
}

/// Whether a value, or what is made of it in its layout, is read by a convolution that wants channels last.
fn reaches(graph: &Graph, uses: &UseLists, v: ValueId) -> bool {
    let (mut seen, mut work): (BTreeSet<NodeId>, _) = (BTreeSet::new(), vec![v]);
    while let Some(v) = work.pop() {
        for &n in uses.users(v) {
            let node = graph.node(n);
            if keeps_layout(graph, node) {
                if seen.insert(n) {
                    work.extend(&node.results);
                }
            } else if super::prefers_channels_last(node) {
                return true;
            }
        }
    }
    false
}
