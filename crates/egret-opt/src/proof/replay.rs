//! Replay: runs both sides of proof steps on random tensors. It finds wrong rules, which checking steps
//! against rules cannot.

use super::accuracy::as_good;
use super::check::{Instance, close};
use super::congruence::{ABSENT, CongruenceClosure};
use super::values::{compare, evaluate};
use super::{Fault, Proof, TermStore};
use crate::matching::{Bound, Match, Terms};
use crate::rules::{Rule, Tier};
use egret_ir::{DType, Tensor, TensorType, Value, ValueId, interp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Steps with more elements than this, summed over all values of both sides, are not run.
const MOST_ELEMENTS: usize = 1 << 26;

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Steps.
    pub steps: usize,
    /// The sum of the error bounds of approximate steps.
    pub error: f64,
    /// Steps that were run: of those with equal rule, types and attributes one each.
    pub run: usize,
    /// Steps that were not run, by reason.
    pub left_out: BTreeMap<String, usize>,
}

/// Runs both sides of every step of a checked proof on random tensors; of steps that differ only in the
/// names of variables, one.
///
/// # Errors
/// A step whose sides differ by more than its rule's tier allows.
pub fn replay(proof: &Proof, rules: &[&Rule], tier: Tier, seed: u64) -> Result<Replay, Fault> {
    let mut done = Replay { steps: proof.steps.len(), ..Replay::default() };
    let mut seen = BTreeSet::new();
    close(proof, TermStore::of(proof.terms.clone()), rules, tier, |closure, instance| {
        done.error += instance.rule.error.unwrap_or_default();
        let leaves = leaves(&instance.found);
        let depth = instance.rule.lhs.nodes().len().max(instance.rule.rhs.nodes().len());
        let sides = Sides { closure, drawn: independent(closure, &leaves, depth), leaves, instance };
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

/// Both sides of a step, down to its variables.
struct Sides<'a> {
    closure: &'a CongruenceClosure,
    instance: Instance<'a>,
    leaves: BTreeSet<ValueId>,
    /// What is drawn at random: the leaves, or what dependent leaves are computed from.
    drawn: BTreeSet<ValueId>,
}

/// Replaces dependent leaves by independent ones. If leaf `b` is computed from leaf `a`, say `b = f(a, c)`,
/// drawing both would contradict; draw `a` and `c` instead. `depth`: the most nested operations of a side.
fn independent(closure: &CongruenceClosure, leaves: &BTreeSet<ValueId>, depth: usize) -> BTreeSet<ValueId> {
    let mut ways = Ways { closure, leaves, known: HashMap::new() };
    let mut out = BTreeSet::new();
    for &leaf in leaves {
        let operands = operands(closure, leaf);
        if operands.iter().any(|&o| ways.leads(o, depth)) {
            operands.into_iter().for_each(|o| ways.beside(o, depth, &mut out));
        } else {
            out.insert(leaf);
        }
    }
    out
}

fn operands(closure: &CongruenceClosure, v: ValueId) -> Vec<ValueId> {
    let graph = &closure.store.graph;
    graph.producer(v).map_or(vec![], |node| graph.node(node).operands.iter().flatten().copied().collect())
}

/// Paths from values down to leaves.
struct Ways<'a> {
    closure: &'a CongruenceClosure,
    leaves: &'a BTreeSet<ValueId>,
    /// Whether there is a path, by value and depth.
    known: HashMap<(ValueId, usize), bool>,
}

impl Ways<'_> {
    fn leads(&mut self, v: ValueId, depth: usize) -> bool {
        if self.leaves.contains(&v) {
            return true;
        }
        if depth == 0 {
            return false;
        }
        if let Some(&known) = self.known.get(&(v, depth)) {
            return known;
        }
        let leads = operands(self.closure, v).into_iter().any(|o| self.leads(o, depth - 1));
        self.known.insert((v, depth), leads);
        leads
    }

    /// What to draw so that `v` can be computed: `v` itself if no path leads to a leaf.
    fn beside(&mut self, v: ValueId, depth: usize, out: &mut BTreeSet<ValueId>) {
        if !self.leads(v, depth) {
            out.insert(v);
        } else if !self.leaves.contains(&v) {
            operands(self.closure, v).into_iter().for_each(|o| self.beside(o, depth - 1, out));
        }
    }
}

