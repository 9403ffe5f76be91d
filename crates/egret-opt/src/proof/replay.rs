//! Replaying: both sides of a step on random tensors. It catches rules that say what is not so, which a check of steps
//! against rules cannot.

use super::check::{Instance, close};
use super::closure::{ABSENT, Closure};
use super::{Bank, Fault, Proof};
use crate::facts::elements;
use crate::matching::{Bound, Match, Terms};
use crate::rules::{Rule, Tier};
use egret_ir::{DType, Def, Tensor, TensorType, Value, ValueId, interp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Steps whose sides have more elements than this, all values of both counted, are not run.
const MOST_ELEMENTS: usize = 1 << 26;

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Steps.
    pub steps: usize,
    /// Steps of different rules, types or attributes: those were run.
    pub run: usize,
    /// Steps that were not run, by reason.
    pub left_out: BTreeMap<String, usize>,
}

/// Run both sides of every step (of steps that differ in their variables' names only, one) on random tensors. The proof has
/// been checked.
///
/// # Errors
/// A step whose sides differ by more than its rule's tier allows.
pub fn replay(proof: &Proof, rules: &[&Rule], tier: Tier, seed: u64) -> Result<Replay, Fault> {
    let mut done = Replay { steps: proof.steps.len(), ..Replay::default() };
    let mut seen = BTreeSet::new();
    close(proof, Bank::of(proof.terms.clone()), rules, tier, |closure, instance| {
        let sides = Sides { closure, leaves: leaves(&instance.found), instance };
        if !seen.insert(sides.key()) {
            return Ok(());
        }
        match sides.run(seed.wrapping_add(sides.instance.index as u64)) {
            Ok(()) => done.run += 1,
            Err(Outcome::NotRun(why)) => *done.left_out.entry(why).or_default() += 1,
            Err(Outcome::Differ(message)) => return Err(message),
        }
        Ok(())
    })?;
    Ok(done)
}

enum Outcome {
    NotRun(String),
    Differ(String),
}

/// Both sides of a step down to what its variables are.
struct Sides<'a> {
    closure: &'a Closure,
    instance: Instance<'a>,
    leaves: BTreeSet<ValueId>,
}

/// What the variables of a match are bound to, nodes aside.
pub(super) fn leaves(m: &Match<ValueId>) -> BTreeSet<ValueId> {
    let nodes: BTreeSet<ValueId> = m.matched.iter().map(|(v, _, _)| *v).collect();
    let all = m.values.iter().flatten().flat_map(|b| match b {
        Bound::One(v) => vec![*v],
        Bound::List(l) => l.clone(),
    });
    all.filter(|v| *v != ABSENT && !nodes.contains(v)).collect()
}

impl Sides<'_> {
    /// Tells steps apart that have to be run each.
    fn key(&self) -> String {
        let m = &self.instance.found;
        let place = |v: &ValueId| self.leaves.iter().position(|l| l == v);
        let operands: Vec<Option<Vec<Option<usize>>>> = m
            .values
            .iter()
            .map(|b| match b {
                Some(Bound::One(v)) => Some(vec![place(v)]),
                Some(Bound::List(l)) => Some(l.iter().map(place).collect()),
                None => None,
            })
            .collect();
        let types: Vec<String> = self
            .leaves
            .iter()
            .map(|&v| match (self.closure.constant(v), self.closure.facts(v).types.first()) {
                (Some(c), _) if c.len() <= 1 => c.content_hash().to_string(),
                (_, Some(t)) => t.to_string(),
                _ => "_".to_owned(),
            })
            .collect();
        format!("{} {} {operands:?} {:?} {:?} {:?}", self.instance.rule.name, types.join(", "), m.attrs, m.spreads, m.ops)
    }

    fn run(&self, seed: u64) -> Result<(), Outcome> {
        let mut random = Random { seed: seed as f64, drawn: 0 };
        let mut values: HashMap<ValueId, Value> = HashMap::new();
        for &leaf in &self.leaves {
            let facts = self.closure.facts(leaf);
            let value = match (self.closure.constant(leaf), facts.tensor()) {
                (Some(c), _) => c.clone(),
                (None, Some(ty)) => random.tensor(ty, facts.range).map_err(Outcome::NotRun)?,
                (None, None) => return Err(Outcome::NotRun("an operand is no tensor".into())),
            };
            values.insert(leaf, value.into());
        }
        let mut budget = MOST_ELEMENTS;
        let before = self.evaluate(self.instance.before, values.clone(), &mut budget)?;
        let after = self.evaluate(self.instance.after, values, &mut budget)?;
        compare(&before, &after, self.instance.rule.tier).map_err(Outcome::Differ)
    }

    /// A term's value, from values of what is below it.
    fn evaluate(&self, at: ValueId, mut values: HashMap<ValueId, Value>, budget: &mut usize) -> Result<Tensor, Outcome> {
        let graph = &self.closure.bank.graph;
        let mut stack = vec![at];
        while let Some(&top) = stack.last() {
            if values.contains_key(&top) {
                stack.pop();
                continue;
            }
            if let Def::Const(t) = &graph.value(top).def {
                values.insert(top, t.clone().into());
                continue;
            }
            let node = graph.producer(top).ok_or_else(|| Outcome::NotRun("a side reads an input that no variable is".into()))?;
            let node = graph.node(node);
            let open: Vec<ValueId> = node.operands.iter().flatten().copied().filter(|v| !values.contains_key(v)).collect();
            if !open.is_empty() {
                stack.extend(open);
                continue;
            }
            let operands: Vec<Option<Value>> = node.operands.iter().map(|v| v.map(|v| values[&v].clone())).collect();
            let len = graph.ty(top).as_tensor().and_then(TensorType::const_len).unwrap_or(0);
            let left = budget.checked_sub(work(node.op, &operands, len));
            *budget = left.ok_or_else(|| Outcome::NotRun("it is too large to be interpreted".into()))?;
            let out = interp::eval_op(node.op, &node.attrs, &operands, &node.regions)
                .map_err(|e| Outcome::NotRun(format!("random operands do not fit: {}", e.message)))?;
            values.extend(node.results.iter().copied().zip(out));
        }
        values[&at].as_tensor().cloned().ok_or_else(|| Outcome::NotRun("the result is no tensor".into()))
    }
}

