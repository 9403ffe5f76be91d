//! The reduction of a tile in wide registers: loops over the axes, one multiply-add per sum and step.

use std::ops::Range;

use egret_loop::{Axis, Products};
use iced_x86::Register;
use iced_x86::code_asm::{AsmRegister64, CodeLabel, r8, r9, r10, rax, rbx, rdi, rsi};

use super::super::{Encoding, broken, refused};
use super::asm::WideIsa;
use super::asm::{MaskOp, Mem, Op2, Rm, Vr};
use super::tile::{Encoder, Layout, Pass, UNROLL, displacement, split};

/// The mask register that holds under AVX-512 whether there are totals yet: cheaper than storing zeros.
const TOTALS: Vr = 2;

/// What follows a step.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next step.
    Step,
    /// The next block: sums are added to their totals, and new ones begin.
    Block,
    /// Nothing: sums take in what waits for them.
    End,
}

impl Encoder<'_> {
    /// Sum everything up; the sums are in the first set of accumulators.
    pub(super) fn reduce(&mut self, pass: &Pass, layout: &Layout) -> Encoding<()> {
        // The first block's sums are the totals: they are added to -0, or to nothing.
        match self.isa {
            _ if self.cut.is_none() => {}
            WideIsa::Avx2 => {
                self.asm.minus_zero(0);
                (0..layout.rows * layout.vectors).for_each(|acc| self.asm.store(self.total(acc), 0, None));
            }
            WideIsa::Avx512 => self.asm.mask_op(MaskOp::Xor, TOTALS, TOTALS, TOTALS),
        }
        for acc in 0..layout.b {
            self.asm.zero(acc as Vr);
        }
        let (a, b) = self.axis(pass, layout, 0, Then::End)?;
        self.bump(-a, -b)
    }

    /// Where the total of an accumulator of the first set is.
    fn total(&self, acc: usize) -> Mem {
        Mem::at(Register::RSP, acc as i64 * self.isa.bytes())
    }

    /// What is done with a row of sums after its last step.
    pub(super) fn finish(&mut self, layout: &Layout, row: usize, then: Then) {
        for vector in 0..layout.vectors {
            let acc = layout.acc(0, row, vector);
            for set in 1..layout.sets {
                let add = if self.products == Products::Floats { Op2::Add } else { Op2::IAdd };
                self.asm.op2(add, acc, acc, Rm::Reg(layout.acc(set, row, vector)));
            }
            if self.cut.is_none() {
                continue;
            }
            let total = self.total(acc.into());
            match self.isa {
                WideIsa::Avx512 if then == Then::Block => self.asm.add_where(TOTALS, acc, total),
                _ => self.asm.op2(Op2::Add, acc, acc, Rm::Mem(total)),
            }
            if then == Then::Block {
                self.asm.store(total, acc, None);
                for set in 0..layout.sets {
                    self.asm.zero(layout.acc(set, row, vector));
                }
            }
        }
    }

    /// Move the a and b pointers by elements.
    pub(super) fn bump(&mut self, a: i64, b: i64) -> Encoding<()> {
        for (reg, elements) in [(rdi, a), (rsi, b)] {
            if elements != 0 {
                let r = self.asm.code.add(reg, place(self.products, elements, 0)? as i32);
                self.asm.ok(r);
            }
        }
        Ok(())
    }

    /// The loops from axis `depth` inwards; gives how far they moved the pointers.
    fn axis(&mut self, pass: &Pass, layout: &Layout, depth: usize, then: Then) -> Encoding<(i64, i64)> {
        let axis = self.axes[depth].clone();
        let Some(cut) = self.cut.filter(|c| c.depth == depth) else {
            return self.turns(pass, layout, depth, axis.extent, then);
        };
        // The last block may be shorter, and what follows it may differ.
        let blocks = (axis.extent - 1) / cut.turns;
        let (a, b) = (cut.turns * axis.a_stride, cut.turns * axis.b_stride);
        if blocks > 0 {
            let mut head = self.count(rbx, blocks)?;
            self.begin(&mut head);
            let (a_moved, b_moved) = self.turns(pass, layout, depth, cut.turns, Then::Block)?;
            self.bump(a - a_moved, b - b_moved)?;
            self.end(rbx, head);
        }
        let (a_moved, b_moved) = self.turns(pass, layout, depth, axis.extent - blocks * cut.turns, then)?;
        Ok((blocks * a + a_moved, blocks * b + b_moved))
    }

    /// So many turns of axis `depth`; gives how far they moved the pointers.
    fn turns(
        &mut self,
        pass: &Pass,
        layout: &Layout,
        depth: usize,
        turns: i64,
        then: Then,
    ) -> Encoding<(i64, i64)> {
        let axis = self.axes[depth].clone();
        if depth + 1 == self.axes.len() {
            return self.steps(pass, layout, turns, then);
        }
        const COUNTERS: [AsmRegister64; 3] = [r8, r9, r10];
        let counter =
            *COUNTERS.get(depth).ok_or_else(|| refused("its reduction has more than four axes"))?;
        let each = if self.cut.is_some_and(|c| c.depth > depth) { Then::Block } else { Then::Step };
        let alike = turns - i64::from(then != each);
        if alike > 0 {
            let mut head = self.count(counter, alike)?;
            self.begin(&mut head);
            let (a, b) = self.axis(pass, layout, depth + 1, each)?;
            self.bump(axis.a_stride - a, axis.b_stride - b)?;
            self.end(counter, head);
        }
        let (a, b) = if alike < turns { self.axis(pass, layout, depth + 1, then)? } else { (0, 0) };
        Ok((alike * axis.a_stride + a, alike * axis.b_stride + b))
    }

    /// So many turns of the innermost axis; gives how far they moved the pointers.
    fn steps(&mut self, pass: &Pass, layout: &Layout, steps: i64, then: Then) -> Encoding<(i64, i64)> {
        let axis = self.innermost()?;
        let alike = steps - i64::from(then != Then::Step);
        let rounds = if steps <= 2 * UNROLL { 0 } else { alike / UNROLL };
        if rounds > 0 {
            let mut head = self.count(rax, rounds)?;
            self.begin(&mut head);
            for k in 0..UNROLL {
                self.step(pass, layout, 0..layout.rows, k, Then::Step)?;
            }
            self.bump(UNROLL * axis.a_stride, UNROLL * axis.b_stride)?;
            self.end(rax, head);
        }
        let rest = steps - rounds * UNROLL;
        // Sums that are stored come in two groups of rows, the first while the second is still being summed up: one behind another,
        // so many stores stop the multiply-adds that come after them.
        for rows in
            split(layout.rows, if then == Then::Block { layout.rows.div_ceil(2) } else { layout.rows })
        {
            for k in 0..rest {
                self.step(pass, layout, rows.clone(), k, if k + 1 == rest { then } else { Then::Step })?;
            }
        }
        if then == Then::Block && self.isa == WideIsa::Avx512 {
            self.asm.mask_op(MaskOp::Xnor, TOTALS, TOTALS, TOTALS);
        }
        Ok((rounds * UNROLL * axis.a_stride, rounds * UNROLL * axis.b_stride))
    }

    pub(super) fn count(&mut self, counter: AsmRegister64, turns: i64) -> Encoding<CodeLabel> {
        let r = self.asm.code.mov(counter, turns);
        self.asm.ok(r);
        Ok(self.asm.code.create_label())
    }

    pub(super) fn begin(&mut self, head: &mut CodeLabel) {
        let r = self.asm.code.set_label(head);
        self.asm.ok(r);
    }

    pub(super) fn end(&mut self, counter: AsmRegister64, head: CodeLabel) {
        let r = self.asm.code.dec(counter);
        self.asm.ok(r);
        let r = self.asm.code.jnz(head);
        self.asm.ok(r);
    }

    pub(super) fn innermost(&self) -> Encoding<Axis> {
        self.axes.last().cloned().ok_or_else(|| broken("a reduction without axes"))
    }

    /// One step of the innermost axis, `k` steps from where the pointers are.
    fn step(
        &mut self,
        pass: &Pass,
        layout: &Layout,
        rows: Range<usize>,
        k: i64,
        then: Then,
    ) -> Encoding<()> {
        if let Some(even) = self.pairs {
            return self.step_in_pairs(even, pass, layout, rows, k, then);
        }
        let axis = self.innermost()?;
        // Turns of the loop are a multiple of every number of sets.
        let set = k as usize % layout.sets;
        let (products, tile, vector_bytes) = (self.products, self.tile, self.isa.bytes());
        let b_at = |vector: usize| -> Encoding<Mem> {
            Ok(Mem::at(Register::RSI, place(products, k * axis.b_stride, vector_bytes * vector as i64)?))
        };
        let a_at = |row: usize| place(products, k * axis.a_stride + tile.a_rows[pass.rows.start + row], 0);
        let multiply_add = match self.products {
            Products::Floats => Op2::Fma231,
            Products::Bytes | Products::Quads => Op2::Dot,
        };
        if let (1, Some(a)) = (layout.rows, layout.a) {
            self.asm.splat(a as Vr, Register::RDI, a_at(0)?);
            for (i, vector) in pass.vectors.clone().enumerate() {
                let b = match self.mask(vector) {
                    None => Rm::Mem(b_at(vector)?),
                    mask => {
                        self.asm.load(layout.b as Vr, b_at(vector)?, mask);
                        Rm::Reg(layout.b as Vr)
                    }
                };
                self.asm.op2(multiply_add, layout.acc(set, 0, i), a as Vr, b);
            }
            if then != Then::Step {
                self.finish(layout, 0, then);
            }
            return Ok(());
        }
        for (i, vector) in pass.vectors.clone().enumerate() {
            self.asm.load((layout.b + i) as Vr, b_at(vector)?, self.mask(vector));
        }
        for r in rows {
            let a = match layout.a {
                Some(reg) => {
                    self.asm.splat(reg as Vr, Register::RDI, a_at(r)?);
                    Rm::Reg(reg as Vr)
                }
                None => Rm::Mem(Mem::broadcast(Register::RDI, a_at(r)?)),
            };
            for i in 0..layout.vectors {
                let (acc, b) = (layout.acc(set, r, i), (layout.b + i) as Vr);
                match (self.products, a) {
                    (Products::Quads, _) => return Err(broken("quads without nonzeros")),
                    (Products::Bytes, Rm::Reg(a)) => self.asm.op2(multiply_add, acc, a, Rm::Reg(b)),
                    (Products::Bytes, Rm::Mem(_)) => {
                        return Err(broken("bytes of a that are not in a register"));
                    }
                    (Products::Floats, a) => self.asm.op2(multiply_add, acc, b, a),
                }
            }
            if then != Then::Step {
                self.finish(layout, r, then);
            }
        }
        Ok(())
    }
}

/// A displacement in bytes of so many elements of a or b and bytes.
pub(super) fn place(products: Products, elements: i64, bytes: i64) -> Encoding<i64> {
    match products {
        Products::Floats | Products::Quads => displacement(elements, bytes),
        Products::Bytes => displacement(0, elements.checked_add(bytes).unwrap_or(i64::MAX)),
    }
}
