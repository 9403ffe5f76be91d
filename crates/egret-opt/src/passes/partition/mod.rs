//! Splits an optimised graph into stages, e.g. for several machines: minimum traffic between
//! stages, among cuts that balance their estimated times. Stages run one after another, or in one step where they are independent and that pays.
//!
//! What is cut is not nodes but units, the nodes of one kernel: a cut undoes no fusion, and the kernels of the stages are those of the whole.
//! All cuts are chosen together (`choose`), among places within topological orders, of which some fill stages as bins are filled (`fill`), and minimum cuts near where even stages would end (`places`); the latter are found by max-flow in a network in which a
//! value is an edge with its size as capacity, and no edge goes backwards. The choice is the best of those places, not of all, which would be NP-hard. Where stages are uneven all the same, [`Uneven`] says what is in
//! the way. Inputs of the graph and constants are free: every stage gets them from where the graph does. What an earlier stage makes and a later one
//! uses crosses every cut between their steps.

mod build;
mod choose;
mod cut;
mod fill;
mod places;
mod steps;
pub mod tensor;
mod uneven;
mod units;

pub use build::input_names;
pub use cut::Reason;
pub use uneven::{Cause, Kernel, Uneven};

use crate::cost::CostModel;
use egret_ir::{Graph, NodeId, Type, advice};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use steps::{Figures, Layout};
use uneven::Chain;
use units::Units;

/// How much longer than the mean of the stages one may take.
pub const TOLERANCE: f64 = 0.25;
/// The assumed value of a symbolic dim.
pub const NOMINAL_DIM: i64 = 64;

/// Why a graph cannot be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionError {
    /// More stages than kernels, or none at all.
    Stages {
        /// The stages asked for.
        stages: usize,
        /// The nodes of the graph.
        nodes: usize,
        /// The kernels that do their work, which stay whole.
        units: usize,
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
            PartitionError::Stages { stages, nodes, units } => {
                let most = units.max(&1);
                write!(
                    f,
                    "a graph of {nodes} node(s) can be cut into 1 to {most} stages, not into {stages}: the nodes of a kernel stay together"
                )
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

/// A graph in stages.
#[derive(Clone, Debug)]
pub struct Stages {
    /// The stages, in the order of steps.
    pub stages: Vec<Stage>,
    /// The stages of each step, which are independent of each other.
    pub steps: Vec<Range<usize>>,
    /// The cuts, each behind the step of its number.
    pub cuts: Vec<Cut>,
    /// Why the longest stage takes more than [`TOLERANCE`] above their mean, where it does. What has split tensors does not say it.
    pub uneven: Option<Uneven>,
}

/// A part of a graph.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The graph.
    pub graph: Graph,
    /// Its estimated time in nanoseconds.
    pub cost: u64,
}

/// What is between a step and the next.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The values that cross it, in the order in which they are made.
    pub values: Vec<Crossing>,
    /// Why it is there.
    pub why: Why,
}

/// Why a cut is there.
#[derive(Clone, Debug)]
pub enum Why {
    /// Stages are to take about the same time.
    Even(Reason),
    /// Independent stages begin or end there.
    Beside {
        /// The stages of their step.
        stages: Range<usize>,
        /// The time of all of them in nanoseconds.
        together: u64,
        /// The time of the longest.
        longest: u64,
    },
    /// Parts of tensors are put together behind it.
    Parts {
        /// The estimated time of the graph with split tensors in nanoseconds.
        split: u64,
        /// That of the whole.
        whole: u64,
    },
}

impl Cut {
    /// The bytes that cross it; a symbolic dim counts as [`NOMINAL_DIM`].
    pub fn bytes(&self) -> u64 {
        self.values.iter().map(|v| v.bytes).fold(0, u64::saturating_add)
    }
}

/// A value that crosses a cut.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// Its name, which no other value of the stages has, and no input of the graph.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Its bytes; a symbolic dim counts as [`NOMINAL_DIM`].
    pub bytes: u64,
    /// The stage that makes it.
    pub made: usize,
    /// The stages that use it, ascending: behind this cut or a later one, or between the one that makes it and this cut.
    pub used: Vec<usize>,
}

