//! Sizes that a run knows from the dims of its inputs, and from the lengths that its calls find: the function that computes them, and the
//! words of tables that name them.
//!
//! A word of a table that is not negative is a number; `-1 - i` is the value of size `i`. A program without sizes has numbers only,
//! and no code for sizes.

use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};
use egret_loop::conditions::Conditions;
use egret_loop::{Extent, Program, Size, SizeId, SizeList, SizeOp};
use egret_runtime::abi::Code;
use std::collections::BTreeSet;

use crate::abi::writer::Writer;
use crate::error::{Result, broken};
use crate::output::Output;

/// The sizes of a program, and what else its tables need to be known when a run begins.
pub(crate) struct Sizes {
    list: SizeList,
    conditions: Conditions,
    /// Those that something reads: the others are not kept.
    read: BTreeSet<SizeId>,
}

impl Sizes {
    /// Those of a program.
    pub fn of(program: &Program) -> Sizes {
        let (list, conditions) = (program.sizes.clone().into(), Conditions::of(program));
        Sizes { list, conditions, read: BTreeSet::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.list().len()
    }

    fn op(&mut self, op: SizeOp, a: Extent, b: Extent) -> Result<Extent> {
        self.list.op(op, a, b).ok_or_else(|| broken(format!("{} of {a} and {b}", op.name())))
    }

    /// a * b
    pub fn mul(&mut self, a: Extent, b: Extent) -> Result<Extent> {
        self.op(SizeOp::Mul, a, b)
    }

    /// a + b
    pub fn add(&mut self, a: Extent, b: Extent) -> Result<Extent> {
        self.op(SizeOp::Add, a, b)
    }

    /// An extent as a word of a table.
    pub fn word(&mut self, e: Extent) -> i64 {
        match e {
            Extent::Const(c) => c,
            Extent::Size(s) => {
                self.keep(s);
                -1 - i64::from(s.0)
            }
        }
    }

    /// Says that a size is read: [`Sizes::define`] keeps its value.
    pub fn keep(&mut self, id: SizeId) {
        self.read.insert(id);
    }

    /// `fn(symbols, lengths, values) -> code`: computes all sizes, keeps those that something reads, and names the condition of the first that has no
    /// value. A length that is not found is [`NOT_FOUND`]; what is made of it has no value yet, which is no error.
    ///
    /// A run computes some thousand sizes for a few kernels, so they are computed first as if all had a value, and it is noted whether that
    /// may be wrong of any; only then is it looked up which.
    pub fn define<M: Module>(&self, out: &mut Output<'_, M>) -> Result<FuncId> {
        let exact = self.define_exact(out)?;
        let signature = out.signature(3, true);
        out.function(&out.symbol("sizes"), Linkage::Local, signature, |b, module| {
            let mut w = Writer::new(b);
            let (symbols, lengths, to) = (w.params[0], w.params[1], w.params[2]);
            let mut values: Vec<Likely> = vec![];
            let mut doubt = Doubt(w.int(0));
            for (i, size) in self.list.list().iter().enumerate() {
                let likely = match *size {
                    Size::Symbol(n) => {
                        let value = w.word(symbols, 8 * n as i32);
                        doubt.small(&mut w, value);
                        Likely { value, most: Some(SMALL), waits: None }
                    }
                    Size::Length(n) => {
                        let value = w.word(lengths, 8 * n as i32);
                        let waits = w.is(IntCC::Equal, value, NOT_FOUND);
                        let zero = w.int(0);
                        let value = w.b.ins().select(waits, zero, value);
                        doubt.small(&mut w, value);
                        Likely { value, most: Some(SMALL), waits: Some(waits) }
                    }
                    Size::Const(c) => {
                        Likely { value: w.int(c), most: Some(c).filter(|c| *c >= 0), waits: None }
                    }
                    Size::Op(op, a, b) => {
                        let sure = op == SizeOp::Sub && self.is_least(b, a);
                        let [a, b] = self.operands(i, &values, a, b)?;
                        doubt.operation(&mut w, op, a, b, sure)
                    }
                };
                self.put(&mut w, i, likely.value, to);
                values.push(likely);
            }
            let wrong = w.is(IntCC::SignedLessThan, doubt.0, 0);
            w.stop_if(wrong, |w| {
                let exact = module.declare_func_in_func(exact, w.b.func);
                let call = w.b.ins().call(exact, &[symbols, lengths, to]);
                let code = w.b.inst_results(call)[0];
                w.b.ins().return_(&[code]);
            });
            w.ret(0);
            w.finish();
            Ok(())
        })
    }

    /// Keeps the value of a size if something reads it.
    fn put(&self, w: &mut Writer<'_, '_>, i: usize, value: Value, to: Value) {
        if self.read.contains(&SizeId(i as u32)) {
            w.put(value, to, 8 * i);
        }
    }

    /// Whether a size is at most another one by how they are made: `n` and `max(n, 3)`, `min(n, 3)` and `n`, `n / 3` and `n`.
    fn is_least(&self, least: SizeId, most: SizeId) -> bool {
        let of = |s: SizeId| self.list.list().get(s.0 as usize).copied();
        match (of(least), of(most)) {
            (_, Some(Size::Op(SizeOp::Max, a, b))) if a == least || b == least => true,
            (Some(Size::Op(SizeOp::Min, a, b)), _) if a == most || b == most => true,
            (Some(Size::Op(SizeOp::FloorDiv, a, _)), _) => a == most,
            _ => false,
        }
    }

    fn operands<T: Copy>(&self, i: usize, values: &[T], a: SizeId, b: SizeId) -> Result<[T; 2]> {
        let of = |s: SizeId| values.get(s.0 as usize).copied();
        of(a).zip(of(b)).map(|(a, b)| [a, b]).ok_or_else(|| broken(format!("s{i} has no operands")))
    }

    /// The same, one after the other.
    fn define_exact<M: Module>(&self, out: &mut Output<'_, M>) -> Result<FuncId> {
        let signature = out.signature(3, true);
        out.function(&out.symbol("sizes_exact"), Linkage::Local, signature, |b, _| {
            let mut w = Writer::new(b);
            let (symbols, lengths, to) = (w.params[0], w.params[1], w.params[2]);
            // Each with whether it waits for a length, where it may.
            let mut values: Vec<(Value, Option<Value>)> = vec![];
            // The code of the first one that fails: later ones may be made of it.
            let mut code = w.b.ins().iconst(types::I32, 0);
            for (i, size) in self.list.list().iter().enumerate() {
                let (value, wrong, waits) = match *size {
                    Size::Symbol(n) => {
                        let value = w.word(symbols, 8 * n as i32);
                        (value, Some(w.is(IntCC::SignedLessThan, value, 0)), None)
                    }
                    Size::Length(n) => {
                        let value = w.word(lengths, 8 * n as i32);
                        let waits = w.is(IntCC::Equal, value, NOT_FOUND);
                        let zero = w.int(0);
                        (w.b.ins().select(waits, zero, value), None, Some(waits))
                    }
                    Size::Const(c) => (w.int(c), None, None),
                    Size::Op(op, a, b) => {
                        let [(a, first), (b, second)] = self.operands(i, &values, a, b)?;
                        let (value, wrong) = operation(&mut w, op, a, b);
                        (value, Some(wrong), either(&mut w, first, second))
                    }
                };
                if let Some(mut wrong) = wrong {
                    if let Some(waits) = waits {
                        wrong = w.b.ins().band_not(wrong, waits);
                    }
                    let own = Code::Sizes.value(self.conditions.of_size(SizeId(i as u32)), 0);
                    let own = w.b.ins().iconst(types::I32, i64::from(own));
                    let none = w.is(IntCC::Equal, code, 0);
                    let first = w.b.ins().band(wrong, none);
                    code = w.b.ins().select(first, own, code);
                }
                self.put(&mut w, i, value, to);
                values.push((value, waits));
            }
            w.b.ins().return_(&[code]);
            w.finish();
            Ok(())
        })
    }
}

/// Whether one of two waits, of which each may.
fn either(w: &mut Writer<'_, '_>, a: Option<Value>, b: Option<Value>) -> Option<Value> {
    match (a, b) {
        (Some(a), Some(b)) => Some(w.b.ins().bor(a, b)),
        (one, other) => one.or(other),
    }
}

/// The most that dims are taken to be: the bytes of three, and most sums of such, are no overflow then.
const SMALL: i64 = (1 << 20) - 1;

/// A size as it is if nothing is in doubt.
#[derive(Copy, Clone)]
struct Likely {
    value: Value,
    /// The most that it can be; nothing where that may be beyond `i64`.
    most: Option<i64>,
    /// Whether it waits for a length, where it may.
    waits: Option<Value>,
}

/// Whether a size may have no value: negative then. What is wrong in a size makes no other one less wrong.
struct Doubt(Value);

impl Doubt {
    /// In doubt where a number is negative.
    fn negative(&mut self, w: &mut Writer<'_, '_>, value: Value, waits: Option<Value>) {
        let value = match waits {
            Some(waits) => {
                let zero = w.int(0);
                w.b.ins().select(waits, zero, value)
            }
            None => value,
        };
        self.0 = w.b.ins().bor(self.0, value);
    }

