//! The graph: nodes in SSA form over typed values. The only module that names petgraph.

use crate::{Attrs, ContentHash, Dim, Op, Tensor, Type};
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;

/// A value: a graph input, a constant, or a result of a node. Displays as `%3`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// A node. Displays as `n3`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}
impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Def {
    /// The graph input at this position.
    Input(usize),
    /// A constant.
    Const(Tensor),
    /// This result of this node.
    Node(NodeId, usize),
}

/// A value of a graph.
#[derive(Clone, Debug)]
pub struct ValueData {
    /// Its type.
    pub ty: Type,
    /// Where it comes from.
    pub def: Def,
    /// The name it has for people: an ONNX value name, or empty.
    pub name: String,
}

/// A node of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Its attributes; exactly those of the op table.
    pub attrs: Attrs,
    /// Operands, in the order of the op table; `None` where an optional one is left out.
    pub operands: Vec<Option<ValueId>>,
    /// Results, in order.
    pub results: Vec<ValueId>,
    /// Sub-graphs, in the order of the op table. They see only their own inputs.
    pub regions: Vec<Graph>,
    /// The ONNX nodes (`Conv:/layer1/conv`) it came from, sorted.
    pub sources: BTreeSet<String>,
}

impl Node {
    /// The operand at `i`. Panics where it is left out or out of range.
    pub fn operand(&self, i: usize) -> ValueId {
        self.operands[i].unwrap_or_else(|| panic!("operand {i} of {} is left out", self.op))
    }
}

