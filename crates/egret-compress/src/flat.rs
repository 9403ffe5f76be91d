//! Flat graphs: a graph with all that is inside its nodes beside them, so that what is known of a graph is known of branches and bodies too.
//!
//! A flat graph is no model. [`flatten`] puts the nodes and constants of a branch or body before the node that it is inside of, where a
//! reader meets every value behind its producer, and leaves of that branch its number, inputs and outputs. Each node and constant
//! remembers its home, the number of its graph, among its properties; what is added without one has the home that all of its readers share.
//! [`nest`] puts everything back.

use crate::contractions::inside;
use onnx_protobuf::{GraphProto, NodeProto, StringStringEntryProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};

/// The property that holds a home.
const HOME: &str = "egret.home";

/// The number of a graph; the outermost is 0.
pub type Home = usize;

/// One step from a graph into one inside it, as indices in the file: of the node, of its attribute, and of the graph where the attribute
/// holds several.
pub type Step = (usize, usize, Option<usize>);

type Properties = Vec<StringStringEntryProto>;

fn mark(properties: &mut Properties, home: Home, index: usize) {
    properties.push(StringStringEntryProto {
        key: HOME.into(),
        value: format!("{home} {index}"),
        ..StringStringEntryProto::default()
    });
}

/// The home and the index there of what has these properties.
fn read(properties: &Properties) -> Option<(Home, usize)> {
    let (home, index) = properties.iter().find(|p| p.key == HOME)?.value.split_once(' ')?;
    Some((home.parse().ok()?, index.parse().ok()?))
}

fn unmark(properties: &mut Properties) {
    properties.retain(|p| p.key != HOME);
}

/// Put a tensor in the home of what it replaces.
pub fn same_home(of: &Properties, tensor: &mut TensorProto) {
    if let Some((home, index)) = read(of) {
        mark(&mut tensor.metadata_props, home, index);
    }
}

/// The graphs inside a node, to be changed.
pub fn inside_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|a| a.g.as_mut().into_iter().chain(&mut a.graphs))
}

/// Whether something is inside a node of this graph.
pub fn has_inside(graph: &GraphProto) -> bool {
    graph.node.iter().any(|n| inside(n).next().is_some())
}

/// Make a graph flat. Values of graphs that stand beside each other and are called alike get names of their own. A graph with nothing
/// inside stays as it is.
pub fn flatten(graph: &mut GraphProto) {
    if !has_inside(graph) {
        return;
    }
    let mut maker = Maker { taken: BTreeSet::new(), homes: 1, tensors: vec![] };
    let names = own(graph);
    maker.taken.extend(names);
    let mut nodes = std::mem::take(&mut graph.node);
    for (i, tensor) in graph.initializer.iter_mut().enumerate() {
        mark(&mut tensor.metadata_props, 0, i);
    }
    let mut out = vec![];
    maker.nodes(&mut nodes, 0, &BTreeMap::new(), &mut out);
    graph.node = out;
    graph.initializer.append(&mut maker.tensors);
}

/// The names that a graph itself gives.
fn own(graph: &GraphProto) -> Vec<String> {
    let sparse = graph.sparse_initializer.iter().map(|t| &t.values.get_or_default().name);
    let constants = graph.initializer.iter().map(|t| &t.name).chain(sparse);
    let inputs = graph.input.iter().map(|i| &i.name);
    let all = constants.chain(inputs).chain(graph.node.iter().flat_map(|n| &n.output));
    all.filter(|n| !n.is_empty()).cloned().collect()
}

struct Maker {
    taken: BTreeSet<String>,
    homes: usize,
    tensors: Vec<TensorProto>,
}

impl Maker {
    /// Put nodes of a home, and before each what is inside it; `names` are the new ones of what is in scope.
    fn nodes(
        &mut self,
        nodes: &mut Vec<NodeProto>,
        home: Home,
        names: &BTreeMap<String, String>,
        out: &mut Vec<NodeProto>,
    ) {
        for (i, mut node) in std::mem::take(nodes).into_iter().enumerate() {
            for name in node.input.iter_mut().chain(&mut node.output) {
                renamed(name, names);
            }
            for graph in inside_mut(&mut node) {
                self.graph(graph, names, out);
            }
            mark(&mut node.metadata_props, home, i);
            out.push(node);
        }
    }

