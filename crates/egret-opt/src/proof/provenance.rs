//! What each new node came from: the steps of a proof that made it, and the old nodes whose work it does.
//!
//! Steps are those of the proof's slice, so that what is named is what happened. A node that only has other operands than before
//! is the old one; a value that both graphs have bounds what belongs to a node.

use super::congruence::CongruenceClosure;
use super::{Proof, TermStore};
use crate::analysis::attrs_key;
use egret_ir::{Def, Graph, NodeId, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A node that a pass made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The node, of the graph after the pass.
    pub node: NodeId,
    /// The steps that lead to it, by their places in the proof.
    pub steps: BTreeSet<usize>,
    /// The nodes of the graph before the pass whose work it does.
    pub replaced: BTreeSet<NodeId>,
    /// Nodes of the graph after the pass that were made for it only, its operands among them.
    pub helpers: Vec<NodeId>,
}

/// What a pass did to nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Nodes that are new, in topological order.
    pub made: Vec<Made>,
    /// Nodes of the graph before the pass that have none in their place.
    pub gone: Vec<NodeId>,
}

/// Tell what a pass made of what. `before` and `after` are the graphs that the proof is about.
///
/// # Errors
/// A proof whose terms do not fit.
pub fn provenance(proof: &Proof, before: &Graph, after: &Graph) -> Result<Provenance, String> {
    let classes = Classes::of(proof)?;
    let old = terms_of(before, &proof.before, &proof.terms);
    let new = terms_of(after, &proof.after, &proof.terms);
    let first = |graph: &Graph, terms: &HashMap<ValueId, ValueId>, n: NodeId| {
        graph.node(n).results.first().and_then(|v| terms.get(v)).copied()
    };
    let signatures = |graph: &Graph, terms: &HashMap<ValueId, ValueId>| -> BTreeMap<NodeId, Signature> {
        let ids = graph.node_ids();
        let of = |n: NodeId| Some((n, classes.signature(proof.terms.producer(first(graph, terms, n)?)?)));
        ids.into_iter().filter_map(of).collect()
    };
    let (old_signs, new_signs) = (signatures(before, &old), signatures(after, &new));
    let known: HashSet<&Signature> = old_signs.values().collect();
    let still: HashSet<&Signature> = new_signs.values().collect();
    let mut left: HashMap<ValueId, Vec<NodeId>> = HashMap::new();
    for (&n, _) in old_signs.iter().filter(|(_, sign)| !still.contains(sign)) {
        if let Some(t) = first(before, &old, n) {
            left.entry(classes.find(t)).or_default().push(n);
        }
    }
    let survives: HashSet<ValueId> = new.values().map(|&t| classes.find(t)).collect();
    let mut steps_of: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (i, s) in proof.steps.iter().enumerate() {
        steps_of.entry(classes.find(s.before)).or_default().push(i);
    }
    let mut out = Provenance::default();
    // A class is told of once, with the first node that it leads to: the walk takes as long as the proof has terms.
    let mut claimed = HashSet::new();
    let order = after.topological().unwrap_or_default();
    for &node in order.iter().filter(|n| new_signs.get(n).is_some_and(|s| !known.contains(s))) {
        let Some(term) = first(after, &new, node) else { continue };
        let mut made = Made { node, steps: BTreeSet::new(), replaced: BTreeSet::new(), helpers: vec![] };
        let mut work = vec![classes.find(term)];
        while let Some(class) = work.pop() {
            made.replaced.extend(left.remove(&class).unwrap_or_default());
            for &i in steps_of.get(&class).map_or(&[][..], Vec::as_slice) {
                made.steps.insert(i);
                // What stands between the sides of a step and the values that both graphs have belongs to it.
                let mut inside = vec![proof.steps[i].before, proof.steps[i].after];
                while let Some(t) = inside.pop() {
                    let operands = proof.terms.producer(t).map(|n| &proof.terms.node(n).operands);
                    for &o in operands.into_iter().flatten().flatten() {
                        let class = classes.find(o);
                        if !survives.contains(&class) && claimed.insert(class) {
                            work.push(class);
                            inside.push(o);
                        }
                    }
                }
            }
        }
        out.made.push(made);
    }
    attach_helpers(after, &mut out.made);
    out.gone = left.into_values().flatten().collect();
    out.gone.sort_unstable();
    Ok(out)
}

