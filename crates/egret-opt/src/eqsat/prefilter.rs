//! A prefilter: whether any rule can match in a graph at all. If none can, no e-graph is built.
//! It compares operations and literal attributes only. Conservative: may report a pattern that does not
//! match, never misses one that does. That holds for the e-graph of the graph, too: merging equal values
//! adds no operations.

use crate::rules::{Expr, NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Graph, NodeId, ValueId};

/// Whether the left-hand side of some rule may match somewhere in a graph.
pub(crate) fn any(graph: &Graph, rules: &[&Rule]) -> bool {
    let patterns: Vec<&NodePattern> = rules.iter().filter_map(|r| r.lhs.as_node()).collect();
    graph.node_ids().into_iter().any(|id| patterns.iter().any(|p| node(graph, p, id)))
}

fn node(graph: &Graph, pattern: &NodePattern, id: NodeId) -> bool {
    let n = graph.node(id);
    let op = match pattern.op {
        OpPattern::One(op) => op == n.op,
        OpPattern::Any(group, _) => group.is_none_or(|g| g.holds(n.op)),
    };
    let attrs = |(name, expr): &(&'static str, Expr)| match expr {
        Expr::Literal(wanted) => n.attrs.get(name) == Some(wanted),
        _ => true,
    };
    let operands =
        |order: &[Option<ValueId>]| pattern.args.iter().zip(order).all(|(p, v)| value(graph, p, *v));
    op && pattern.attrs.iter().all(attrs)
        && (operands(&n.operands)
            || n.op.is_commutative() && operands(&n.operands.iter().rev().copied().collect::<Vec<_>>()))
}

fn value(graph: &Graph, pattern: &Pattern, v: Option<ValueId>) -> bool {
    match (pattern, v) {
        (Pattern::Node(p), Some(v)) => graph.producer(v).is_some_and(|id| node(graph, p, id)),
        (Pattern::Node(_), None) => false,
        _ => true,
    }
}
