//! How a kernel that fails tells `run`: words before the addresses of its arguments, which every chunk of a kernel shares.
//!
//! A kernel that cannot fail has no code for it, and `run` of a program without one that can neither. Chunks that fail on several threads
//! write the words at once, so that which of them is told would be chance: `run` therefore does the kernel again, in order, for
//! the first number that is out of range. (A kernel's inputs are not among its outputs unless it says so, and what a failed run
//! leaves in outputs is of no account.)

use cranelift::prelude::*;
use egret_loop::Program;
use egret_loop::conditions::Conditions;
use egret_runtime::abi::{self, Code};
use std::mem::size_of;

use crate::error::{CodegenError, Result, broken};
use crate::record::{FAILED, REASON, WORDS};

fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Whether a kernel of a program may fail.
///
/// # Errors
/// A program that may fail, and whose arena has no room for the reason, or whose kernel runs do not fit an error code.
pub(crate) fn is_possible(program: &Program) -> Result<bool> {
    if !program.kernels.iter().any(egret_loop::Kernel::can_fail) {
        return Ok(false);
    }
    if program.arena_bytes < size_of::<abi::BadIndex>() {
        return Err(broken("a program that may fail has no room for the reason"));
    }
    if program.calls.len() > abi::MAX_INDEX as usize {
        return Err(CodegenError::Unsupported(format!(
            "the model has {} kernels; at most {} are supported where indices come from data",
            program.calls.len(),
            abi::MAX_INDEX
        )));
    }
    Ok(true)
}

/// Write the record (in a kernel).
pub(crate) fn record(b: &mut FunctionBuilder<'_>, args: Value, range: [Value; 3]) {
    let [value, low, high] = range;
    let yes = b.ins().iconst(types::I64, 1);
    for (word, offset) in [value, low, high, yes].into_iter().zip(WORDS) {
        b.ins().store(flags(), word, args, offset);
    }
}

/// Begin with no failure (in `run`).
pub(crate) fn clear(b: &mut FunctionBuilder<'_>, args: Value) {
    let no = b.ins().iconst(types::I64, 0);
    b.ins().store(flags(), no, args, FAILED);
}

/// Return from `run` if the kernel of call `i` failed, because of an index or of a condition on sizes. `again` calls it for all of its tasks,
/// in order.
pub(crate) fn stop(
    b: &mut FunctionBuilder<'_>,
    args: Value,
    arena: Value,
    i: Value,
    conditions: &Conditions,
    again: impl FnOnce(&mut FunctionBuilder<'_>),
) {
    let failed = b.ins().load(types::I64, flags(), args, FAILED);
    let (bad, after) = (b.create_block(), b.create_block());
    b.ins().brif(failed, bad, &[], after, &[]);
    b.set_cold_block(bad);
    b.switch_to_block(bad);
    again(b);
    for offset in (0..size_of::<abi::BadIndex>() as i32).step_by(8) {
        let word = b.ins().load(types::I64, flags(), args, REASON + offset);
        b.ins().store(flags(), word, arena, offset);
    }
    let (mut number, mut code) = (i, b.ins().iconst(types::I64, i64::from(Code::Index as u32)));
    for (call, first) in conditions.calls() {
        let is_it = b.ins().icmp_imm_u(IntCC::Equal, i, call as i64);
        let need = b.ins().load(types::I64, flags(), args, REASON);
        let condition = b.ins().iadd_imm_s(need, i64::from(first));
        let sizes = b.ins().iconst(types::I64, i64::from(Code::Sizes as u32));
        number = b.ins().select(is_it, condition, number);
        code = b.ins().select(is_it, sizes, code);
    }
    let bits = b.ins().ishl_imm_u(number, 8);
    let bits = b.ins().bor(bits, code);
    let value = b.ins().ineg(bits);
    let value = b.ins().ireduce(types::I32, value);
    b.ins().return_(&[value]);
    b.switch_to_block(after);
}
