//! Kernels in vectors of 32 bytes for CPUs with AVX2, and of up to 64 for those with AVX-512: Loop IR to machine code.
//!
//! Cranelift stops at 16 bytes. [`select`] writes machine instructions on virtual registers ([`mir`]), `regalloc2` places them
//! ([`alloc`]), and [`emit`] encodes them by `iced-x86`. What has no form here is refused, and Cranelift compiles the kernel in 16 bytes.
//! `docs/dev/codegen.md` shows a kernel, and how an instruction is added.

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
use super::asm::WideIsa;

/// The machine code of a kernel: a function `extern "C" fn(args: *const *mut u8, task_begin: i64, task_end: i64)`.
pub(super) fn encode(kernel: &Kernel, isa: WideIsa) -> Encoding {
    Ok(written(kernel, isa)?.0)
}

/// The same, with the instructions as they were encoded.
fn written(kernel: &Kernel, isa: WideIsa) -> Encoding<(Encoded, Vec<Instruction>)> {
    let avx512 = isa == WideIsa::Avx512;
    let function = select::select(kernel, avx512)?;
    let flat = alloc::Flat::new(&function, isa.registers(), isa.row().vector_bytes)?;
    emit::emit(&flat, &flat.allocate()?, &function, avx512)
}
