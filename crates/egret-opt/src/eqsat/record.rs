//! Records applications of rules in an e-graph as proof steps between concrete terms.
//! Every id that egg hands out was made for one node whose operands are older ids, so that an id is a term.
//! A match binds variables to such ids; the term of the whole left-hand side is rebuilt from them and the
//! matched nodes.

use super::egraph::{ENode, Egraph, Symbol};
use super::saturate::Application;
use crate::matching::{Bound, Match};
use crate::proof::{Proof, Step, TermStore, find, slice};
use crate::rules::{NodePattern, Pattern, Rule, Tier};
use egg::{Id, Language};
use egret_ir::{Attrs, Graph, NodeId, Op, Tensor, Type, ValueId};
use std::collections::{BTreeSet, HashMap};

/// A term of a region; operands by index, `None` for omitted ones.
#[derive(Clone, Debug)]
enum Term {
    Input(usize),
    Constant(usize),
    /// A result of an opaque node of the region.
    Opaque(usize, usize),
    Op(Op, Attrs, Vec<Option<usize>>, Type),
}

/// Steps between terms of a canonical region.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalProof {
    terms: Vec<Term>,
    /// Application, left-hand side, right-hand side.
    steps: Vec<(usize, usize, usize)>,
}

/// The steps of a saturation with [`super::saturate::Limits::evidence`]. `says`: which applications to
/// include, by index.
///
/// # Errors
/// Evidence that does not fit its rule: a bug.
pub(crate) fn local(
    egraph: &Egraph,
    rules: &[&Rule],
    applications: &[Application],
    says: impl Fn(usize) -> bool,
) -> Result<LocalProof, String> {
    let mut r = Recorder {
        egraph,
        out: LocalProof::default(),
        places: HashMap::new(),
        known: HashMap::new(),
        bound: HashMap::new(),
    };
    for (i, a) in applications.iter().enumerate().filter(|(i, _)| says(*i)) {
        let Some(evidence) = &a.evidence else { continue };
        let rule = rules[a.rule];
        let bug = || format!("the evidence of rule `{}` does not fit it", rule.name);
        let mut matched =
            evidence.nodes.iter().zip(&evidence.found.matched).map(|(n, &(_, _, swapped))| (n, swapped));
        let root = rule.lhs.as_node().ok_or_else(bug)?;
        r.bound.clear();
        let before = r.pattern(root, &evidence.found, &mut matched, a.class).ok_or_else(bug)?;
        let after = r.id(evidence.new).ok_or_else(bug)?;
        r.out.steps.push((i, before, after));
    }
    Ok(r.out)
}

struct Recorder<'a> {
    egraph: &'a Egraph,
    out: LocalProof,
    places: HashMap<Id, Option<usize>>,
    known: HashMap<(u32, Vec<Option<usize>>), usize>,
    /// The terms of the pattern's bound nodes: every occurrence of such a variable is the same term.
    bound: HashMap<usize, usize>,
}

type Matched<'a> = dyn Iterator<Item = (&'a ENode, bool)> + 'a;

impl Recorder<'_> {
    /// The term of an id; `None` for an omitted operand.
    fn id(&mut self, id: Id) -> Option<usize> {
        let mut stack = vec![id];
        while let Some(&top) = stack.last() {
            if self.places.contains_key(&top) {
                stack.pop();
                continue;
            }
            let node = self.egraph.id_to_node(top).clone();
            let open: Vec<Id> =
                node.children().iter().copied().filter(|c| !self.places.contains_key(c)).collect();
            if open.is_empty() {
                let operands = node.children().iter().map(|c| self.places[c]).collect();
                let term = self.term(node.symbol, operands, top);
                self.places.insert(top, term);
                stack.pop();
            } else {
                stack.extend(open.into_iter().rev());
            }
        }
        self.places[&id]
    }

    /// The term of a node on terms; `like`: an id of its class.
    fn term(&mut self, symbol: u32, operands: Vec<Option<usize>>, like: Id) -> Option<usize> {
        let egraph = self.egraph;
        let term = match egraph.analysis.symbols.get(symbol) {
            Symbol::Absent => return None,
            Symbol::Input(i) => Term::Input(*i),
            Symbol::Const(i) => Term::Constant(*i),
            Symbol::Opaque { node, .. } => Term::Opaque(*node, 0),
            Symbol::Project(k) => match self.out.terms.get((*operands.first()?)?)? {
                Term::Opaque(node, _) => Term::Opaque(*node, *k),
                _ => return None,
            },
            Symbol::Op { op, attrs } => {
                Term::Op(*op, attrs.clone(), operands.clone(), egraph[like].data.types.first()?.clone())
            }
        };
        let terms = &mut self.out.terms;
        Some(*self.known.entry((symbol, operands)).or_insert_with(|| {
            terms.push(term);
            terms.len() - 1
        }))
    }

    /// The instance of a node pattern. `matched` yields the matched nodes in the order of the pattern.
    fn pattern(
        &mut self,
        pattern: &NodePattern,
        found: &Match<Id>,
        matched: &mut Matched,
        class: Id,
    ) -> Option<usize> {
        let (node, swapped) = matched.next()?;
        let mut given: Vec<Id> = node.children().to_vec();
        if swapped {
            given.reverse();
        }
        let mut operands = vec![];
        for (i, &id) in given.iter().enumerate() {
            let arg = pattern
                .args
                .get(i)
                .or(pattern.args.last())
                .map(|p| if let Pattern::Each(inner) = p { inner } else { p });
            operands.push(match arg {
                Some(Pattern::Node(inner)) => Some(self.pattern(inner, found, matched, id)?),
                Some(Pattern::Value(v)) => match (self.bound.get(v), &found.values[*v]) {
                    (Some(&term), _) => Some(term),
                    (None, Some(Bound::One(bound))) => self.id(*bound),
                    (None, _) => self.id(id),
                },
                _ => self.id(id),
            });
        }
        if swapped {
            operands.reverse();
        }
        let term = self.term(node.symbol, operands, class)?;
        if let Some(v) = pattern.bind {
            self.bound.insert(v, term);
        }
        Some(term)
    }
}

