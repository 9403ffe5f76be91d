//! A pass as a rule set: a graph is cut into regions, each becomes a problem, what solves it is stored in a new graph.

use crate::missed::Missed;
use crate::problem::load;
use crate::proof::{Proof, Recording};
use crate::rebuild::{bring_const, start, topological};
use crate::region::regions;
use crate::rules::{Rule, Tier};
use crate::saturate::RuleCount;
use crate::solution::{constants, names, store};
use crate::solve::{Look, solve};
use egret_ir::Graph;
use std::collections::BTreeSet;

/// What a rewrite did to the graph that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: String,
    /// `file:line` of the rule.
    pub place: String,
    /// The ONNX nodes that it rests on, sorted.
    pub sources: BTreeSet<String>,
    /// What it says: the rule's own line.
    pub text: String,
}

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rewrites that the new graph rests on.
    pub rewrites: Vec<Rewrite>,
    /// Rules that nearly applied, where that is asked for.
    pub missed: Vec<Missed>,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// What each rule of the pass did, in the order of the rules.
    pub counts: Vec<(String, RuleCount)>,
    /// Why the graph after the rules equals the one before them, where that is asked for.
    pub proof: Option<Proof>,
}

/// Run the rules of a pass, up to a tier, over a graph.
///
/// # Errors
/// A rule that is wrong (it changes a type, or says that different constants are equal), or one whose result does not fit.
pub(crate) fn run(pass: &str, graph: &Graph, rules: &[&Rule], tier: Tier, explain: bool) -> Result<(Graph, Findings), String> {
    let (rules, above): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|r| r.tier <= tier);
    if rules.is_empty() && above.is_empty() {
        return Ok((graph.clone(), Findings::default()));
    }
    // What is only near a value may not stand in its class: congruence would hide the error.
    if let Some(rule) = rules.iter().find(|r| r.tier > Tier::Reassoc) {
        let (name, place, tier) = (&rule.name, &rule.place, rule.tier);
        return Err(format!("rule `{name}` ({place}) is {tier}: rules of this tier cannot be applied yet; allow at most `--tier reassoc`"));
    }
    let counts = rules.iter().map(|r| (r.name.clone(), RuleCount::default())).collect();
    let mut findings = Findings { counts, ..Findings::default() };
    let mut r = start(graph);
    let mut recording = explain.then(|| Recording::new(graph));
    let look = Look { rules: &rules, above: &above, tier, explain };
    for region in regions(graph, &topological(graph)) {
        let (problem, binding) = load(graph, &region, false);
        let solution = solve(&problem, &look)?;
        store(&mut r, &region, &binding, &solution)?;
        if let (Some(recording), Some(proof)) = (&mut recording, &solution.proof) {
            let constants = constants(graph, &binding, &solution);
            let about = |i: usize| (rules[solution.applied[i].rule], names(graph, &region, &solution.applied[i].nodes));
            recording.add(proof, graph, &region.nodes, &binding.inputs, &constants, about)?;
        }
        for a in solution.applied.iter().filter(|a| a.rests) {
            let rule = rules[a.rule];
            let (sources, place) = (names(graph, &region, &a.nodes), rule.place.to_string());
            findings.rewrites.push(Rewrite { rule: rule.name.clone(), place, sources, text: rule.text.clone() });
        }
        findings.missed.extend(solution.missed.iter().map(|m| m.of(names(graph, &region, &m.sources))));
        findings.limits.extend(&solution.limits);
        for ((_, sum), count) in findings.counts.iter_mut().zip(&solution.counts) {
            sum.matches += count.matches;
            sum.applications += count.applications;
        }
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        bring_const(&mut r, v);
        let new = r.new_value(v);
        r.builder.output(name, new);
    }
    let mut new = r.builder.graph;
    new.remove_dead();
    if let Some(recording) = recording {
        findings.proof = Some(recording.finish(pass, graph, &new, &rules, tier)?);
    }
    Ok((new, findings))
}
