//! Weights of recurrent layers that a model puts together from constants each time it runs, in another order of gates: exporters write them
//! so. They become constants, each once however many layers read it, and what they were made of goes if nothing else reads it.

use crate::constants::Constants;
use crate::contractions::{is_recurrent, reads};
use crate::movers::moved;
use crate::names::fresh;
use egret::frontend::ModelFile;
use egret::ir::{DType, Tensor};
use egret::{Engine, Executable, Options, Result};
use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The inputs of a recurrent layer that are weights and biases.
const SLOTS: std::ops::RangeInclusive<usize> = 1..=3;

/// Make such weights of a graph constants; how many there are now. Weights of a type that Egret does not store so stay.
///
/// # Errors
/// A model that Egret does not import.
pub fn settle(model: &mut ModelProto, path: &Path) -> Result<usize> {
    let graph = model.graph.get_or_default();
    let found = found(graph);
    if found.is_empty() {
        return Ok(0);
    }
    // One constant for all that is put together alike.
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    found.iter().for_each(|(name, key)| {
        first.entry(key).or_insert(name);
    });
    let names: Vec<String> = first.values().map(|n| (*n).to_owned()).collect();
    let values = evaluated(model, path, &names)?;
    let mut made = BTreeMap::new();
    for ((key, name), value) in first.iter().zip(&values) {
        if value.dtype() == DType::F32 {
            made.insert((*key).to_owned(), ((*name).to_owned(), value.clone()));
        }
    }
    let graph = model.graph.mut_or_insert_default();
    let before = read(graph);
    let mut renamed = BTreeMap::new();
    for (key, (name, value)) in &made {
        let new = fresh(graph, &format!("{name}_constant"));
        graph.initializer.push(stored(&new, value));
        renamed.insert(key.clone(), new);
    }
    for node in graph.node.iter_mut().filter(|n| is_recurrent(n)) {
        for input in node.input.iter_mut().skip(*SLOTS.start()).take(SLOTS.count()) {
            if let Some(new) = found.get(input.as_str()).and_then(|key| renamed.get(key)) {
                input.clone_from(new);
            }
        }
    }
    sweep(graph, before);
    Ok(made.len())
}

/// The weights that are put together, and of each what is alike where it is put together alike.
fn found(graph: &GraphProto) -> BTreeMap<String, String> {
    let constants = Constants::new(graph);
    let stored: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let producers: BTreeMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let mut out = BTreeMap::new();
    for node in graph.node.iter().filter(|n| is_recurrent(n)) {
        for name in node.input.iter().skip(*SLOTS.start()).take(SLOTS.count()) {
            let made = producers.get(name.as_str()).filter(|n| moved(n).is_some());
            if made.is_none() || stored.contains(name.as_str()) || !constants.is_constant(name) {
                continue;
            }
            if let Some(key) = key(graph, &producers, name) {
                out.insert(name.clone(), key);
            }
        }
    }
    out
}

/// How a value is put together, in words that are the same where it is done alike; `None` where something else than moves is done.
fn key(graph: &GraphProto, producers: &BTreeMap<&str, &NodeProto>, name: &str) -> Option<String> {
    /// Integers of so many bytes are told by what they are, and not by their names.
    const FEW: u64 = 256;
    let told = |tensor: &TensorProto| {
        let plain = TensorProto { name: String::new(), metadata_props: vec![], ..tensor.clone() };
        let bytes = plain.write_to_bytes().ok()?;
        Some(if plain.compute_size() <= FEW { format!("{bytes:?}") } else { format!("`{name}`") })
    };
    if let Some(tensor) = graph.initializer.iter().find(|t| t.name == name) {
        return told(tensor);
    }
    let node = producers.get(name)?;
    if node.op_type == "Constant" {
        let value = node.attribute.iter().find(|a| a.name == "value");
        return match value.and_then(|a| a.t.as_ref()) {
            Some(tensor) => told(tensor),
            None => Some(format!("`{name}`")),
        };
    }
    moved(node)?;
    let mut out = format!("{}.{}(", node.op_type, node.output.iter().position(|o| o == name)?);
    for attribute in &node.attribute {
        out += &format!("{:?};", attribute.write_to_bytes().ok()?);
    }
    for input in node.input.iter() {
        let part = if input.is_empty() { String::new() } else { key(graph, producers, input)? };
        out += &format!("{part},");
    }
    Some(out + ")")
}

