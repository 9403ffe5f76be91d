//! WebAssembly: what lowering and messages ask. Its code is no machine's, and `egret-wasm` writes it.

use super::{Arch, FloatState, Isa};
use crate::error::{CodegenError, Result, broken};
use egret_loop::Denormals;

/// 128-bit vectors.
pub(super) const BASE: Isa = Isa {
    name: "wasm32",
    alias: "wasm",
    arch: Arch::Wasm32,
    features: &[],
    vector_bytes: 16,
    registers: 16,
    fma: false,
    flushes: false,
    encode_tile: None,
    encode_kernel: None,
    float_state,
};

/// It has none: always nearest even, no traps, subnormal numbers kept.
fn float_state(_: Denormals) -> Result<FloatState> {
    Err(broken("WebAssembly has no floating-point state"))
}

/// What whoever asks for machine code is told.
pub(crate) fn no_machine_code() -> CodegenError {
    CodegenError::Target(
        "code for wasm32 is a WebAssembly module, which Egret writes (egret compile --target wasm32 --emit wasm) and does not run: choose another target, such as native"
            .into(),
    )
}
