//! Sums of indices, and the memory operands that are made of them.

use egret_loop::{Elem, Param, Ty, V};
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::{Select, Value, class};
use crate::isa::x86::kernel::mir::{Arg, Base, INT, Inst, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, broken, refused};

/// `sum(register * number) + offset`, 64 bits that wrap; no register twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linear {
    pub terms: Vec<(VReg, i64)>,
    pub offset: i64,
}

impl Linear {
    pub fn number(offset: i64) -> Linear {
        Linear { terms: vec![], offset }
    }

    pub fn of(v: VReg) -> Linear {
        Linear { terms: vec![(v, 1)], offset: 0 }
    }

    /// The number, where it is one.
    pub fn as_number(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.offset)
    }

    /// self + other * scale.
    pub fn plus(mut self, other: &Linear, scale: i64) -> Linear {
        for (v, c) in &other.terms {
            let c = c.wrapping_mul(scale);
            match self.terms.iter_mut().find(|t| t.0 == *v) {
                Some(term) => term.1 = term.1.wrapping_add(c),
                None => self.terms.push((*v, c)),
            }
        }
        self.terms.retain(|t| t.1 != 0);
        self.offset = self.offset.wrapping_add(other.offset.wrapping_mul(scale));
        self
    }
}

/// The immediate, where 32 bits hold it.
pub(super) fn imm32(value: i64) -> Option<Arg> {
    i32::try_from(value).ok().map(|_| Arg::Imm(value, OpKind::Immediate32to64))
}

pub(super) const WORD: (regalloc2::RegClass, View) = (INT, View::B64);

