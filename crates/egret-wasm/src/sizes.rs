//! Code that computes sizes: all that are made of dims when a run is planned, others behind the calls that find the lengths that they are made of.

use egret_loop::conditions::Conditions;
use egret_loop::{Program, Size, SizeId, SizeOp};
use wasm_encoder::Instruction as I;
use wasm_encoder::{BlockType, ValType};

use crate::error::{Result, broken};
use crate::writer::{Address, Value, Writer};

/// The sizes of a module.
pub struct Sizes<'p> {
    list: &'p [Size],
    /// Address of their values.
    values: u32,
    conditions: &'p Conditions,
    /// For each the call that it waits for.
    behind: Vec<Option<usize>>,
}

impl<'p> Sizes<'p> {
    /// Sizes whose values are at an address.
    pub fn new(
        program: &Program,
        list: &'p [Size],
        values: u32,
        conditions: &'p Conditions,
    ) -> Result<Sizes<'p>> {
        let mut behind: Vec<Option<usize>> = vec![];
        for size in list {
            let of = |s: SizeId| {
                behind.get(s.0 as usize).copied().ok_or_else(|| broken(format!("{s} too early")))
            };
            behind.push(match *size {
                Size::Symbol(_) | Size::Const(_) => None,
                Size::Length(i) => program.lengths.get(i).map(|l| l.call),
                Size::Op(_, a, b) => of(a)?.max(of(b)?),
            });
        }
        Ok(Sizes { list, values, conditions, behind })
    }

    /// Computes those that wait for a call, or for none; a function that gives a status ends where one has no value. `given` is the value of a symbol or a length,
    /// an i64 that is not negative if it is right.
    pub fn compute(
        &self,
        w: &mut Writer,
        call: Option<usize>,
        given: &dyn Fn(&mut Writer, Size) -> Result<Value>,
    ) -> Result<()> {
        for (i, size) in self.list.iter().enumerate().filter(|(i, _)| self.behind[*i] == call) {
            let id = SizeId(i as u32);
            // There may be thousands: each is read where it is stored, so that all are made in the same few locals.
            w.apart(|w| -> Result<()> {
                let value = match *size {
                    Size::Const(c) => w.i64(c),
                    Size::Symbol(_) | Size::Length(_) => {
                        let value = given(w, *size)?;
                        self.not_negative(w, id, value);
                        value
                    }
                    Size::Op(op, a, b) => {
                        let (x, y) = (self.load(w, a), self.load(w, b));
                        self.operation(w, id, op, x, y)
                    }
                };
                w.store(I::I64Store, self.address(id), value);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn address(&self, id: SizeId) -> Address {
        Address { base: None, offset: self.values + 8 * id.0 }
    }

    /// The value of a size that has been computed.
    pub fn load(&self, w: &mut Writer, id: SizeId) -> Value {
        w.load(ValType::I64, I::I64Load, self.address(id))
    }

    /// Ends where a condition (an i32) holds.
    fn fail_if(&self, w: &mut Writer, id: SizeId, wrong: Value) {
        w.get(wrong);
        w.put(&I::If(BlockType::Empty));
        let number = w.i32(self.conditions.of_size(id) as i32);
        w.end_with_condition(number);
        w.put(&I::End);
    }

    fn not_negative(&self, w: &mut Writer, id: SizeId, value: Value) {
        let zero = w.i64(0);
        let wrong = w.op(ValType::I32, &I::I64LtS, &[value, zero]);
        self.fail_if(w, id, wrong);
    }

    /// An operation on two numbers that are not negative.
    fn operation(&self, w: &mut Writer, id: SizeId, op: SizeOp, a: Value, b: Value) -> Value {
        let (word, long) = (ValType::I32, ValType::I64);
        match op {
            SizeOp::Add | SizeOp::Sub => {
                // A sum is below 2^64: beyond i64 it is negative.
                let value = w.op(long, &if op == SizeOp::Add { I::I64Add } else { I::I64Sub }, &[a, b]);
                self.not_negative(w, id, value);
                value
            }
            SizeOp::Mul => {
                let value = w.op(long, &I::I64Mul, &[a, b]);
                self.not_negative(w, id, value);
                // Of less than 2^64 it is the product where it gives one factor, divided by the other.
                let one = w.i64(1);
                let none = w.op(word, &I::I64Eqz, &[a]);
                let by = w.op(long, &I::Select, &[one, a, none]);
                let factor = w.op(long, &I::I64DivU, &[value, by]);
                let differs = w.op(word, &I::I64Ne, &[factor, b]);
                let some = w.op(word, &I::I32Eqz, &[none]);
                let wrong = w.op(word, &I::I32And, &[differs, some]);
                self.fail_if(w, id, wrong);
                value
            }
            SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod => {
                let none = w.op(word, &I::I64Eqz, &[b]);
                self.fail_if(w, id, none);
                if op == SizeOp::FloorDiv {
                    return w.op(long, &I::I64DivU, &[a, b]);
                }
                let rest = w.op(long, &I::I64RemU, &[a, b]);
                if op == SizeOp::Mod {
                    return rest;
                }
                let quotient = w.op(long, &I::I64DivU, &[a, b]);
                let zero = w.i64(0);
                let more = w.op(word, &I::I64Ne, &[rest, zero]);
                let more = w.op(long, &I::I64ExtendI32U, &[more]);
                w.op(long, &I::I64Add, &[quotient, more])
            }
            SizeOp::Min | SizeOp::Max => {
                let less = w.op(word, &I::I64LtS, &[a, b]);
                let (least, most) = if op == SizeOp::Min { (a, b) } else { (b, a) };
                w.op(long, &I::Select, &[least, most, less])
            }
            SizeOp::Broadcast => {
                let one = w.i64(1);
                let differ = w.op(word, &I::I64Ne, &[a, b]);
                let [many_a, many_b] = [a, b].map(|x| w.op(word, &I::I64Ne, &[x, one]));
                let both = w.op(word, &I::I32And, &[many_a, many_b]);
                let wrong = w.op(word, &I::I32And, &[differ, both]);
                self.fail_if(w, id, wrong);
                w.op(long, &I::Select, &[a, b, many_a])
            }
        }
    }
}
