//! The walk through a graph: every node unites or fixes the ids of its operands.

use crate::channels::ids::{Id, Ids};
use crate::channels::ops;
use crate::channels::shapes::{Shapes, can_shrink, tensors};
use crate::channels::walk::Walk;
use crate::constants::Constants;
use crate::contractions::{inside, name, reads};
use egret::ir::Dim;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Walk through a graph.
pub fn walk<'a>(graph: &'a GraphProto, opset: i64, shapes: &'a Shapes) -> Walk<'a> {
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
    for (at, node) in graph.node.iter().enumerate() {
        step(&mut walk, at, node);
    }
    for output in &graph.output {
        walk.fix_value(&output.name, &format!("they reach `{}`, an output of the model", output.name));
    }
    walk
}

fn step(walk: &mut Walk<'_>, at: usize, node: &NodeProto) {
    if node.op_type == "Constant" && node.output.first().is_some_and(|o| walk.values.contains_key(o)) {
        return;
    }
    let ours = node.domain.is_empty() || node.domain == "ai.onnx";
    let made = if inside(node).next().is_some() {
        Err("it has a graph inside".to_owned())
    } else if !ours {
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
