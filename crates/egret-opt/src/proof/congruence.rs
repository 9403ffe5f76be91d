//! Congruence closure: what follows from proof steps, and from which of them.
//!
//!
//! The classes are a union-find; beside it a forest of proof edges (Nieuwenhuis and Oliveras, "Proof-producing congruence
//! closure", 2005) remembers why two values became one class.

use super::term_store::TermStore;
use crate::analysis::{Facts, attrs_key, foldable, op_facts, scalar};
use crate::matching::{Sink, TermNode, Terms};
use egret_ir::{Attrs, DType, Def, NodeId, Op, Tensor, Type, ValueId, infer, interp};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// An omitted operand.
pub(crate) const ABSENT: ValueId = ValueId(u32::MAX);

/// Why two values are equal.
#[derive(Copy, Clone, Debug)]
enum Reason {
    /// A step says so.
    Step(usize),
    /// They are the same result of equal operations on equal operands.
    Congruence(ValueId, ValueId),
    /// Constant evaluation: the operands of this value equal constants.
    Evaluation(ValueId),
}

/// Identifies a value up to congruence: operation, attributes and sub-graphs; index of the result; classes
/// of the operands.
type Signature = (String, usize, Vec<ValueId>);

/// Classes of equal values, with facts and reasons.
pub(crate) struct CongruenceClosure {
    pub store: TermStore,
    deep: bool,
    operands: HashMap<NodeId, Vec<ValueId>>,
    heads: HashMap<NodeId, String>,
    parent: Vec<ValueId>,
    size: Vec<u32>,
    facts: Vec<Facts>,
    /// The nodes that use each class.
    users: Vec<Vec<NodeId>>,
    constants: Vec<Option<ValueId>>,
    signatures: HashMap<Signature, ValueId>,
    /// The proof forest: for each value its parent, and why the two are equal.
    edge: Vec<Option<(ValueId, Reason)>>,
    nothing: Facts,
    /// Whether a class holds an approximation. From then on classes learn no facts.
    is_approximate: bool,
}

impl CongruenceClosure {
    /// Starts with the terms of a store: equal are only congruent ones and those that evaluate to equal
    /// constants.
    ///
    /// # Errors
    /// A node whose operands do not fit it.
    pub fn new(store: TermStore, deep: bool) -> Result<CongruenceClosure, String> {
        let mut closure = CongruenceClosure {
            store,
            deep,
            operands: HashMap::new(),
            heads: HashMap::new(),
            parent: vec![],
            size: vec![],
            facts: vec![],
            users: vec![],
            constants: vec![],
            signatures: HashMap::new(),
            edge: vec![],
            nothing: Facts::default(),
            is_approximate: false,
        };
        closure.take_new()?;
        Ok(closure)
    }

    /// The class of a value.
    pub fn find(&self, mut v: ValueId) -> ValueId {
        if v == ABSENT {
            return v;
        }
        while self.parent[v.0 as usize] != v {
            v = self.parent[v.0 as usize];
        }
        v
    }

    /// The constant that a value is known to be.
    pub fn constant(&self, v: ValueId) -> Option<&Tensor> {
        self.store.graph.as_const(self.constants[self.find(v).0 as usize]?)
    }

    /// Adds the store's new terms.
    fn take_new(&mut self) -> Result<(), String> {
        let mut joins = VecDeque::new();
        let from = self.parent.len();
        // New values come after their operands, except in a store that was read from text.
        let mut new: Vec<ValueId> =
            (from..self.store.graph.value_count()).map(|i| ValueId(i as u32)).collect();
        for &v in &new {
            self.parent.push(v);
            self.size.push(1);
            self.facts.push(Facts::default());
            self.users.push(vec![]);
            self.constants.push(None);
            self.edge.push(None);
        }
        if from == 0 {
            let ids = self.store.graph.topological().map_err(|n| format!("{n} depends on itself"))?;
            let is_leaf = |v: &ValueId| !matches!(self.store.graph.value(*v).def, Def::Node(..));
            let leaves: Vec<ValueId> = new.iter().copied().filter(is_leaf).collect();
            new = leaves
                .into_iter()
                .chain(ids.iter().flat_map(|&n| self.store.graph.node(n).results.clone()))
                .collect();
        }
        for v in new {
            self.take(v, &mut joins)?;
        }
        self.join(joins)
    }