/// An estimate of what interpreting a node takes: multiply-adds of a contraction, else elements.
fn work(op: egret_ir::Op, operands: &[Option<Value>], out: usize) -> usize {
    let second = operands.get(1).and_then(|v| v.as_ref()?.as_tensor());
    let taps = match (op, second) {
        (egret_ir::Op::Matmul, Some(w)) if w.rank() >= 2 => w.shape()[w.rank() - 2],
        (egret_ir::Op::Conv | egret_ir::Op::ConvTranspose, Some(w)) => w.len() / w.shape().first().copied().unwrap_or(1).max(1),
        (egret_ir::Op::Attention, Some(k)) if k.rank() >= 2 => 2 * k.shape()[k.rank() - 2],
        _ => 1,
    };
    // A multiply-add takes a quarter of what moving an element takes.
    out.saturating_mul(taps.div_ceil(4))
}

/// Whether two results are the same as far as a tier says.
fn compare(before: &Tensor, after: &Tensor, tier: Tier) -> Result<(), String> {
    if before.ty() != after.ty() {
        return Err(format!("the sides have types {} and {}", before.ty(), after.ty()));
    }
    if before.content_hash() == after.content_hash() || tier == Tier::Lossy {
        return Ok(());
    }
    let (Some(a), Some(b)) = (elements(before, before.len()), elements(after, after.len())) else {
        return Err("the sides differ".into());
    };
    let scale = a.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let bound = match (tier, before.dtype()) {
        (Tier::Exact, _) => 0.0,
        (_, DType::F64) => 1e-10,
        (_, DType::F32) => 1e-4,
        (_, DType::F16) => 4e-3,
        (_, DType::BF16) => 3e-2,
        _ => 0.0,
    };
    let differ = |x: f64, y: f64| !(x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan() || (x - y).abs() <= bound * scale);
    match a.iter().zip(&b).enumerate().find(|(_, (x, y))| differ(**x, **y)) {
        Some((i, (x, y))) => Err(format!("on random tensors element {i} is {x:?} before and {y:?} after")),
        None => Ok(()),
    }
}

/// Random numbers that are the same on every host.
struct Random {
    seed: f64,
    drawn: u64,
}

impl Random {
    /// Of [-2, 2), or inside the range that is known.
    fn number(&mut self, range: Option<(f64, f64)>) -> f64 {
        let (low, high) = range.unwrap_or((-2.0, 2.0));
        let (low, high) = (low.max(-1e3), high.min(1e3));
        self.drawn += 1;
        low + (high - low) * interp::draw(self.seed, self.drawn)
    }

    fn tensor(&mut self, ty: &TensorType, range: Option<(f64, f64)>) -> Result<Tensor, String> {
        let shape = ty.const_dims().ok_or_else(|| format!("{ty} has free dims"))?;
        let len = ty.const_len().filter(|l| *l <= MOST_ELEMENTS).ok_or("it is too large to be interpreted")?;
        let numbers = (0..len).map(|_| self.number(range));
        macro_rules! of {
            ($convert:expr) => {
                Tensor::new(&shape, numbers.map($convert).collect())
            };
        }
        Ok(match ty.dtype {
            DType::F32 => of!(|v| v as f32),
            DType::F64 => of!(|v| v),
            DType::F16 => of!(half::f16::from_f64),
            DType::BF16 => of!(half::bf16::from_f64),
            DType::I64 => of!(|v| v as i64),
            DType::I32 => of!(|v| v as i32),
            DType::I16 => of!(|v| v as i16),
            DType::I8 => of!(|v| v as i8),
            DType::U8 => of!(|v| v.abs() as u8),
            DType::Bool => Tensor::from_bools(&shape, &numbers.map(|v| v > 0.0).collect::<Vec<_>>()),
            other => return Err(format!("no random {other} tensors are made")),
        })
    }
}
