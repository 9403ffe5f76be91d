//! MXCSR in the functions of [`FloatState`].

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, rdi};

use super::super::FloatState;
use crate::error::{Result, broken};

/// Nearest even, every exception masked, denormals as they are: what a process starts with.
const DEFAULT: i32 = 0x1f80;

/// MXCSR kept and set to its default; put back.
pub(super) fn float_state() -> Result<FloatState> {
    let failed = |e: IcedError| broken(format!("the floating-point state could not be encoded: {e}"));
    Ok(FloatState { enter: enter().map_err(failed)?, leave: leave().map_err(failed)? })
}

fn enter() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.stmxcsr(dword_ptr(rdi))?;
    a.mov(dword_ptr(rdi + 4), DEFAULT)?;
    a.ldmxcsr(dword_ptr(rdi + 4))?;
    a.ret()?;
    a.assemble(0)
}

fn leave() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.ldmxcsr(dword_ptr(rdi))?;
    a.ret()?;
    a.assemble(0)
}
