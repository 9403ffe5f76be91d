//! Values in memory.

use egret_loop::{Cmp, Elem, Ty};
use std::ops::Range;
use wasm_encoder::Instruction as I;
use wasm_encoder::ValType;

use crate::error::{Result, broken};
use crate::types::{lane_bytes, value_type};
use crate::writer::{Address, Value, Writer};

impl Writer {
    /// The value of a type at an address.
    pub fn load_value(&mut self, ty: Ty, at: Address) -> Result<Value> {
        let own = value_type(ty)?;
        if ty.lanes > 1 {
            if ty.elem != Elem::Bool {
                return self.load_vector(ty, at);
            }
            let bytes = ty.with(Elem::U8);
            // Two lanes are no vector of bytes in WebAssembly's.
            if ty.lanes == 2 {
                return self.load_lanes(ty, at, 2);
            }
            let (loaded, zero) = (self.load_vector(bytes, at)?, self.constant(bytes, 0)?);
            return self.compare(Cmp::Ne, bytes, loaded, zero);
        }
        Ok(match ty.elem {
            Elem::Bool | Elem::U8 => self.load(own, I::I32Load8U, at),
            Elem::I8 => self.load(own, I::I32Load8S, at),
            Elem::U16 | Elem::F16 => self.load(own, I::I32Load16U, at),
            Elem::I16 => self.load(own, I::I32Load16S, at),
            Elem::I32 | Elem::U32 => self.load(own, I::I32Load, at),
            Elem::I64 | Elem::U64 => self.load(own, I::I64Load, at),
            Elem::F32 => self.load(own, I::F32Load, at),
            Elem::F64 => self.load(own, I::F64Load, at),
        })
    }

    /// A vector; integers of fewer than 16 bytes are extended to lanes of such.
    fn load_vector(&mut self, ty: Ty, at: Address) -> Result<Value> {
        let (v, signed) = (value_type(ty)?, ty.elem.is_signed());
        Ok(match (ty.elem.size(), ty.lanes) {
            _ if ty.bytes() == 16 => self.load(v, I::V128Load, at),
            (1, 8) => self.load(v, if signed { I::V128Load8x8S } else { I::V128Load8x8U }, at),
            (2, 4) => self.load(v, if signed { I::V128Load16x4S } else { I::V128Load16x4U }, at),
            (1, 4) => {
                let bytes = self.load(v, I::V128Load32Zero, at);
                let steps = match signed {
                    true => [I::I16x8ExtendLowI8x16S, I::I32x4ExtendLowI16x8S],
                    false => [I::I16x8ExtendLowI8x16U, I::I32x4ExtendLowI16x8U],
                };
                steps.iter().fold(bytes, |x, step| self.op(v, step, &[x]))
            }
            _ => return Err(broken(format!("a load of {ty}"))),
        })
    }

    /// The first lanes of a vector, one by one; the others are 0.
    pub fn load_lanes(&mut self, ty: Ty, at: Address, count: u8) -> Result<Value> {
        let mut all = self.constant(ty, 0)?;
        for lane in 0..count {
            let one =
                self.load_value(Ty::scalar(ty.elem), at.plus(u32::from(lane) * ty.elem.size() as u32))?;
            all = self.with_lane(ty, all, one, lane);
        }
        Ok(all)
    }

    /// Stores a value of a type.
    pub fn store_value(&mut self, ty: Ty, at: Address, value: Value) -> Result<()> {
        if ty.lanes > 1 {
            return self.store_vector(ty, at, value);
        }
        let store: fn(wasm_encoder::MemArg) -> I<'static> = match ty.elem {
            Elem::Bool | Elem::U8 | Elem::I8 => I::I32Store8,
            Elem::U16 | Elem::F16 | Elem::I16 => I::I32Store16,
            Elem::I32 | Elem::U32 => I::I32Store,
            Elem::I64 | Elem::U64 => I::I64Store,
            Elem::F32 => I::F32Store,
            Elem::F64 => I::F64Store,
        };
        self.store(store, at, value);
        Ok(())
    }

    /// The low bytes of the lanes, one after another.
    fn store_vector(&mut self, ty: Ty, at: Address, value: Value) -> Result<()> {
        let value = match ty.elem {
            Elem::Bool => {
                let ones = self.vector_of_ones();
                self.op(ValType::V128, &I::V128And, &[value, ones])
            }
            _ => value,
        };
        let (lane, size) = (lane_bytes(ty.lanes), ty.elem.size());
        if lane == size {
            self.store(I::V128Store, at, value);
            return Ok(());
        }
        let packed =
            self.bytes_of(value, value, |i| if i < ty.bytes() { i / size * lane + i % size } else { 0 });
        match ty.bytes() {
            8 => self.store(|memarg| I::V128Store64Lane { memarg, lane: 0 }, at, packed),
            4 => self.store(|memarg| I::V128Store32Lane { memarg, lane: 0 }, at, packed),
            2 => self.store(|memarg| I::V128Store16Lane { memarg, lane: 0 }, at, packed),
            n => return Err(broken(format!("a store of {n} bytes"))),
        }
        Ok(())
    }

    fn vector_of_ones(&mut self) -> Value {
        self.op(ValType::V128, &I::V128Const(i128::from_le_bytes([1; 16])), &[])
    }

    /// Stores some lanes of a vector, one by one, each at its own place.
    pub fn store_lanes(&mut self, ty: Ty, at: Address, value: Value, lanes: Range<u8>) -> Result<()> {
        for lane in lanes {
            let one = self.extract(ty, value, lane);
            self.store_value(Ty::scalar(ty.elem), at.plus(u32::from(lane) * ty.elem.size() as u32), one)?;
        }
        Ok(())
    }
}
