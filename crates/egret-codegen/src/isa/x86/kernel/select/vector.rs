//! Lanes: into vectors, out of them, and together.

use egret_loop::{BinOp, Elem, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, INT, MASK, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, broken, refused};

impl Select<'_> {
    pub(super) fn splat(&mut self, x: V, lanes: u8) -> Encoding<Value> {
        let scalar = self.ty(x)?;
        if lanes == 1 {
            return Ok(self.value(x)?.clone());
        }
        match self.value(x)? {
            Value::Const(bits) => return Ok(Value::Const(*bits)),
            Value::Linear(sum) => {
                if let Some(number) = sum.as_number() {
                    return Ok(Value::Const(number as u64));
                }
            }
            _ => {}
        }
        if scalar.elem == Elem::Bool {
            let number = self.bool_number(x)?;
            let all = self.pure(Code::Neg_rm32, (INT, View::B32), Some(number), vec![], None);
            let args = vec![Arg::Use(all, View::B32)];
            return Ok(Value::Reg(self.pure(Code::VEX_Kmovw_kr_r32, (MASK, View::K), None, args, None)));
        }
        let view = vector_view(Ty { lanes, ..scalar })?;
        let x = self.reg(x)?;
        let (code, by) = match (lane_elem(scalar.elem).size(), scalar.elem.is_float(), view) {
            (4, true, View::X) => (Code::EVEX_Vpbroadcastd_xmm_k1z_xmmm32, View::X),
            (4, true, View::Y) => (Code::EVEX_Vpbroadcastd_ymm_k1z_xmmm32, View::X),
            (4, true, _) => (Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32, View::X),
            (8, true, View::X) => (Code::EVEX_Vpbroadcastq_xmm_k1z_xmmm64, View::X),
            (8, true, View::Y) => (Code::EVEX_Vpbroadcastq_ymm_k1z_xmmm64, View::X),
            (8, true, _) => (Code::EVEX_Vpbroadcastq_zmm_k1z_xmmm64, View::X),
            (4, false, View::X) => (Code::EVEX_Vpbroadcastd_xmm_k1z_r32, View::B32),
            (4, false, View::Y) => (Code::EVEX_Vpbroadcastd_ymm_k1z_r32, View::B32),
            (4, false, _) => (Code::EVEX_Vpbroadcastd_zmm_k1z_r32, View::B32),
            (8, false, View::X) => (Code::EVEX_Vpbroadcastq_xmm_k1z_r64, View::B64),
            (8, false, View::Y) => (Code::EVEX_Vpbroadcastq_ymm_k1z_r64, View::B64),
            (8, false, _) => (Code::EVEX_Vpbroadcastq_zmm_k1z_r64, View::B64),
            _ => return Err(refused(format!("it fills vectors with {scalar}"))),
        };
        Ok(Value::Reg(self.pure(code, (VECTOR, view), None, vec![Arg::Use(x, by)], None)))
    }

    /// Lanes of a register from a multiple of 16 bytes on, moved to its begin.
    fn part(&mut self, x: VReg, from: View, bytes: usize, to: View) -> Encoding<VReg> {
        let (code, at) = match (from, to) {
            (_, to) if bytes == 0 && to != View::Z => return Ok(x),
            (View::Z, View::Y) => (Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8, bytes / 32),
            (View::Z, View::X) => (Code::EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8, bytes / 16),
            (View::Y, View::X) => (Code::EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8, bytes / 16),
            _ => return Err(broken(format!("a part of {from:?} as {to:?}"))),
        };
        let args = vec![Arg::Use(x, from), Arg::Imm(at as i64, OpKind::Immediate8)];
        Ok(self.pure(code, (VECTOR, to), None, args, None))
    }

    /// A lane of 16 bytes, moved to the first.
    fn lane(&mut self, x: VReg, size: usize, lane: usize) -> Encoding<VReg> {
        if lane == 0 {
            return Ok(x);
        }
        let (op, imm) = if size == 8 { (VectorOp::PermilPd, 1) } else { (VectorOp::PermilPs, lane) };
        let code = self.code(op, View::X)?;
        let args = vec![Arg::Use(x, View::X), Arg::Imm(imm as i64, OpKind::Immediate8)];
        Ok(self.pure(code, (VECTOR, View::X), None, args, None))
    }

    /// The first lane of a vector as a scalar.
    fn first(&mut self, elem: Elem, x: VReg) -> Value {
        if elem.is_float() {
            return Value::Reg(x);
        }
        let (code, view) = match elem.size() {
            8 => (Code::EVEX_Vmovq_rm64_xmm, View::B64),
            _ => (Code::EVEX_Vmovd_rm32_xmm, View::B32),
        };
        let v = self.pure(code, (INT, view), None, vec![Arg::Use(x, View::X)], None);
        self.value_in(Ty::scalar(elem), v)
    }

    pub(super) fn extract(&mut self, x: V, lane: u8) -> Encoding<Value> {
        let ty = self.ty(x)?;
        let v = self.reg(x)?;
        if ty.elem == Elem::Bool {
            let args = vec![Arg::Use(v, View::K), Arg::Imm(lane.into(), OpKind::Immediate8)];
            return Ok(Value::Lane0(self.pure(
                Code::VEX_Kshiftrw_kr_kr_imm8,
                (MASK, View::K),
                None,
                args,
                None,
            )));
        }
        let size = lane_elem(ty.elem).size();
        if !matches!(size, 4 | 8) {
            return Err(refused(format!("it takes lanes out of {ty}")));
        }
        let at = size * lane as usize;
        let part = self.part(v, vector_view(ty)?, at / 16 * 16, View::X)?;
        let lane = self.lane(part, size, at % 16 / size)?;
        Ok(self.first(ty.elem, lane))
    }

    /// The lanes of a vector joined into one: the upper half with the lower, until one is left.
    pub(super) fn fold(&mut self, op: BinOp, x: V) -> Encoding<Value> {
        let ty = self.ty(x)?;
        let size = lane_elem(ty.elem).size();
        if ty.elem == Elem::Bool {
            return self.fold_mask(op, ty, x);
        }
        if !matches!(size, 4 | 8) {
            return Err(refused(format!("it folds {ty}")));
        }
        let (mut v, mut view) = (self.reg(x)?, vector_view(ty)?);
        while view != View::X {
            let (half, bytes) = if view == View::Z { (View::Y, 32) } else { (View::X, 16) };
            let high = self.part(v, view, bytes, half)?;
            v = self.apply(op, ty.elem, half, v, Arg::Use(high, half))?;
            view = half;
        }
        let mut lanes = 16 / size;
        while lanes > 1 {
            lanes /= 2;
            let high = match lanes {
                2 => {
                    // Lanes 2 and 3.
                    let code = self.code(VectorOp::PermilPd, View::X)?;
                    let args = vec![Arg::Use(v, View::X), Arg::Imm(1, OpKind::Immediate8)];
                    self.pure(code, (VECTOR, View::X), None, args, None)
                }
                _ => self.lane(v, size, 1)?,
            };
            v = self.apply(op, ty.elem, View::X, v, Arg::Use(high, View::X))?;
        }
        Ok(self.first(ty.elem, v))
    }
}
