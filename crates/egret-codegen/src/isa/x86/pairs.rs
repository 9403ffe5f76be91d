//! Steps of tiles of bytes where there are no dot products of them: products of pairs of i16.
//!
//! A step multiplies four bytes of u8 by four of i8 in each lane. `vpmaddubsw` would multiply them at once, but adds pairs of products in
//! i16, which 255 * 127 + 255 * 127 is beyond. So a step has two halves: the even bytes of every lane, then the odd ones, each widened to
//! i16 in the register where the lane lies (`vpmovzxbw` would move them to others). `vpmaddwd` multiplies them and adds the two products in
//! i32, which is exact. A half needs the vectors of `b` in registers, one vector of `a` and one of products: what a tile of floats takes, and
//! one more. The operands of the other half are loaded again.

use std::ops::Range;

use egret_loop::Products;
use iced_x86::Register;

use super::super::{Encoding, broken};
use super::asm::{Mem, Op2, Rm, ShiftWords, Vr};
use super::reduce::{Then, place};
use super::tile::{Encoder, Layout, Pass};

/// The bytes of a step that are multiplied at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Half {
    Even,
    Odd,
}

impl Encoder<'_> {
    /// A step of some rows, `k` steps from where the pointers are. The constant `even` has the bits of even bytes.
    pub(super) fn step_in_pairs(
        &mut self,
        even: usize,
        pass: &Pass,
        layout: &Layout,
        rows: Range<usize>,
        k: i64,
        then: Then,
    ) -> Encoding<()> {
        let axis = self.innermost()?;
        let a = layout.a.ok_or_else(|| broken("bytes of a that are not in a register"))?;
        let (a, product) = (a as Vr, (a + 1) as Vr);
        for half in [Half::Even, Half::Odd] {
            // Vectors of b that many rows read are widened once; a single row multiplies each where it is.
            let shared = layout.rows > 1;
            let of_b = |i: usize| (layout.b + if shared { i } else { 0 }) as Vr;
            for i in 0..if shared { layout.vectors } else { 0 } {
                self.half_of_b(half, of_b(i), k * axis.b_stride, pass.vectors.start + i)?;
            }
            for r in rows.clone() {
                let at = k * axis.a_stride + self.tile.a_rows[pass.rows.start + r];
                self.half_of_a(even, half, a, place(Products::Bytes, at, 0)?);
                for i in 0..layout.vectors {
                    if !shared {
                        self.half_of_b(half, of_b(i), k * axis.b_stride, pass.vectors.start + i)?;
                    }
                    // What nothing reads any more makes room for the products.
                    let to = match (shared, i + 1 == layout.vectors) {
                        (false, _) => of_b(i),
                        (true, true) => a,
                        (true, false) => product,
                    };
                    let sum = layout.acc(0, r, i);
                    self.asm.op2(Op2::MulPairs, to, a, Rm::Reg(of_b(i)));
                    self.asm.op2(Op2::IAdd, sum, sum, Rm::Reg(to));
                }
                if half == Half::Odd && then != Then::Step {
                    self.finish(layout, r, then);
                }
            }
        }
        Ok(())
    }

    /// Half of the four bytes of `a` that are so many bytes behind its pointer, in every lane.
    fn half_of_a(&mut self, even: usize, half: Half, to: Vr, at: i64) {
        self.asm.splat(to, Register::RDI, at);
        match half {
            Half::Even => {
                let even = self.constant(even);
                self.asm.op2(Op2::And, to, to, Rm::Mem(even));
            }
            Half::Odd => self.asm.shift_words(ShiftWords::Right, to, to),
        }
    }

    /// Half of the bytes of a vector of `b`, in the step so many bytes behind its pointer.
    fn half_of_b(&mut self, half: Half, to: Vr, at: i64, vector: usize) -> Encoding<()> {
        let at = place(Products::Bytes, at, self.isa.bytes() * vector as i64)?;
        self.asm.load(to, Mem::at(Register::RSI, at), self.mask(vector));
        if half == Half::Even {
            self.asm.shift_words(ShiftWords::Left, to, to);
        }
        self.asm.shift_words(ShiftWords::SignedRight, to, to);
        Ok(())
    }
}
