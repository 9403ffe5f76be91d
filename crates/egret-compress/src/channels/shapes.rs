//! The shapes of all values of a graph, from Egret's import of it.

use crate::numbers;
use egret::frontend::ModelFile;
use egret::ir::{Dim, Type};
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The dims of each tensor value, by name.
pub type Shapes = BTreeMap<String, Vec<Dim>>;

/// The shapes of the values of a model's graph: its inputs, constants, and what its nodes make.
///
/// # Errors
/// A model that Egret does not import.
pub fn shapes(model: &ModelProto, path: &Path) -> Result<Shapes> {
    let mut open = model.clone();
    let graph = open.graph.mut_or_insert_default();
    let mut names: Vec<String> = vec![];
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    for node in &graph.node {
        let outputs = node.output.iter().filter(|o| !o.is_empty() && !constants.contains(o.as_str()));
        names.extend(outputs.cloned());
    }
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
    for (name, tensor) in tensors(model.graph.get_or_default()) {
        out.insert(name.to_owned(), tensor.dims.iter().map(|&d| Dim::constant(d)).collect());
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
