//! 64-bit ARM: its base vector instructions, by Cranelift alone.

use super::{Arch, Isa};

/// 128-bit vectors.
pub(super) const BASE: Isa = Isa {
    name: "aarch64",
    alias: "arm64",
    arch: Arch::Aarch64,
    features: &[],
    vector_bytes: 16,
    registers: 32,
    fma: true,
    tile: (6, 8),
    cost_model: "aarch64",
    encode_tile: None,
};