/// Writes the proof of a pass, region by region.
pub(crate) struct Recording {
    store: TermStore,
    /// The terms of the values of the graph before the pass.
    terms: HashMap<ValueId, ValueId>,
    steps: Vec<Step>,
}

impl Recording {
    /// Starts the proof of a pass over a graph.
    pub fn new(before: &Graph) -> Recording {
        let mut store = TermStore::new(before);
        let terms = store.load(before);
        Recording { store, terms, steps: vec![] }
    }

    /// Adds the steps of a region. `nodes`, `inputs`, `constants`: the values behind its numbers; `about`:
    /// the rule and the ONNX nodes of an application.
    ///
    /// # Errors
    /// A number that the region does not have: a bug.
    pub fn add<'r>(
        &mut self,
        local: &LocalProof,
        before: &Graph,
        nodes: &[NodeId],
        inputs: &[ValueId],
        constants: &[Tensor],
        about: impl Fn(usize) -> (&'r Rule, BTreeSet<String>),
    ) -> Result<(), String> {
        let mut values: Vec<ValueId> = Vec::with_capacity(local.terms.len());
        for term in &local.terms {
            let value = match term {
                Term::Input(i) => inputs.get(*i).and_then(|v| self.term(before, *v)),
                Term::Constant(i) => constants.get(*i).map(|t| self.store.constant(t.clone())),
                Term::Opaque(node, k) => nodes
                    .get(*node)
                    .and_then(|n| before.node(*n).results.get(*k))
                    .and_then(|v| self.term(before, *v)),
                Term::Op(op, attrs, operands, ty) => {
                    let operands = operands.iter().map(|o| o.map(|o| values[o])).collect();
                    Some(self.store.term(*op, attrs.clone(), operands, ty.clone()))
                }
            };
            values.push(value.ok_or("a proof speaks of a value that its region lacks")?);
        }
        for &(i, before, after) in &local.steps {
            let (rule, sources) = about(i);
            let (rule, place) = (rule.name.clone(), rule.place.to_string());
            self.steps.push(Step { rule, place, sources, before: values[before], after: values[after] });
        }
        Ok(())
    }

    fn term(&mut self, before: &Graph, v: ValueId) -> Option<ValueId> {
        match before.as_const(v) {
            Some(t) => Some(self.store.constant(t.clone())),
            None => self.terms.get(&v).copied(),
        }
    }

    /// The proof, reduced to the steps that are needed.
    ///
    /// # Errors
    /// The steps do not prove that the new graph equals the old one: a bug.
    pub fn finish(
        mut self,
        pass: &str,
        before: &Graph,
        after: &Graph,
        rules: &[&Rule],
        tier: Tier,
    ) -> Result<Proof, String> {
        let new = self.store.load(after);
        // Equalities first: none may rest on an approximation.
        let is_approximate = |s: &Step| find(rules, &s.rule).is_some_and(|r| !r.tier.is_equality());
        self.steps.sort_by_key(is_approximate);
        let ends =
            |of: &Graph, terms: &HashMap<ValueId, ValueId>| of.outputs().iter().map(|v| terms[v]).collect();
        let ends = (ends(before, &self.terms), ends(after, &new));
        let proof = Proof::seal(pass, false, self.store.graph, ends, self.steps);
        slice(proof, rules, tier)
            .map_err(|f| format!("{f}: the proof of this pass is wrong (a bug of Egret)"))
    }
}
