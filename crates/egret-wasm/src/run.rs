//! The function that runs the calls of a program.

use egret_loop::conditions::Conditions;
use egret_loop::{Extent, Program, Size};
use std::iter::Peekable;
use std::ops::Range;
use wasm_encoder::Instruction as I;
use wasm_encoder::{BlockType, Function, ValType};

use crate::error::{Result, broken};
use crate::layout::{FAILURE, Layout, PLANNED, Spot};
use crate::plan::Planning;
use crate::status::Status;
use crate::writer::{Address, Value, Writer};

/// Where all that calls, guards and lengths name is: what sizes these need.
pub struct Spots {
    /// For each call its arguments.
    calls: Vec<Vec<Spot>>,
    /// For each guard its condition.
    guards: Vec<Extent>,
    /// Where each length is written to.
    lengths: Vec<Extent>,
}

impl Spots {
    /// Those of a program.
    pub fn of(program: &Program, layout: &mut Layout) -> Result<Spots> {
        let mut calls = vec![];
        for call in &program.calls {
            let args = call.args.iter().map(|arg| layout.spot(program, arg, call.repeat));
            calls.push(args.collect::<Result<Vec<_>>>()?);
        }
        let mut at = |arg| Ok(layout.spot(program, arg, None)?.at);
        let guards = program.guards.iter().map(|g| at(&g.cond)).collect::<Result<Vec<_>>>()?;
        let lengths = program.lengths.iter().map(|l| at(&l.at)).collect::<Result<Vec<_>>>()?;
        Ok(Spots { calls, guards, lengths })
    }
}

/// What a run is made of.
pub struct Run<'p> {
    /// The program.
    pub program: &'p Program,
    /// Where its arguments are.
    pub spots: &'p Spots,
    /// How sizes are planned, if there are any.
    pub planning: Option<&'p Planning<'p>>,
    /// The functions of kernels, and whether each takes a number of tasks.
    pub kernels: &'p [(u32, bool)],
    /// What sizes have to meet.
    pub conditions: &'p Conditions,
}

