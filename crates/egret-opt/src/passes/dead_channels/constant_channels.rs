//! Constant propagation by channel: which channels hold one known number, whatever the inputs.

use super::PerValue;
use super::channels::{Channels, Flow, extent};
use super::weights::{Tap, Weights, elements, is_zero};
use crate::rebuild::topological;
use egret_ir::{DType, Graph, Node, NodeId, Op, Tensor, Value, ValueId, interp};
use std::collections::HashMap;

/// The constant channels of a value. The sign of a zero may be unknown, hence two possible values for each
/// channel.
#[derive(Clone)]
struct Constant {
    is: Vec<bool>,
    /// Of shape [channels] each; elements of other channels are meaningless.
    either: [Tensor; 2],
}

/// The constant channels of all values that have any.
pub(super) struct ConstantChannels {
    values: PerValue<Constant>,
}

impl ConstantChannels {
    /// Propagates constants forwards from the weights.
    pub(super) fn of(graph: &Graph, channels: &Channels) -> ConstantChannels {
        let mut known = ConstantChannels { values: HashMap::new() };
        for id in topological(graph) {
            let node = graph.node(id);
            let Some(&result) = node.results.first() else { continue };
            if channels.axis(result).is_some()
                && let Some(constant) = known.visit(graph, channels, id, node)
                && constant.is.contains(&true)
            {
                known.values.insert(result, constant);
            }
        }
        known
    }

    /// Whether a channel of a value is zero throughout.
    pub(super) fn is_zero(&self, v: ValueId, channel: usize) -> bool {
        self.values.get(&v).is_some_and(|c| {
            c.is[channel] && c.either.iter().all(|t| element(t, channel).is_some_and(is_zero))
        })
    }

    /// Whether nothing can be removed: no channel is constant, and every input channel has a weight other
    /// than zero.
    pub(super) fn is_dense(&self, graph: &Graph, channels: &Channels) -> bool {
        self.values.is_empty()
            && graph.node_ids().into_iter().all(|id| match channels.flow(id) {
                Flow::Dense { weights, .. } => {
                    let node = graph.node(id);
                    let Some(w) = graph.as_const(node.operand(1)) else { return true };
                    let w = Weights::new(w, *weights);
                    (0..w.inputs()).all(|c| (0..w.outputs()).any(|o| !w.is_zero(o, c)))
                }
                _ => true,
            })
    }

    fn visit(&self, graph: &Graph, channels: &Channels, id: NodeId, node: &Node) -> Option<Constant> {
        let x = node.operands.first().copied().flatten()?;
        let result = node.results[0];
        let of_x = self.values.get(&x);
        match channels.flow(id) {
            Flow::Dense { weights, axis } => {
                let w = Weights::new(graph.as_const(node.operand(1))?, *weights);
                let here = channels.axis(x) == Some(*axis);
                let nothing = |o: usize, c: usize| match w.is_zero(o, c) {
                    true => true,
                    false => here && self.is_zero(x, c) && w.tap(o, c) == Tap::Finite,
                };
                let is = (0..w.outputs()).map(|o| (0..w.inputs()).all(|c| nothing(o, c))).collect();
                zero(graph, result, is)
            }
            Flow::Depthwise => {
                let w = Weights::new(graph.as_const(node.operand(1))?, (0, 1));
                let nothing =
                    |c: usize| w.is_zero(c, 0) || self.is_zero(x, c) && w.tap(c, 0) == Tap::Finite;
                zero(graph, result, (0..w.outputs()).map(nothing).collect())
            }
            Flow::Elementwise => self.elementwise(graph, channels, node),
            Flow::Concat => self.concat(graph, channels, node),
            Flow::Through => through(graph, node, of_x?),
            Flow::Opaque => None,
        }
    }

