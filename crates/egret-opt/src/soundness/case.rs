//! An instance of a rule's left-hand side as terms.

use super::Counterexample;
use super::draw::{Draw, guard_numbers};
use crate::matching::{self, Match, Sink, Terms};
use crate::proof::congruence::{ABSENT, CongruenceClosure};
use crate::proof::{TermStore, cone};
use crate::rules::{Comparison, Expr, NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Attr, AttrInfo, Attrs, DType, Dim, Graph, Op, TensorType, Type, Value, ValueId};
use std::collections::{BTreeMap, HashMap};

/// How often attributes are drawn for a node before the case is given up.
const ATTEMPTS: usize = 12;

/// A generated instance.
pub(super) struct Case {
    pub terms: CongruenceClosure,
    pub root: ValueId,
    /// The values of the inputs.
    pub values: HashMap<ValueId, Value>,
}

/// The bindings while an instance is generated.
#[derive(Default)]
struct Bound {
    values: BTreeMap<usize, ValueId>,
    attrs: BTreeMap<usize, Attr>,
    ops: BTreeMap<usize, Op>,
    spreads: BTreeMap<usize, Attrs>,
}

impl Case {
    /// Generates an instance; `None` if what was drawn does not fit together.
    pub fn new(rule: &Rule, draw: &mut Draw) -> Option<Case> {
        let mut store = TermStore::new(&Graph::new("case"));
        let (mut bound, mut values) = (Bound::default(), HashMap::new());
        let asked = asked(rule);
        let typed = (0..asked.len()).any(|v| wanted_dtype(rule, v).is_some());
        for (v, near) in asked.iter().enumerate() {
            let free = is_free(&rule.lhs, v);
            if !free {
                continue;
            }
            // A value that a guard asks about is mostly a constant.
            let constant = match near {
                Some(_) => draw.below(20) != 0,
                None => draw.below(12) == 0,
            };
            let near = near.as_deref().unwrap_or(&[]);
            let id = if constant && typed && near.is_empty() && draw.below(2) == 0 {
                let ty = draw.ty();
                store.constant(draw.tensor(&ty))
            } else if constant {
                store.constant(draw.constant(near)?)
            } else {
                let mut ty = draw.ty();
                if is_condition(&rule.lhs, v) {
                    ty.dtype = DType::Bool;
                }
                if let Some(dtype) = wanted_dtype(rule, v).filter(|_| draw.below(8) != 0) {
                    ty.dtype = dtype;
                }
                let id = store.graph.add_input(&rule.vars.values[v], Type::Tensor(ty.clone()));
                values.insert(id, draw.tensor(&ty).into());
                id
            };
            bound.values.insert(v, id);
        }
        let terms = CongruenceClosure::new(store, false).ok()?;
        let mut b = Builder { draw, terms, bound, values };
        let root = b.pattern(&rule.lhs)?;
        Some(Case { terms: b.terms, root, values: b.values })
    }

    /// Adds siblings to the matches of a multi-pattern: a few more values for its variable, which may
    /// differ in one extent.
    pub fn with_siblings(
        &mut self,
        rule: &Rule,
        found: Vec<Match<ValueId>>,
        draw: &mut Draw,
    ) -> Vec<Match<ValueId>> {
        let Some(multi_pattern) = rule.multi_pattern else { return found };
        let mut out = vec![];
        for m in found {
            let Some(Some(matching::Bound::One(value))) = m.values.get(multi_pattern.of).cloned() else {
                continue;
            };
            let Some(ty) = self.terms.facts(value).tensor().cloned() else { continue };
            let constant = self.terms.constant(value).is_some();
            let mut list: Vec<ValueId> =
                (0..=draw.below(3)).map(|_| self.sibling(&ty, constant, draw)).collect();
            let place = draw.below(list.len() + 1);
            list.insert(place, value);
            out.push(multi_pattern.with(&m, &list, place));
        }
        out
    }

