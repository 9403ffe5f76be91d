//! The pipeline: the list of passes, and running them.

use crate::cost::CostModel;
use crate::eqsat;
use crate::pass::{Costs, Pass, PassContext, PassKind};
use crate::passes::partition::{PartitionError, tensor};
use crate::passes::{bodies, dead_channels, fold, layout};
use crate::report::{PassReport, Snapshots};
use crate::rules::{self, Rule, RuleError, Tier};
use egret_ir::{Graph, Op, TypeError};
use std::collections::BTreeSet;
use std::fmt;

/// The passes, in order. Unlike in the design's order `quantize` and `bytes` stand before `fold`, which makes floats of integer weights, and
/// `layout` before `fuse`: exporters hide convolutions from the scales that follow them behind transposes, which `layout` removes. Up to
/// `quantize` nothing is chosen by the target (`Costs::OfSums`), so that `quantize` sees the same graph for all of them.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "canonicalize",
        doc: "Remove nodes that do nothing; join movements of movements.",
        tier: Tier::Exact,
        costs: Costs::OfSums,
        kind: PassKind::Rules(&["canonicalize"]),
    },
    Pass {
        name: "quantize",
        doc: "Contract dequantised tensors as the integers that they are, the same ones for every target.",
        tier: Tier::Exact,
        costs: Costs::OfSums,
        kind: PassKind::RulesIfMatched(
            &["quantize", "canonicalize/casts", "fuse/constants"],
            &["fuse/constants"],
        ),
    },
    Pass {
        name: "bytes",
        doc: "Contract integers as bytes, or as floats that hold their sums, whichever is estimated to be faster.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::RulesIfMatched(&["bytes", "canonicalize/casts"], &[]),
    },
    Pass {
        name: "fold",
        doc: "Evaluate nodes whose operands are all constants.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::Code(fold::run),
    },
    Pass {
        name: "bodies",
        doc: "Run all passes on the branches of If; evaluate constants in the bodies of loops; compute products of loops by weights before the loop, and none of zeros in its first round.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::Code(bodies::run),
    },
    Pass {
        name: "dead-channels",
        doc: "Remove channels that are dead (no weight reads them) or constantly zero.",
        tier: Tier::Reassoc,
        costs: Costs::OfTarget,
        kind: PassKind::Code(dead_channels::run),
    },
    Pass {
        name: "layout",
        doc: "Compute convolutions and what lies between them channels-last.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::Guided(
            layout::run,
            &["layout", "canonicalize/transposes", "canonicalize/movement"],
        ),
    },
    Pass {
        name: "fuse",
        doc: "Move constant scales into the weights before them; find normalisations, activations and attentions.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::Rules(&["fuse", "canonicalize/transposes", "canonicalize/reductions"]),
    },
    Pass {
        name: "fuse-horizontal",
        doc: "Horizontal fusion: compute contractions of one value together where that is estimated to be faster.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::RulesIfMatched(&["fuse-horizontal"], &[]),
    },
    Pass {
        name: "cleanup",
        doc: "`fold` and `canonicalize` once more, for what the passes before it left.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::CodeThenRules(fold::run, &["canonicalize"]),
    },
    Pass {
        name: "partition",
        doc: "The place at which a graph is split into stages, where that is asked for (`partition::split`, `egret partition --stages N`). Its rules are those of `partition::tensor`.",
        tier: Tier::Exact,
        costs: Costs::OfTarget,
        kind: PassKind::Guided(|_, _| Ok(None), &["partition"]),
    },
];

/// The default error budget: as much as float results of compiled code may differ.
pub const DEFAULT_BUDGET: f64 = 1e-4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of passes to run, in this order; `None` = all of [`PASSES`].
    pub passes: Option<Vec<String>>,
    /// Stop after this pass.
    pub after: Option<String>,
    /// Rules above this tier are not applied, only reported as missed.
    pub tier: Tier,
    /// The error budget: the most that the error bounds of approximations may add up to. Each is relative
    /// to the largest element of its value.
    pub budget: f64,
    /// What nodes cost on the target.
    pub cost: &'static CostModel,
    /// The user's rules, in addition to those of `ir-spec/rules`. Each names its pass.
    pub rules: Vec<Rule>,
    /// Names of rules that are left out.
    pub without: BTreeSet<String>,
    /// Threads to optimise regions on; 0: one for each core. The result is the same.
    pub threads: usize,
    /// Whether to verify the graph after the code and after the rules of every pass, to name the one at
    /// fault. On by default if debug assertions are.
    pub check: bool,
    /// Whether to time passes and rules.
    pub clock: bool,
    /// Whether to write proofs, look for rules that nearly applied, and keep the graphs before, within and
    /// after passes.
    pub explain: bool,
}