    /// In doubt where a number is negative or more than [`SMALL`].
    fn small(&mut self, w: &mut Writer<'_, '_>, value: Value) {
        let most = w.int(SMALL);
        let room = w.b.ins().isub(most, value);
        let both = w.b.ins().bor(value, room);
        self.negative(w, both, None);
    }

    /// An operation. Its operands are not negative if nothing was in doubt before; `sure` if what it gives is not negative either then.
    fn operation(
        &mut self,
        w: &mut Writer<'_, '_>,
        op: SizeOp,
        a: Likely,
        b: Likely,
        sure: bool,
    ) -> Likely {
        let waits = either(w, a.waits, b.waits);
        let both = |f: fn(i64, i64) -> Option<i64>| a.most.zip(b.most).and_then(|(a, b)| f(a, b));
        let less = match (a.most, b.most) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let most = match op {
            SizeOp::Add => both(i64::checked_add),
            SizeOp::Mul => both(i64::checked_mul),
            SizeOp::Sub | SizeOp::FloorDiv | SizeOp::CeilDiv => a.most,
            SizeOp::Mod | SizeOp::Min => less,
            SizeOp::Max | SizeOp::Broadcast => both(|a, b| Some(a.max(b))),
        };
        let (value, wrong) = match op {
            SizeOp::Add => (w.b.ins().iadd(a.value, b.value), None),
            SizeOp::Sub => (w.b.ins().isub(a.value, b.value), None),
            SizeOp::Mul => (w.b.ins().imul(a.value, b.value), None),
            SizeOp::Min => (w.b.ins().smin(a.value, b.value), None),
            SizeOp::Max => (w.b.ins().smax(a.value, b.value), None),
            SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod | SizeOp::Broadcast => {
                let (value, wrong) = operation(w, op, a.value, b.value);
                (value, Some(wrong))
            }
        };
        match op {
            _ if sure => {}
            SizeOp::Min | SizeOp::Max => {}
            SizeOp::Add | SizeOp::Mul if most.is_some() => {}
            SizeOp::Mul => {
                let high = w.b.ins().umulhi(a.value, b.value);
                let beyond = w.b.ins().ineg(high);
                let beyond = w.b.ins().bor(beyond, value);
                self.negative(w, beyond, waits);
            }
            SizeOp::Add | SizeOp::Sub => self.negative(w, value, waits),
            SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod | SizeOp::Broadcast => {
                if let Some(wrong) = wrong {
                    let wrong = w.b.ins().bmask(types::I64, wrong);
                    self.negative(w, wrong, waits);
                }
            }
        }
        Likely { value, most, waits }
    }
}

/// The value of an operation on two numbers that are not negative, and whether it has none.
fn operation(w: &mut Writer<'_, '_>, op: SizeOp, a: Value, b: Value) -> (Value, Value) {
    let negative = |w: &mut Writer<'_, '_>, v: Value| w.is(IntCC::SignedLessThan, v, 0);
    match op {
        SizeOp::Add => {
            // Below 2^64: beyond i64 it is negative.
            let sum = w.b.ins().iadd(a, b);
            let wrong = negative(w, sum);
            (sum, wrong)
        }
        SizeOp::Sub => {
            let difference = w.b.ins().isub(a, b);
            let wrong = negative(w, difference);
            (difference, wrong)
        }
        SizeOp::Mul => {
            let (low, high) = (w.b.ins().imul(a, b), w.b.ins().umulhi(a, b));
            let (negative, beyond) = (negative(w, low), w.is(IntCC::NotEqual, high, 0));
            (low, w.b.ins().bor(negative, beyond))
        }
        SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod => {
            let none = w.is(IntCC::Equal, b, 0);
            let one = w.int(1);
            // What is divided by 0 is not used.
            let by = w.b.ins().select(none, one, b);
            // Operands that have no value themselves may be negative: unsigned division has no other trap.
            let quotient = w.b.ins().udiv(a, by);
            let whole = w.b.ins().imul(quotient, by);
            let rest = w.b.ins().isub(a, whole);
            let value = match op {
                SizeOp::FloorDiv => quotient,
                SizeOp::Mod => rest,
                _ => {
                    let some = w.is(IntCC::NotEqual, rest, 0);
                    let more = w.b.ins().uextend(types::I64, some);
                    w.b.ins().iadd(quotient, more)
                }
            };
            (value, none)
        }
        SizeOp::Min => (w.b.ins().smin(a, b), w.b.ins().iconst(types::I8, 0)),
        SizeOp::Max => (w.b.ins().smax(a, b), w.b.ins().iconst(types::I8, 0)),
        SizeOp::Broadcast => {
            let (first, second) = (w.is(IntCC::Equal, a, 1), w.is(IntCC::Equal, b, 1));
            let differ = w.b.ins().icmp(IntCC::NotEqual, a, b);
            let one = w.b.ins().bor(first, second);
            let wrong = w.b.ins().band_not(differ, one);
            (w.b.ins().select(first, b, a), wrong)
        }
    }
}

/// A length before its call has run.
pub(crate) const NOT_FOUND: i64 = -1;

/// Writes what a word of a table says; `values` are those of the sizes.
pub(crate) fn resolve(w: &mut Writer<'_, '_>, word: Value, values: Option<Value>) -> Value {
    let Some(values) = values else { return word };
    let is_size = w.is(IntCC::SignedLessThan, word, 0);
    let zero = w.int(0);
    let index = w.b.ins().bnot(word);
    let index = w.b.ins().select(is_size, index, zero);
    let at = w.entry(values, index, 8);
    let size = w.word(at, 0);
    w.b.ins().select(is_size, size, word)
}
