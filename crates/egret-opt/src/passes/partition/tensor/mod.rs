//! Splits the tensors of an optimised graph over workers: heavy contractions become parts that run at the same time, each with its share of the weights.
//!
//! A value is whole, or cut along an axis into parts, one for each worker. What an operation makes of cut operands is what the rules of
//! `ir-spec/rules/partition` say (`rows`): a product by columns of its weights gives parts of the result, one whose rows are cut gives as many products
//! to add, and what lies between (an activation, attention by heads) goes along. Which operations work on parts is chosen by cost (`choose`); the
//! rules then make the graph (`apply`), and each worker's part of what lies between two joins is a stage (`stages`).
//!
//! A value that is needed whole is joined: its parts are concatenated, or added in their order, by every worker that needs it. What works on whole
//! values is computed by every such worker too: no value waits for one that could be computed at once.

mod apply;
mod choose;
mod rows;
mod stages;

use super::{Crossing, Cut, PartitionError, Stage, Stages, Why, across};
use crate::cost::{CostModel, estimate};
use crate::proof::Proof;
use crate::report::Rewrite;
use crate::rules::Rule;
use egret_ir::Graph;
use rows::Rows;
use std::collections::HashMap;
use std::ops::Range;

/// What handing values to the workers that need them takes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Links {
    /// Nanoseconds before a joined value is there, however small it is.
    pub latency: u64,
    /// Bytes that a worker receives in a nanosecond.
    pub bandwidth: f64,
}

impl Default for Links {
    /// Those between threads or processes of a machine: 20 us, 8 GB/s.
    fn default() -> Links {
        Links { latency: 20_000, bandwidth: 8.0 }
    }
}

impl Links {
    /// Links that take no time.
    pub const FREE: Links = Links { latency: 0, bandwidth: f64::INFINITY };

    /// The nanoseconds until a worker has so many bytes of others.
    fn time(&self, bytes: u64) -> u64 {
        self.latency.saturating_add((bytes as f64 / self.bandwidth) as u64)
    }
}

/// How a value is cut: along an axis into parts of these extents, at least two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parts {
    /// The axis.
    pub axis: usize,
    /// The extents of the parts along it, of the first worker first.
    pub sizes: Vec<i64>,
}

/// What the times of the ways that were compared are, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Of the whole graph on one worker.
    pub whole: u64,
    /// Of the best way to split it; none where nothing can be split.
    pub split: Option<u64>,
    /// Why nothing can be split, whatever it costs.
    pub unable: Option<&'static str>,
}

/// A graph whose tensors are split.
#[derive(Clone, Debug)]
pub struct Tensors {
    /// The graph, with a node for each part; as it was where splitting it does not pay.
    pub graph: Graph,
    /// The rules that made it.
    pub rewrites: Vec<Rewrite>,
    /// Why it equals the graph before, where [`crate::Options::explain`] asks for it.
    pub proof: Option<Proof>,
    /// What was compared.
    pub compared: Compared,
    /// The stages, step by step and in a step worker by worker.
    pub stages: Vec<Part>,
    /// The values that one stage makes and others use.
    pub values: Vec<Crossing>,
}

impl Tensors {
    /// Whether anything was split.
    pub fn is_split(&self) -> bool {
        !self.rewrites.is_empty()
    }

    /// The stages by step, and the cuts between steps.
    pub fn staged(self) -> Stages {
        let of = |step: usize| {
            let begin = self.stages.partition_point(|p| p.step < step);
            begin..self.stages.partition_point(|p| p.step <= step)
        };
        let steps: Vec<Range<usize>> = (0..self.stages.last().map_or(0, |p| p.step + 1)).map(of).collect();
        let Compared { whole, split, .. } = self.compared;
        let why = Why::Parts { split: split.unwrap_or(whole), whole };
        let ends = steps.iter().map(|s| s.end).take(steps.len().saturating_sub(1));
        let cuts = ends.map(|end| Cut { values: across(&self.values, end), why: why.clone() }).collect();
        Stages { stages: self.stages.into_iter().map(|p| p.stage).collect(), steps, cuts, uneven: None }
    }
}

/// What a worker does in a step. The stages of a step use nothing of one another.
#[derive(Clone, Debug)]
pub struct Part {
    /// The step, from 0.
    pub step: usize,
    /// The worker, from 0.
    pub worker: usize,
    /// Its graph and its estimated time.
    pub stage: Stage,
}

/// What a split goes by.
pub(crate) struct Asked<'a> {
    /// The workers that tensors are split over.
    pub workers: usize,
    /// What is between them.
    pub links: Links,
    /// What nodes cost.
    pub cost: &'a CostModel,
    /// The guided rules that may apply.
    pub rules: Vec<&'a Rule>,
    /// Whether a proof is wanted.
    pub explain: bool,
}

/// See [`crate::split_tensors`].
pub(crate) fn split(graph: &Graph, asked: &Asked) -> Result<Tensors, PartitionError> {
    let Asked { workers, links, cost, rules, explain } = asked;
    let mut graph = graph.clone();
    graph.remove_dead();
    let broken = |message: String| PartitionError::Broken(message);
    let whole = estimate(&graph, cost).iter().map(|(_, cost)| cost).sum();
    let unable = unable(&graph, *workers);
    let none = Compared { whole, split: None, unable };
    if unable.is_some() {
        return as_it_is(graph, none, cost);
    }
    let rows = Rows::of(&graph, *workers, rules, cost);
    let (compared, chosen) = choose::choose(&graph, &rows, links, cost);
    let compared = Compared { split: compared, ..none };
    if chosen.is_empty() {
        return as_it_is(graph, compared, cost);
    }
    let applied = apply::apply(&graph, &rows, rules, &chosen, *explain).map_err(broken)?;
    let (stages, values) = stages::stages(&applied.graph, &applied.worker_of, cost)?;
    let apply::Applied { graph, rewrites, proof, .. } = applied;
    Ok(Tensors { graph, rewrites, proof, compared, stages, values })
}

/// A graph that stays whole, as a stage.
fn as_it_is(graph: Graph, compared: Compared, cost: &CostModel) -> Result<Tensors, PartitionError> {
    let (stages, values) = stages::stages(&graph, &HashMap::new(), cost)?;
    Ok(Tensors { graph, rewrites: vec![], proof: None, compared, stages, values })
}

/// Why a graph cannot be split whatever its operations are: every worker computes what is not split, and has to find the same.
fn unable(graph: &Graph, workers: usize) -> Option<&'static str> {
    let any = |is: fn(&egret_ir::Node) -> bool| graph.node_ids().into_iter().any(|n| is(graph.node(n)));
    if workers < 2 {
        Some("there is one worker")
    } else if any(|n| n.op.is_random()) {
        Some("it draws random numbers, and every worker would draw its own")
    } else if any(|n| !n.attrs.declared().is_empty()) {
        Some("data decides some of its dims, which every worker would name itself")
    } else {
        None
    }
}
