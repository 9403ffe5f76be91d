//! Conversions between element types, saturating from floats to integers ([`egret_loop::Inst::Convert`]).

use egret_loop::{BinOp, Cmp, Elem, Ty, number_bits};
use wasm_encoder::Instruction as I;
use wasm_encoder::ValType;

use crate::error::Result;
use crate::types::{scalar_type, small_range, value_type};
use crate::writer::{Value, Writer};

impl Writer {
    /// A value, or every lane of a vector, as another element type.
    pub fn convert(&mut self, from: Ty, to: Elem, x: Value) -> Result<Value> {
        if from.elem == to {
            return Ok(x);
        }
        if [from.elem, to].contains(&Elem::F16) {
            return self.convert_half(from, to, x);
        }
        if to == Elem::Bool {
            let zero = self.constant(from, 0)?;
            return self.compare(Cmp::Ne, from, x, zero);
        }
        if from.lanes == 1 {
            self.convert_scalar(from.elem, to, x)
        } else {
            self.convert_vector(from, to, x)
        }
    }

    fn convert_vector(&mut self, from: Ty, to: Elem, x: Value) -> Result<Value> {
        let (target, v) = (from.with(to), ValType::V128);
        value_type(target)?;
        Ok(match (from.elem, to) {
            (Elem::Bool, _) => {
                let one = self.constant(target, number_bits(to, 1.0))?;
                self.op(v, &I::V128And, &[x, one])
            }
            (Elem::U32, Elem::F32) => self.op(v, &I::F32x4ConvertI32x4U, &[x]),
            (a, Elem::F32) if a.size() <= 4 => self.op(v, &I::F32x4ConvertI32x4S, &[x]),
            (Elem::F32, Elem::U32) => self.op(v, &I::I32x4TruncSatF32x4U, &[x]),
            (Elem::F32, b) if b.size() <= 4 => {
                let wide = self.op(v, &I::I32x4TruncSatF32x4S, &[x]);
                if b == Elem::I32 {
                    return Ok(wide);
                }
                let words = from.with(Elem::I32);
                let [low, high] = small_range(b).map(|n| self.constant(words, n as u64));
                let wide = self.binary(BinOp::Max, words, wide, low?)?;
                self.binary(BinOp::Min, words, wide, high?)?
            }
            (a, b) if !a.is_float() && !b.is_float() => self.extend(target, x)?,
            // What has no instruction of vectors goes lane by lane.
            _ => {
                let mut result = self.constant(target, 0)?;
                for lane in 0..from.lanes {
                    let value = self.extract(from, x, lane);
                    let value = self.convert_scalar(from.elem, to, value)?;
                    result = self.with_lane(target, result, value, lane);
                }
                result
            }
        })
    }

    fn convert_scalar(&mut self, from: Elem, to: Elem, x: Value) -> Result<Value> {
        let (ty, long) = (scalar_type(to), scalar_type(from) == ValType::I64);
        let instruction = match (from.is_float(), to.is_float()) {
            (false, false) => match (long, ty == ValType::I64) {
                (true, true) => return Ok(x),
                (true, false) => I::I32WrapI64,
                (false, false) => return self.extend(Ty::scalar(to), x),
                (false, true) if from.is_signed() => I::I64ExtendI32S,
                (false, true) => I::I64ExtendI32U,
            },
            (true, true) if to == Elem::F64 => I::F64PromoteF32,
            (true, true) => I::F32DemoteF64,
            (false, true) => match (from, to) {
                (Elem::U64, Elem::F32) => I::F32ConvertI64U,
                (Elem::U64, _) => I::F64ConvertI64U,
                (Elem::I64, Elem::F32) => I::F32ConvertI64S,
                (Elem::I64, _) => I::F64ConvertI64S,
                (Elem::U32, Elem::F32) => I::F32ConvertI32U,
                (Elem::U32, _) => I::F64ConvertI32U,
                (_, Elem::F32) => I::F32ConvertI32S,
                _ => I::F64ConvertI32S,
            },
            (true, false) => match (to, from) {
                (Elem::U64, Elem::F32) => I::I64TruncSatF32U,
                (Elem::U64, _) => I::I64TruncSatF64U,
                (Elem::I64, Elem::F32) => I::I64TruncSatF32S,
                (Elem::I64, _) => I::I64TruncSatF64S,
                (Elem::U32, Elem::F32) => I::I32TruncSatF32U,
                (Elem::U32, _) => I::I32TruncSatF64U,
                (_, Elem::F32) => I::I32TruncSatF32S,
                _ => I::I32TruncSatF64S,
            },
        };
        let value = self.op(ty, &instruction, &[x]);
        if from.is_float() && !to.is_float() && to.size() < 4 {
            let words = Ty::scalar(Elem::I32);
            let [low, high] = small_range(to).map(|n| self.i32(n));
            let value = self.binary(BinOp::Max, words, value, low)?;
            return self.binary(BinOp::Min, words, value, high);
        }
        if to.is_float() { Ok(value) } else { self.extend(Ty::scalar(to), value) }
    }
}
