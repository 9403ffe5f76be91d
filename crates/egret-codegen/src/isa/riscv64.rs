//! 64-bit RISC-V with vectors of 128 bits at least, by Cranelift alone.

use super::{Arch, FloatState, Isa};
use crate::error::{CodegenError, Result};
use egret_loop::Denormals;

/// 128-bit vectors, whatever more the CPU has. A multiply-add is one instruction, and subnormal numbers are kept: there is nothing that flushes them.
pub(super) const BASE: Isa = Isa {
    name: "riscv64",
    alias: "rv64gcv",
    arch: Arch::Riscv64,
    features: &[],
    vector_bytes: 16,
    registers: 32,
    fma: true,
    flushes: false,
    encode_tile: None,
    encode_kernel: None,
    float_state,
};

/// What Cranelift is told that every such CPU has beside G: C, V (whose vectors have 128 bits at least), Zba and Zbb.
pub(super) const CLIF: &[&str] = &["has_c", "has_v", "zvl128b", "has_zba", "has_zbb"];

const ZERO: u32 = 0;
const RA: u32 = 1;
const SP: u32 = 2;
const T0: u32 = 5;
const A0: u32 = 10;
const A1: u32 = 11;
const A2: u32 = 12;
const A3: u32 = 13;
const A4: u32 = 14;
const A7: u32 = 17;

/// Rounding (0: nearest even) and the flags of exceptions, which never trap.
const FCSR: u32 = 3;

const fn immediate(function: u32, to: u32, from: u32, value: i32) -> u32 {
    (value as u32) << 20 | from << 15 | function << 12 | to << 7 | 0x13
}

/// `to = from + value`.
const fn addi(to: u32, from: u32, value: i32) -> u32 {
    immediate(0, to, from, value)
}

const fn ld(to: u32, base: u32, distance: u32) -> u32 {
    distance << 20 | base << 15 | 3 << 12 | to << 7 | 0x03
}

/// Distances below 32.
const fn sd(value: u32, base: u32, distance: u32) -> u32 {
    value << 20 | base << 15 | 3 << 12 | distance << 7 | 0x23
}

const fn swap_fcsr(to: u32, from: u32) -> u32 {
    FCSR << 20 | from << 15 | 1 << 12 | to << 7 | 0x73
}

const RET: u32 = RA << 15 | 0x67;
const ECALL: u32 = 0x73;

fn code(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// FCSR kept and set; put back.
fn float_state(denormals: Denormals) -> Result<FloatState> {
    if denormals == Denormals::Flush {
        return Err(CodegenError::Unsupported(
            "code for riscv64 keeps subnormal numbers, it has nothing that flushes them: use --denormals keep"
                .into(),
        ));
    }
    Ok(FloatState {
        enter: code(&[swap_fcsr(T0, ZERO), sd(T0, A0, 0), RET]),
        leave: code(&[ld(T0, A0, 0), swap_fcsr(ZERO, T0), RET]),
    })
}

/// The number of Linux's `riscv_hwprobe`.
const HWPROBE: i32 = 258;
/// `RISCV_HWPROBE_KEY_IMA_EXT_0`: a bit for each extension.
const EXTENSIONS: i32 = 4;
/// The bits of F and D, C, V, Zba and Zbb.
const NEEDED: i32 = 0x1f;

/// `extern "C" fn() -> i32`: 0 if Linux says that this CPU lacks an extension that code uses, else 1. A kernel before 6.4, and what else has no
/// such system call, says nothing.
pub(crate) fn check_function() -> Vec<u8> {
    let xori = |to, value| immediate(4, to, to, value);
    let andi = |to, value| immediate(7, to, to, value);
    let is_zero = |x| immediate(3, x, x, 1);
    let is_not_zero = |x: u32| x << 20 | ZERO << 15 | 3 << 12 | x << 7 | 0x33;
    let or = |to: u32, other: u32| other << 20 | to << 15 | 6 << 12 | to << 7 | 0x33;
    code(&[
        // One pair of a key and its value.
        addi(SP, SP, -16),
        addi(T0, ZERO, EXTENSIONS),
        sd(T0, SP, 0),
        sd(ZERO, SP, 8),
        addi(A0, SP, 0),
        addi(A1, ZERO, 1),
        // Of all CPUs, without flags.
        addi(A2, ZERO, 0),
        addi(A3, ZERO, 0),
        addi(A4, ZERO, 0),
        addi(A7, ZERO, HWPROBE),
        ECALL,
        ld(T0, SP, 8),
        addi(SP, SP, 16),
        andi(T0, NEEDED),
        xori(T0, NEEDED),
        is_zero(T0),
        is_not_zero(A0),
        or(A0, T0),
        RET,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GNU as makes of the same.
    #[test]
    fn words_are_those_of_an_assembler() {
        let words = |bytes: Vec<u8>| -> Vec<u32> {
            bytes.as_chunks().0.iter().map(|w| u32::from_le_bytes(*w)).collect()
        };
        let state = float_state(Denormals::Keep).unwrap();
        // fscsr t0, zero; sd t0, 0(a0); ret
        assert_eq!(words(state.enter), [0x0030_12f3, 0x0055_3023, 0x0000_8067]);
        // ld t0, 0(a0); fscsr t0; ret
        assert_eq!(words(state.leave), [0x0005_3283, 0x0032_9073, 0x0000_8067]);
        let check = words(check_function());
        // addi sp, sp, -16; li t0, 4; sd t0, 0(sp); sd zero, 8(sp); mv a0, sp
        assert_eq!(check[..5], [0xff01_0113, 0x0040_0293, 0x0051_3023, 0x0001_3423, 0x0001_0513]);
        // li a7, 258; ecall; ld t0, 8(sp); addi sp, sp, 16
        assert_eq!(check[9..13], [0x1020_0893, 0x0000_0073, 0x0081_3283, 0x0101_0113]);
        // andi t0, t0, 31; xori t0, t0, 31; seqz t0, t0; snez a0, a0; or a0, a0, t0; ret
        let end = [0x01f2_f293, 0x01f2_c293, 0x0012_b293, 0x00a0_3533, 0x0055_6533, 0x0000_8067];
        assert_eq!(check[13..], end);
        assert!(float_state(Denormals::Flush).is_err());
    }
}
