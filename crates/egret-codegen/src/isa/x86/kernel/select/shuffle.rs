//! Lanes of two vectors by a fixed order: interleaved and deinterleaved.
//!
//! With AVX-512 one permutation of both, whose order is a constant in a register. Without it, what there is shuffles the 16-byte parts of
//! vectors each by themselves, and another instruction orders the parts.

use egret_loop::{Half, Parity, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::Encoding;
use crate::isa::x86::kernel::mir::{Arg, Base, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;

/// Lanes 0 and 2 of each of two vectors of four, and 1 and 3.
const EVEN: i64 = 0b10_00_10_00;
const ODD: i64 = 0b11_01_11_01;
/// Quarters of a vector: the even ones before the odd ones.
const EVEN_THEN_ODD: i64 = 0b11_01_10_00;
/// Halves of two vectors: the low ones, and the high ones.
const LOWS: i64 = 0x20;
const HIGHS: i64 = 0x31;

impl Select<'_> {
    pub(super) fn interleave(&mut self, ty: Ty, half: Half, a: V, b: V) -> Encoding<Value> {
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let (a, b) = (self.reg(a)?, self.reg(b)?);
        let (low, high) = match size {
            8 => (VectorOp::PunpcklQdq, VectorOp::PunpckhQdq),
            _ => (VectorOp::PunpcklDq, VectorOp::PunpckhDq),
        };
        let v = match view {
            View::X => {
                let op = if half == Half::Low { low } else { high };
                self.two(op, view, a, Arg::Use(b, view))?
            }
            _ if self.avx512 => {
                let n = usize::from(ty.lanes);
                let first = if half == Half::Low { 0 } else { n / 2 };
                self.permute(ty, a, b, |l| first + l / 2 + l % 2 * n)?
            }
            _ => {
                let lows = self.two(low, view, a, Arg::Use(b, view))?;
                let highs = self.two(high, view, a, Arg::Use(b, view))?;
                let which = Arg::Imm(if half == Half::Low { LOWS } else { HIGHS }, OpKind::Immediate8);
                let args = vec![Arg::Use(lows, view), Arg::Use(highs, view), which];
                let code = Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8;
                self.pure(code, (VECTOR, view), None, args, None)
            }
        };
        Ok(Value::Reg(v))
    }

    pub(super) fn deinterleave(&mut self, ty: Ty, parity: Parity, a: V, b: V) -> Encoding<Value> {
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let (a, b) = (self.reg(a)?, self.reg(b)?);
        let odd = parity == Parity::Odd;
        if self.avx512 && view != View::X {
            return Ok(Value::Reg(self.permute(ty, a, b, |l| 2 * l + usize::from(odd))?));
        }
        let v = if size == 8 {
            let op = if odd { VectorOp::PunpckhQdq } else { VectorOp::PunpcklQdq };
            self.two(op, view, a, Arg::Use(b, view))?
        } else {
            let code = self.code(VectorOp::ShufPs, view)?;
            let lanes = Arg::Imm(if odd { ODD } else { EVEN }, OpKind::Immediate8);
            let args = vec![Arg::Use(a, view), Arg::Use(b, view), lanes];
            self.pure(code, (VECTOR, view), None, args, None)
        };
        if view == View::X {
            return Ok(Value::Reg(v));
        }
        let args = vec![Arg::Use(v, view), Arg::Imm(EVEN_THEN_ODD, OpKind::Immediate8)];
        let code = Code::VEX_Vpermq_ymm_ymmm256_imm8;
        Ok(Value::Reg(self.pure(code, (VECTOR, view), None, args, None)))
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