    fn graph(
        &mut self,
        graph: &mut GraphProto,
        outer: &BTreeMap<String, String>,
        out: &mut Vec<NodeProto>,
    ) {
        let (home, mut names) = (self.homes, outer.clone());
        self.homes += 1;
        for name in own(graph) {
            let mut new = name.clone();
            while !self.taken.insert(new.clone()) {
                new = format!("{new}_{home}");
            }
            names.insert(name, new);
        }
        for (i, mut tensor) in std::mem::take(&mut graph.initializer).into_iter().enumerate() {
            renamed(&mut tensor.name, &names);
            mark(&mut tensor.metadata_props, home, i);
            self.tensors.push(tensor);
        }
        for tensor in &mut graph.sparse_initializer {
            renamed(&mut tensor.values.mut_or_insert_default().name, &names);
        }
        for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
            renamed(&mut value.name, &names);
        }
        mark(&mut graph.metadata_props, home, 0);
        let mut nodes = std::mem::take(&mut graph.node);
        self.nodes(&mut nodes, home, &names, out);
    }
}

fn renamed(name: &mut String, names: &BTreeMap<String, String>) {
    if let Some(new) = names.get(name) {
        name.clone_from(new);
    }
}

/// The graphs of a flat graph, as a tree.
#[derive(Default)]
pub struct Tree {
    /// The home of each graph's node, and the index of that node in the flat graph.
    parents: BTreeMap<Home, (Home, usize)>,
}

impl Tree {
    /// Of a flat graph; of one that is not, it has nothing but the root.
    pub fn new(graph: &GraphProto) -> Tree {
        let mut parents = BTreeMap::new();
        let homes = homes(graph);
        for (i, node) in graph.node.iter().enumerate() {
            for inner in inside(node) {
                if let Some((home, _)) = read(&inner.metadata_props) {
                    parents.insert(home, (homes[i], i));
                }
            }
        }
        Tree { parents }
    }

    /// The numbers of all graphs.
    pub fn homes(&self) -> Vec<Home> {
        std::iter::once(0).chain(self.parents.keys().copied()).collect()
    }

    /// A home and those around it, the innermost first; without the root.
    fn around(&self, home: Home) -> Vec<Home> {
        std::iter::successors(Some(home), |h| self.parents.get(h).map(|p| p.0)).filter(|h| *h > 0).collect()
    }

    /// The nodes around a home, the outermost first, each with the home inside it.
    pub fn nodes_around(&self, home: Home) -> Vec<(usize, Home)> {
        let node = |h: &Home| self.parents.get(h).map(|p| (p.1, *h));
        self.around(home).iter().rev().filter_map(node).collect()
    }

    /// The innermost home around two.
    fn meet(&self, a: Home, b: Home) -> Home {
        let all = self.around(a);
        self.around(b).into_iter().find(|h| all.contains(h)).unwrap_or(0)
    }
}

/// The home of each node of a graph; all are 0 where it is not flat.
pub fn homes(graph: &GraphProto) -> Vec<Home> {
    let mut homes: Vec<Option<Home>> =
        graph.node.iter().map(|n| read(&n.metadata_props).map(|t| t.0)).collect();
    if homes.iter().all(Option::is_none) {
        return vec![0; homes.len()];
    }
    let mut parents = BTreeMap::new();
    let mut readers: BTreeMap<&str, Vec<Result<usize, Home>>> = BTreeMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        node.input.iter().for_each(|n| readers.entry(n).or_default().push(Ok(i)));
        for inner in inside(node) {
            let home = read(&inner.metadata_props).map_or(0, |t| t.0);
            parents.insert(home, (homes[i].unwrap_or(0), i));
            inner.output.iter().for_each(|o| readers.entry(&o.name).or_default().push(Err(home)));
        }
    }
    graph.output.iter().for_each(|o| readers.entry(&o.name).or_default().push(Err(0)));
    let tree = Tree { parents };
    let home_of = |t: &TensorProto| read(&t.metadata_props).map_or(0, |t| t.0);
    let tensors: BTreeMap<&str, Home> =
        graph.initializer.iter().map(|t| (t.name.as_str(), home_of(t))).collect();
    for (i, node) in graph.node.iter().enumerate().rev() {
        if homes[i].is_some() {
            continue;
        }
        // What makes floats of constants stands beside these: runtimes look for them in its own graph.
        let constants: Option<Vec<Home>> =
            node.input.iter().map(|n| tensors.get(n.as_str()).copied()).collect();
        if let Some(home) = constants.and_then(|c| c.into_iter().reduce(|a, b| tree.meet(a, b))) {
            homes[i] = Some(home);
            continue;
        }
        // Readers stand behind: their homes are known.
        let all = node.output.iter().filter_map(|o| readers.get(o.as_str())).flatten();
        let at = all.map(|r| r.map_or_else(|home| home, |node| homes[node].unwrap_or(0)));
        homes[i] = at.reduce(|a, b| tree.meet(a, b));
    }
    homes.into_iter().map(|h| h.unwrap_or(0)).collect()
}

