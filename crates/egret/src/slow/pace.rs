//! How fast the work of a kernel goes, read off its Loop IR: what its code does one element at a time, and what in vectors.
//!
//! Loops are counted at a value in their middle and at their last: their edges are a few rounds, and a smaller last block is counted as it
//! is. Of the two sides of a condition that is known only when the kernel runs, the one in vectors is the rule and the other the edge; else
//! the one whose rounds are known.

use super::values::Values;
use egret_loop::known;
use egret_loop::{BinOp, Elem, Inst, Kernel, Param, Stmt, Ty, V};
use std::collections::BTreeMap;

/// Nanoseconds of an instruction on one element, index arithmetic too: several run beside one another.
const INSTRUCTION: f64 = 0.15;

/// Nanoseconds of an instruction on a vector; operands come from further away.
const VECTOR: f64 = 0.3;

/// Nanoseconds until a sum that the next round adds to is there.
const CARRIED: f64 = 1.0;

/// Nanoseconds more where each round reads or writes far from where the last one did.
const FAR: f64 = 0.6;

/// From so many bytes on that is far: what is fetched ahead ends there.
const FAR_BYTES: i64 = 2048;

/// Rounds of a loop, and tasks, that are known only when a run begins.
const NOMINAL: i64 = 64;

/// What a scalar instruction does.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A multiplication whose product is added to others.
    MultiplyAdds,
    /// A comparison, a choice, the smaller or larger.
    Comparisons,
    /// Any other arithmetic.
    Arithmetic,
}

impl Work {
    /// Its name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Work::MultiplyAdds => "multiply-adds",
            Work::Comparisons => "comparisons",
            Work::Arithmetic => "arithmetic",
        }
    }
}

/// What the code of a kernel takes, all tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    /// Nanoseconds in loops whose rounds compute with one element.
    pub scalar: f64,
    /// Nanoseconds in all others.
    pub other: f64,
    /// Whether all loops have as many rounds as was counted: none depends on data or on a free dim.
    pub counted: bool,
    /// Whether a loop runs until data says so, as merging does: no machine has vectors for that.
    pub by_data: bool,
    /// Nanoseconds of the scalar instructions by what they do.
    kinds: BTreeMap<(Work, Elem), f64>,
}

impl Pace {
    /// Of a kernel; `macs`: multiply-adds of tiles in a nanosecond.
    pub fn of(kernel: &Kernel, macs: u64) -> Pace {
        let mut walk = Walk::new(kernel, macs.max(1) as f64);
        walk.pace.counted = true;
        walk.rounds(kernel.task, 0, 1, kernel.tasks, &kernel.body);
        walk.pace
    }

    /// Whether most of it is scalar code, and vectors would do.
    pub fn is_scalar(&self) -> bool {
        self.scalar > self.other && !self.by_data
    }

    /// What most of the scalar code does, and with which elements.
    pub fn main(&self) -> Option<(Work, Elem)> {
        // A product and a sum by two instructions are one multiply-add.
        let weight = |kind: &(&(Work, Elem), &f64)| match kind.0.0 {
            Work::MultiplyAdds => 2.0 * kind.1,
            _ => *kind.1,
        };
        let most = self.kinds.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)));
        most.map(|(kind, _)| *kind)
    }
}

/// What a round's own instructions come to, without those of loops inside.
#[derive(Clone, Default)]
struct Round {
    ns: f64,
    /// What it takes more because places are far.
    far: f64,
    carried: bool,
    /// Whether they compute with single elements.
    scalar: bool,
    /// Whether they compute with vectors.
    vectors: bool,
}

struct Walk<'a> {
    kernel: &'a Kernel,
    macs: f64,
    values: Values<'a>,
    /// Integers that are known on the way.
    known: Vec<Option<i64>>,
    /// Variables of the loops around, innermost last.
    variables: Vec<V>,
    /// How often the innermost body runs.
    times: f64,
    pace: Pace,
}

