//! Kernels in vectors of up to 64 bytes, for CPUs with AVX-512: Loop IR to machine code.
//!
//! Cranelift stops at 16 bytes. [`select`] writes machine instructions on virtual registers ([`mir`]), `regalloc2` places them
//! ([`alloc`]), and [`emit`] encodes them by `iced-x86`. What has no form here is refused, and Cranelift compiles the kernel in 16 bytes.

mod alloc;
mod emit;
mod mir;
mod op;
mod select;
#[cfg(test)]
mod tests;

use egret_loop::Kernel;
use iced_x86::Instruction;

use super::super::{Encoded, Encoding};

/// The machine code of a kernel: a function `extern "C" fn(args: *const *mut u8, task_begin: i64, task_end: i64)`.
pub(super) fn encode(kernel: &Kernel) -> Encoding {
    Ok(written(kernel)?.0)
}

/// The same, with the instructions as they were encoded.
fn written(kernel: &Kernel) -> Encoding<(Encoded, Vec<Instruction>)> {
    let function = select::select(kernel)?;
    let flat = alloc::Flat::new(&function, super::V4.registers, super::V4.vector_bytes)?;
    emit::emit(&flat, &flat.allocate()?, &function, true)
}
