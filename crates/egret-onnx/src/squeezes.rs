//! An If that leaves an axis out where it has one element, as exporters write `torch.squeeze` of an axis whose size is free.
//!
//! The result has another rank where the size is another one, and no graph has values whose rank only a run knows. What stands behind it
//! reads it at one rank; the one that was squeezed is taken. Runs are held to the size of 1, so that a model that meant the other rank fails, and
//! gives nothing else than it should; also where only a shape is read of what stands behind it ([`crate::holding`]).
//!
//! A size that data decides may be 1 in one run, and another one in the next: there it is left an If like any other, with what stands behind it
//! ([`crate::tails`]). Where the graph gives values of another rank then, the condition has to be known before: `egret run` has the inputs that decide it;
//! a compiled model is for one value of them. Within a sub-graph the size is held to 1 as well.

use crate::error::ImportError;
use crate::holding::Holding;
use crate::importer::Importer;
use crate::names::{node_name, normal};
use crate::scope::Slot;
use egret_ir::{Dim, Graph, Op, TypeError, ValueId, attrs};
use onnx_protobuf::{GraphProto, NodeProto};

impl<'m> Importer<'m> {
    /// The results of such an If; nothing of what is no such.
    pub(crate) fn squeezed(
        &mut self,
        node: &'m NodeProto,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Slot>>, ImportError> {
        if node.op_type != "If" || !normal(&node.domain).is_empty() || node.output.len() != 1 {
            return Ok(None);
        }
        let Some((size, of_one)) = inputs.first().copied().flatten().and_then(|c| self.asks_for_one(c))
        else {
            return Ok(None);
        };
        let branch = |name: &str| node.attribute.iter().find(|a| a.name == name)?.g.as_ref();
        let (Some(then), Some(other)) = (branch("then_branch"), branch("else_branch")) else {
            return Ok(None);
        };
        let (squeezes, keeps) = if of_one { (then, other) } else { (other, then) };
        if squeezed_input(squeezes).is_none() || squeezed_input(squeezes) != kept_input(keeps) {
            return Ok(None);
        }
        if self.scopes.frame().level == 0 && !self.is_told(&size) {
            if self.scopes.frames.len() == 1 {
                // The first one is kept.
                let _ = self.by_data.set(node.output[0].clone());
            }
            return Ok(None);
        }
        let [Slot::Value(result)] = self.branch(node, squeezes)?[..] else { return Ok(None) };
        let Some((from, axis)) = left_out(self.scopes.graph(), result, &size) else { return Ok(None) };
        let one = self.only_element(node, from, axis, &size)?;
        Ok(Some(vec![Slot::Value(one)]))
    }

    /// Whether the dims of the model's inputs tell a size.
    fn is_told(&mut self, size: &Dim) -> bool {
        let mut symbols = vec![];
        size.collect_symbols(&mut symbols);
        let free = self.scopes.graph().free_dims();
        symbols.iter().all(|s| free.contains(s))
    }

    /// A value without an axis, which has one element in every run that does not fail.
    fn only_element(
        &mut self,
        node: &NodeProto,
        from: ValueId,
        axis: usize,
        size: &Dim,
    ) -> Result<ValueId, ImportError> {
        let source = format!("If:{}", node_name(&self.scopes.frame().prefix, node));
        let builder = self.scopes.builder();
        builder.set_sources([source].into());
        let mut sizes = builder.graph.tensor_ty(from).shape.to_vec();
        let mut starts = vec![Dim::constant(0); sizes.len()];
        sizes[axis] = Dim::constant(1);
        // 0 where the size is 1; for all others it is negative, or the element is behind the last one.
        starts[axis] = (size.clone() - Dim::constant(1)) * Dim::constant(2);
        let steps = vec![1; sizes.len()];
        let mut shape = sizes.clone();
        shape.remove(axis);
        let held = attrs! { starts: starts, sizes: sizes, steps: steps };
        let invalid = |e: TypeError| ImportError::invalid(e.to_string());
        let one = builder.emit(Op::Slice, held, &[from]).map_err(invalid)?;
        let squeezed = builder.emit(Op::Reshape, attrs! { shape: shape }, &[one]).map_err(invalid)?;
        let level = self.scopes.frame().level;
        self.scopes.levels[level].holding.push(Holding::Slice(one, axis));
        Ok(squeezed)
    }

    /// The free size that a condition compares with 1, and whether it holds where they are equal.
    fn asks_for_one(&mut self, cond: ValueId) -> Option<(Dim, bool)> {
        let (mut at, mut holds) = (cond, true);
        loop {
            let graph = self.scopes.graph();
            let node = graph.node(graph.producer(at)?);
            match node.op {
                Op::Not => holds = !holds,
                Op::Reshape => {}
                Op::Equal => {
                    let sides = [node.operand(0), node.operand(1)];
                    let [a, b] = sides.map(|v| self.scopes.builder().known_dims(v));
                    let ([a], [b]) = (&a?[..], &b?[..]) else { return None };
                    let size = if b.as_const() == Some(1) { a } else { b };
                    let asks = a.as_const() == Some(1) || b.as_const() == Some(1);
                    return (asks && size.as_const().is_none()).then(|| (size.clone(), holds));
                }
                _ => return None,
            }
            at = node.operand(0);
        }
    }
}

/// The node of a graph that gives its only output.
fn last(graph: &GraphProto) -> Option<&NodeProto> {
    let [output] = &graph.output[..] else { return None };
    graph.node.iter().find(|n| n.output.first() == Some(&output.name))
}

/// The name of what a branch squeezes.
fn squeezed_input(graph: &GraphProto) -> Option<&str> {
    let node = last(graph)?;
    let squeezes = node.op_type == "Squeeze" && normal(&node.domain).is_empty();
    squeezes.then(|| node.input.first()).flatten().map(String::as_str)
}

/// The name of what a branch gives as it is.
fn kept_input(graph: &GraphProto) -> Option<&str> {
    let [output] = &graph.output[..] else { return None };
    match last(graph) {
        // The output may be a value around the branch.
        None => Some(&output.name),
        Some(node) => {
            let keeps = node.op_type == "Identity" && normal(&node.domain).is_empty();
            keeps.then(|| node.input.first()).flatten().map(String::as_str)
        }
    }
}

/// The value that another one is without an axis of this size, and the axis.
fn left_out(graph: &Graph, result: ValueId, size: &Dim) -> Option<(ValueId, usize)> {
    let of = |v: ValueId| graph.ty(v).as_tensor().map_or(&[][..], |t| &t.shape[..]);
    let node = graph.node(graph.producer(result)?);
    let from = (node.op == Op::Reshape).then(|| node.operand(0))?;
    let without = |axis: &usize| {
        let mut left = of(from).to_vec();
        left.remove(*axis) == *size && left == of(result)
    };
    Some((from, (0..of(from).len()).find(without)?))
}