impl<'a> Walk<'a> {
    fn new(kernel: &'a Kernel, macs: f64) -> Walk<'a> {
        Walk {
            kernel,
            macs,
            values: Values::of(kernel),
            known: vec![None; kernel.types.len()],
            variables: vec![],
            times: 1.0,
            pace: Pace::default(),
        }
    }

    fn ty(&self, v: V) -> Ty {
        self.kernel.types.get(v.0 as usize).copied().unwrap_or(Ty::scalar(Elem::I64))
    }

    fn get(&self, v: V) -> Option<i64> {
        self.known.get(v.0 as usize).copied().flatten()
    }

    fn set(&mut self, v: V, value: Option<i64>) {
        if let Some(slot) = self.known.get_mut(v.0 as usize) {
            *slot = value;
        }
    }

    /// A body so many times.
    fn rounds(&mut self, var: V, begin: i64, step: i64, times: i64, body: &'a [Stmt]) {
        let at = |round: i64| step.checked_mul(round).and_then(|d| begin.checked_add(d));
        let last = times - 1;
        self.variables.push(var);
        for (round, weight) in [(last / 2, last), (last, 1)] {
            if times > 0 && weight > 0 {
                let around = self.times;
                self.times *= weight as f64;
                self.set(var, at(round));
                self.round(body);
                self.times = around;
            }
        }
        self.variables.pop();
    }

    fn round(&mut self, body: &'a [Stmt]) {
        let mut round = Round::default();
        self.block(body, &mut round);
        let own = if round.carried { round.ns.max(CARRIED) } else { round.ns };
        let ns = (own + round.far) * self.times;
        match round.scalar && !round.vectors {
            true => self.pace.scalar += ns,
            false => self.pace.other += ns,
        }
    }

    fn block(&mut self, stmts: &'a [Stmt], round: &mut Round) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => {
                    let value = known::integer(inst, &|v| self.get(v));
                    self.set(*v, value);
                    self.instruction(*v, inst, round);
                }
                Stmt::Set(_, v) => {
                    let computed = self.values.made(*v);
                    let computed = computed.is_some_and(|i| !matches!(i, Inst::Const(..)));
                    round.carried |= computed && self.ty(*v).elem.is_float() && !self.variables.is_empty();
                }
                Stmt::Store { param, index, value } | Stmt::StoreFirst { param, index, value, .. } => {
                    round.ns += INSTRUCTION;
                    round.far += self.way(*param, *index);
                    round.vectors |= self.ty(*value).lanes > 1;
                }
                Stmt::Check { .. } => round.ns += INSTRUCTION,
                Stmt::For { var, begin, end, step, body } => {
                    let bounds = self.get(*begin).zip(self.get(*end));
                    self.pace.counted &= bounds.is_some();
                    let (begin, end) = bounds.unwrap_or((0, NOMINAL));
                    let step = (*step).max(1);
                    let times = (end.saturating_sub(begin).max(0) as u64).div_ceil(step as u64);
                    self.rounds(*var, begin, step, i64::try_from(times).unwrap_or(i64::MAX), body);
                }
                Stmt::While { head, body, .. } => {
                    self.pace.counted = false;
                    self.pace.by_data = true;
                    let around = self.times;
                    self.times *= NOMINAL as f64;
                    self.round(head);
                    self.round(body);
                    self.times = around;
                }
                Stmt::If { cond, then, otherwise } => match self.get(*cond) {
                    Some(0) => self.block(otherwise, round),
                    Some(_) => self.block(then, round),
                    None => self.either(*cond, then, otherwise, round),
                },
                Stmt::Tile(tile) => {
                    let products = tile.cols as f64 * tile.products_of_column();
                    self.pace.other += products / self.macs * self.times;
                    round.vectors = true;
                }
            }
        }
    }

    /// Two blocks of which one runs: the one that is the rule.
    fn either(&mut self, cond: V, then: &'a [Stmt], otherwise: &'a [Stmt], round: &mut Round) {
        round.ns += INSTRUCTION;
        // Lanes that are unfit are few: what is done about them is done one by one.
        if self.asks_lanes(cond) {
            return self.block(otherwise, round);
        }
        let before = (self.pace.clone(), round.clone());
        self.block(then, round);
        let first = (std::mem::replace(&mut self.pace, before.0), std::mem::replace(round, before.1));
        self.block(otherwise, round);
        let weight = |p: &Pace, r: &Round| p.scalar + p.other + (r.ns + r.far) * self.times;
        let in_vectors = |p: &Pace, r: &Round| r.vectors || p.other > p.scalar;
        // In vectors before one by one, what is counted before what data decides, then what takes longer.
        let rank = |p: &Pace, r: &Round| (in_vectors(p, r), p.counted, weight(p, r));
        let by_data = first.0.by_data || self.pace.by_data;
        if rank(&first.0, &first.1) > rank(&self.pace, round) {
            (self.pace, *round) = first;
        }
        self.pace.by_data = by_data;
    }

    /// Whether a condition is about any lane of a vector.
    fn asks_lanes(&self, cond: V) -> bool {
        match self.values.made(cond) {
            Some(Inst::Any(_)) => true,
            Some(Inst::Binary(BinOp::Or, a, b)) => self.asks_lanes(*a) && self.asks_lanes(*b),
            _ => false,
        }
    }

    fn instruction(&mut self, v: V, inst: &Inst, round: &mut Round) {
        let ty = self.ty(v);
        let far = match inst {
            Inst::Const(..) | Inst::Get(_) | Inst::First(..) => return,
            Inst::Load(param, index, _) | Inst::LoadFirst(param, index, ..) => self.way(*param, *index),
            _ => 0.0,
        };
        round.far += far;
        let mut lanes = ty.lanes;
        inst.for_operands(|&x| lanes = lanes.max(self.ty(x).lanes));
        if lanes > 1 {
            round.ns += VECTOR;
            round.vectors = true;
            return;
        }
        round.ns += INSTRUCTION;
        if let Some(kind) = self.kind(v, inst) {
            round.scalar = true;
            *self.pace.kinds.entry(kind).or_default() += INSTRUCTION * self.times;
        }
    }

    /// What a scalar instruction computes, where it does so with elements.
    fn kind(&self, v: V, inst: &Inst) -> Option<(Work, Elem)> {
        let mut operands = vec![];
        inst.for_operands(|&x| operands.push(x));
        let of = match inst {
            Inst::Select(_, a, _) => *a,
            _ => *operands.first()?,
        };
        let elem = self.ty(of).elem;
        let is_place = self.values.is_place(v) || operands.iter().any(|&x| self.values.is_place(x));
        if elem == Elem::Bool || is_place || !self.values.is_data(v) {
            return None;
        }
        let does = match inst {
            Inst::Fma(..) | Inst::Binary(BinOp::Mul, ..) => Work::MultiplyAdds,
            Inst::Compare(..)
            | Inst::Select(..)
            | Inst::Binary(BinOp::Min | BinOp::Max | BinOp::SelMin | BinOp::SelMax, ..) => {
                Work::Comparisons
            }
            Inst::Binary(..) | Inst::Unary(..) => Work::Arithmetic,
            _ => return None,
        };
        Some((does, elem))
    }

    /// What it costs that a round of the innermost loop is far from the last one.
    fn way(&self, param: Param, index: V) -> f64 {
        let Some(&variable) = self.variables.last() else { return 0.0 };
        let size = self.kernel.params.get(param.0 as usize).map_or(1, |p| p.elem.size()) as i64;
        let stride = self.values.factor(index, variable).unwrap_or(0).saturating_mul(size);
        if stride.saturating_abs() >= FAR_BYTES { FAR } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_loop::{Access, Cmp, KernelBuilder};

    /// `y[i] = max over c of x[c * 4096 + i]`, an element at a time or in vectors.
    fn columns(lanes: u8) -> Kernel {
        let mut k = KernelBuilder::new("columns", 1).with_vector_bytes(16);
        let x = k.param(Elem::F32, 100 * 4096, Access::Read);
        let y = k.param(Elem::F32, 4096, Access::Write);
        k.for_range(0, 4096, i64::from(lanes), |k, i| {
            let first = k.load_lanes(x, i, lanes);
            let most = k.local(first);
            k.for_n(100, |k, c| {
                let at = k.affine(&[(c, 4096), (i, 1)], 0);
                let (v, old) = (k.load_lanes(x, at, lanes), k.get(most));
                let larger = k.max(v, old);
                k.set(most, larger);
            });
            let v = k.get(most);
            k.store(y, i, v);
        });
        k.finish()
    }

    #[test]
    fn scalar_loops_are_told_from_vectors() {
        let scalar = Pace::of(&columns(1), 40);
        assert!(scalar.is_scalar() && scalar.counted, "{scalar:?}");
        assert_eq!(scalar.main(), Some((Work::Comparisons, Elem::F32)));
        // A round waits for the last one, and reads far from it.
        let rounds = 4096.0 * 100.0 * (CARRIED + FAR);
        assert!(scalar.scalar >= rounds && scalar.scalar < 1.1 * rounds, "{scalar:?} {rounds}");
        let vectors = Pace::of(&columns(4), 40);
        assert!(!vectors.is_scalar() && vectors.main().is_none(), "{vectors:?}");
        assert!(vectors.other < scalar.scalar / 3.0, "{vectors:?}");
    }

    /// Which elements are copied is computed one by one, and that is no work on elements.
    #[test]
    fn places_are_no_elements() {
        let mut k = KernelBuilder::new("gather", 1);
        let x = k.param(Elem::F32, 1000, Access::Read);
        let at = k.param(Elem::I64, 1000, Access::Read);
        let y = k.param(Elem::F32, 1000, Access::Write);
        k.for_n(1000, |k, i| {
            let index = k.load(at, i);
            let (zero, wrapped) = (k.int(0), k.affine(&[(index, 1)], 1000));
            let negative = k.compare(Cmp::Lt, index, zero);
            let index = k.select(negative, wrapped, index);
            let v = k.load(x, index);
            k.store(y, i, v);
        });
        let pace = Pace::of(&k.finish(), 40);
        assert!(!pace.is_scalar() && pace.main().is_none() && pace.other > 0.0, "{pace:?}");
    }

    /// A short form of few elements for what is mostly so, and a loop over as many as data says.
    #[test]
    fn the_side_that_is_counted_is_the_rule() {
        let mut k = KernelBuilder::new("weights", 1);
        let n = k.param(Elem::I64, 1000, Access::Read);
        let x = k.param(Elem::F32, 1000, Access::Read);
        let y = k.param(Elem::F32, 1000, Access::Write);
        k.for_n(1000, |k, i| {
            let (count, one) = (k.load(n, i), k.int(1));
            let short = k.compare(Cmp::Eq, count, one);
            let twice = |k: &mut KernelBuilder, at: V| {
                let v = k.load(x, at);
                let double = k.add(v, v);
                k.store(y, at, double);
            };
            k.if_(short, |k| twice(k, i), |k| k.for_values(i, count, 1, twice));
        });
        let pace = Pace::of(&k.finish(), 40);
        assert!(pace.is_scalar() && pace.counted, "{pace:?}");
        assert!(pace.scalar < 2000.0, "{pace:?}");
    }

    /// What depends on data has no count.
    #[test]
    fn loops_by_data_are_not_counted() {
        let mut k = KernelBuilder::new("sum", 1);
        let n = k.param(Elem::I64, 1, Access::Read);
        let x = k.param(Elem::F32, 1000, Access::Read);
        let y = k.param(Elem::F32, 1, Access::Write);
        let zero = k.int(0);
        let (begin, end) = (k.int(0), k.load(n, zero));
        let none = k.number(Ty::scalar(Elem::F32), 0.0);
        let sum = k.local(none);
        k.for_values(begin, end, 1, |k, i| {
            let (v, old) = (k.load(x, i), k.get(sum));
            let new = k.add(v, old);
            k.set(sum, new);
        });
        let v = k.get(sum);
        k.store(y, zero, v);
        let pace = Pace::of(&k.finish(), 40);
        assert!(pace.is_scalar() && !pace.counted, "{pace:?}");
    }
}
