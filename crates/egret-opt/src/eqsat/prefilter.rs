//! Whether any rule's left-hand side is in a graph at all: where none is, no e-graph need be built.
//!
//! Only operations and literal attributes are looked at, not guards nor whether a variable stands for one value: what is said to
//! be there may not match, what is said not to be there cannot. Equal values are one in an e-graph, but joining them makes no new
//! operations, so that what is not in the graph is not in its e-graph either.

use crate::rules::{Expr, NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Graph, NodeId, ValueId};

/// Whether the shape of some rule's left-hand side stands somewhere in a graph.
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
            || n.op.info().has_trait("commutative")
                && operands(&n.operands.iter().rev().copied().collect::<Vec<_>>()))
}

fn value(graph: &Graph, pattern: &Pattern, v: Option<ValueId>) -> bool {
    match (pattern, v) {
        (Pattern::Node(p), Some(v)) => graph.producer(v).is_some_and(|id| node(graph, p, id)),
        (Pattern::Node(_), None) => false,
        _ => true,
    }
}
