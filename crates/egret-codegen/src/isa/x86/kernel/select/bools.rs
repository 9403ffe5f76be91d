//! Conditions: comparisons, masks, selections.

use egret_loop::{BinOp, Cmp, Elem, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{Linear, imm32, lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, Condition, INT, Inst, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, broken, refused};

/// A condition of scalars: the instruction that sets the flags, and what they say where it holds.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub inst: Inst,
    pub holds: Condition,
}

/// What flags say where a comparison of integers holds.
fn condition(op: Cmp, signed: bool) -> Condition {
    match (op, signed) {
        (Cmp::Eq, _) => Condition::Equal,
        (Cmp::Ne, _) => Condition::NotEqual,
        (Cmp::Lt, true) => Condition::Less,
        (Cmp::Le, true) => Condition::LessOrEqual,
        (Cmp::Gt, true) => Condition::Greater,
        (Cmp::Ge, true) => Condition::GreaterOrEqual,
        (Cmp::Lt, false) => Condition::Below,
        (Cmp::Le, false) => Condition::BelowOrEqual,
        (Cmp::Gt, false) => Condition::Above,
        (Cmp::Ge, false) => Condition::AboveOrEqual,
    }
}

/// Predicates of vector comparisons: of floats ordered and quiet, except not-equal, which is true for NaN.
fn predicate(op: Cmp, float: bool) -> i64 {
    match (op, float) {
        (Cmp::Eq, _) => 0,
        (Cmp::Ne, _) => 4,
        (Cmp::Lt, true) => 0x11,
        (Cmp::Le, true) => 0x12,
        (Cmp::Gt, true) => 0x1e,
        (Cmp::Ge, true) => 0x1d,
        (Cmp::Lt, false) => 1,
        (Cmp::Le, false) => 2,
        (Cmp::Ge, false) => 5,
        (Cmp::Gt, false) => 6,
    }
}

/// The predicate for lanes of which one is NaN.
pub(super) const UNORDERED: i64 = 3;

