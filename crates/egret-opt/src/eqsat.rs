//! A pass as a rule set: a graph becomes an e-graph, the pass's rules saturate it, and what is extracted is a new graph.

use crate::egraph::{ENode, Egraph, Knowledge, Symbol, foldable};
use crate::extract::{Extraction, extract};
use crate::matching::{guards_hold, matches};
use crate::proof::{self, Proof};
use crate::rebuild::{Rebuild, bring_const, start, topological};
use crate::rules::{Rule, Tier};
use crate::saturate::{Limits, Saturation, saturate};
use egg::Id;
use egret_ir::{Def, Graph, Node, NodeId, ValueId, infer};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Of one rule at one value.
const MISSED_MATCHES: usize = 64;

/// Regions have at most so many nodes.
const REGION: usize = 600;

/// What a rewrite did to the graph that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: String,
    /// `file:line` of the rule.
    pub place: String,
    /// The ONNX nodes that it rests on, sorted.
    pub sources: BTreeSet<String>,
    /// What it says: the rule's own line.
    pub text: String,
}

/// A rule that matched and was not applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missed {
    /// The ONNX nodes, sorted.
    pub sources: BTreeSet<String>,
    /// The rule's name.
    pub rule: String,
    /// Whether its tier is the reason, not a guard.
    pub tier: bool,
    /// The reason in words.
    pub reason: String,
}

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rewrites that the new graph rests on.
    pub rewrites: Vec<Rewrite>,
    /// Rules that nearly applied, where that is asked for.
    pub missed: Vec<Missed>,
    /// Limits that were hit.
    pub limits: Vec<(&'static str, usize)>,
    /// Why the graph after the rules equals the one before them, where that is asked for.
    pub proof: Option<Proof>,
}

/// Run the rules of a pass, up to a tier, over a graph.
///
/// # Errors
/// A rule that is wrong (it changes a type, or says that different constants are equal), or one whose result does not fit.
pub(crate) fn run(pass: &str, graph: &Graph, rules: &[&Rule], tier: Tier, explain: bool) -> Result<(Graph, Findings), String> {
    let (rules, above): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|r| r.tier <= tier);
    if rules.is_empty() && above.is_empty() {
        return Ok((graph.clone(), Findings::default()));
    }
    // What is only near a value may not stand in its class: congruence would hide the error.
    if let Some(rule) = rules.iter().find(|r| r.tier > Tier::Reassoc) {
        let (name, place, tier) = (&rule.name, &rule.place, rule.tier);
        return Err(format!("rule `{name}` ({place}) is {tier}: rules of this tier cannot be applied yet; allow at most `--tier reassoc`"));
    }
    let mut findings = Findings::default();
    let mut r = start(graph);
    let mut recorder = explain.then(|| proof::Recording::new(graph));
    for region in regions(graph, &topological(graph)) {
        let look = Look { above: &above, tier, explain };
        run_region(&mut r, &region, &rules, &look, &mut findings, recorder.as_mut())?;
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        bring_const(&mut r, v);
        let new = r.new_value(v);
        r.builder.output(name, new);
    }
    let mut new = r.builder.graph;
    new.remove_dead();
    if let Some(recorder) = recorder {
        findings.proof = Some(recorder.finish(pass, graph, &new, &rules, tier)?);
    }
    Ok((new, findings))
}

/// A piece of a graph, in topological order.
struct Region {
    nodes: Vec<NodeId>,
    /// Values of the region that are used outside it.
    outputs: Vec<ValueId>,
}

