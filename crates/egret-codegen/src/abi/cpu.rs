//! The function that asks an x86-64 CPU for the features that code needs, as machine code: Cranelift has no `cpuid`.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::error::{Result, broken};
use crate::isa::{CpuidReg, Feature, Target, permission};

/// OSXSAVE: `xgetbv` may be asked.
const OSXSAVE: u32 = 1 << 27;

fn mask(target: &Target, leaf: u32, reg: CpuidReg) -> u32 {
    let bits = target.features().iter().map(|f| f.cpuid()).filter(|c| c.leaf == leaf && c.reg == reg);
    bits.fold(0, |m, c| m | 1 << c.bit)
}

/// `extern "C" fn() -> i32`: 1 if this CPU and its operating system have every feature of the target, else 0. Where the target
/// has AMX it asks Linux for the tile registers, which the process has from then on; the only system call of an artifact for x86-64.
pub(crate) fn check_function(target: &Target) -> Result<Vec<u8>> {
    assemble(target).map_err(|e| broken(format!("the CPU check could not be encoded: {e}")))
}

fn assemble(target: &Target) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut missing = a.create_label();
    a.push(rbx)?;
    // State that the operating system must save: SSE and AVX registers, those of AVX-512, and tiles.
    let saved = if target.has(Feature::AmxTile) {
        0x6_00e6
    } else if target.has(Feature::Avx512f) {
        0xe6
    } else if target.has(Feature::Avx) {
        0x06
    } else {
        0
    };
    for leaf in [1u32, 7, 0x8000_0001] {
        let mut ecx_mask = mask(target, leaf, CpuidReg::Ecx);
        let ebx_mask = mask(target, leaf, CpuidReg::Ebx);
        let edx_mask = mask(target, leaf, CpuidReg::Edx);
        if leaf == 1 && saved != 0 {
            ecx_mask |= OSXSAVE;
        }
        if ecx_mask | ebx_mask | edx_mask == 0 {
            continue;
        }
        // Leaf 0 (of each range) gives the highest leaf there is.
        a.mov(eax, (leaf & 0x8000_0000) as i32)?;
        a.xor(ecx, ecx)?;
        a.cpuid()?;
        a.cmp(eax, leaf as i32)?;
        a.jb(missing)?;
        a.mov(eax, leaf as i32)?;
        a.xor(ecx, ecx)?;
        a.cpuid()?;
        if ecx_mask != 0 {
            a.and(ecx, ecx_mask as i32)?;
            a.cmp(ecx, ecx_mask as i32)?;
            a.jne(missing)?;
        }
        if ebx_mask != 0 {
            a.and(ebx, ebx_mask as i32)?;
            a.cmp(ebx, ebx_mask as i32)?;
            a.jne(missing)?;
        }
        if edx_mask != 0 {
            a.and(edx, edx_mask as i32)?;
            a.cmp(edx, edx_mask as i32)?;
            a.jne(missing)?;
        }
    }
    if saved != 0 {
        a.xor(ecx, ecx)?;
        a.xgetbv()?;
        a.and(eax, saved)?;
        a.cmp(eax, saved)?;
        a.jne(missing)?;
    }
    if target.has(Feature::AmxTile) {
        a.mov(eax, permission::SYSTEM_CALL)?;
        a.mov(edi, permission::REQUEST)?;
        a.mov(esi, permission::TILE_DATA)?;
        a.syscall()?;
        a.test(rax, rax)?;
        a.jne(missing)?;
    }
    a.mov(eax, 1)?;
    a.pop(rbx)?;
    a.ret()?;
    a.set_label(&mut missing)?;
    a.xor(eax, eax)?;
    a.pop(rbx)?;
    a.ret()?;
    a.assemble(0)
}
