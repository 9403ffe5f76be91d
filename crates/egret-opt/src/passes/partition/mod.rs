//! Splitting a graph into stages that run one after another, on one machine each perhaps: the cut between two stages is one
//! of least traffic among those that balance their estimated times.
//!
//! A boundary is found by the greatest flow through a network in which a value that crosses is an edge of its size, and values never
//! go back. To balance, the first nodes of an order (whose cost is the least a stage may have) are held on one side, the last ones
//! on the other; two orders are tried. The cut is the least one among those, not among all balanced cuts, which would be NP-hard.
//! What is a graph's own input or a constant does not count: every stage gets those from where the graph gets them.

mod build;
mod flow;

use crate::cost::{CostModel, estimate};
use crate::rebuild::topological;
use egret_ir::{Def, Graph, NodeId, Type, ValueId};
use flow::{Network, UNBOUNDED};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// A stage may take this share more or less than its part of the time that is left.
const TOLERANCE: f64 = 0.25;
/// A symbolic dim counts as this many.
const NOMINAL_DIM: i64 = 64;

/// Why a graph cannot be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionError {
    /// There are fewer nodes than stages, or no stage is asked for.
    Stages {
        /// What is asked for.
        stages: usize,
        /// What there is.
        nodes: usize,
    },
    /// A stage needs a dim that none of its inputs tells.
    Dim {
        /// The symbol.
        symbol: String,
        /// The stage.
        stage: usize,
    },
    /// A stage breaks a rule of graphs: a bug of Egret.
    Broken(String),
}

impl fmt::Display for PartitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionError::Stages { stages, nodes } => {
                write!(f, "a graph of {nodes} nodes has no {stages} stages; ask for 1 to {nodes}")
            }
            PartitionError::Dim { symbol, stage } => {
                write!(
                    f,
                    "stage {stage} needs the dim `{symbol}`, which none of its inputs has; give its value (--dim {symbol}=N)"
                )
            }
            PartitionError::Broken(message) => {
                write!(f, "partition made an invalid stage (a bug of Egret): {message}")
            }
        }
    }
}
impl std::error::Error for PartitionError {}

/// Split a graph into stages. What a stage needs of earlier ones is an input of the name that the output there has; the graph's own
/// inputs and outputs keep their names. What is balanced are times on the target of the cost model.
///
/// # Errors
/// More stages than nodes, or a stage that would need a dim that none of its inputs tells.
pub fn split(graph: &Graph, stages: usize, model: &CostModel) -> Result<Vec<Graph>, PartitionError> {
    let mut graph = graph.clone();
    graph.remove_dead();
    let nodes = graph.node_count();
    if stages == 0 || stages > nodes.max(1) {
        return Err(PartitionError::Stages { stages, nodes });
    }
    let all = build::build(&graph, &assign(&graph, stages, model), stages);
    dims_are_told(&all)?;
    for stage in &all {
        egret_ir::verify(stage).map_err(|errors| {
            PartitionError::Broken(
                errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )
        })?;
    }
    Ok(all)
}

/// The bytes that a stage receives from those before it; a symbolic dim counts as 64.
pub fn received(stages: &[Graph], stage: usize) -> u64 {
    let names: BTreeSet<&str> =
        stages[..stage].iter().flat_map(|s| s.output_names().iter().map(String::as_str)).collect();
    let s = &stages[stage];
    s.inputs().iter().filter(|&&v| names.contains(s.value(v).name.as_str())).map(|&v| bytes(s.ty(v))).sum()
}

/// The estimated time of a stage in nanoseconds: what is balanced.
pub fn cost(stage: &Graph, model: &CostModel) -> u64 {
    estimate(stage, model).into_iter().map(|(_, cost)| cost).sum()
}

fn bytes(ty: &Type) -> u64 {
    match ty {
        Type::Tensor(t) => {
            let dims = t.shape.iter().map(|d| d.as_const().unwrap_or(NOMINAL_DIM).max(0) as u64);
            dims.fold(t.dtype.size().max(1) as u64, u64::saturating_mul).min(1 << 40)
        }
        // Lists are not what one cuts.
        _ => 1 << 40,
    }
}

/// The stage of every node: one boundary after another.
fn assign(graph: &Graph, stages: usize, model: &CostModel) -> HashMap<NodeId, usize> {
    let costs: HashMap<NodeId, u64> = estimate(graph, model).into_iter().collect();
    let orders = [topological(graph), by_depth(graph)];
    let mut stage: HashMap<NodeId, usize> = HashMap::new();
    for k in 0..stages - 1 {
        let cuts = orders.iter().flat_map(|order| {
            let left: Vec<NodeId> = order.iter().copied().filter(|n| !stage.contains_key(n)).collect();
            boundary(graph, &left, &costs, stages - k, &stage)
        });
        if let Some(best) = cuts.min_by_key(|c| (c.traffic, c.imbalance)) {
            stage.extend(best.first.into_iter().map(|n| (n, k)));
        }
    }
    for n in graph.node_ids() {
        stage.entry(n).or_insert(stages - 1);
    }
    stage
}