/// Cut a graph where few values are alive, so that what is done to it grows with its length only.
fn regions(graph: &Graph, order: &[NodeId]) -> Vec<Region> {
    let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let uses = graph.use_lists();
    // The last place that uses what a node makes.
    let last_use = |n: NodeId| {
        let results = graph.node(n).results.iter();
        let ends = results.map(|&v| match uses.output_uses(v) {
            0 => uses.users(v).iter().map(|u| place[u]).max().unwrap_or(0),
            _ => order.len(),
        });
        ends.max().unwrap_or(0)
    };
    let last: Vec<usize> = order.iter().map(|&n| last_use(n)).collect();
    // How many nodes' results are alive after each place.
    let mut delta = vec![0i64; order.len() + 2];
    for (i, &end) in last.iter().enumerate() {
        delta[i] += 1;
        delta[end.max(i)] -= 1;
    }
    let alive: Vec<i64> = delta
        .iter()
        .scan(0, |sum, d| {
            *sum += d;
            Some(*sum)
        })
        .collect();
    let (mut out, mut from) = (vec![], 0);
    while from < order.len() {
        let to = match order.len() - from {
            left if left <= REGION => order.len(),
            _ => (from + REGION / 2..from + REGION).min_by_key(|&i| (alive[i], std::cmp::Reverse(i))).unwrap_or(from) + 1,
        };
        let results = (from..to).filter(|&i| last[i] >= to).flat_map(|i| graph.node(order[i]).results.iter().copied());
        let outputs = results.filter(|&v| uses.output_uses(v) > 0 || uses.users(v).iter().any(|u| place[u] >= to)).collect();
        out.push(Region { nodes: order[from..to].to_vec(), outputs });
        from = to;
    }
    out
}

/// What is looked for beside what is done.
struct Look<'a> {
    above: &'a [&'a Rule],
    tier: Tier,
    explain: bool,
}

fn run_region(
    r: &mut Rebuild,
    region: &Region,
    rules: &[&Rule],
    look: &Look,
    findings: &mut Findings,
    recorder: Option<&mut proof::Recording>,
) -> Result<(), String> {
    let (graph, order) = (r.old, &region.nodes);
    let mut load = Load { graph, egraph: Egraph::new(Knowledge::default()), values: HashMap::new(), names: HashMap::new(), inputs: vec![] };
    let mut sources = HashMap::new();
    let mut ranks: Vec<Id> = vec![];
    for (i, &id) in order.iter().enumerate() {
        let (class, node) = load.node(i, id);
        sources.entry(node).or_insert_with(BTreeSet::new).insert(i);
        ranks.push(class);
    }
    let roots: Vec<Id> = region.outputs.iter().map(|&v| load.value(v)).collect();
    let Load { mut egraph, names, inputs, .. } = load;
    let done = saturate(&mut egraph, rules, &Limits { evidence: recorder.is_some(), ..Limits::default() }, sources)?;
    if let Some(recorder) = recorder {
        let local = proof::local(&egraph, rules, &done.applications)?;
        recorder.add(&local, graph, order, &inputs, &egraph.analysis.symbols.constants, |i| {
            let a = &done.applications[i];
            let sources = a.sources.iter().flat_map(|&i| graph.node(order[i]).sources.iter().cloned()).collect();
            (rules[a.rule], sources)
        })?;
    }
    let extraction = extract(&egraph, &roots).ok_or("a value has no form that is free of cycles")?;
    findings.add(graph, order, &egraph, rules, &done, &extraction);
    if look.explain {
        findings.missed.extend(missed(graph, order, &egraph, rules, look, &done, &extraction));
    }
    let mut named: BTreeMap<Id, ValueId> = BTreeMap::new();
    for (id, v) in names {
        named.entry(egraph.find(id)).and_modify(|is| *is = (*is).min(v)).or_insert(v);
    }
    let mut store =
        Store { graph, order, inputs: &inputs, egraph: &egraph, done: &done, extraction: &extraction, named, built: BTreeMap::new() };
    // Nodes keep the order that they had: what is alive at once stays so.
    for class in ranks.into_iter().map(|c| egraph.find(c)) {
        if extraction.chosen.contains_key(&class) {
            store.emit(r, class)?;
        }
    }
    for (&old, &root) in region.outputs.iter().zip(&roots) {
        let values = store.emit(r, egraph.find(root))?;
        r.set_new_value(old, *values.first().ok_or("a value is left out")?);
    }
    Ok(())
}

/// Filling the e-graph from a graph.
struct Load<'a> {
    graph: &'a Graph,
    egraph: Egraph,
    values: HashMap<ValueId, Id>,
    names: HashMap<Id, ValueId>,
    /// Values that come from outside.
    inputs: Vec<ValueId>,
}

