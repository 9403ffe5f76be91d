//! Which values alias another value's buffer: reshapes and contiguous slices are free.

use crate::geometry::shape::{dims, strides};
use egret_ir::{Aliases, Graph, NodeId, Op, ValueId};

/// If the node's result is a contiguous part of an operand: that operand and the index of its first element
/// there.
pub fn alias(graph: &Graph, node: NodeId) -> Option<(ValueId, usize)> {
    let n = graph.node(node);
    let x = *n.operands.first()?.as_ref()?;
    match n.op.info().aliases {
        Aliases::Never => return None,
        Aliases::Always => return Some((x, 0)),
        Aliases::Contiguous => {}
    }
    let (from, to) = (dims(graph, x), dims(graph, n.results[0]));
    let same_len = from.iter().product::<i64>() == to.iter().product::<i64>();
    match n.op {
        Op::Broadcast => same_len.then_some((x, 0)),
        Op::Concat => (n.operands.len() == 1).then_some((x, 0)),
        Op::Pad | Op::Dilate => (from == to && (n.op == Op::Dilate || is_zero_pad(n))).then_some((x, 0)),
        Op::Transpose => {
            // Only axes of size 1 change places.
            let moved: Vec<usize> = n.attrs.indices("perm").into_iter().filter(|&p| from[p] != 1).collect();
            moved.is_sorted().then_some((x, 0))
        }
        Op::Slice => {
            let starts = n.attrs.const_dims("starts")?;
            let steps = n.attrs.ints("steps");
            let first = to.iter().position(|&d| d != 1).unwrap_or(to.len());
            let contiguous = (first..to.len())
                .all(|i| if i == first { steps[i] == 1 } else { from[i] == to[i] && steps[i] == 1 });
            if !contiguous || to.contains(&0) {
                return None;
            }
            let offset = starts.iter().zip(strides(&from)).map(|(s, stride)| s * stride).sum::<i64>();
            usize::try_from(offset).ok().map(|offset| (x, offset))
        }
        // Always a copy, which is right of every operation.
        _ => None,
    }
}

/// The value whose memory a value is in, and the element there.
pub fn root(graph: &Graph, v: ValueId) -> (ValueId, usize) {
    let (mut v, mut offset) = (v, 0);
    while let Some((x, at)) = graph.producer(v).and_then(|n| alias(graph, n)) {
        v = x;
        offset += at;
    }
    (v, offset)
}

fn is_zero_pad(n: &egret_ir::Node) -> bool {
    ["low", "high"].iter().all(|a| n.attrs.const_dims(a).is_some_and(|d| d.iter().all(|&p| p == 0)))
}