/// Nodes by the length of the longest way to them: what could run at once stands together.
fn by_depth(graph: &Graph) -> Vec<NodeId> {
    let mut depth: HashMap<NodeId, usize> = HashMap::new();
    let mut order = topological(graph);
    for &id in &order {
        let before =
            graph.node(id).operands.iter().flatten().filter_map(|&v| depth.get(&graph.producer(v)?)).max();
        let own = before.map_or(0, |d| d + 1);
        depth.insert(id, own);
    }
    order.sort_by_key(|id| depth[id]);
    order
}

/// A boundary.
struct Cut {
    /// The nodes before it.
    first: Vec<NodeId>,
    /// Bytes that cross it.
    traffic: u64,
    /// How far its cost is from what it should be.
    imbalance: u64,
}

/// The boundaries of least traffic that cut the next stage off from `order`, which `stages` stages are to be made of: the one with the
/// fewest nodes before it, and the one with the most.
fn boundary(
    graph: &Graph,
    order: &[NodeId],
    costs: &HashMap<NodeId, u64>,
    stages: usize,
    earlier: &HashMap<NodeId, usize>,
) -> [Cut; 2] {
    let cost = |n: &NodeId| costs.get(n).copied().unwrap_or(0);
    let target = order.iter().map(cost).sum::<u64>() as f64 / stages as f64;
    let (least, most) = (target * (1.0 - TOLERANCE), target * (1.0 + TOLERANCE));
    // Held before the boundary: nodes up to the least cost. Held after it: from the node on that begins above the greatest.
    let (mut held, mut last, mut sum) = (0, order.len(), 0u64);
    for (i, n) in order.iter().enumerate() {
        if sum as f64 >= most {
            last = last.min(i);
        }
        sum += cost(n);
        if sum as f64 <= least {
            held = i + 1;
        }
    }
    // Every stage has a node at least.
    let last = last.clamp(1, order.len() - (stages - 1));
    let held = held.clamp(1, last);

    let (source, sink) = (order.len(), order.len() + 1);
    let mut net = Network::new(order.len() + 2);
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    (0..held).for_each(|i| net.join(source, i, UNBOUNDED));
    (last..order.len()).for_each(|i| net.join(i, sink, UNBOUNDED));
    // By value, in order of their ids.
    let mut users: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
    for (i, &n) in order.iter().enumerate() {
        for &v in graph
            .node(n)
            .operands
            .iter()
            .flatten()
            .filter(|&&v| matches!(graph.value(v).def, Def::Node(..)))
        {
            users.entry(v).or_default().insert(i);
        }
    }
    for (v, users) in users {
        let size = bytes(graph.ty(v));
        match graph.producer(v).and_then(|n| place.get(&n)) {
            Some(&from) => {
                let crossing = net.place();
                net.join(from, crossing, size);
                for to in users {
                    net.join(crossing, to, UNBOUNDED);
                    // Nothing goes back.
                    net.join(to, from, UNBOUNDED);
                }
            }
            // Sent from an earlier stage: once to each side that uses it.
            None if graph.producer(v).is_some_and(|n| earlier.contains_key(&n)) => {
                let (here, beyond) = (net.place(), net.place());
                net.join(here, beyond, size);
                for user in users {
                    net.join(user, here, UNBOUNDED);
                    net.join(beyond, user, UNBOUNDED);
                }
            }
            None => {}
        }
    }
    let traffic = net.fill(source, sink);
    [net.near_source(source), net.far_from_sink(sink)].map(|side| {
        let first: Vec<NodeId> = order.iter().zip(&side).filter(|(_, s)| **s).map(|(&n, _)| n).collect();
        let imbalance = (first.iter().map(cost).sum::<u64>() as f64 - target).abs() as u64;
        Cut { first, traffic, imbalance }
    })
}

/// Every symbol that a stage uses is told by one of its inputs, or arises in it.
fn dims_are_told(stages: &[Graph]) -> Result<(), PartitionError> {
    let untold = |(stage, s): (usize, &Graph)| Some((stage, s.free_symbols().into_iter().next()?));
    match stages.iter().enumerate().find_map(untold) {
        Some((stage, symbol)) => Err(PartitionError::Dim { symbol, stage }),
        None => Ok(()),
    }
}
