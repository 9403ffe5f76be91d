//! Finding the matches of a pattern.

use super::terms::{Bound, Match, TermNode, Terms};
use crate::rules::{Expr, NodePattern, OpPattern, Pattern, Rule};

/// All matches of a rule's left-hand side at a value, at most `limit`. Guards are not evaluated.
pub fn matches<T: Terms>(rule: &Rule, terms: &T, at: T::Id, limit: usize) -> Vec<Match<T::Id>> {
    if !fits(terms, &rule.lhs, at) {
        return vec![];
    }
    let mut found = vec![Match::empty(rule)];
    one(terms, &rule.lhs, at, &mut found, limit);
    found.truncate(limit);
    found
}

/// All matches of a pattern at a value that extend a given match.
pub(crate) fn matches_from<T: Terms>(
    pattern: &Pattern,
    terms: &T,
    at: T::Id,
    bound: Match<T::Id>,
) -> Vec<Match<T::Id>> {
    let mut found = vec![bound];
    one(terms, pattern, at, &mut found, FROM_LIMIT);
    found
}

/// The limit of [`matches_from`]: commutative operands multiply matches.
const FROM_LIMIT: usize = 64;

/// A prefilter: whether the operations of a pattern, and its literal attributes, are there. Most patterns fail here, before
/// there is a match to bind anything in.
fn fits<T: Terms>(terms: &T, pattern: &Pattern, at: T::Id) -> bool {
    match pattern {
        Pattern::Node(node) => terms.nodes(at).any(|candidate| suits(terms, node, &candidate)),
        Pattern::Value(_) => true,
        Pattern::Absent => terms.is_absent(at),
        // Numbers are of right-hand sides: on the left they are variables with guards.
        Pattern::Each(_) | Pattern::Splat(_) | Pattern::Number(_) => false,
    }
}

/// The prefilter for one node of a value.
fn suits<T: Terms>(terms: &T, node: &NodePattern, candidate: &TermNode<'_, T::Id>) -> bool {
    let op = match node.op {
        OpPattern::One(op) => op == candidate.op,
        OpPattern::Any(group, _) => group.is_none_or(|g| g.holds(candidate.op)),
    };
    let attr = |(name, expr): &(&'static str, Expr)| match (candidate.attrs.get(name), expr) {
        (Some(is), Expr::Literal(wanted)) => is == wanted,
        (is, _) => is.is_some(),
    };
    let given = candidate.operands;
    op && node.attrs.iter().all(attr)
        && (all_fit(terms, &node.args, given)
            || commutes(node, candidate) && all_fit(terms, &node.args, &[given[1], given[0]]))
}

/// The prefilter for operands, in order.
fn all_fit<T: Terms>(terms: &T, args: &[Pattern], given: &[T::Id]) -> bool {
    let (fixed, each) = fixed_and_each(args);
    let rest = given.get(fixed.len()..).unwrap_or_default();
    given.len() >= least(fixed)
        && fixed.iter().zip(given).all(|(p, &id)| fits(terms, p, id))
        && each.is_none_or(|inner| rest.iter().all(|&id| fits(terms, inner, id)))
}

/// Whether the operands may be matched in either order.
fn commutes<Id>(node: &NodePattern, candidate: &TermNode<'_, Id>) -> bool {
    node.args.len() == 2 && candidate.operands.len() == 2 && candidate.op.is_commutative()
}

/// The patterns of operands, and that of all that are left.
fn fixed_and_each(args: &[Pattern]) -> (&[Pattern], Option<&Pattern>) {
    match args.split_last() {
        Some((Pattern::Each(inner), fixed)) => (fixed, Some(inner)),
        _ => (args, None),
    }
}

/// The fewest operands that these patterns match.
fn least(fixed: &[Pattern]) -> usize {
    fixed.iter().rposition(|p| *p != Pattern::Absent).map_or(0, |i| i + 1)
}

/// Extends matches by those of a pattern at a value, and drops those that have none.
fn one<T: Terms>(terms: &T, pattern: &Pattern, at: T::Id, found: &mut Vec<Match<T::Id>>, limit: usize) {
    match pattern {
        Pattern::Value(_) if terms.is_absent(at) => found.clear(),
        Pattern::Value(v) => found.retain_mut(|m| bind(m, *v, at)),
        Pattern::Absent if terms.is_absent(at) => {}
        Pattern::Absent | Pattern::Each(_) | Pattern::Splat(_) | Pattern::Number(_) => found.clear(),
        Pattern::Node(node) => {
            let so_far = std::mem::take(found);
            let mut candidates = terms.nodes(at).filter(|c| suits(terms, node, c)).peekable();
            while let Some(candidate) = candidates.next() {
                let mut extend = |mut m: Match<T::Id>| {
                    if head(node, &candidate, at, &mut m) {
                        operands(terms, node, &candidate, m, found, limit);
                    }
                    found.len() < limit
                };
                if candidates.peek().is_none() {
                    let _ = so_far.into_iter().all(extend);
                    return;
                }
                if !so_far.iter().all(|m| extend(m.clone())) {
                    return;
                }
            }
        }
    }
}

