//! Minimal test cases: one step of a proof as a graph of its own.

use super::check::close;
use super::replay::leaves;
use super::{Fault, Proof, TermStore};
use crate::analysis::{SMALL, Summary};
use crate::rules::{Rule, Tier};
use egret_ir::{Def, Graph, Tensor, ValueId, text};
use std::collections::{BTreeSet, HashMap};

/// The first seed of synthetic constants. Users' synthetic inputs mostly have smaller seeds, and would be
/// equal to them.
const SEED: usize = 100;

/// The left-hand side of a step as a graph. Its variables become inputs; small and uniform constants stay,
/// others become synthetic ones. `None`: the proof has no such step.
///
/// # Errors
/// A proof that is wrong before that step.
pub fn minimized(proof: &Proof, step: usize, rules: &[&Rule], tier: Tier) -> Result<Option<Graph>, Fault> {
    let mut out = None;
    let short = Proof { steps: proof.steps.iter().take(step + 1).cloned().collect(), ..proof.clone() };
    close(&short, TermStore::of(proof.terms.clone()), rules, tier, |closure, instance| {
        if instance.index == step {
            let leaves = leaves(&instance.found);
            let mut graph = Graph::new("reduced");
            let mut values = HashMap::new();
            for (i, &leaf) in leaves.iter().enumerate() {
                let new = match closure.constant(leaf) {
                    Some(t) if t.len() <= SMALL || Summary::of(t).uniform.is_some() => {
                        graph.add_const(t.clone())
                    }
                    // No rule sees the elements of weights: synthetic ones of the type will do.
                    Some(t) => graph.add_const(synthetic(t, SEED + i).unwrap_or_else(|| t.clone())),
                    None => graph.add_input(&format!("x{i}"), closure.store.graph.ty(leaf).clone()),
                };
                values.insert(leaf, new);
            }
            let output = copy(&closure.store.graph, instance.before, &mut graph, &mut values);
            graph.add_output("y", output.ok_or("a side reads an input that no variable is")?);
            out = Some(graph);
        }
        Ok(())
    })?;
    Ok(out)
}

/// A constant of the same type that text IR writes as `random(seed)`.
fn synthetic(like: &Tensor, seed: usize) -> Option<Tensor> {
    text::parse_tensor(&format!("{} random({seed})", like.ty()), &|_| None).ok()
}

/// Prints a graph with synthetic constants as `random(seed)` and uniform ones as `splat(value)`.
pub fn printed(graph: &Graph) -> String {
    let mut out = text::print(graph);
    for (hash, tensor) in text::constants(graph) {
        if let Some(v) = Summary::of(&tensor).uniform {
            out = out.replace(&format!("#{hash}"), &format!("splat({v:?})"));
            continue;
        }
        let seeds = SEED..SEED + graph.value_count();
        let made = |seed: &usize| {
            synthetic(&tensor, *seed).is_some_and(|t| t.content_hash() == tensor.content_hash())
        };
        if let Some(seed) = seeds.into_iter().find(made) {
            out = out.replace(&format!("#{hash}"), &format!("random({seed})"));
        }
    }
    out
}

/// The cone of a value, i.e. all that it is computed from, as a graph.
pub(crate) fn cone(from: &Graph, at: ValueId, name: &str) -> Graph {
    let mut graph = Graph::new(name);
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    for &i in from.inputs() {
        values.insert(i, graph.add_input(&from.value(i).name, from.ty(i).clone()));
    }
    if let Some(output) = copy(from, at, &mut graph, &mut values) {
        graph.add_output("y", output);
    }
    graph
}

/// Copies a term down to values that are in `values` already.
fn copy(
    from: &Graph,
    at: ValueId,
    into: &mut Graph,
    values: &mut HashMap<ValueId, ValueId>,
) -> Option<ValueId> {
    if let Some(&v) = values.get(&at) {
        return Some(v);
    }
    // Recursive: patterns are not deep.
    let new = match &from.value(at).def {
        Def::Input(_) => return None,
        Def::Const(t) => into.add_const(t.clone()),
        Def::Node(id, result) => {
            let node = from.node(*id);
            let operands = node.operands.iter().map(|o| match o {
                Some(o) => copy(from, *o, into, values).map(Some),
                None => Some(None),
            });
            let operands: Vec<Option<ValueId>> = operands.collect::<Option<_>>()?;
            let types = node.results.iter().map(|&v| from.ty(v).clone()).collect();
            let new = into.add_node(
                node.op,
                node.attrs.clone(),
                operands,
                node.regions.clone(),
                types,
                BTreeSet::new(),
            );
            into.node(new).results[*result]
        }
    };
    values.insert(at, new);
    Some(new)
}
