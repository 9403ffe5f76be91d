//! Builds the graphs of stages.

use crate::rebuild::topological;
use egret_ir::{Def, Graph, NodeId, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Builds the stages from the assignment of nodes to them.
pub(super) fn build(graph: &Graph, stage_of: &HashMap<NodeId, usize>, stages: usize) -> Vec<Graph> {
    let split = Split { graph, stage_of, last: stages - 1, order: topological(graph) };
    let names = split.names();
    (0..stages).map(|k| split.stage(k, &names)).collect()
}

struct Split<'a> {
    graph: &'a Graph,
    stage_of: &'a HashMap<NodeId, usize>,
    last: usize,
    order: Vec<NodeId>,
}

impl Split<'_> {
    /// The stage that makes a value; inputs and constants are in every stage.
    fn made(&self, v: ValueId) -> Option<usize> {
        self.graph.producer(v).map(|n| self.stage_of[&n])
    }

    /// The values that cross stages, in the order in which they are made, with unique names.
    fn names(&self) -> Vec<(ValueId, String)> {
        let graph = self.graph;
        let mut cut: BTreeSet<ValueId> = BTreeSet::new();
        for &n in &self.order {
            let operands = graph.node(n).operands.iter().flatten();
            cut.extend(operands.filter(|&&v| self.made(v).is_some_and(|made| made != self.stage_of[&n])));
        }
        let mut outputs: BTreeMap<ValueId, &String> = BTreeMap::new();
        for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
            outputs.entry(v).or_insert(name);
        }
        let mut taken: BTreeSet<String> = graph.output_names().iter().cloned().collect();
        taken.extend((0..graph.inputs().len()).map(|i| self.input_name(i)));
        let made = self.order.iter().flat_map(|&n| graph.node(n).results.iter().copied());
        let mut names = vec![];
        for v in made.filter(|v| cut.contains(v)) {
            if let Some(&name) = outputs.get(&v) {
                names.push((v, name.clone()));
                continue;
            }
            let own = &graph.value(v).name;
            let numbered = (0..).map(|i| format!("cut{i}"));
            let name = Some(own.clone())
                .filter(|n| !n.is_empty())
                .into_iter()
                .chain(numbered)
                .find(|n| !taken.contains(n));
            let name = name.unwrap_or_default();
            taken.insert(name.clone());
            names.push((v, name));
        }
        names
    }

    fn input_name(&self, i: usize) -> String {
        let name = &self.graph.value(self.graph.inputs()[i]).name;
        if name.is_empty() { format!("input{i}") } else { name.clone() }
    }

    fn stage(&self, k: usize, names: &[(ValueId, String)]) -> Graph {
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
            if used.contains(&v) || k == 0 && idle(v) {
                map.insert(v, new.add_input(&self.input_name(i), graph.ty(v).clone()));
            }
        }
        for (v, name) in
            names.iter().filter(|(v, _)| used.contains(v) && self.made(*v).is_some_and(|made| made < k))
        {
            map.insert(*v, new.add_input(name, graph.ty(*v).clone()));
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
        let is_output = |v: ValueId| own.iter().any(|(_, o)| *o == v);
        for (v, name) in names.iter().filter(|(v, _)| self.made(*v) == Some(k) && !is_output(*v)) {
            new.add_output(name, map[v]);
        }
        new
    }
}