/// Values that depend on constants alone.
fn evaluated(model: &ModelProto, path: &Path, names: &[String]) -> Result<Vec<Tensor>> {
    let graph = model.graph.get_or_default();
    let mut needed: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut nodes: Vec<NodeProto> = vec![];
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|o| needed.contains(o.as_str())) {
            needed.extend(node.input.iter().map(String::as_str));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let tensors = graph.initializer.iter().filter(|t| needed.contains(t.name.as_str()));
    let part = GraphProto {
        name: graph.name.clone(),
        node: nodes,
        initializer: tensors.cloned().collect(),
        output: names
            .iter()
            .map(|n| ValueInfoProto { name: n.clone(), ..ValueInfoProto::default() })
            .collect(),
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        graph: Some(part).into(),
        ..ModelProto::default()
    };
    let graph = ModelFile::of(path, proto).import(&Default::default())?;
    let code = Executable::new(graph, Engine::Interp, &Options::default(), &Default::default())?;
    Ok(code.run(&[])?.iter().filter_map(|v| v.as_tensor().cloned()).collect())
}

fn stored(name: &str, value: &Tensor) -> TensorProto {
    const FLOAT: i32 = 1;
    TensorProto {
        name: name.into(),
        dims: value.shape().iter().map(|&d| d as i64).collect(),
        data_type: FLOAT,
        raw_data: value.data::<f32>().iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// The names that are read.
fn read(graph: &GraphProto) -> BTreeSet<String> {
    let mut names = vec![];
    reads(&graph.node, &mut names);
    names.extend(graph.output.iter().map(|o| o.name.as_str()));
    names.into_iter().map(str::to_owned).collect()
}

/// Take away what was read `before` and is not any more.
fn sweep(graph: &mut GraphProto, mut before: BTreeSet<String>) {
    loop {
        let now = read(graph);
        let lost: BTreeSet<&String> = before.difference(&now).collect();
        let all_lost = |n: &NodeProto| {
            !n.output.is_empty() && n.output.iter().all(|o| o.is_empty() || lost.contains(o))
        };
        let count = graph.node.len() + graph.initializer.len();
        let listed: BTreeSet<String> = graph.input.iter().map(|i| i.name.clone()).collect();
        graph.node.retain(|n| !all_lost(n));
        graph.initializer.retain(|t| listed.contains(&t.name) || !lost.contains(&t.name));
        if count == graph.node.len() + graph.initializer.len() {
            return;
        }
        before.extend(now);
    }
}

/// Leave out initial states of recurrent layers that are zeros whatever their sizes: without them, they are zeros too.
pub fn leave_zero_states(graph: &mut GraphProto) {
    let zeros: Vec<(usize, usize)> = {
        let producers: BTreeMap<&str, &NodeProto> =
            graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
        let recurrent = graph.node.iter().enumerate().filter(|(_, n)| is_recurrent(n));
        let states = recurrent.flat_map(|(i, n)| [5, 6].map(|slot| (i, slot, n)));
        let zero = |(i, slot, n): (usize, usize, &NodeProto)| {
            are_zeros(&producers, n.input.get(slot)?).then_some((i, slot))
        };
        states.filter_map(zero).collect()
    };
    if zeros.is_empty() {
        return;
    }
    let before = read(graph);
    for (node, slot) in zeros {
        graph.node[node].input[slot].clear();
    }
    sweep(graph, before);
}

/// Whether a value is a `ConstantOfShape` of zeros, in another shape at most.
fn are_zeros(producers: &BTreeMap<&str, &NodeProto>, name: &str) -> bool {
    let mut at = name;
    while let Some(node) = producers.get(at) {
        match node.op_type.as_str() {
            "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" | "Transpose" | "Expand" => {
                at = node.input.first().map_or("", String::as_str);
            }
            "ConstantOfShape" => {
                let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
                let zero = |t: &TensorProto| {
                    crate::numbers::read(t).is_some_and(|list| list.iter().all(|v| *v == 0.0))
                };
                return value.is_none_or(zero);
            }
            _ => return false,
        }
    }
    false
}