    fn take(&mut self, v: ValueId, joins: &mut VecDeque<(ValueId, ValueId, Reason)>) -> Result<(), String> {
        let i = v.0 as usize;
        match self.store.graph.value(v).def.clone() {
            Def::Input(_) => self.facts[i] = Facts::of(self.store.graph.ty(v).clone()),
            Def::Const(t) => {
                self.facts[i] = Facts::constant(&t, self.deep);
                self.constants[i] = Some(v);
            }
            Def::Node(id, result) => {
                if result == 0 {
                    let node = self.store.graph.node(id);
                    let operands: Vec<ValueId> =
                        node.operands.iter().map(|o| o.unwrap_or(ABSENT)).collect();
                    for o in operands.iter().filter(|o| **o != ABSENT) {
                        let class = self.find(*o).0 as usize;
                        self.users[class].push(id);
                    }
                    let mut head = attrs_key(node.op, &node.attrs);
                    node.regions.iter().for_each(|r| head.push_str(&r.to_string()));
                    if node.op.is_random() {
                        head.push_str(&format!(" {id}"));
                    }
                    self.operands.insert(id, operands);
                    self.heads.insert(id, head);
                }
                self.facts[i] = self.node_facts(id, result)?;
                self.sign(id, result, joins);
                self.evaluate_small(v, joins);
            }
        }
        Ok(())
    }

