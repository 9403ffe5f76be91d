//! Multi-patterns: rules about siblings, i.e. matches that differ in one variable only. `(matmul ?x ?w) for
//! ?w in ?ws at ?i => (slice .. (matmul ?x (concat ?ws..)))` rewrites each of several products of `?x` to a
//! slice of one product.
//! Each sibling's rewrite is a statement by itself. A proof checker therefore needs no other siblings: it
//! reads the list `?ws` off the right-hand side and tries every index at which `?w` is in it.

use super::matcher::matches_from;
use super::terms::{Bound, Match, Terms};
use crate::rules::{MultiPattern, NodePattern, Pattern, Rule};
use egret_ir::Attr;

impl MultiPattern {
    /// Binds the list and an index to a match.
    pub(crate) fn with<Id: Copy>(self, m: &Match<Id>, list: &[Id], place: usize) -> Match<Id> {
        let mut m = m.clone();
        m.values[self.list] = Some(Bound::List(list.to_vec()));
        m.attrs[self.place] = Some(Attr::Int(place as i64));
        m
    }
}

/// Groups the matches of a rule, in the order of their values. Siblings of a multi-pattern form a group and
/// have their list bound; a match of any other rule is a group of its own.
pub(crate) fn groups<Id: Copy + Eq + Ord>(
    rule: &Rule,
    found: Vec<(Id, Match<Id>)>,
) -> Vec<Vec<(Id, Match<Id>)>> {
    let Some(multi_pattern) = rule.multi_pattern else {
        return found.into_iter().map(|one| vec![one]).collect();
    };
    let mut groups: Vec<Vec<(Id, Match<Id>)>> = vec![];
    for (id, m) in found {
        let is_sibling = |other: &Match<Id>| {
            let values = || m.values.iter().zip(&other.values).enumerate();
            // The variable of the root node differs between siblings, too.
            let bound = rule.lhs.as_node().and_then(|n| n.bind);
            values().all(|(v, (a, b))| v == multi_pattern.of || Some(v) == bound || a == b)
                && (&m.attrs, &m.spreads, &m.ops) == (&other.attrs, &other.spreads, &other.ops)
        };
        match groups.iter_mut().find(|g| is_sibling(&g[0].1)) {
            Some(group) => {
                // A value with two such nodes is not its own sibling.
                if group.iter().all(|(other, _)| *other != id) {
                    group.push((id, m));
                }
            }
            None => groups.push(vec![(id, m)]),
        }
    }
    groups.retain(|g| g.len() > 1);
    for group in &mut groups {
        let list: Vec<Id> = group.iter().filter_map(|(_, m)| one(m, multi_pattern.of)).collect();
        for (i, (_, m)) in group.iter_mut().enumerate() {
            *m = multi_pattern.with(m, &list, i);
        }
    }
    groups
}

fn one<Id: Copy>(m: &Match<Id>, v: usize) -> Option<Id> {
    match m.values.get(v)? {
        Some(Bound::One(id)) => Some(*id),
        _ => None,
    }
}

/// Completes the matches of a proof step's left-hand side: for a multi-pattern binds the list, read off the
/// step's right-hand side `after`, and each possible index. `same`: whether two values are known to be
/// equal.
pub(crate) fn completed<T: Terms>(
    rule: &Rule,
    terms: &T,
    found: Vec<Match<T::Id>>,
    after: T::Id,
    same: impl Fn(T::Id, T::Id) -> bool,
) -> Vec<Match<T::Id>> {
    let Some(multi_pattern) = rule.multi_pattern else { return found };
    let mut shape = rule.rhs.clone();
    without_attributes(&mut shape);
    let mut out = vec![];
    for m in found {
        for whole in matches_from(&shape, terms, after, m.clone()) {
            let Some(Some(Bound::List(list))) = whole.values.get(multi_pattern.list) else { continue };
            let Some(value) = one(&m, multi_pattern.of) else { continue };
            let places = (0..list.len()).filter(|&i| same(list[i], value));
            out.extend(places.map(|i| multi_pattern.with(&m, list, i)));
        }
    }
    out
}

/// Drops attributes from a right-hand side: they are computed, and compared later by instantiating it.
fn without_attributes(pattern: &mut Pattern) {
    match pattern {
        Pattern::Node(NodePattern { attrs, spread, args, .. }) => {
            attrs.clear();
            *spread = None;
            args.iter_mut().for_each(without_attributes);
        }
        Pattern::Each(inner) => without_attributes(inner),
        _ => {}
    }
}
