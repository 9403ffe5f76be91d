//! Lanes of two vectors by a fixed order.
//!
//! Those by blocks of 16 bytes are one instruction each, which needs no constant and leaves both vectors as they are. Those by lanes are, with
//! AVX-512, one permutation of both, whose order is a constant in a register; without it, what there is shuffles the blocks each by
//! themselves, and another instruction orders the blocks.

use egret_loop::{Half, Parity, Shuffle, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::Encoding;
use crate::isa::x86::kernel::mir::{Arg, Base, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;

/// Lanes, or blocks, 0 and 2 of each of two vectors of four, and 1 and 3.
const EVEN: i64 = 0b10_00_10_00;
const ODD: i64 = 0b11_01_11_01;
/// Quarters of a vector: the even ones before the odd ones.
const EVEN_THEN_ODD: i64 = 0b11_01_10_00;
/// Halves of two vectors: the low ones, and the high ones.
const LOWS: i64 = 0x20;
const HIGHS: i64 = 0x31;

impl Select<'_> {
    /// The lanes of two vectors by a fixed order.
    pub(super) fn shuffle(&mut self, ty: Ty, op: Shuffle, a: V, b: V) -> Encoding<Value> {
        let view = vector_view(ty)?;
        let (a, b) = (self.reg(a)?, self.reg(b)?);
        let v = match op {
            Shuffle::Unpack(half) => self.unpack(ty, half, a, b)?,
            Shuffle::Interleave(half) if view == View::X => self.unpack(ty, half, a, b)?,
            Shuffle::Blocks(parity) => self.blocks(view, parity, a, b),
            _ if self.avx512 && view != View::X => self.permute(ty, a, b, |l| op.source(ty, l))?,
            Shuffle::Interleave(half) => {
                let lows = self.unpack(ty, Half::Low, a, b)?;
                let highs = self.unpack(ty, Half::High, a, b)?;
                let parity = if half == Half::Low { Parity::Even } else { Parity::Odd };
                self.blocks(view, parity, lows, highs)
            }
            Shuffle::Deinterleave(parity) => self.deinterleave(ty, parity, a, b)?,
        };
        Ok(Value::Reg(v))
    }

    /// Halves of each 16 bytes by turns.
    fn unpack(&mut self, ty: Ty, half: Half, a: VReg, b: VReg) -> Encoding<VReg> {
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let op = match (size, half) {
            (8, Half::Low) => VectorOp::PunpcklQdq,
            (8, Half::High) => VectorOp::PunpckhQdq,
            (_, Half::Low) => VectorOp::PunpcklDq,
            (_, Half::High) => VectorOp::PunpckhDq,
        };
        self.two(op, view, a, Arg::Use(b, view))
    }

    /// Every other 16 bytes of two vectors.
    fn blocks(&mut self, view: View, parity: Parity, a: VReg, b: VReg) -> VReg {
        let odd = parity == Parity::Odd;
        let (code, which) = match view {
            // One block each.
            View::X => return if odd { b } else { a },
            View::Y if self.avx512 => {
                (Code::EVEX_Vshufi32x4_ymm_k1z_ymm_ymmm256b32_imm8, if odd { 0b11 } else { 0b00 })
            }
            View::Y => (Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8, if odd { HIGHS } else { LOWS }),
            _ => (Code::EVEX_Vshufi32x4_zmm_k1z_zmm_zmmm512b32_imm8, if odd { ODD } else { EVEN }),
        };
        let args = vec![Arg::Use(a, view), Arg::Use(b, view), Arg::Imm(which, OpKind::Immediate8)];
        self.pure(code, (VECTOR, view), None, args, None)
    }

    /// Every other lane, of a vector of 16 bytes or without AVX-512.
    fn deinterleave(&mut self, ty: Ty, parity: Parity, a: VReg, b: VReg) -> Encoding<VReg> {
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let odd = parity == Parity::Odd;
        let v = if size == 8 {
            self.unpack(ty, if odd { Half::High } else { Half::Low }, a, b)?
        } else {
            let code = self.code(VectorOp::ShufPs, view)?;
            let lanes = Arg::Imm(if odd { ODD } else { EVEN }, OpKind::Immediate8);
            let args = vec![Arg::Use(a, view), Arg::Use(b, view), lanes];
            self.pure(code, (VECTOR, view), None, args, None)
        };
        if view == View::X {
            return Ok(v);
        }
        let args = vec![Arg::Use(v, view), Arg::Imm(EVEN_THEN_ODD, OpKind::Immediate8)];
        let code = Code::VEX_Vpermq_ymm_ymmm256_imm8;
        Ok(self.pure(code, (VECTOR, view), None, args, None))
    }

    /// With AVX-512, for each lane one of those of two vectors, counted through both.
    fn permute(&mut self, ty: Ty, a: VReg, b: VReg, from: impl Fn(usize) -> usize) -> Encoding<VReg> {
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let order = (0..usize::from(ty.lanes)).flat_map(|l| from(l).to_le_bytes()[..size].to_vec());
        let at = self.function.constant(order.collect());
        let order = Arg::Mem(Mem { base: Base::Pool(at), index: None, disp: 0, broadcast: false });
        let load = self.code(VectorOp::LoadUps, view)?;
        let order = self.pure(load, (VECTOR, view), None, vec![order], None);
        let code = self.code(if size == 8 { VectorOp::Permt2Q } else { VectorOp::Permt2D }, view)?;
        let args = vec![Arg::Use(order, view), Arg::Use(b, view)];
        Ok(self.pure(code, (VECTOR, view), Some(a), args, None))
    }
}
