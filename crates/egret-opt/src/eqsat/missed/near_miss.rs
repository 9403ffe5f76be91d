//! Near misses: patterns that would match if one node were different or absent, e.g. `softmax(add(scores,
//! mask))` where the graph has a `cast` in between.

use crate::rules::{NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Family, Op};

/// A rule with a weakened pattern.
pub(crate) struct NearMiss {
    /// The rule with one node of its left-hand side replaced by, or put below, a node of any operation.
    pub variant: Rule,
    /// The index of that node, outermost first.
    pub place: usize,
    /// What the rule wants there, in words.
    pub wanted: String,
    /// The operation in whose place another stands, if it is that.
    pub instead_of: Option<Op>,
}

/// The near misses of a rule. The outermost node is never weakened.
pub(crate) fn near_misses(rule: &Rule) -> Vec<NearMiss> {
    let nodes = rule.lhs.nodes();
    let mut out = vec![];
    for (place, node) in nodes.into_iter().enumerate().skip(1) {
        let OpPattern::One(op) = node.op else { continue };
        let any = |args: Vec<Pattern>, bind| {
            Pattern::Node(NodePattern {
                op: OpPattern::Any(None, usize::MAX),
                bind,
                spread: None,
                attrs: vec![],
                args,
            })
        };
        let same = node.clone();
        let variant = |with: Pattern| {
            let mut lhs = rule.lhs.clone();
            let mut left = place;
            replace(&mut lhs, &mut left, &with);
            Rule { lhs, ..rule.clone() }
        };
        let wanted = format!("`{op}` is wanted there");
        out.push(NearMiss {
            variant: variant(any(same.args.clone(), same.bind)),
            place,
            wanted,
            instead_of: Some(op),
        });
        let wanted = format!("it stands before the `{op}` that is wanted");
        out.push(NearMiss {
            variant: variant(any(vec![Pattern::Node(same)], None)),
            place,
            wanted,
            instead_of: None,
        });
    }
    out
}

/// Whether one operation in place of another makes a near miss: products around a gelu are a perceptron, not nearly an attention.
pub(crate) fn are_alike(a: Op, b: Op) -> bool {
    let exchangeable = [Family::Elementwise, Family::Movement, Family::Contraction];
    a.family() == b.family() && exchangeable.contains(&a.family())
}

/// Replaces the node that is `left` nodes ahead.
fn replace(p: &mut Pattern, left: &mut usize, with: &Pattern) -> bool {
    match p {
        Pattern::Node(n) => {
            if *left == 0 {
                *p = with.clone();
                return true;
            }
            *left -= 1;
            n.args.iter_mut().any(|a| replace(a, left, with))
        }
        Pattern::Each(inner) => replace(inner, left, with),
        _ => false,
    }
}
