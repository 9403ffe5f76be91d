//! The visible list of passes, and running them.

use crate::cost::CostModel;
use crate::eqsat;
use crate::pass::{Pass, PassContext};
use crate::passes::{dead_channels, fold, layout};
use crate::report::{PassReport, Snapshots};
use crate::rules::{self, Rule, RuleError, Tier};
use egret_ir::Graph;
use std::collections::BTreeSet;
use std::fmt;

/// The passes, in order. Unlike in the design's order `quantize` stands before `fold`, which makes floats of integer weights, and
/// `layout` before `fuse`: exporters hide convolutions from the scales that follow them behind transposes, which `layout` removes.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "canonicalize",
        doc: "Remove nodes that do nothing; join movements of movements.",
        run: |_, _| Ok(None),
        tier: Tier::Exact,
        by_code: &[],
        rules: "canonicalize",
        lazy: false,
    },
    Pass {
        name: "quantize",
        doc: "Contract dequantised tensors as the integers that they are, where that is estimated to be faster.",
        run: |_, _| Ok(None),
        tier: Tier::Exact,
        by_code: &[],
        rules: "quantize",
        lazy: true,
    },
    Pass {
        name: "fold",
        doc: "Evaluate nodes whose operands are all constants.",
        run: |graph, _| fold::run(graph),
        tier: Tier::Exact,
        by_code: &[],
        rules: "fold",
        lazy: false,
    },
    Pass {
        name: "dead-channels",
        doc: "Remove channels that are dead (no weight reads them) or constantly zero.",
        run: dead_channels::run,
        tier: Tier::Reassoc,
        by_code: &[],
        rules: "dead-channels",
        lazy: false,
    },
    Pass {
        name: "layout",
        doc: "Compute convolutions and what lies between them channels-last.",
        run: layout::run,
        tier: Tier::Exact,
        by_code: &["layout", "canonicalize"],
        rules: "layout",
        lazy: false,
    },
    Pass {
        name: "fuse",
        doc: "Move constant scales into the weights before them; find normalisations, activations and attentions.",
        run: |_, _| Ok(None),
        tier: Tier::Exact,
        by_code: &[],
        rules: "fuse",
        lazy: false,
    },
    Pass {
        name: "fuse-horizontal",
        doc: "Horizontal fusion: compute contractions of one value together where that is estimated to be faster.",
        run: |_, _| Ok(None),
        tier: Tier::Exact,
        by_code: &[],
        rules: "fuse-horizontal",
        lazy: true,
    },
    Pass {
        name: "cleanup",
        doc: "`fold` and `canonicalize` once more, for what the passes before it left.",
        run: |graph, _| fold::run(graph),
        tier: Tier::Exact,
        by_code: &[],
        rules: "canonicalize",
        lazy: false,
    },
    Pass {
        name: "partition",
        doc: "The place at which a graph is split into stages, where that is asked for (`partition::split`, `egret opt --stages N`).",
        run: |_, _| Ok(None),
        tier: Tier::Exact,
        by_code: &[],
        rules: "partition",
        lazy: true,
    },
];

/// What the errors of approximations may add up to where nothing else is said: as much as float results of compiled code may differ.
pub const DEFAULT_BUDGET: f64 = 1e-4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of passes to run, in this order; `None` = all of [`PASSES`].
    pub passes: Option<Vec<String>>,
    /// Stop after this pass.
    pub after: Option<String>,
    /// What rules may change at most.
    pub tier: Tier,
    /// What the errors of approximations may add up to: the sum of the bounds that their rules give, each relative to the largest
    /// element of the value that it is about.
    pub budget: f64,
    /// What nodes cost on the target.
    pub cost: &'static CostModel,
    /// Rules of the user, beside those of `ir-spec/rules`; each belongs to a pass.
    pub rules: Vec<Rule>,
    /// Names of rules that are left out.
    pub without: BTreeSet<String>,
    /// Threads to optimize regions on, 0 for one a core; what comes out is the same.
    pub threads: usize,
    /// Whether to verify the graph after every step, to name the one at fault: by default where debug assertions are on.
    pub check: bool,
    /// Whether to say how long passes and rules took.
    pub clock: bool,
    /// Whether to write proofs, look for rules that nearly applied and keep the graphs on the way.
    pub explain: bool,
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