/// Put everything back inside the nodes that it came from.
pub fn nest(graph: &mut GraphProto) {
    let homes = homes(graph);
    let mut of: BTreeMap<Home, Vec<NodeProto>> = BTreeMap::new();
    for (mut node, home) in std::mem::take(&mut graph.node).into_iter().zip(homes) {
        unmark(&mut node.metadata_props);
        of.entry(home).or_default().push(node);
    }
    let mut tensors: BTreeMap<Home, Vec<TensorProto>> = BTreeMap::new();
    for mut tensor in std::mem::take(&mut graph.initializer) {
        let home = read(&tensor.metadata_props).map_or(0, |t| t.0);
        unmark(&mut tensor.metadata_props);
        tensors.entry(home).or_default().push(tensor);
    }
    fill(graph, 0, &mut of, &mut tensors);
}

fn fill(
    graph: &mut GraphProto,
    home: Home,
    nodes: &mut BTreeMap<Home, Vec<NodeProto>>,
    tensors: &mut BTreeMap<Home, Vec<TensorProto>>,
) {
    graph.node = nodes.remove(&home).unwrap_or_default();
    graph.initializer = tensors.remove(&home).unwrap_or_default();
    for inner in graph.node.iter_mut().flat_map(inside_mut) {
        // One that is whole has no number.
        let Some((home, _)) = read(&inner.metadata_props) else { continue };
        unmark(&mut inner.metadata_props);
        fill(inner, home, nodes, tensors);
    }
}

/// Which branch of nodes `If` is taken, by the index of the node in the flat graph: its home.
pub type Choices = BTreeMap<usize, Home>;

/// A flat graph whose branches that were chosen stand in the place of their nodes; those that were not are gone.
pub fn decided(graph: &GraphProto, choices: &Choices) -> GraphProto {
    let (homes, tree) = (homes(graph), Tree::new(graph));
    // Where a home is now; `None` if it is in a branch that is gone.
    let now = |home: Home| -> Option<Home> {
        let mut at = None;
        for (node, inner) in tree.nodes_around(home).into_iter().rev() {
            match choices.get(&node) {
                Some(chosen) if *chosen != inner => return None,
                Some(_) => {}
                None => at = at.or(Some(inner)),
            }
        }
        Some(at.unwrap_or(0))
    };
    let mut out = graph.clone();
    out.node.clear();
    let again = |properties: &mut Properties, home: Home| {
        unmark(properties);
        mark(properties, home, 0);
    };
    for (i, (node, &home)) in graph.node.iter().zip(&homes).enumerate() {
        let Some(home) = now(home) else { continue };
        let Some(chosen) = choices.get(&i) else {
            let mut node = node.clone();
            again(&mut node.metadata_props, home);
            out.node.push(node);
            continue;
        };
        let is_chosen = |g: &&GraphProto| read(&g.metadata_props).is_some_and(|t| t.0 == *chosen);
        let branch = inside(node).find(is_chosen);
        for (from, to) in branch.map_or(&[][..], |b| &b.output).iter().zip(&node.output) {
            let mut copy = NodeProto {
                op_type: "Identity".into(),
                input: vec![from.name.clone()],
                output: vec![to.clone()],
                ..NodeProto::default()
            };
            again(&mut copy.metadata_props, home);
            out.node.push(copy);
        }
    }
    out.initializer.retain_mut(|t| match now(read(&t.metadata_props).map_or(0, |t| t.0)) {
        Some(home) => {
            again(&mut t.metadata_props, home);
            true
        }
        None => false,
    });
    out
}

