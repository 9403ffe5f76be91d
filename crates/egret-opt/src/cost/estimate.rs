//! The estimated cost of a graph node by node, for reports. Extraction chooses by the same model.

use super::model::{self, CostModel};
use crate::analysis::{Facts, Summary};
use egret_ir::{Def, Graph, NodeId, Op, ValueId};

/// The estimated time of every node in nanoseconds, in topological order. It knows types and constants
/// (of convolutions the zeros among them) only, so that the sum may differ from what extraction saw.
pub fn estimate(graph: &Graph, model: &CostModel) -> Vec<(NodeId, u64)> {
    let order = graph.topological().unwrap_or_else(|_| graph.node_ids());
    let mut constant = vec![false; graph.value_count()];
    for v in graph.value_ids() {
        constant[v.0 as usize] = matches!(graph.value(v).def, Def::Const(_));
    }
    let mut out = Vec::with_capacity(order.len());
    for id in order {
        let node = graph.node(id);
        let fixed = !node.op.is_random() && node.operands.iter().flatten().all(|v| constant[v.0 as usize]);
        for v in &node.results {
            constant[v.0 as usize] = fixed;
        }
        let facts = |v: &ValueId| {
            let zeros = matches!(node.op, Op::Conv | Op::Matmul).then(|| graph.as_const(*v)).flatten();
            let summary = zeros.map(Summary::of_zeros).unwrap_or_default();
            Facts { constant: constant[v.0 as usize], summary, ..Facts::of(graph.ty(*v).clone()) }
        };
        let operands: Vec<Facts> = node.operands.iter().flatten().map(facts).collect();
        let result = node.results.first().map(facts).unwrap_or_default();
        out.push((
            id,
            model::node(model, node.op, &node.attrs, &operands.iter().collect::<Vec<_>>(), &result),
        ));
    }
    out
}
