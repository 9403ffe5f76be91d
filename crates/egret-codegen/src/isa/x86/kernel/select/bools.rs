//! Conditions: comparisons, masks, selections.

use egret_loop::{BinOp, Cmp, Elem, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{Linear, imm32, lane_elem, vector_view};
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, Condition, INT, Inst, MASK, VECTOR, View};
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
    /// A mask of the lanes for which a predicate holds.
    pub(super) fn compare_lanes(
        &mut self,
        op: VectorOp,
        view: View,
        a: VReg,
        b: Arg,
        predicate: i64,
    ) -> Encoding<VReg> {
        let code = self.code(op, view)?;
        let args = vec![Arg::Use(a, view), b, Arg::Imm(predicate, OpKind::Immediate8)];
        Ok(self.pure(code, (MASK, View::K), None, args, None))
    }

    pub(super) fn compare(&mut self, op: Cmp, a: V, b: V) -> Encoding<Value> {
        let ty = self.ty(a)?;
        let (float, signed) = (ty.elem.is_float(), ty.elem.is_signed());
        if ty.lanes == 1 && !float {
            return Ok(Value::Test(self.compare_scalars(op, ty.elem, a, b)?));
        }
        let code = match (lane_elem(ty.elem).size(), float, signed) {
            (4, true, _) => VectorOp::CmpPs,
            (8, true, _) => VectorOp::CmpPd,
            (4, _, true) => VectorOp::PcmpD,
            (4, ..) if ty.elem != Elem::Bool => VectorOp::PcmpuD,
            (8, _, true) => VectorOp::PcmpQ,
            (8, ..) => VectorOp::PcmpuQ,
            _ => return Err(refused(format!("it compares {ty}"))),
        };
        let view = vector_view(ty)?;
        let (x, y) = (self.reg(a)?, self.operand(b)?);
        let mask = self.compare_lanes(code, view, x, y, predicate(op, float))?;
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
            Value::Lane0(mask) => Ok(of(self.mask_bits(mask), 1)),
            _ => Ok(of(self.reg(cond)?, 1)),
        }
    }

    /// The bits of a mask as a number; those beyond its lanes are anything.
    fn mask_bits(&mut self, mask: VReg) -> VReg {
        self.pure(Code::VEX_Kmovw_r32_kr, (INT, View::B32), None, vec![Arg::Use(mask, View::K)], None)
    }

    /// A bool scalar as 0 or 1.
    pub(super) fn bool_number(&mut self, v: V) -> Encoding<VReg> {
        match self.value(v)?.clone() {
            Value::Lane0(mask) => {
                let bits = self.mask_bits(mask);
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
        Ok(self.pure(
            Code::VEX_Kmovw_kr_r32,
            (MASK, View::K),
            None,
            vec![Arg::Use(number, View::B32)],
            None,
        ))
    }

    fn mask_op(&mut self, code: Code, a: VReg, b: VReg) -> VReg {
        let args = vec![Arg::Use(a, View::K), Arg::Use(b, View::K)];
        self.pure(code, (MASK, View::K), None, args, None)
    }

    /// A mask of which all lanes hold, or none.
    pub(super) fn mask_constant(&mut self, holds: bool) -> VReg {
        let code = if holds { Code::VEX_Kxnorw_kr_kr_kr } else { Code::VEX_Kxorw_kr_kr_kr };
        self.define(code, MASK, View::K, vec![Arg::Again(0, View::K), Arg::Again(0, View::K)])
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
        let v =
            self.pure(Code::VEX_Knotw_kr_kr, (MASK, View::K), None, vec![Arg::Use(mask, View::K)], None);
        Ok(if ty.lanes == 1 { Value::Lane0(v) } else { Value::Reg(v) })
    }

    /// Bools with bools.
    pub(super) fn bool_binary(&mut self, op: BinOp, ty: Ty, a: V, b: V) -> Encoding<Value> {
        let (number, mask) = match op {
            BinOp::And | BinOp::Mul | BinOp::Min | BinOp::SelMin => {
                (Code::And_r32_rm32, Code::VEX_Kandw_kr_kr_kr)
            }
            BinOp::Or | BinOp::Max | BinOp::SelMax => (Code::Or_r32_rm32, Code::VEX_Korw_kr_kr_kr),
            BinOp::Xor => (Code::Xor_r32_rm32, Code::VEX_Kxorw_kr_kr_kr),
            _ => return Err(refused(format!("it has {op:?} of {ty}"))),
        };
        if ty.lanes > 1 {
            let (x, y) = (self.reg(a)?, self.reg(b)?);
            return Ok(Value::Reg(self.mask_op(mask, x, y)));
        }
        if let (Value::Lane0(x), Value::Lane0(y)) = (self.value(a)?.clone(), self.value(b)?.clone()) {
            return Ok(Value::Lane0(self.mask_op(mask, x, y)));
        }
        let (x, y) = (self.bool_number(a)?, self.bool_number(b)?);
        let v = self.pure(number, (INT, View::B32), Some(x), vec![Arg::Use(y, View::B32)], None);
        Ok(Value::Reg(v))
    }

    /// Whether a lane of a mask holds.
    pub(super) fn any(&mut self, x: V) -> Encoding<Value> {
        let lanes = self.ty(x)?.lanes;
        let mask = self.reg(x)?;
        Ok(Value::Test(self.any_lane(mask, lanes)))
    }

    /// The lanes of a mask joined into one.
    pub(super) fn fold_mask(&mut self, op: BinOp, ty: Ty, x: V) -> Encoding<Value> {
        match op {
            BinOp::Or | BinOp::Max | BinOp::SelMax => self.any(x),
            BinOp::And | BinOp::Mul | BinOp::Min | BinOp::SelMin => {
                // None of those that do not hold.
                let mask = self.reg(x)?;
                let args = vec![Arg::Use(mask, View::K)];
                let others = self.pure(Code::VEX_Knotw_kr_kr, (MASK, View::K), None, args, None);
                let Test { inst, .. } = self.any_lane(others, ty.lanes);
                Ok(Value::Test(Test { inst, holds: Condition::Equal }))
            }
            _ => Err(refused(format!("it folds {ty} by {op:?}"))),
        }
    }

    fn any_lane(&mut self, mask: VReg, lanes: u8) -> Test {
        let bits = self.mask_bits(mask);
        let all = Arg::Imm((1 << lanes) - 1, OpKind::Immediate32);
        let inst = Inst::new(Code::Test_rm32_imm32, vec![Arg::Use(bits, View::B32), all]);
        Test { inst, holds: Condition::NotEqual }
    }

    /// a where a mask holds, else b; vectors, and floats as vectors.
    pub(super) fn blend(&mut self, size: usize, view: View, mask: VReg, a: Arg, b: VReg) -> Encoding<VReg> {
        let op = match size {
            4 => VectorOp::PblendmD,
            8 => VectorOp::PblendmQ,
            n => return Err(refused(format!("it selects lanes of {n} bytes"))),
        };
        let code = self.code(op, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(b, view), a], Some((mask, false))))
    }

    /// a where the condition holds, else b.
    pub(super) fn choose(&mut self, ty: Ty, cond: V, a: V, b: V) -> Encoding<Value> {
        match (ty.elem, ty.lanes) {
            (Elem::Bool, n) if n > 1 => {
                let (mask, x, y) = (self.reg(cond)?, self.reg(a)?, self.reg(b)?);
                let x = self.mask_op(Code::VEX_Kandw_kr_kr_kr, mask, x);
                let y = self.mask_op(Code::VEX_Kandnw_kr_kr_kr, mask, y);
                Ok(Value::Reg(self.mask_op(Code::VEX_Korw_kr_kr_kr, x, y)))
            }
            (elem, n) if n > 1 || elem.is_float() => {
                let mask = if n > 1 { self.reg(cond)? } else { self.lane0(cond)? };
                let view = vector_view(ty)?;
                let (x, y) = (self.operand(a)?, self.reg(b)?);
                Ok(Value::Reg(self.blend(lane_elem(elem).size(), view, mask, x, y)?))
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