    fn elementwise(&self, graph: &Graph, channels: &Channels, node: &Node) -> Option<Constant> {
        let result = node.results[0];
        let axis = channels.axis(result)?;
        let rank = graph.tensor_ty(result).rank();
        let n = extent(graph, result, axis)?;
        let all = node.operands.iter().flatten().chain([&result]);
        if all.into_iter().any(|&v| graph.ty(v).as_tensor().is_none_or(|t| t.dtype.size() == 0)) {
            return None;
        }
        let mut operands: Vec<Constant> = vec![];
        for &v in node.operands.iter().flatten() {
            let ty = graph.ty(v).as_tensor()?;
            operands.push(match (graph.as_const(v), self.values.get(&v)) {
                (Some(t), _) => match along(t, (axis + t.rank()).checked_sub(rank), n) {
                    Some(t) => Constant { is: vec![true; n], either: [t.clone(), t] },
                    None => unknown(ty.dtype, n),
                },
                (None, Some(c))
                    if channels.axis(v).map(|a| a + rank - ty.rank()) == Some(axis) && c.is.len() == n =>
                {
                    c.clone()
                }
                _ => unknown(ty.dtype, n),
            });
        }
        let zeros = if node.op == Op::Mul { zeros_of(&operands) } else { vec![false; n] };
        let both = (0..n).filter(|&c| operands.iter().all(|o| o.is[c])).count();
        if both == 0 && !zeros.contains(&true) {
            return None;
        }
        let mut results: Vec<Tensor> = vec![];
        for pick in 0..1usize << operands.len().min(3) {
            let values: Vec<_> = operands
                .iter()
                .enumerate()
                .map(|(i, o)| Some(Value::from(o.either[pick >> i & 1].clone())))
                .collect();
            results.push(
                interp::eval_op(node.op, &node.attrs, &values, &[]).ok()?.first()?.as_tensor()?.clone(),
            );
        }
        let first = results.first().filter(|t| t.shape() == [n])?;
        let size = first.dtype().size();
        let (mut is, mut low, mut high) = (vec![false; n], vec![0u8; n * size], vec![0u8; n * size]);
        let sign = if first.dtype().is_float() { 0x80 } else { 0 };
        for c in 0..n {
            let at = c * size..(c + 1) * size;
            if operands.iter().all(|o| o.is[c]) {
                let mut seen: Vec<&[u8]> = results.iter().map(|t| &t.bytes()[at.clone()]).collect();
                seen.sort();
                seen.dedup();
                is[c] = seen.len() <= 2;
                low[at.clone()].copy_from_slice(seen[0]);
                high[at].copy_from_slice(seen[seen.len() - 1]);
            } else if zeros[c] {
                // Zero times a finite number is zero, of either sign.
                is[c] = true;
                high[at.end - 1] = sign;
            }
        }
        let tensor = |bytes: &[u8]| Tensor::from_bytes(first.dtype(), &[n], bytes);
        Some(Constant { is, either: [tensor(&low), tensor(&high)] })
    }

    fn concat(&self, graph: &Graph, channels: &Channels, node: &Node) -> Option<Constant> {
        let axis = channels.axis(node.results[0])?;
        // Along another axis the operands would have to agree: not followed.
        if node.attrs.int("axis") != axis as i64 {
            return None;
        }
        let (mut is, mut bytes) = (vec![], [vec![], vec![]]);
        let dtype = graph.tensor_ty(node.results[0]).dtype;
        for &v in node.operands.iter().flatten() {
            let n = extent(graph, v, axis)?;
            let part = match self.values.get(&v) {
                Some(c) if channels.axis(v) == Some(axis) => c.clone(),
                _ => unknown(dtype, n),
            };
            is.extend(part.is);
            bytes.iter_mut().zip(&part.either).for_each(|(all, t)| all.extend_from_slice(t.bytes()));
        }
        let either = bytes.map(|b| Tensor::from_bytes(dtype, &[is.len()], &b));
        Some(Constant { is, either })
    }
}

