//! Lanes: into vectors, out of them, and together.

use egret_loop::{BinOp, Elem, Ty, V};
use iced_x86::OpKind;
use regalloc2::VReg;

use super::address::{lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, INT, VECTOR, View};
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
            return Ok(Value::Reg(self.mask_of_number(number, lanes)?));
        }
        let view = vector_view(Ty { lanes, ..scalar })?;
        let x = self.reg(x)?;
        let (float, wide) = (scalar.elem.is_float(), lane_elem(scalar.elem).size() == 8);
        let pick = |d: VectorOp, q: VectorOp| if wide { q } else { d };
        let number = if wide { View::B64 } else { View::B32 };
        let (op, first) = match (float, self.avx512) {
            (true, _) => (pick(VectorOp::BroadcastD, VectorOp::BroadcastQ), Arg::Use(x, View::X)),
            (false, true) => (pick(VectorOp::BroadcastIntD, VectorOp::BroadcastIntQ), Arg::Use(x, number)),
            (false, false) => {
                let code = self.code(pick(VectorOp::IntoD, VectorOp::IntoQ), View::X)?;
                let x = self.pure(code, (VECTOR, View::X), None, vec![Arg::Use(x, number)], None);
                (pick(VectorOp::BroadcastD, VectorOp::BroadcastQ), Arg::Use(x, View::X))
            }
        };
        let code = self.code(op, view)?;
        // From memory it takes no instruction beside the load.
        if let Some(&(_, place)) = self.in_memory.iter().find(|(scalar, _)| *scalar == x) {
            return Ok(Value::Reg(self.define(code, VECTOR, view, vec![Arg::Mem(place)])));
        }
        Ok(Value::Reg(self.pure(code, (VECTOR, view), None, vec![first], None)))
    }

    /// Lanes of a register from a multiple of 16 bytes on, moved to its begin.
    pub(super) fn part(&mut self, x: VReg, from: View, bytes: usize, to: View) -> Encoding<VReg> {
        let (op, at) = match (from, to) {
            (_, to) if bytes == 0 && to != View::Z => return Ok(x),
            (View::Z, View::Y) => (VectorOp::Extract32, bytes / 32),
            (View::Z | View::Y, View::X) => (VectorOp::Extract16, bytes / 16),
            _ => return Err(broken(format!("a part of {from:?} as {to:?}"))),
        };
        let code = self.code(op, from)?;
        let args = vec![Arg::Use(x, from), Arg::Imm(at as i64, OpKind::Immediate8)];
        Ok(self.pure(code, (VECTOR, to), None, args, None))
    }

    /// A lane of 16 bytes, moved to the first.
    pub(super) fn lane(&mut self, x: VReg, size: usize, lane: usize) -> Encoding<VReg> {
        if lane == 0 {
            return Ok(x);
        }
        let (op, imm) = if size == 8 { (VectorOp::PermilPd, 1) } else { (VectorOp::PermilPs, lane) };
        let code = self.code(op, View::X)?;
        let args = vec![Arg::Use(x, View::X), Arg::Imm(imm as i64, OpKind::Immediate8)];
        Ok(self.pure(code, (VECTOR, View::X), None, args, None))
    }

    /// The first lane of a vector as a scalar.
    fn first(&mut self, elem: Elem, x: VReg) -> Encoding<Value> {
        if elem.is_float() {
            return Ok(Value::Reg(x));
        }
        let (op, view) = match elem.size() {
            8 => (VectorOp::OutOfQ, View::B64),
            _ => (VectorOp::OutOfD, View::B32),
        };
        let code = self.code(op, View::X)?;
        let v = self.pure(code, (INT, view), None, vec![Arg::Use(x, View::X)], None);
        Ok(self.value_in(Ty::scalar(elem), v))
    }

    pub(super) fn extract(&mut self, x: V, lane: u8) -> Encoding<Value> {
        let ty = self.ty(x)?;
        let v = self.reg(x)?;
        if ty.elem == Elem::Bool {
            return Ok(Value::Lane0(self.mask_lane(v, ty.lanes, lane)?));
        }
        let size = lane_elem(ty.elem).size();
        if !matches!(size, 4 | 8) {
            return Err(refused(format!("it takes lanes out of {ty}")));
        }
        let at = size * lane as usize;
        let part = self.part(v, vector_view(ty)?, at / 16 * 16, View::X)?;
        let lane = self.lane(part, size, at % 16 / size)?;
        self.first(ty.elem, lane)
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
        self.first(ty.elem, v)
    }
}
