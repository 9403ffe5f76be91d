//! Soundness tests of rules: both sides of a rule are run by the interpreter on generated cases that meet
//! its guards, and must agree within its tier.
//! So they must on values whose dims are free (`free`), where a side may refuse to run: then both must.
//! `draw` generates types, attributes and tensors, `case` builds an instance of a left-hand side from them,
//! and this module runs both sides. Cases depend on a seed only, so that every run sees the same ones.

mod case;
mod draw;
mod free;
mod signs;

use crate::analysis::elements;
use crate::matching::{Match, all_guards_hold, guards_hold, instantiate, matches};
use crate::proof::accuracy::as_good;
use crate::proof::values::{compare, evaluate};
use crate::rules::{Rule, Tier};
use case::Case;
use draw::Draw;
use egret_ir::{Graph, Value, ValueId, text};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Of so many draws one is of a case whose dims are free.
const FREE_DRAWS: usize = 40;

/// How many cases to try.
#[derive(Copy, Clone, Debug)]
pub struct Effort {
    /// Cases that meet the guards.
    pub cases: usize,
    /// The most instances to draw for them.
    pub draws: usize,
    /// The seed of the cases.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { cases: 120, draws: 80_000, seed: 0 }
    }
}

/// The result for a rule that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Cases that met its guards.
    pub cases: usize,
    /// Element types of the results among them.
    pub dtypes: BTreeSet<String>,
    /// Ranks of the results.
    pub ranks: BTreeSet<usize>,
    /// Runs of cases whose dims are free.
    pub free: usize,
    /// Runs among these that both sides refuse, as a node cannot have such sizes.
    pub refused: usize,
}

/// Why a rule failed.
#[derive(Clone, Debug)]
pub enum Failed {
    /// No case was found that meets its guards: it can never be tested.
    NoCase {
        /// Instances of its left-hand side that were drawn.
        instances: usize,
        /// The guard that failed most often, if any did.
        guard: Option<String>,
    },
    /// Its sides differ.
    Differ(Box<Counterexample>),
}

/// A case on which a rule is wrong.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The left-hand side as a graph of `inputs`.
    pub before: Graph,
    /// The right-hand side, where it could be built.
    pub after: Option<Graph>,
    /// The inputs.
    pub inputs: Vec<Value>,
    /// How the sides differ.
    pub difference: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::NoCase { instances, guard } => {
                write!(
                    f,
                    "no case meets its guards: {instances} instances of its left-hand side were drawn"
                )?;
                guard.as_ref().map_or(Ok(()), |g| write!(f, "; mostly `{g}` does not hold"))
            }
            Failed::Differ(c) => {
                writeln!(f, "{}", c.difference)?;
                write!(f, "before:\n{}", text::print(&c.before))?;
                if let Some(after) = &c.after {
                    write!(f, "after:\n{}", text::print(after))?;
                }
                for (&v, value) in c.before.inputs().iter().zip(&c.inputs) {
                    writeln!(f, "{} = {}", c.before.value(v).name, printed(value))?;
                }
                Ok(())
            }
        }
    }
}

fn printed(value: &Value) -> String {
    let Some(t) = value.as_tensor() else { return "no tensor".into() };
    let list = elements(t, 16).unwrap_or_default();
    let dots = if t.len() > 16 { ", .." } else { "" };
    format!("{} [{}{dots}]", t.ty(), list.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", "))
}