fn bind<Id: Copy + Eq>(m: &mut Match<Id>, v: usize, at: Id) -> bool {
    match &m.values[v] {
        Some(Bound::One(is)) => *is == at,
        Some(Bound::List(_)) => false,
        None => {
            m.values[v] = Some(Bound::One(at));
            true
        }
    }
}

/// Binds what a node that suits has beside its operands. Returns whether it fits what is bound.
fn head<Id: Copy + Eq>(
    node: &NodePattern,
    candidate: &TermNode<'_, Id>,
    at: Id,
    m: &mut Match<Id>,
) -> bool {
    if let OpPattern::Any(Some(_), v) = node.op {
        if m.ops[v].is_some_and(|op| op != candidate.op) {
            return false;
        }
        m.ops[v] = Some(candidate.op);
    }
    for (name, expr) in &node.attrs {
        match (candidate.attrs.get(name), expr) {
            (Some(_), Expr::Literal(_)) => {}
            (Some(is), Expr::Attr(v)) => match &m.attrs[*v] {
                Some(bound) if bound == is => {}
                Some(_) => return false,
                None => m.attrs[*v] = Some(is.clone()),
            },
            _ => return false,
        }
    }
    if let Some(v) = node.spread {
        match &m.spreads[v] {
            Some(bound) if bound == candidate.attrs => {}
            Some(_) => return false,
            None => m.spreads[v] = Some(candidate.attrs.clone()),
        }
    }
    if node.bind.is_some_and(|v| !bind(m, v, at)) {
        return false;
    }
    m.matched.push((at, candidate.key, false));
    true
}

/// Adds the matches that extend one by those of a node's operands.
fn operands<T: Terms>(
    terms: &T,
    node: &NodePattern,
    candidate: &TermNode<'_, T::Id>,
    m: Match<T::Id>,
    out: &mut Vec<Match<T::Id>>,
    limit: usize,
) {
    let place = m.matched.len() - 1;
    let given = candidate.operands;
    let exchanges = commutes(node, candidate)
        && given[0] != given[1]
        && node.args[0] != node.args[1]
        && all_fit(terms, &node.args, &[given[1], given[0]]);
    let exchanged = exchanges.then(|| m.clone());
    let mut add = |order: &[T::Id], m| {
        let mut found = vec![m];
        in_order(terms, &node.args, order, &mut found, limit);
        if out.is_empty() {
            *out = found;
        } else {
            out.append(&mut found);
        }
    };
    add(given, m);
    if let Some(mut m) = exchanged {
        m.matched[place].2 = true;
        add(&[given[1], given[0]], m);
    }
}

fn in_order<T: Terms>(
    terms: &T,
    args: &[Pattern],
    given: &[T::Id],
    found: &mut Vec<Match<T::Id>>,
    limit: usize,
) {
    let (fixed, each) = fixed_and_each(args);
    if given.len() < least(fixed) {
        return found.clear();
    }
    for (arg, &id) in fixed.iter().zip(given) {
        one(terms, arg, id, found, limit);
        if found.is_empty() {
            return;
        }
    }
    let rest = given.get(fixed.len()..).unwrap_or_default();
    match each {
        None if rest.iter().all(|&id| terms.is_absent(id)) => {}
        None => found.clear(),
        Some(inner) => *found = rest_of(terms, inner, rest, std::mem::take(found), limit),
    }
}

/// Matches `inner..` against each of `rest`; the value variables of `inner` become lists.
fn rest_of<T: Terms>(
    terms: &T,
    inner: &Pattern,
    rest: &[T::Id],
    found: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let mut vars = vec![];
    value_vars(inner, &mut vars);
    let mut out = vec![];
    for start in found {
        if vars.iter().any(|&v| start.values[v].is_some()) {
            continue;
        }
        let mut partial = vec![(start, vec![vec![]; vars.len()])];
        for &id in rest {
            let mut next = vec![];
            for (m, lists) in partial {
                if let (Pattern::Value(_), true) = (inner, terms.is_absent(id)) {
                    // An omitted operand stays omitted.
                    next.push((
                        m,
                        lists.into_iter().map(|l| l.into_iter().chain([id]).collect()).collect(),
                    ));
                    continue;
                }
                let mut found = vec![m];
                one(terms, inner, id, &mut found, limit);
                for mut m in found {
                    let mut lists: Vec<Vec<T::Id>> = lists.clone();
                    for (list, &v) in lists.iter_mut().zip(&vars) {
                        if let Some(Bound::One(id)) = m.values[v].take() {
                            list.push(id);
                        }
                    }
                    next.push((m, lists));
                }
            }
            partial = next;
        }
        out.extend(partial.into_iter().map(|(mut m, lists)| {
            for (list, &v) in lists.into_iter().zip(&vars) {
                m.values[v] = Some(Bound::List(list));
            }
            m
        }));
    }
    out
}

pub(super) fn value_vars(pattern: &Pattern, out: &mut Vec<usize>) {
    match pattern {
        Pattern::Value(v) if !out.contains(v) => out.push(*v),
        Pattern::Node(n) => {
            if let Some(v) = n.bind.filter(|v| !out.contains(v)) {
                out.push(v);
            }
            n.args.iter().for_each(|a| value_vars(a, out));
        }
        Pattern::Each(p) => value_vars(p, out),
        _ => {}
    }
}