impl Load<'_> {
    fn add(&mut self, node: ENode, value: ValueId) -> Id {
        let id = self.egraph.add(node);
        self.values.insert(value, id);
        if !self.graph.value(value).name.is_empty() {
            self.names.entry(id).or_insert(value);
        }
        id
    }

    fn value(&mut self, value: ValueId) -> Id {
        if let Some(&id) = self.values.get(&value) {
            return id;
        }
        let symbol = match &self.graph.value(value).def {
            Def::Const(t) => self.egraph.analysis.symbols.constant(t.clone()),
            _ => {
                self.inputs.push(value);
                let input = Symbol::Input(self.inputs.len() - 1, self.graph.ty(value).clone());
                self.egraph.analysis.symbols.intern(input)
            }
        };
        self.add(ENode { symbol, children: Box::default() }, value)
    }

    fn node(&mut self, i: usize, id: NodeId) -> (Id, ENode) {
        let graph = self.graph;
        let node = graph.node(id);
        let children: Box<[Id]> = node
            .operands
            .iter()
            .map(|v| match v {
                Some(v) => self.value(*v),
                None => {
                    let symbol = self.egraph.analysis.symbols.intern(Symbol::Absent);
                    self.egraph.add(ENode { symbol, children: Box::default() })
                }
            })
            .collect();
        let symbol = if self.is_open(node, &children) {
            Symbol::Op { op: node.op, attrs: node.attrs.clone() }
        } else {
            Symbol::Opaque { node: i, types: node.results.iter().map(|&v| graph.ty(v).clone()).collect() }
        };
        let symbol = self.egraph.analysis.symbols.intern(symbol);
        let enode = ENode { symbol, children };
        if let [result] = node.results.as_slice() {
            return (self.add(enode.clone(), *result), enode);
        }
        let all = self.egraph.add(enode.clone());
        for (k, &result) in node.results.iter().enumerate() {
            let symbol = self.egraph.analysis.symbols.intern(Symbol::Project(k));
            self.add(ENode { symbol, children: Box::new([all]) }, result);
        }
        (all, enode)
    }

    /// Whether rules may look at a node: its type is what inference finds from what is known of its operands.
    fn is_open(&self, node: &Node, children: &[Id]) -> bool {
        if !foldable(node.op) || node.results.len() != 1 {
            return false;
        }
        let types: Vec<_> = children.iter().map(|&c| self.egraph[c].data.types.first()).collect();
        infer::infer(node.op, &node.attrs, &types, &[]).is_ok_and(|t| t.first() == Some(self.graph.ty(node.results[0])))
    }
}

/// Building the new graph.
struct Store<'a> {
    graph: &'a Graph,
    order: &'a [NodeId],
    inputs: &'a [ValueId],
    egraph: &'a Egraph,
    done: &'a Saturation,
    extraction: &'a Extraction,
    named: BTreeMap<Id, ValueId>,
    built: BTreeMap<Id, Vec<ValueId>>,
}

