//! The floating-point state of a thread (MXCSR, FPCR): code runs in one of its own, whatever its caller's is.
//!
//! Rounding, denormals and exceptions are the thread's. A caller that rounds towards zero would get other bits, one that has
//! unmasked exceptions a signal, and threads of a pool may each have another state. `run` and every chunk of a kernel
//! therefore keep what they find, set their own (nearest even, no traps, and [`crate::Options::denormals`]), and put back what they
//! found, on every way out.

use cranelift::codegen::ir::{StackSlotData, StackSlotKind};
use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};

use crate::error::Result;
use crate::output::Output;

/// Two functions in machine code, since Cranelift has no instructions for this state.
pub(crate) struct FloatState {
    enter: FuncId,
    leave: FuncId,
}

/// Bytes that `enter` may write.
const STATE: u32 = 8;

impl FloatState {
    /// Define the two functions.
    pub fn define<M: Module>(out: &mut Output<'_, M>) -> Result<FloatState> {
        let code = (out.options.target.isa(out.options.wide).float_state)(out.options.denormals)?;
        let [enter, leave] = ["float_enter", "float_leave"].map(|name| out.symbol(name));
        let signature = out.signature(1, false);
        Ok(FloatState {
            enter: out.function_bytes(&enter, signature.clone(), &code.enter)?,
            leave: out.function_bytes(&leave, signature, &code.leave)?,
        })
    }

    /// A function that others call and that does what `body` does, in the state of compiled code. `signature` is that of `body`.
    pub fn around<M: Module>(
        &self,
        out: &mut Output<'_, M>,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        body: FuncId,
    ) -> Result<FuncId> {
        let signature = out.foreign(signature);
        out.function(&out.symbol(name), linkage, signature, |b, module| {
            let entry = b.create_block();
            b.append_block_params_for_function_params(entry);
            b.switch_to_block(entry);
            b.seal_block(entry);
            let params = b.block_params(entry).to_vec();
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, STATE, 3);
            let slot = b.create_sized_stack_slot(slot);
            let kept = b.ins().stack_addr(types::I64, slot, 0);
            let [enter, body, leave] =
                [self.enter, body, self.leave].map(|id| module.declare_func_in_func(id, b.func));
            b.ins().call(enter, &[kept]);
            let call = b.ins().call(body, &params);
            let results = b.inst_results(call).to_vec();
            b.ins().call(leave, &[kept]);
            b.ins().return_(&results);
            Ok(())
        })
    }
}
