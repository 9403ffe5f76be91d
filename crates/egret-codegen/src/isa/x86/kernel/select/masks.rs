//! Lanes for which something holds: bits of a mask register with AVX-512, and else lanes of a vector with all bits set or none.
//!
//! A comparison gives lanes as wide as what it compares. Bools that stand by themselves have lanes of 32 bits: those of f64 and i64 are
//! brought to these (`bools_of`), and back where lanes of 64 bits are chosen by them (`lanes_of`).

use egret_loop::{BinOp, Elem, Ty};
use iced_x86::{Code, OpKind};
use regalloc2::{RegClass, VReg};

use super::Select;
use super::address::vector_view;
use crate::isa::x86::kernel::mir::{Arg, Base, INT, Inst, MASK, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, broken, refused};

impl Select<'_> {
    /// Where bools of so many lanes are.
    pub(super) fn mask_place(&self, lanes: u8) -> Encoding<(RegClass, View)> {
        if self.avx512 {
            return Ok((MASK, View::K));
        }
        match vector_view(Ty { elem: if lanes == 1 { Elem::F32 } else { Elem::I32 }, lanes })? {
            View::Z => Err(refused(format!("it has conditions of {lanes} lanes"))),
            view => Ok((VECTOR, view)),
        }
    }

    /// The lanes for which a predicate holds.
    pub(super) fn compare_lanes(
        &mut self,
        op: VectorOp,
        view: View,
        a: VReg,
        b: Arg,
        predicate: i64,
    ) -> Encoding<VReg> {
        let number = Arg::Imm(predicate, OpKind::Immediate8);
        if !self.avx512 && !matches!(op, VectorOp::CmpPs | VectorOp::CmpPd) {
            return self.compare_integers(op, view, a, b, predicate);
        }
        let place = if self.avx512 { (MASK, View::K) } else { (VECTOR, view) };
        let code = self.code(op, view)?;
        Ok(self.pure(code, place, None, vec![Arg::Use(a, view), b, number], None))
    }

    /// The same of integers without AVX-512, which has "equal" and "greater" of signed ones.
    fn compare_integers(
        &mut self,
        op: VectorOp,
        view: View,
        a: VReg,
        b: Arg,
        predicate: i64,
    ) -> Encoding<VReg> {
        let (size, equal, greater, xor) = match op {
            VectorOp::PcmpD | VectorOp::PcmpuD => {
                (4, VectorOp::PcmpeqD, VectorOp::PcmpgtD, VectorOp::PxorD)
            }
            _ => (8, VectorOp::PcmpeqQ, VectorOp::PcmpgtQ, VectorOp::PxorQ),
        };
        // Equal, less, less or equal, not equal, greater or equal, greater.
        let negated = matches!(predicate, 2 | 4 | 5);
        let mask = if matches!(predicate, 0 | 4) {
            self.two(equal, view, a, b)?
        } else {
            let mut b = self.in_register(size, view, b)?;
            let mut a = a;
            if matches!(op, VectorOp::PcmpuD | VectorOp::PcmpuQ) {
                let sign = self.pool(view, size, 1 << (8 * size - 1));
                a = self.two(xor, view, a, sign)?;
                b = self.two(xor, view, b, sign)?;
            }
            let (more, less) = if matches!(predicate, 2 | 6) { (a, b) } else { (b, a) };
            self.two(greater, view, more, Arg::Use(less, view))?
        };
        if !negated {
            return Ok(mask);
        }
        let all = self.pool(view, size, u64::MAX);
        self.two(xor, view, mask, all)
    }

    /// What a comparison of lanes of a size gave, as bools.
    pub(super) fn bools_of(&mut self, size: usize, view: View, mask: VReg) -> Encoding<VReg> {
        if self.avx512 || size == 4 || view == View::X {
            return Ok(mask);
        }
        let high = self.part(mask, view, 16, View::X)?;
        let code = self.code(VectorOp::ShufPs, View::X)?;
        // The low halves of the lanes.
        let even = Arg::Imm(0x88, OpKind::Immediate8);
        let args = vec![Arg::Use(mask, View::X), Arg::Use(high, View::X), even];
        Ok(self.pure(code, (VECTOR, View::X), None, args, None))
    }

    /// Bools as what chooses among lanes of a size.
    pub(super) fn lanes_of(&mut self, size: usize, view: View, bools: VReg) -> Encoding<VReg> {
        if self.avx512 || size == 4 {
            return Ok(bools);
        }
        let code = self.code(VectorOp::PmovsxDq, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(bools, View::X)], None))
    }

    /// a where a lane holds, else b; vectors, and floats as vectors.
    pub(super) fn blend(&mut self, size: usize, view: View, mask: VReg, a: Arg, b: VReg) -> Encoding<VReg> {
        if !self.avx512 {
            let code = self.code(VectorOp::BlendvPs, view)?;
            let args = vec![Arg::Use(b, view), a, Arg::Use(mask, view)];
            return Ok(self.pure(code, (VECTOR, view), None, args, None));
        }
        let op = match size {
            4 => VectorOp::PblendmD,
            8 => VectorOp::PblendmQ,
            n => return Err(refused(format!("it selects lanes of {n} bytes"))),
        };
        let code = self.code(op, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(b, view), a], Some((mask, false))))
    }

    /// An instruction on one vector of floats, and 0 in the lanes that do not hold.
    pub(super) fn zero_others(
        &mut self,
        code: Code,
        (view, out): (View, View),
        x: VReg,
        mask: VReg,
    ) -> Encoding<VReg> {
        if self.avx512 {
            return Ok(self.pure(code, (VECTOR, out), None, vec![Arg::Use(x, view)], Some((mask, true))));
        }
        // 0 is what becomes of 0.
        let x = self.two(VectorOp::PandD, view, x, Arg::Use(mask, view))?;
        Ok(self.pure(code, (VECTOR, out), None, vec![Arg::Use(x, view)], None))
    }

    /// One number where bools hold, else 0.
    pub(super) fn number_where(
        &mut self,
        size: usize,
        view: View,
        bools: VReg,
        one: VReg,
    ) -> Encoding<VReg> {
        let op = if size == 4 { VectorOp::PandD } else { VectorOp::PandQ };
        if !self.avx512 {
            let mask = self.lanes_of(size, view, bools)?;
            return self.two(op, view, mask, Arg::Use(one, view));
        }
        let code = self.code(op, view)?;
        let args = vec![Arg::Use(one, view), Arg::Use(one, view)];
        Ok(self.pure(code, (VECTOR, view), None, args, Some((bools, true))))
    }

    /// The bits of a mask as a number; those beyond its lanes are anything.
    pub(super) fn mask_bits(&mut self, mask: VReg, lanes: u8) -> Encoding<VReg> {
        let (_, view) = self.mask_place(lanes)?;
        let code = if self.avx512 { Code::VEX_Kmovw_r32_kr } else { self.code(VectorOp::MovmskPs, view)? };
        Ok(self.pure(code, (INT, View::B32), None, vec![Arg::Use(mask, view)], None))
    }

    /// A bool of 0 or 1 as a mask, of which every lane is it but the first only where one lane is asked for.
    pub(super) fn mask_of_number(&mut self, number: VReg, lanes: u8) -> Encoding<VReg> {
        if self.avx512 && lanes == 1 {
            let args = vec![Arg::Use(number, View::B32)];
            return Ok(self.pure(Code::VEX_Kmovw_kr_r32, (MASK, View::K), None, args, None));
        }
        let (_, view) = self.mask_place(lanes)?;
        let all = self.pure(Code::Neg_rm32, (INT, View::B32), Some(number), vec![], None);
        let args = vec![Arg::Use(all, View::B32)];
        if self.avx512 {
            return Ok(self.pure(Code::VEX_Kmovw_kr_r32, (MASK, View::K), None, args, None));
        }
        let code = self.code(VectorOp::IntoD, View::X)?;
        let first = self.pure(code, (VECTOR, View::X), None, args, None);
        if lanes == 1 {
            return Ok(first);
        }
        let code = self.code(VectorOp::BroadcastD, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Use(first, View::X)], None))
    }

    /// A lane of a mask as its first.
    pub(super) fn mask_lane(&mut self, mask: VReg, lanes: u8, lane: u8) -> Encoding<VReg> {
        let (_, view) = self.mask_place(lanes)?;
        if self.avx512 {
            let args = vec![Arg::Use(mask, view), Arg::Imm(lane.into(), OpKind::Immediate8)];
            return Ok(self.pure(Code::VEX_Kshiftrw_kr_kr_imm8, (MASK, view), None, args, None));
        }
        let at = 4 * usize::from(lane);
        let part = self.part(mask, view, at / 16 * 16, View::X)?;
        self.lane(part, 4, at % 16 / 4)
    }

    /// Bools joined by a bitwise operation.
    pub(super) fn mask_two(&mut self, op: BinOp, lanes: u8, a: VReg, b: VReg) -> Encoding<VReg> {
        let (wide, mask) = match op {
            BinOp::And => (VectorOp::PandD, Code::VEX_Kandw_kr_kr_kr),
            BinOp::Or => (VectorOp::PorD, Code::VEX_Korw_kr_kr_kr),
            BinOp::Xor => (VectorOp::PxorD, Code::VEX_Kxorw_kr_kr_kr),
            op => return Err(broken(format!("masks joined by {op:?}"))),
        };
        let place = self.mask_place(lanes)?;
        let code = if self.avx512 { mask } else { self.code(wide, place.1)? };
        Ok(self.pure(code, place, None, vec![Arg::Use(a, place.1), Arg::Use(b, place.1)], None))
    }

    /// The lanes that do not hold.
    pub(super) fn mask_not(&mut self, lanes: u8, mask: VReg) -> Encoding<VReg> {
        let place = self.mask_place(lanes)?;
        if self.avx512 {
            return Ok(self.pure(Code::VEX_Knotw_kr_kr, place, None, vec![Arg::Use(mask, place.1)], None));
        }
        let all = self.pool(place.1, 4, u64::MAX);
        self.two(VectorOp::PxorD, place.1, mask, all)
    }

    /// Of two masks the first where a third holds.
    pub(super) fn mask_choice(&mut self, lanes: u8, mask: VReg, a: VReg, b: VReg) -> Encoding<VReg> {
        let place = self.mask_place(lanes)?;
        if !self.avx512 {
            return self.blend(4, place.1, mask, Arg::Use(a, place.1), b);
        }
        let a = self.mask_two(BinOp::And, lanes, mask, a)?;
        let args = vec![Arg::Use(mask, View::K), Arg::Use(b, View::K)];
        let b = self.pure(Code::VEX_Kandnw_kr_kr_kr, place, None, args, None);
        self.mask_two(BinOp::Or, lanes, a, b)
    }

    /// A mask of which all lanes hold, or none.
    pub(super) fn mask_constant(&mut self, lanes: u8, holds: bool) -> Encoding<VReg> {
        let (class, view) = self.mask_place(lanes)?;
        let code = match (self.avx512, holds) {
            (true, true) => Code::VEX_Kxnorw_kr_kr_kr,
            (true, false) => Code::VEX_Kxorw_kr_kr_kr,
            (false, true) => self.code(VectorOp::PcmpeqD, view)?,
            (false, false) => self.code(VectorOp::PxorD, view)?,
        };
        Ok(self.define(code, class, view, vec![Arg::Again(0, view), Arg::Again(0, view)]))
    }

    /// A mask of which the first lanes hold; without AVX-512, for lanes of a size.
    pub(super) fn first_lanes(&mut self, size: usize, lanes: u8, count: u8) -> Encoding<VReg> {
        if self.avx512 {
            let bits = Arg::Imm((1 << count) - 1, OpKind::Immediate32);
            let number = self.pure(Code::Mov_r32_imm32, (INT, View::B32), None, vec![bits], None);
            let args = vec![Arg::Use(number, View::B32)];
            return Ok(self.pure(Code::VEX_Kmovw_kr_r32, (MASK, View::K), None, args, None));
        }
        let elem = if size == 8 { Elem::I64 } else { Elem::I32 };
        let view = vector_view(Ty { elem, lanes })?;
        let held = size * usize::from(count);
        let bytes = (0..size * usize::from(lanes)).map(|i| if i < held { 0xff } else { 0 }).collect();
        let at = self.function.constant(bytes);
        let place = Mem { base: Base::Pool(at), index: None, disp: 0, broadcast: false };
        let code = self.code(VectorOp::LoadUps, view)?;
        Ok(self.pure(code, (VECTOR, view), None, vec![Arg::Mem(place)], None))
    }

    /// Bytes of 0 or 1 as a mask.
    pub(super) fn load_mask(&mut self, place: Mem, lanes: u8) -> Encoding<VReg> {
        let x = View::X;
        if !self.avx512 {
            let (class, view) = self.mask_place(lanes)?;
            let code = self.code(VectorOp::PmovzxBd, view)?;
            let bytes = self.define(code, class, view, vec![Arg::Mem(place)]);
            let code = self.code(VectorOp::PxorD, view)?;
            let zero =
                self.pure(code, (VECTOR, view), None, vec![Arg::Again(0, view), Arg::Again(0, view)], None);
            return self.two(VectorOp::PcmpgtD, view, bytes, Arg::Use(zero, view));
        }
        let bytes = match lanes {
            2 => {
                let two = self.define(Code::Movzx_r32_rm16, INT, View::B32, vec![Arg::Mem(place)]);
                let args = vec![Arg::Use(two, View::B32)];
                self.pure(Code::EVEX_Vmovd_xmm_rm32, (VECTOR, x), None, args, None)
            }
            4 => self.define(Code::EVEX_Vmovd_xmm_rm32, VECTOR, x, vec![Arg::Mem(place)]),
            8 => self.define(Code::EVEX_Vmovq_xmm_rm64, VECTOR, x, vec![Arg::Mem(place)]),
            _ => self.define(Code::EVEX_Vmovups_xmm_k1z_xmmm128, VECTOR, x, vec![Arg::Mem(place)]),
        };
        let args = vec![Arg::Use(bytes, x), Arg::Use(bytes, x)];
        Ok(self.pure(Code::EVEX_Vptestmb_kr_k1_xmm_xmmm128, (MASK, View::K), None, args, None))
    }

    /// A mask as bytes of 0 or 1.
    pub(super) fn store_mask(&mut self, place: Mem, mask: VReg, lanes: u8) -> Encoding<()> {
        let x = View::X;
        let all = if self.avx512 {
            self.pure(Code::EVEX_Vpmovm2b_xmm_kr, (VECTOR, x), None, vec![Arg::Use(mask, View::K)], None)
        } else {
            let (_, view) = self.mask_place(lanes)?;
            self.pack(Elem::I8, view, mask)?
        };
        // Bytes of -1 are 1 without their sign.
        let code = self.code(VectorOp::PabsB, x)?;
        let bytes = self.pure(code, (VECTOR, x), None, vec![Arg::Use(all, x)], None);
        self.store_bytes(place, bytes, lanes.into())
    }

    /// The first bytes of a vector into memory: 2, 4, 8 or all 16.
    pub(super) fn store_bytes(&mut self, place: Mem, bytes: VReg, count: usize) -> Encoding<()> {
        let x = View::X;
        let op = match count {
            2 => {
                let code = self.code(VectorOp::OutOfD, x)?;
                let two = self.pure(code, (INT, View::B32), None, vec![Arg::Use(bytes, x)], None);
                self.push(Inst::new(Code::Mov_rm16_r16, vec![Arg::Mem(place), Arg::Use(two, View::B16)]));
                return Ok(());
            }
            4 => VectorOp::OutOfD,
            8 => VectorOp::OutOfQ,
            _ => VectorOp::StoreUps,
        };
        let code = self.code(op, x)?;
        self.push(Inst::new(code, vec![Arg::Mem(place), Arg::Use(bytes, x)]));
        Ok(())
    }

    /// Lanes of 32 bits as elements of 8 or 16 bits one after another, without AVX-512. Lanes stand extended by their sign, so that
    /// saturation changes none.
    pub(super) fn pack(&mut self, elem: Elem, view: View, x: VReg) -> Encoding<VReg> {
        let (words, bytes) = if elem.is_signed() {
            (VectorOp::PackssDw, VectorOp::PackssWb)
        } else {
            (VectorOp::PackusDw, VectorOp::PackusWb)
        };
        let high = if view == View::X { x } else { self.part(x, view, 16, View::X)? };
        let packed = self.two(words, View::X, x, Arg::Use(high, View::X))?;
        match elem.size() {
            1 => self.two(bytes, View::X, packed, Arg::Use(packed, View::X)),
            _ => Ok(packed),
        }
    }
}
