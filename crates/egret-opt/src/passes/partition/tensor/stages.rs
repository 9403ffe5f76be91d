//! The stages of a graph whose nodes are of workers: in each step one for each worker that has something to do.
//!
//! A part is computed in the step in which all of its operands are there. What is whole and made of parts is computed a step after them, by every worker
//! that needs it: each has a copy, which it keeps for its later steps.

use super::Part;
use crate::cost::{CostModel, estimate};
use crate::passes::partition::{Crossing, PartitionError, Stage, build, symbols_are_bound};
use crate::rebuild::topological;
use egret_ir::{Def, Graph, NodeId, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The stages of a graph, and what one makes and others use.
pub(super) fn stages(
    graph: &Graph,
    worker_of: &HashMap<NodeId, usize>,
    model: &CostModel,
) -> Result<(Vec<Part>, Vec<Crossing>), PartitionError> {
    let order = topological(graph);
    let steps = steps(graph, &order, worker_of);
    let (copies, of) = copies(graph, &order, worker_of, &steps);
    let mut places: BTreeSet<(usize, usize)> = of.values().copied().collect();
    if places.is_empty() {
        // A graph without nodes gives what it is given.
        places.insert((0, 0));
    }
    let places: Vec<(usize, usize)> = places.into_iter().collect();
    let number: BTreeMap<(usize, usize), usize> = places.iter().enumerate().map(|(i, &p)| (p, i)).collect();
    let stage_of = of.iter().map(|(&n, place)| (n, number[place])).collect();
    let (graphs, values) = build::build(&copies, &stage_of, places.len());
    symbols_are_bound(&copies, &graphs)?;
    let mut out = vec![];
    for (graph, (step, worker)) in graphs.into_iter().zip(places) {
        egret_ir::verify(&graph).map_err(|errors| {
            PartitionError::Broken(
                errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )
        })?;
        let cost = estimate(&graph, model).iter().map(|(_, cost)| cost).sum();
        out.push(Part { step, worker, stage: Stage { graph, cost } });
    }
    Ok((out, values))
}

/// The step of each node.
fn steps(graph: &Graph, order: &[NodeId], worker_of: &HashMap<NodeId, usize>) -> HashMap<NodeId, usize> {
    let mut steps: HashMap<NodeId, usize> = HashMap::new();
    for &id in order {
        let makers = graph.node(id).operands.iter().flatten().filter_map(|&v| graph.producer(v));
        // What is whole waits for the parts of all workers.
        let waits = |made: &NodeId| !worker_of.contains_key(&id) && worker_of.contains_key(made);
        let step = makers.map(|made| steps[&made] + usize::from(waits(&made))).max().unwrap_or(0);
        steps.insert(id, step);
    }
    steps
}

/// The graph with a copy of what is whole for each worker that needs it, and the step and worker of each node.
fn copies(
    graph: &Graph,
    order: &[NodeId],
    worker_of: &HashMap<NodeId, usize>,
    steps: &HashMap<NodeId, usize>,
) -> (Graph, HashMap<NodeId, (usize, usize)>) {
    // The first worker gives the outputs.
    let mut needed: HashMap<NodeId, BTreeSet<usize>> = HashMap::new();
    for n in graph.outputs().iter().filter_map(|&v| graph.producer(v)) {
        needed.entry(n).or_default().insert(0);
    }
    for id in order.iter().rev() {
        if let Some(&worker) = worker_of.get(id) {
            needed.insert(*id, BTreeSet::from([worker]));
        }
        let workers = needed.get(id).cloned().unwrap_or_default();
        for made in graph.node(*id).operands.iter().flatten().filter_map(|&v| graph.producer(v)) {
            needed.entry(made).or_default().extend(&workers);
        }
    }
    let mut new = Graph::new(&graph.name);
    let mut of = HashMap::new();
    let mut map: HashMap<(ValueId, usize), ValueId> = HashMap::new();
    let workers: BTreeSet<usize> = needed.values().flatten().copied().chain([0]).collect();
    let shared = |map: &mut HashMap<(ValueId, usize), ValueId>, v: ValueId, is: ValueId| {
        map.extend(workers.iter().map(|&worker| ((v, worker), is)));
    };
    for &v in graph.inputs() {
        let is = new.add_input(&graph.value(v).name, graph.ty(v).clone());
        shared(&mut map, v, is);
    }
    for v in graph.value_ids() {
        if let Def::Const(t) = &graph.value(v).def {
            let is =
                if graph.is_apart(v) { new.add_const_apart(t.clone()) } else { new.add_const(t.clone()) };
            new.set_value_name(is, &graph.value(v).name);
            shared(&mut map, v, is);
        }
    }
    for &id in order {
        let node = graph.node(id);
        let part = worker_of.contains_key(&id);
        for &worker in needed.get(&id).into_iter().flatten() {
            if part && worker_of[&id] != worker {
                continue;
            }
            let operands = node.operands.iter().map(|v| v.map(|v| map[&(v, worker)])).collect();
            let types = node.results.iter().map(|&v| graph.ty(v).clone()).collect();
            let copy = new.add_node(
                node.op,
                node.attrs.clone(),
                operands,
                node.regions.clone(),
                types,
                node.sources.clone(),
            );
            of.insert(copy, (steps[&id], worker));
            for (&was, is) in node.results.iter().zip(new.node(copy).results.clone()) {
                let name = &graph.value(was).name;
                if !name.is_empty() {
                    let end = if part || worker == 0 { String::new() } else { format!(".on{worker}") };
                    new.set_value_name(is, &format!("{name}{end}"));
                }
                match part {
                    true => shared(&mut map, was, is),
                    false => drop(map.insert((was, worker), is)),
                }
            }
        }
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        new.add_output(name, map[&(v, 0)]);
    }
    (new, of)
}
