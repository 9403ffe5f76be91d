//! The term store: a graph in which equal terms are one value (hash-consing).

use crate::analysis::attrs_key;
use egret_ir::{Attrs, Def, Graph, Node, NodeId, Op, Tensor, Type, ValueId};
use std::collections::{BTreeSet, HashMap};

/// Identifies a node: its operation and attributes, its operands.
type Key = (String, Vec<Option<ValueId>>);

/// Hash-consed terms.
#[derive(Clone, Debug)]
pub(crate) struct TermStore {
    /// The terms. It has inputs and no outputs.
    pub graph: Graph,
    nodes: HashMap<Key, NodeId>,
}

impl TermStore {
    /// An empty store over the inputs of a graph.
    pub fn new(of: &Graph) -> TermStore {
        let mut graph = Graph::new(&of.name);
        for &i in of.inputs() {
            graph.add_input(&of.value(i).name, of.ty(i).clone());
        }
        TermStore { graph, nodes: HashMap::new() }
    }

    /// A store of the terms of a graph in which equal terms are one value already.
    pub fn of(graph: Graph) -> TermStore {
        let mut store = TermStore { graph, nodes: HashMap::new() };
        let ids = store.graph.topological().unwrap_or_default();
        let mut seen = Occurrences::default();
        for id in ids {
            let node = store.graph.node(id);
            let key = (head(node, &mut seen), node.operands.clone());
            store.nodes.entry(key).or_insert(id);
        }
        store
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_const(tensor)
    }

    /// The result of a node that has one and no sub-graphs.
    pub fn term(&mut self, op: Op, attrs: Attrs, operands: Vec<Option<ValueId>>, ty: Type) -> ValueId {
        let key = (attrs_key(op, &attrs), operands.clone());
        let graph = &mut self.graph;
        let node = *self
            .nodes
            .entry(key)
            .or_insert_with(|| graph.add_node(op, attrs, operands, vec![], vec![ty], BTreeSet::new()));
        self.graph.node(node).results[0]
    }

    /// Whether a term with one result is there already.
    pub fn find(&self, op: Op, attrs: &Attrs, operands: &[Option<ValueId>]) -> Option<ValueId> {
        let node = self.nodes.get(&(attrs_key(op, attrs), operands.to_vec()))?;
        self.graph.node(*node).results.first().copied()
    }

    /// Adds the values of a graph over the same inputs; returns the term of each.
    pub fn load(&mut self, of: &Graph) -> HashMap<ValueId, ValueId> {
        let mut terms: HashMap<ValueId, ValueId> =
            of.inputs().iter().copied().zip(self.graph.inputs().to_vec()).collect();
        let mut seen = Occurrences::default();
        let ids = of.topological().unwrap_or_default();
        let constant = |store: &mut TermStore, terms: &mut HashMap<ValueId, ValueId>, v: ValueId| {
            if let Def::Const(t) = &of.value(v).def
                && !terms.contains_key(&v)
            {
                let c = store.constant(t.clone());
                terms.insert(v, c);
            }
        };
        for id in ids {
            let node = of.node(id);
            node.operands.iter().flatten().for_each(|&v| constant(self, &mut terms, v));
            let operands: Vec<Option<ValueId>> =
                node.operands.iter().map(|v| v.map(|v| terms[&v])).collect();
            let key = (head(node, &mut seen), operands.clone());
            let graph = &mut self.graph;
            let types = || node.results.iter().map(|&v| of.ty(v).clone()).collect();
            let add = || {
                graph.add_node(
                    node.op,
                    node.attrs.clone(),
                    operands,
                    node.regions.clone(),
                    types(),
                    BTreeSet::new(),
                )
            };
            let new = *self.nodes.entry(key).or_insert_with(add);
            terms.extend(node.results.iter().copied().zip(self.graph.node(new).results.iter().copied()));
        }
        of.outputs().iter().for_each(|&v| constant(self, &mut terms, v));
        terms
    }
}

/// How often each random node has occurred: equal ones are different draws.
type Occurrences = HashMap<String, usize>;

/// Identifies a node except for its operands.
fn head(node: &Node, seen: &mut Occurrences) -> String {
    let mut key = attrs_key(node.op, &node.attrs);
    for region in &node.regions {
        key.push('\n');
        key.push_str(&region.to_string());
    }
    if node.op.is_random() {
        let n = seen.entry(key.clone()).or_default();
        *n += 1;
        key.push_str(&format!(" draw {n}"));
    }
    key
}
