//! Constant folding: nodes whose operands are all constants are evaluated, up to a size. Weights quantised in blocks stay the codes that
//! they are ([`Blockwise`]): lowering reads those, which are an eighth or a quarter of the floats. Nor is evaluated what kernels make from
//! less than they would read ([`generated`]).

use super::generated;
use crate::pass::PassContext;
use crate::rebuild::rebuild;
use egret_ir::{Blockwise, Graph, NodeId, TypeError, Value, interp};
use std::collections::BTreeSet;

/// Larger results are not folded, unless they are no larger than their operands.
const MAX_BYTES: usize = 64 << 20;

/// The code of the passes `fold` and `cleanup`. Sub-graphs are for the pass `bodies`.
pub(crate) fn run(graph: &Graph, _: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    folded_except(graph, generated::nodes(graph))
}

/// A graph whose nodes of constants are evaluated; nothing where it has none. For bodies of loops: kernels would make in every round what is
/// only read so.
pub(super) fn folded(graph: &Graph) -> Result<Option<Graph>, TypeError> {
    folded_except(graph, BTreeSet::new())
}

/// As [`folded`], except for some nodes.
fn folded_except(graph: &Graph, except: BTreeSet<NodeId>) -> Result<Option<Graph>, TypeError> {
    let constant = |v: &Option<egret_ir::ValueId>| v.is_none_or(|v| graph.as_const(v).is_some());
    let mut kept = except;
    kept.extend(dequantizations(graph));
    let folds = |id: &NodeId| !kept.contains(id) && graph.node(*id).operands.iter().all(constant);
    if !graph.node_ids().iter().any(folds) {
        return Ok(None);
    }
    let new = rebuild(graph, |r, id, operands| {
        let node = r.old.node(id);
        if kept.contains(&id)
            || operands.is_empty() && node.op != egret_ir::Op::Iota
            || node.op.is_random()
            || node.op.has_regions()
            || node.op.is_host_only()
        {
            return Ok(None);
        }
        let mut values: Vec<Option<Value>> = vec![];
        let mut given = 0;
        for operand in operands {
            values.push(match operand {
                None => None,
                Some(v) => match r.as_const(*v) {
                    Some(t) => {
                        given += t.bytes().len();
                        Some(t.clone().into())
                    }
                    None => return Ok(None),
                },
            });
        }
        let size = |v: &egret_ir::ValueId| {
            let t = r.old.ty(*v).as_tensor()?;
            t.const_len()?.checked_mul(t.dtype.size().max(1))
        };
        if !node.results.iter().all(|v| size(v).is_some_and(|s| s <= MAX_BYTES.max(given))) {
            return Ok(None);
        }
        // An error (e.g. an index out of range) is the model's own and is reported when it runs.
        let Ok(results) = interp::eval_op(node.op, &node.attrs, &values, &[]) else { return Ok(None) };
        let tensors: Option<Vec<_>> = results.into_iter().map(|v| v.as_tensor().cloned()).collect();
        Ok(tensors.map(|ts| ts.into_iter().map(|t| r.builder.constant(t)).collect()))
    })?;
    Ok(Some(new))
}

/// The nodes that dequantise the right operands of products from constants in blocks.
fn dequantizations(graph: &Graph) -> BTreeSet<NodeId> {
    let uses = graph.use_lists();
    graph
        .node_ids()
        .into_iter()
        .filter_map(|n| Blockwise::of(graph, &uses, n))
        .flat_map(|b| b.nodes)
        .collect()
}