impl Select<'_> {
    /// An i64 scalar as a sum.
    pub(super) fn linear(&mut self, v: V) -> Encoding<Linear> {
        match self.value(v)? {
            Value::Linear(sum) => Ok(sum.clone()),
            _ => Err(broken(format!("{v} is no i64"))),
        }
    }

    /// An i64 scalar in a register.
    pub(super) fn sum(&mut self, sum: &Linear) -> VReg {
        let Some((v, index)) = self.parts(&sum.terms, None) else { return self.int(sum.offset) };
        match (index, i32::try_from(sum.offset)) {
            (None, Ok(0)) => v,
            (index, Ok(disp)) => self.lea(v, index, disp),
            (index, Err(_)) => {
                let far = self.int(sum.offset);
                let v = if index.is_some() { self.lea(v, index, 0) } else { v };
                self.lea(v, Some((far, 1)), 0)
            }
        }
    }

    /// A number in a register.
    pub(super) fn int(&mut self, value: i64) -> VReg {
        let (code, kind) = match (u32::try_from(value), i32::try_from(value)) {
            (Ok(_), _) => (Code::Mov_r32_imm32, OpKind::Immediate32),
            (_, Ok(_)) => (Code::Mov_rm64_imm32, OpKind::Immediate32to64),
            _ => (Code::Mov_r64_imm64, OpKind::Immediate64),
        };
        let view = if code == Code::Mov_r32_imm32 { View::B32 } else { View::B64 };
        self.define(code, INT, view, vec![Arg::Imm(value, kind)])
    }

    fn lea(&mut self, base: VReg, index: Option<(VReg, u32)>, disp: i32) -> VReg {
        let place = Mem { base: Base::Reg(base), index, disp, broadcast: false };
        self.pure(Code::Lea_r64_m, WORD, None, vec![Arg::Mem(place)], None)
    }

    /// The sum of a register and terms as a base and, where the last addition is one that a memory operand does, an index with its
    /// scale. What changes least is added first, so that it is done outside of loops.
    fn parts(&mut self, terms: &[(VReg, i64)], base: Option<VReg>) -> Option<(VReg, Option<(VReg, u32)>)> {
        let mut terms = terms.to_vec();
        terms.sort_by_key(|(v, _)| (self.homes[v.vreg()], v.vreg()));
        let mut sum = base;
        let mut index = None;
        for (v, c) in terms {
            if let (Some(base), Some(_)) = (sum, index) {
                sum = Some(self.lea(base, index, 0));
                index = None;
            }
            match (sum, c) {
                (Some(_), 1 | 2 | 4 | 8) => index = Some((v, c as u32)),
                (Some(_), _) => index = Some((self.times(v, c), 1)),
                (None, _) => sum = Some(self.times(v, c)),
            }
        }
        sum.map(|base| (base, index))
    }

    /// A register times a number.
    pub(super) fn times(&mut self, v: VReg, by: i64) -> VReg {
        if by == 1 {
            return v;
        }
        if by > 0 && (by as u64).is_power_of_two() {
            let amount = Arg::Imm(by.trailing_zeros().into(), OpKind::Immediate8);
            return self.pure(Code::Shl_rm64_imm8, WORD, Some(v), vec![amount], None);
        }
        match imm32(by) {
            Some(imm) => {
                self.pure(Code::Imul_r64_rm64_imm32, WORD, None, vec![Arg::Use(v, View::B64), imm], None)
            }
            None => {
                let by = self.int(by);
                self.pure(Code::Imul_r64_rm64, WORD, Some(v), vec![Arg::Use(by, View::B64)], None)
            }
        }
    }

    fn param_elem(&self, p: Param) -> Encoding<Elem> {
        let param = self.kernel.params.get(p.0 as usize);
        Ok(param.ok_or_else(|| broken(format!("there is no {p}")))?.elem)
    }

    /// The memory operand of an element.
    pub(super) fn place(&mut self, p: Param, index: V) -> Encoding<Mem> {
        let size = self.param_elem(p)?.size() as i64;
        let bytes = Linear::number(0).plus(&self.linear(index)?, size);
        let base = *self.params.get(p.0 as usize).ok_or_else(|| broken(format!("there is no {p}")))?;
        let (base, index) =
            self.parts(&bytes.terms, Some(base)).ok_or_else(|| broken("an address without a base"))?;
        match i32::try_from(bytes.offset) {
            Ok(disp) => Ok(Mem { base: Base::Reg(base), index, disp, broadcast: false }),
            Err(_) => {
                let base = if index.is_some() { self.lea(base, index, 0) } else { base };
                let far = self.int(bytes.offset);
                Ok(Mem { base: Base::Reg(base), index: Some((far, 1)), disp: 0, broadcast: false })
            }
        }
    }

    pub(super) fn load(&mut self, p: Param, index: V, ty: Ty) -> Encoding<VReg> {
        let place = self.place(p, index)?;
        if ty.elem == Elem::Bool && ty.lanes > 1 {
            return self.load_mask(place, ty.lanes);
        }
        if ty.elem == Elem::F16 && ty.lanes > 1 {
            return self.load_half(place, ty);
        }
        let (code, view) = self.load_code(ty)?;
        let v = self.define(code, class(ty, self.avx512), view, vec![Arg::Mem(place)]);
        if ty.lanes == 1 && matches!(ty.elem, Elem::F32 | Elem::F64) {
            self.in_memory.push((v, place));
        }
        Ok(v)
    }

    pub(super) fn store(&mut self, p: Param, index: V, value: V) -> Encoding<()> {
        let ty = self.ty(value)?;
        let (value, place) = (self.reg(value)?, self.place(p, index)?);
        if let Some(&packed) = self.packed.get(&value) {
            return self.store_half(place, packed, ty);
        }
        if ty.elem == Elem::Bool && ty.lanes > 1 {
            return self.store_mask(place, value, ty.lanes);
        }
        if ty.lanes > 1 && ty.elem.size() < 4 && !self.avx512 {
            let packed = self.pack(ty.elem, vector_view(ty)?, value)?;
            return self.store_bytes(place, packed, ty.elem.size() * usize::from(ty.lanes));
        }
        let (code, view) = self.store_code(ty)?;
        self.push(Inst::new(code, vec![Arg::Mem(place), Arg::Use(value, view)]));
        Ok(())
    }

    /// The code that moves lanes of a type under a mask, from memory or to it.
    fn masked_code(&self, ty: Ty, plain: (Code, View), [s, d]: [VectorOp; 2]) -> Encoding<(Code, View)> {
        if ty.lanes == 1
            || matches!(ty.elem, Elem::Bool | Elem::F16)
            || (ty.elem.size() < 4 && !self.avx512)
        {
            return Err(refused(format!("it has the first lanes of {ty} in memory")));
        }
        match ty.elem.size() {
            4 => Ok((self.code(s, plain.1)?, plain.1)),
            8 => Ok((self.code(d, plain.1)?, plain.1)),
            _ => Ok(plain),
        }
    }

    /// The first lanes of a vector from memory: no byte beyond them is touched, as lanes that a mask leaves out raise no fault.
    pub(super) fn load_first(&mut self, p: Param, index: V, ty: Ty, count: u8) -> Encoding<VReg> {
        let (code, view) =
            self.masked_code(ty, self.load_code(ty)?, [VectorOp::LoadFirstPs, VectorOp::LoadFirstPd])?;
        let mask = self.first_lanes(ty.elem.size().max(4), ty.lanes, count)?;
        let place = Arg::Mem(self.place(p, index)?);
        if !self.avx512 {
            return Ok(self.define(code, VECTOR, view, vec![Arg::Use(mask, view), place]));
        }
        let v = self.register(VECTOR);
        let mut inst = Inst::new(code, vec![Arg::Def(v, view), place]);
        (inst.pure, inst.mask, inst.zeroing) = (true, Some(mask), true);
        self.push(inst);
        Ok(v)
    }

    /// See [`Select::load_first`].
    pub(super) fn store_first(&mut self, p: Param, index: V, value: V, count: u8) -> Encoding<()> {
        let ty = self.ty(value)?;
        let (code, view) =
            self.masked_code(ty, self.store_code(ty)?, [VectorOp::StoreFirstPs, VectorOp::StoreFirstPd])?;
        let mask = self.first_lanes(ty.elem.size().max(4), ty.lanes, count)?;
        let (value, place) = (self.reg(value)?, self.place(p, index)?);
        let mut args = vec![Arg::Mem(place), Arg::Use(value, view)];
        if !self.avx512 {
            args.insert(1, Arg::Use(mask, view));
        }
        let mut inst = Inst::new(code, args);
        inst.mask = self.avx512.then_some(mask);
        self.push(inst);
        Ok(())
    }

    fn load_code(&self, ty: Ty) -> Encoding<(Code, View)> {
        let extend = match ty.elem {
            Elem::I8 => Some(VectorOp::PmovsxBd),
            Elem::U8 => Some(VectorOp::PmovzxBd),
            Elem::I16 => Some(VectorOp::PmovsxWd),
            Elem::U16 => Some(VectorOp::PmovzxWd),
            _ => None,
        };
        let (op, view) = match (ty.elem, ty.lanes) {
            (Elem::F32, 1) => (VectorOp::LoadSs, View::X),
            (Elem::F64, 1) => (VectorOp::LoadSd, View::X),
            (Elem::I64 | Elem::U64, 1) => return Ok((Code::Mov_r64_rm64, View::B64)),
            (Elem::I32 | Elem::U32, 1) => return Ok((Code::Mov_r32_rm32, View::B32)),
            (Elem::I16, 1) => return Ok((Code::Movsx_r32_rm16, View::B32)),
            (Elem::U16 | Elem::F16, 1) => return Ok((Code::Movzx_r32_rm16, View::B32)),
            (Elem::I8, 1) => return Ok((Code::Movsx_r32_rm8, View::B32)),
            (Elem::U8 | Elem::Bool, 1) => return Ok((Code::Movzx_r32_rm8, View::B32)),
            _ => (extend.unwrap_or(VectorOp::LoadUps), vector_view(ty)?),
        };
        Ok((self.code(op, view)?, view))
    }

    fn store_code(&self, ty: Ty) -> Encoding<(Code, View)> {
        let (op, view) = match (ty.elem, ty.lanes) {
            (Elem::F32, 1) => (VectorOp::StoreSs, View::X),
            (Elem::F64, 1) => (VectorOp::StoreSd, View::X),
            (Elem::I64 | Elem::U64, 1) => return Ok((Code::Mov_rm64_r64, View::B64)),
            (Elem::I32 | Elem::U32, 1) => return Ok((Code::Mov_rm32_r32, View::B32)),
            (Elem::I16 | Elem::U16 | Elem::F16, 1) => return Ok((Code::Mov_rm16_r16, View::B16)),
            (Elem::I8 | Elem::U8 | Elem::Bool, 1) => return Ok((Code::Mov_rm8_r8, View::B8)),
            (elem, _) => {
                let op = match elem.size() {
                    1 => VectorOp::PmovDb,
                    2 => VectorOp::PmovDw,
                    _ => VectorOp::StoreUps,
                };
                (op, vector_view(ty)?)
            }
        };
        Ok((self.code(op, view)?, view))
    }
}

/// The element type that lanes have in a register: integers of fewer than 32 bits stand extended by their sign, as scalars do.
pub(super) fn lane_elem(elem: Elem) -> Elem {
    match elem {
        Elem::I8 | Elem::I16 => Elem::I32,
        Elem::U8 | Elem::U16 | Elem::F16 => Elem::U32,
        _ => elem,
    }
}

/// The view of a vector.
pub(super) fn vector_view(ty: Ty) -> Encoding<View> {
    match lane_elem(ty.elem).size() * ty.lanes as usize {
        64 => Ok(View::Z),
        32 => Ok(View::Y),
        16 => Ok(View::X),
        _ if ty.lanes == 1 && ty.elem.is_float() => Ok(View::X),
        n => Err(refused(format!("it has vectors of {n} bytes"))),
    }
}
