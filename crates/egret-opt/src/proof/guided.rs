//! Guided rewriting: the code of a pass says where rules are applied, and the rules make what comes there. What they
//! were applied to is the proof.
//!
//! Terms stand over two graphs: values of the one before the pass, values of the one that the pass builds, and terms
//! that rules or the pass made of these. A term that is built becomes a value of the graph after.

use super::congruence::CongruenceClosure;
use super::{Proof, Step, TermStore};
use crate::analysis::{Facts, foldable, scalar};
use crate::matching::{Sink, TermNode, Terms, all_guards_hold, instantiate, matches};
use crate::rules::{OpPattern, Pattern, Rule};
use egret_ir::{Attrs, DType, Def, Graph, Node, NodeId, Op, Tensor, Type, ValueId, infer};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, HashMap};

/// The most matches of a rule at one term.
const INSTANCES: usize = 16;

/// A term.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TermId(u32);

/// An omitted operand.
const ABSENT: TermId = TermId(u32::MAX);

/// An operation on terms.
#[derive(Clone, Debug)]
pub(crate) struct Application {
    pub op: Op,
    pub attrs: Attrs,
    operands: Vec<TermId>,
}

impl Application {
    /// The operands; `None`: omitted.
    pub fn operands(&self) -> Vec<Option<TermId>> {
        self.operands.iter().map(|&o| (o != ABSENT).then_some(o)).collect()
    }
}

/// Where a term comes from.
#[derive(Clone, Debug)]
enum Origin {
    Before(ValueId),
    After(ValueId),
    Constant(Tensor),
    Made,
}

struct Term {
    origin: Origin,
    /// The value of the graph after that a made term was built as.
    built: Option<ValueId>,
    application: Option<Application>,
    facts: Facts,
}

/// That a rule makes two terms equal.
#[derive(Copy, Clone)]
struct Applied<'a> {
    rule: &'a Rule,
    node: Option<NodeId>,
    before: TermId,
    after: TermId,
}

/// A rewriting in progress.
#[derive(Default)]
pub(crate) struct Guided<'a> {
    terms: Vec<Term>,
    before: FxHashMap<ValueId, TermId>,
    applied: Vec<Applied<'a>>,
    /// The node of the graph before that is being rewritten; applications are on its account.
    node: Option<NodeId>,
    nothing: Facts,
}

impl<'a> Guided<'a> {
    fn push(&mut self, origin: Origin, application: Option<Application>, facts: Facts) -> TermId {
        self.terms.push(Term { origin, built: None, application, facts });
        TermId(self.terms.len() as u32 - 1)
    }

    fn term(&self, t: TermId) -> &Term {
        &self.terms[t.0 as usize]
    }

    /// Begins with a node of the graph before, whose operands are terms already or no results of nodes.
    pub fn begin(&mut self, graph: &Graph, id: NodeId) {
        self.node = Some(id);
        let node = graph.node(id);
        let operands: Vec<_> = node.operands.iter().map(|v| v.map(|v| self.of_before(graph, v))).collect();
        for &v in &node.results {
            let term = self.push(Origin::Before(v), open(node, operands_of(&operands)), facts(graph, v));
            self.before.insert(v, term);
        }
    }

    /// The term of a value of the graph before.
    pub fn of_before(&mut self, graph: &Graph, v: ValueId) -> TermId {
        match self.before.get(&v) {
            Some(&t) => t,
            None => {
                let t = self.push(Origin::Before(v), None, facts(graph, v));
                self.before.insert(v, t);
                t
            }
        }
    }

    /// The term of a value of the graph after that is no result of a node.
    pub fn leaf_after(&mut self, graph: &Graph, v: ValueId) -> TermId {
        self.push(Origin::After(v), None, facts(graph, v))
    }

    /// The terms of the results of a node of the graph after.
    pub fn results_after(
        &mut self,
        graph: &Graph,
        node: &Node,
        operands: &[Option<TermId>],
        results: &[ValueId],
    ) -> Vec<TermId> {
        let mut term = |&v| self.push(Origin::After(v), open(node, operands_of(operands)), facts(graph, v));
        results.iter().map(&mut term).collect()
    }

    /// The value of the graph before that a term is.
    pub fn value_before(&self, t: TermId) -> Option<ValueId> {
        match self.term(t).origin {
            Origin::Before(v) => Some(v),
            _ => None,
        }
    }

