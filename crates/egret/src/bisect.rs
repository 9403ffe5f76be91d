//! Finding what the optimiser did wrong: the first pass after which the model's outputs differ, in it the first application of
//! a rule whose two sides differ on the model's own values, and whether the outputs are right without that rule.

use crate::compare::{self, Tolerance};
use crate::engine::{Engine, Executable};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline;
use egret_ir::interp::Bounds;
use egret_ir::{Denormals, Graph, Tensor, Value, interp};
use egret_opt::proof::{self, Proof, Step};
use egret_opt::rules::Tier;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Allowed error of float results, relative to an output's scale.
const RTOL: f64 = 1e-4;

/// What is to blame.
#[derive(Clone, Debug)]
pub enum Blame {
    /// Nothing: the outputs are right after each pass, and so are this engine's.
    Nothing(Engine),
    /// The engine gives other outputs with all passes off too.
    Engine(String),
    /// The optimised graph is right in the interpreter and wrong in the engine.
    Lowering(String),
    /// The step in code of a pass.
    Code {
        /// The pass.
        pass: String,
        /// What differs.
        difference: String,
    },
    /// An application of a rule.
    Rule(Box<Guilty>),
}

/// An application of a rule that is wrong.
#[derive(Clone, Debug)]
pub struct Guilty {
    /// The pass.
    pub pass: String,
    /// The application.
    pub step: Step,
    /// Its place among the pass's applications that the graph rests on, from 0, and their number.
    pub index: (usize, usize),
    /// Both sides for people.
    pub sides: (String, String),
    /// How they differ on the model's values.
    pub difference: String,
    /// Whether the model's outputs are right without the rule.
    pub right_without: bool,
    /// A small graph on which the rule is wrong too.
    pub reduced: Option<Graph>,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blame::Nothing(Engine::Interp) => {
                f.write_str("nothing differs: the interpreter gives the same after each pass")
            }
            Blame::Nothing(engine) => write!(
                f,
                "nothing differs: the interpreter gives the same after each pass, and so does the engine {}",
                engine.name()
            ),
            Blame::Engine(d) => {
                write!(f, "the engine, not the optimiser: it differs with all passes off too: {d}")
            }
            Blame::Lowering(d) => {
                write!(
                    f,
                    "the engine, not the optimiser: the interpreter gives the same before and after the passes: {d}"
                )
            }
            Blame::Code { pass, difference } => write!(f, "pass `{pass}`, its step in code: {difference}"),
            Blame::Rule(g) => {
                let (i, n) = g.index;
                let at: Vec<&str> = g.step.sources.iter().map(String::as_str).collect();
                writeln!(
                    f,
                    "rule `{}` ({}), pass `{}`, application {} of {n}, at {}",
                    g.step.rule,
                    g.step.place,
                    g.pass,
                    i + 1,
                    at.join(", ")
                )?;
                writeln!(f, "  {} => {}", g.sides.0, g.sides.1)?;
                writeln!(f, "  {}", g.difference)?;
                let without =
                    if g.right_without { "the outputs are right" } else { "something else is wrong too" };
                write!(f, "  without it (--without {}) {without}", g.step.rule)
            }
        }
    }
}

