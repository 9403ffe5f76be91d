//! Renaming all that a part has: values, nodes, sub-graphs, functions it calls, dims.

use crate::names::Names;
use crate::part::Part;
use crate::types::{Symbol, each_dim};
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, StringStringEntryProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet};

/// A function: domain, name, overload.
pub(crate) type Key = (String, String, String);

/// The key of the function that a node calls, if it calls one.
pub(crate) fn called(node: &NodeProto) -> Key {
    key(&node.domain, &node.op_type, &node.overload)
}

/// Both spellings of the default domain are one.
pub(crate) fn key(domain: &str, name: &str, overload: &str) -> Key {
    let domain = if egret::opset::is_onnx(domain) { "" } else { domain };
    (domain.to_owned(), name.to_owned(), overload.to_owned())
}

/// The names of a part in the whole.
pub(crate) struct Renaming<'a> {
    pub(crate) part: usize,
    pub(crate) parts: &'a [Part],
    pub(crate) names: &'a Names<'a>,
    /// New names of functions of this part.
    pub(crate) functions: BTreeMap<Key, String>,
    pub(crate) dims: &'a BTreeMap<Symbol, dimension::Value>,
}

impl Renaming<'_> {
    /// The part's own graph.
    pub(crate) fn top(&self, graph: &mut GraphProto) {
        self.graph(graph, &mut vec![]);
    }

    /// A value, where the sub-graphs around define `locals`, which may hide values outside.
    fn value(&self, name: &mut String, locals: &[BTreeSet<String>]) {
        if name.is_empty() {
            return;
        }
        *name = match locals.iter().any(|l| l.contains(name)) {
            true => self.names.inner(self.part, name),
            false => self.names.of(self.part, name),
        };
    }

    fn own(&self, name: &mut String) {
        if !name.is_empty() {
            *name = format!("{}/{name}", self.parts[self.part].name);
        }
    }

    fn graph(&self, graph: &mut GraphProto, locals: &mut Vec<BTreeSet<String>>) {
        for node in &mut graph.node {
            self.node(node, locals);
        }
        for tensor in &mut graph.initializer {
            self.value(&mut tensor.name, locals);
        }
        for sparse in &mut graph.sparse_initializer {
            self.value(&mut sparse.values.mut_or_insert_default().name, locals);
        }
        let lists = [&mut graph.input, &mut graph.output, &mut graph.value_info];
        lists.into_iter().flatten().for_each(|info| self.info(info, locals));
        for annotation in &mut graph.quantization_annotation {
            self.value(&mut annotation.tensor_name, locals);
            annotation
                .quant_parameter_tensor_names
                .iter_mut()
                .for_each(|e| self.value(&mut e.value, locals));
        }
    }

    fn info(&self, info: &mut ValueInfoProto, locals: &[BTreeSet<String>]) {
        self.value(&mut info.name, locals);
        if let Some(ty) = info.type_.as_mut() {
            each_dim(ty, &mut |dim| {
                if let Some(dimension::Value::DimParam(name)) = &dim.value
                    && let Some(value) = self.dims.get(&(self.part, name.clone()))
                {
                    dim.value = Some(value.clone());
                }
            });
        }
    }

    fn node(&self, node: &mut NodeProto, locals: &mut Vec<BTreeSet<String>>) {
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.value(name, locals));
        self.own(&mut node.name);
        self.call(node);
        for attribute in &mut node.attribute {
            self.inside(attribute, locals);
        }
    }

    fn inside(&self, attribute: &mut AttributeProto, locals: &mut Vec<BTreeSet<String>>) {
        for graph in attribute.g.as_mut().into_iter().chain(&mut attribute.graphs) {
            locals.push(defined(graph));
            self.graph(graph, locals);
            self.own(&mut graph.name);
            locals.pop();
        }
    }

    /// Call a function by its new name.
    fn call(&self, node: &mut NodeProto) {
        if let Some(name) = self.functions.get(&called(node)) {
            node.op_type.clone_from(name);
        }
    }

    /// Calls in the body of a function, whose values are its own.
    pub(crate) fn calls(&self, nodes: &mut [NodeProto]) {
        for node in nodes {
            self.call(node);
            let graphs =
                node.attribute.iter_mut().flat_map(|a| a.g.as_mut().into_iter().chain(&mut a.graphs));
            graphs.for_each(|g| self.calls(&mut g.node));
        }
    }
}

/// Names that a graph defines.
fn defined(graph: &GraphProto) -> BTreeSet<String> {
    let mut out: BTreeSet<String> = graph.input.iter().map(|i| i.name.clone()).collect();
    out.extend(graph.initializer.iter().map(|t| t.name.clone()));
    out.extend(graph.sparse_initializer.iter().map(|s| s.values.get_or_default().name.clone()));
    out.extend(graph.node.iter().flat_map(|n| n.output.iter().cloned()));
    out.remove("");
    out
}

/// Entries of all parts: one for those that all who have it agree on, `PART.KEY` for the others.
pub(crate) fn entries(parts: &[(&str, &[StringStringEntryProto])]) -> Vec<StringStringEntryProto> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for e in parts.iter().flat_map(|(_, list)| *list) {
        values.entry(&e.key).or_default().insert(&e.value);
    }
    let mut out: Vec<StringStringEntryProto> = vec![];
    for (name, list) in parts {
        for e in *list {
            let mut entry = e.clone();
            if values[e.key.as_str()].len() > 1 {
                entry.key = format!("{name}.{}", e.key);
            }
            if !out.contains(&entry) {
                out.push(entry);
            }
        }
    }
    out
}
