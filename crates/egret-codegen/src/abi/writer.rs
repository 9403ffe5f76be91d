//! The few phrases that the functions of the C ABI are written in.

use cranelift::codegen::ir::{StackSlotData, StackSlotKind};
use cranelift::prelude::*;
use cranelift_module::{DataId, Module};
use egret_runtime::abi::Code;

/// A function under construction, with the few phrases that these need.
pub(crate) struct Writer<'f, 'b> {
    pub b: &'f mut FunctionBuilder<'b>,
    pub params: Vec<Value>,
}

impl<'f, 'b> Writer<'f, 'b> {
    pub fn new(b: &'f mut FunctionBuilder<'b>) -> Writer<'f, 'b> {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        Writer { b, params }
    }

    /// Nothing is known of an address: most are in structs of foreign callers.
    pub fn flags() -> MemFlagsData {
        MemFlagsData::new()
    }

    pub fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(types::I64, value)
    }

    pub fn word(&mut self, base: Value, offset: i32) -> Value {
        self.b.ins().load(types::I64, Self::flags(), base, offset)
    }

    /// A field of a caller's struct.
    pub fn field(&mut self, ty: Type, base: Value, offset: usize) -> Value {
        self.b.ins().load(ty, Self::flags(), base, offset as i32)
    }

    pub fn put(&mut self, value: Value, base: Value, offset: usize) {
        self.b.ins().store(Self::flags(), value, base, offset as i32);
    }

    pub fn add(&mut self, x: Value, offset: i64) -> Value {
        self.b.ins().iadd_imm_s(x, offset)
    }

    pub fn is(&mut self, cc: IntCC, x: Value, y: i64) -> Value {
        self.b.ins().icmp_imm_s(cc, x, y)
    }

    pub fn ret(&mut self, code: i32) {
        let code = self.b.ins().iconst(types::I32, i64::from(code as u32));
        self.b.ins().return_(&[code]);
    }

    /// Go on only where a condition does not hold.
    pub fn stop_if(&mut self, condition: Value, stop: impl FnOnce(&mut Self)) {
        let (yes, no) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.set_cold_block(yes);
        self.b.switch_to_block(yes);
        stop(self);
        self.b.switch_to_block(no);
    }

    pub fn fail_if(&mut self, condition: Value, code: Code, index: usize) {
        self.stop_if(condition, |w| w.ret(code.value(index as u32, 0)));
    }

    /// Return an error whose index is known at run time only.
    pub fn fail_at(&mut self, condition: Value, code: Code, index: Value, axis: Option<Value>) {
        self.stop_if(condition, |w| {
            let index = w.b.ins().band_imm_u(index, 0xfff);
            let mut bits = w.b.ins().ishl_imm_u(index, 8);
            if let Some(axis) = axis {
                let axis = w.b.ins().band_imm_u(axis, 0xff);
                let axis = w.b.ins().ishl_imm_u(axis, 20);
                bits = w.b.ins().bor(bits, axis);
            }
            let bits = w.b.ins().bor_imm_u(bits, i64::from(code as u32));
            let value = w.b.ins().ineg(bits);
            let value = w.b.ins().ireduce(types::I32, value);
            w.b.ins().return_(&[value]);
        });
    }

    pub fn when(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        let (yes, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], after, &[]);
        self.b.switch_to_block(yes);
        then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    pub fn when_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self),
        otherwise: impl FnOnce(&mut Self),
    ) {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(no);
        otherwise(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    /// `for i in 0..n`
    pub fn for_n(&mut self, n: Value, body: impl FnOnce(&mut Self, Value)) {
        let (top, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(top, types::I64);
        let zero = self.int(0);
        self.b.ins().jump(top, &[zero.into()]);
        self.b.switch_to_block(top);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, n);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        body(self, i);
        let next = self.add(i, 1);
        self.b.ins().jump(top, &[next.into()]);
        self.b.switch_to_block(after);
    }

    pub fn slot(&mut self, bytes: usize) -> Value {
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(
            StackSlotKind::ExplicitSlot,
            bytes.max(8) as u32,
            3,
        ));
        self.b.ins().stack_addr(types::I64, slot, 0)
    }

    /// `base + i * size`
    pub fn entry(&mut self, base: Value, i: Value, size: i64) -> Value {
        let offset = self.b.ins().imul_imm_s(i, size);
        self.b.ins().iadd(base, offset)
    }

    pub fn address<M: Module>(&mut self, module: &mut M, data: DataId, offset: i64) -> Value {
        let global = module.declare_data_in_func(data, self.b.func);
        let base = self.b.ins().symbol_value(types::I64, global);
        if offset == 0 { base } else { self.add(base, offset) }
    }

    pub fn finish(self) {
        self.b.seal_all_blocks();
    }
}
