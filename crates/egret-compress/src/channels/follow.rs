//! The walk through a graph: every node unites or fixes the ids of its operands.

use crate::channels::borders::{self, Borders};
use crate::channels::ids::{Id, Ids};
use crate::channels::ops;
use crate::channels::shapes::{Shapes, can_shrink, tensors};
use crate::channels::walk::{Axis, Walk};
use crate::constants::Constants;
use crate::contractions::{inside, kind, name, ours, reads};
use crate::flat::{self, Home, Tree};
use crate::movers::moved;
use egret::ir::Dim;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Walk through a graph.
pub fn walk<'a>(graph: &'a GraphProto, opset: i64, shapes: &'a Shapes, borders: &Borders) -> Walk<'a> {
    let tensors: BTreeMap<&str, &TensorProto> = tensors(graph).into_iter().collect();
    let mut walk = Walk {
        graph,
        constants: Constants::new(graph),
        opset,
        shapes,
        ids: Ids::default(),
        values: BTreeMap::new(),
        products: vec![],
        sizes: vec![],
        units: vec![],
        states: BTreeSet::new(),
        shared: BTreeSet::new(),
        tensors,
    };
    for (name, tensor) in walk.tensors.clone() {
        let free = can_shrink(tensor);
        let axes = tensor.dims.iter().map(|&d| {
            let size = usize::try_from(d).unwrap_or(0);
            free.then(|| Rc::new(walk.ids.fresh(size)))
        });
        let axes = axes.collect();
        walk.values.insert(name.to_owned(), axes);
    }
    for input in &graph.input {
        let rank = shapes.get(&input.name).map_or(0, Vec::len);
        walk.values.entry(input.name.clone()).or_insert_with(|| vec![None; rank]);
    }
    let (homes, never) = (flat::homes(graph), never(graph, shapes));
    for (at, node) in graph.node.iter().enumerate().filter(|(at, _)| !never.contains(&homes[*at])) {
        step(&mut walk, at, node, borders, &never);
    }
    borders::check(&mut walk, borders);
    for output in &graph.output {
        walk.fix_value(&output.name, &format!("they reach `{}`, an output of the model", output.name));
    }
    walk
}

fn step(walk: &mut Walk<'_>, at: usize, node: &NodeProto, borders: &Borders, never: &BTreeSet<Home>) {
    if node.op_type == "Constant" && node.output.first().is_some_and(|o| walk.values.contains_key(o)) {
        return;
    }
    let to = node.output.first().map_or("", String::as_str);
    let made = if borders.entries.contains_key(to) {
        Ok(vec![entry(walk, node)])
    } else if borders.exits.contains(to) {
        // What goes out has its shape again.
        Ok(vec![])
    } else if flat::is_if(node) && !flat::branches(node).is_empty() {
        join(walk, node, never)
    } else if inside(node).next().is_some() {
        Err("it has a graph inside".to_owned())
    } else if !ours(node) {
        Err("an operator of another domain".to_owned())
    } else {
        ops::axes(walk, at, node)
    };
    let made = made.unwrap_or_else(|why| {
        let mut names = vec![];
        reads(std::slice::from_ref(node), &mut names);
        let why = format!("they reach {} `{}`: {why}", node.op_type, name(node));
        names.into_iter().for_each(|n| walk.fix_value(n, &why));
        vec![]
    });
    states(walk, node, never);
    for (k, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
        let Some(dims) = walk.shapes.get(output) else {
            let why = format!("the shape of `{output}` is not known");
            made.get(k).into_iter().flatten().flatten().for_each(|ids| walk.ids.fix(ids, &why));
            continue;
        };
        let mut axes = made.get(k).cloned().unwrap_or_default();
        let fits = axes.len() == dims.len();
        for (a, axis) in axes.iter_mut().enumerate() {
            let same = |ids: &Rc<Vec<Id>>| dims.get(a).and_then(Dim::as_const) == Some(ids.len() as i64);
            if let Some(ids) = axis.as_ref().filter(|ids| !fits || !same(ids)) {
                walk.ids.fix(ids, &format!("`{output}` has an axis of another size than theirs"));
                *axis = None;
            }
        }
        axes.resize(dims.len(), None);
        walk.values.insert(output.clone(), axes);
    }
}

