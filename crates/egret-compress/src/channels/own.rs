//! Sizes that several reshapes read from one constant: those that may shrink get one of their own.

use crate::channels::borders::Borders;
use crate::channels::shapes::Shapes;
use crate::channels::{follow, opset};
use crate::constants::Constants;
use crate::names::fresh;
use egret::Result;
use onnx_protobuf::{GraphProto, ModelProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Give all reshapes that may shrink shapes of their own; the shapes of the model's values then.
///
/// # Errors
/// A model that Egret does not import.
pub fn settle(model: &mut ModelProto, path: &Path, borders: &Borders) -> Result<Shapes> {
    // What one reshape hides from those behind it, another walk sees.
    loop {
        let found = super::shapes::shapes(model, path)?;
        let shared = follow::walk(model.graph.get_or_default(), opset(model), &found, borders).shared;
        if shared.is_empty() {
            return Ok(found);
        }
        shapes(model.graph.mut_or_insert_default(), &shared);
    }
}

/// Give each of these reshapes its own shape: the constant, or the `Concat` that puts it together and the constants among its parts.
fn shapes(graph: &mut GraphProto, reshapes: &BTreeSet<usize>) {
    let constants = Constants::new(graph);
    let tensors: BTreeMap<String, TensorProto> = super::shapes::tensors(graph)
        .into_iter()
        .filter(|(_, t)| super::shapes::integers(t).is_some())
        .map(|(name, t)| (name.to_owned(), t.clone()))
        .collect();
    let shared: BTreeSet<String> = tensors.keys().filter(|n| !constants.is_read_once(n)).cloned().collect();
    let copy = |graph: &mut GraphProto, name: &mut String| {
        if let Some(tensor) = tensors.get(name).filter(|_| shared.contains(name)) {
            *name = fresh(graph, &format!("{name}_own"));
            // Without a home it stands in the outermost graph.
            let tensor = TensorProto { name: name.clone(), metadata_props: vec![], ..tensor.clone() };
            graph.initializer.push(tensor);
        }
    };
    // From the end on, so that what is put in does not move those before it.
    for &at in reshapes.iter().rev() {
        let Some(name) = graph.node[at].input.get(1).cloned() else { continue };
        if tensors.contains_key(&name) {
            let mut name = name;
            copy(graph, &mut name);
            graph.node[at].input[1] = name;
            continue;
        }
        let Some(concat) = graph.node.iter().find(|n| n.output.first() == Some(&name)).cloned() else {
            continue;
        };
        let mut own = concat;
        own.input.iter_mut().for_each(|part| copy(graph, part));
        let name = fresh(graph, &format!("{name}_own"));
        own.output[0].clone_from(&name);
        if !own.name.is_empty() {
            own.name.clone_from(&name);
        }
        graph.node[at].input[1] = name;
        graph.node.insert(at, own);
    }
}
