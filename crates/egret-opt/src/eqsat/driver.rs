//! Runs the rules of a pass: cuts the graph into regions, optimises each distinct region on one of several
//! threads, and stores the results in a new graph, in order.

use super::budget::allot;
use super::optimize::{RegionOptions, optimize_region};
use super::optimized_region::{OptimizedRegion, constants, names, store};
use super::record::Recording;
use crate::analysis::GraphFacts;
use crate::cost::CostModel;
use crate::rebuild::{bring_const, start};
use crate::regions::{
    Affinity, Binding, CanonicalRegion, Canonicalizer, Key, Numbering, Region, order, regions,
};
use crate::report::{Findings, Rewrite, RuleCount};
use crate::rules::{Rule, Tier};
use egret_ir::{Graph, Tensor};
use std::collections::HashMap;

/// Constants of fewer elements are measured when somebody asks.
const WORTH_A_THREAD: usize = 1 << 16;

/// What to saturate a graph with.
pub(crate) struct EqsatOptions<'a> {
    /// The pass.
    pub pass: &'a str,
    /// Its rules.
    pub rules: &'a [&'a Rule],
    /// Rules above this tier are not applied, only reported as missed.
    pub tier: Tier,
    /// The most that the errors of approximations may add up to.
    pub budget: f64,
    /// What nodes cost.
    pub cost: &'static CostModel,
    /// Whether rules see the elements of constants of any size.
    pub deep: bool,
    /// Whether to time rules.
    pub clock: bool,
    /// Whether to write proofs and report rules that nearly applied.
    pub explain: bool,
    /// Threads to optimise regions on; 0: one for each core.
    pub threads: usize,
}

/// Saturates a graph with the rules of a pass. Returns no new graph if nothing changes, unless a proof is
/// wanted.
///
/// # Errors
/// A wrong rule: it changes a type, makes different constants equal, or its result does not fit.
pub(crate) fn run(graph: &Graph, options: &EqsatOptions) -> Result<(Option<Graph>, Findings), String> {
    let (rules, above): (Vec<&Rule>, Vec<&Rule>) =
        options.rules.iter().partition(|r| r.tier <= options.tier);
    if rules.is_empty() && above.is_empty() {
        return Ok((None, Findings::default()));
    }
    let of_region = RegionOptions {
        rules: &rules,
        above: &above,
        tier: options.tier,
        cost: options.cost,
        clock: options.clock,
        explain: options.explain,
    };
    let pieces = read(graph, options);
    let mut optimized = egret_threads::map(&pieces.distinct, options.threads, |(region, copies)| {
        optimize_region(region, &of_region, options.budget / *copies as f64)
    });
    let copies: Vec<usize> = pieces.distinct.iter().map(|(_, copies)| *copies).collect();
    let (near, error) = allot(&optimized, &copies, options.budget);
    for (solution, _) in optimized.iter_mut().zip(near).filter(|(_, near)| *near) {
        if let Ok(s) = solution
            && let Some(near) = s.approximate.take()
        {
            *s = *near;
        }
    }
    let counts = rules.iter().map(|r| (r.name.clone(), RuleCount::default())).collect();
    let regions = (pieces.regions.len(), pieces.distinct.len());
    let cheapest = optimized.iter().flatten().filter(|s| s.cheapest).count();
    let mut findings = Findings { counts, regions, cheapest, error, ..Findings::default() };
    if !options.explain
        && pieces
            .regions
            .iter()
            .all(|(region, _, p)| optimized[*p].as_ref().is_ok_and(|s| s.is_old(region)))
    {
        pieces.regions.iter().for_each(|(region, _, p)| {
            optimized[*p].iter().for_each(|s| findings.add(graph, region, &rules, s))
        });
        return Ok((None, findings));
    }
    let mut recording = options.explain.then(|| Recording::new(graph));
    let mut r = start(graph);
    for (region, binding, distinct) in &pieces.regions {
        let solution = optimized[*distinct].as_ref().map_err(Clone::clone)?;
        store(&mut r, region, binding, solution)?;
        findings.add(graph, region, &rules, solution);
        if let (Some(recording), Some(proof)) = (&mut recording, &solution.proof) {
            let constants = constants(graph, binding, solution);
            let about = |i: usize| {
                (rules[solution.applied[i].rule], names(graph, region, &solution.applied[i].nodes))
            };
            recording.add(proof, graph, &region.nodes, &binding.inputs, &constants, about)?;
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
        findings.proof = Some(recording.finish(options.pass, graph, &new, &rules, options.tier)?);
    }
    Ok((Some(new), findings))
}

/// A graph in pieces.
struct Pieces {
    /// The regions with their values, and the index of each in `distinct`.
    regions: Vec<(Region, Binding, usize)>,
    /// The distinct regions, and how often each occurs.
    distinct: Vec<(CanonicalRegion, usize)>,
}

fn read(graph: &Graph, options: &EqsatOptions) -> Pieces {
    let order = order(graph);
    let mut numbering = Numbering::of(graph, &order);
    let affinity = Affinity::of(options.rules.iter().copied());
    let cut = regions(graph, &order, &numbering, &affinity);
    weigh(graph, &cut, options.threads);
    let facts = GraphFacts::of(graph, &order, options.deep);
    let mut canonicalizer = Canonicalizer::new(graph, &facts, &mut numbering, options.rules, options.deep);
    let mut known: HashMap<Key, usize> = HashMap::new();
    let mut pieces = Pieces { regions: Vec::with_capacity(cut.len()), distinct: vec![] };
    for region in cut {
        let (key, binding) = canonicalizer.read(&region);
        let distinct = *known.entry(key).or_insert_with(|| {
            pieces.distinct.push((canonicalizer.canonical(&region, &binding), 0));
            pieces.distinct.len() - 1
        });
        pieces.distinct[distinct].1 += 1;
        pieces.regions.push((region, binding, distinct));
    }
    pieces
}

/// Measures the weights that regions read, on several threads: their summaries ask for it one after another.
fn weigh(graph: &Graph, regions: &[Region], threads: usize) {
    let operands = regions.iter().flat_map(|r| &r.nodes).flat_map(|&n| &graph.node(n).operands);
    let constants = operands.flatten().filter_map(|&v| graph.as_const(v));
    let large: Vec<&Tensor> = constants.filter(|t| t.len() >= WORTH_A_THREAD).collect();
    egret_threads::map(&large, threads, |t| t.magnitudes());
}

impl Findings {
    /// Adds what was found in a region.
    fn add(&mut self, graph: &Graph, region: &Region, rules: &[&Rule], solution: &OptimizedRegion) {
        for a in solution.applied.iter().filter(|a| a.rests) {
            let rule = rules[a.rule];
            self.rewrites.push(Rewrite::by(rule, names(graph, region, &a.nodes)));
        }
        self.missed.extend(solution.missed.iter().map(|m| m.of(names(graph, region, &m.sources))));
        self.limits.extend(&solution.limits);
        for ((_, sum), count) in self.counts.iter_mut().zip(&solution.counts) {
            sum.matches += count.matches;
            sum.applications += count.applications;
            sum.nodes += count.nodes;
            sum.nanoseconds += count.nanoseconds;
        }
    }
}