impl Run<'_> {
    /// The function: 0, or the [`Status`] that it ended with.
    pub fn function(&self) -> Result<Function> {
        let (mut w, _) = Writer::new(&[]);
        if self.planning.is_some() {
            let planned = w.load(ValType::I32, I::I32Load, Address { base: None, offset: PLANNED });
            let missing = w.op(ValType::I32, &I::I32Eqz, &[planned]);
            w.get(missing);
            w.put(&I::If(BlockType::Empty));
            w.end_with(Status::NotPlanned);
            w.put(&I::End);
        }
        // An outer guard begins before an inner one, or ends behind it; they are nested or disjoint: `flow` has looked.
        let guards = &self.program.guards;
        let mut order: Vec<usize> = (0..guards.len()).collect();
        order.sort_by_key(|&g| (guards[g].calls.start, std::cmp::Reverse(guards[g].calls.end)));
        self.calls(&mut w, &mut order.into_iter().peekable(), 0..self.program.calls.len())?;
        if let Some(planning) = self.planning {
            planning.tell_found(&mut w);
        }
        w.put(&I::I32Const(0));
        w.finish()
    }

    fn calls(
        &self,
        w: &mut Writer,
        guards: &mut Peekable<impl Iterator<Item = usize>>,
        calls: Range<usize>,
    ) -> Result<()> {
        let mut at = calls.start;
        while at < calls.end {
            let Some(number) = guards.next_if(|&g| self.program.guards[g].calls.start == at) else {
                w.apart(|w| self.call(w, at))?;
                w.apart(|w| self.lengths(w, at))?;
                at += 1;
                continue;
            };
            let guard = &self.program.guards[number];
            // A block to be left where the condition does not hold, and, to be run again, a loop in it.
            w.put(&I::Block(BlockType::Empty));
            w.put(&I::Loop(BlockType::Empty));
            w.apart(|w| -> Result<()> {
                let cond = self.place(w, self.spots.guards[number])?;
                let cond = w.load(ValType::I32, I::I32Load8U, cond);
                w.get(cond);
                Ok(())
            })?;
            if guard.holds {
                w.put(&I::I32Eqz);
            }
            w.put(&I::BrIf(1));
            self.calls(w, guards, guard.calls.clone())?;
            if guard.repeats {
                w.put(&I::Br(0));
            }
            [I::End, I::End].iter().for_each(|i| w.put(i));
            at = guard.calls.end;
        }
        Ok(())
    }

    /// A number as an i64.
    fn value(&self, w: &mut Writer, e: Extent) -> Result<Value> {
        match (e, self.planning) {
            (Extent::Const(c), _) => Ok(w.i64(c)),
            (Extent::Size(s), Some(planning)) => Ok(planning.sizes.load(w, s)),
            (Extent::Size(s), None) => Err(broken(format!("{s}, which nothing plans"))),
        }
    }

    /// An address as an i32.
    fn address(&self, w: &mut Writer, e: Extent) -> Result<Value> {
        match e {
            Extent::Const(c) => Ok(w.i32(fixed(c)? as i32)),
            Extent::Size(_) => {
                let value = self.value(w, e)?;
                Ok(w.op(ValType::I32, &I::I32WrapI64, &[value]))
            }
        }
    }

    /// An address to load from.
    fn place(&self, w: &mut Writer, e: Extent) -> Result<Address> {
        match e {
            Extent::Const(c) => Ok(Address { base: None, offset: fixed(c)? }),
            Extent::Size(_) => Ok(Address { base: Some(self.address(w, e)?), offset: 0 }),
        }
    }

    fn call(&self, w: &mut Writer, at: usize) -> Result<()> {
        let call = &self.program.calls[at];
        let number = call.kernel.0 as usize;
        let (Some(kernel), Some(&(function, counted))) =
            (self.program.kernels.get(number), self.kernels.get(number))
        else {
            return Err(broken(format!("there is no {}", call.kernel)));
        };
        let spots = &self.spots.calls[at];
        let Some(repeat) = call.repeat else {
            for spot in spots {
                match spot.at {
                    Extent::Const(c) => w.put(&I::I32Const(fixed(c)? as i32)),
                    at => {
                        let address = self.address(w, at)?;
                        w.get(address);
                    }
                }
            }
            if counted {
                let tasks = self.value(w, call.tasks.map_or(Extent::Const(kernel.tasks), Extent::Size))?;
                w.get(tasks);
            }
            w.put(&I::Call(function));
            return self.failure(w, at, kernel.can_fail());
        };
        let args = spots.iter().map(|spot| {
            let address = self.address(w, spot.at)?;
            Ok(w.copy(address))
        });
        let args = args.collect::<Result<Vec<_>>>()?;
        let tasks = self.value(w, call.tasks.map_or(Extent::Const(kernel.tasks), Extent::Size))?;
        let runs = self.value(w, Extent::Size(repeat.runs))?;
        let left = w.copy(runs);
        // Tested at the bottom; of no runs nothing is done.
        w.put(&I::Block(BlockType::Empty));
        w.get(left);
        w.put(&I::I64Eqz);
        w.put(&I::BrIf(0));
        w.put(&I::Loop(BlockType::Empty));
        args.iter().for_each(|arg| w.get(*arg));
        if counted {
            w.get(tasks);
        }
        w.put(&I::Call(function));
        self.failure(w, at, kernel.can_fail())?;
        for (arg, spot) in args.iter().zip(spots).filter(|(_, spot)| spot.stride != 0) {
            let next = w.plus(*arg, spot.stride);
            w.assign(*arg, next);
        }
        let one = w.i64(1);
        let fewer = w.op(ValType::I64, &I::I64Sub, &[left, one]);
        w.assign(left, fewer);
        w.get(left);
        [I::I64Eqz, I::I32Eqz, I::BrIf(0), I::End, I::End].iter().for_each(|i| w.put(i));
        Ok(())
    }

    /// Behind a kernel that may fail, and says so on the stack.
    fn failure(&self, w: &mut Writer, call: usize, can_fail: bool) -> Result<()> {
        if !can_fail {
            return Ok(());
        }
        w.put(&I::If(BlockType::Empty));
        match self.conditions.of_call(call) {
            Some(first) => {
                let need = w.load(ValType::I32, I::I32Load, Address { base: None, offset: FAILURE });
                let number = w.plus(need, first.into());
                w.end_with_condition(number);
            }
            None => w.end_with(Status::OutOfRange),
        }
        w.put(&I::End);
        Ok(())
    }

    /// Behind a call: computes the sizes that have waited for what it finds.
    fn lengths(&self, w: &mut Writer, call: usize) -> Result<()> {
        let found = self.program.lengths.iter().zip(&self.spots.lengths).filter(|(l, _)| l.call == call);
        let Some(planning) = self.planning else {
            return match found.count() {
                0 => Ok(()),
                _ => Err(broken("a length that nothing plans")),
            };
        };
        for (length, at) in found {
            let (at, most) = (self.place(w, *at)?, self.value(w, length.most)?);
            let count = w.load(ValType::I64, I::I64Load, at);
            // A kernel that finds more than there can be is wrong; what follows has no room for it.
            let beyond = w.op(ValType::I32, &I::I64GtU, &[count, most]);
            w.get(beyond);
            w.put(&I::If(BlockType::Empty));
            let none = w.i32(0);
            w.end_with_condition(none);
            w.put(&I::End);
        }
        planning.sizes.compute(w, Some(call), &|w, size| match size {
            Size::Length(i) => {
                let at =
                    self.spots.lengths.get(i).ok_or_else(|| broken(format!("there is no length {i}")))?;
                let at = self.place(w, *at)?;
                Ok(w.load(ValType::I64, I::I64Load, at))
            }
            _ => Err(broken("a dim that a call finds")),
        })
    }
}

fn fixed(address: i64) -> Result<u32> {
    u32::try_from(address).map_err(|_| broken("an argument outside of memory"))
}