/// Hold a graph against the verifier, in the name of who made it.
fn verify(graph: &Graph, pass: &'static str) -> Result<(), OptError> {
    egret_ir::verify(graph).map_err(|errors| {
        let message = errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
        OptError::Broken { pass, message }
    })
}

/// The rules that a pass's proofs rest on, shipped and of the user; `None`: no pass has this name.
pub fn rules_of<'a>(pass: &str, own: &'a [Rule]) -> Option<Vec<&'a Rule>> {
    let pass = PASSES.iter().find(|p| p.name == pass)?;
    let all = rules::shipped().iter().chain(own);
    Some(all.filter(|r| r.pass == pass.rules || pass.by_code.contains(&r.pass.as_str())).collect())
}

/// The rules that are saturated after a pass's step in code, shipped and of the user; `None`: no pass has this name.
pub fn saturated_rules<'a>(pass: &str, own: &'a [Rule]) -> Option<Vec<&'a Rule>> {
    let pass = PASSES.iter().find(|p| p.name == pass)?;
    let shipped = rules::shipped().iter().filter(|r| !pass.by_code.contains(&r.pass.as_str()));
    Some(shipped.chain(own).filter(|r| r.pass == pass.rules).collect())
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
    // What a pass finds nothing to do in is neither built anew nor verified again.
    let check = |graph: &Graph, pass: &Pass| if options.check { verify(graph, pass.name) } else { Ok(()) };
    for pass in passes {
        let nodes_before = graph.node_count();
        let began = options.clock.then(std::time::Instant::now);
        let before = options.explain.then(|| graph.clone());
        let &Options { tier, cost, clock, explain, threads, .. } = options;
        let applied = rules::shipped().iter().filter(|r| pass.by_code.contains(&r.pass.as_str()));
        let rules = applied.filter(|r| r.tier <= tier && !options.without.contains(&r.name)).collect();
        let mut ctx = PassContext { pass: pass.name, rules, explain, rewrites: vec![], proof: None };
        if pass.tier <= tier
            && let Some(next) = (pass.run)(&graph, &mut ctx)
                .map_err(|e| OptError::Broken { pass: pass.name, message: e.to_string() })?
        {
            check(&next, pass)?;
            graph = next;
        }
        let step_proof =
            ctx.proof.transpose().map_err(|message| OptError::Broken { pass: pass.name, message })?;
        let mut set = saturated_rules(pass.name, &options.rules).unwrap_or_default();
        set.retain(|r| !options.without.contains(&r.name));
        if pass.lazy && !eqsat::any(&graph, &set) {
            set.clear();
        }
        let saturation = eqsat::EqsatOptions {
            pass: pass.name,
            rules: &set,
            tier,
            budget,
            cost,
            deep: false,
            clock,
            explain,
            threads,
        };
        let stepped = options.explain.then(|| graph.clone());
        let (next, mut findings) = eqsat::run(&graph, &saturation).map_err(OptError::Rule)?;
        findings.rewrites.splice(0..0, ctx.rewrites);
        budget -= findings.error;
        if let Some(next) = next {
            check(&next, pass)?;
            graph = next;
        }
        let snapshots = before.zip(stepped).map(|(before, stepped)| Snapshots {
            before,
            stepped,
            after: graph.clone(),
        });
        let (nodes_after, nanoseconds) = (graph.node_count(), began.map(|b| b.elapsed().as_nanos() as u64));
        reports.push(PassReport {
            name: pass.name,
            nodes_before,
            nodes_after,
            step_proof,
            findings,
            nanoseconds,
            snapshots,
        });
        if options.after.as_deref() == Some(pass.name) {
            break;
        }
    }
    verify(&graph, "any (`Options::check` tells which)")?;
    Ok((graph, reports))
}