/// The homes that no input reaches: branches whose values have other ranks than those of their nodes, as far as types tell, and nothing
/// to compress; and what is inside them.
fn never(graph: &GraphProto, shapes: &Shapes) -> BTreeSet<Home> {
    let (homes, tree) = (flat::homes(graph), Tree::new(graph));
    let mut bare: BTreeSet<Home> = BTreeSet::new();
    for node in graph.node.iter().filter(|n| flat::is_if(n)) {
        for (home, outputs) in flat::branches(node) {
            let other = |(inner, outer): (&&str, &String)| {
                let ranks = [shapes.get(*inner), shapes.get(outer)].map(|s| s.map(Vec::len));
                matches!(ranks, [Some(a), Some(b)] if a != b)
            };
            if outputs.iter().zip(&node.output).any(other) {
                bare.insert(home);
            }
        }
    }
    let around = |home: Home| tree.nodes_around(home).into_iter().map(|(_, h)| h);
    for (_, &home) in graph.node.iter().zip(&homes).filter(|(n, _)| kind(n).is_some()) {
        // Its weights would have to fit what is left of what it reads.
        for h in around(home) {
            bare.remove(&h);
        }
    }
    tree.homes().into_iter().filter(|&h| around(h).any(|h| bare.contains(&h))).collect()
}

/// What comes in as a state: ids along its last axis, which is that of hidden units.
fn entry(walk: &mut Walk<'_>, node: &NodeProto) -> Vec<Axis> {
    let dims = walk.dims(node, 0).to_vec();
    let mut axes = vec![None; dims.len()];
    let size = dims.last().and_then(Dim::as_const).and_then(|d| usize::try_from(d).ok());
    if let (Some(axis), Some(size)) = (axes.last_mut(), size.filter(|s| *s > 1)) {
        *axis = Some(Rc::new(walk.ids.fresh(size)));
    }
    axes
}

/// What either branch gives stands for what the node gives: their axes are one.
fn join(walk: &mut Walk<'_>, node: &NodeProto, never: &BTreeSet<Home>) -> Result<Vec<Vec<Axis>>, String> {
    let branches: Vec<Vec<String>> = flat::branches(node)
        .into_iter()
        .filter(|b| !never.contains(&b.0))
        .map(|b| b.1.into_iter().map(str::to_owned).collect())
        .collect();
    let mut out = vec![];
    for k in 0..node.output.len() {
        let mut joined: Option<Vec<Axis>> = None;
        for outputs in &branches {
            let name = outputs.get(k).map_or("", String::as_str);
            let known = walk.values.get(name).filter(|_| walk.shapes.contains_key(name));
            let axes = known
                .cloned()
                .ok_or_else(|| format!("the shape of `{name}`, of a branch, is not known"))?;
            joined = Some(match joined {
                None => axes,
                Some(before) if before.len() == axes.len() => {
                    let pairs = before.iter().zip(&axes);
                    pairs.map(|(a, b)| walk.join(a, b, "the other branch has no such channels")).collect()
                }
                Some(_) => return Err("its branches have values of other ranks".to_owned()),
            });
        }
        out.push(joined.unwrap_or_default());
    }
    Ok(out)
}

/// States that are moved are states.
fn states(walk: &mut Walk<'_>, node: &NodeProto, never: &BTreeSet<Home>) {
    let all = |names: &[&str]| !names.is_empty() && names.iter().all(|n| walk.states.contains(*n));
    let mut found = vec![];
    if flat::is_if(node) {
        let mut branches = flat::branches(node);
        branches.retain(|b| !never.contains(&b.0));
        for (k, output) in node.output.iter().enumerate() {
            let names: Vec<&str> = branches.iter().filter_map(|b| b.1.get(k).copied()).collect();
            found.extend(all(&names).then(|| output.clone()));
        }
    } else if let Some(inputs) = moved(node) {
        let names: Vec<&str> = inputs.iter().map(String::as_str).collect();
        found.extend(node.output.iter().filter(|_| all(&names)).cloned());
    }
    walk.states.extend(found);
}