/// The values of a match's variables, except those that name nodes.
pub(super) fn leaves(m: &Match<ValueId>) -> BTreeSet<ValueId> {
    let nodes: BTreeSet<ValueId> = m.matched.iter().map(|(v, _, _)| *v).collect();
    let all = m.values.iter().flatten().flat_map(|b| match b {
        Bound::One(v) => vec![*v],
        Bound::List(l) => l.clone(),
    });
    all.filter(|v| *v != ABSENT && !nodes.contains(v)).collect()
}

impl Sides<'_> {
    /// A key: steps with equal keys need one run.
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
                // A computed leaf is identified by what computes it.
                (_, Some(t)) if self.drawn.contains(&v) => t.to_string(),
                _ => format!("{v}"),
            })
            .collect();
        format!(
            "{} {} {operands:?} {:?} {:?} {:?}",
            self.instance.rule.name,
            types.join(", "),
            m.attrs,
            m.spreads,
            m.ops
        )
    }

    fn run(&self, seed: u64) -> Result<(), Outcome> {
        let mut random = Random { seed: seed as f64, drawn: 0 };
        let mut values: HashMap<ValueId, Value> = HashMap::new();
        for &leaf in &self.drawn {
            let facts = self.closure.facts(leaf);
            let value = match (self.closure.constant(leaf), facts.tensor()) {
                (Some(c), _) => c.clone(),
                (None, Some(ty)) => random.tensor(ty, facts.range).map_err(Outcome::NotRun)?,
                (None, None) => return Err(Outcome::NotRun("an operand is no tensor".into())),
            };
            values.insert(leaf, value.into());
        }
        let mut budget = MOST_ELEMENTS;
        let graph = &self.closure.store.graph;
        let before =
            evaluate(graph, self.instance.before, values.clone(), &mut budget).map_err(Outcome::NotRun)?;
        let after =
            evaluate(graph, self.instance.after, values.clone(), &mut budget).map_err(Outcome::NotRun)?;
        let differ = compare(&before, &after, self.instance.rule);
        let may_round = self.instance.rule.tier > Tier::Exact;
        match differ {
            Err(_)
                if may_round
                    && as_good(graph, self.instance.before, &values, &before, &after, &mut budget) =>
            {
                Ok(())
            }
            differ => differ.map_err(|e| Outcome::Differ(format!("on random tensors {e}"))),
        }
    }
}

/// Random numbers that are the same on every host.
struct Random {
    seed: f64,
    drawn: u64,
}

impl Random {
    /// In [-2, 2), or within the known range.
    fn number(&mut self, range: Option<(f64, f64)>) -> f64 {
        let (low, high) = range.unwrap_or((-2.0, 2.0));
        let (low, high) = (low.max(-1e3), high.min(1e3));
        self.drawn += 1;
        low + (high - low) * interp::draw(self.seed, self.drawn)
    }

    fn tensor(&mut self, ty: &TensorType, range: Option<(f64, f64)>) -> Result<Tensor, String> {
        let shape = ty.const_dims().ok_or_else(|| format!("{ty} has free dims"))?;
        let len =
            ty.const_len().filter(|l| *l <= MOST_ELEMENTS).ok_or("it is too large to be interpreted")?;
        let numbers = (0..len).map(|_| self.number(range));
        macro_rules! of {
            ($convert:expr) => {
                Tensor::new(&shape, numbers.map($convert).collect())
            };
        }
        Ok(match ty.dtype {
            DType::F32 => of!(|v| v as f32),
            DType::F64 => of!(|v| v),
            DType::F16 => of!(egret_ir::f16_of),
            DType::BF16 => of!(egret_ir::bf16_of),
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
