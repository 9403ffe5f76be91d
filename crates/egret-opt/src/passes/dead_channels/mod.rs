//! Removes dead channels: those that no weight reads, and those that are constantly zero (all weights that
//! make them are zero).
//! Three analyses, one file each: `channels` (how channels pass through nodes), `constant_channels`
//! (forwards), `live_channels` (backwards). Then the graph is rebuilt without the dead ones.
//! These are analyses and not rules in an e-graph because liveness flows backwards, and jointly: the
//! operands of a residual sum lose a channel together or not at all. A rule sees what a value is, not who
//! uses it.
//! For finite inputs no bit changes: a sum that starts at +0 is the same with and without terms of +0 and
//! -0. Zero times an infinity or NaN is taken for zero, hence tier `reassoc`. A channel that is a constant
//! other than zero is kept if a contraction reads it, as moving it into a bias would round anew.

mod channels;
mod constant_channels;
mod live_channels;
mod weights;

use crate::pass::PassContext;
use crate::rebuild::{Rebuild, rebuild};
use crate::report::Rewrite;
use channels::{Channels, Flow};
use constant_channels::ConstantChannels;
use egret_ir::{Attr, Attrs, Dim, Graph, Node, NodeId, Tensor, TypeError, ValueId};
use live_channels::LiveChannels;
use std::collections::HashMap;

/// The code of the pass. Every contraction that loses channels is a rewrite.
pub(crate) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    let channels = Channels::of(graph);
    let known = ConstantChannels::of(graph, &channels);
    if known.is_dense(graph, &channels) {
        return Ok(None);
    }
    let keep = LiveChannels::of(graph, &channels, &known);
    if keep.is_all() {
        return Ok(None);
    }
    rebuild(graph, |r, id, operands| {
        let results = narrow(r, &channels, &keep, id, operands)?;
        if let (Some(results), Flow::Dense { .. } | Flow::Depthwise) = (&results, channels.flow(id)) {
            report(r, r.old.node(id), results, &mut ctx.rewrites);
        }
        Ok(results)
    })
    .map(Some)
}

/// Reports the types of a contraction's weights before and after.
fn report(r: &Rebuild, was: &Node, results: &[ValueId], rewrites: &mut Vec<Rewrite>) {
    let new = &r.builder.graph;
    let weights = |g: &Graph, n: &Node| {
        n.operands.get(1).copied().flatten().map(|w| g.ty(w).to_string()).unwrap_or_default()
    };
    if let Some(is) = results.first().and_then(|&v| new.producer(v)).map(|n| new.node(n)) {
        rewrites.push(Rewrite {
            rule: "dead-channels".into(),
            place: String::new(),
            sources: was.sources.clone(),
            before: format!("{} by {}", was.op, weights(r.old, was)),
            after: format!("{} by {}", is.op, weights(new, is)),
            conditions: String::new(),
        });
    }
}

/// Rebuilds a node with fewer channels; `None`: it is copied.
fn narrow(
    r: &mut Rebuild,
    channels: &Channels,
    keep: &LiveChannels,
    id: NodeId,
    operands: &[Option<ValueId>],
) -> Result<Option<Vec<ValueId>>, TypeError> {
    let node = r.old.node(id);
    let kept = |v: ValueId| keep.of_value(v);
    let touched = node.operands.iter().flatten().chain(&node.results).any(|&v| kept(v).is_some());
    let (true, [result]) = (touched, node.results.as_slice()) else { return Ok(None) };
    let (mut operands, mut attrs) = (operands.to_vec(), node.attrs.clone());
    match channels.flow(id) {
        Flow::Dense { weights, .. } => {
            let w = node.operand(1);
            let mut new = constant(r, w);
            if let Some(rows) = kept(*result) {
                new = take(&new, weights.0, rows);
            }
            if let Some(columns) = kept(node.operand(0)) {
                new = take(&new, weights.1, columns);
            }
            operands[1] = Some(r.builder.constant(new));
        }
        Flow::Depthwise => {
            if let Some(rows) = kept(*result) {
                let new = take(&constant(r, node.operand(1)), 0, rows);
                attrs.0.insert("groups", Attr::Int(rows.len() as i64));
                operands[1] = Some(r.builder.constant(new));
            }
        }
        Flow::Elementwise => {
            if let (Some(rows), Some(axis)) = (kept(*result), channels.axis(*result)) {
                let rank = r.old.tensor_ty(*result).rank();
                for (operand, &old) in operands.iter_mut().zip(&node.operands) {
                    let Some(old) = old.filter(|&v| r.old.as_const(v).is_some()) else { continue };
                    let t = constant(r, old);
                    // A constant without that axis, or of extent 1 there, is the same for every channel.
                    if let Some(at) = (axis + t.rank()).checked_sub(rank)
                        && t.shape()[at] > 1
                    {
                        *operand = Some(r.builder.constant(take(&t, at, rows)));
                    }
                }
            }
        }
        Flow::Through => {
            if let (Some(rows), Some(axis)) = (kept(*result), channels.axis(*result)) {
                resize_attrs(node, axis, rows.len(), &mut attrs);
            }
        }
        Flow::Concat | Flow::Opaque => {}
    }
    r.builder.emit_node(node.op, attrs, &operands, vec![]).map(Some)
}

/// A constant of the old graph. `channels` has made sure that it is one.
fn constant(r: &Rebuild, v: ValueId) -> Tensor {
    r.old.as_const(v).expect("channels only follows constant weights").clone()
}

/// Changes the extent of the channels in attributes.
fn resize_attrs(node: &Node, axis: usize, extent: usize, attrs: &mut Attrs) {
    for name in ["shape", "sizes"] {
        if let Some(Attr::Dims(dims)) = node.attrs.get(name) {
            let mut dims = dims.clone();
            dims[axis] = Dim::constant(extent as i64);
            attrs.0.insert(name, Attr::Dims(dims));
        }
    }
}

/// The slices of a tensor at some indices of an axis.
fn take(t: &Tensor, axis: usize, indices: &[usize]) -> Tensor {
    let (shape, size) = (t.shape(), t.dtype().size());
    let inner = shape[axis + 1..].iter().product::<usize>() * size;
    let outer: usize = shape[..axis].iter().product();
    let mut bytes = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for &i in indices {
            let from = (block * shape[axis] + i) * inner;
            bytes.extend_from_slice(&t.bytes()[from..from + inner]);
        }
    }
    let mut shape = shape.to_vec();
    shape[axis] = indices.len();
    Tensor::from_bytes(t.dtype(), &shape, &bytes)
}

/// A map over values with channels.
type PerValue<T> = HashMap<ValueId, T>;