    fn sign(&mut self, id: NodeId, result: usize, joins: &mut VecDeque<(ValueId, ValueId, Reason)>) {
        let v = self.store.graph.node(id).results[result];
        let operands = self.operands[&id].iter().map(|&o| self.find(o)).collect();
        match self.signatures.entry((self.heads[&id].clone(), result, operands)) {
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(v);
            }
            std::collections::hash_map::Entry::Occupied(e) => {
                let other = *e.get();
                if self.find(other) != self.find(v) {
                    joins.push_back((v, other, Reason::Congruence(v, other)));
                }
            }
        }
    }

    fn node_facts(&self, id: NodeId, result: usize) -> Result<Facts, String> {
        let node = self.store.graph.node(id);
        let ty = self.store.graph.ty(node.results[result]);
        if !foldable(node.op) || node.results.len() != 1 {
            return Ok(Facts::of(ty.clone()));
        }
        let children: Vec<&Facts> = self.operands[&id].iter().map(|&o| self.facts(o)).collect();
        match op_facts(node.op, &node.attrs, &children, self.deep) {
            Ok(facts) if facts.types.first() == Some(ty) => Ok(facts),
            // If inference gives another type, the model's own counts.
            Ok(_) => Ok(Facts::of(ty.clone())),
            Err(e) => Err(e),
        }
    }

    /// A value whose facts have its elements equals that constant.
    fn evaluate_small(&mut self, v: ValueId, joins: &mut VecDeque<(ValueId, ValueId, Reason)>) {
        let class = self.find(v).0 as usize;
        if self.constants[class].is_none()
            && let Some(value) = self.facts[class].value.clone()
        {
            let c = self.known_constant(value);
            joins.push_back((v, c, Reason::Evaluation(v)));
        }
    }

    /// The value of a constant; adds it if it is new.
    pub fn known_constant(&mut self, tensor: Tensor) -> ValueId {
        let c = self.store.constant(tensor.clone());
        if self.parent.len() <= c.0 as usize {
            self.parent.push(c);
            self.size.push(1);
            self.facts.push(Facts::constant(&tensor, self.deep));
            self.users.push(vec![]);
            self.constants.push(Some(c));
            self.edge.push(None);
        }
        c
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: &str, ty: Type) -> ValueId {
        let v = self.store.graph.add_input(name, ty.clone());
        self.parent.push(v);
        self.size.push(1);
        self.facts.push(Facts::of(ty));
        self.users.push(vec![]);
        self.constants.push(None);
        self.edge.push(None);
        v
    }

    /// Evaluates all terms of constants, whatever their size.
    pub fn evaluate_all(&mut self) -> Result<(), String> {
        self.evaluate_up_to(usize::MAX)
    }

    /// Evaluates the terms of constants whose results have at most this many bytes.
    pub fn evaluate_up_to(&mut self, limit: usize) -> Result<(), String> {
        let ids = self.store.graph.topological().map_err(|n| format!("{n} depends on itself"))?;
        for id in ids {
            let node = self.store.graph.node(id);
            if !foldable(node.op) || node.results.len() != 1 || self.constant(node.results[0]).is_some() {
                continue;
            }
            let ty = self.store.graph.ty(node.results[0]).as_tensor();
            let bytes = ty.and_then(|t| t.const_len()?.checked_mul(t.dtype.size()));
            if bytes.is_none_or(|b| b > limit) && limit < usize::MAX {
                continue;
            }
            let value = |&o: &ValueId| match o {
                ABSENT => Some(None),
                o => self.constant(o).map(|t| Some(t.clone().into())),
            };
            let Some(operands) = self.operands[&id].iter().map(value).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let (v, result) = (node.results[0], interp::eval_op(node.op, &node.attrs, &operands, &[]));
            if let Some(t) = result.ok().and_then(|r| r.first()?.as_tensor().cloned()) {
                let c = self.known_constant(t);
                self.join(VecDeque::from([(v, c, Reason::Evaluation(v))]))?;
            }
        }
        Ok(())
    }

    /// Makes the two sides of a step equal.
    ///
    /// # Errors
    /// They cannot be: their types or constants differ.
    pub fn equal(&mut self, a: ValueId, b: ValueId, step: usize) -> Result<(), String> {
        self.join(VecDeque::from([(a, b, Reason::Step(step))]))
    }

    /// Puts the two sides of an approximate step into one class. Everything after it may rest on the
    /// approximation, so that equalities have to come first.
    ///
    /// # Errors
    /// Their types differ.
    pub fn approximate(&mut self, a: ValueId, b: ValueId, step: usize) -> Result<(), String> {
        if self.facts(a).types != self.facts(b).types {
            return Err("the sides have different types".into());
        }
        self.is_approximate = true;
        self.join(VecDeque::from([(a, b, Reason::Step(step))]))
    }

    /// Whether [`CongruenceClosure::approximate`] has been called.
    pub fn is_approximate(&self) -> bool {
        self.is_approximate
    }

    fn join(&mut self, mut joins: VecDeque<(ValueId, ValueId, Reason)>) -> Result<(), String> {
        while let Some((a, b, reason)) = joins.pop_front() {
            let (mut into, mut from) = (self.find(a), self.find(b));
            if into == from {
                continue;
            }
            self.connect(a, b, reason);
            if self.size[into.0 as usize] < self.size[from.0 as usize] {
                std::mem::swap(&mut into, &mut from);
            }
            let (i, f) = (into.0 as usize, from.0 as usize);
            self.parent[f] = into;
            self.size[i] += self.size[f];
            let theirs = std::mem::take(&mut self.facts[f]);
            let (mine, theirs) = if self.is_approximate {
                (false, false)
            } else {
                self.facts[i].merge(theirs).map_err(|e| e.0)?
            };
            if self.constants[i].is_none() {
                self.constants[i] = self.constants[f];
            }
            let moved = std::mem::take(&mut self.users[f]);
            // Users of the absorbed class have a new signature; users of both may learn facts.
            for &id in &moved {
                (0..self.store.graph.node(id).results.len()).for_each(|k| self.sign(id, k, &mut joins));
            }
            self.users[i].extend(moved);
            self.evaluate_small(into, &mut joins);
            if mine || theirs {
                self.propagate_facts(into, &mut joins)?;
            }
        }
        Ok(())
    }

    /// Propagates facts to the users of a class.
    fn propagate_facts(
        &mut self,
        class: ValueId,
        joins: &mut VecDeque<(ValueId, ValueId, Reason)>,
    ) -> Result<(), String> {
        let mut work = vec![class];
        while let Some(class) = work.pop() {
            for id in self.users[class.0 as usize].clone() {
                let Ok(facts) = self.node_facts(id, 0) else { continue };
                if self.store.graph.node(id).results.len() != 1 {
                    continue;
                }
                let v = self.store.graph.node(id).results[0];
                let of = self.find(v);
                let (learnt, _) = self.facts[of.0 as usize].merge(facts).map_err(|e| e.0)?;
                if learnt {
                    self.evaluate_small(v, joins);
                    work.push(of);
                }
            }
        }
        Ok(())
    }

    /// Adds an edge between two trees of the forest: re-roots the tree of `a` at `a`, and hangs it below
    /// `b`.
    fn connect(&mut self, a: ValueId, b: ValueId, reason: Reason) {
        let (mut at, mut next) = (a, Some((b, reason)));
        while let Some(edge) = next {
            let old = self.edge[at.0 as usize].replace(edge);
            next = old.map(|(to, why)| {
                let back = (at, why);
                at = to;
                back
            });
        }
    }

    /// The steps that prove two values equal.
    pub fn explain(&self, a: ValueId, b: ValueId) -> BTreeSet<usize> {
        let (mut steps, mut done) = (BTreeSet::new(), BTreeSet::new());
        let mut work = vec![(a, b)];
        while let Some((a, b)) = work.pop() {
            if a == b || a == ABSENT || !done.insert((a.min(b), a.max(b))) {
                continue;
            }
            for reason in self.path(a, b) {
                match reason {
                    Reason::Step(i) => {
                        steps.insert(i);
                    }
                    Reason::Congruence(x, y) => work.extend(self.operand_pairs(x, y)),
                    Reason::Evaluation(v) => {
                        for &o in self.producer_operands(v) {
                            if let Some(c) =
                                (o != ABSENT).then(|| self.constants[self.find(o).0 as usize]).flatten()
                            {
                                work.push((o, c));
                            }
                        }
                    }
                }
            }
        }
        steps
    }

    fn producer_operands(&self, v: ValueId) -> &[ValueId] {
        self.store.graph.producer(v).and_then(|n| self.operands.get(&n)).map_or(&[], Vec::as_slice)
    }

    fn operand_pairs(&self, x: ValueId, y: ValueId) -> Vec<(ValueId, ValueId)> {
        self.producer_operands(x).iter().copied().zip(self.producer_operands(y).iter().copied()).collect()
    }

    /// The reasons on the path between two values in the forest.
    fn path(&self, a: ValueId, b: ValueId) -> Vec<Reason> {
        let up = |mut v: ValueId| {
            let mut way = vec![(v, None)];
            while let Some((to, why)) = self.edge[v.0 as usize] {
                way.push((to, Some(why)));
                v = to;
            }
            way
        };
        let (from_a, from_b) = (up(a), up(b));
        let place: HashMap<ValueId, usize> = from_a.iter().enumerate().map(|(i, (v, _))| (*v, i)).collect();
        let Some(meet) = from_b.iter().position(|(v, _)| place.contains_key(v)) else { return vec![] };
        let first = place[&from_b[meet].0];
        from_a[..=first].iter().chain(&from_b[..=meet]).filter_map(|(_, why)| *why).collect()
    }
}