    fn sibling(&mut self, like: &TensorType, constant: bool, draw: &mut Draw) -> ValueId {
        let mut ty = like.clone();
        if !ty.shape.is_empty() {
            let axis = draw.below(ty.rank());
            ty.shape[axis] = Dim::constant(draw.dim());
        }
        let tensor = draw.tensor(&ty);
        if constant {
            return self.terms.known_constant(tensor);
        }
        let id = self.terms.add_input(&format!("sibling_{}", self.values.len()), Type::Tensor(ty));
        self.values.insert(id, tensor.into());
        id
    }

    /// The two sides as graphs.
    pub fn counterexample(&self, after: Option<ValueId>, difference: String) -> Counterexample {
        let graph = &self.terms.store.graph;
        let before = cone(graph, self.root, "before");
        let after = after.map(|a| cone(graph, a, "after"));
        let named = |name: &str| {
            self.values.iter().find(|(v, _)| graph.value(**v).name == name).map(|(_, value)| value.clone())
        };
        let inputs = before.inputs().iter().filter_map(|&v| named(&before.value(v).name)).collect();
        Counterexample { before, after, inputs, difference }
    }
}

/// For each value variable the numbers that guards compare its value with; `None` if no guard asks for its
/// value.
fn asked(rule: &Rule) -> Vec<Option<Vec<f64>>> {
    let mut out = vec![None; rule.vars.values.len()];
    for g in &rule.guards {
        let mut vars = vec![];
        value_questions(&g.left, &mut vars);
        if let Some((_, right)) = &g.right {
            value_questions(right, &mut vars);
        }
        for v in vars {
            guard_numbers(g, out[v].get_or_insert_with(Vec::new));
        }
    }
    out
}

/// The element type that a guard `dtype(?x) == u8` wants of a variable.
fn wanted_dtype(rule: &Rule, v: usize) -> Option<DType> {
    rule.guards.iter().find_map(|g| match (&g.left, &g.right) {
        (Expr::Call(f, args), Some((Comparison::Equal, Expr::Literal(Attr::DType(dtype)))))
            if f.name == "dtype" && args[..] == [Expr::Value(v)] =>
        {
            Some(*dtype)
        }
        _ => None,
    })
}

/// The variables whose values (not only types) an expression needs.
fn value_questions(e: &Expr, out: &mut Vec<usize>) {
    if let Expr::Call(f, args) = e {
        let about_value = ["value", "is", "is_exactly", "is_number", "constant"].contains(&f.name);
        for a in args {
            match a {
                Expr::Value(v) if about_value => out.push(*v),
                other => value_questions(other, out),
            }
        }
    }
}

/// Whether a variable is a plain `?x`: it names no node and no list.
fn is_free(p: &Pattern, v: usize) -> bool {
    match p {
        Pattern::Value(w) => *w == v,
        Pattern::Node(n) => n.bind != Some(v) && n.args.iter().any(|a| is_free(a, v)),
        _ => false,
    }
}

/// Whether a variable occurs where only a bool is allowed.
fn is_condition(p: &Pattern, v: usize) -> bool {
    let Pattern::Node(n) = p else { return false };
    let here = match n.op {
        OpPattern::One(Op::Where) => n.args.first() == Some(&Pattern::Value(v)),
        OpPattern::One(op) => op.info().types == "bool" && n.args.contains(&Pattern::Value(v)),
        OpPattern::Any(..) => false,
    };
    here || n.args.iter().any(|a| is_condition(a, v))
}

struct Builder<'a> {
    draw: &'a mut Draw,
    terms: CongruenceClosure,
    bound: Bound,
    values: HashMap<ValueId, Value>,
}

