//! Loops and branches as blocks; locals as their parameters.

use egret_loop::{Bound, Local, Stmt, Tile, V};
use iced_x86::Code;
use regalloc2::VReg;
use std::collections::{BTreeSet, HashMap};

use super::address::{Linear, imm32};
use super::bools::Test;
use super::{Scope, Select, Value};
use crate::isa::x86::kernel::alloc::{general, gpr};
use crate::isa::x86::kernel::mir::{Arg, Base, BlockId, Condition, End, INT, Inst, Mem, View};
use crate::isa::{Encoding, broken};
use crate::record;

/// All statements, outer ones first.
pub(super) fn walk<'k>(stmts: &'k [Stmt], f: &mut dyn FnMut(&'k Stmt)) {
    for stmt in stmts {
        f(stmt);
        match stmt {
            Stmt::For { body, .. } => walk(body, f),
            Stmt::While { head, body, .. } => [head, body].into_iter().for_each(|b| walk(b, f)),
            Stmt::If { then, otherwise, .. } => [then, otherwise].into_iter().for_each(|b| walk(b, f)),
            _ => {}
        }
    }
}

/// The locals that statements change.
fn changed(blocks: &[&[Stmt]]) -> BTreeSet<Local> {
    let mut found = BTreeSet::new();
    for block in blocks {
        walk(block, &mut |stmt| {
            if let Stmt::Set(l, _) = stmt {
                found.insert(*l);
            }
        });
    }
    found
}

impl<'k> Select<'k> {
    /// Of these locals, those that have a value.
    fn carried(&self, locals: BTreeSet<Local>) -> Vec<Local> {
        locals.into_iter().filter(|l| self.locals.get(l.0 as usize).is_some_and(Option::is_some)).collect()
    }

    /// Where locals are now.
    fn current(&self, locals: &[Local]) -> Encoding<Vec<VReg>> {
        let of = |l: &Local| self.locals[l.0 as usize].ok_or_else(|| broken(format!("{l} has no value")));
        locals.iter().map(of).collect()
    }

    /// Parameters of a block that take over locals; the scope in which they are is the current one.
    fn take_over(&mut self, block: BlockId, locals: &[Local]) {
        for l in locals {
            let class = super::class(self.kernel.locals[l.0 as usize], self.avx512);
            let v = self.register(class);
            self.function.blocks[block].params.push(v);
            self.locals[l.0 as usize] = Some(v);
        }
    }

    /// Code in a scope of its own; gives the block in which it ends.
    fn within(
        &mut self,
        block: BlockId,
        arm: bool,
        body: impl FnOnce(&mut Self) -> Encoding<()>,
    ) -> Encoding<()> {
        self.scopes.push(Scope { block, arm, known: HashMap::new() });
        let result = body(self);
        self.scopes.pop();
        result
    }

    /// The comparison `a < b`.
    fn less(&mut self, a: &Linear, b: &Linear) -> Test {
        let inst = self.compare_sums(a, b);
        Test { inst, holds: Condition::Less }
    }

    fn end_by(&mut self, test: Test, then: BlockId, otherwise: BlockId) {
        self.finish(End::Branch { test: test.inst, holds: test.holds, then, otherwise });
    }

    /// `for i in (begin..end).step_by(step)`, tested at the bottom.
    pub(super) fn for_loop(
        &mut self,
        var: Option<V>,
        begin: &Linear,
        end: &Linear,
        step: i64,
        body: &'k [Stmt],
    ) -> Encoding<()> {
        let known = begin.as_number().zip(end.as_number());
        if known.is_some_and(|(b, e)| b >= e) {
            // Its tiles are not called, but counted.
            walk(body, &mut |stmt| self.tiles += usize::from(matches!(stmt, Stmt::Tile(_))));
            return Ok(());
        }
        let locals = self.carried(changed(&[body]));
        let (outside, before) = (self.locals.clone(), self.current(&locals)?);
        let first = self.sum(begin);
        let end =
            if end.as_number().and_then(imm32).is_some() { end.clone() } else { Linear::of(self.sum(end)) };
        let [inside, back, out, after] = [(); 4].map(|()| self.function.block());
        let enter = if known.is_some() {
            // The parent's block goes on into the loop; what is moved out of the loop stands at its end.
            None
        } else {
            let [enter, skip] = [(); 2].map(|()| self.function.block());
            let test = self.less(&Linear::of(first), &end);
            self.end_by(test, enter, skip);
            self.function.blocks[skip].end = End::Jump(after, before.clone());
            Some(enter)
        };
        let args = [vec![first], before].concat();
        match enter {
            None => self.finish(End::Jump(inside, args)),
            Some(enter) => self.function.blocks[enter].end = End::Jump(inside, args),
        }
        self.within(inside, false, |s| {
            let i = s.register(INT);
            s.function.blocks[inside].params.push(i);
            if let Some(var) = var {
                s.values[var.0 as usize] = Value::Linear(Linear::of(i));
            }
            s.take_over(inside, &locals);
            s.stmts(body)?;
            let next = Linear::of(i).plus(&Linear::number(step), 1);
            let next = s.sum(&next);
            let test = s.less(&Linear::of(next), &end);
            s.end_by(test, back, out);
            let now = s.current(&locals)?;
            s.function.blocks[back].end = End::Jump(inside, [vec![next], now.clone()].concat());
            s.function.blocks[out].end = End::Jump(after, now);
            Ok(())
        })?;
        self.go_on(after, outside, &locals);
        Ok(())
    }

