//! Arithmetic on integer scalars.

use egret_loop::{BinOp, Cmp, Elem, Ty, UnOp, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::address::{Linear, imm32};
use super::bools::Test;
use super::{Select, Value};
use crate::isa::x86::kernel::alloc::{general, gpr};
use crate::isa::x86::kernel::mir::{Arg, Condition, INT, Inst, View};
use crate::isa::{Encoding, broken, refused};

/// The view of numbers of a type that arithmetic is done on: those of fewer than 32 bits stand extended.
fn number_view(ty: Ty) -> View {
    if ty.elem.size() == 8 { View::B64 } else { View::B32 }
}

impl Select<'_> {
    pub(super) fn unary_number(&mut self, op: UnOp, ty: Ty, x: V) -> Encoding<Value> {
        let view = number_view(ty);
        let wide = view == View::B64;
        let x = self.reg(x)?;
        let v = match op {
            UnOp::Neg | UnOp::Not => {
                let code = match (op, wide) {
                    (UnOp::Neg, true) => Code::Neg_rm64,
                    (UnOp::Neg, false) => Code::Neg_rm32,
                    (_, true) => Code::Not_rm64,
                    (_, false) => Code::Not_rm32,
                };
                self.pure(code, (INT, view), Some(x), vec![], None)
            }
            UnOp::Abs if ty.elem.is_signed() => {
                let code = if wide { Code::Neg_rm64 } else { Code::Neg_rm32 };
                let minus = self.pure(code, (INT, view), Some(x), vec![], None);
                let code = if wide { Code::Test_rm64_r64 } else { Code::Test_rm32_r32 };
                let inst = Inst::new(code, vec![Arg::Use(x, view), Arg::Use(x, view)]);
                self.select_number(Test { inst, holds: Condition::Less }, minus, x)?
            }
            UnOp::Abs => x,
            _ => return Err(refused(format!("it has {op:?} of {ty}"))),
        };
        let v = if ty.elem.size() < 4 { self.extend(ty.elem, v) } else { v };
        Ok(self.value_in(ty, v))
    }

    pub(super) fn binary_number(&mut self, op: BinOp, ty: Ty, a: V, b: V) -> Encoding<Value> {
        if ty.elem == Elem::I64 {
            let (x, y) = (self.linear(a)?, self.linear(b)?);
            match (op, x.as_number(), y.as_number()) {
                (BinOp::Add, ..) => return Ok(Value::Linear(x.plus(&y, 1))),
                (BinOp::Sub, ..) => return Ok(Value::Linear(x.plus(&y, -1))),
                (BinOp::Mul, _, Some(by)) => return Ok(Value::Linear(Linear::number(0).plus(&x, by))),
                (BinOp::Mul, Some(by), _) => return Ok(Value::Linear(Linear::number(0).plus(&y, by))),
                _ => {}
            }
        }
        let view = number_view(ty);
        let wide = view == View::B64;
        let v = match op {
            BinOp::Shl | BinOp::Shr => self.shift(op, ty, view, a, b)?,
            BinOp::Div | BinOp::Rem => self.divide(op == BinOp::Div, ty, a, b)?,
            BinOp::Min | BinOp::SelMin | BinOp::Max | BinOp::SelMax => {
                let least = matches!(op, BinOp::Min | BinOp::SelMin);
                let Value::Test(test) = self.compare(if least { Cmp::Lt } else { Cmp::Gt }, a, b)? else {
                    return Err(refused(format!("it has {op:?} of {ty}")));
                };
                let (x, y) = (self.reg(a)?, self.reg(b)?);
                self.select_number(test, x, y)?
            }
            _ => {
                let code = match (op, wide) {
                    (BinOp::Add, true) => Code::Add_r64_rm64,
                    (BinOp::Add, false) => Code::Add_r32_rm32,
                    (BinOp::Sub, true) => Code::Sub_r64_rm64,
                    (BinOp::Sub, false) => Code::Sub_r32_rm32,
                    (BinOp::Mul, true) => Code::Imul_r64_rm64,
                    (BinOp::Mul, false) => Code::Imul_r32_rm32,
                    (BinOp::And, true) => Code::And_r64_rm64,
                    (BinOp::And, false) => Code::And_r32_rm32,
                    (BinOp::Or, true) => Code::Or_r64_rm64,
                    (BinOp::Or, false) => Code::Or_r32_rm32,
                    (BinOp::Xor, true) => Code::Xor_r64_rm64,
                    (BinOp::Xor, false) => Code::Xor_r32_rm32,
                    _ => return Err(broken(format!("{op:?} of {ty}"))),
                };
                let (x, y) = (self.reg(a)?, self.reg(b)?);
                self.pure(code, (INT, view), Some(x), vec![Arg::Use(y, view)], None)
            }
        };
        let v = if ty.elem.size() < 4 { self.extend(ty.elem, v) } else { v };
        Ok(self.value_in(ty, v))
    }

    /// The number that a scalar is, where it is known.
    fn number(&self, v: V) -> Encoding<Option<i64>> {
        Ok(match self.value(v)? {
            Value::Linear(sum) => sum.as_number(),
            Value::Const(bits) => Some(*bits as i64),
            _ => None,
        })
    }

    fn shift(&mut self, op: BinOp, ty: Ty, view: View, a: V, b: V) -> Encoding<VReg> {
        let wide = view == View::B64;
        let signed = ty.elem.is_signed();
        let x = self.reg(a)?;
        if let Some(by) = self.number(b)? {
            let code = match (op, signed, wide) {
                (BinOp::Shl, _, true) => Code::Shl_rm64_imm8,
                (BinOp::Shl, _, false) => Code::Shl_rm32_imm8,
                (_, true, true) => Code::Sar_rm64_imm8,
                (_, true, false) => Code::Sar_rm32_imm8,
                (_, false, true) => Code::Shr_rm64_imm8,
                (_, false, false) => Code::Shr_rm32_imm8,
            };
            let by = Arg::Imm(by & 63, OpKind::Immediate8);
            return Ok(self.pure(code, (INT, view), Some(x), vec![by], None));
        }
        let code = match (op, signed, wide) {
            (BinOp::Shl, _, true) => Code::VEX_Shlx_r64_rm64_r64,
            (BinOp::Shl, _, false) => Code::VEX_Shlx_r32_rm32_r32,
            (_, true, true) => Code::VEX_Sarx_r64_rm64_r64,
            (_, true, false) => Code::VEX_Sarx_r32_rm32_r32,
            (_, false, true) => Code::VEX_Shrx_r64_rm64_r64,
            (_, false, false) => Code::VEX_Shrx_r32_rm32_r32,
        };
        let by = self.reg(b)?;
        Ok(self.pure(code, (INT, view), None, vec![Arg::Use(x, view), Arg::Use(by, view)], None))
    }

    /// Quotient or remainder. Where nothing says that the divisor is neither 0 nor -1, with which hardware may trap, another one stands in
    /// its place: a quotient by -1 is the opposite, one by 0 is any number.
    fn divide(&mut self, quotient: bool, ty: Ty, a: V, b: V) -> Encoding<VReg> {
        let wide = ty.elem.size() == 8;
        let by = self.number(b)?.map(|n| match (ty.elem, wide) {
            (_, true) => n,
            (Elem::I8, _) => i64::from(n as i8),
            (Elem::I16, _) => i64::from(n as i16),
            _ => i64::from(n as i32),
        });
        let signed = ty.elem.is_signed();
        let view = if wide { View::B64 } else { View::B32 };
        let x = self.reg(a)?;
        // Indices are not negative, but nothing here says so: a shift would round another way.
        if let Some(by) = by.filter(|n| *n > 0 && (*n as u64).is_power_of_two() && !signed) {
            let imm = Arg::Imm(by.trailing_zeros().into(), OpKind::Immediate8);
            if quotient {
                let code = if wide { Code::Shr_rm64_imm8 } else { Code::Shr_rm32_imm8 };
                return Ok(self.pure(code, (INT, view), Some(x), vec![imm], None));
            }
            if let Some(mask) = imm32(by - 1) {
                let code = if wide { Code::And_rm64_imm32 } else { Code::And_rm32_imm32 };
                let mask = if wide { mask } else { Arg::Imm(by - 1, OpKind::Immediate32) };
                return Ok(self.pure(code, (INT, view), Some(x), vec![mask], None));
            }
        }
        let safe = by.is_some_and(|n| n != 0 && n != -1);
        let by = self.reg(b)?;
        let (given, by) = (by, if safe { by } else { self.divisor(by, signed, view)? });
        let (rax, rdx) = (general(gpr::RAX), general(gpr::RDX));
        let high = self.register(INT);
        if signed {
            let mut extend = Inst::new(if wide { Code::Cqo } else { Code::Cdq }, vec![]);
            extend.reads = vec![(x, rax)];
            extend.writes = vec![(high, rdx)];
            self.push(extend);
        } else {
            self.push(Inst::new(
                Code::Mov_r32_imm32,
                vec![Arg::Def(high, View::B32), Arg::Imm(0, OpKind::Immediate32)],
            ));
        }
        let code = match (signed, wide) {
            (true, true) => Code::Idiv_rm64,
            (true, false) => Code::Idiv_rm32,
            (false, true) => Code::Div_rm64,
            (false, false) => Code::Div_rm32,
        };
        let (q, r) = (self.register(INT), self.register(INT));
        let mut inst = Inst::new(code, vec![Arg::Use(by, view)]);
        inst.reads = vec![(x, rax), (high, rdx)];
        inst.writes = vec![(q, rax), (r, rdx)];
        inst.pure = true;
        self.push(inst);
        if !quotient || safe || !signed {
            return Ok(if quotient { q } else { r });
        }
        let code = if wide { Code::Neg_rm64 } else { Code::Neg_rm32 };
        let minus = self.pure(code, (INT, view), Some(x), vec![], None);
        let q = self.select_number(is(given, -1, view), minus, q)?;
        // The least number of few bits has no opposite.
        Ok(if ty.elem.size() < 4 { self.extend(ty.elem, q) } else { q })
    }

    /// A divisor with which the instruction does not fail: 1 in place of 0, and of -1, which the least number cannot be divided by.
    fn divisor(&mut self, by: VReg, signed: bool, view: View) -> Encoding<VReg> {
        let one = self.int(1);
        let by = self.select_number(is(by, 0, view), one, by)?;
        if signed { self.select_number(is(by, -1, view), one, by) } else { Ok(by) }
    }
}

/// Whether a register holds a number.
fn is(x: VReg, number: i64, view: View) -> Test {
    let (code, kind) = match view {
        View::B64 => (Code::Cmp_rm64_imm32, OpKind::Immediate32to64),
        _ => (Code::Cmp_rm32_imm32, OpKind::Immediate32),
    };
    let number = if view == View::B64 { number } else { i64::from(number as i32 as u32) };
    let inst = Inst::new(code, vec![Arg::Use(x, view), Arg::Imm(number, kind)]);
    Test { inst, holds: Condition::Equal }
}
