//! Graphs written node by node: the model's own, and sub-graphs.

use super::write;
use crate::call::Call;
use crate::conditions;
use crate::error::ExportError;
use crate::proto;
use crate::writer::{Frame, Writer, unique, wanted};
use egret_ir::{Graph, Node, NodeId, ValueId};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

impl Writer<'_> {
    /// The model's graph: names of inputs and outputs are kept.
    ///
    /// # Errors
    /// A node that cannot be said in ONNX.
    pub(crate) fn model_graph(&mut self, graph: &Graph) -> Result<GraphProto, ExportError> {
        let own: Vec<Option<String>> = vec![None; graph.inputs().len()];
        self.conditions = graph.conditions().to_vec();
        self.graph(graph, &own, true)
    }

    /// A graph. `captured`: for each input the name of the value around it that it is, or that it is an input here too.
    pub(crate) fn graph(
        &mut self,
        graph: &Graph,
        captured: &[Option<String>],
        keeps_names: bool,
    ) -> Result<GraphProto, ExportError> {
        let names = vec![None; graph.value_count()];
        self.frames.push(Frame { names, base: graph.name.clone(), ..Frame::default() });
        self.frame().proto.name = if graph.name.is_empty() { "graph".into() } else { graph.name.clone() };
        for (&v, outer) in graph.inputs().iter().zip(captured) {
            let name = match outer {
                Some(outer) => outer.clone(),
                None => {
                    let name = self.unique(&wanted(graph, v));
                    if keeps_names && name != graph.value(v).name && !graph.value(v).name.is_empty() {
                        return Err(ExportError::new(format!(
                            "two inputs are called `{}`",
                            graph.value(v).name
                        )));
                    }
                    self.frame().proto.input.push(proto::value(&name, graph.ty(v)));
                    name
                }
            };
            self.define(graph, v, name);
        }
        // The first output that is a node's result gives the result its name.
        let mut planned: BTreeMap<ValueId, String> = BTreeMap::new();
        if keeps_names {
            for (&v, name) in graph.outputs().iter().zip(graph.output_names()) {
                if !self.used.insert(name.clone()) {
                    return Err(ExportError::new(format!(
                        "the output `{name}` has the name of an input or of another output, which ONNX does not allow; rename it"
                    )));
                }
                let tied = !graph.conditions().is_empty() && conditions::passes(graph, v);
                if graph.producer(v).is_some() && !tied {
                    planned.entry(v).or_insert_with(|| name.clone());
                }
            }
        }
        let order = graph
            .topological()
            .map_err(|n| ExportError::new(format!("{} is on a cycle", graph.node(n).op)))?;
        for id in order {
            self.node(graph, id, &planned).map_err(|e| e.at(|| place(graph.node(id))))?;
        }
        let conditions = if keeps_names { self.conditions(graph)? } else { None };
        self.outputs(graph, keeps_names, conditions.as_deref());
        let mut proto = self.frames.pop().expect("pushed above").proto;
        sweep(&mut proto);
        Ok(proto)
    }

    fn outputs(&mut self, graph: &Graph, keeps_names: bool, conditions: Option<&str>) {
        let mut taken = BTreeSet::new();
        for (i, &v) in graph.outputs().iter().enumerate() {
            let have = self.name(graph, v);
            let name = if keeps_names { graph.output_names()[i].clone() } else { have.clone() };
            // A sub-graph gives what a node of its own makes, each value once.
            let own = self.frame().proto.node.iter().any(|n| n.output.contains(&have));
            let name = if let Some(conditions) = conditions.filter(|_| conditions::passes(graph, v)) {
                self.required(&have, conditions, name.clone());
                name
            } else if have == name && own && taken.insert(name.clone()) {
                name
            } else {
                self.frame().base = wanted(graph, v);
                let name = if keeps_names { name } else { self.temporary() };
                self.push("", "Identity", &[&have], vec![name.clone()], vec![]);
                name
            };
            let value = proto::value(&name, graph.ty(v));
            self.frame().proto.output.push(value);
        }
    }

    fn node(
        &mut self,
        graph: &Graph,
        id: NodeId,
        planned: &BTreeMap<ValueId, String>,
    ) -> Result<(), ExportError> {
        let node = graph.node(id);
        let mut names = vec![];
        for &r in &node.results {
            names.push(match planned.get(&r) {
                Some(name) => name.clone(),
                None => self.unique(&wanted(graph, r)),
            });
        }
        self.frame().base = names.first().cloned().unwrap_or_default();
        let first = self.frame().proto.node.len();
        let written = write(&mut Call { writer: self, graph, node })?;
        let mut given = BTreeSet::new();
        for ((&r, written), name) in node.results.iter().zip(written).zip(names) {
            let emitted = &mut self.frame().proto.node[first..];
            let is_new =
                emitted.iter().any(|n| n.output.contains(&written)) && given.insert(written.clone());
            let name = if is_new {
                rename(emitted, &written, &name);
                self.used.remove(&written);
                name
            } else {
                written
            };
            self.define(graph, r, name);
        }
        self.name_nodes(node, first);
        Ok(())
    }

    /// Call the nodes from `first` on by the ONNX node that their work comes from.
    fn name_nodes(&mut self, node: &Node, first: usize) {
        let source = node.sources.first().map(|s| s.split_once(':').map_or(s.as_str(), |(_, name)| name));
        let source = source.filter(|s| !s.is_empty()).map(str::to_owned);
        for i in first..self.frame().proto.node.len() {
            let own = self.frame().proto.node[i].output.first().cloned().unwrap_or_default();
            let name = unique(&mut self.node_names, source.as_deref().unwrap_or(&own));
            self.frame().proto.node[i].name = name;
        }
    }
}

fn rename(nodes: &mut [NodeProto], from: &str, to: &str) {
    let names = nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
    names.filter(|n| *n == from).for_each(|n| to.clone_into(n));
}

/// How messages name a node.
fn place(node: &Node) -> String {
    match node.sources.first() {
        Some(source) => format!("{} from {source:?}", node.op),
        None => node.op.to_string(),
    }
}

/// Remove nodes and constants that no output needs: what an operation was written without, as the casts before an integer product.
/// Constants in a file of their own stay.
fn sweep(graph: &mut GraphProto) {
    let mut needed: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept = vec![];
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            taken(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|t| !t.external_data.is_empty() || needed.contains(&t.name));
}

/// The values that a node takes, also inside its sub-graphs.
fn taken(node: &NodeProto, out: &mut BTreeSet<String>) {
    out.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
    for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        inner.node.iter().for_each(|n| taken(n, out));
        out.extend(inner.output.iter().map(|o| o.name.clone()));
    }
}
