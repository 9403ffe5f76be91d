//! Machine code read back, whatever this machine can run: its instructions, and the features that they need.

use super::Feature;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction};
use std::collections::BTreeSet;

/// Instructions up to the end of the bytes.
pub fn decode(code: &[u8]) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut all = vec![];
    while decoder.can_decode() {
        let i = decoder.decode();
        assert!(!i.is_invalid(), "no instruction at {:#x} of {code:02x?}", i.ip());
        all.push(i);
    }
    all
}

/// Instructions that a function at the beginning of the bytes reaches, in any order: not what stands behind it, such as its constants. Other
/// functions that it calls are not gone into.
pub fn reached(code: &[u8]) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let (mut all, mut seen, mut starts) = (vec![], BTreeSet::new(), vec![0]);
    while let Some(mut at) = starts.pop() {
        while seen.insert(at) {
            let here = usize::try_from(at).ok().filter(|at| *at < code.len());
            decoder.set_position(here.expect("a jump stays in its section")).expect("a position");
            decoder.set_ip(at);
            let i = decoder.decode();
            assert!(!i.is_invalid(), "no instruction at {at:#x}");
            all.push(i);
            at = i.next_ip();
            match i.flow_control() {
                FlowControl::ConditionalBranch => starts.push(i.near_branch_target()),
                FlowControl::UnconditionalBranch => at = i.near_branch_target(),
                FlowControl::Return | FlowControl::Exception => break,
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                other => panic!("{other:?} at {:#x}: where to is not known", i.ip()),
            }
        }
    }
    all
}

/// The feature that a CPU must report, unless every x86-64 has it.
fn feature(of: CpuidFeature) -> Option<Feature> {
    match of {
        CpuidFeature::INTEL8086
        | CpuidFeature::INTEL186
        | CpuidFeature::INTEL386
        | CpuidFeature::INTEL486 => None,
        CpuidFeature::X64 | CpuidFeature::CPUID | CpuidFeature::CMOV => None,
        CpuidFeature::SSE | CpuidFeature::SSE2 | CpuidFeature::MULTIBYTENOP => None,
        CpuidFeature::SSE3 => Some(Feature::Sse3),
        CpuidFeature::SSSE3 => Some(Feature::Ssse3),
        CpuidFeature::SSE4_1 => Some(Feature::Sse41),
        CpuidFeature::SSE4_2 => Some(Feature::Sse42),
        CpuidFeature::POPCNT => Some(Feature::Popcnt),
        CpuidFeature::BMI1 => Some(Feature::Bmi1),
        CpuidFeature::BMI2 => Some(Feature::Bmi2),
        CpuidFeature::LZCNT => Some(Feature::Lzcnt),
        CpuidFeature::AVX => Some(Feature::Avx),
        CpuidFeature::AVX2 => Some(Feature::Avx2),
        CpuidFeature::FMA => Some(Feature::Fma),
        CpuidFeature::F16C => Some(Feature::F16c),
        CpuidFeature::AVX512_VNNI => Some(Feature::Avx512vnni),
        CpuidFeature::AMX_TILE => Some(Feature::AmxTile),
        CpuidFeature::AMX_INT8 => Some(Feature::AmxInt8),
        CpuidFeature::AVX512F => Some(Feature::Avx512f),
        CpuidFeature::AVX512VL => Some(Feature::Avx512vl),
        CpuidFeature::AVX512DQ => Some(Feature::Avx512dq),
        CpuidFeature::AVX512BW => Some(Feature::Avx512bw),
        other => panic!("{other:?} is of no target"),
    }
}

/// The instructions need nothing that no such CPU has.
pub fn only_features(code: &[Instruction], features: &[Feature]) {
    for i in code {
        for f in i.cpuid_features().iter().filter_map(|f| feature(*f)) {
            assert!(features.contains(&f), "{:?} needs {}", i.code(), f.name());
        }
    }
}
