//! What an e-graph answers: how to build the values that were asked for, and what was found on the way. Plain data in terms of
//! the problem's own numbers, so that it holds for every region that asks the same.

use super::record::LocalProof;
use crate::rebuild::Rebuild;
use crate::regions::{Binding, Local, Region};
use crate::report::{Missed, RuleCount};
use egret_ir::{Attrs, Graph, Op, Tensor, ValueId};
use std::collections::BTreeSet;

/// The answer to a [`crate::regions::CanonicalRegion`].
#[derive(Clone, Debug, Default)]
pub(crate) struct OptimizedRegion {
    /// What to build, operands first.
    pub steps: Vec<Step>,
    /// The step whose first value is the output, for each output that was asked for.
    pub outputs: Vec<usize>,
    /// Constants that rules made; they are numbered after those of the problem.
    pub constants: Vec<Tensor>,
    /// The applications of rules, in order.
    pub applied: Vec<Applied>,
    /// What the applications say, where that is kept.
    pub proof: Option<LocalProof>,
    /// Rules that nearly applied, where that is asked for.
    pub missed: BTreeSet<Missed<usize>>,
    /// Whether it is known that no other choice of nodes is cheaper.
    pub cheapest: bool,
    /// What its nodes are estimated to cost, in nanoseconds.
    pub cost: u64,
    /// The errors of the approximations in it, added up.
    pub error: f64,
    /// Of a solution without approximations a cheaper one with some.
    pub approximate: Option<Box<OptimizedRegion>>,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// For each rule what it did.
    pub counts: Vec<RuleCount>,
}

impl OptimizedRegion {
    /// Whether it builds just the nodes that the region has: no rule was applied, and no two nodes were equal.
    pub fn is_old(&self, region: &Region) -> bool {
        let nodes =
            self.steps.iter().filter(|s| matches!(s.make, Make::Copy(_) | Make::Node { .. })).count();
        nodes == region.nodes.len() && self.applied.is_empty()
    }
}

/// A step of building a region's new form.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is built.
    pub make: Make,
    /// The steps whose first values are its operands; `None` where an optional one is left out.
    pub operands: Vec<Option<usize>>,
    /// The nodes of the region that it comes from.
    pub sources: BTreeSet<usize>,
    /// The values of the region that it computes, sorted: the first that has a name gives it.
    pub is: Vec<Local>,
}

/// What a step builds.
#[derive(Clone, Debug)]
pub enum Make {
    /// An input of the region, or one of its constants.
    Given(Local),
    /// The constant of [`OptimizedRegion::constants`] at this place.
    Constant(usize),
    /// Of its operand's values the one of this number.
    Project(usize),
    /// A node of the region, on new operands.
    Copy(usize),
    /// A new node.
    Node {
        /// Its operation.
        op: Op,
        /// Its attributes.
        attrs: Attrs,
    },
}

/// A rule was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Which of the rules.
    pub rule: usize,
    /// The nodes of the region that it rests on.
    pub nodes: BTreeSet<usize>,
    /// Whether the new form rests on it.
    pub rests: bool,
}

/// The constants of a region and those that rules made in it, by number.
pub(crate) fn constants(graph: &Graph, binding: &Binding, solution: &OptimizedRegion) -> Vec<Tensor> {
    let given = binding.constants.iter().filter_map(|&v| graph.as_const(v).cloned());
    given.chain(solution.constants.iter().cloned()).collect()
}

/// The ONNX nodes behind nodes of a region.
pub(crate) fn names<'a>(
    graph: &Graph,
    region: &Region,
    nodes: impl IntoIterator<Item = &'a usize>,
) -> BTreeSet<String> {
    nodes.into_iter().flat_map(|&i| graph.node(region.nodes[i]).sources.iter().cloned()).collect()
}

/// Build a region's new form in the new graph.
///
/// # Errors
/// A node that does not fit its operands: a bug in a rule.
pub(crate) fn store(
    r: &mut Rebuild,
    region: &Region,
    binding: &Binding,
    solution: &OptimizedRegion,
) -> Result<(), String> {
    let mut built: Vec<Vec<ValueId>> = Vec::with_capacity(solution.steps.len());
    for step in &solution.steps {
        let operands: Vec<Option<ValueId>> =
            step.operands.iter().map(|s| s.and_then(|s| built[s].first().copied())).collect();
        if !step.sources.is_empty() {
            r.builder.set_sources(names(r.old, region, &step.sources));
        }
        let values = match &step.make {
            Make::Given(Local::Constant(i)) => match r.old.as_const(binding.constants[*i]) {
                Some(tensor) => vec![r.builder.constant(tensor.clone())],
                None => return Err("a constant is none".into()),
            },
            Make::Given(local) => vec![r.new_value(old_value(r, region, binding, *local))],
            Make::Constant(i) => vec![r.builder.constant(solution.constants[*i].clone())],
            Make::Project(k) => {
                let all =
                    step.operands.first().and_then(|s| built.get((*s)?)).ok_or("a result of nothing")?;
                vec![*all.get(*k).ok_or("no such result")?]
            }
            Make::Copy(node) => {
                r.copy(r.old.node(region.nodes[*node]), &operands).map_err(|e| e.to_string())?
            }
            Make::Node { op, attrs } => {
                r.builder.emit_node(*op, attrs.clone(), &operands, vec![]).map_err(|e| e.to_string())?
            }
        };
        if let Some(&value) = values.first()
            && r.builder.graph.value(value).name.is_empty()
        {
            let named = step
                .is
                .iter()
                .map(|&l| &r.old.value(old_value(r, region, binding, l)).name)
                .find(|n| !n.is_empty());
            if let Some(name) = named {
                r.builder.graph.set_value_name(value, name);
            }
        }
        built.push(values);
    }
    for (&old, &step) in region.outputs.iter().zip(&solution.outputs) {
        r.set_new_value(old, *built[step].first().ok_or("a value is left out")?);
    }
    Ok(())
}

/// The value of the old graph that a value of the problem is.
fn old_value(r: &Rebuild, region: &Region, binding: &Binding, local: Local) -> ValueId {
    match local {
        Local::Input(i) => binding.inputs[i],
        Local::Constant(i) => binding.constants[i],
        Local::Result(node, k) => r.old.node(region.nodes[node]).results[k],
    }
}