/// Find what makes a model's outputs differ from the interpreter's on these inputs.
///
/// # Errors
/// The model cannot be run by the interpreter, or not be optimised.
pub fn bisect(
    graph: &Graph,
    inputs: &[Value],
    bound: &BTreeMap<String, Tensor>,
    engine: Engine,
    options: &Options,
) -> Result<Blame> {
    let expected = run(graph, inputs)?;
    let options = Options { explain: true, ..options.clone() };
    let (_, reports) = pipeline::reports(graph.clone(), &options, None)?;
    for r in &reports {
        let Some(s) = &r.snapshots else { continue };
        let pass = || r.name.to_owned();
        if let Err(difference) = judge(&s.stepped, inputs, &expected) {
            let found = r
                .step_proof
                .as_ref()
                .map(|p| guilty(graph, p, inputs, &expected, &options))
                .transpose()?
                .flatten();
            return Ok(found
                .map_or_else(|| Blame::Code { pass: pass(), difference }, |g| Blame::Rule(Box::new(g))));
        }
        if let Err(difference) = judge(&s.after, inputs, &expected) {
            let found = match &r.findings.proof {
                Some(p) => guilty(graph, p, inputs, &expected, &options)?,
                None => None,
            };
            return match found {
                Some(g) => Ok(Blame::Rule(Box::new(g))),
                None => Err(Error::internal(format!(
                    "after pass `{}` {difference}, and none of its steps says why",
                    r.name
                ))),
            };
        }
    }
    if engine == Engine::Interp {
        return Ok(Blame::Nothing(engine));
    }
    // Passes are held to IEEE 754, which is all that their rules know; code to what it was asked to do with denormals.
    let expected = match options.denormals() {
        Denormals::Keep => expected,
        flush => run_with(graph, inputs, flush)?,
    };
    let with = |passes: Option<Vec<String>>| -> Result<std::result::Result<(), String>> {
        let options = Options { passes, ..options.clone() };
        let got = Executable::new(graph.clone(), engine, &options, bound)?.run(inputs)?;
        Ok(same(&expected, &got, graph.output_names()))
    };
    Ok(match with(options.passes.clone())? {
        Ok(()) => Blame::Nothing(engine),
        Err(d) => match with(Some(vec![]))? {
            Ok(()) => Blame::Lowering(d),
            Err(d) => Blame::Engine(d),
        },
    })
}

/// The first step whose sides differ on the model's values.
fn guilty(
    graph: &Graph,
    proof: &Proof,
    inputs: &[Value],
    expected: &[Value],
    options: &Options,
) -> Result<Option<Guilty>> {
    let rules = egret_opt::rules_of(&proof.pass, &options.rules).unwrap_or_default();
    let values = run(&proof.terms, inputs)?;
    let sides = &values[proof.before.len() + proof.after.len()..];
    let right_without = |rule: &str| -> Result<bool> {
        let mut without = options.clone();
        without.without.insert(rule.to_owned());
        without.explain = false;
        let (after, _) = pipeline::reports(graph.clone(), &without, None)?;
        Ok(judge(&after, inputs, expected).is_ok())
    };
    let (steps, laws) = (&proof.steps, &rules);
    let apart = |within_tier: bool| {
        sides.chunks_exact(2).zip(steps).enumerate().filter_map(move |(i, (pair, step))| {
            let exact = laws.iter().any(|r| r.name == step.rule && r.tier == Tier::Exact);
            let differ = if exact || within_tier {
                same_bits(&pair[0], &pair[1])
            } else {
                close(&pair[0], &pair[1])
            };
            differ.err().map(|d| (i, step, d))
        })
    };
    let mut found =
        apart(false).next().map(|(i, step, d)| (i, step, format!("on the model's values: {d}")));
    let mut tried = BTreeSet::new();
    // What the tier allows, a zero of the other sign or a last digit, may be magnified behind it: the rule without which it is not.
    for (i, step, d) in apart(true) {
        if found.is_some() {
            break;
        }
        if tried.insert(step.rule.clone()) && right_without(&step.rule)? {
            let difference = format!("on the model's values: {d}; what follows magnifies it");
            found = Some((i, step, difference));
        }
    }
    let Some((i, step, difference)) = found else { return Ok(None) };
    let own = proof::minimized(proof, i, &rules, options.tier).ok().flatten();
    let made = || rules.iter().find(|r| r.name == step.rule).and_then(|r| counterexample(r));
    let fits = |g: &Graph| reproduces(g, proof, options);
    let reduced = own.filter(fits).or_else(|| made().filter(fits));
    Ok(Some(Guilty {
        pass: proof.pass.clone(),
        step: step.clone(),
        index: (i, proof.steps.len()),
        sides: (
            proof.term(step.before, pipeline::SPELT_DEPTH),
            proof.term(step.after, pipeline::SPELT_DEPTH),
        ),
        difference,
        right_without: right_without(&step.rule)?,
        reduced,
    }))
}

