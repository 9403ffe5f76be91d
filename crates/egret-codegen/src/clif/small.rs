//! Vectors of fewer than 16 bytes in memory; in registers their integers stand in wider lanes.

use cranelift::prelude::*;
use egret_loop::{BASE_VECTOR_BYTES, Ty};

use crate::clif::inst::{Emit, clif_type};
use crate::clif::kernel::data_flags;
use crate::error::{Result, broken};

/// The integer as which a vector of fewer than 16 bytes is in memory, and the vector of such.
fn small_vector(ty: Ty) -> Result<(Type, Type)> {
    match ty.bytes() {
        4 => Ok((types::I32, types::I32X4)),
        8 => Ok((types::I64, types::I64X2)),
        n => Err(broken(format!("a vector of {n} bytes in memory"))),
    }
}

impl Emit<'_, '_> {
    /// Integers of fewer than 16 bytes, extended to lanes of the base vector.
    pub fn load_small(&mut self, base: Value, disp: i32, ty: Ty) -> Result<Value> {
        let clif = clif_type(ty)?;
        let (scalar, vector) = small_vector(ty)?;
        let x = self.b.ins().load(scalar, data_flags(), base, disp);
        let x = self.b.ins().scalar_to_vector(vector, x);
        let mut x = self.bits_as(if ty.elem.size() == 1 { types::I8X16 } else { types::I16X8 }, x);
        while self.b.func.dfg.value_type(x) != clif {
            let i = self.b.ins();
            x = if ty.elem.is_signed() { i.swiden_low(x) } else { i.uwiden_low(x) };
        }
        Ok(x)
    }

    /// The low bytes of the lanes, one after another.
    pub fn store_small(&mut self, base: Value, disp: i32, ty: Ty, value: Value) -> Result<()> {
        let (_, vector) = small_vector(ty)?;
        let (lane, size) = (BASE_VECTOR_BYTES / usize::from(ty.lanes), ty.elem.size());
        let kept: Vec<u8> = (0..BASE_VECTOR_BYTES)
            .map(|i| if i < ty.bytes() { (i / size * lane + i % size) as u8 } else { 0 })
            .collect();
        let kept = self.b.func.dfg.immediates.push(kept.into());
        let bytes = self.bits_as(types::I8X16, value);
        let packed = self.b.ins().shuffle(bytes, bytes, kept);
        let packed = self.bits_as(vector, packed);
        let packed = self.b.ins().extractlane(packed, 0);
        self.b.ins().store(data_flags(), packed, base, disp);
        Ok(())
    }
}