/// Splits a graph into stages. A value that crosses is an output of one stage and an input of the same name
/// of later ones; the graph's own inputs and outputs keep their names. A stage that needs a free dim of the graph which nothing
/// that it uses has also gets an input of the graph that has it. `kernels`: the nodes whose work each kernel
/// does, which stay together. Times are those of the cost model.
///
/// # Errors
/// More stages than kernels, or a stage that uses a symbol that none of its inputs binds.
pub fn split(
    graph: &Graph,
    kernels: &[Vec<NodeId>],
    stages: usize,
    model: &CostModel,
) -> Result<Stages, PartitionError> {
    let mut graph = graph.clone();
    graph.remove_dead();
    let nodes = graph.node_count();
    let units = Units::new(&graph, kernels, model);
    if stages == 0 || stages > units.len().max(1) {
        return Err(PartitionError::Stages { stages, nodes, units: units.len() });
    }
    let all: Vec<usize> = (0..units.len()).collect();
    let wanted = cut::wanted(units.cost.iter().sum(), stages);
    let mut plan = Arranged::chain(&graph, &units, &all, stages, wanted)?;
    let tried = plan.reasons.iter().flatten().map(|r| r.tried).max().unwrap_or(0);
    let mut chain = Chain { figures: plan.figures(&units), tried, layout: None };
    let layout = steps::find(&units, stages);
    if let Some(layout) = &layout {
        let beside = Arranged::layout(&graph, &units, layout, wanted)?;
        if beside.figures(&units).pay(chain.figures) {
            chain.layout = Some(layout);
            plan = beside;
        }
    }
    let uneven = uneven::find(&graph, &units, &plan, &chain, wanted);
    let mut stage_of = HashMap::new();
    for (stage, own) in plan.steps.iter().flatten().enumerate() {
        stage_of.extend(own.iter().flat_map(|&u| &units.nodes[u]).map(|&n| (n, stage)));
    }
    let (graphs, crossing) = build::build(&graph, &stage_of, stages);
    symbols_are_bound(&graph, &graphs)?;
    for stage in &graphs {
        egret_ir::verify(stage).map_err(|errors| {
            PartitionError::Broken(
                errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )
        })?;
    }
    let times = plan.times(&units);
    let steps = plan.numbered();
    let ends: Vec<usize> = steps.iter().map(|s| s.end).collect();
    let across = |end: usize| across(&crossing, end);
    let why = |k: usize, reason: Option<Reason>| match reason {
        Some(reason) => Why::Even(reason),
        None => {
            let step = if steps[k].len() > 1 { k } else { k + 1 };
            let (together, longest) =
                (times[step].iter().sum(), times[step].iter().copied().max().unwrap_or(0));
            Why::Beside { stages: steps[step].clone(), together, longest }
        }
    };
    let cuts = plan.reasons.into_iter().enumerate();
    let cuts = cuts.map(|(k, reason)| Cut { values: across(ends[k]), why: why(k, reason) }).collect();
    let costs = times.into_iter().flatten();
    let stages = graphs.into_iter().zip(costs).map(|(graph, cost)| Stage { graph, cost }).collect();
    Ok(Stages { stages, steps, cuts, uneven })
}

/// The values that cross the cut before the stage `end`.
fn across(values: &[Crossing], end: usize) -> Vec<Crossing> {
    let crosses = |v: &&Crossing| v.made < end && v.used.last().is_some_and(|&last| last >= end);
    values.iter().filter(crosses).cloned().collect()
}

/// Units in stages of steps.
struct Arranged {
    /// The units of each stage, by step.
    steps: Vec<Vec<Vec<usize>>>,
    /// Why each cut between steps is where it is; nothing where independent stages begin or end.
    reasons: Vec<Option<Reason>>,
}

impl Arranged {
    /// One behind the other. `wanted`: how long a stage may take at the most, where that can be.
    fn chain(
        graph: &Graph,
        units: &Units,
        of: &[usize],
        stages: usize,
        wanted: u64,
    ) -> Result<Arranged, PartitionError> {
        let (stages, reasons) = cut::assign(graph, units, of, stages, wanted)?;
        let steps = stages.into_iter().map(|stage| vec![stage]).collect();
        Ok(Arranged { steps, reasons: reasons.into_iter().map(Some).collect() })
    }

    /// With branches beside each other.
    fn layout(
        graph: &Graph,
        units: &Units,
        layout: &Layout,
        wanted: u64,
    ) -> Result<Arranged, PartitionError> {
        let mut out = Arranged { steps: vec![], reasons: vec![] };
        if layout.stem.1 > 0 {
            out = Arranged::chain(graph, units, &layout.stem.0, layout.stem.1, wanted)?;
            out.reasons.push(None);
        }
        let branch = |of| Ok(cut::assign(graph, units, of, layout.depth, wanted)?.0);
        let branches = layout.branches.iter().map(|b| branch(b)).collect::<Result<Vec<_>, _>>()?;
        out.steps.extend((0..layout.depth).map(|d| branches.iter().map(|b| b[d].clone()).collect()));
        out.reasons.extend(vec![None; layout.depth - 1]);
        if layout.head.1 > 0 {
            let head = Arranged::chain(graph, units, &layout.head.0, layout.head.1, wanted)?;
            out.reasons.push(None);
            out.reasons.extend(head.reasons);
            out.steps.extend(head.steps);
        }
        Ok(out)
    }

    /// The times of stages, by step.
    fn times(&self, units: &Units) -> Vec<Vec<u64>> {
        let time = |stage: &Vec<usize>| stage.iter().map(|&u| units.cost[u]).sum();
        self.steps.iter().map(|step| step.iter().map(time).collect()).collect()
    }

    fn figures(&self, units: &Units) -> Figures {
        Figures::of(&self.times(units))
    }

    /// The numbers of the stages of each step.
    fn numbered(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let number = |step: &Vec<Vec<usize>>| {
            next += step.len();
            next - step.len()..next
        };
        self.steps.iter().map(number).collect()
    }
}

/// The bytes of a value; a symbolic dim counts as [`NOMINAL_DIM`].
pub fn bytes_of(ty: &Type) -> u64 {
    match ty {
        Type::Tensor(t) => {
            let dims = t.shape.iter().map(|d| d.as_const().unwrap_or(NOMINAL_DIM).max(0) as u64);
            dims.fold(t.dtype.size().max(1) as u64, u64::saturating_mul).min(1 << 40)
        }
        // Do not cut sequences.
        _ => 1 << 40,
    }
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
