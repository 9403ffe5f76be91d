//! Rebuilding a graph: a pass builds a new one node by node, in topological order, and replaces or copies
//! each node. The old graph is not modified, so that a pass that fails leaves nothing behind.

use egret_ir::{Builder, Def, Graph, Node, NodeId, Tensor, TypeError, ValueId};
use std::collections::HashMap;

/// A rebuild in progress.
pub(crate) struct Rebuild<'a> {
    /// The old graph.
    pub old: &'a Graph,
    /// The new graph so far.
    pub builder: Builder,
    map: HashMap<ValueId, ValueId>,
}

impl Rebuild<'_> {
    /// The new value of an old one that was rebuilt already.
    pub fn new_value(&self, old: ValueId) -> ValueId {
        self.map[&old]
    }

    /// Sets the new value of an old one.
    pub fn set_new_value(&mut self, old: ValueId, new: ValueId) {
        self.map.insert(old, new);
    }

    /// A new value as a constant.
    pub fn as_const(&self, value: ValueId) -> Option<&Tensor> {
        self.builder.graph.as_const(value)
    }

    /// Copies an old node onto new operands.
    pub fn copy(&mut self, node: &Node, operands: &[Option<ValueId>]) -> Result<Vec<ValueId>, TypeError> {
        self.builder.emit_node(node.op, node.attrs.clone(), operands, node.regions.clone())
    }
}

/// Rebuilds a graph. `visit` returns the new results of a node from its new operands, or `None` to copy it.
pub(crate) fn rebuild(
    old: &Graph,
    mut visit: impl FnMut(&mut Rebuild, NodeId, &[Option<ValueId>]) -> Result<Option<Vec<ValueId>>, TypeError>,
) -> Result<Graph, TypeError> {
    let mut r = start(old);
    for id in topological(old) {
        let node = old.node(id);
        for &v in node.operands.iter().flatten() {
            bring_const(&mut r, v);
        }
        let operands: Vec<_> = node.operands.iter().map(|v| v.map(|v| r.map[&v])).collect();
        r.builder.set_sources(node.sources.clone());
        let results = match visit(&mut r, id, &operands)? {
            Some(results) => results,
            None => r.copy(node, &operands)?,
        };
        for (&was, is) in node.results.iter().zip(results) {
            keep_name(&mut r, was, is);
            r.map.insert(was, is);
        }
    }
    for (name, &v) in old.output_names().iter().zip(old.outputs()) {
        bring_const(&mut r, v);
        let new = r.map[&v];
        r.builder.output(name, new);
    }
    let mut graph = r.builder.graph;
    graph.remove_dead();
    Ok(graph)
}

/// Starts a rebuild: a new graph with the old inputs and conditions.
pub(crate) fn start(old: &Graph) -> Rebuild<'_> {
    let mut r = Rebuild { old, builder: Builder::new(&old.name), map: HashMap::new() };
    // Reserve the symbols that old nodes declare.
    r.builder.reserve_symbols(old);
    for &i in old.inputs() {
        let data = old.value(i);
        let new = r.builder.input(&data.name, data.ty.clone());
        r.map.insert(i, new);
    }
    old.conditions().iter().for_each(|dim| r.builder.graph.require(dim.clone()));
    r
}

pub(crate) fn topological(graph: &Graph) -> Vec<NodeId> {
    graph.topological().expect("a verified graph has no cycle")
}

pub(crate) fn bring_const(r: &mut Rebuild, old: ValueId) {
    if let Def::Const(t) = &r.old.value(old).def
        && !r.map.contains_key(&old)
    {
        let new = r.builder.constant(t.clone());
        keep_name(r, old, new);
        r.map.insert(old, new);
    }
}

fn keep_name(r: &mut Rebuild, old: ValueId, new: ValueId) {
    let name = &r.old.value(old).name;
    if !name.is_empty() && r.builder.graph.value(new).name.is_empty() {
        r.builder.graph.set_value_name(new, name);
    }
}
