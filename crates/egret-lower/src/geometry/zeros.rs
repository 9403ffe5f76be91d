//! Which contractions leave out the zeros of their weights.

use crate::geometry::conv::ConvShape;
use egret_ir::{Graph, NodeId, Zeros};
use egret_machine::CostModel;

/// Whether a contraction is computed without the zeros of its weights; of convolutions where channels are first.
pub fn are_left_out(zeros: &Zeros, costs: &CostModel) -> bool {
    costs.leaves_out_zeros(zeros.quads, zeros.weights, zeros.nonzeros, zeros.columns, zeros.turned)
}

/// The zeros that a convolution with tiles leaves out, if it does.
pub fn of_conv(graph: &Graph, anchor: NodeId, s: &ConvShape, costs: &CostModel) -> Option<Zeros> {
    // Windows that all lie before the input read nothing of it: dense tiles have a form for that.
    let reads_input = s.read().iter().zip(&s.low).all(|(read, low)| read > low);
    let zeros = if s.channels_last || !reads_input { None } else { Zeros::of(graph, graph.node(anchor)) };
    zeros.filter(|zeros| are_left_out(zeros, costs))
}