    /// The value of the graph after that a term is, or was built as.
    pub fn value_after(&self, t: TermId) -> Option<ValueId> {
        match self.term(t).origin {
            Origin::After(v) => Some(v),
            _ => self.term(t).built,
        }
    }

    /// Says as which value of the graph after a made term was built.
    pub fn set_built(&mut self, t: TermId, v: ValueId) {
        self.terms[t.0 as usize].built = Some(v);
    }

    /// A constant that a rule made.
    pub fn made_constant(&self, t: TermId) -> Option<&Tensor> {
        match &self.term(t).origin {
            Origin::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The operation that makes a term, unless rules do not look into it.
    pub fn application(&self, t: TermId) -> Option<&Application> {
        self.term(t).application.as_ref()
    }

    /// A point to go back to.
    pub fn mark(&self) -> usize {
        self.applied.len()
    }

    /// Forgets what was applied since a point.
    pub fn forget_since(&mut self, mark: usize) {
        self.applied.truncate(mark);
    }

    /// The rule that was applied last.
    pub fn last_rule(&self) -> Option<&'a Rule> {
        self.applied.last().map(|a| a.rule)
    }

    /// Applies the first of some rules that fits a term and looks at `depth` operations at least; returns it and what it makes.
    pub fn apply(&mut self, rules: &[&'a Rule], at: TermId, depth: usize) -> Option<(&'a Rule, TermId)> {
        for &rule in rules.iter().filter(|r| self.may_match(&r.lhs, at)).collect::<Vec<_>>() {
            for found in matches(rule, self, at, INSTANCES) {
                if found.matched.len() < depth || !all_guards_hold(rule, self, &found) {
                    continue;
                }
                let Ok(after) = instantiate(rule, self, &found) else { continue };
                self.applied.push(Applied { rule, node: self.node, before: at, after });
                return Some((rule, after));
            }
        }
        None
    }

    /// Whether the operations of a pattern are there, as far as that is seen at once.
    fn may_match(&self, pattern: &Pattern, at: TermId) -> bool {
        let Pattern::Node(node) = pattern else { return true };
        let Some(a) = (at != ABSENT).then(|| self.application(at)).flatten() else { return false };
        let fits = match &node.op {
            OpPattern::One(op) => *op == a.op,
            OpPattern::Any(group, _) => group.is_none_or(|g| g.holds(a.op)),
        };
        // Behind a list, or where operands may be exchanged, an operand has no fixed place.
        let placed = node.args.iter().take_while(|p| !matches!(p, Pattern::Each(_)));
        fits && (a.op.is_commutative() || placed.zip(&a.operands).all(|(p, &o)| self.may_match(p, o)))
    }

    /// Applies rules at a term as long as one fits, or until it is a value of a graph.
    pub fn simplified(&mut self, mut at: TermId, rules: &[&'a Rule]) -> TermId {
        while self.value_before(at).is_none() && self.value_after(at).is_none() {
            match self.apply(rules, at, 1) {
                Some((_, after)) => at = after,
                None => break,
            }
        }
        at
    }

    /// The terms that applications are about, each after those that it was made of.
    fn said(&self) -> BTreeSet<TermId> {
        let mut work: Vec<TermId> = self.applied.iter().flat_map(|a| [a.before, a.after]).collect();
        let mut said = BTreeSet::new();
        while let Some(t) = work.pop() {
            if said.insert(t) && matches!(self.term(t).origin, Origin::Made) {
                let application = self.application(t);
                work.extend(application.into_iter().flat_map(Application::operands).flatten());
            }
        }
        said
    }

    /// Why the graph after equals the one before: that the rules were applied.
    ///
    /// # Errors
    /// The steps do not prove that the graphs are equal: a bug of the pass.
    pub fn proof(&self, pass: &str, before: &Graph, after: &Graph) -> Result<Proof, String> {
        let mut store = TermStore::new(before);
        let (old, new) = (loaded(&mut store, before), loaded(&mut store, after));
        let mut closure = CongruenceClosure::new(store, false)?;
        let mut terms: HashMap<TermId, ValueId> = HashMap::new();
        for t in self.said() {
            let value = match (&self.term(t).origin, self.application(t)) {
                (Origin::Before(v), _) => old[v],
                (Origin::After(v), _) => new[v],
                (Origin::Constant(c), _) => closure.known_constant(c.clone()),
                (Origin::Made, Some(a)) => {
                    let operands: Vec<_> = a.operands().iter().map(|o| o.map(|o| terms[&o])).collect();
                    closure.add_node(a.op, a.attrs.clone(), &operands)?
                }
                (Origin::Made, None) => return Err("a term was made of nothing".into()),
            };
            terms.insert(t, value);
        }
        let term = |t: TermId| terms[&t];
        for (i, a) in self.applied.iter().enumerate() {
            closure.equal(term(a.before), term(a.after), i)?;
        }
        let ends = |of: &Graph, terms: &HashMap<ValueId, ValueId>| {
            of.outputs().iter().map(|v| terms[v]).collect::<Vec<_>>()
        };
        let ends = (ends(before, &old), ends(after, &new));
        let apart =
            |c: &CongruenceClosure| ends.0.iter().zip(&ends.1).position(|(&a, &b)| c.find(a) != c.find(b));
        if apart(&closure).is_some() {
            closure.evaluate_all()?;
        }
        if let Some(i) = apart(&closure) {
            return Err(format!(
                "the rules that were applied do not make output {i} the same before and after"
            ));
        }
        let used: BTreeSet<usize> =
            ends.0.iter().zip(&ends.1).flat_map(|(&a, &b)| closure.explain(a, b)).collect();
        let step = |a: &Applied| Step {
            rule: a.rule.name.clone(),
            place: a.rule.place.to_string(),
            sources: a.node.map(|n| before.node(n).sources.clone()).unwrap_or_default(),
            before: term(a.before),
            after: term(a.after),
        };
        let steps = used.into_iter().map(|i| step(&self.applied[i])).collect();
        Ok(Proof::seal(pass, false, closure.store.graph, ends, steps))
    }
}

/// The terms of all values of a graph; also of constants without users, e.g. one from which another was folded.
fn loaded(store: &mut TermStore, of: &Graph) -> HashMap<ValueId, ValueId> {
    let mut terms = store.load(of);
    for v in of.value_ids() {
        if let Some(t) = of.as_const(v) {
            terms.entry(v).or_insert_with(|| store.constant(t.clone()));
        }
    }
    terms
}

/// What is known of a value at once: its type, and whether it is a constant.
fn facts(graph: &Graph, v: ValueId) -> Facts {
    let constant = matches!(graph.value(v).def, Def::Const(_));
    Facts { constant, ..Facts::of(graph.ty(v).clone()) }
}

fn operands_of(operands: &[Option<TermId>]) -> Vec<TermId> {
    operands.iter().map(|o| o.unwrap_or(ABSENT)).collect()
}

/// A node as rules see it: those with one result and no sub-graphs that declare no symbols.
fn open(node: &Node, operands: Vec<TermId>) -> Option<Application> {
    let open = foldable(node.op) && node.results.len() == 1 && node.attrs.declared().is_empty();
    open.then(|| Application { op: node.op, attrs: node.attrs.clone(), operands })
}

impl Terms for Guided<'_> {
    type Id = TermId;

    fn facts(&self, id: TermId) -> &Facts {
        if id == ABSENT { &self.nothing } else { &self.term(id).facts }
    }

    fn nodes(&self, id: TermId) -> impl Iterator<Item = TermNode<'_, TermId>> {
        let application = (id != ABSENT).then(|| self.application(id)).flatten();
        let node = application.map(|a| TermNode {
            key: id.0 as usize,
            op: a.op,
            attrs: &a.attrs,
            operands: &a.operands,
        });
        node.into_iter()
    }

    fn is_absent(&self, id: TermId) -> bool {
        id == ABSENT
    }
}

impl Sink for Guided<'_> {
    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<TermId>]) -> Result<TermId, String> {
        // A rule binds omitted operands, too.
        let operands: Vec<Option<TermId>> = operands.iter().map(|o| o.filter(|&o| o != ABSENT)).collect();
        let types: Vec<Option<&Type>> =
            operands.iter().map(|o| o.and_then(|o| self.term(o).facts.types.first())).collect();
        let ty =
            infer::infer(op, &attrs, &types, &[])?.into_iter().next().ok_or("a node without a result")?;
        let constant = foldable(op) && operands.iter().flatten().all(|&o| self.term(o).facts.constant);
        let operands = operands_of(&operands);
        let facts = Facts { constant, ..Facts::of(ty) };
        Ok(self.push(Origin::Made, Some(Application { op, attrs, operands }), facts))
    }

    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<TermId, String> {
        let tensor = scalar(value, dtype)?;
        let facts = Facts::constant(&tensor, false);
        Ok(self.push(Origin::Constant(tensor), None, facts))
    }
}