impl Terms for CongruenceClosure {
    type Id = ValueId;

    fn facts(&self, id: ValueId) -> &Facts {
        if id == ABSENT { &self.nothing } else { &self.facts[self.find(id).0 as usize] }
    }

    fn nodes(&self, id: ValueId) -> impl Iterator<Item = TermNode<'_, ValueId>> {
        let producer = (id != ABSENT).then(|| self.store.graph.producer(id)).flatten();
        producer.into_iter().filter_map(|n| {
            let node = self.store.graph.node(n);
            let open = foldable(node.op) && node.results.len() == 1 && node.attrs.declared().is_empty();
            open.then(|| TermNode {
                key: n.0 as usize,
                op: node.op,
                attrs: &node.attrs,
                operands: &self.operands[&n],
            })
        })
    }

    fn is_absent(&self, id: ValueId) -> bool {
        id == ABSENT
    }
}

impl Sink for CongruenceClosure {
    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<ValueId>]) -> Result<ValueId, String> {
        let operands: Vec<Option<ValueId>> = operands.iter().map(|o| o.filter(|&o| o != ABSENT)).collect();
        if let Some(v) = self.store.find(op, &attrs, &operands) {
            return Ok(v);
        }
        let types: Vec<Option<&Type>> =
            operands.iter().map(|o| o.and_then(|o| self.facts(o).types.first())).collect();
        let ty =
            infer::infer(op, &attrs, &types, &[])?.into_iter().next().ok_or("a node without a result")?;
        let v = self.store.term(op, attrs, operands, ty);
        self.take_new()?;
        Ok(v)
    }

    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<ValueId, String> {
        Ok(self.known_constant(scalar(value, dtype)?))
    }
}
