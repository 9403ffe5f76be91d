//! The result of optimising a region: the steps that build its outputs, and what was found on the way.
//! Plain data in the numbers of the canonical region, so that it applies to every equal region; `store`
//! builds it in a graph.

use super::record::LocalProof;
use crate::rebuild::Rebuild;
use crate::regions::{Binding, Local, Region};
use crate::report::{Missed, RuleCount};
use egret_ir::{Attrs, Graph, Op, Tensor, ValueId};
use std::collections::BTreeSet;

/// An optimised [`crate::regions::CanonicalRegion`].
#[derive(Clone, Debug, Default)]
pub(crate) struct OptimizedRegion {
    /// What to build, operands first.
    pub steps: Vec<Step>,
    /// For each output of the region the step that computes it.
    pub outputs: Vec<usize>,
    /// Constants that rules made, numbered after those of the region.
    pub constants: Vec<Tensor>,
    /// The applications of rules, in order.
    pub applied: Vec<Applied>,
    /// The proof, if asked for.
    pub proof: Option<LocalProof>,
    /// Rules that nearly applied, if asked for.
    pub missed: BTreeSet<Missed<usize>>,
    /// Whether it is proven that no other choice of nodes is cheaper.
    pub cheapest: bool,
    /// What its nodes are estimated to cost, in nanoseconds.
    pub cost: u64,
    /// The sum of the errors of its approximations.
    pub error: f64,
    /// A cheaper form that uses approximations, if there is one.
    pub approximate: Option<Box<OptimizedRegion>>,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// What each rule did.
    pub counts: Vec<RuleCount>,
}

impl OptimizedRegion {
    /// Whether it is the region as it was: no rule was applied, and no two nodes were equal.
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
    /// The steps of its operands; `None` for omitted ones.
    pub operands: Vec<Option<usize>>,
    /// The nodes of the region that it comes from.
    pub sources: BTreeSet<usize>,
    /// The values of the region that it computes, sorted. It takes the name of the first that has one.
    pub is: Vec<Local>,
}

/// What a step builds.
#[derive(Clone, Debug)]
pub enum Make {
    /// An input of the region, or one of its constants.
    Given(Local),
    /// The constant of [`OptimizedRegion::constants`] at this place.
    Constant(usize),
    /// The result of its operand with this index.
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
    /// Whether it contributed to the new form.
    pub rests: bool,
}

/// The constants of a region, then those that rules made, by number.
pub(crate) fn constants(graph: &Graph, binding: &Binding, solution: &OptimizedRegion) -> Vec<Tensor> {
    let given = binding.constants.iter().filter_map(|&v| graph.as_const(v).cloned());
    given.chain(solution.constants.iter().cloned()).collect()
}

/// The ONNX nodes that nodes of a region come from.
pub(crate) fn names<'a>(
    graph: &Graph,
    region: &Region,
    nodes: impl IntoIterator<Item = &'a usize>,
) -> BTreeSet<String> {
    nodes.into_iter().flat_map(|&i| graph.node(region.nodes[i]).sources.iter().cloned()).collect()
}

/// Builds an optimised region in the new graph.
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

/// The value of the old graph behind a local number.
fn old_value(r: &Rebuild, region: &Region, binding: &Binding, local: Local) -> ValueId {
    match local {
        Local::Input(i) => binding.inputs[i],
        Local::Constant(i) => binding.constants[i],
        Local::Result(node, k) => r.old.node(region.nodes[node]).results[k],
    }
}
