//! 64-bit ARM: its base vector instructions, by Cranelift alone.

use super::{Arch, FloatState, Isa};
use crate::error::Result;
use egret_loop::Denormals;

/// 128-bit vectors.
pub(super) const BASE: Isa = Isa {
    name: "aarch64",
    alias: "arm64",
    arch: Arch::Aarch64,
    features: &[],
    vector_bytes: 16,
    registers: 32,
    fma: true,
    flushes: true,
    encode_tile: None,
    encode_kernel: None,
    float_state,
};

const MRS_X9_FPCR: u32 = 0xd53b_4409;
const MSR_FPCR_X9: u32 = 0xd51b_4409;
const MSR_FPCR_XZR: u32 = 0xd51b_441f;
/// Bit 24, FZ: subnormal operands and results of f32 and f64 are zeros. FZ16 stays off.
const MOVZ_X10_FZ: u32 = 0xd2a0_200a;
const MSR_FPCR_X10: u32 = 0xd51b_440a;
const STR_X9_X0: u32 = 0xf900_0009;
const LDR_X9_X0: u32 = 0xf940_0009;
const RET: u32 = 0xd65f_03c0;

/// FPCR kept and set: nearest even, no traps, denormals as asked for; put back.
#[expect(clippy::unnecessary_wraps, reason = "other instruction sets have an assembler that may fail")]
fn float_state(denormals: Denormals) -> Result<FloatState> {
    let code = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect();
    Ok(FloatState {
        enter: match denormals {
            Denormals::Flush => code(&[MRS_X9_FPCR, STR_X9_X0, MOVZ_X10_FZ, MSR_FPCR_X10, RET]),
            Denormals::Keep => code(&[MRS_X9_FPCR, STR_X9_X0, MSR_FPCR_XZR, RET]),
        },
        leave: code(&[LDR_X9_X0, MSR_FPCR_X9, RET]),
    })
}