/// Tests a rule.
///
/// # Errors
/// No case could be found, or the smallest found on which its sides differ.
pub fn check(rule: &Rule, effort: Effort) -> Result<Passed, Failed> {
    let mut passed = Passed::default();
    let (mut instances, mut worst) = (0, None::<Counterexample>);
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    let seed = rule.text.bytes().fold(effort.seed, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    for i in 0..effort.draws {
        if passed.cases >= effort.cases {
            break;
        }
        let mut draw = Draw::new(seed.wrapping_add((i as u64) << 20), rule);
        let Some(mut case) = Case::new(rule, &mut draw) else { continue };
        instances += 1;
        let Some(m) = met(rule, &mut case, &mut draw, &mut failed) else { continue };
        let after = instantiate(rule, &mut case.terms, &m);
        match judge(&case, after.clone(), rule) {
            Verdict::Right => {
                passed.cases += 1;
                if let Some(t) = case.terms.store.graph.ty(case.root).as_tensor() {
                    passed.dtypes.insert(t.dtype.to_string());
                    passed.ranks.insert(t.rank());
                }
            }
            Verdict::NotRun => {}
            Verdict::Wrong(difference) => {
                passed.cases += 1;
                smaller(&mut worst, case.counterexample(after.ok(), difference));
            }
        }
    }
    if worst.is_none() {
        worst = check_free(rule, effort, seed, &mut passed);
    }
    match worst {
        Some(w) => Err(Failed::Differ(Box::new(w))),
        None if passed.cases == 0 => {
            let guard = failed.into_iter().max_by_key(|(_, n)| *n).map(|(g, _)| g);
            Err(Failed::NoCase { instances, guard })
        }
        None => Ok(passed),
    }
}

/// Tests a rule on values whose dims are free. Of most rules fewer cases meet the guards then, and of some none.
fn check_free(rule: &Rule, effort: Effort, seed: u64, passed: &mut Passed) -> Option<Counterexample> {
    let (mut worst, mut cases) = (None, 0);
    for i in 0..effort.draws / FREE_DRAWS {
        if cases >= effort.cases {
            break;
        }
        let mut draw = Draw::free(seed.wrapping_add((i as u64) << 20), rule);
        let Some(mut case) = Case::new(rule, &mut draw) else { continue };
        let Some(m) = met(rule, &mut case, &mut draw, &mut BTreeMap::new()) else { continue };
        // The optimiser does not apply a match that cannot be built, and reports it.
        let Ok(after) = instantiate(rule, &mut case.terms, &m) else { continue };
        cases += 1;
        match free::judge(&mut case, after, rule, &mut draw) {
            Ok(runs) => {
                passed.free += runs.run;
                passed.refused += runs.refused;
            }
            Err(difference) => smaller(&mut worst, case.counterexample(Some(after), difference)),
        }
    }
    worst
}

/// The first match of a case that meets the guards. `failed` counts those that did not hold.
fn met(
    rule: &Rule,
    case: &mut Case,
    draw: &mut Draw,
    failed: &mut BTreeMap<String, usize>,
) -> Option<Match<ValueId>> {
    let found = matches(rule, &case.terms, case.root, 64);
    let found = case.with_siblings(rule, found, draw);
    found.into_iter().find(|m| match guards_hold(rule, &case.terms, m) {
        Ok(()) => true,
        Err(e) => {
            *failed.entry(e.guard).or_default() += 1;
            false
        }
    })
}

/// Keeps the smaller counterexample.
fn smaller(worst: &mut Option<Counterexample>, new: Counterexample) {
    let size =
        |c: &Counterexample| c.inputs.iter().filter_map(Value::as_tensor).map(|t| t.len()).sum::<usize>();
    if worst.as_ref().is_none_or(|w| size(&new) < size(w)) {
        *worst = Some(new);
    }
}

/// Graphs on which a rule may be applied: the left-hand sides of cases that meet its guards, up to `most` of them.
pub fn examples(rule: &Rule, most: usize) -> Vec<Graph> {
    let mut out = vec![];
    for i in 0..Effort::default().draws {
        if out.len() >= most {
            break;
        }
        let mut draw = Draw::new((i as u64) << 20, rule);
        let Some(case) = Case::new(rule, &mut draw) else { continue };
        let found = matches(rule, &case.terms, case.root, 64);
        if found.iter().any(|m| all_guards_hold(rule, &case.terms, m)) {
            out.push(case.counterexample(None, String::new()).before);
        }
    }
    out
}

enum Verdict {
    Right,
    NotRun,
    Wrong(String),
}

fn judge(case: &Case, after: Result<ValueId, String>, rule: &Rule) -> Verdict {
    let graph = &case.terms.store.graph;
    let after = match after {
        Ok(v) => v,
        // The optimiser does not apply such a match, and reports it.
        Err(_) => return Verdict::NotRun,
    };
    let (was, is) = (graph.ty(case.root), graph.ty(after));
    if was != is {
        return Verdict::Wrong(format!("the type changes from {was} to {is}"));
    }
    let mut budget = usize::MAX;
    let Ok(want) = evaluate(graph, case.root, case.values.clone(), &mut budget) else {
        return Verdict::NotRun;
    };
    match evaluate(graph, after, case.values.clone(), &mut budget) {
        Err(e) => Verdict::Wrong(format!("the right-hand side cannot be run: {e}")),
        Ok(got) => match compare(&want, &got, rule) {
            Ok(()) => match signs::kept(case, after, &want, &got) {
                Ok(()) => Verdict::Right,
                Err(e) => Verdict::Wrong(e),
            },
            Err(_)
                if rule.tier > Tier::Exact
                    && as_good(graph, case.root, &case.values, &want, &got, &mut budget) =>
            {
                Verdict::Right
            }
            Err(e) => Verdict::Wrong(e),
        },
    }
}
