//! WebAssembly: what lowering and messages ask. Its code is no machine's, and `egret-wasm` writes it.

use super::{Arch, FloatState, Isa};
use crate::error::{Result, broken};
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
    encode_tile: None,
    encode_kernel: None,
    float_state,
};

/// It has none: always nearest even, no traps, subnormal numbers kept.
fn float_state(_: Denormals) -> Result<FloatState> {
    Err(broken("WebAssembly has no floating-point state"))
}
