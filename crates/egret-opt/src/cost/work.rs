//! How much a node computes, whatever the target: its multiply-adds.

use super::model::{NOMINAL_DIM, len};
use egret_ir::{Family, Graph, NodeId, Op};

/// The multiply-adds of a node: those of products, convolutions, attention and recurrent operations; 0 for all others, sub-graphs
/// among them. A symbolic dim counts as 64.
pub fn multiply_adds(graph: &Graph, id: NodeId) -> u64 {
    let node = graph.node(id);
    let tensor = |i: usize| node.operands.get(i).copied().flatten().and_then(|v| graph.ty(v).as_tensor());
    let size = |i: usize| tensor(i).map_or(0, len);
    let dim = |i: usize, back: usize| {
        let shape = tensor(i).map_or(&[][..], |t| &t.shape);
        let at = shape.len().checked_sub(back).and_then(|at| shape.get(at));
        at.map_or(1, |d| d.as_const().unwrap_or(NOMINAL_DIM).max(0) as u64)
    };
    let first = |i: usize| tensor(i).map_or(1, |t| dim(i, t.shape.len())).max(1);
    let out = node.results.first().and_then(|&v| graph.ty(v).as_tensor()).map_or(0, len);
    match node.op {
        Op::Matmul => out.saturating_mul(dim(0, 1)),
        Op::Conv => out.saturating_mul(size(1) / first(1)),
        Op::ConvTranspose => size(0).saturating_mul(size(1) / first(1)),
        Op::Attention => {
            (out / dim(2, 1).max(1)).saturating_mul(dim(1, 2)).saturating_mul(dim(0, 1) + dim(2, 1))
        }
        op if op.family() == Family::Recurrent => {
            let steps = size(0) / dim(0, 1).max(1);
            steps.saturating_mul(size(1).saturating_add(size(2)))
        }
        _ => 0,
    }
}
