//! Splits a graph into stages that run one after another, e.g. on several machines: minimum traffic between
//! stages, among cuts that balance their estimated times.
//! A boundary is a minimum cut, found by max-flow, of a network in which a value is an edge with its size
//! as capacity; no edge goes backwards. For balance, the first nodes of a topological order (up to the
//! least cost of a stage) are fixed on one side and the last ones on the other; two orders are tried. The
//! cut is the minimum among those, not among all balanced cuts, which would be NP-hard. Inputs of the graph
//! and constants are free: every stage gets them from where the graph does.

mod build;
mod flow;

use crate::cost::{CostModel, estimate};
use crate::rebuild::topological;
use egret_ir::{Def, Graph, NodeId, Type, ValueId, advice};
use flow::{Network, UNBOUNDED};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// How much a stage may deviate from its share of the remaining time.
const TOLERANCE: f64 = 0.25;
/// The assumed value of a symbolic dim.
const NOMINAL_DIM: i64 = 64;

/// Why a graph cannot be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionError {
    /// More stages than nodes, or none at all.
    Stages {
        /// The stages asked for.
        stages: usize,
        /// The nodes of the graph.
        nodes: usize,
    },
    /// A stage uses a symbol that none of its inputs binds.
    Dim {
        /// The symbol.
        symbol: String,
        /// Whether it is a dim of one of the graph's inputs.
        free: bool,
        /// The stage.
        stage: usize,
    },
    /// A stage is an invalid graph: a bug of Egret.
    Broken(String),
}

impl fmt::Display for PartitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionError::Stages { stages, nodes } => {
                write!(f, "a graph of {nodes} nodes has no {stages} stages; ask for 1 to {nodes}")
            }
            PartitionError::Dim { symbol, free, stage } => {
                write!(f, "stage {stage} needs the dim `{symbol}`, which none of its inputs has; ")?;
                match free {
                    true => write!(f, "give its value: {}", advice::dims([symbol])),
                    false => write!(f, "it is known only while the model runs: ask for fewer stages"),
                }
            }
            PartitionError::Broken(message) => {
                write!(f, "partition made an invalid stage (a bug of Egret): {message}")
            }
        }
    }
}
impl std::error::Error for PartitionError {}

/// Splits a graph into stages. A value that crosses is an output of one stage and an input of the same name
/// of a later one; the graph's own inputs and outputs keep their names. Times are those of the cost model.
///
/// # Errors
/// More stages than nodes, or a stage that uses a symbol that none of its inputs binds.
pub fn split(graph: &Graph, stages: usize, model: &CostModel) -> Result<Vec<Graph>, PartitionError> {
    let mut graph = graph.clone();
    graph.remove_dead();
    let nodes = graph.node_count();
    if stages == 0 || stages > nodes.max(1) {
        return Err(PartitionError::Stages { stages, nodes });
    }
    let all = build::build(&graph, &assign(&graph, stages, model), stages);
    symbols_are_bound(&graph, &all)?;
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

/// The estimated time of a stage in nanoseconds.
pub fn cost(stage: &Graph, model: &CostModel) -> u64 {
    estimate(stage, model).into_iter().map(|(_, cost)| cost).sum()
}

fn bytes(ty: &Type) -> u64 {
    match ty {
        Type::Tensor(t) => {
            let dims = t.shape.iter().map(|d| d.as_const().unwrap_or(NOMINAL_DIM).max(0) as u64);
            dims.fold(t.dtype.size().max(1) as u64, u64::saturating_mul).min(1 << 40)
        }
        // Do not cut sequences.
        _ => 1 << 40,
    }
}

/// Assigns nodes to stages, one boundary after another.
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

/// Nodes by their longest distance from the inputs.
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
    /// The deviation of the stage's cost from its share.
    imbalance: u64,
}

/// Two minimum cuts that separate the next stage from `order`, of which `stages` stages are to be made:
/// with the fewest nodes before the cut, and with the most.
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
    // Fixed before the boundary: nodes up to the least cost. Fixed after it: nodes that begin above the
    // greatest cost.
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
    // Every stage has at least one node.
    let last = last.clamp(1, order.len() - (stages - 1));
    let held = held.clamp(1, last);

    let (source, sink) = (order.len(), order.len() + 1);
    let mut net = Network::new(order.len() + 2);
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    (0..held).for_each(|i| net.join(source, i, UNBOUNDED));
    (last..order.len()).for_each(|i| net.join(i, sink, UNBOUNDED));
    // Values in the order of their ids.
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
                    // No value goes backwards.
                    net.join(to, from, UNBOUNDED);
                }
            }
            // A value of an earlier stage is sent once to each side that uses it.
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

/// Checks that every symbol a stage uses is bound by an input or declared by a node of the stage.
fn symbols_are_bound(whole: &Graph, stages: &[Graph]) -> Result<(), PartitionError> {
    let unbound = |(stage, s): (usize, &Graph)| Some((stage, s.free_symbols().into_iter().next()?));
    match stages.iter().enumerate().find_map(unbound) {
        Some((stage, symbol)) => {
            let free = whole.free_dims().contains(&symbol);
            Err(PartitionError::Dim { symbol, free, stage })
        }
        None => Ok(()),
    }
}