/// A generated case on which a rule is wrong.
fn counterexample(rule: &egret_opt::rules::Rule) -> Option<Graph> {
    match egret_opt::soundness::check(rule, egret_opt::soundness::Effort::default()) {
        Err(egret_opt::soundness::Failed::Differ(c)) => Some(c.before),
        _ => None,
    }
}

/// Whether a reduced graph goes wrong in the pass, too.
fn reproduces(graph: &Graph, proof: &Proof, options: &Options) -> bool {
    let options = Options { passes: Some(vec![proof.pass.clone()]), explain: false, ..options.clone() };
    let Ok(inputs) = crate::source::made_up(graph, 1) else { return false };
    let (Ok(expected), Ok((after, _))) =
        (run(graph, &inputs), pipeline::reports(graph.clone(), &options, None))
    else {
        return false;
    };
    judge(&after, &inputs, &expected).is_err()
}

fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>> {
    run_with(graph, inputs, Denormals::Keep)
}

fn run_with(graph: &Graph, inputs: &[Value], denormals: Denormals) -> Result<Vec<Value>> {
    interp::run_with(graph, inputs, denormals, &Bounds::default())
        .map_err(|e| Error::user(format!("the interpreter cannot run the model: {e}")))
}

fn judge(graph: &Graph, inputs: &[Value], expected: &[Value]) -> std::result::Result<(), String> {
    let got = interp::run(graph, inputs).map_err(|e| format!("the model does not run: {e}"))?;
    same(expected, &got, graph.output_names())
}

fn same(expected: &[Value], got: &[Value], names: &[String]) -> std::result::Result<(), String> {
    let mut pairs = expected.iter().zip(got).zip(names);
    pairs.try_for_each(|((want, got), name)| {
        close(want, got).map_err(|e| format!("the output `{name}` differs: {e}"))
    })
}

/// Whether two values are the same to the bit; any NaN is any NaN.
fn same_bits(want: &Value, got: &Value) -> std::result::Result<(), String> {
    compare::compare(want, got, Tolerance { rtol: 0.0, atol: 0.0 })?;
    let (Value::Tensor(a), Value::Tensor(b)) = (want, got) else { return Ok(()) };
    if a.content_hash() == b.content_hash() || !a.dtype().is_float() {
        return Ok(());
    }
    let (a, b) = (compare::to_f64(a)?, compare::to_f64(b)?);
    let other = |(x, y): &(&f64, &f64)| x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan());
    match a.iter().zip(&b).enumerate().find(|(_, pair)| other(pair)) {
        Some((i, (x, y))) => Err(format!("element {i} is {y:?} instead of {x:?}")),
        None => Ok(()),
    }
}

/// Whether two values are the same, floats up to a part of their scale.
fn close(want: &Value, got: &Value) -> std::result::Result<(), String> {
    let (Value::Tensor(a), Value::Tensor(b)) = (want, got) else {
        return compare::compare(want, got, Tolerance::default());
    };
    if !a.dtype().is_float() {
        return compare::compare(want, got, Tolerance { rtol: 0.0, atol: 0.0 });
    }
    let scale = compare::distance(a, b, Tolerance::default())?.scale;
    compare::compare(want, got, Tolerance { rtol: RTOL, atol: RTOL * scale })
}

/// A reduced graph as a test file: how to see the fault, then the graph.
pub fn test_file(guilty: &Guilty, graph: &Graph, file: &str, rules: &[String]) -> String {
    let rules: String = rules.iter().map(|r| format!(" --rules {r}")).collect();
    let step = &guilty.step;
    format!(
        "// Rule `{}` ({}) changes what this computes:\n// egret check {file} --passes {}{rules}\n{}",
        step.rule,
        step.place,
        guilty.pass,
        proof::printed(graph)
    )
}
