//! MXCSR in the functions of [`FloatState`].

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, rdi};

use super::super::FloatState;
use crate::error::{Result, broken};
use egret_loop::Denormals;

/// Nearest even, every exception masked, denormals as they are: what a process starts with.
const DEFAULT: i32 = 0x1f80;

/// Subnormal results are zeros (FTZ), and so are subnormal operands (DAZ).
const FLUSH: i32 = 0x8040;

/// MXCSR kept and set; put back.
pub(super) fn float_state(denormals: Denormals) -> Result<FloatState> {
    let failed = |e: IcedError| broken(format!("the floating-point state could not be encoded: {e}"));
    let state = match denormals {
        Denormals::Flush => DEFAULT | FLUSH,
        Denormals::Keep => DEFAULT,
    };
    Ok(FloatState { enter: enter(state).map_err(failed)?, leave: leave().map_err(failed)? })
}

fn enter(state: i32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    a.stmxcsr(dword_ptr(rdi))?;
    a.mov(dword_ptr(rdi + 4), state)?;
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