impl Store<'_> {
    /// The values of a class's chosen node; operands first, without recursion: graphs are deep.
    fn emit(&mut self, r: &mut Rebuild, class: Id) -> Result<Vec<ValueId>, String> {
        let mut stack = vec![class];
        while let Some(&top) = stack.last() {
            if self.built.contains_key(&top) {
                stack.pop();
                continue;
            }
            let node = self.extraction.chosen.get(&top).ok_or("a value was not extracted")?;
            let open: Vec<Id> = node.children.iter().map(|&c| self.egraph.find(c)).filter(|c| !self.built.contains_key(c)).collect();
            if open.is_empty() {
                let values = self.emit_node(r, top, node)?;
                self.built.insert(top, values);
                stack.pop();
            } else {
                stack.extend(open.into_iter().rev());
            }
        }
        Ok(self.built[&class].clone())
    }

    fn emit_node(&self, r: &mut Rebuild, class: Id, node: &ENode) -> Result<Vec<ValueId>, String> {
        let symbols = &self.egraph.analysis.symbols;
        let operands: Vec<Option<ValueId>> = node.children.iter().map(|&c| self.built[&self.egraph.find(c)].first().copied()).collect();
        if let Some(from) = self.done.sources.get(node) {
            let names = from.iter().flat_map(|&i| self.graph.node(self.order[i]).sources.iter().cloned());
            r.builder.set_sources(names.collect());
        }
        let values = match symbols.get(node.symbol) {
            Symbol::Input(i, _) => vec![r.new_value(self.inputs[*i])],
            Symbol::Const(i) => vec![r.builder.constant(symbols.constants[*i].clone())],
            Symbol::Absent => vec![],
            Symbol::Project(k) => {
                let all = &self.built[&self.egraph.find(node.children[0])];
                vec![*all.get(*k).ok_or("no such result")?]
            }
            Symbol::Opaque { node: i, .. } => {
                let old = self.graph.node(self.order[*i]);
                r.copy(old, &operands).map_err(|e| e.to_string())?
            }
            Symbol::Op { op, attrs } => r.builder.emit_node(*op, attrs.clone(), &operands, vec![]).map_err(|e| e.to_string())?,
        };
        if let (Some(&name), Some(&value)) = (self.named.get(&class), values.first())
            && r.builder.graph.value(value).name.is_empty()
        {
            r.builder.graph.set_value_name(value, &self.graph.value(name).name);
        }
        Ok(values)
    }
}

/// Rules whose left-hand side is there and that did not apply, over the nodes that were chosen. Rules of a single node are left
/// out: they look at every node of their operation, and say nothing by not applying.
fn missed(
    graph: &Graph,
    order: &[NodeId],
    egraph: &Egraph,
    rules: &[&Rule],
    look: &Look,
    done: &Saturation,
    extraction: &Extraction,
) -> BTreeSet<Missed> {
    let mut out = BTreeSet::new();
    for rule in rules.iter().chain(look.above).filter(|r| r.lhs.nodes().len() > 1) {
        for &class in extraction.chosen.keys() {
            for m in matches(rule, egraph, class, MISSED_MATCHES) {
                let nodes: Vec<&ENode> = m.matched.iter().map(|&(c, k, _)| &egraph[c].nodes[k]).collect();
                if !m.matched.iter().zip(&nodes).all(|((c, ..), n)| extraction.chosen.get(c) == Some(*n)) {
                    continue;
                }
                let (tier, reason) = match guards_hold(rule, egraph, &m) {
                    Err(e) => (false, format!("`{}` does not hold: {}", e.guard, e.reason)),
                    Ok(()) if rule.tier > look.tier => (true, format!("its tier is {}, {} is allowed", rule.tier, look.tier)),
                    Ok(()) => continue,
                };
                let from = nodes.iter().filter_map(|n| done.sources.get(*n)).flatten();
                let sources = from.flat_map(|&i| graph.node(order[i]).sources.iter().cloned()).collect();
                out.insert(Missed { sources, rule: rule.name.clone(), tier, reason });
            }
        }
    }
    out
}

impl Findings {
    /// Add what was found in a region. The new graph rests on an application if its form was chosen, or if it took a node away.
    fn add(&mut self, graph: &Graph, order: &[NodeId], egraph: &Egraph, rules: &[&Rule], done: &Saturation, extraction: &Extraction) {
        for a in &done.applications {
            let Some(chosen) = extraction.chosen.get(&egraph.find(a.class)) else { continue };
            let rests = a.node.as_ref().is_none_or(|n| {
                let mut n = n.clone();
                n.children.iter_mut().for_each(|c| *c = egraph.find(*c));
                n == *chosen
            });
            if rests {
                let sources = a.sources.iter().flat_map(|&i| graph.node(order[i]).sources.iter().cloned()).collect();
                let rule = rules[a.rule];
                let (rule, place, text) = (rule.name.clone(), rule.place.to_string(), rule.text.clone());
                self.rewrites.push(Rewrite { rule, place, sources, text });
            }
        }
        self.limits.extend(&done.limits);
    }
}