/// Constant channels through a node that maps channels one to one.
fn through(graph: &Graph, node: &Node, x: &Constant) -> Option<Constant> {
    let attrs = &node.attrs;
    let all = |name: &str, holds: &dyn Fn(i64) -> bool| attrs.ints(name).iter().all(|&v| holds(v));
    let zero_channels = || {
        let is_zero = |c: usize| x.is[c] && x.either.iter().all(|t| element(t, c).is_some_and(is_zero));
        zero(graph, node.results[0], (0..x.is.len()).map(is_zero).collect())
    };
    match node.op {
        Op::Transpose | Op::Reshape | Op::Slice | Op::Broadcast => Some(x.clone()),
        Op::Pool => {
            // Every window must contain an element of x.
            let pads =
                attrs.ints("pads").iter().zip(attrs.ints("kernel").iter().cycle()).all(|(p, k)| p < k);
            let full = pads && all("dilations", &|d| d == 1) && all("high_extra", &|e| e == 0);
            match attrs.str("kind") {
                _ if !full => None,
                "max" => Some(x.clone()),
                _ => zero_channels(),
            }
        }
        Op::Reduce => {
            let shape = &graph.tensor_ty(node.operand(0)).shape;
            let some =
                attrs.ints("axes").iter().all(|&a| shape[a as usize].as_const().is_some_and(|d| d > 0));
            match attrs.str("kind") {
                "max" | "min" if some => Some(x.clone()),
                "sum" => zero_channels(),
                _ => None,
            }
        }
        Op::Pad if attrs.str("mode") != "constant" => Some(x.clone()),
        Op::Pad => {
            let fill = graph.as_const(node.operands.get(1).copied().flatten()?)?;
            let mut out = x.clone();
            for (c, is) in out.is.iter_mut().enumerate() {
                *is &= x
                    .either
                    .iter()
                    .all(|t| element(t, c).map(|e| e.bits) == element(fill, 0).map(|e| e.bits));
            }
            Some(out)
        }
        Op::Resize if attrs.str("mode") == "nearest" => Some(x.clone()),
        Op::Resize => {
            // A sum of +0 is +0; one of -0 depends on its start.
            let mut out = x.clone();
            for (c, is) in out.is.iter_mut().enumerate() {
                *is &= x.either.iter().all(|t| element(t, c).is_some_and(|e| e.bits == 0));
            }
            Some(out)
        }
        _ => None,
    }
}

fn element(t: &Tensor, i: usize) -> Option<super::weights::Element> {
    let size = t.dtype().size();
    elements(t.dtype(), t.bytes().get(i * size..(i + 1) * size)?)?.next()
}

fn blank(dtype: DType, n: usize) -> Tensor {
    Tensor::from_bytes(dtype, &[n], &vec![0; n * dtype.size()])
}

/// No channel is known.
fn unknown(dtype: DType, n: usize) -> Constant {
    Constant { is: vec![false; n], either: [blank(dtype, n), blank(dtype, n)] }
}

/// Marks channels as +0, as sums of zeros are.
fn zero(graph: &Graph, v: ValueId, is: Vec<bool>) -> Option<Constant> {
    let dtype = graph.ty(v).as_tensor()?.dtype;
    elements(dtype, &[]).map(drop)?;
    Some(Constant { either: [blank(dtype, is.len()), blank(dtype, is.len())], is })
}

/// The channels in which some factor is zero.
fn zeros_of(factors: &[Constant]) -> Vec<bool> {
    let n = factors.first().map_or(0, |f| f.is.len());
    let zero =
        |f: &Constant, c: usize| f.is[c] && f.either.iter().all(|t| element(t, c).is_some_and(is_zero));
    (0..n).map(|c| factors.iter().any(|f| zero(f, c))).collect()
}

/// A constant that varies at most along the channels (axis `axis`, if it has that), as one element for each
/// of `n` channels.
fn along(t: &Tensor, axis: Option<usize>, n: usize) -> Option<Tensor> {
    elements(t.dtype(), &[]).map(drop)?;
    let only = t.shape().iter().enumerate().all(|(i, &d)| d == 1 || Some(i) == axis && d == n);
    match (only, t.len()) {
        (false, _) => None,
        (true, 1) => Some(Tensor::from_bytes(t.dtype(), &[n], &t.bytes().repeat(n))),
        (true, _) => Some(t.reshaped(&[n])),
    }
}
