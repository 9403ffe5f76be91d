//! Compares two graphs by their terms: which outputs are equal, and where others begin to differ.

use super::TermStore;
use super::congruence::{ABSENT, CongruenceClosure};
use crate::matching::{Terms, all_guards_hold, instantiate, matches};
use crate::rules::{Rule, Tier};
use egret_ir::{Graph, ValueId};
use std::collections::HashMap;

/// An output of two graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Equal, after evaluating what is computed from constants.
    Same,
    /// The terms begin to differ at these values of the first and the second graph: operations or
    /// attributes differ, or one is an input or a constant.
    Part(ValueId, ValueId),
}

/// The most rounds of applying rules to all terms.
const ROUNDS: usize = 3;
/// With this many terms no further round begins.
const TERMS: usize = 50_000;

/// Compares the outputs of two graphs with the same inputs, one by one. `optimised`: what passes have made
/// of each (assumed to be equal to it), and rules of equality to apply to all terms.
///
/// # Errors
/// A node whose operands do not fit it, or a rule that is wrong.
pub fn compare_outputs(
    a: &Graph,
    b: &Graph,
    optimised: Option<(&Graph, &Graph, &[&Rule])>,
) -> Result<Vec<Compared>, String> {
    let mut store = TermStore::new(a);
    let (ta, tb) = (store.load(a), store.load(b));
    let made = optimised.map(|(oa, ob, rules)| (oa, store.load(oa), ob, store.load(ob), rules));
    let mut closure = CongruenceClosure::new(store, false)?;
    closure.evaluate_all()?;
    if let Some((oa, toa, ob, tob, rules)) = made {
        for (of, terms, passed, become_) in [(a, &ta, oa, &toa), (b, &tb, ob, &tob)] {
            for (v, w) in of.outputs().iter().zip(passed.outputs()) {
                closure.equal(terms[v], become_[w], usize::MAX)?;
            }
        }
        apply(&mut closure, rules)?;
    }
    let back = |terms: &HashMap<ValueId, ValueId>| {
        let mut back: HashMap<ValueId, ValueId> = HashMap::new();
        for (&value, &term) in terms {
            back.entry(term).and_modify(|v| *v = (*v).min(value)).or_insert(value);
        }
        back
    };
    let (in_a, in_b) = (back(&ta), back(&tb));
    let one = |(x, y): (&ValueId, &ValueId)| {
        let (mut x, mut y) = (ta[x], tb[y]);
        if closure.find(x) == closure.find(y) {
            return Compared::Same;
        }
        while let Some((p, q)) = below(&closure, x, y) {
            (x, y) = (p, q);
        }
        Compared::Part(in_a[&x], in_b[&y])
    };
    Ok(a.outputs().iter().zip(b.outputs()).map(one).collect())
}

/// Follows the first operands that differ from two values down to where operations differ.
fn below(closure: &CongruenceClosure, x: ValueId, y: ValueId) -> Option<(ValueId, ValueId)> {
    let graph = &closure.store.graph;
    let (n, m) = (graph.node(graph.producer(x)?), graph.node(graph.producer(y)?));
    if n.op != m.op || n.attrs != m.attrs || n.operands.len() != m.operands.len() {
        return None;
    }
    let pairs = n.operands.iter().zip(&m.operands).map(|(p, q)| (p.unwrap_or(ABSENT), q.unwrap_or(ABSENT)));
    let (p, q) = pairs.into_iter().find(|(p, q)| closure.find(*p) != closure.find(*q))?;
    (p != ABSENT && q != ABSENT).then_some((p, q))
}

/// Applies rules to every term, new ones included, for some rounds.
fn apply(closure: &mut CongruenceClosure, rules: &[&Rule]) -> Result<(), String> {
    let mut from = 0;
    for _ in 0..ROUNDS {
        let to = closure.store.graph.value_count();
        if to > TERMS {
            return Ok(());
        }
        for rule in rules {
            for term in (from..to).map(|i| ValueId(i as u32)) {
                if rule.tier > Tier::Exact && closure.facts(term).constant {
                    continue;
                }
                for m in matches(rule, closure, term, 16) {
                    if all_guards_hold(rule, closure, &m)
                        && let Ok(new) = instantiate(rule, closure, &m)
                    {
                        closure
                            .equal(term, new, usize::MAX)
                            .map_err(|e| format!("rule `{}` ({}): {e}", rule.name, rule.place))?;
                    }
                }
            }
        }
        from = to;
    }
    Ok(())
}
