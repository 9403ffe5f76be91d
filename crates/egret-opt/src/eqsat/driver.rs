//! A pass as a rule set: a graph is cut into regions, each becomes a problem, what solves it is stored in a new graph. Regions
//! that ask the same are solved once; problems are solved on several threads and stored in order.

use super::budget::allot;
use super::optimize::{Look, solve};
use super::parallel;
use super::record::Recording;
use super::solution::{Solution, constants, names, store};
use crate::cost::CostModel;
use crate::rebuild::{bring_const, start, topological};
use crate::regions::{Binding, Glue, Key, Kinds, Problem, Reader, Region, regions};
use crate::report::{Findings, Rewrite, RuleCount};
use crate::rules::{Rule, Tier};
use egret_ir::Graph;
use std::collections::HashMap;

/// What rules do to a graph.
pub(crate) struct Task<'a> {
    /// The pass.
    pub pass: &'a str,
    /// Its rules.
    pub rules: &'a [&'a Rule],
    /// What they may change at most.
    pub tier: Tier,
    /// What the errors of approximations may add up to.
    pub budget: f64,
    /// What nodes cost.
    pub cost: &'static CostModel,
    /// Whether constants are looked into whatever their size.
    pub deep: bool,
    /// Whether it is said how long rules took.
    pub clock: bool,
    /// Whether proofs are written, and rules told of that nearly applied.
    pub explain: bool,
    /// Threads to solve on, 0 for one a core.
    pub threads: usize,
}

/// Run the rules of a pass over a graph; no new graph where they do nothing, unless a proof is wanted.
///
/// # Errors
/// A rule that is wrong (it changes a type, or says that different constants are equal), or one whose result does not fit.
pub(crate) fn run(graph: &Graph, task: &Task) -> Result<(Option<Graph>, Findings), String> {
    let (rules, above): (Vec<&Rule>, Vec<&Rule>) = task.rules.iter().partition(|r| r.tier <= task.tier);
    if rules.is_empty() && above.is_empty() {
        return Ok((None, Findings::default()));
    }
    let look = Look {
        rules: &rules,
        above: &above,
        tier: task.tier,
        cost: task.cost,
        clock: task.clock,
        explain: task.explain,
    };
    let pieces = read(graph, task);
    let mut solutions = parallel::map(&pieces.problems, task.threads, |(problem, copies)| {
        solve(problem, &look, task.budget / *copies as f64)
    });
    let copies: Vec<usize> = pieces.problems.iter().map(|(_, copies)| *copies).collect();
    let (near, error) = allot(&solutions, &copies, task.budget);
    for (solution, _) in solutions.iter_mut().zip(near).filter(|(_, near)| *near) {
        if let Ok(s) = solution
            && let Some(near) = s.near.take()
        {
            *s = *near;
        }
    }
    let counts = rules.iter().map(|r| (r.name.clone(), RuleCount::default())).collect();
    let regions = (pieces.regions.len(), pieces.problems.len());
    let cheapest = solutions.iter().flatten().filter(|s| s.cheapest).count();
    let mut findings = Findings { counts, regions, cheapest, error, ..Findings::default() };
    if !task.explain
        && pieces
            .regions
            .iter()
            .all(|(region, _, p)| solutions[*p].as_ref().is_ok_and(|s| s.is_old(region)))
    {
        pieces.regions.iter().for_each(|(region, _, p)| {
            solutions[*p].iter().for_each(|s| findings.add(graph, region, &rules, s))
        });
        return Ok((None, findings));
    }
    let mut recording = task.explain.then(|| Recording::new(graph));
    let mut r = start(graph);
    for (region, binding, problem) in &pieces.regions {
        let solution = solutions[*problem].as_ref().map_err(Clone::clone)?;
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
        findings.proof = Some(recording.finish(task.pass, graph, &new, &rules, task.tier)?);
    }
    Ok((Some(new), findings))
}

/// A graph in pieces.
struct Pieces {
    /// Each region with its values, and which problem it is.
    regions: Vec<(Region, Binding, usize)>,
    /// The problems, each once, and how many regions have it.
    problems: Vec<(Problem, usize)>,
}

fn read(graph: &Graph, task: &Task) -> Pieces {
    let order = topological(graph);
    let mut kinds = Kinds::of(graph, &order);
    let glue = Glue::of(task.rules.iter().copied());
    let cut = regions(graph, &order, &kinds, &glue);
    let mut reader = Reader::new(graph, &mut kinds, task.rules, task.deep);
    let mut known: HashMap<Key, usize> = HashMap::new();
    let mut pieces = Pieces { regions: Vec::with_capacity(cut.len()), problems: vec![] };
    for region in cut {
        let (key, binding) = reader.read(&region);
        let problem = *known.entry(key).or_insert_with(|| {
            pieces.problems.push((reader.problem(&region, &binding), 0));
            pieces.problems.len() - 1
        });
        pieces.problems[problem].1 += 1;
        pieces.regions.push((region, binding, problem));
    }
    pieces
}

impl Findings {
    /// Add what was found in a region.
    fn add(&mut self, graph: &Graph, region: &Region, rules: &[&Rule], solution: &Solution) {
        for a in solution.applied.iter().filter(|a| a.rests) {
            let rule = rules[a.rule];
            let (sources, place) = (names(graph, region, &a.nodes), rule.place.to_string());
            self.rewrites.push(Rewrite {
                rule: rule.name.clone(),
                place,
                sources,
                text: rule.text.clone(),
            });
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
