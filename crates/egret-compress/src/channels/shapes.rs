//! The shapes of all values of a graph, from Egret's import of it.

use crate::data::taps::cut;
use crate::flat::{self, Choices, Tree};
use crate::numbers;
use egret::frontend::ModelFile;
use egret::ir::{Dim, Type};
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The dims of each tensor value, by name.
pub type Shapes = BTreeMap<String, Vec<Dim>>;

/// The shapes of the values of a model's graph: its inputs, constants, and what its nodes make. In a flat graph, values inside branches have
/// those that they have where these branches are taken; those in bodies of loops, and in branches that fit no inputs, have none.
///
/// # Errors
/// A model that Egret does not import, or an input without a number of dims.
pub fn shapes(model: &ModelProto, path: &Path) -> Result<Shapes> {
    let graph = model.graph.get_or_default();
    if let Some(input) = graph.input.iter().find(|i| is_open(i)) {
        return Err(Error::unsupported(format!(
            "{}: the model does not say how many dims its input `{}` has, and which channels go together hangs on the shapes of all \
             values; export it with the shape of that input (names for free dims will do)",
            path.display(),
            input.name
        )));
    }
    let (tree, homes) = (Tree::new(graph), flat::homes(graph));
    let mut out = Shapes::new();
    for home in tree.homes() {
        if flat::in_loop(graph, &tree, home) {
            continue;
        }
        let choices: Choices = tree.nodes_around(home).into_iter().collect();
        let nodes = graph.node.iter().zip(&homes).filter(|(_, h)| **h == home).map(|(n, _)| n);
        let names = nodes.flat_map(|n| &n.output).filter(|o| !o.is_empty()).cloned();
        match of(model, path, &choices, names.collect()) {
            Ok(found) => out.extend(found),
            Err(_) if home > 0 => {}
            Err(e) => return Err(e),
        }
    }
    for (name, tensor) in tensors(graph) {
        out.insert(name.to_owned(), tensor.dims.iter().map(|&d| Dim::constant(d)).collect());
    }
    Ok(out)
}

/// Whether an input is a tensor without a number of dims.
fn is_open(input: &ValueInfoProto) -> bool {
    match &input.type_.get_or_default().value {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.is_none(),
        _ => false,
    }
}

/// The shapes of these values, and of the inputs, where these branches are taken.
fn of(model: &ModelProto, path: &Path, choices: &Choices, mut names: Vec<String>) -> Result<Shapes> {
    let mut open = model.clone();
    let graph = open.graph.mut_or_insert_default();
    if !choices.is_empty() {
        // What stands behind need not fit: a branch that is never taken may give values of other ranks.
        *graph = cut(&flat::decided(graph, choices), &names);
    }
    flat::nest(graph);
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    names.retain(|n| !constants.contains(n.as_str()));
    names.extend(graph.input.iter().map(|i| &i.name).filter(|n| !constants.contains(n.as_str())).cloned());
    let output = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
    graph.output = names.iter().map(output).collect();
    let imported = ModelFile::of(path, open).import(&Default::default())?;
    let outputs = imported.outputs();
    if outputs.len() != names.len() {
        return Err(Error::internal("the model with all values as outputs has other outputs"));
    }
    let mut out = Shapes::new();
    for (name, &value) in names.into_iter().zip(outputs) {
        if let Type::Tensor(t) = &imported.value(value).ty {
            out.insert(name, t.shape.clone());
        }
    }
    Ok(out)
}

/// The constants of a graph that are stored as tensors.
pub fn tensors(graph: &GraphProto) -> Vec<(&str, &TensorProto)> {
    let mut out: Vec<(&str, &TensorProto)> =
        graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
        let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
        out.extend(node.output.first().zip(value).map(|(o, t)| (o.as_str(), t)));
    }
    out
}

/// The integers of a constant.
pub fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    const INT32: i32 = 6;
    const INT64: i32 = 7;
    let raw = &tensor.raw_data;
    match tensor.data_type {
        INT64 if raw.is_empty() => Some(tensor.int64_data.clone()),
        INT64 => Some(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        INT32 if raw.is_empty() => Some(tensor.int32_data.iter().map(|&v| i64::from(v)).collect()),
        INT32 => Some(raw.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()),
        _ => None,
    }
}

/// Whether indices can be taken out of a constant.
pub fn can_shrink(tensor: &TensorProto) -> bool {
    numbers::is_float(tensor) && numbers::read(tensor).is_some()
}
