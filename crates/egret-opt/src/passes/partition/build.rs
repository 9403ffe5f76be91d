//! Builds the graphs of stages.

use super::{Crossing, bytes_of};
use crate::rebuild::topological;
use egret_ir::{Def, Graph, NodeId, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Builds the stages from the assignment of nodes to them, and what crosses between them, in the order in which it is made.
pub(super) fn build(
    graph: &Graph,
    stage_of: &HashMap<NodeId, usize>,
    stages: usize,
) -> (Vec<Graph>, Vec<Crossing>) {
    let split =
        Split { graph, stage_of, last: stages - 1, order: topological(graph), inputs: input_names(graph) };
    let crossing = split.crossing();
    let graphs = (0..stages).map(|k| split.whole_stage(k, &crossing)).collect();
    (graphs, crossing.into_iter().map(|(_, c)| c).collect())
}

/// The names that stages have for the inputs of a graph: its own, and numbered ones for inputs without a name.
pub fn input_names(graph: &Graph) -> Vec<String> {
    let own: Vec<&String> = graph.inputs().iter().map(|&v| &graph.value(v).name).collect();
    let mut out: Vec<String> = vec![];
    for (i, &name) in own.iter().enumerate() {
        let numbered =
            || (i..).map(|i| format!("input{i}")).find(|n| !own.contains(&n) && !out.contains(n));
        let name = if name.is_empty() { numbered() } else { None }.unwrap_or_else(|| name.clone());
        out.push(name);
    }
    out
}

struct Split<'a> {
    graph: &'a Graph,
    stage_of: &'a HashMap<NodeId, usize>,
    last: usize,
    order: Vec<NodeId>,
    /// Names of the inputs; those without one are numbered.
    inputs: Vec<String>,
}

impl Split<'_> {
    /// The stage that makes a value; inputs and constants are in every stage.
    fn made(&self, v: ValueId) -> Option<usize> {
        self.graph.producer(v).map(|n| self.stage_of[&n])
    }

    /// The values that cross stages, in the order in which they are made.
    fn crossing(&self) -> Vec<(ValueId, Crossing)> {
        let graph = self.graph;
        let mut used: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
        for &n in &self.order {
            for &v in graph.node(n).operands.iter().flatten() {
                if self.made(v).is_some_and(|made| made != self.stage_of[&n]) {
                    used.entry(v).or_default().insert(self.stage_of[&n]);
                }
            }
        }
        let mut outputs: BTreeMap<ValueId, &String> = BTreeMap::new();
        for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
            if !self.inputs.contains(name) {
                outputs.entry(v).or_insert(name);
            }
        }
        let mut taken: BTreeSet<String> =
            graph.output_names().iter().chain(&self.inputs).cloned().collect();
        let made = self.order.iter().flat_map(|&n| graph.node(n).results.iter().copied());
        let mut out = vec![];
        for v in made {
            let Some(used) = used.remove(&v) else { continue };
            let own = Some(graph.value(v).name.clone()).filter(|n| !n.is_empty());
            let mut free =
                own.into_iter().chain((0..).map(|i| format!("cut{i}"))).filter(|n| !taken.contains(n));
            // What is an output too has the output's name.
            let name = outputs.get(&v).map(|&n| n.clone()).or_else(|| free.next()).unwrap_or_default();
            taken.insert(name.clone());
            let ty = graph.ty(v).clone();
            let (bytes, made) = (bytes_of(&ty), self.made(v).unwrap_or(0));
            out.push((v, Crossing { name, ty, bytes, made, used: used.into_iter().collect() }));
        }
        out
    }

    /// A stage that has what binds its symbols.
    fn whole_stage(&self, k: usize, crossing: &[(ValueId, Crossing)]) -> Graph {
        let stage = self.stage(k, crossing, &BTreeSet::new());
        let unbound = stage.free_symbols();
        let binds = |v: ValueId, s: &str| {
            self.graph.ty(v).fixed_dims().iter().any(|d| d.as_symbol().is_some_and(|symbol| symbol == s))
        };
        let of = |s: &String| {
            let all = self.graph.inputs().iter().copied().filter(|&v| binds(v, s));
            all.min_by_key(|&v| bytes_of(self.graph.ty(v)))
        };
        let further: BTreeSet<ValueId> = unbound.iter().filter_map(of).collect();
        if further.is_empty() { stage } else { self.stage(k, crossing, &further) }
    }

    /// A stage. `further`: inputs that it has beside those that it uses.
    fn stage(&self, k: usize, crossing: &[(ValueId, Crossing)], further: &BTreeSet<ValueId>) -> Graph {
        let graph = self.graph;
        let nodes: Vec<NodeId> = self.order.iter().copied().filter(|n| self.stage_of[n] == k).collect();
        let outputs: Vec<(&String, ValueId)> =
            graph.output_names().iter().zip(graph.outputs().iter().copied()).collect();
        let own: Vec<&(&String, ValueId)> =
            outputs.iter().filter(|(_, v)| self.made(*v).unwrap_or(self.last) == k).collect();
        let mut used: BTreeSet<ValueId> =
            nodes.iter().flat_map(|&n| graph.node(n).operands.iter().flatten().copied()).collect();
        used.extend(own.iter().map(|(_, v)| *v));
        // Unused inputs belong to the first stage.
        let users = graph.use_lists();
        let idle = |v: ValueId| users.users(v).is_empty() && users.output_uses(v) == 0;

        let mut new = Graph::new(&format!("{}_stage{k}", graph.name));
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, &v) in graph.inputs().iter().enumerate() {
            if used.contains(&v) || further.contains(&v) || k == 0 && idle(v) {
                map.insert(v, new.add_input(&self.inputs[i], graph.ty(v).clone()));
            }
        }
        for (v, c) in crossing.iter().filter(|(_, c)| c.used.contains(&k)) {
            map.insert(*v, new.add_input(&c.name, c.ty.clone()));
        }
        for &v in &used {
            if let Def::Const(t) = &graph.value(v).def {
                let constant = new.add_const(t.clone());
                new.set_value_name(constant, &graph.value(v).name);
                map.insert(v, constant);
            }
        }
        for &id in &nodes {
            let node = graph.node(id);
            let operands = node.operands.iter().map(|v| v.map(|v| map[&v])).collect();
            let types = node.results.iter().map(|&v| graph.ty(v).clone()).collect();
            let copy = new.add_node(
                node.op,
                node.attrs.clone(),
                operands,
                node.regions.clone(),
                types,
                node.sources.clone(),
            );
            let results = new.node(copy).results.clone();
            for (&was, is) in node.results.iter().zip(results) {
                new.set_value_name(is, &graph.value(was).name);
                map.insert(was, is);
            }
        }
        for (name, v) in &own {
            new.add_output(name, map[v]);
        }
        let is_output = |c: &Crossing| own.iter().any(|(name, _)| **name == c.name);
        for (v, c) in crossing.iter().filter(|(_, c)| c.made == k && !is_output(c)) {
            new.add_output(&c.name, map[v]);
        }
        new
    }
}