/// Nodes that replace nothing are there for the new ones that use them.
fn attach_helpers(graph: &Graph, made: &mut Vec<Made>) {
    let mut place: HashMap<NodeId, usize> = made.iter().enumerate().map(|(i, m)| (m.node, i)).collect();
    for i in (0..made.len()).rev() {
        if !made[i].replaced.is_empty() {
            continue;
        }
        let users = graph.node(made[i].node).results.iter().flat_map(|&v| graph.users(v));
        let user = users.filter_map(|n| place.get(&n).copied()).min();
        if let Some(user) = user.filter(|&u| u != i) {
            let (node, steps) = (made[i].node, std::mem::take(&mut made[i].steps));
            let helpers = std::mem::take(&mut made[i].helpers);
            place.extend(helpers.iter().chain([&node]).map(|&n| (n, user)));
            made[user].helpers.push(node);
            made[user].helpers.extend(helpers);
            made[user].steps.extend(steps);
        }
    }
    let helpers: BTreeSet<NodeId> = made.iter().flat_map(|m| m.helpers.iter().copied()).collect();
    made.retain(|m| !helpers.contains(&m.node));
}

/// The term of each value that outputs are computed from.
fn terms_of(graph: &Graph, ends: &[ValueId], terms: &Graph) -> HashMap<ValueId, ValueId> {
    let mut out = HashMap::new();
    let mut work: Vec<(ValueId, ValueId)> =
        graph.outputs().iter().copied().zip(ends.iter().copied()).collect();
    while let Some((v, t)) = work.pop() {
        if out.insert(v, t).is_some() {
            continue;
        }
        if let (Def::Node(n, _), Def::Node(m, _)) = (&graph.value(v).def, &terms.value(t).def) {
            let (n, m) = (graph.node(*n), terms.node(*m));
            let operands = n.operands.iter().zip(&m.operands).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
            work.extend(operands.chain(n.results.iter().copied().zip(m.results.iter().copied())));
        }
    }
    out
}

/// What a node is: its operation with attributes and sub-graphs, and the classes of its operands.
type Signature = (String, Vec<Option<ValueId>>);

/// Terms in classes: those that steps say are equal, those that follow by congruence, and constants with what evaluates to them.
struct Classes<'p> {
    terms: &'p Graph,
    closure: CongruenceClosure,
    heads: HashMap<NodeId, String>,
}

impl Classes<'_> {
    fn of(proof: &Proof) -> Result<Classes<'_>, String> {
        let terms = &proof.terms;
        let head = |id: NodeId| {
            let node = terms.node(id);
            let mut head = attrs_key(node.op, &node.attrs);
            node.regions.iter().for_each(|r| head.push_str(&r.to_string()));
            if node.op.is_random() {
                head.push_str(&format!(" {id}"));
            }
            (id, head)
        };
        let heads = terms.node_ids().into_iter().map(head).collect();
        let mut closure = CongruenceClosure::new(TermStore::of(terms.clone()), proof.deep)?;
        for (i, s) in proof.steps.iter().enumerate() {
            // Whoever checks the proof has seen that they are equal: here it is only asked what belongs together.
            closure.approximate(s.before, s.after, i)?;
        }
        closure.evaluate_all()?;
        Ok(Classes { terms, closure, heads })
    }

    fn find(&self, v: ValueId) -> ValueId {
        self.closure.find(v)
    }

    fn signature(&self, id: NodeId) -> Signature {
        let operands = self.terms.node(id).operands.iter().map(|o| o.map(|o| self.find(o))).collect();
        (self.heads.get(&id).cloned().unwrap_or_default(), operands)
    }
}
