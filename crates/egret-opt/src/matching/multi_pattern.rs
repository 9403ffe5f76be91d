//! Siblings: values that the same operation computes from the same operands but for one. A rule `lhs for ?w in ?ws at ?i` speaks of
//! one of them, with what stands for `?w` in all of them as a list, so that each becomes a part of one value that they share.
//!
//! The rule says of each sibling alone that it is that part. A check of such a step therefore needs no siblings: the list is
//! read off the right-hand side, and every place of the value in it is tried.

use super::matcher::matches_from;
use super::terms::{Bound, Match, Terms};
use crate::rules::{MultiPattern, NodePattern, Pattern, Rule};
use egret_ir::Attr;

impl MultiPattern {
    /// A match with the list and a place in it.
    pub(crate) fn with<Id: Copy>(self, m: &Match<Id>, list: &[Id], place: usize) -> Match<Id> {
        let mut m = m.clone();
        m.values[self.list] = Some(Bound::List(list.to_vec()));
        m.attrs[self.place] = Some(Attr::Int(place as i64));
        m
    }
}

/// Matches of one rule, in the order of their values, as groups: of a rule that joins siblings those of each set of siblings, with their
/// lists; of any other rule each alone.
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
            // What is bound to the whole differs, too.
            let bound = rule.lhs.as_node().and_then(|n| n.bind);
            values().all(|(v, (a, b))| v == multi_pattern.of || Some(v) == bound || a == b)
                && (&m.attrs, &m.spreads, &m.ops) == (&other.attrs, &other.spreads, &other.ops)
        };
        match groups.iter_mut().find(|g| is_sibling(&g[0].1)) {
            Some(group) => {
                // A value that is computed in two such ways is no sibling of its own.
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

/// Matches of the left-hand side of a step as whole matches: where the rule joins siblings, with the lists that the right-hand side
/// can be an instance with. `after`: the step's right-hand side; `same`: whether two values are known to be one.
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

/// Attributes on a right-hand side are computed, which is checked afterwards.
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