/// The steps to a node of a flat graph in the file, and its index there; `None` of one that the file does not have.
pub fn route_of_node(graph: &GraphProto, node: usize) -> Option<(Vec<Step>, usize)> {
    if !has_inside(graph) {
        return Some((vec![], node));
    }
    let (home, index) = read(&graph.node.get(node)?.metadata_props)?;
    Some((route(graph, home)?, index))
}

/// The steps to a constant of a flat graph in the file, and its index there; `None` of one that the file does not have.
pub fn route_of_tensor(graph: &GraphProto, tensor: usize) -> Option<(Vec<Step>, usize)> {
    if !has_inside(graph) {
        return Some((vec![], tensor));
    }
    let (home, index) = read(&graph.initializer.get(tensor)?.metadata_props)?;
    Some((route(graph, home)?, index))
}

fn route(graph: &GraphProto, home: Home) -> Option<Vec<Step>> {
    let mut out = vec![];
    for (at, inner) in Tree::new(graph).nodes_around(home) {
        let node = &graph.node[at];
        let (_, index) = read(&node.metadata_props)?;
        let is = |g: &GraphProto| read(&g.metadata_props).is_some_and(|t| t.0 == inner);
        let step = node.attribute.iter().enumerate().find_map(|(a, attribute)| {
            let one = attribute.g.iter().any(is).then_some((index, a, None));
            one.or_else(|| attribute.graphs.iter().position(is).map(|i| (index, a, Some(i))))
        });
        out.push(step?);
    }
    Some(out)
}

/// The values of a flat graph's nodes and of the inputs of graphs inside, by the home that they are in.
pub fn producers(graph: &GraphProto) -> BTreeMap<&str, Home> {
    let homes = homes(graph);
    let mut out = BTreeMap::new();
    for (node, home) in graph.node.iter().zip(homes) {
        out.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), home)));
        for inner in inside(node) {
            let home = read(&inner.metadata_props).map_or(home, |t| t.0);
            out.extend(inner.input.iter().map(|i| (i.name.as_str(), home)));
        }
    }
    out
}

/// Whether a node is an `If` of ONNX's own.
pub fn is_if(node: &NodeProto) -> bool {
    node.op_type == "If" && (node.domain.is_empty() || node.domain == "ai.onnx")
}

/// The home of the branch that an `If` takes when its condition is so.
pub fn branch(node: &NodeProto, condition: bool) -> Option<Home> {
    let name = if condition { "then_branch" } else { "else_branch" };
    let graph = node.attribute.iter().find(|a| a.name == name)?.g.as_ref()?;
    Some(read(&graph.metadata_props)?.0)
}

/// The name of the attribute that a home of a node stands in.
pub fn attribute_of(node: &NodeProto, home: Home) -> Option<&str> {
    let is = |g: &GraphProto| read(&g.metadata_props).is_some_and(|t| t.0 == home);
    let found = node.attribute.iter().find(|a| a.g.iter().chain(&a.graphs).any(is));
    found.map(|a| a.name.as_str())
}

/// Whether a home is in the body of a loop: a node that may run it more than once, or that is not known.
pub fn in_loop(graph: &GraphProto, tree: &Tree, home: Home) -> bool {
    tree.nodes_around(home).iter().any(|(node, _)| !is_if(&graph.node[*node]))
}

/// The graphs inside a node of a flat graph, with the names of their outputs.
pub fn branches(node: &NodeProto) -> Vec<(Home, Vec<&str>)> {
    inside(node)
        .filter_map(|g| {
            Some((read(&g.metadata_props)?.0, g.output.iter().map(|o| o.name.as_str()).collect()))
        })
        .collect()
}

/// Give an output of a graph inside a node another name.
pub fn rename_output(node: &mut NodeProto, home: Home, k: usize, new: &str) {
    for graph in inside_mut(node).filter(|g| read(&g.metadata_props).is_some_and(|t| t.0 == home)) {
        graph.output.iter_mut().skip(k).take(1).for_each(|o| o.name = new.to_owned());
    }
}

/// Give a value of a flat graph another name, wherever it is made or read.
pub fn rename(graph: &mut GraphProto, old: &str, new: &str) {
    for node in &mut graph.node {
        let outer = node.input.iter_mut().chain(&mut node.output);
        outer.filter(|n| *n == old).for_each(|n| *n = new.to_owned());
        let inner = inside_mut(node).flat_map(|g| &mut g.output);
        inner.filter(|o| o.name == old).for_each(|o| o.name = new.to_owned());
    }
}