impl Select<'_> {
    pub(super) fn compare(&mut self, op: Cmp, a: V, b: V) -> Encoding<Value> {
        let ty = self.ty(a)?;
        // Unsigned numbers of fewer than 32 bits are positive in lanes of 32.
        let (float, signed) = (ty.elem.is_float(), ty.elem.is_signed() || ty.elem.size() < 4);
        if ty.lanes == 1 && !float {
            return Ok(Value::Test(self.compare_scalars(op, ty.elem, a, b)?));
        }
        self.mask_place(ty.lanes)?;
        let size = lane_elem(ty.elem).size();
        let code = match (size, float, signed) {
            (4, true, _) => VectorOp::CmpPs,
            (8, true, _) => VectorOp::CmpPd,
            (4, _, true) => VectorOp::PcmpD,
            (4, ..) => VectorOp::PcmpuD,
            (8, _, true) => VectorOp::PcmpQ,
            (8, ..) => VectorOp::PcmpuQ,
            _ => return Err(refused(format!("it compares {ty}"))),
        };
        let view = vector_view(ty)?;
        let (x, y) = (self.reg(a)?, self.operand(b)?);
        let mask = self.compare_lanes(code, view, x, y, predicate(op, float))?;
        let mask = self.bools_of(size, view, mask)?;
        Ok(if ty.lanes == 1 { Value::Lane0(mask) } else { Value::Reg(mask) })
    }

    fn compare_scalars(&mut self, op: Cmp, elem: Elem, a: V, b: V) -> Encoding<Test> {
        let holds = condition(op, elem.is_signed());
        if elem == Elem::I64 {
            let (a, b) = (self.linear(a)?, self.linear(b)?);
            return Ok(Test { inst: self.compare_sums(&a, &b), holds });
        }
        let (code, view) = match elem.size() {
            8 => (Code::Cmp_r64_rm64, View::B64),
            _ => (Code::Cmp_r32_rm32, View::B32),
        };
        let (x, y) = (self.reg(a)?, self.reg(b)?);
        Ok(Test { inst: Inst::new(code, vec![Arg::Use(x, view), Arg::Use(y, view)]), holds })
    }

    /// The comparison of two sums.
    pub(super) fn compare_sums(&mut self, a: &Linear, b: &Linear) -> Inst {
        let x = Arg::Use(self.sum(a), View::B64);
        match b.as_number().and_then(imm32) {
            Some(imm) => Inst::new(Code::Cmp_rm64_imm32, vec![x, imm]),
            None => Inst::new(Code::Cmp_r64_rm64, vec![x, Arg::Use(self.sum(b), View::B64)]),
        }
    }

    /// A bool scalar as flags.
    pub(super) fn test(&mut self, cond: V) -> Encoding<Test> {
        let of = |v: VReg, bits: i64| Test {
            inst: Inst::new(
                Code::Test_rm32_imm32,
                vec![Arg::Use(v, View::B32), Arg::Imm(bits, OpKind::Immediate32)],
            ),
            holds: Condition::NotEqual,
        };
        match self.value(cond)?.clone() {
            Value::Test(test) => Ok(test),
            Value::Lane0(mask) => Ok(of(self.mask_bits(mask, 1)?, 1)),
            _ => Ok(of(self.reg(cond)?, 1)),
        }
    }

    /// A bool scalar as 0 or 1.
    pub(super) fn bool_number(&mut self, v: V) -> Encoding<VReg> {
        match self.value(v)?.clone() {
            Value::Lane0(mask) => {
                let bits = self.mask_bits(mask, 1)?;
                let one = Arg::Imm(1, OpKind::Immediate32);
                Ok(self.pure(Code::And_rm32_imm32, (INT, View::B32), Some(bits), vec![one], None))
            }
            Value::Test(test) => {
                let [_, set, _] = test.holds.codes();
                self.push(test.inst);
                let byte = self.define(set, INT, View::B8, vec![]);
                Ok(self.define(Code::Movzx_r32_rm8, INT, View::B32, vec![Arg::Use(byte, View::B8)]))
            }
            _ => self.reg(v),
        }
    }

    /// A bool scalar in lane 0 of a mask.
    fn lane0(&mut self, v: V) -> Encoding<VReg> {
        if let Value::Lane0(mask) = self.value(v)? {
            return Ok(*mask);
        }
        let number = self.bool_number(v)?;
        self.mask_of_number(number, 1)
    }

    /// `not`, of bools.
    pub(super) fn not(&mut self, ty: Ty, x: V) -> Encoding<Value> {
        if let (1, Value::Reg(_) | Value::Test(_) | Value::Const(_)) = (ty.lanes, self.value(x)?) {
            let number = self.bool_number(x)?;
            let one = Arg::Imm(1, OpKind::Immediate32);
            let v = self.pure(Code::Xor_rm32_imm32, (INT, View::B32), Some(number), vec![one], None);
            return Ok(Value::Reg(v));
        }
        let mask = if ty.lanes == 1 { self.lane0(x)? } else { self.reg(x)? };
        let v = self.mask_not(ty.lanes, mask)?;
        Ok(if ty.lanes == 1 { Value::Lane0(v) } else { Value::Reg(v) })
    }

    /// Bools with bools.
    pub(super) fn bool_binary(&mut self, op: BinOp, ty: Ty, a: V, b: V) -> Encoding<Value> {
        let (op, number) = match op {
            BinOp::And | BinOp::Mul | BinOp::Min | BinOp::SelMin => (BinOp::And, Code::And_r32_rm32),
            BinOp::Or | BinOp::Max | BinOp::SelMax => (BinOp::Or, Code::Or_r32_rm32),
            BinOp::Xor => (BinOp::Xor, Code::Xor_r32_rm32),
            _ => return Err(refused(format!("it has {op:?} of {ty}"))),
        };
        if ty.lanes > 1 {
            let (x, y) = (self.reg(a)?, self.reg(b)?);
            return Ok(Value::Reg(self.mask_two(op, ty.lanes, x, y)?));
        }
        if let (Value::Lane0(x), Value::Lane0(y)) = (self.value(a)?.clone(), self.value(b)?.clone()) {
            return Ok(Value::Lane0(self.mask_two(op, 1, x, y)?));
        }
        let (x, y) = (self.bool_number(a)?, self.bool_number(b)?);
        let v = self.pure(number, (INT, View::B32), Some(x), vec![Arg::Use(y, View::B32)], None);
        Ok(Value::Reg(v))
    }

    /// Whether a lane of a mask holds.
    pub(super) fn any(&mut self, x: V) -> Encoding<Value> {
        let lanes = self.ty(x)?.lanes;
        let mask = self.reg(x)?;
        Ok(Value::Test(self.any_lane(mask, lanes)?))
    }

    /// The lanes of a mask joined into one.
    pub(super) fn fold_mask(&mut self, op: BinOp, ty: Ty, x: V) -> Encoding<Value> {
        match op {
            BinOp::Or | BinOp::Max | BinOp::SelMax => self.any(x),
            BinOp::And | BinOp::Mul | BinOp::Min | BinOp::SelMin => {
                // None of those that do not hold.
                let mask = self.reg(x)?;
                let others = self.mask_not(ty.lanes, mask)?;
                let Test { inst, .. } = self.any_lane(others, ty.lanes)?;
                Ok(Value::Test(Test { inst, holds: Condition::Equal }))
            }
            _ => Err(refused(format!("it folds {ty} by {op:?}"))),
        }
    }

    fn any_lane(&mut self, mask: VReg, lanes: u8) -> Encoding<Test> {
        let bits = self.mask_bits(mask, lanes)?;
        let all = Arg::Imm((1 << lanes) - 1, OpKind::Immediate32);
        let inst = Inst::new(Code::Test_rm32_imm32, vec![Arg::Use(bits, View::B32), all]);
        Ok(Test { inst, holds: Condition::NotEqual })
    }

    /// a where the condition holds, else b.
    pub(super) fn choose(&mut self, ty: Ty, cond: V, a: V, b: V) -> Encoding<Value> {
        match (ty.elem, ty.lanes) {
            (Elem::Bool, n) if n > 1 => {
                let (mask, x, y) = (self.reg(cond)?, self.reg(a)?, self.reg(b)?);
                Ok(Value::Reg(self.mask_choice(n, mask, x, y)?))
            }
            (elem, n) if n > 1 || elem.is_float() => {
                let mask = if n > 1 { self.reg(cond)? } else { self.lane0(cond)? };
                let view = vector_view(ty)?;
                let (x, y, size) = (self.operand(a)?, self.reg(b)?, lane_elem(elem).size());
                let mask = self.lanes_of(size, view, mask)?;
                Ok(Value::Reg(self.blend(size, view, mask, x, y)?))
            }
            _ => {
                let (x, y) = (self.reg(a)?, self.reg(b)?);
                let test = self.test(cond)?;
                let v = self.select_number(test, x, y)?;
                Ok(self.value_in(ty, v))
            }
        }
    }

    /// Of two general registers the first where a test holds.
    pub(super) fn select_number(&mut self, test: Test, a: VReg, b: VReg) -> Encoding<VReg> {
        let [_, _, code] = test.holds.codes();
        if test.inst.defs().next().is_some() {
            return Err(broken("a test that writes"));
        }
        self.push(test.inst);
        let v = self.register(INT);
        let mut inst = Inst::new(code, vec![Arg::Tied(v, b, View::B64), Arg::Use(a, View::B64)]);
        inst.pure = true;
        self.push(inst);
        Ok(v)
    }
}
