//! What is in the way where stages are uneven.

use super::steps::{Figures, Layout};
use super::{Arranged, units::Units};
use egret_ir::Graph;
use std::collections::BTreeSet;

/// Why the longest stage takes more than what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uneven {
    /// The longest stage.
    pub stage: usize,
    /// Its time in nanoseconds.
    pub time: u64,
    /// The mean time of all stages in nanoseconds.
    pub mean: u64,
    /// The time of the whole graph in nanoseconds.
    pub whole: u64,
    /// The kernel of the stage that takes longest.
    pub kernel: Kernel,
    /// What is in the way.
    pub cause: Cause,
}

/// What is in the way of even stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel takes more than a stage should: whatever the cuts, some stage has it. Stages one behind the other would be no more even.
    Kernel,
    /// No choice among so many places of cuts is more even, as kernels stay whole.
    Places(usize),
    /// Stages of a step end a sample sooner than stages one behind the other, which would be more even.
    Steps {
        /// The kernel that takes what the branches make, or where there is none the one that makes what they take: it is in no branch.
        ends: Option<Kernel>,
        /// How long a sample takes in nanoseconds.
        sample: u64,
        /// The longest of stages one behind the other in nanoseconds, and how long a sample takes in them.
        chain: (u64, u64),
    },
}

/// The nodes that are computed together, and which no cut may part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its ONNX nodes.
    pub nodes: BTreeSet<String>,
    /// Its operations.
    pub ops: BTreeSet<String>,
    /// Its estimated time in nanoseconds.
    pub time: u64,
}

impl Kernel {
    fn new(graph: &Graph, units: &Units, unit: usize) -> Kernel {
        let nodes = || units.nodes[unit].iter().map(|&n| graph.node(n));
        Kernel {
            nodes: nodes().flat_map(|n| n.sources.iter().cloned()).collect(),
            ops: nodes().map(|n| n.op.to_string()).collect(),
            time: units.cost[unit],
        }
    }
}

/// What a plan is compared with.
pub(super) struct Chain<'a> {
    /// What stages one behind the other come to.
    pub figures: Figures,
    /// How many places were tried for their cuts.
    pub tried: usize,
    /// The branches of the plan that is taken in their place.
    pub layout: Option<&'a Layout>,
}

/// Why the longest stage of a plan takes more than `wanted`, if it does.
pub(super) fn find(
    graph: &Graph,
    units: &Units,
    plan: &Arranged,
    chain: &Chain<'_>,
    wanted: u64,
) -> Option<Uneven> {
    let stages: Vec<&Vec<usize>> = plan.steps.iter().flatten().collect();
    let times: Vec<u64> = plan.times(units).into_iter().flatten().collect();
    let whole: u64 = times.iter().sum();
    // Of equals the first.
    let (stage, &time) = times.iter().enumerate().rev().max_by_key(|(_, time)| **time)?;
    if time <= wanted {
        return None;
    }
    let longest = stages[stage].iter().copied().rev().max_by_key(|&u| units.cost[u])?;
    let kernel = Kernel::new(graph, units, longest);
    let cause = match chain.layout {
        Some(layout) if chain.figures.longest < time => {
            let end = layout.head.0.first().or(layout.stem.0.last());
            Cause::Steps {
                ends: end.map(|&u| Kernel::new(graph, units, u)),
                sample: plan.figures(units).sample,
                chain: (chain.figures.longest, chain.figures.sample),
            }
        }
        _ if kernel.time > wanted => Cause::Kernel,
        _ => Cause::Places(chain.tried),
    };
    Some(Uneven { stage, time, mean: whole / stages.len() as u64, whole, kernel, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two towers in a step and a head of 4 stages, of which the mean is 10 and the longest 25, with a kernel of 13.
    fn cause(chain: u64, by_steps: bool) -> Cause {
        let units = Units::of_times(&[(13, &[]), (12, &[0]), (5, &[]), (5, &[2]), (5, &[1, 3])]);
        let steps = vec![vec![vec![0, 1], vec![2]], vec![vec![3]], vec![vec![4]]];
        let plan = Arranged { steps, reasons: vec![] };
        let layout = Layout {
            stem: (vec![], 0),
            branches: vec![vec![0, 1], vec![2, 3]],
            depth: 1,
            head: (vec![4], 1),
        };
        let figures = Figures { longest: chain, sample: 40 };
        let chain = Chain { figures, tried: 7, layout: Some(&layout).filter(|_| by_steps) };
        let found = find(&Graph::new("g"), &units, &plan, &chain, 12).unwrap();
        assert_eq!((found.time, found.mean, found.kernel.time), (25, 10, 13));
        found.cause
    }

    #[test]
    fn a_kernel_is_to_blame_only_where_a_chain_is_no_better() {
        assert!(matches!(cause(13, true), Cause::Steps { ends: Some(_), sample: 35, chain: (13, 40) }));
        assert_eq!(cause(25, true), Cause::Kernel);
        assert_eq!(cause(25, false), Cause::Kernel);
    }
}
