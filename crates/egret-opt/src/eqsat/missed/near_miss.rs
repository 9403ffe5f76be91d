//! Rules with one node of their pattern other than it should be: another operation in its place, or one more above it.

use crate::rules::{NodePattern, OpPattern, Pattern, Rule};

/// A rule that is nearly another.
pub(crate) struct NearMiss {
    /// Its left-hand side is that of the rule but for one node, which may be any operation.
    pub variant: Rule,
    /// Which of its nodes, outermost first, that is.
    pub place: usize,
    /// What should be there, in words.
    pub wanted: String,
}

/// All of a rule's: its outermost node stays.
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
        out.push(NearMiss { variant: variant(any(same.args.clone(), same.bind)), place, wanted });
        let wanted = format!("it stands before the `{op}` that is wanted");
        out.push(NearMiss { variant: variant(any(vec![Pattern::Node(same)], None)), place, wanted });
    }
    out
}

/// Replace the node that `left` counts down to.
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
