//! f16: read, written, converted from and to f32.

use egret_loop::{Elem, Ty, V};
use iced_x86::OpKind;

use super::address::vector_view;
use super::{Select, Value};
use crate::isa::x86::kernel::mir::{Arg, INT, Inst, Mem, VECTOR, View};
use crate::isa::x86::kernel::op::VectorOp;
use crate::isa::{Encoding, refused};
use regalloc2::VReg;

/// Rounding to nearest even, whatever the processor is set to.
const NEAREST: i64 = 0;

/// The view of the elements one after another: half of that of their lanes, 16 bytes at least.
fn packed_view(lanes: View) -> View {
    if lanes == View::Z { View::Y } else { View::X }
}

impl Select<'_> {
    /// Elements as lanes, and kept as they are.
    pub(super) fn load_half(&mut self, place: Mem, ty: Ty) -> Encoding<VReg> {
        let view = vector_view(ty)?;
        let op = if view == View::X { VectorOp::LoadQ } else { VectorOp::LoadUps };
        let code = self.code(op, packed_view(view))?;
        let packed = self.define(code, VECTOR, packed_view(view), vec![Arg::Mem(place)]);
        self.spread(view, packed)
    }

    pub(super) fn store_half(&mut self, place: Mem, packed: VReg, ty: Ty) -> Encoding<()> {
        let view = vector_view(ty)?;
        let op = if view == View::X { VectorOp::StoreQ } else { VectorOp::StoreUps };
        let code = self.code(op, packed_view(view))?;
        self.push(Inst::new(code, vec![Arg::Mem(place), Arg::Use(packed, packed_view(view))]));
        Ok(())
    }

    /// Elements one after another in lanes of 32 bits.
    fn spread(&mut self, view: View, packed: VReg) -> Encoding<VReg> {
        let code = self.code(VectorOp::PmovzxWd, view)?;
        let args = vec![Arg::Use(packed, packed_view(view))];
        let lanes = self.pure(code, (VECTOR, view), None, args, None);
        self.packed.insert(lanes, packed);
        Ok(lanes)
    }

    pub(super) fn convert_half(&mut self, from: Ty, to: Elem, x: V) -> Encoding<Value> {
        let v = self.reg(x)?;
        let x = View::X;
        let nearest = Arg::Imm(NEAREST, OpKind::Immediate8);
        let v = match (from.elem, to, from.lanes) {
            (Elem::F16, Elem::F32, 1) => {
                let bits = vec![Arg::Use(v, View::B32)];
                let into = self.code(VectorOp::IntoD, x)?;
                let bits = self.pure(into, (VECTOR, x), None, bits, None);
                let code = self.code(VectorOp::Cvtph2Ps, x)?;
                self.pure(code, (VECTOR, x), None, vec![Arg::Use(bits, x)], None)
            }
            (Elem::F32, Elem::F16, 1) => {
                let code = self.code(VectorOp::Cvtps2Ph, x)?;
                let code = self.pure(code, (VECTOR, x), None, vec![Arg::Use(v, x), nearest], None);
                let code = vec![Arg::Use(code, x)];
                let out_of = self.code(VectorOp::OutOfD, x)?;
                let code = self.pure(out_of, (INT, View::B32), None, code, None);
                self.extend(Elem::F16, code)
            }
            (Elem::F16, Elem::F32, _) => {
                let view = vector_view(from)?;
                let half = packed_view(view);
                let packed = match self.packed.get(&v) {
                    Some(&packed) => packed,
                    None if !self.avx512 => self.pack(Elem::U16, view, v)?,
                    None => {
                        let code = self.code(VectorOp::PmovDw, view)?;
                        self.pure(code, (VECTOR, half), None, vec![Arg::Use(v, view)], None)
                    }
                };
                let code = self.code(VectorOp::Cvtph2Ps, view)?;
                self.pure(code, (VECTOR, view), None, vec![Arg::Use(packed, half)], None)
            }
            (Elem::F32, Elem::F16, _) => {
                let view = vector_view(from)?;
                let code = self.code(VectorOp::Cvtps2Ph, view)?;
                let args = vec![Arg::Use(v, view), nearest];
                let packed = self.pure(code, (VECTOR, packed_view(view)), None, args, None);
                self.spread(view, packed)?
            }
            _ => return Err(refused(format!("it converts {} to {to}", from.elem))),
        };
        Ok(self.value_in(from.with(to), v))
    }
}