/// A graph: inputs, nodes, outputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name: an identifier for text IR and artifacts.
    pub name: String,
    pub(crate) values: Vec<ValueData>,
    nodes: StableDiGraph<Node, ValueId, u32>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    output_names: Vec<String>,
    interned: HashMap<ContentHash, ValueId>,
    /// Constants that were added more than once, or of which others were computed.
    spread: BTreeSet<ValueId>,
    pub(crate) conditions: Vec<Dim>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    fn new_value(&mut self, ty: Type, def: Def, name: &str) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("fewer than 2^32 values"));
        self.values.push(ValueData { ty, def, name: name.to_owned() });
        id
    }

    /// Add an input.
    pub fn add_input(&mut self, name: &str, ty: Type) -> ValueId {
        let id = self.new_value(ty, Def::Input(self.inputs.len()), name);
        self.inputs.push(id);
        id
    }

    /// Add a constant; equal ones are one value.
    pub fn add_const(&mut self, tensor: Tensor) -> ValueId {
        let hash = tensor.content_hash();
        if let Some(&id) = self.interned.get(&hash) {
            self.spread.insert(id);
            return id;
        }
        let id = self.new_value(Type::Tensor(tensor.ty()), Def::Const(tensor), "");
        self.interned.insert(hash, id);
        id
    }

    /// The constant that an equal one would be if it were added.
    pub fn equal_const(&self, tensor: &Tensor) -> Option<ValueId> {
        self.interned.get(&tensor.content_hash()).copied()
    }

    /// Add a constant that is a value of its own, whatever equal ones there are or will be: see [`Graph::is_apart`].
    pub fn add_const_apart(&mut self, tensor: Tensor) -> ValueId {
        self.new_value(Type::Tensor(tensor.ty()), Def::Const(tensor), "")
    }

    /// Make an input a constant, which is apart from all others. Panics if the value is no input.
    pub fn fix_input(&mut self, input: ValueId, tensor: Tensor) {
        let at = self.inputs.iter().position(|&v| v == input).expect("it is an input");
        self.inputs.remove(at);
        for (i, &v) in self.inputs.iter().enumerate().skip(at) {
            self.values[v.0 as usize].def = Def::Input(i);
        }
        self.values[input.0 as usize].def = Def::Const(tensor);
    }

    /// Whether a constant stands for nothing but itself: no equal one that was added is the same value.
    pub fn is_apart(&self, constant: ValueId) -> bool {
        self.as_const(constant).is_some_and(|t| self.equal_const(t) != Some(constant))
    }

    /// Whether the uses of a constant may be more or fewer than those of what somebody called so: it was added more than once, and stands for
    /// several that are equal, or others were computed of it when nodes were added.
    pub fn is_spread(&self, constant: ValueId) -> bool {
        self.spread.contains(&constant)
    }

    /// Note that other constants are computed of these values.
    pub(crate) fn spread(&mut self, values: &[Option<ValueId>]) {
        self.spread.extend(values.iter().flatten());
    }

    /// Add a node whose result types are known; returns it. Use [`crate::Builder`] to have them inferred.
    pub fn add_node(
        &mut self,
        op: Op,
        attrs: Attrs,
        operands: Vec<Option<ValueId>>,
        regions: Vec<Graph>,
        types: Vec<Type>,
        sources: BTreeSet<String>,
    ) -> NodeId {
        let index = self.nodes.add_node(Node {
            op,
            attrs,
            operands: operands.clone(),
            results: vec![],
            regions,
            sources,
        });
        let id = NodeId(index.index() as u32);
        let results =
            types.into_iter().enumerate().map(|(i, ty)| self.new_value(ty, Def::Node(id, i), "")).collect();
        self.nodes[index].results = results;
        for operand in operands.into_iter().flatten() {
            self.link(operand, id);
        }
        id
    }

    /// Give a node a further result; returns it. What the node computes has to have one more: a region's output, say.
    pub fn add_result(&mut self, node: NodeId, ty: Type) -> ValueId {
        let place = self.node(node).results.len();
        let result = self.new_value(ty, Def::Node(node, place), "");
        self.node_mut(node).results.push(result);
        result
    }

    /// Give a node a further operand. What the node computes has to take one more: an input of each of its regions, say.
    pub fn add_operand(&mut self, node: NodeId, value: ValueId) {
        self.node_mut(node).operands.push(Some(value));
        self.link(value, node);
    }

    fn link(&mut self, operand: ValueId, user: NodeId) {
        if let Def::Node(producer, _) = self.value(operand).def {
            self.nodes.add_edge(
                NodeIndex::new(producer.0 as usize),
                NodeIndex::new(user.0 as usize),
                operand,
            );
        }
    }

    fn unlink(&mut self, operand: ValueId, user: NodeId) {
        if let Def::Node(producer, _) = self.value(operand).def {
            let (from, to) = (NodeIndex::new(producer.0 as usize), NodeIndex::new(user.0 as usize));
            let edge =
                self.nodes.edges_connecting(from, to).find(|e| *e.weight() == operand).map(|e| e.id());
            if let Some(edge) = edge {
                self.nodes.remove_edge(edge);
            }
        }
    }

    /// Append an output of this name.
    pub fn add_output(&mut self, name: &str, value: ValueId) {
        self.outputs.push(value);
        self.output_names.push(name.to_owned());
    }

    /// Forget the outputs.
    pub fn clear_outputs(&mut self) {
        self.outputs.clear();
        self.output_names.clear();
    }

    /// Inputs, in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Outputs, in order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Names of the outputs, in order.
    pub fn output_names(&self) -> &[String] {
        &self.output_names
    }

    /// Replace the output at `i`.
    pub fn set_output(&mut self, i: usize, value: ValueId) {
        self.outputs[i] = value;
    }

    /// A value. Panics if the id is not of this graph.
    pub fn value(&self, id: ValueId) -> &ValueData {
        &self.values[id.0 as usize]
    }

    /// Give a value a name for people.
    pub fn set_value_name(&mut self, id: ValueId, name: &str) {
        self.values[id.0 as usize].name = name.to_owned();
    }

    /// Change a value's type; the verifier holds it against inference later.
    pub fn set_type(&mut self, id: ValueId, ty: Type) {
        self.values[id.0 as usize].ty = ty;
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.value(id).ty
    }

    /// The tensor type of a value. Panics if it is no tensor.
    pub fn tensor_ty(&self, id: ValueId) -> &crate::TensorType {
        self.ty(id).as_tensor().unwrap_or_else(|| panic!("{id} is no tensor"))
    }

    /// The constant, if the value is one.
    pub fn as_const(&self, id: ValueId) -> Option<&Tensor> {
        match &self.value(id).def {
            Def::Const(t) => Some(t),
            _ => None,
        }
    }

    /// Number of values ever made (ids are below it).
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// All value ids ever made, dead ones included.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// A node. Panics if it is gone.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[NodeIndex::new(id.0 as usize)]
    }

    /// A node, to change its attributes, regions or sources; operands change by [`Graph::set_operand`].
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[NodeIndex::new(id.0 as usize)]
    }

    /// Whether the node is still there.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_node(NodeIndex::new(id.0 as usize))
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.node_count()
    }

    /// The node that makes a value, if a node does.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        match self.value(value).def {
            Def::Node(n, _) => Some(n),
            _ => None,
        }
    }

    /// Nodes in ascending id.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.node_indices().map(|i| NodeId(i.index() as u32)).collect()
    }

    /// Change one operand.
    pub fn set_operand(&mut self, node: NodeId, i: usize, value: ValueId) {
        if let Some(old) = self.node(node).operands[i] {
            self.unlink(old, node);
        }
        self.node_mut(node).operands[i] = Some(value);
        self.link(value, node);
    }

    /// Make every use of `old` (by nodes and as output) a use of `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for user in self.users(old) {
            for i in 0..self.node(user).operands.len() {
                if self.node(user).operands[i] == Some(old) {
                    self.set_operand(user, i, new);
                }
            }
        }
        for out in &mut self.outputs {
            if *out == old {
                *out = new;
            }
        }
    }

    /// Nodes that use a value, ascending, each once. Outputs of the graph are not among them.
    pub fn users(&self, value: ValueId) -> Vec<NodeId> {
        let mut users: Vec<NodeId> = match self.value(value).def {
            Def::Node(producer, _) => self
                .nodes
                .edges_directed(NodeIndex::new(producer.0 as usize), Direction::Outgoing)
                .filter(|e| *e.weight() == value)
                .map(|e| NodeId(e.target().index() as u32))
                .collect(),
            // Inputs and constants have no producer to hang edges on.
            _ => self
                .node_ids()
                .into_iter()
                .filter(|&n| self.node(n).operands.contains(&Some(value)))
                .collect(),
        };
        users.sort();
        users.dedup();
        users
    }

    /// For every value: its users (ascending, each once) and how often it is an output. One pass over the graph.
    pub fn use_lists(&self) -> UseLists {
        let mut lists =
            UseLists { users: vec![vec![]; self.values.len()], outputs: vec![0; self.values.len()] };
        for n in self.node_ids() {
            for v in self.node(n).operands.iter().flatten() {
                let users = &mut lists.users[v.0 as usize];
                if users.last() != Some(&n) {
                    users.push(n);
                }
            }
        }
        for v in &self.outputs {
            lists.outputs[v.0 as usize] += 1;
        }
        lists
    }

    /// Remove a node that nothing uses.
    pub fn remove_node(&mut self, id: NodeId) {
        self.nodes.remove_node(NodeIndex::new(id.0 as usize));
    }

    /// Nodes so that producers stand before users, and who declares a symbol before who uses it, by ascending id where
    /// the choice is free; `Err` names a node on a cycle.
    pub fn topological(&self) -> Result<Vec<NodeId>, NodeId> {
        // By node: how many operands are not in the order yet.
        let mut missing = vec![0usize; self.nodes.node_indices().map(|i| i.index() + 1).max().unwrap_or(0)];
        let mut told: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (declares, uses) in self.symbol_uses() {
            missing[uses.0 as usize] += 1;
            told.entry(declares).or_default().push(uses);
        }
        let mut ready = BinaryHeap::new();
        for index in self.nodes.node_indices() {
            missing[index.index()] += self.nodes.edges_directed(index, Direction::Incoming).count();
            if missing[index.index()] == 0 {
                ready.push(Reverse(NodeId(index.index() as u32)));
            }
        }
        let mut order = Vec::with_capacity(self.node_count());
        while let Some(Reverse(n)) = ready.pop() {
            order.push(n);
            let edges = self.nodes.edges_directed(NodeIndex::new(n.0 as usize), Direction::Outgoing);
            let users = edges.map(|edge| edge.target().index());
            for user in users.chain(told.get(&n).into_iter().flatten().map(|u| u.0 as usize)) {
                missing[user] -= 1;
                if missing[user] == 0 {
                    ready.push(Reverse(NodeId(user as u32)));
                }
            }
        }
        match missing.iter().position(|&left| left > 0) {
            None => Ok(order),
            Some(stuck) => Err(NodeId(stuck as u32)),
        }
    }

    /// Remove every node none of whose results reaches an output, nor a symbol of which is used on the way to one;
    /// returns how many.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = vec![false; self.nodes.node_indices().map(|i| i.index() + 1).max().unwrap_or(0)];
        let mut uses: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        self.symbol_uses().into_iter().for_each(|(from, to)| uses.entry(to).or_default().push(from));
        let mut work: Vec<NodeId> = self.outputs.iter().filter_map(|&v| self.producer(v)).collect();
        while let Some(n) = work.pop() {
            if !std::mem::replace(&mut live[n.0 as usize], true) {
                work.extend(uses.get(&n).into_iter().flatten());
                work.extend(self.node(n).operands.iter().flatten().filter_map(|&v| self.producer(v)));
            }
        }
        let dead: Vec<NodeId> = self.node_ids().into_iter().filter(|n| !live[n.0 as usize]).collect();
        for &n in &dead {
            self.remove_node(n);
        }
        dead.len()
    }

    /// The node that declares each symbol; of several (a graph that does not verify) the first.
    pub fn declarations(&self) -> BTreeMap<&str, NodeId> {
        let mut out = BTreeMap::new();
        for id in self.node_ids() {
            for name in self.node(id).attrs.declared().iter().flatten() {
                out.entry(name.as_str()).or_insert(id);
            }
        }
        out
    }

    /// The symbols that a node needs to be bound: those of its attributes, those that its regions take from outside,
    /// and those of its results' types that it does not declare.
    pub fn symbols_used(&self, id: NodeId) -> Vec<String> {
        let node = self.node(id);
        let mut out = vec![];
        for &v in &node.results {
            self.ty(v).collect_symbols(&mut out);
        }
        out.retain(|s| !node.attrs.declared().iter().flatten().any(|d| d == s));
        node.attrs.collect_symbols(&mut out);
        for region in &node.regions {
            let free = region.free_symbols();
            out.extend(free.into_iter().filter(|s| !out.contains(s)).collect::<Vec<_>>());
        }
        out
    }

    /// Pairs of a node that declares a symbol and one that uses it, sorted; a node that uses its own stands twice.
    fn symbol_uses(&self) -> Vec<(NodeId, NodeId)> {
        let declarations = self.declarations();
        let mut out = vec![];
        if declarations.is_empty() {
            return out;
        }
        for id in self.node_ids() {
            let used = self.symbols_used(id);
            out.extend(used.iter().filter_map(|s| Some((*declarations.get(s.as_str())?, id))));
        }
        out.sort();
        out.dedup();
        out
    }

    /// Symbols that stand as a dim by themselves in a type of an input: the values given bind them.
    pub fn input_symbols(&self) -> BTreeSet<&str> {
        let dims = self.inputs.iter().flat_map(|&v| self.ty(v).fixed_dims());
        dims.filter_map(Dim::as_symbol).collect()
    }

    /// The symbols that the graph uses but does not bind, by its inputs or a node: those of the graph around it.
    pub fn free_symbols(&self) -> Vec<String> {
        let mut out = vec![];
        self.inputs.iter().for_each(|&v| self.ty(v).collect_symbols(&mut out));
        for id in self.node_ids() {
            let used = self.symbols_used(id);
            out.extend(used.into_iter().filter(|s| !out.contains(s)).collect::<Vec<_>>());
        }
        let (given, declared) = (self.input_symbols(), self.declarations());
        out.retain(|s| !given.contains(s.as_str()) && !declared.contains_key(s.as_str()));
        out
    }

    /// All symbols that occur, in types, attributes, declarations and regions.
    pub fn all_symbols(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        self.value_ids().for_each(|v| self.symbols_of(v, &mut out));
        out
    }

    /// The symbols of a value's type, and of the node whose first result it is.
    pub(crate) fn symbols_of(&self, id: ValueId, out: &mut BTreeSet<String>) {
        let mut names = vec![];
        self.ty(id).collect_symbols(&mut names);
        if let Def::Node(n, 0) = self.value(id).def
            && self.contains(n)
        {
            let node = self.node(n);
            node.attrs.collect_symbols(&mut names);
            names.extend(node.attrs.declared().iter().flatten().cloned());
            node.regions.iter().for_each(|r| out.extend(r.all_symbols()));
        }
        out.extend(names);
    }

    /// Names of the symbols in the input types, in order of occurrence: the free dims.
    pub fn free_dims(&self) -> Vec<String> {
        let mut out = vec![];
        for &i in &self.inputs {
            if let Type::Tensor(t) = self.ty(i) {
                t.shape.iter().for_each(|d| d.collect_symbols(&mut out));
            }
        }
        out
    }
}

/// Users of every value; see [`Graph::use_lists`].
#[derive(Debug)]
pub struct UseLists {
    users: Vec<Vec<NodeId>>,
    outputs: Vec<usize>,
}

impl UseLists {
    /// Nodes that use the value, ascending, each once.
    pub fn users(&self, value: ValueId) -> &[NodeId] {
        &self.users[value.0 as usize]
    }

    /// How often the value is an output of the graph.
    pub fn output_uses(&self, value: ValueId) -> usize {
        self.outputs[value.0 as usize]
    }

    /// Whether exactly one node uses the value and no output is it.
    pub fn sole_user(&self, value: ValueId) -> Option<NodeId> {
        match self.users(value) {
            [n] if self.output_uses(value) == 0 => Some(*n),
            _ => None,
        }
    }
}
