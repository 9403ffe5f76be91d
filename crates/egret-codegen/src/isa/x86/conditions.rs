//! The epilogue's comparisons, choices and conversions: what needs masks of lanes, which are registers of their own under
//! AVX-512 and vectors under AVX2.

use egret_loop::{Cmp, Elem, Inst, Source, UnOp};

use super::super::{Encoding, refused};
use super::asm::WideIsa;
use super::asm::{MaskOp, Op1, Op2};
use super::epilogue::{Planner, Src, Step, Val, no_form};

impl Planner<'_> {
    /// A mask of float lanes that stays until the next instruction asks for one.
    pub fn compare_lanes(&mut self, a: usize, b: Src, predicate: u32) -> Encoding<usize> {
        match self.isa {
            WideIsa::Avx512 => {
                let mask = self.alloc_mask()?;
                self.masks[mask] = false;
                self.steps.push(Step::CompareMask { int: false, mask, a, b, predicate });
                Ok(mask)
            }
            WideIsa::Avx2 => {
                let mask = self.alloc();
                self.temps.push(mask);
                self.steps.push(Step::CompareVector(mask, a, b, predicate));
                Ok(mask)
            }
        }
    }

    pub fn compare(&mut self, i: usize, op: Cmp, a: usize, b: usize, elem: Elem) -> Encoding<()> {
        if let (Some(x), Some(y)) = (self.mask(a), self.mask(b)) {
            let op = match op {
                Cmp::Eq => MaskOp::Xnor,
                Cmp::Ne => MaskOp::Xor,
                _ => return Err(no_form(format!("{op:?}"), Elem::Bool)),
            };
            self.release(i);
            let d = self.alloc_mask()?;
            self.steps.push(Step::Mask(op, d, x, y));
            self.vals[i] = Val::Mask(d);
            return Ok(());
        }
        if self.isa == WideIsa::Avx512 {
            let int = elem == Elem::I32;
            let x = self.reg(a)?;
            let y = self.src(b)?;
            self.release(i);
            let mask = self.alloc_mask()?;
            let predicate = if int { int_predicate(op) } else { float_predicate(op) };
            self.steps.push(Step::CompareMask { int, mask, a: x, b: y, predicate });
            self.vals[i] = Val::Mask(mask);
            return Ok(());
        }
        if elem == Elem::F32 {
            let x = self.reg(a)?;
            let y = self.src(b)?;
            self.release(i);
            let d = self.alloc();
            self.steps.push(Step::CompareVector(d, x, y, float_predicate(op)));
            self.vals[i] = Val::Slot(d);
            return Ok(());
        }
        if elem == Elem::Bool && !matches!(op, Cmp::Eq | Cmp::Ne) {
            return Err(no_form(format!("{op:?}"), elem));
        }
        let (greater, swap, invert) = match op {
            Cmp::Eq => (false, false, false),
            Cmp::Ne => (false, false, true),
            Cmp::Gt => (true, false, false),
            Cmp::Le => (true, false, true),
            Cmp::Lt => (true, true, false),
            Cmp::Ge => (true, true, true),
        };
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let x = self.reg(a)?;
        let y = self.src(b)?;
        self.release(i);
        let d = self.alloc();
        self.steps.push(Step::CompareInts(greater, d, x, y));
        if invert {
            let ones = self.constant(u32::MAX);
            self.steps.push(Step::Op2(Op2::Xor, d, d, ones));
        }
        self.vals[i] = Val::Slot(d);
        Ok(())
    }

    pub fn select(&mut self, i: usize, cond: usize, b: usize, c: usize, elem: Elem) -> Encoding<()> {
        if elem == Elem::Bool && self.isa == WideIsa::Avx512 {
            // (b and cond) or (c and not cond) = c xor (cond and (b xor c))
            let (m, x, y) = (self.condition(cond)?, self.condition(b)?, self.condition(c)?);
            let d = self.alloc_mask()?;
            self.steps.push(Step::Mask(MaskOp::Xor, d, x, y));
            self.steps.push(Step::Mask(MaskOp::And, d, d, m));
            self.steps.push(Step::Mask(MaskOp::Xor, d, d, y));
            self.release(i);
            self.vals[i] = Val::Mask(d);
            return Ok(());
        }
        let mask = match self.isa {
            WideIsa::Avx512 => self.condition(cond)?,
            WideIsa::Avx2 => self.reg(cond)?,
        };
        let y = self.reg(c)?;
        let x = self.src(b)?;
        self.release(i);
        let dst = self.alloc();
        self.steps.push(Step::Blend { dst, mask, a: y, b: x });
        self.vals[i] = Val::Slot(dst);
        Ok(())
    }

    pub fn convert(&mut self, i: usize, to: Elem, a: usize, from: Elem) -> Encoding<()> {
        const NOT_EQUAL: u32 = 4;
        let one = if to == Elem::F32 { 1f32.to_bits() } else { 1 };
        match (from, to) {
            (Elem::I32, Elem::F32) => self.one(i, a, |d, s| Step::Op1(Op1::ToF32, d, s)),
            (Elem::U8 | Elem::I8, Elem::F32) => self.one(i, a, |d, s| Step::Op1(Op1::ToF32, d, s)),
            (Elem::U8 | Elem::I8, Elem::I32) => self.one(i, a, Step::Move),
            (Elem::F32, Elem::F16) | (Elem::F16, Elem::F32) => {
                let x = self.reg(a)?;
                self.release(i);
                let d = self.alloc();
                self.steps.push(if to == Elem::F16 { Step::ToHalf(d, x) } else { Step::OfHalf(d, x) });
                self.vals[i] = Val::Slot(d);
                Ok(())
            }
            (Elem::F32, Elem::I32) => self.saturate(i, a),
            (Elem::F32 | Elem::I32, Elem::U8 | Elem::I8) => self.cast_to_bytes(i, (to, from), a),
            (Elem::Bool, Elem::F32 | Elem::I32) if self.isa == WideIsa::Avx2 => {
                self.with_constant(i, Op2::And, a, one)
            }
            (Elem::Bool, Elem::F32 | Elem::I32) => {
                let mask = self.condition(a)?;
                let one = self.constant(one);
                let d = self.alloc();
                self.steps.push(Step::Zero(d));
                self.steps.push(Step::Blend { dst: d, mask, a: d, b: one });
                self.release(i);
                self.vals[i] = Val::Slot(d);
                Ok(())
            }
            (Elem::F32 | Elem::I32, Elem::Bool) => {
                let x = self.reg(a)?;
                let zero = self.constant(0);
                self.release(i);
                let int = from == Elem::I32;
                if self.isa == WideIsa::Avx512 {
                    let mask = self.alloc_mask()?;
                    self.steps.push(Step::CompareMask { int, mask, a: x, b: zero, predicate: NOT_EQUAL });
                    self.vals[i] = Val::Mask(mask);
                } else {
                    let d = self.alloc();
                    if int {
                        let ones = self.constant(u32::MAX);
                        self.steps.push(Step::CompareInts(false, d, x, zero));
                        self.steps.push(Step::Op2(Op2::Xor, d, d, ones));
                    } else {
                        self.steps.push(Step::CompareVector(d, x, zero, NOT_EQUAL));
                    }
                    self.vals[i] = Val::Slot(d);
                }
                Ok(())
            }
            _ => Err(refused(format!("its epilogue converts {from} to {to}"))),
        }
    }

    /// To bytes in lanes of 4 bytes: floats saturate (NaN gives 0), integers wrap.
    fn cast_to_bytes(&mut self, i: usize, (to, from): (Elem, Elem), a: usize) -> Encoding<()> {
        let x = self.reg(a)?;
        let steps: Vec<(Op2, u32)> = match (from, to) {
            // The second operand where the first is NaN.
            (Elem::F32, Elem::U8) => vec![(Op2::Max, 0), (Op2::Min, 255f32.to_bits())],
            (Elem::F32, _) => vec![(Op2::Max, (-128f32).to_bits()), (Op2::Min, 127f32.to_bits())],
            (_, Elem::U8) => vec![(Op2::And, 255)],
            _ => vec![(Op2::Shl, 24), (Op2::Sar, 24)],
        };
        let d = self.alloc();
        let mut last = x;
        for (op, bits) in steps {
            let constant = self.constant(bits);
            self.steps.push(Step::Op2(op, d, last, constant));
            last = d;
        }
        if from == Elem::F32 {
            if to == Elem::I8 {
                const ORDERED: u32 = 7;
                let zero = self.alloc();
                self.temps.push(zero);
                self.steps.push(Step::Zero(zero));
                let mask = self.compare_lanes(x, Src::Slot(x), ORDERED)?;
                self.steps.push(Step::Blend { dst: d, mask, a: zero, b: Src::Slot(d) });
            }
            // Between whole numbers it is the same whether a number is rounded before it is brought there or behind.
            let rounded = matches!(self.sources[a], Source::Inst(Inst::Unary(UnOp::Nearest, _)));
            let op = if rounded && self.root[a] != a { Op1::NearestI32 } else { Op1::ToI32 };
            self.steps.push(Step::Op1(op, d, Src::Slot(d)));
        }
        self.release(i);
        self.vals[i] = Val::Slot(d);
        Ok(())
    }

    /// Float to integer. x86 gives 0x80000000 for what does not fit: too large becomes the largest, NaN becomes 0.
    fn saturate(&mut self, i: usize, a: usize) -> Encoding<()> {
        const GE: u32 = 0x1d;
        const ORDERED: u32 = 7;
        let x = self.reg(a)?;
        let limit = self.constant(2147483648f32.to_bits());
        let d = self.alloc();
        match self.isa {
            WideIsa::Avx2 => {
                let t = self.alloc();
                self.temps.push(t);
                self.steps.push(Step::Op1(Op1::ToI32, d, Src::Slot(x)));
                self.steps.push(Step::CompareVector(t, x, limit, GE));
                self.steps.push(Step::Op2(Op2::Xor, d, d, Src::Slot(t)));
                self.steps.push(Step::CompareVector(t, x, Src::Slot(x), ORDERED));
                self.steps.push(Step::Op2(Op2::And, d, d, Src::Slot(t)));
            }
            WideIsa::Avx512 => {
                let mask = self.alloc_mask()?;
                self.masks[mask] = false;
                let t = self.alloc();
                self.temps.push(t);
                let largest = self.constant(i32::MAX as u32);
                self.steps.push(Step::Op1(Op1::ToI32, d, Src::Slot(x)));
                self.steps.push(Step::CompareMask { int: false, mask, a: x, b: limit, predicate: GE });
                self.steps.push(Step::Blend { dst: d, mask, a: d, b: largest });
                self.steps.push(Step::Zero(t));
                self.steps.push(Step::CompareMask {
                    int: false,
                    mask,
                    a: x,
                    b: Src::Slot(x),
                    predicate: ORDERED,
                });
                self.steps.push(Step::Blend { dst: d, mask, a: t, b: Src::Slot(d) });
            }
        }
        self.release(i);
        self.vals[i] = Val::Slot(d);
        Ok(())
    }
}

/// Ordered and quiet, except not-equal, which is true for NaN.
fn float_predicate(op: Cmp) -> u32 {
    match op {
        Cmp::Eq => 0,
        Cmp::Ne => 4,
        Cmp::Lt => 0x11,
        Cmp::Le => 0x12,
        Cmp::Gt => 0x1e,
        Cmp::Ge => 0x1d,
    }
}

fn int_predicate(op: Cmp) -> u32 {
    match op {
        Cmp::Eq => 0,
        Cmp::Lt => 1,
        Cmp::Le => 2,
        Cmp::Ne => 4,
        Cmp::Ge => 5,
        Cmp::Gt => 6,
    }
}