impl Options {
    /// Whether a rule is left out, by its own name or by that of its line.
    fn leaves_out(&self, rule: &Rule) -> bool {
        self.without.contains(&rule.name) || self.without.contains(rule.line_name())
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            passes: None,
            after: None,
            tier: Tier::Approx,
            budget: DEFAULT_BUDGET,
            cost: CostModel::widest(),
            rules: vec![],
            without: BTreeSet::new(),
            threads: 0,
            check: cfg!(debug_assertions),
            clock: false,
            explain: false,
        }
    }
}

/// Why a graph cannot be optimised.
#[derive(Clone, Debug, PartialEq)]
pub enum OptError {
    /// No pass has this name.
    UnknownPass(String),
    /// A rewrite rule is wrong.
    Rule(String),
    /// A pass made a node that breaks a rule: a bug of Egret.
    Broken {
        /// The pass.
        pass: &'static str,
        /// The rule.
        message: String,
    },
}

impl fmt::Display for OptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptError::UnknownPass(name) => {
                let names: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
                write!(f, "no pass is called `{name}`; there are {}", names.join(", "))
            }
            OptError::Rule(message) => write!(f, "{message}"),
            OptError::Broken { pass, message } => {
                write!(f, "pass `{pass}` made an invalid graph (a bug of Egret): {message}")
            }
        }
    }
}
impl std::error::Error for OptError {}

/// Read a rule file of a user. `pass`: the pass its rules belong to unless a line `pass NAME` says otherwise. `known`: rules
/// whose names are taken.
///
/// # Errors
/// The first line that is no rule, with what was expected; a rule of a pass that does not exist.
pub fn parse_rules(text: &str, file: &str, pass: &str, known: &[Rule]) -> Result<Vec<Rule>, RuleError> {
    let rules = rules::parse(text, file, pass, known)?;
    rules.iter().try_for_each(has_pass)?;
    Ok(rules)
}

/// Whether a rule's pass exists.
fn has_pass(rule: &Rule) -> Result<(), RuleError> {
    match PASSES.iter().any(|p| p.name == rule.pass) {
        true => Ok(()),
        false => {
            let message = OptError::UnknownPass(rule.pass.clone()).to_string();
            Err(RuleError { place: rule.place.clone(), message })
        }
    }
}

/// Verifies a graph; a fault is a bug of the pass that made it.
fn verify(graph: &Graph, pass: &'static str) -> Result<(), OptError> {
    egret_ir::verify(graph).map_err(|errors| {
        let message = errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
        OptError::Broken { pass, message }
    })
}

/// The rules that a pass's proofs rest on, shipped and of the user; `None`: no pass has this name.
pub fn rules_of<'a>(pass: &str, own: &'a [Rule]) -> Option<Vec<&'a Rule>> {
    let pass = PASSES.iter().find(|p| p.name == pass)?;
    Some(pass.guided_rules().into_iter().chain(pass.saturated_rules(own)).collect())
}

/// The rules that a pass saturates, shipped and of the user; `None`: no pass has this name.
pub fn saturated_rules<'a>(pass: &str, own: &'a [Rule]) -> Option<Vec<&'a Rule>> {
    PASSES.iter().find(|p| p.name == pass).map(|p| p.saturated_rules(own))
}

/// Splits the tensors of a graph over workers, where that is estimated to be faster. `options`: the cost model, which rules may apply, and whether a
/// proof is wanted. The result depends on the number of workers that it is split for, not on how many run it.
///
/// # Errors
/// A stage that needs a dim which none of its inputs has.
pub fn split_tensors(
    graph: &Graph,
    workers: usize,
    links: &tensor::Links,
    options: &Options,
) -> Result<tensor::Tensors, PartitionError> {
    let Options { cost, explain, .. } = *options;
    let guided = PASSES.iter().filter(|p| p.name == "partition").flat_map(Pass::guided_rules);
    let rules = guided.filter(|r| r.tier <= options.tier && !options.leaves_out(r)).collect();
    tensor::split(graph, &tensor::Asked { workers, links: *links, cost, rules, explain })
}

