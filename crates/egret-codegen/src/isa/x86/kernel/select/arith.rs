//! Arithmetic on vectors, and on floats as vectors of which lane 0 counts.

use egret_loop::{BinOp, Elem, ScaleLimits, Ty, UnOp, V, number_bits};
use iced_x86::OpKind;
use regalloc2::VReg;

use super::address::{lane_elem, vector_view};
use super::bools::UNORDERED;
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, Base, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, broken, refused};

impl Select<'_> {
    /// The code of a vector instruction.
    pub(super) fn code(&self, op: VectorOp, view: View) -> Encoding<iced_x86::Code> {
        op.code(view, self.avx512).ok_or_else(|| refused(format!("there is no {op:?} of {view:?}")))
    }

    /// A constant of 4 or 8 bytes as memory, in every lane of a register of a size: without AVX-512 it stands there as often.
    pub(super) fn pool(&mut self, view: View, size: usize, bits: u64) -> Arg {
        let one = &bits.to_le_bytes()[..size];
        let times = if self.avx512 { 1 } else { view_bytes(view) / size };
        let at = self.function.constant(one.repeat(times));
        Arg::Mem(Mem { base: Base::Pool(at), index: None, disp: 0, broadcast: self.avx512 })
    }

    /// The last source of a vector instruction of lanes of a size as one that is in a register.
    pub(super) fn in_register(&mut self, size: usize, view: View, arg: Arg) -> Encoding<VReg> {
        if let Arg::Use(v, _) = arg {
            return Ok(v);
        }
        let op = if size == 8 { VectorOp::PorQ } else { VectorOp::PorD };
        let elem = if size == 8 { Elem::F64 } else { Elem::F32 };
        let zero = self.constant(Ty { elem, lanes: view_lanes(view, elem) }, 0)?;
        self.two(op, view, zero, arg)
    }

    /// A constant in a register.
    pub(super) fn constant(&mut self, ty: Ty, bits: u64) -> Encoding<VReg> {
        if ty.elem == Elem::Bool && ty.lanes > 1 {
            return self.mask_constant(ty.lanes, bits != 0);
        }
        let bits = lane_bits(ty.elem, bits);
        if ty.lanes == 1 && !ty.elem.is_float() {
            return Ok(self.int(bits as i64));
        }
        let view = vector_view(ty)?;
        if bits == 0 {
            let code = self.code(VectorOp::PxorD, view)?;
            let again = Arg::Again(0, view);
            return Ok(self.pure(code, (VECTOR, view), None, vec![again, again], None));
        }
        let size = lane_elem(ty.elem).size();
        let op = match size {
            4 => VectorOp::BroadcastD,
            8 => VectorOp::BroadcastQ,
            _ => return Err(refused(format!("it has constants of {ty}"))),
        };
        let code = self.code(op, view)?;
        let at = self.function.constant(bits.to_le_bytes()[..size].to_vec());
        let place = Mem { base: Base::Pool(at), index: None, disp: 0, broadcast: false };
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Mem(place)], None))
    }

    /// The last source of a vector instruction: constants are read from memory.
    pub(super) fn operand(&mut self, v: V) -> Encoding<Arg> {
        let ty = self.ty(v)?;
        match (self.value(v)?, lane_elem(ty.elem).size()) {
            (Value::Const(bits), size @ (4 | 8)) => {
                let bits = lane_bits(ty.elem, *bits);
                Ok(self.pool(vector_view(ty)?, size, bits))
            }
            _ => Ok(Arg::Use(self.reg(v)?, vector_view(ty)?)),
        }
    }

    fn is_constant(&self, v: V) -> bool {
        matches!(self.values[v.0 as usize], Value::Const(_))
    }

    /// One instruction on two sources.
    pub(super) fn two(&mut self, op: VectorOp, view: View, a: VReg, b: Arg) -> Encoding<VReg> {
        let code = self.code(op, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(a, view), b], None))
    }

    fn one(&mut self, op: VectorOp, view: View, a: Arg, imm: Option<i64>) -> Encoding<VReg> {
        let code = self.code(op, view)?;
        let mut args = vec![a];
        args.extend(imm.map(|i| Arg::Imm(i, OpKind::Immediate8)));
        Ok(self.pure(code, (VECTOR, view), None, args, None))
    }

    pub(super) fn unary(&mut self, op: UnOp, ty: Ty, x: V) -> Encoding<Value> {
        if ty.elem == Elem::Bool {
            return if op == UnOp::Not {
                self.not(ty, x)
            } else {
                Err(refused(format!("it has {op:?} of {ty}")))
            };
        }
        if ty.lanes == 1 && !ty.elem.is_float() {
            return self.unary_number(op, ty, x);
        }
        let (view, size) = (vector_view(ty)?, lane_elem(ty.elem).size());
        let by_size = |d: VectorOp, q: VectorOp| if size == 8 { q } else { d };
        if !matches!(size, 4 | 8) {
            return Err(refused(format!("it has {op:?} of {ty}")));
        }
        let sign = if size == 8 { 1 << 63 } else { 1 << 31 };
        let rounding = |mode: i64| Some(8 | mode);
        let v = match (op, ty.elem.is_float()) {
            (UnOp::Neg | UnOp::Abs, true) => {
                let (op, bits) = match op {
                    UnOp::Neg => (by_size(VectorOp::PxorD, VectorOp::PxorQ), sign),
                    _ => (by_size(VectorOp::PandD, VectorOp::PandQ), sign - 1),
                };
                let (x, bits) = (self.reg(x)?, self.pool(view, size, bits));
                self.two(op, view, x, bits)?
            }
            (UnOp::Not, false) => {
                let (x, ones) = (self.reg(x)?, self.pool(view, size, u64::MAX));
                self.two(by_size(VectorOp::PxorD, VectorOp::PxorQ), view, x, ones)?
            }
            (UnOp::Neg, false) => {
                let (zero, x) = (self.constant(ty, 0)?, self.operand(x)?);
                self.two(by_size(VectorOp::PsubD, VectorOp::PsubQ), view, zero, x)?
            }
            (UnOp::Abs, false) if !ty.elem.is_signed() => self.reg(x)?,
            _ => {
                let (op, imm) = match (op, ty.elem.is_float()) {
                    (UnOp::Abs, false) => (by_size(VectorOp::PabsD, VectorOp::PabsQ), None),
                    (UnOp::Sqrt, true) => (by_size(VectorOp::SqrtPs, VectorOp::SqrtPd), None),
                    (UnOp::Nearest, true) => (by_size(VectorOp::RoundPs, VectorOp::RoundPd), rounding(0)),
                    (UnOp::Floor, true) => (by_size(VectorOp::RoundPs, VectorOp::RoundPd), rounding(1)),
                    (UnOp::Ceil, true) => (by_size(VectorOp::RoundPs, VectorOp::RoundPd), rounding(2)),
                    (UnOp::Trunc, true) => (by_size(VectorOp::RoundPs, VectorOp::RoundPd), rounding(3)),
                    _ => return Err(broken(format!("{op:?} of {ty}"))),
                };
                let x = self.operand(x)?;
                let v = self.one(op, view, x, imm)?;
                if let (VectorOp::RoundPs, true, Arg::Use(x, _)) = (op, imm == rounding(0), x) {
                    self.nearest.insert(v, x);
                }
                v
            }
        };
        Ok(Value::Reg(self.extend_lanes(ty.elem, view, v)?))
    }

    /// The low bits of lanes, extended by the sign of their type.
    pub(super) fn extend_lanes(&mut self, to: Elem, view: View, x: VReg) -> Encoding<VReg> {
        let unused = match to.size() {
            1 => 24,
            2 => 16,
            _ => return Ok(x),
        };
        if to.is_signed() {
            let by = self.pool(view, 4, unused);
            let up = self.two(VectorOp::PsllvD, view, x, by)?;
            return self.two(VectorOp::PsravD, view, up, by);
        }
        let low = self.pool(view, 4, u64::from(u32::MAX >> unused));
        self.two(VectorOp::PandD, view, x, low)
    }

    pub(super) fn binary(&mut self, op: BinOp, ty: Ty, a: V, b: V) -> Encoding<Value> {
        if ty.elem == Elem::Bool {
            return self.bool_binary(op, ty, a, b);
        }
        if ty.lanes == 1 && !ty.elem.is_float() {
            return self.binary_number(op, ty, a, b);
        }
        let commutes = matches!(
            op,
            BinOp::Add | BinOp::Mul | BinOp::And | BinOp::Or | BinOp::Xor | BinOp::Min | BinOp::Max
        );
        let (a, b) = if commutes && self.is_constant(a) { (b, a) } else { (a, b) };
        let (view, size) = (vector_view(ty)?, ty.elem.size());
        if op == BinOp::Or && self.avx512 && size >= 4 {
            for (other, and) in [(a, b), (b, a)] {
                if let Some(bits) = self.only_and(and)? {
                    let other = self.reg(other)?;
                    return Ok(Value::Reg(self.or_and(size, view, other, bits)?));
                }
            }
        }
        let (x, y) = (self.reg(a)?, self.operand(b)?);
        let v = self.apply(op, ty.elem, view, x, y)?;
        if op == BinOp::And {
            self.ands.insert(v, (x, y));
        }
        Ok(Value::Reg(v))
    }

    /// What a value is the bitwise `and` of, if nothing but the instruction at hand reads it and it is written where that is.
    fn only_and(&self, v: V) -> Encoding<Option<(VReg, Arg)>> {
        Ok(match self.value(v)? {
            Value::Reg(r) if self.dies(v) && self.homes[r.vreg()] + 1 == self.scopes.len() => {
                self.ands.get(r).copied()
            }
            _ => None,
        })
    }

    /// What a vector of f32 is rounded of to the nearest whole numbers, if nothing but the instruction at hand reads it.
    pub(super) fn only_nearest(&self, v: V) -> Encoding<Option<VReg>> {
        Ok(match self.value(v)? {
            Value::Reg(r) if self.dies(v) => self.nearest.get(r).copied(),
            _ => None,
        })
    }

    /// a | (b & c): one instruction of AVX-512, which takes the table of a function of three bits.
    fn or_and(&mut self, size: usize, view: View, a: VReg, (b, c): (VReg, Arg)) -> Encoding<VReg> {
        const TABLE: i64 = 0b1111_1000;
        let code = self.code(if size == 8 { VectorOp::TernlogQ } else { VectorOp::TernlogD }, view)?;
        let args = vec![Arg::Use(b, view), c, Arg::Imm(TABLE, OpKind::Immediate8)];
        Ok(self.pure(code, (VECTOR, view), Some(a), args, None))
    }

    /// An operation on registers of a size.
    pub(super) fn apply(&mut self, op: BinOp, elem: Elem, view: View, a: VReg, b: Arg) -> Encoding<VReg> {
        if elem.size() < 4 {
            let v = self.apply(op, lane_elem(elem), view, a, b)?;
            return self.extend_lanes(elem, view, v);
        }
        let none = || refused(format!("it has {op:?} of vectors of {elem}"));
        let signed = elem.is_signed();
        let pick = |d: VectorOp, q: VectorOp| match elem.size() {
            4 => Ok(d),
            8 => Ok(q),
            _ => Err(none()),
        };
        if elem.is_float() {
            let op = match op {
                BinOp::Min | BinOp::Max => return self.min_max(op == BinOp::Min, elem, view, a, b),
                BinOp::Add => pick(VectorOp::AddPs, VectorOp::AddPd)?,
                BinOp::Sub => pick(VectorOp::SubPs, VectorOp::SubPd)?,
                BinOp::Mul => pick(VectorOp::MulPs, VectorOp::MulPd)?,
                BinOp::Div => pick(VectorOp::DivPs, VectorOp::DivPd)?,
                BinOp::Scale if !self.avx512 => return self.scale(elem, view, a, b),
                BinOp::Scale => pick(VectorOp::ScalefPs, VectorOp::ScalefPd)?,
                BinOp::SelMin => pick(VectorOp::MinPs, VectorOp::MinPd)?,
                BinOp::SelMax => pick(VectorOp::MaxPs, VectorOp::MaxPd)?,
                _ => return Err(broken(format!("{op:?} of {elem}"))),
            };
            return self.two(op, view, a, b);
        }
        let op = match op {
            BinOp::Add => pick(VectorOp::PaddD, VectorOp::PaddQ)?,
            BinOp::Sub => pick(VectorOp::PsubD, VectorOp::PsubQ)?,
            BinOp::Mul => pick(VectorOp::PmullD, VectorOp::PmullQ)?,
            BinOp::Min | BinOp::SelMin if signed => pick(VectorOp::PminsD, VectorOp::PminsQ)?,
            BinOp::Min | BinOp::SelMin => pick(VectorOp::PminuD, VectorOp::PminuQ)?,
            BinOp::Max | BinOp::SelMax if signed => pick(VectorOp::PmaxsD, VectorOp::PmaxsQ)?,
            BinOp::Max | BinOp::SelMax => pick(VectorOp::PmaxuD, VectorOp::PmaxuQ)?,
            BinOp::And => pick(VectorOp::PandD, VectorOp::PandQ)?,
            BinOp::Or => pick(VectorOp::PorD, VectorOp::PorQ)?,
            BinOp::Xor => pick(VectorOp::PxorD, VectorOp::PxorQ)?,
            BinOp::Shl => pick(VectorOp::PsllvD, VectorOp::PsllvQ)?,
            BinOp::Shr if signed => pick(VectorOp::PsravD, VectorOp::PsravQ)?,
            BinOp::Shr => pick(VectorOp::PsrlvD, VectorOp::PsrlvQ)?,
            BinOp::Div | BinOp::Rem | BinOp::Scale => return Err(none()),
        };
        self.two(op, view, a, b)
    }

    /// a * 2^b by two factors: see [`ScaleLimits`].
    fn scale(&mut self, elem: Elem, view: View, a: VReg, b: Arg) -> Encoding<VReg> {
        let pick = |s: VectorOp, d: VectorOp| if elem.size() == 8 { d } else { s };
        let (add, sub) = (pick(VectorOp::AddPs, VectorOp::AddPd), pick(VectorOp::SubPs, VectorOp::SubPd));
        let (min, max) = (pick(VectorOp::MinPs, VectorOp::MinPd), pick(VectorOp::MaxPs, VectorOp::MaxPd));
        let (mul, up) = (pick(VectorOp::MulPs, VectorOp::MulPd), pick(VectorOp::PsllvD, VectorOp::PsllvQ));
        let limits = ScaleLimits::of(elem);
        let [least, most, shift] = [limits.least, limits.most, limits.shift]
            .map(|number| self.pool(view, elem.size(), number_bits(elem, number)));
        let by = self.pool(view, elem.size(), limits.mantissa_bits.into());
        let exponent = self.in_register(elem.size(), view, b)?;
        let near = self.two(min, view, exponent, most)?;
        let near = self.two(max, view, near, least)?;
        let rest = self.two(sub, view, exponent, Arg::Use(near, view))?;
        let mut product = a;
        for part in [rest, near] {
            let low = self.two(add, view, part, shift)?;
            let factor = self.two(up, view, low, by)?;
            product = self.two(mul, view, product, Arg::Use(factor, view))?;
        }
        Ok(product)
    }

    /// x86's minimum gives the second source where one is NaN or both are zeros. Taken both ways and joined by `or`, zeros get the
    /// smaller sign, and NaN stays. The maximum is joined by `and`, to which NaN must be added.
    fn min_max(&mut self, min: bool, elem: Elem, view: View, a: VReg, b: Arg) -> Encoding<VReg> {
        let pick = |s: VectorOp, d: VectorOp| if elem.size() == 8 { d } else { s };
        // Both orders need a constant as the first source too.
        let b = self.in_register(elem.size(), view, b)?;
        let op = if min {
            pick(VectorOp::MinPs, VectorOp::MinPd)
        } else {
            pick(VectorOp::MaxPs, VectorOp::MaxPd)
        };
        let one = self.two(op, view, a, Arg::Use(b, view))?;
        let other = self.two(op, view, b, Arg::Use(a, view))?;
        if min {
            return self.two(pick(VectorOp::PorD, VectorOp::PorQ), view, one, Arg::Use(other, view));
        }
        let both = self.two(pick(VectorOp::PandD, VectorOp::PandQ), view, one, Arg::Use(other, view))?;
        let compare = pick(VectorOp::CmpPs, VectorOp::CmpPd);
        let unordered = self.compare_lanes(compare, view, a, Arg::Use(b, view), UNORDERED)?;
        let add = self.code(pick(VectorOp::AddPs, VectorOp::AddPd), view)?;
        let args = vec![Arg::Use(a, view), Arg::Use(b, view)];
        if !self.avx512 {
            let sum = self.pure(add, (VECTOR, view), None, args, None);
            return self.blend(elem.size(), view, unordered, Arg::Use(sum, view), both);
        }
        Ok(self.pure(add, (VECTOR, view), Some(both), args, Some((unordered, false))))
    }

    /// a * b + c, written over the operand that is read here last.
    pub(super) fn mul_add(&mut self, ty: Ty, a: V, b: V, c: V) -> Encoding<VReg> {
        if !ty.elem.is_float() {
            return Err(broken(format!("fma of {ty}")));
        }
        let view = vector_view(ty)?;
        let pick = |s: VectorOp, d: VectorOp| if ty.elem.size() == 8 { d } else { s };
        // 213: a * b + c over a; 231: over c.
        let (a, b) = if self.is_constant(a) { (b, a) } else { (a, b) };
        let over_c = !self.is_constant(c)
            && (self.is_constant(b) || self.dies(c) || !(self.dies(a) || self.dies(b)));
        let (op, tied, first, last) = if over_c {
            (pick(VectorOp::Fmadd231Ps, VectorOp::Fmadd231Pd), c, a, b)
        } else if self.dies(a) || self.is_constant(b) {
            (pick(VectorOp::Fmadd213Ps, VectorOp::Fmadd213Pd), a, b, c)
        } else {
            (pick(VectorOp::Fmadd213Ps, VectorOp::Fmadd213Pd), b, a, c)
        };
        let (tied, first, last) = (self.reg(tied)?, self.reg(first)?, self.operand(last)?);
        let code = self.code(op, view)?;
        Ok(self.pure(code, (VECTOR, view), Some(tied), vec![Arg::Use(first, view), last], None))
    }
}

/// Bytes of a vector register.
fn view_bytes(view: View) -> usize {
    match view {
        View::Z => 64,
        View::Y => 32,
        _ => 16,
    }
}

/// Lanes of a register of a size.
pub(super) fn view_lanes(view: View, elem: Elem) -> u8 {
    (view_bytes(view) / elem.size()) as u8
}

/// The bits of a number as they stand in a lane or in a general register: of fewer than 32 bits, extended to 32 by its sign.
fn lane_bits(elem: Elem, bits: u64) -> u64 {
    let shift = 64 - 8 * elem.size() as u32;
    if elem.is_signed() && elem.size() < 4 {
        ((bits << shift) as i64 >> shift) as u64 & 0xffff_ffff
    } else {
        (bits << shift) >> shift
    }
}
