//! Conversions between element types, saturating from floats to integers.

use cranelift::prelude::*;
use egret_loop::{Cmp, Elem, Ty};

use crate::clif::inst::{Emit, clif_type, lane_order, scalar_type};
use crate::error::{Result, broken};

/// The least and the largest integer of 8 or 16 bits.
fn small_range(elem: Elem) -> [i64; 2] {
    let bits = 8 * elem.size() as i64;
    if elem.is_signed() { [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] } else { [0, (1 << bits) - 1] }
}

impl Emit<'_, '_> {
    /// See [`egret_loop::Inst::Convert`].
    pub fn convert(&mut self, from: Ty, to: Elem, x: Value) -> Result<Value> {
        if from.elem == to {
            return Ok(x);
        }
        if [from.elem, to].contains(&Elem::F16) {
            return self.convert_half(from, to, x);
        }
        if from.lanes == 1 {
            self.convert_scalar(from.elem, to, x)
        } else {
            self.convert_vector(from, to, x)
        }
    }

    fn convert_vector(&mut self, from: Ty, to: Elem, x: Value) -> Result<Value> {
        let target = from.with(to);
        let clif = clif_type(target)?;
        match (from.elem, to) {
            (Elem::Bool, _) => {
                let one = self.constant(target, egret_loop::number_bits(to, 1.0))?;
                let mask = if self.b.func.dfg.value_type(x) == clif {
                    x
                } else {
                    self.b.ins().bitcast(clif, lane_order(), x)
                };
                Ok(self.b.ins().band(mask, one))
            }
            (_, Elem::Bool) => {
                let zero = self.constant(from, 0)?;
                self.compare(Cmp::Ne, from, x, zero)
            }
            (Elem::I32, Elem::F32) => Ok(self.b.ins().fcvt_from_sint(types::F32X4, x)),
            (a, Elem::F32) if a.size() < 4 => Ok(self.b.ins().fcvt_from_sint(types::F32X4, x)),
            (Elem::F32, Elem::I32) => Ok(self.b.ins().fcvt_to_sint_sat(types::I32X4, x)),
            (Elem::F32, b) if b.size() < 4 => {
                let wide = self.b.ins().fcvt_to_sint_sat(types::I32X4, x);
                let [low, high] = small_range(b).map(|v| self.constant(from.with(Elem::I32), v as u64));
                let wide = self.b.ins().smax(wide, low?);
                Ok(self.b.ins().smin(wide, high?))
            }
            (a, b) if !a.is_float() && !b.is_float() => self.extend_lanes(target, x),
            _ => {
                // What has no vector instruction everywhere goes lane by lane.
                let mut result = self.constant(target, 0)?;
                for lane in 0..from.lanes {
                    let value = self.extract(from, x, lane);
                    let value = self.convert_scalar(from.elem, to, value)?;
                    result = self.b.ins().insertlane(result, value, lane);
                }
                Ok(result)
            }
        }
    }

    fn convert_scalar(&mut self, from: Elem, to: Elem, x: Value) -> Result<Value> {
        match (from.is_float(), to.is_float()) {
            (_, false) if to == Elem::Bool => {
                let zero = self.constant(Ty::scalar(from), 0)?;
                self.compare(Cmp::Ne, Ty::scalar(from), x, zero)
            }
            (false, false) => Ok(self.resize(from, to, x)),
            (true, true) if to == Elem::F64 => Ok(self.b.ins().fpromote(types::F64, x)),
            (true, true) => Ok(self.b.ins().fdemote(types::F32, x)),
            (false, true) => {
                let clif = scalar_type(to);
                if from == Elem::U64 {
                    return Ok(self.b.ins().fcvt_from_uint(clif, x));
                }
                // Everything else fits a signed integer.
                let wide = if from == Elem::U32 { Elem::I64 } else { Elem::I32 };
                let x = if from.size() == wide.size() || from == Elem::I64 {
                    x
                } else {
                    self.resize(from, wide, x)
                };
                Ok(self.b.ins().fcvt_from_sint(clif, x))
            }
            (true, false) => self.saturate(to, x),
        }
    }

    /// An integer (or bool) wrapped, or extended by the source's sign.
    fn resize(&mut self, from: Elem, to: Elem, x: Value) -> Value {
        let clif = scalar_type(to);
        match to.size().cmp(&from.size()) {
            std::cmp::Ordering::Less => self.b.ins().ireduce(clif, x),
            std::cmp::Ordering::Equal => x,
            std::cmp::Ordering::Greater if from.is_signed() => self.b.ins().sextend(clif, x),
            std::cmp::Ordering::Greater => self.b.ins().uextend(clif, x),
        }
    }

    fn saturate(&mut self, to: Elem, x: Value) -> Result<Value> {
        Ok(match to {
            Elem::I32 | Elem::I64 => self.b.ins().fcvt_to_sint_sat(scalar_type(to), x),
            Elem::U32 | Elem::U64 => self.b.ins().fcvt_to_uint_sat(scalar_type(to), x),
            Elem::I8 | Elem::I16 | Elem::U8 | Elem::U16 => {
                let [low, high] = small_range(to);
                let wide = self.b.ins().fcvt_to_sint_sat(types::I32, x);
                let low = self.b.ins().iconst(types::I32, low & 0xffff_ffff);
                let high = self.b.ins().iconst(types::I32, high);
                let wide = self.b.ins().smax(wide, low);
                let wide = self.b.ins().smin(wide, high);
                self.b.ins().ireduce(scalar_type(to), wide)
            }
            _ => return Err(broken(format!("a float saturated to {to}"))),
        })
    }
}
