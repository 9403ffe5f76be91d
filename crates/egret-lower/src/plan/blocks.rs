//! Kernels for several units at once: where a single one is little work (a row of a perceptron, of a table for trees), a group is also
//! lowered for [`STEPS`] of them, and the kernels for one do the rest.

use crate::LowerOptions;
use crate::geometry::aliases::root;
use crate::plan::fusion::{self, FusionGroup};
use crate::plan::units::{Count, Units};
use egret_ir::{Graph, NodeId, Op, ValueId};
use std::collections::BTreeMap;

/// How many units a kernel works on beside one, the most first: as many rows as fill register tiles a few times, and as fill one.
const STEPS: [usize; 2] = [32, 8];

/// A unit of more elements is work enough for a kernel.
const FEW_ELEMENTS: i64 = 8192;

/// A product of more rows fills the tiles of a kernel.
const FEW_ROWS: i64 = 16;

/// A graph of so many units.
pub struct Block {
    /// How many.
    pub step: usize,
    /// The graph.
    pub graph: Graph,
    /// Whose units they are.
    count: Count,
    groups: BTreeMap<NodeId, FusionGroup>,
}

/// The graphs of several units that some of the groups of `of_one` are lowered for too.
pub fn plan(of_one: &Graph, units: &Units, options: &LowerOptions) -> Vec<Block> {
    let groups = fusion::build(of_one, options, Some(units));
    let mut counts: Vec<&Count> = vec![];
    for count in groups.iter().filter_map(|g| wanted(of_one, units, g)) {
        if !counts.contains(&count) {
            counts.push(count);
        }
    }
    let mut out = vec![];
    for count in counts {
        for step in STEPS {
            let graph = units.graph_of(count, step as i64);
            let groups = fusion::build(&graph, options, Some(units));
            let groups = groups.into_iter().map(|g| (g.root, g)).collect();
            out.push(Block { step, graph, count: count.clone(), groups });
        }
    }
    out
}

/// How many units a group has whose kernels are to work on several.
fn wanted<'u>(of_one: &Graph, units: &'u Units, group: &FusionGroup) -> Option<&'u Count> {
    let count = units.of(group.result).filter(|_| !units.is_open(group.root))?;
    // A symbol that counts twice makes more units than it says.
    if count.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    let elements = |v: ValueId| -> i64 {
        of_one.tensor_ty(v).const_len().and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX)
    };
    let node = of_one.node(group.node());
    let dims = of_one.tensor_ty(group.result).const_dims()?;
    let few = match node.op {
        // The rows of one matrix; products of several matrices are work for a task each.
        Op::Matmul => {
            let [outer @ .., rows, _] = dims.as_slice() else { return None };
            group.weights.is_none() && outer.iter().all(|d| *d == 1) && (*rows as i64) < FEW_ROWS
        }
        _ => elements(group.result) <= FEW_ELEMENTS && elements(first(node)?) <= FEW_ELEMENTS,
    };
    (few && node.regions.is_empty()).then_some(count)
}

fn first(node: &egret_ir::Node) -> Option<ValueId> {
    node.operands.first().copied().flatten()
}

impl Block {
    /// The group of its graph that computes what one of `of_one` does, from values that stand where they stand there.
    pub fn group(&self, of_one: &Graph, units: &Units, group: &FusionGroup) -> Option<&FusionGroup> {
        let wants = wanted(of_one, units, group) == Some(&self.count);
        let own = self.groups.get(&group.root).filter(|own| wants && own.nodes == group.nodes)?;
        let read = |g: &FusionGroup, graph: &Graph| -> Vec<ValueId> {
            let anchor = g.anchor.map(|a| graph.node(a).operands.clone()).unwrap_or_default();
            let operands = g.expr.operands.iter().chain(g.prologue.iter().flat_map(|p| &p.operands));
            anchor.into_iter().flatten().chain(operands.map(|o| o.value)).collect()
        };
        let values = read(group, of_one);
        let same = read(own, &self.graph) == values && own.anchor == group.anchor;
        let results = of_one.node(group.root).results.iter().copied();
        let stand = values.into_iter().chain(results).all(|v| {
            let (a, b) = (root(of_one, v), root(&self.graph, v));
            // What is the same in every unit is there once.
            let once = units.of(v).is_none() && of_one.ty(v) != self.graph.ty(v);
            // Behind the first unit of its buffer it would begin elsewhere.
            a == b && a.1 == 0 && !once
        });
        (same && stand).then_some(own)
    }
}
