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

use crate::abi::writer::Writer;
use crate::error::{Result, broken};
use crate::output::Output;

/// The sizes of a program, and what else its tables need to be known when a run begins.
pub(crate) struct Sizes {
    list: SizeList,
    conditions: Conditions,
}

impl Sizes {
    /// Those of a program.
    pub fn of(program: &Program) -> Sizes {
        Sizes { list: program.sizes.clone().into(), conditions: Conditions::of(program) }
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
    pub fn word(e: Extent) -> i64 {
        match e {
            Extent::Const(c) => c,
            Extent::Size(s) => -1 - i64::from(s.0),
        }
    }

    /// `fn(symbols, lengths, values) -> code`: computes all sizes, and names the condition of the first that has no value. A length that is not found
    /// is [`NOT_FOUND`]; what is made of it has no value yet, which is no error.
    pub fn define<M: Module>(&self, out: &mut Output<'_, M>) -> Result<FuncId> {
        let signature = out.signature(3, true);
        out.function(&out.symbol("sizes"), Linkage::Local, signature, |b, _| {
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
                        let of = |s: SizeId| values.get(s.0 as usize).copied();
                        let operands = of(a).zip(of(b));
                        let ((a, first), (b, second)) =
                            operands.ok_or_else(|| broken(format!("s{i} has no operands")))?;
                        let waits = match (first, second) {
                            (Some(first), Some(second)) => Some(w.b.ins().bor(first, second)),
                            (one, other) => one.or(other),
                        };
                        let (value, wrong) = operation(&mut w, op, a, b);
                        (value, Some(wrong), waits)
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
                w.put(value, to, 8 * i);
                values.push((value, waits));
            }
            w.b.ins().return_(&[code]);
            w.finish();
            Ok(())
        })
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