    /// After a loop: locals that it changes are parameters, and those that only it had are gone.
    fn go_on(&mut self, after: BlockId, outside: Vec<Option<VReg>>, changed: &[Local]) {
        self.locals = outside;
        self.scope().block = after;
        self.take_over(after, changed);
    }

    pub(super) fn while_loop(&mut self, head: &'k [Stmt], test: V, body: &'k [Stmt]) -> Encoding<()> {
        let locals = self.carried(changed(&[head, body]));
        let (outside, before) = (self.locals.clone(), self.current(&locals)?);
        let [top, inside, out, after] = [(); 4].map(|()| self.function.block());
        self.finish(End::Jump(top, before));
        self.within(top, false, |s| {
            s.take_over(top, &locals);
            s.stmts(head)?;
            let test = s.test(test)?;
            s.end_by(test, inside, out);
            let now = s.current(&locals)?;
            s.function.blocks[out].end = End::Jump(after, now);
            s.scope().block = inside;
            s.stmts(body)?;
            let now = s.current(&locals)?;
            s.finish(End::Jump(top, now));
            Ok(())
        })?;
        self.go_on(after, outside, &locals);
        Ok(())
    }

    /// The end of a range.
    fn bound(&mut self, bound: Bound) -> Encoding<Linear> {
        match bound {
            Bound::Number(number) => Ok(Linear::number(number)),
            Bound::Value(v) => self.linear(v),
        }
    }

    /// Go on only where a number is in `low..high`; else leave the reason before the arguments, and return.
    pub(super) fn check(&mut self, value: V, low: Bound, high: Bound) -> Encoding<()> {
        let number = self.linear(value)?;
        let (from, to) = (self.bound(low)?, self.bound(high)?);
        let [good, bad] = [(); 2].map(|()| self.function.block());
        if let (Bound::Number(low), Bound::Number(high)) = (low, high) {
            let length = i64::try_from(i128::from(high) - i128::from(low));
            let length = length.map_err(|_| broken(format!("the range {low} to {high} is too long")))?;
            // As far above the least, in words that wrap.
            let above = self.sum(&number.clone().plus(&from, -1));
            let inst = self.compare_sums(&Linear::of(above), &Linear::number(length.max(0)));
            self.end_by(Test { inst, holds: Condition::Below }, good, bad);
        } else {
            // The end may lie before the least: no number is in such a range. Both are known before the first branch.
            let (below, before_end) = (self.less(&number, &from), self.less(&number, &to));
            let [further, low, high] = [(); 3].map(|()| self.function.block());
            self.end_by(below, low, further);
            self.scope().block = further;
            self.end_by(before_end, good, high);
            // No edge leads from a block with several ends to one that several lead to.
            for from in [low, high] {
                self.function.blocks[from].cold = true;
                self.within(from, true, |s| {
                    s.finish(End::Jump(bad, vec![]));
                    Ok(())
                })?;
            }
        }
        self.function.blocks[bad].cold = true;
        self.within(bad, true, |s| {
            let words = [s.sum(&number), s.sum(&from), s.sum(&to), s.int(1)];
            for (word, disp) in words.into_iter().zip(record::WORDS) {
                let place = Mem { base: Base::Reg(s.args), index: None, disp, broadcast: false };
                s.push(Inst::new(Code::Mov_rm64_r64, vec![Arg::Mem(place), Arg::Use(word, View::B64)]));
            }
            s.finish(End::Return);
            Ok(())
        })?;
        self.scope().block = good;
        Ok(())
    }

    /// A leaf takes the addresses of a, b and out, and of an array of the addresses of what else it reads.
    pub(super) fn tile(&mut self, tile: &Tile) -> Encoding<()> {
        let mut args = vec![];
        for place in [&tile.a, &tile.b, &tile.out] {
            let place = self.place(place.param, place.base)?;
            args.push(self.address_of(place));
        }
        let mut others = 0;
        for place in tile.others() {
            let place = self.place(place.param, place.base)?;
            let address = self.address_of(place);
            let slot = Mem { base: Base::Frame, index: None, disp: 8 * others, broadcast: false };
            self.push(Inst::new(Code::Mov_rm64_r64, vec![Arg::Mem(slot), Arg::Use(address, View::B64)]));
            others += 1;
        }
        self.function.frame = self.function.frame.max(8 * others);
        args.push(self.address_of(Mem { base: Base::Frame, index: None, disp: 0, broadcast: false }));
        let mut call = Inst::new(Code::Call_rel32_64, vec![]);
        call.reads = args.into_iter().zip(gpr::ARGS.map(general)).collect();
        call.calls = Some(self.tiles);
        self.tiles += 1;
        self.push(call);
        Ok(())
    }

    fn address_of(&mut self, place: Mem) -> VReg {
        match place {
            Mem { base: Base::Reg(v), index: None, disp: 0, .. } => v,
            place => self.define(Code::Lea_r64_m, INT, View::B64, vec![Arg::Mem(place)]),
        }
    }

    pub(super) fn branch(&mut self, cond: V, then: &'k [Stmt], otherwise: &'k [Stmt]) -> Encoding<()> {
        let locals = self.carried(changed(&[then, otherwise]));
        let before = self.locals.clone();
        let [yes, no, after] = [(); 3].map(|()| self.function.block());
        let test = self.test(cond)?;
        self.end_by(test, yes, no);
        for (block, stmts) in [(yes, then), (no, otherwise)] {
            self.locals.clone_from(&before);
            self.within(block, true, |s| {
                s.stmts(stmts)?;
                let now = s.current(&locals)?;
                s.finish(End::Jump(after, now));
                Ok(())
            })?;
        }
        self.go_on(after, before, &locals);
        Ok(())
    }
}
