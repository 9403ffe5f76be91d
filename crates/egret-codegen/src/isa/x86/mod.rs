//! x86-64: one row per level, and the encoders of contraction tiles and of kernels ([`kernel`]) for AVX2 and AVX-512.

mod amx;
#[cfg(test)]
mod amx_tests;
mod asm;
#[cfg(test)]
mod byte_tests;
mod conditions;
#[cfg(test)]
mod decode;
mod epilogue;
pub(super) mod features;
mod float;
mod kernel;
mod pairs;
mod reduce;
mod sparse;
#[cfg(test)]
mod tests;
mod tile;

use super::{Arch, Encoding, Isa};
use asm::WideIsa;
use egret_loop::{ParamInfo, Tile};
use features::Feature::{self, *};

const V2_FEATURES: &[Feature] = &[Sse3, Ssse3, Sse41, Sse42, Popcnt];
const V3_FEATURES: &[Feature] =
    &[Sse3, Ssse3, Sse41, Sse42, Popcnt, Avx, F16c, Fma, Avx2, Bmi1, Bmi2, Lzcnt];
const V4_FEATURES: &[Feature] = &[
    Sse3, Ssse3, Sse41, Sse42, Popcnt, Avx, F16c, Fma, Avx2, Bmi1, Bmi2, Lzcnt, Avx512f, Avx512dq,
    Avx512cd, Avx512bw, Avx512vl,
];

const V4_VNNI_FEATURES: &[Feature] = &[
    Sse3, Ssse3, Sse41, Sse42, Popcnt, Avx, F16c, Fma, Avx2, Bmi1, Bmi2, Lzcnt, Avx512f, Avx512dq,
    Avx512cd, Avx512bw, Avx512vl, Avx512vnni,
];

const V4_AMX_FEATURES: &[Feature] = &[
    Sse3, Ssse3, Sse41, Sse42, Popcnt, Avx, F16c, Fma, Avx2, Bmi1, Bmi2, Lzcnt, Avx512f, Avx512dq,
    Avx512cd, Avx512bw, Avx512vl, Avx512vnni, AmxTile, AmxInt8,
];

/// Encode a tile: see [`super::EncodeTile`]. `dots`: there are dot products of bytes.
fn encode_tile(tile: &Tile, params: &[ParamInfo], isa: WideIsa, dots: bool) -> Encoding {
    match &tile.nonzeros {
        Some(nonzeros) => sparse::encode(tile, nonzeros, params, isa, dots),
        None => tile::encode(tile, params, isa, dots),
    }
}

/// 128-bit vectors.
pub(super) const V2: Isa = Isa {
    name: "x86-64-v2",
    alias: "v2",
    arch: Arch::X86_64,
    features: V2_FEATURES,
    vector_bytes: 16,
    registers: 16,
    fma: false,
    flushes: true,
    encode_tile: None,
    encode_kernel: None,
    float_state: float::float_state,
};

/// AVX2 and FMA.
pub(super) const V3: Isa = Isa {
    name: "x86-64-v3",
    alias: "v3",
    features: V3_FEATURES,
    vector_bytes: 32,
    fma: true,
    encode_tile: Some(|tile, params| encode_tile(tile, params, WideIsa::Avx2, false)),
    encode_kernel: Some(|kernel| kernel::encode(kernel, WideIsa::Avx2)),
    ..V2
};

/// AVX-512 F, CD, BW, DQ and VL.
pub(super) const V4: Isa = Isa {
    name: "x86-64-v4",
    alias: "v4",
    features: V4_FEATURES,
    vector_bytes: 64,
    registers: 32,
    encode_tile: Some(|tile, params| encode_tile(tile, params, WideIsa::Avx512, false)),
    encode_kernel: Some(|kernel| kernel::encode(kernel, WideIsa::Avx512)),
    ..V3
};

/// AVX-512 with dot products of bytes (VNNI): Ice Lake and Zen 4 on.
pub(super) const V4_VNNI: Isa = Isa {
    name: "x86-64-v4-vnni",
    alias: "v4-vnni",
    features: V4_VNNI_FEATURES,
    encode_tile: Some(|tile, params| encode_tile(tile, params, WideIsa::Avx512, true)),
    ..V4
};

/// That with products of whole tiles of bytes (AMX): Sapphire Rapids on.
pub(super) const V4_AMX: Isa = Isa {
    name: "x86-64-v4-amx",
    alias: "v4-amx",
    features: V4_AMX_FEATURES,
    encode_tile: Some(|tile, params| match &tile.nonzeros {
        Some(_) => encode_tile(tile, params, WideIsa::Avx512, true),
        None => amx::encode(tile, params),
    }),
    ..V4_VNNI
};
