//! The checker: each step is an instance of its rule, its guards hold, and the steps make the outputs
//! equal.

use super::congruence::CongruenceClosure;
use super::{Proof, Step, TermStore, find};
use crate::matching::{Match, completed, instantiate, matches, proven_guards_hold};
use crate::rules::{Rule, Tier};
use egret_ir::{Graph, ValueId};
use std::collections::BTreeSet;
use std::fmt;

/// The most matches of a rule at one term; commutative operands multiply them.
const INSTANCES: usize = 256;

/// Terms of constants with larger results are evaluated only where a proof is not closed without.
const SMALL_BYTES: usize = 1 << 16;

/// What is wrong with a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The pass.
    pub pass: String,
    /// The step, counted from 0, and its rule; `None`: the whole.
    pub step: Option<(usize, String)>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some((i, rule)) => write!(f, "pass `{}`, step {i}, rule `{rule}`: {}", self.pass, self.message),
            None => write!(f, "pass `{}`: {}", self.pass, self.message),
        }
    }
}

/// Checks a proof. `ends`: the graphs that it must be about, before and after.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    proof: &Proof,
    rules: &[&Rule],
    tier: Tier,
    ends: Option<(&Graph, &Graph)>,
) -> Result<(), Fault> {
    let whole = |message: String| Fault { pass: proof.pass.clone(), step: None, message };
    let mut store = TermStore::of(proof.terms.clone());
    if let Some((before, after)) = ends {
        for (of, stated, which) in [(before, &proof.before, "before"), (after, &proof.after, "after")] {
            let terms = store.load(of);
            if !of.outputs().iter().map(|v| terms[v]).eq(stated.iter().copied()) {
                return Err(whole(format!("the proof is not about the graph {which} the pass")));
            }
        }
    }
    let closure = close(proof, store, rules, tier, |_, _| Ok(()))?;
    for (i, (&a, &b)) in proof.before.iter().zip(&proof.after).enumerate() {
        if closure.find(a) != closure.find(b) {
            return Err(whole(format!("the steps do not make output {i} the same before and after")));
        }
    }
    Ok(())
}

/// A step as an instance of its rule.
pub(super) struct Instance<'a> {
    /// Which step.
    pub index: usize,
    pub rule: &'a Rule,
    pub found: Match<ValueId>,
    /// Both sides, as terms on the values of the variables.
    pub before: ValueId,
    pub after: ValueId,
}

/// Checks each step against its rule and makes its sides equal. `each` sees a checked step before that.
pub(super) fn close(
    proof: &Proof,
    store: TermStore,
    rules: &[&Rule],
    tier: Tier,
    mut each: impl FnMut(&CongruenceClosure, Instance) -> Result<(), String>,
) -> Result<CongruenceClosure, Fault> {
    let whole = |message: String| Fault { pass: proof.pass.clone(), step: None, message };
    let mut closure = CongruenceClosure::new(store, proof.deep).map_err(whole)?;
    for (i, step) in proof.steps.iter().enumerate() {
        let fault = |message: String| Fault {
            pass: proof.pass.clone(),
            step: Some((i, step.rule.clone())),
            message,
        };
        let instance = check_step(&mut closure, i, step, rules, tier).map_err(fault)?;
        let is_equality = instance.rule.tier.is_equality();
        each(&closure, instance).map_err(fault)?;
        match is_equality {
            true if closure.is_approximate() => Err("an equality stands after an approximation".into()),
            true => closure.equal(step.before, step.after, i),
            false => closure.approximate(step.before, step.after, i),
        }
        .map_err(fault)?;
    }
    let open = |c: &CongruenceClosure| {
        proof.before.iter().zip(&proof.after).any(|(&a, &b)| c.find(a) != c.find(b))
    };
    // What scales and shapes are computed from is often enough, and costs nothing beside what weights are.
    for limit in [SMALL_BYTES, usize::MAX] {
        if open(&closure) {
            closure.evaluate_up_to(limit).map_err(whole)?;
        }
    }
    Ok(closure)
}

/// Checks one step; returns how it is an instance of its rule.
fn check_step<'a>(
    closure: &mut CongruenceClosure,
    index: usize,
    step: &Step,
    rules: &[&'a Rule],
    tier: Tier,
) -> Result<Instance<'a>, String> {
    let rule = find(rules, &step.rule).ok_or("there is no such rule")?;
    if rule.tier > tier {
        return Err(format!("its tier is {}, {tier} is allowed", rule.tier));
    }
    let mut why = "the term before is no instance of its left-hand side".to_owned();
    let found = matches(rule, closure, step.before, INSTANCES);
    let found = completed(rule, closure, found, step.after, |a, b| closure.find(a) == closure.find(b));
    for found in found {
        if let Err(e) = proven_guards_hold(rule, closure, &found) {
            why = format!("its guard `{}` does not hold: {}", e.guard, e.reason);
            continue;
        }
        match instantiate(rule, closure, &found) {
            Ok(after) if closure.find(after) == closure.find(step.after) => {
                return Ok(Instance { index, rule, found, before: step.before, after });
            }
            Ok(_) => why = "the term after is not the instance of its right-hand side".to_owned(),
            Err(e) => why = e,
        }
    }
    Err(why)
}

/// Reduces a proof to the steps that its conclusion needs. If that is no proof by itself, returns it as it
/// was.
///
/// # Errors
/// A fault of the proof as it was.
pub(crate) fn slice(proof: Proof, rules: &[&Rule], tier: Tier) -> Result<Proof, Fault> {
    let closure = close(&proof, TermStore::of(proof.terms.clone()), rules, tier, |_, _| Ok(()))?;
    let ends = proof.before.iter().zip(&proof.after);
    let used: BTreeSet<usize> = ends.flat_map(|(&a, &b)| closure.explain(a, b)).collect();
    let steps: Vec<Step> =
        proof.steps.iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, s)| s.clone()).collect();
    let mut terms = proof.terms.clone();
    terms.clear_outputs();
    let small =
        Proof::seal(&proof.pass, proof.deep, terms, (proof.before.clone(), proof.after.clone()), steps);
    Ok(if check(&small, rules, tier, None).is_ok() { small } else { proof })
}
