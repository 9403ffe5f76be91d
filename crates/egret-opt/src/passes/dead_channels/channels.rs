//! The channel axis of each value, and how channels pass through each node.

use super::PerValue;
use crate::rebuild::topological;
use egret_ir::{Dim, Graph, Node, NodeId, Op, ValueId};
use std::collections::HashMap;

/// How a node treats the channels of its first operand and of its result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Flow {
    /// A contraction with constant weights: every channel of the result depends on every channel of x.
    Dense {
        /// The axes of the weights for the channels of the result and of x.
        weights: (usize, usize),
        /// The axis of x that is summed over.
        axis: usize,
    },
    /// A depthwise convolution with constant weights.
    Depthwise,
    /// Each channel of the result depends on that channel of all operands that are not broadcast along the
    /// axis.
    Elementwise,
    /// A concatenation, along the channels or another axis.
    Concat,
    /// Each channel of the result depends on one of the first operand; `Channels::axis` says which.
    Through,
    /// No relation is known.
    Opaque,
}

/// The channels of a graph.
pub(super) struct Channels {
    axes: PerValue<usize>,
    flows: HashMap<NodeId, Flow>,
}

impl Channels {
    /// Follows channels from the contractions forwards.
    pub(super) fn of(graph: &Graph) -> Channels {
        let mut c = Channels { axes: HashMap::new(), flows: HashMap::new() };
        for id in topological(graph) {
            let node = graph.node(id);
            if let Some((flow, axis)) = c.visit(graph, node) {
                // A single channel is never removed.
                if extent(graph, node.results[0], axis).is_some_and(|n| n > 1) {
                    c.axes.insert(node.results[0], axis);
                }
                c.flows.insert(id, flow);
            }
        }
        c
    }

    /// The axis that counts a value's channels.
    pub(super) fn axis(&self, v: ValueId) -> Option<usize> {
        self.axes.get(&v).copied()
    }

    /// How a node treats them.
    pub(super) fn flow(&self, id: NodeId) -> &Flow {
        self.flows.get(&id).unwrap_or(&Flow::Opaque)
    }

    /// Values that have channels, in order, with their number.
    pub(super) fn values(&self, graph: &Graph) -> Vec<(ValueId, usize)> {
        let mut all: Vec<_> =
            self.axes.iter().filter_map(|(&v, &axis)| Some((v, extent(graph, v, axis)?))).collect();
        all.sort();
        all
    }

    fn visit(&self, graph: &Graph, node: &Node) -> Option<(Flow, usize)> {
        let ([result], Some(Some(x))) = (node.results.as_slice(), node.operands.first().copied()) else {
            return None;
        };
        let (ty, out) = (graph.ty(x).as_tensor()?, graph.ty(*result).as_tensor()?);
        let weights = || node.operands.get(1).copied().flatten().and_then(|w| graph.as_const(w));
        match node.op {
            Op::Conv | Op::ConvTranspose => {
                let axis = if node.attrs.str("layout") == "channels_first" { 1 } else { ty.rank() - 1 };
                let (w, groups) = (weights()?, node.attrs.int("groups"));
                if groups == 1 {
                    let weights = if node.op == Op::Conv { (0, 1) } else { (1, 0) };
                    return Some((Flow::Dense { weights, axis }, axis));
                }
                let own = w.shape()[0] as i64 == groups && w.shape()[1] == 1 && self.axis(x) == Some(axis);
                own.then_some((Flow::Depthwise, axis))
            }
            Op::Matmul => {
                let axis = ty.rank() - 1;
                (weights()?.rank() == 2).then_some((Flow::Dense { weights: (1, 0), axis }, out.rank() - 1))
            }
            Op::Concat => {
                let axis = node.operands.iter().flatten().find_map(|&v| self.axis(v))?;
                Some((Flow::Concat, axis))
            }
            op if op.is_elementwise() => {
                let axis = node.operands.iter().flatten().find_map(|&v| {
                    let axis = self.axis(v)? + out.rank() - graph.tensor_ty(v).rank();
                    (extent(graph, v, self.axis(v)?) == extent(graph, *result, axis)).then_some(axis)
                })?;
                Some((Flow::Elementwise, axis))
            }
            _ => Some((Flow::Through, self.through(graph, node, x, *result)?)),
        }
    }

    /// The channel axis of the result of a node that maps channels one to one, given that of x.
    fn through(&self, graph: &Graph, node: &Node, x: ValueId, result: ValueId) -> Option<usize> {
        let axis = self.axis(x)?;
        let (shape, attrs) = (&graph.tensor_ty(x).shape, &node.attrs);
        let zero = |name: &str| attrs.dims(name)[axis].as_const() == Some(0);
        match node.op {
            Op::Pool => {
                let own = if attrs.str("layout") == "channels_first" { 1 } else { shape.len() - 1 };
                (own == axis).then_some(axis)
            }
            Op::Reduce => {
                let axes = attrs.ints("axes");
                let before = if attrs.flag("keepdims") {
                    0
                } else {
                    axes.iter().filter(|&&a| a < axis as i64).count()
                };
                (!axes.contains(&(axis as i64))).then(|| axis - before)
            }
            Op::Pad => (zero("low") && zero("high")).then_some(axis),
            Op::Slice => (zero("starts")
                && attrs.dims("sizes")[axis] == shape[axis]
                && attrs.ints("steps")[axis] == 1)
                .then_some(axis),
            Op::Resize => {
                let plain = node.operands.get(1).copied().flatten().is_none()
                    && attrs.str("coordinate") != "tf_crop_and_resize";
                let (same, scale) =
                    (attrs.dims("sizes")[axis] == shape[axis], attrs.floats("scales")[axis]);
                // A scale of 0 stands for the quotient of the sizes: 1.
                (plain && same && (scale == 0.0 || scale == 1.0)).then_some(axis)
            }
            Op::Transpose => attrs.ints("perm").iter().position(|&p| p == axis as i64),
            Op::Broadcast => Some(axis + attrs.dims("shape").len() - shape.len()),
            Op::Reshape => {
                let out = &graph.tensor_ty(result).shape;
                let product = |dims: &[Dim]| dims.iter().cloned().fold(Dim::constant(1), |a, b| a * b);
                let (before, after) = (product(&shape[..axis]), product(&shape[axis + 1..]));
                (0..out.len()).find(|&i| {
                    out[i] == shape[axis] && product(&out[..i]) == before && product(&out[i + 1..]) == after
                })
            }
            _ => None,
        }
    }
}

/// The constant extent of a value along an axis.
pub(super) fn extent(graph: &Graph, v: ValueId, axis: usize) -> Option<usize> {
    let dim = graph.ty(v).as_tensor()?.shape.get(axis)?.as_const()?;
    usize::try_from(dim).ok()
}
