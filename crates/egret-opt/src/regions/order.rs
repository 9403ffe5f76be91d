//! The order in which a graph is cut into regions: what is made of constants alone stands right before its first user.
//!
//! Exporters write the dequantisation of all weights in front of the first layer. Left there, the weights of a late layer would be
//! values from another region to the rules that look for products of dequantised weights.

use crate::analysis::foldable;
use crate::rebuild::topological;
use egret_ir::{Graph, NodeId, ValueId};

/// All nodes, producers before users.
pub(crate) fn order(graph: &Graph) -> Vec<NodeId> {
    let order = topological(graph);
    let mut late = Late { graph, waiting: vec![false; graph.value_count()], stack: vec![], out: vec![] };
    let (of_constants, others): (Vec<NodeId>, Vec<NodeId>) =
        order.into_iter().partition(|&id| late.is_of_constants(id));
    others.into_iter().for_each(|id| late.place(id));
    // What only outputs of the graph use.
    for id in of_constants {
        if graph.node(id).results.iter().any(|&v| late.waits(v)) {
            late.place(id);
        }
    }
    late.out
}

struct Late<'a> {
    graph: &'a Graph,
    /// By value: whether the node that makes it waits for its first user.
    waiting: Vec<bool>,
    stack: Vec<NodeId>,
    out: Vec<NodeId>,
}

impl Late<'_> {
    fn waits(&self, v: ValueId) -> bool {
        self.waiting[v.0 as usize]
    }

    /// Whether a node is made of constants alone; its operands have been asked.
    fn is_of_constants(&mut self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let mut operands = node.operands.iter().flatten().peekable();
        let is = operands.peek().is_some()
            && foldable(node.op)
            && node.attrs.declared().is_empty()
            && operands.all(|&v| self.graph.as_const(v).is_some() || self.waits(v));
        node.results.iter().for_each(|v| self.waiting[v.0 as usize] = is);
        is
    }

    /// Places a node after those of its operands that wait.
    fn place(&mut self, id: NodeId) {
        self.stack.push(id);
        while let Some(&top) = self.stack.last() {
            let node = self.graph.node(top);
            let waits = node.operands.iter().flatten().find(|v| self.waits(**v));
            if let Some(open) = waits.and_then(|&v| self.graph.producer(v)) {
                self.stack.push(open);
                continue;
            }
            self.stack.pop();
            node.results.iter().for_each(|v| self.waiting[v.0 as usize] = false);
            self.out.push(top);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::{Op, text};

    #[test]
    fn what_is_made_of_constants_stands_before_its_first_user() {
        let graph = text::parse(
            "graph @g(%0 \"x\": f32[2]) -> (%7 \"y\", %4 \"w\") {
  %1 = const i8[2] [1, 2]
  %2 = cast(%1) {round = \"nearest\", saturate = 1, to = f32}
  %3 = neg(%2)
  %4 = abs(%1)
  %5 = exp(%0)
  %6 = mul(%5, %3)
  %7 = add(%6, %2)
}",
            &|_| None,
        )
        .unwrap();
        let ops: Vec<Op> = order(&graph).into_iter().map(|n| graph.node(n).op).collect();
        assert_eq!(ops, [Op::Exp, Op::Cast, Op::Neg, Op::Mul, Op::Add, Op::Abs]);
    }
}
