//! What decides whether a sub-graph runs: what is known of it at import, and what an error in a sub-graph means where it is not known.

use crate::error::{ErrorKind, ImportError};
use crate::importer::Importer;
use crate::missing::{Operators, graphs, refuse_unsupported};
use crate::names::normal;
use crate::scope::Slot;
use egret_ir::{Type, ValueId, advice};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::BTreeSet;

/// The trip count and the condition of a node that is a `Loop` of ONNX.
fn deciding_loop(node: &NodeProto, inputs: &[Option<ValueId>]) -> Option<[Option<ValueId>; 2]> {
    let is_loop = node.op_type == "Loop" && normal(&node.domain).is_empty();
    is_loop.then(|| [0, 1].map(|i| inputs.get(i).copied().flatten()))
}

impl<'m> Importer<'m> {
    /// The values that decide whether a sub-graph of a node runs.
    pub(crate) fn deciding(&self, node: &NodeProto, inputs: &[Option<ValueId>]) -> Vec<ValueId> {
        match node.op_type.as_str() {
            "If" => inputs.first().copied().flatten().into_iter().collect(),
            _ => deciding_loop(node, inputs).into_iter().flatten().flatten().collect(),
        }
    }

    /// The branch that an `If` takes whose condition is a constant.
    pub(crate) fn decided_branch(
        &mut self,
        node: &'m NodeProto,
        inputs: &[Option<ValueId>],
    ) -> Option<&'m GraphProto> {
        if node.op_type != "If" || !normal(&node.domain).is_empty() {
            return None;
        }
        let cond = self.scopes.graph().as_const((*inputs.first()?)?)?;
        let [flag] = cond.bytes() else { return None };
        let name = if *flag != 0 { "then_branch" } else { "else_branch" };
        node.attribute.iter().find(|a| a.name == name)?.g.as_ref()
    }

    /// The results of a `Loop` that is known to run in no round: what it carries is as it was, whatever its body would do to it. One that collects
    /// elements as well is left to the operator: their types are those that the body gives.
    pub(crate) fn loop_of_no_round(
        &mut self,
        node: &NodeProto,
        inputs: &[Option<ValueId>],
    ) -> Option<Vec<Slot>> {
        let carried: Vec<ValueId> = inputs.get(2..)?.iter().copied().collect::<Option<_>>()?;
        let is_held = |v: &ValueId| matches!(self.scopes.ty(*v), Type::Optional(_));
        if node.output.len() > carried.len() || carried.iter().any(is_held) {
            return None;
        }
        let [trips, cond] = deciding_loop(node, inputs)?.map(|v| {
            let known = self.scopes.graph().as_const(v?)?.to_i64s()?;
            known.first().copied()
        });
        let ends = trips.is_some_and(|trips| trips <= 0) || cond == Some(0);
        ends.then(|| carried.into_iter().map(Slot::Value).collect())
    }

    /// For an error in a branch of an If, or in the body of a Loop: what decides whether it runs decides whether the error matters.
    pub(crate) fn needs_condition(
        &mut self,
        node: &NodeProto,
        deciding: &[ValueId],
        e: ImportError,
    ) -> ImportError {
        let graph = self.scopes.graph();
        let inputs: BTreeSet<String> = deciding.iter().flat_map(|&v| graph.inputs_read_for(v)).collect();
        if inputs.is_empty() {
            return self.needs_dims(deciding, e);
        }
        let why = match node.op_type.as_str() {
            "If" => {
                let e = self.of_its_branch(node, &e).unwrap_or_else(|| e.to_string());
                format!("the branches cannot both be imported ({e}), so that the condition must be known")
            }
            // That something is not supported is said as it is: giving a trip count other than 0 would not help.
            _ if e.kind != ErrorKind::Invalid => return e,
            _ => format!(
                "the body cannot be imported ({e}), so that it must be known whether it runs at all"
            ),
        };
        let is_unsupported = e.kind == ErrorKind::Unsupported;
        ImportError {
            inputs_to_bind: inputs,
            is_unsupported,
            ..ImportError::new(ErrorKind::NeedsValue, why)
        }
    }

    /// For an operator in a branch of an If that Egret does not have: all of that branch. The other has none, or the model were refused as a whole.
    fn of_its_branch(&mut self, node: &NodeProto, e: &ImportError) -> Option<String> {
        let opsets = self.scopes.frame().opsets.clone();
        let of = |g: &GraphProto| refuse_unsupported(&g.node, &opsets, &self.functions, Operators::Needed);
        let mut all = graphs(node).find_map(|g| of(g).err()).filter(|_| e.is_operator)?;
        all.message += e.beside_operator();
        Some(all.to_string())
    }

    /// For an error in a sub-graph where no input's value decides whether it runs: dims may decide it.
    fn needs_dims(&mut self, deciding: &[ValueId], mut e: ImportError) -> ImportError {
        let free = self.free_dims();
        let known = deciding.iter().all(|&v| self.scopes.graph().as_const(v).is_some());
        if !free.is_empty() && !known && e.open.is_empty() {
            e.message += &format!("; where dims decide the condition, give {}", advice::dims(&free));
        }
        e
    }
}