/// Run passes on a graph; it is verified before the first and after the last, and after each with [`Options::check`].
///
/// # Errors
/// A name in the options, or of a rule in them, that is no pass; a pass that makes an invalid graph.
pub fn optimize(graph: Graph, options: &Options) -> Result<(Graph, Vec<PassReport>), OptError> {
    let find = |name: &String| {
        PASSES.iter().find(|p| p.name == name).ok_or_else(|| OptError::UnknownPass(name.clone()))
    };
    let passes: Vec<&Pass> = match &options.passes {
        None => PASSES.iter().collect(),
        Some(names) => names.iter().map(find).collect::<Result<_, _>>()?,
    };
    if let Some(after) = &options.after {
        find(after)?;
    }
    options.rules.iter().try_for_each(has_pass).map_err(|e| OptError::Rule(e.to_string()))?;
    verify(&graph, "import")?;
    let (mut graph, mut reports, mut budget) = (graph, vec![], options.budget);
    graph.remove_dead();
    for pass in passes {
        let report = run_pass(pass, &mut graph, options, budget)?;
        budget -= report.findings.error;
        reports.push(report);
        if options.after.as_deref() == Some(pass.name) {
            break;
        }
    }
    verify(&graph, "any (`Options::check` tells which)")?;
    Ok((graph, reports))
}

/// Run one pass. `budget`: what is left of [`Options::budget`]. A pass that finds nothing to do neither builds nor verifies a graph.
fn run_pass(
    pass: &Pass,
    graph: &mut Graph,
    options: &Options,
    budget: f64,
) -> Result<PassReport, OptError> {
    let &Options { tier, clock, explain, threads, .. } = options;
    let cost = pass.cost(options.cost);
    let broken = |message: String| OptError::Broken { pass: pass.name, message };
    let replace = |graph: &mut Graph, next: Option<Graph>| match next {
        Some(next) => {
            *graph = next;
            if options.check { verify(graph, pass.name) } else { Ok(()) }
        }
        None => Ok(()),
    };
    let nodes_before = graph.node_count();
    let began = clock.then(std::time::Instant::now);
    let before = explain.then(|| graph.clone());

    let guided = pass.guided_rules().into_iter();
    let rules = guided.filter(|r| r.tier <= tier && !options.leaves_out(r)).collect();
    let branch = |graph: &Graph| {
        let inside = Options { after: None, budget: 0.0, explain: false, ..options.clone() };
        let broken = |e: OptError| TypeError { op: Op::If, message: e.to_string() };
        let (graph, reports) = optimize(graph.clone(), &inside).map_err(broken)?;
        Ok((graph, reports.into_iter().flat_map(|r| r.findings.rewrites).collect()))
    };
    let mut ctx = PassContext {
        branch: &branch,
        pass: pass.name,
        cost,
        rules,
        explain,
        rewrites: vec![],
        proof: None,
    };
    if let Some(code) = pass.code().filter(|_| pass.tier <= tier) {
        let next = code(graph, &mut ctx).map_err(|e| broken(e.to_string()))?;
        replace(graph, next)?;
    }
    let step_proof = ctx.proof.transpose().map_err(broken)?;
    let stepped = explain.then(|| graph.clone());

    let mut rules = pass.saturated_rules(&options.rules);
    rules.retain(|r| !options.leaves_out(r));
    if pass.skips_unless_matched() {
        let reasons: Vec<_> = rules.iter().copied().filter(|r| pass.is_reason(r)).collect();
        if !eqsat::any(graph, &reasons) {
            rules.clear();
        }
    }
    let saturation = eqsat::EqsatOptions {
        pass: pass.name,
        rules: &rules,
        tier,
        budget,
        cost,
        deep: false,
        clock,
        explain,
        threads,
    };
    let (next, mut findings) = eqsat::run(graph, &saturation).map_err(OptError::Rule)?;
    findings.rewrites.splice(0..0, ctx.rewrites);
    replace(graph, next)?;
    Ok(PassReport {
        name: pass.name,
        nodes_before,
        nodes_after: graph.node_count(),
        step_proof,
        findings,
        nanoseconds: began.map(|b| b.elapsed().as_nanos() as u64),
        snapshots: before.zip(stepped).map(|(before, stepped)| Snapshots {
            before,
            stepped,
            after: graph.clone(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_set_has_rules_and_every_shipped_rule_is_in_a_pass() {
        let mut reached = BTreeSet::new();
        for pass in PASSES {
            for set in pass.sets() {
                assert!(rules::shipped().iter().any(|r| r.is_in(set)), "`{}` names `{set}`", pass.name);
            }
            reached.extend(rules_of(pass.name, &[]).unwrap().into_iter().map(|r| r.name.as_str()));
        }
        let lost: Vec<&Rule> =
            rules::shipped().iter().filter(|r| !reached.contains(r.name.as_str())).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
