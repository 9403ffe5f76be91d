//! Proofs that the graph after a pass equals the one before it, and their checker. Nothing here uses the
//! e-graph.
//! A proof is a graph that holds the terms of both graphs, equal ones once (`term_store`), and steps: this
//! rule says that these two values are equal. `eqsat::record` writes proofs of saturations, `guided` those
//! of code that applies rules. `check` compares each step with its rule, on a congruence closure
//! (`congruence`) that also says which steps a conclusion needs. `replay` runs both sides of steps on
//! random tensors; `minimize` makes a test of a step; `compare` compares two graphs.

pub(crate) mod accuracy;
mod check;
mod compare;
pub(crate) mod congruence;
mod guided;
mod minimize;
mod provenance;
mod replay;
mod term_store;
pub(crate) mod values;

use crate::analysis::Facts;
use crate::rules::Rule;
use egret_ir::{Def, Graph, Tensor, ValueId, text};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use check::slice;
pub use check::{Fault, check};
pub use compare::{Compared, compare_outputs};
pub(crate) use guided::{Guided, TermId};
pub(crate) use minimize::cone;
pub use minimize::{minimized, printed};
pub use provenance::{Made, Provenance, provenance};
pub use replay::{Replay, replay};
pub(crate) use term_store::TermStore;

/// A step: a rule says that two values are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule's name.
    pub rule: String,
    /// `file:line` of the rule.
    pub place: String,
    /// The ONNX nodes that it was applied to, sorted.
    pub sources: BTreeSet<String>,
    /// The instance of its left-hand side.
    pub before: ValueId,
    /// The instance of its right-hand side.
    pub after: ValueId,
}

/// A proof that the outputs of two graphs are equal.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The pass.
    pub pass: String,
    /// Whether facts have the elements of constants of any size.
    pub deep: bool,
    /// The terms. Its outputs are those of the graph before the pass, then those of the graph after it, then both sides of
    /// each step.
    pub terms: Graph,
    /// The outputs of the graph before the pass.
    pub before: Vec<ValueId>,
    /// The outputs of the graph after it, in the same order.
    pub after: Vec<ValueId>,
    /// The steps, in an order in which their guards can be checked.
    pub steps: Vec<Step>,
}

impl Proof {
    /// Makes a proof whose `terms` have the outputs that [`Proof::from_text`] reads.
    pub(crate) fn seal(
        pass: &str,
        deep: bool,
        mut terms: Graph,
        ends: (Vec<ValueId>, Vec<ValueId>),
        steps: Vec<Step>,
    ) -> Proof {
        let (before, after) = ends;
        for (kind, values) in [("before", &before), ("after", &after)] {
            for (i, &v) in values.iter().enumerate() {
                terms.add_output(&format!("{kind}.{i}"), v);
            }
        }
        for (i, s) in steps.iter().enumerate() {
            terms.add_output(&format!("step.{i}.before"), s.before);
            terms.add_output(&format!("step.{i}.after"), s.after);
        }
        terms.remove_dead();
        Proof { pass: pass.to_owned(), deep, terms, before, after, steps }
    }

    /// Prints a term in one line: operations down to a depth, below that names of values.
    pub fn term(&self, value: ValueId, depth: usize) -> String {
        let data = self.terms.value(value);
        let name = || match data.name.as_str() {
            "" => format!("{}", data.ty),
            name => format!("%{name}"),
        };
        match &data.def {
            Def::Input(_) => name(),
            Def::Const(t) => Facts::constant(t, false)
                .splat()
                .map_or_else(|| format!("const {}", data.ty), |v| v.to_string()),
            Def::Node(..) if depth == 0 => "..".into(),
            Def::Node(id, _) => {
                let node = self.terms.node(*id);
                let operands: Vec<String> = node
                    .operands
                    .iter()
                    .map(|o| o.map_or("_".into(), |o| self.term(o, depth - 1)))
                    .collect();
                format!("{}({})", node.op, operands.join(", "))
            }
        }
    }

    /// The terms as text, as a trace holds them.
    pub fn terms_text(&self) -> String {
        text::print(&self.terms)
    }

    /// Reads a proof from a trace. `steps`: rule, place and sources of each.
    ///
    /// # Errors
    /// Text that is no graph, or whose outputs do not fit the number of steps.
    pub fn from_text(
        pass: &str,
        deep: bool,
        terms: &str,
        steps: Vec<(String, String, BTreeSet<String>)>,
        constants: &BTreeMap<String, Tensor>,
    ) -> Result<Proof, String> {
        let terms = text::parse(terms, &|hash| constants.get(hash).cloned())
            .map_err(|e| format!("the terms of pass `{pass}`: {e}"))?;
        let outputs = terms.outputs().to_vec();
        let ends = outputs.len().checked_sub(2 * steps.len()).filter(|n| n % 2 == 0);
        let ends = ends.ok_or_else(|| {
            format!("the proof of pass `{pass}` has {} outputs for {} steps", outputs.len(), steps.len())
        })?;
        let (ends, sides) = outputs.split_at(ends);
        let (before, after) = ends.split_at(ends.len() / 2);
        let steps = steps.into_iter().zip(sides.chunks_exact(2));
        let steps = steps
            .map(|((rule, place, sources), s)| Step { rule, place, sources, before: s[0], after: s[1] })
            .collect();
        Ok(Proof {
            pass: pass.to_owned(),
            deep,
            before: before.to_vec(),
            after: after.to_vec(),
            steps,
            terms,
        })
    }
}

/// Whether two graphs over the same inputs have equal outputs, after evaluating what is computed from
/// constants.
pub fn same_terms(a: &Graph, b: &Graph) -> bool {
    compare_outputs(a, b, None).is_ok_and(|all| all.iter().all(|c| *c == Compared::Same))
}

/// The rule of a name.
pub(crate) fn find<'a>(rules: &[&'a Rule], name: &str) -> Option<&'a Rule> {
    rules.iter().copied().find(|r| r.name == name)
}
