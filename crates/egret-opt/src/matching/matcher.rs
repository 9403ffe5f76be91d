//! Finding the matches of a pattern.

use super::terms::{Bound, Match, TermNode, Terms};
use crate::rules::{Expr, NodePattern, OpPattern, Pattern, Rule};

/// All matches of a rule's left-hand side at a value, at most `limit`. Guards are not evaluated.
pub fn matches<T: Terms>(rule: &Rule, terms: &T, at: T::Id, limit: usize) -> Vec<Match<T::Id>> {
    let mut found = one(terms, &rule.lhs, at, vec![Match::empty(rule)], limit);
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
    one(terms, pattern, at, vec![bound], FROM_LIMIT)
}

/// The limit of [`matches_from`]: commutative operands multiply matches.
const FROM_LIMIT: usize = 64;

fn one<T: Terms>(
    terms: &T,
    pattern: &Pattern,
    at: T::Id,
    so_far: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    match pattern {
        Pattern::Value(_) if terms.is_absent(at) => vec![],
        Pattern::Value(v) => so_far.into_iter().filter_map(|m| bind(m, *v, at)).collect(),
        Pattern::Absent if terms.is_absent(at) => so_far,
        // Numbers are of right-hand sides: on the left they are variables with guards.
        Pattern::Absent | Pattern::Each(_) | Pattern::Splat(_) | Pattern::Number(_) => vec![],
        Pattern::Node(node) => {
            let mut out = vec![];
            for candidate in terms.nodes(at) {
                for m in &so_far {
                    if out.len() >= limit {
                        return out;
                    }
                    if let Some(m) = head(node, &candidate, at, m) {
                        out.extend(operands(terms, node, &candidate, m, limit));
                    }
                }
            }
            out
        }
    }
}

fn bind<Id: Copy + Eq>(mut m: Match<Id>, v: usize, at: Id) -> Option<Match<Id>> {
    match &m.values[v] {
        Some(Bound::One(is)) => (*is == at).then_some(m),
        Some(Bound::List(_)) => None,
        None => {
            m.values[v] = Some(Bound::One(at));
            Some(m)
        }
    }
}

/// Matches operation, attributes and the node's own variable.
fn head<Id: Copy + Eq>(
    node: &NodePattern,
    candidate: &TermNode<'_, Id>,
    at: Id,
    m: &Match<Id>,
) -> Option<Match<Id>> {
    let mut m = m.clone();
    match node.op {
        OpPattern::One(op) if op != candidate.op => return None,
        OpPattern::Any(Some(group), v) => {
            if !group.holds(candidate.op) || m.ops[v].is_some_and(|op| op != candidate.op) {
                return None;
            }
            m.ops[v] = Some(candidate.op);
        }
        _ => {}
    }
    for (name, expr) in &node.attrs {
        let is = candidate.attrs.get(name)?;
        match expr {
            Expr::Literal(wanted) if wanted == is => {}
            Expr::Attr(v) => match &m.attrs[*v] {
                Some(bound) if bound == is => {}
                Some(_) => return None,
                None => m.attrs[*v] = Some(is.clone()),
            },
            _ => return None,
        }
    }
    if let Some(v) = node.spread {
        match &m.spreads[v] {
            Some(bound) if bound == candidate.attrs => {}
            Some(_) => return None,
            None => m.spreads[v] = Some(candidate.attrs.clone()),
        }
    }
    match node.bind {
        Some(v) => bind(m, v, at),
        None => Some(m),
    }
    .map(|mut m| {
        m.matched.push((at, candidate.key, false));
        m
    })
}

fn operands<T: Terms>(
    terms: &T,
    node: &NodePattern,
    candidate: &TermNode<'_, T::Id>,
    m: Match<T::Id>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let place = m.matched.len() - 1;
    let given = candidate.operands;
    let commutes = node.args.len() == 2 && given.len() == 2 && candidate.op.is_commutative();
    let exchanges = commutes && node.args[0] != node.args[1] && given[0] != given[1];
    let exchanged = exchanges.then(|| m.clone());
    let mut out = in_order(terms, &node.args, given, vec![m], limit);
    if let Some(mut m) = exchanged {
        m.matched[place].2 = true;
        out.extend(in_order(terms, &node.args, &[given[1], given[0]], vec![m], limit));
    }
    out
}

fn in_order<T: Terms>(
    terms: &T,
    args: &[Pattern],
    given: &[T::Id],
    mut found: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let (fixed, each) = match args.split_last() {
        Some((Pattern::Each(inner), fixed)) => (fixed, Some(inner)),
        _ => (args, None),
    };
    if given.len() < fixed.iter().rposition(|p| *p != Pattern::Absent).map_or(0, |i| i + 1) {
        return vec![];
    }
    for (arg, &id) in fixed.iter().zip(given) {
        found = one(terms, arg, id, found, limit);
        if found.is_empty() {
            return found;
        }
    }
    let rest = given.get(fixed.len()..).unwrap_or_default();
    match each {
        None if rest.iter().all(|&id| terms.is_absent(id)) => found,
        None => vec![],
        Some(inner) => rest_of(terms, inner, rest, found, limit),
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
                for mut m in one(terms, inner, id, vec![m], limit) {
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
