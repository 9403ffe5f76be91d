//! The facts of all values of a graph, whatever it is cut into later.

use super::elements::SMALL;
use super::facts::Facts;
use super::summary::Summary;
use super::terms::{foldable, op_facts};
use egret_ir::{Def, Graph, NodeId, ValueId};

/// What is known of each value of a graph from what computes it.
pub(crate) struct GraphFacts {
    /// By value; those that no node of the order reads or makes have none.
    facts: Vec<Facts>,
    deep: bool,
}

impl GraphFacts {
    /// Follows facts forwards. `order`: all nodes, producers before users; `deep`: keep the elements of constants whatever their size.
    pub fn of(graph: &Graph, order: &[NodeId], deep: bool) -> GraphFacts {
        let mut all = GraphFacts { facts: vec![Facts::default(); graph.value_count()], deep };
        for &id in order {
            let node = graph.node(id);
            for &v in node.operands.iter().flatten() {
                all.leaf(graph, v);
            }
            for &v in &node.results {
                all.facts[v.0 as usize] = all.of_result(graph, id, v);
            }
        }
        graph.outputs().iter().for_each(|&v| all.leaf(graph, v));
        all
    }

    /// What is known of a value.
    pub fn get(&self, v: ValueId) -> &Facts {
        &self.facts[v.0 as usize]
    }

    /// A value that no node makes.
    fn leaf(&mut self, graph: &Graph, v: ValueId) {
        let facts = &mut self.facts[v.0 as usize];
        if facts.types.is_empty() {
            *facts = match &graph.value(v).def {
                Def::Const(t) if self.deep || t.len() <= SMALL => Facts::constant(t, self.deep),
                // Its zeros are of no account to what is computed of it, and take long to count.
                Def::Const(t) => Facts::weight(t.ty(), Summary::without_zeros(t)),
                _ => Facts::of(graph.ty(v).clone()),
            };
        }
    }

    fn of_result(&self, graph: &Graph, id: NodeId, v: ValueId) -> Facts {
        let (node, ty, absent) = (graph.node(id), graph.ty(v), Facts::default());
        if !foldable(node.op) || node.results.len() != 1 {
            return Facts::of(ty.clone());
        }
        let operands: Vec<&Facts> =
            node.operands.iter().map(|o| o.map_or(&absent, |o| self.get(o))).collect();
        // If inference gives another type, the model's own counts.
        let own = |f: &Facts| f.types.first() == Some(ty);
        op_facts(node.op, &node.attrs, &operands, self.deep)
            .ok()
            .filter(own)
            .unwrap_or_else(|| Facts::of(ty.clone()))
    }
}