impl Builder<'_> {
    fn pattern(&mut self, p: &Pattern) -> Option<ValueId> {
        match p {
            Pattern::Value(v) => match self.bound.values.get(v) {
                Some(&id) => Some(id),
                None => {
                    let id = self.input(&format!("v{v}"));
                    self.bound.values.insert(*v, id);
                    Some(id)
                }
            },
            Pattern::Absent => Some(ABSENT),
            Pattern::Each(_) | Pattern::Splat(_) | Pattern::Number(_) => None,
            Pattern::Node(n) => self.node(n),
        }
    }

    /// A new input.
    fn input(&mut self, name: &str) -> ValueId {
        let ty = self.draw.ty();
        let name = format!("{name}_{}", self.values.len());
        let id = self.terms.add_input(&name, Type::Tensor(ty.clone()));
        self.values.insert(id, self.draw.tensor(&ty).into());
        id
    }

    fn node(&mut self, n: &NodePattern) -> Option<ValueId> {
        let op = match n.op {
            OpPattern::One(op) => op,
            OpPattern::Any(group, v) => match self.bound.ops.get(&v) {
                Some(&op) => op,
                None => {
                    let all: Vec<Op> = Op::all().filter(|op| group.is_none_or(|g| g.holds(*op))).collect();
                    let op = self.draw.op(&all)?;
                    self.bound.ops.insert(v, op);
                    op
                }
            },
        };
        let mut operands: Vec<Option<ValueId>> = vec![];
        for a in &n.args {
            if let Pattern::Each(inner) = a {
                for _ in 0..self.list_len(op, operands.len()) {
                    let id = match &**inner {
                        Pattern::Node(n) => self.node(n)?,
                        _ => self.input("e"),
                    };
                    operands.push(Some(id));
                }
            } else {
                let id = self.pattern(a)?;
                operands.push((id != ABSENT).then_some(id));
            }
        }
        let row = op.info();
        if !row.operands.last().is_some_and(|o| o.starts_with('*')) {
            operands.resize(row.operands.len().max(operands.len()), None);
        }
        let saved = (self.bound.attrs.clone(), self.bound.spreads.clone());
        for _ in 0..ATTEMPTS {
            if let Some(attrs) = self.attrs(n, op, &operands)
                && let Ok(id) = self.terms.add_node(op, attrs, &operands)
            {
                if let Some(v) = n.bind {
                    self.bound.values.insert(v, id);
                }
                return Some(id);
            }
            (self.bound.attrs, self.bound.spreads) = saved.clone();
        }
        None
    }

    fn list_len(&mut self, op: Op, so_far: usize) -> usize {
        let row = op.info();
        if row.operands.last().is_some_and(|o| o.starts_with('*')) {
            return self.draw.below(3);
        }
        let left = row.operands.len().saturating_sub(so_far);
        let optional = row.operands.iter().rev().take(left).take_while(|o| o.starts_with('?')).count();
        left - self.draw.below(optional + 1)
    }

    fn attrs(&mut self, n: &NodePattern, op: Op, operands: &[Option<ValueId>]) -> Option<Attrs> {
        let types: Vec<Option<Type>> =
            operands.iter().map(|o| o.and_then(|o| self.terms.facts(o).types.first().cloned())).collect();
        let types: Vec<Option<&Type>> = types.iter().map(Option::as_ref).collect();
        if let Some(attrs) = n.spread.and_then(|k| self.bound.spreads.get(&k)) {
            return Some(attrs.clone());
        }
        let mut out = Attrs::default();
        for &AttrInfo { name, kind } in op.info().attrs {
            let given = n.attrs.iter().find(|(a, _)| *a == name).map(|(_, e)| e);
            let value = match given {
                Some(Expr::Literal(a)) => a.clone(),
                Some(Expr::Attr(v)) => match self.bound.attrs.get(v) {
                    Some(a) => a.clone(),
                    None => {
                        let a = self.draw.attr(name, kind, &types)?;
                        self.bound.attrs.insert(*v, a.clone());
                        a
                    }
                },
                _ => self.draw.attr(name, kind, &types)?,
            };
            out.0.insert(name, value);
        }
        if let Some(k) = n.spread {
            self.bound.spreads.insert(k, out.clone());
        }
        Some(out)
    }
}
