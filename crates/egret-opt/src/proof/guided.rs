//! Guided proofs: the code of a pass names the rules that it applies and where; each application is checked
//! at once.

use super::congruence::CongruenceClosure;
use super::{Proof, Step, TermStore};
use crate::matching::{Sink, guards_hold, instantiate, matches};
use crate::rules::Rule;
use egret_ir::{Attrs, Graph, Op, ValueId};
use std::collections::{BTreeSet, HashMap};

/// The most matches of a rule at one term.
const INSTANCES: usize = 16;

/// A proof in the making, from one graph to another.
pub(crate) struct Guided<'a> {
    closure: CongruenceClosure,
    /// The terms of the values of both graphs.
    before: HashMap<ValueId, ValueId>,
    after: HashMap<ValueId, ValueId>,
    rules: &'a [&'a Rule],
    steps: Vec<Step>,
}

impl<'a> Guided<'a> {
    /// Starts a proof that two graphs with the same inputs are equal.
    ///
    /// # Errors
    /// A node whose operands do not fit it.
    pub fn new(before: &Graph, after: &Graph, rules: &'a [&'a Rule]) -> Result<Guided<'a>, String> {
        let mut store = TermStore::new(before);
        let mut load = |of: &Graph| {
            let mut terms = store.load(of);
            // Also constants without users, e.g. one from which another was folded.
            for v in of.value_ids() {
                if let Some(t) = of.as_const(v) {
                    terms.entry(v).or_insert_with(|| store.constant(t.clone()));
                }
            }
            terms
        };
        let (before, after) = (load(before), load(after));
        Ok(Guided { closure: CongruenceClosure::new(store, false)?, before, after, rules, steps: vec![] })
    }

    /// The term of a value of the graph before.
    pub fn before(&self, v: ValueId) -> Result<ValueId, String> {
        self.before.get(&v).copied().ok_or_else(|| format!("{v} is no value of the graph before"))
    }

    /// The term of a value of the graph after.
    pub fn after(&self, v: ValueId) -> Result<ValueId, String> {
        self.after.get(&v).copied().ok_or_else(|| format!("{v} is no value of the graph after"))
    }

    /// The graph that holds the terms.
    pub fn terms(&self) -> &Graph {
        &self.closure.store.graph
    }

    /// Adds a term.
    ///
    /// # Errors
    /// The operands do not fit.
    pub fn term(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Result<ValueId, String> {
        let operands: Vec<Option<ValueId>> = operands.iter().map(|&v| Some(v)).collect();
        self.closure.add_node(op, attrs, &operands)
    }

    /// Whether a rule of this name may be applied.
    pub fn has(&self, rule: &str) -> bool {
        super::find(self.rules, rule).is_some()
    }

    /// Applies a rule at a term; returns the instance of its right-hand side.
    ///
    /// # Errors
    /// The rule does not apply there: a bug of the pass.
    pub fn apply(
        &mut self,
        rule: &str,
        at: ValueId,
        sources: &BTreeSet<String>,
    ) -> Result<ValueId, String> {
        let rule =
            super::find(self.rules, rule).ok_or_else(|| format!("rule `{rule}` may not be applied"))?;
        let mut why = "its left-hand side is not there".to_owned();
        for found in matches(rule, &self.closure, at, INSTANCES) {
            if let Err(e) = guards_hold(rule, &self.closure, &found) {
                why = format!("its guard `{}` does not hold: {}", e.guard, e.reason);
                continue;
            }
            let after = instantiate(rule, &mut self.closure, &found)?;
            self.closure.equal(at, after, self.steps.len())?;
            let (rule, place, sources) = (rule.name.clone(), rule.place.to_string(), sources.clone());
            self.steps.push(Step { rule, place, sources, before: at, after });
            return Ok(after);
        }
        Err(format!("rule `{}` ({}) does not apply where it was applied: {why}", rule.name, rule.place))
    }

    /// The proof, reduced to the steps that are needed. `ends`: the outputs of both graphs. Steps are not
    /// checked again: each was checked when it was applied, and guards of guided rules may need types,
    /// which a step does not carry.
    ///
    /// # Errors
    /// The steps do not prove that the graphs are equal: a bug of the pass.
    pub fn finish(self, pass: &str, ends: (&[ValueId], &[ValueId])) -> Result<Proof, String> {
        let Guided { mut closure, before, after, steps, .. } = self;
        let of = |ends: &[ValueId], terms: &HashMap<ValueId, ValueId>| {
            ends.iter().map(|v| terms[v]).collect::<Vec<_>>()
        };
        let ends = (of(ends.0, &before), of(ends.1, &after));
        let apart =
            |c: &CongruenceClosure| ends.0.iter().zip(&ends.1).position(|(&a, &b)| c.find(a) != c.find(b));
        if apart(&closure).is_some() {
            closure.evaluate_all()?;
        }
        if let Some(i) = apart(&closure) {
            return Err(format!(
                "the rules that were applied do not make output {i} the same before and after"
            ));
        }
        let used: BTreeSet<usize> =
            ends.0.iter().zip(&ends.1).flat_map(|(&a, &b)| closure.explain(a, b)).collect();
        let steps =
            steps.into_iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, s)| s).collect();
        Ok(Proof::seal(pass, false, closure.store.graph, ends, steps))
    }
}
