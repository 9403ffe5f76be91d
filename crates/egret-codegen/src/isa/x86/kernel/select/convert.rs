//! Conversions between element types.

use egret_loop::{Elem, Ty, V};
use iced_x86::Code;
use regalloc2::VReg;

use super::address::{WORD, lane_elem, vector_view};
use super::arith::view_lanes;
use super::bools::Test;
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, Condition, INT, Inst, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, refused};

/// The predicate for lanes of which none is NaN.
const ORDERED: i64 = 7;

/// The predicate of floats for greater or equal.
const GREATER_OR_EQUAL: i64 = 0x1d;

/// 32 bits of a general register.
const HALF: (regalloc2::RegClass, View) = (INT, View::B32);

impl Select<'_> {
    pub(super) fn convert(&mut self, to: Elem, x: V) -> Encoding<Value> {
        let from = self.ty(x)?;
        if from.elem == to {
            return Ok(self.value(x)?.clone());
        }
        if [from.elem, to].contains(&Elem::F16) {
            return self.convert_half(from, to, x);
        }
        if from.lanes > 1 {
            return Ok(Value::Reg(self.convert_lanes(from, to, x)?));
        }
        let target = from.with(to);
        let one = |s: &mut Self, code: Code, view: View, by: View, x: VReg| {
            s.pure(code, (INT, view), None, vec![Arg::Use(x, by)], None)
        };
        let v = match (from.elem, to) {
            (e, Elem::Bool) if e.is_float() => {
                let (op, view) = (if e == Elem::F64 { VectorOp::CmpPd } else { VectorOp::CmpPs }, View::X);
                let (x, zero) = (self.reg(x)?, self.constant(from, 0)?);
                return Ok(Value::Lane0(self.compare_lanes(op, view, x, Arg::Use(zero, view), 4)?));
            }
            (_, Elem::Bool) => {
                let x = self.reg(x)?;
                let (code, view) = match from.elem.size() {
                    8 => (Code::Test_rm64_r64, View::B64),
                    _ => (Code::Test_rm32_r32, View::B32),
                };
                let inst = Inst::new(code, vec![Arg::Use(x, view), Arg::Use(x, view)]);
                return Ok(Value::Test(Test { inst, holds: Condition::NotEqual }));
            }
            (Elem::F32, Elem::F64) | (Elem::F64, Elem::F32) => {
                let op = if to == Elem::F64 { VectorOp::Cvtss2Sd } else { VectorOp::Cvtsd2Ss };
                let code = self.code(op, View::X)?;
                let x = self.reg(x)?;
                let args = vec![Arg::Use(x, View::X), Arg::Use(x, View::X)];
                self.pure(code, (VECTOR, View::X), None, args, None)
            }
            (e, t) if e.is_float() => {
                let mut x = self.reg(x)?;
                // What is as wide as the number, as lane 0 of a vector; what is narrower by way of 32 bits, what is wider of f64.
                let (via, op, out) = match (e, t.size()) {
                    (Elem::F32, 4) => (t, VectorOp::OutOfD, HALF),
                    (Elem::F32, 1 | 2) => (Elem::I32, VectorOp::OutOfD, HALF),
                    (_, 8) => (t, VectorOp::OutOfQ, WORD),
                    _ => (Elem::I64, VectorOp::OutOfQ, WORD),
                };
                if e == Elem::F32 && t.size() == 8 {
                    let args = vec![Arg::Use(x, View::X), Arg::Use(x, View::X)];
                    let code = self.code(VectorOp::Cvtss2Sd, View::X)?;
                    x = self.pure(code, (VECTOR, View::X), None, args, None);
                }
                if t.size() < via.size() {
                    x = self.clamp(via.size(), t, x)?;
                }
                let v = if via == Elem::I64 && !self.avx512 {
                    self.saturate_long(x)?
                } else {
                    let v = self.saturate(via, View::X, x)?;
                    let code = self.code(op, View::X)?;
                    self.pure(code, out, None, vec![Arg::Use(v, View::X)], None)
                };
                if t.size() < 8 && out == WORD {
                    one(self, Code::Mov_r32_rm32, View::B32, View::B32, v)
                } else {
                    v
                }
            }
            (e, t) if t.is_float() => {
                let number = self.reg(x)?;
                let number = if e == Elem::U32 {
                    self.pure(Code::Mov_r32_rm32, HALF, None, vec![Arg::Use(number, View::B32)], None)
                } else {
                    number
                };
                let (op, view) = match (e, t) {
                    (Elem::U64, Elem::F32) => (VectorOp::CvtUint64Ss, View::B64),
                    (Elem::U64, _) => (VectorOp::CvtUint64Sd, View::B64),
                    (Elem::I64 | Elem::U32, Elem::F32) => (VectorOp::CvtInt64Ss, View::B64),
                    (Elem::I64 | Elem::U32, _) => (VectorOp::CvtInt64Sd, View::B64),
                    (_, Elem::F32) => (VectorOp::CvtInt32Ss, View::B32),
                    (..) => (VectorOp::CvtInt32Sd, View::B32),
                };
                let code = self.code(op, View::X)?;
                // The upper lanes come from the register that is written before.
                let zero = self.constant(Ty::scalar(Elem::F32), 0)?;
                let args = vec![Arg::Use(zero, View::X), Arg::Use(number, view)];
                self.pure(code, (VECTOR, View::X), None, args, None)
            }
            (e, t) if t.size() == 8 && e.size() < 8 => {
                let x = self.reg(x)?;
                if e.is_signed() {
                    self.pure(Code::Movsxd_r64_rm32, WORD, None, vec![Arg::Use(x, View::B32)], None)
                } else {
                    one(self, Code::Mov_r32_rm32, View::B32, View::B32, x)
                }
            }
            (e, t) if t.size() == 8 && e.size() == 8 => self.reg(x)?,
            (_, t) => {
                let x = self.reg(x)?;
                self.extend(t, x)
            }
        };
        Ok(self.value_in(target, v))
    }

    /// The low bits of a number, extended to 32 by the sign of their type: so numbers of up to 32 bits stand in registers.
    pub(super) fn extend(&mut self, to: Elem, x: VReg) -> VReg {
        let (code, by) = match to {
            Elem::I8 => (Code::Movsx_r32_rm8, View::B8),
            Elem::U8 | Elem::Bool => (Code::Movzx_r32_rm8, View::B8),
            Elem::I16 => (Code::Movsx_r32_rm16, View::B16),
            Elem::U16 | Elem::F16 => (Code::Movzx_r32_rm16, View::B16),
            _ => (Code::Mov_r32_rm32, View::B32),
        };
        self.pure(code, HALF, None, vec![Arg::Use(x, by)], None)
    }

    fn convert_lanes(&mut self, from: Ty, to: Elem, x: V) -> Encoding<VReg> {
        let target = from.with(to);
        if from.elem == Elem::Bool {
            let view = vector_view(target)?;
            let one = self.constant(target, egret_loop::number_bits(to, 1.0))?;
            let mask = self.reg(x)?;
            return self.number_where(lane_elem(to).size(), view, mask, one);
        }
        let view = vector_view(from)?;
        if to == Elem::Bool {
            self.mask_place(from.lanes)?;
            let size = lane_elem(from.elem).size();
            let op = match (size, from.elem.is_float()) {
                (4, true) => VectorOp::CmpPs,
                (_, true) => VectorOp::CmpPd,
                (4, false) => VectorOp::PcmpD,
                (_, false) => VectorOp::PcmpQ,
            };
            let (x, zero) = (self.reg(x)?, self.constant(from, 0)?);
            let mask = self.compare_lanes(op, view, x, Arg::Use(zero, view), 4)?;
            return self.bools_of(size, view, mask);
        }
        let out = vector_view(target)?;
        match (from.elem.is_float(), to.is_float()) {
            (true, true) => {
                let op = if to == Elem::F64 { VectorOp::Cvtps2Pd } else { VectorOp::Cvtpd2Ps };
                let x = self.reg(x)?;
                self.unlike(op, view, out, x)
            }
            (false, true) => {
                let op = match (from.elem, to) {
                    (Elem::U32, Elem::F32) => VectorOp::Cvtudq2Ps,
                    (Elem::U32, _) => VectorOp::Cvtudq2Pd,
                    (Elem::I64, Elem::F64) => VectorOp::Cvtqq2Pd,
                    (Elem::U64, Elem::F64) => VectorOp::Cvtuqq2Pd,
                    (Elem::I64, _) => VectorOp::Cvtqq2Ps,
                    (Elem::U64, _) => VectorOp::Cvtuqq2Ps,
                    (_, Elem::F32) => VectorOp::Cvtdq2Ps,
                    (..) => VectorOp::Cvtdq2Pd,
                };
                if view == out {
                    let (x, code) = (self.operand(x)?, self.code(op, view)?);
                    return Ok(self.pure(code, (VECTOR, view), None, vec![x], None));
                }
                let x = self.reg(x)?;
                self.unlike(op, view, out, x)
            }
            (true, false) => {
                // Between whole numbers it is the same whether a number is rounded before it is brought there or behind.
                let nearest = self.only_nearest(x)?.filter(|_| from.elem == Elem::F32 && to.size() < 4);
                let mut x = nearest.map_or_else(|| self.reg(x), Ok)?;
                match (from.elem, to.size()) {
                    (Elem::F32, 4) | (Elem::F64, 8) => self.saturate(to, view, x),
                    (Elem::F32, 8) => {
                        x = self.unlike(VectorOp::Cvtps2Pd, view, out, x)?;
                        self.saturate(to, out, x)
                    }
                    _ => self.saturate_small(from.elem, to, (view, out), x, nearest.is_some()),
                }
            }
            (false, false) => {
                let x = self.reg(x)?;
                let x = match (lane_elem(from.elem).size(), lane_elem(to).size()) {
                    (4, 8) if from.elem == Elem::U32 => self.unlike(VectorOp::PmovzxDq, view, out, x)?,
                    (4, 8) => self.unlike(VectorOp::PmovsxDq, view, out, x)?,
                    // The low halves of lanes: without AVX-512, as those of masks.
                    (8, 4) if !self.avx512 => self.bools_of(8, view, x)?,
                    (8, 4) => self.unlike(VectorOp::PmovQd, view, out, x)?,
                    _ => x,
                };
                self.extend_lanes(to, out, x)
            }
        }
    }

    /// A conversion between vectors of unlike sizes.
    fn unlike(&mut self, op: VectorOp, from: View, to: View, x: VReg) -> Encoding<VReg> {
        let wider = if [from, to].contains(&View::Z) { View::Z } else { View::Y };
        let code = self.code(op, wider)?;
        Ok(self.pure(code, (VECTOR, to), None, vec![Arg::Use(x, from)], None))
    }

    /// Floats to integers of fewer bits: brought within what these can hold, cut or (f32 only) rounded to the `nearest`, and 0 where they are no
    /// numbers.
    fn saturate_small(
        &mut self,
        elem: Elem,
        to: Elem,
        (view, out): (View, View),
        x: VReg,
        nearest: bool,
    ) -> Encoding<VReg> {
        let (bits, size) = (8 * to.size() as i32, elem.size());
        let (low, high) = match to.is_signed() {
            true => (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
            false => (0.0, 2f64.powi(bits) - 1.0),
        };
        let (min, max, compare) = match elem {
            Elem::F32 => (VectorOp::MinPs, VectorOp::MaxPs, VectorOp::CmpPs),
            _ => (VectorOp::MinPd, VectorOp::MaxPd, VectorOp::CmpPd),
        };
        let op = match (elem, to) {
            (Elem::F32, _) if nearest => VectorOp::Cvtps2Dq,
            (Elem::F32, _) => VectorOp::Cvttps2Dq,
            (_, Elem::U32) => VectorOp::Cvttpd2Udq,
            _ => VectorOp::Cvttpd2Dq,
        };
        let [low_bits, high] = [low, high].map(|v| self.pool(view, size, egret_loop::number_bits(elem, v)));
        // The second source is the result where the first is NaN: the least, which is 0 of unsigned numbers.
        let ordered = if to.is_signed() {
            Some(self.compare_lanes(compare, view, x, Arg::Use(x, view), ORDERED)?)
        } else {
            None
        };
        let x = self.two(max, view, x, low_bits)?;
        let x = self.two(min, view, x, high)?;
        let code = self.code(op, view)?;
        match ordered {
            Some(ordered) => self.zero_others(code, (view, out), x, ordered),
            None => Ok(self.pure(code, (VECTOR, out), None, vec![Arg::Use(x, view)], None)),
        }
    }

    /// A float of so many bytes, no NaN made a number, within what an integer type can hold.
    fn clamp(&mut self, size: usize, to: Elem, x: VReg) -> Encoding<VReg> {
        let bits = 8 * to.size() as i32;
        let (low, high) = match to.is_signed() {
            true => (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
            false => (0.0, 2f64.powi(bits) - 1.0),
        };
        let (elem, min, max) = match size {
            4 => (Elem::F32, VectorOp::MinPs, VectorOp::MaxPs),
            _ => (Elem::F64, VectorOp::MinPd, VectorOp::MaxPd),
        };
        let [low, high] =
            [low, high].map(|v| self.constant(Ty::scalar(elem), egret_loop::number_bits(elem, v)));
        // The second source is the result where one is NaN: x stays what it is.
        let x = self.two(min, View::X, high?, Arg::Use(x, View::X))?;
        self.two(max, View::X, low?, Arg::Use(x, View::X))
    }

    /// Floats to integers of their size. Hardware gives the number of which only the first bit is set (of all bits, for unsigned ones) for
    /// what does not fit: too large becomes the largest, NaN becomes 0.
    fn saturate(&mut self, to: Elem, view: View, x: VReg) -> Encoding<VReg> {
        let size = to.size();
        let elem = if size == 8 { Elem::F64 } else { Elem::F32 };
        let (op, compare, max) = match (to, size) {
            (Elem::I32, _) => (VectorOp::Cvttps2Dq, VectorOp::CmpPs, VectorOp::MaxPs),
            (Elem::U32, _) => (VectorOp::Cvttps2Udq, VectorOp::CmpPs, VectorOp::MaxPs),
            (Elem::I64, _) => (VectorOp::Cvttpd2Qq, VectorOp::CmpPd, VectorOp::MaxPd),
            (Elem::U64, _) => (VectorOp::Cvttpd2Uqq, VectorOp::CmpPd, VectorOp::MaxPd),
            _ => return Err(refused(format!("it converts {elem} to {to}"))),
        };
        let code = self.code(op, view)?;
        if !to.is_signed() {
            // The second source is the result where the first is NaN.
            let zero = self.constant(Ty { elem, lanes: view_lanes(view, elem) }, 0)?;
            let x = self.two(max, view, x, Arg::Use(zero, view))?;
            return Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(x, view)], None));
        }
        let ordered = self.compare_lanes(compare, view, x, Arg::Use(x, view), ORDERED)?;
        let cut = self.zero_others(code, (view, view), x, ordered)?;
        let limit = 2f64.powi(8 * size as i32 - 1);
        let limit = self.pool(view, size, egret_loop::number_bits(elem, limit));
        let large = self.compare_lanes(compare, view, x, limit, GREATER_OR_EQUAL)?;
        if !self.avx512 {
            // The largest is that number with its bits inverted.
            return self.two(VectorOp::PxorD, view, cut, Arg::Use(large, view));
        }
        let largest = self.pool(view, size, u64::MAX >> (65 - 8 * size));
        self.blend(size, view, large, largest, cut)
    }

    /// The same of one f64 as an i64 in a general register, without AVX-512.
    fn saturate_long(&mut self, x: VReg) -> Encoding<VReg> {
        let (view, compare) = (View::X, VectorOp::CmpPd);
        let ordered = self.compare_lanes(compare, view, x, Arg::Use(x, view), ORDERED)?;
        let number = self.two(VectorOp::PandQ, view, x, Arg::Use(ordered, view))?;
        let code = self.code(VectorOp::Cvttsd2Int64, view)?;
        let cut = self.pure(code, WORD, None, vec![Arg::Use(number, view)], None);
        let limit = self.pool(view, 8, egret_loop::number_bits(Elem::F64, 2f64.powi(63)));
        let large = self.compare_lanes(compare, view, x, limit, GREATER_OR_EQUAL)?;
        let code = self.code(VectorOp::OutOfQ, view)?;
        let large = self.pure(code, WORD, None, vec![Arg::Use(large, view)], None);
        Ok(self.pure(Code::Xor_r64_rm64, WORD, Some(cut), vec![Arg::Use(large, View::B64)], None))
    }

    pub(super) fn bitcast(&mut self, to: Elem, x: V) -> Encoding<Value> {
        let from = self.ty(x)?;
        let target = from.with(to);
        if let (Value::Const(bits), true) = (self.value(x)?, target != Ty::scalar(Elem::I64)) {
            return Ok(Value::Const(*bits));
        }
        let v = self.reg(x)?;
        if from.lanes > 1 && to.size() < 4 {
            let v = self.extend_lanes(to, vector_view(target)?, v)?;
            return Ok(Value::Reg(v));
        }
        if from.lanes > 1 || (from.elem.is_float() == to.is_float() && to.size() >= 4) {
            return Ok(self.value_in(target, v));
        }
        if to.size() < 4 {
            // Numbers of fewer than 32 bits stand extended by their sign.
            let v = self.extend(to, v);
            return Ok(self.value_in(target, v));
        }
        let (op, place, by) = match (to.is_float(), to.size()) {
            (true, 4) => (VectorOp::IntoD, (VECTOR, View::X), View::B32),
            (true, _) => (VectorOp::IntoQ, (VECTOR, View::X), View::B64),
            (false, 4) => (VectorOp::OutOfD, HALF, View::X),
            (false, _) => (VectorOp::OutOfQ, WORD, View::X),
        };
        let code = self.code(op, View::X)?;
        let v = self.pure(code, place, None, vec![Arg::Use(v, by)], None);
        Ok(self.value_in(target, v))
    }
}
