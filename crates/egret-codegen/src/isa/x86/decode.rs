//! Encoded functions read back: a decoder says what they are, whatever this machine can run.

use iced_x86::{
    Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};
use std::collections::BTreeSet;

use egret_loop::{ParamInfo, Tile};

#[path = "../../../tests/common/read_back.rs"]
#[allow(dead_code, reason = "what has constants behind it is decoded by the tests of whole artifacts")]
mod read_back;

use super::asm::WideIsa;
use super::features::Feature;
use super::tests::{Noise, params, random_epilogue, random_tile};
use super::tile::{assemble, encode};
use crate::Target;
pub(super) use read_back::{decode, only_features};

/// Is a decoded instruction the one that was assembled? Labels are numbers there and addresses here.
pub(super) fn assert_same(written: &Instruction, read: &Instruction) {
    let context = || format!("{written:?}\n{read:?}");
    assert_eq!(written.mnemonic(), read.mnemonic());
    if read.is_jcc_short_or_near() || read.is_jmp_near() || read.is_call_near() {
        return;
    }
    assert_eq!(written.code(), read.code());
    assert_eq!(written.op_count(), read.op_count(), "{}", context());
    assert_eq!(written.op_mask(), read.op_mask(), "{}", context());
    assert_eq!(written.zeroing_masking(), read.zeroing_masking(), "{}", context());
    for op in 0..read.op_count() {
        assert_eq!(written.op_kind(op), read.op_kind(op), "{}", context());
        match read.op_kind(op) {
            OpKind::Register => assert_eq!(written.op_register(op), read.op_register(op), "{}", context()),
            OpKind::Memory if read.is_ip_rel_memory_operand() => {}
            OpKind::Memory => {
                let place = |i: &Instruction| {
                    (i.memory_base(), i.memory_index(), i.memory_displacement64(), i.is_broadcast())
                };
                assert_eq!(place(written), place(read), "{}", context());
            }
            _ => assert_eq!(written.immediate(op), read.immediate(op), "{}", context()),
        }
    }
}

/// The bytes of a leaf, and what it may touch.
struct Leaf<'a> {
    tile: &'a Tile,
    isa: WideIsa,
    bytes: usize,
    code: usize,
    /// Bytes of its frame.
    frame: u64,
    /// Where its constants begin.
    constants: u64,
    saves_rbx: bool,
}

impl Leaf<'_> {
    fn memory(&self, i: &Instruction, m: &UsedMemory) {
        let size = m.memory_size().size() as u64;
        let (begin, end) = (m.displacement(), m.displacement().wrapping_add(size));
        let writes = !matches!(m.access(), OpAccess::Read | OpAccess::CondRead);
        let what = || format!("{i:?}: {m:?} in {:?}", self.tile);
        match m.base() {
            // Saving and returning move the stack pointer themselves.
            Register::RSP if i.is_stack_instruction() => {}
            Register::RSP => {
                assert!(begin < end && end <= self.frame, "frame of {}: {}", self.frame, what())
            }
            Register::R11 => {
                assert!(!writes && begin < end && self.constants + end <= self.bytes as u64, "{}", what());
            }
            Register::RDX => self.store(i, begin as i64, &what),
            Register::RDI | Register::RSI | Register::RCX | Register::RAX => assert!(!writes, "{}", what()),
            Register::R8 | Register::R9 | Register::R10 => assert!(!writes, "{}", what()),
            other => panic!("memory at {other:?}: {}", what()),
        }
    }

    /// One vector of a row, its tail by a mask of the right length.
    fn store(&self, i: &Instruction, begin: i64, what: &dyn Fn() -> String) {
        let lanes = self.isa.lanes() as i64;
        let masked = i.op_mask() != Register::None || i.mnemonic() == Mnemonic::Vmaskmovps;
        let cols = self.tile.cols as i64;
        let in_row = |row: &i64| {
            let (column, rest) = ((begin - 4 * row) / 4, (begin - 4 * row) % 4);
            let whole = column + lanes <= cols;
            rest == 0 && column >= 0 && column % lanes == 0 && column < cols && whole != masked
        };
        assert!(self.tile.out_rows.iter().any(in_row), "{}", what());
    }

    fn register(&self, r: Register) -> bool {
        match r.full_register() {
            Register::RBX => self.saves_rbx,
            Register::RAX | Register::RCX | Register::RDX | Register::RSI | Register::RDI => true,
            Register::R8 | Register::R9 | Register::R10 | Register::R11 => true,
            // Put back by the end of the function, as the first and last instructions show.
            Register::RSP | Register::RBP => true,
            r => r.is_vector_register() || r.is_k(),
        }
    }
}

/// The code of a tile is what was assembled, of instructions with these features, and keeps the rules of a leaf.
pub(super) fn check(tile: &Tile, params: &[ParamInfo], isa: WideIsa, dots: bool, features: &[Feature]) {
    let encoded = encode(tile, params, isa, dots).unwrap();
    let (asm, data) = assemble(tile, params, isa, dots).unwrap();
    let code = decode(&encoded.bytes[..encoded.code]);
    assert_eq!(encoded.bytes.len() - encoded.code, data);
    let written = asm.code.instructions();
    let written: Vec<_> = written.iter().filter(|i| i.code() != Code::DeclareDword).collect();
    assert_eq!(written.len(), code.len());
    written.iter().zip(&code).for_each(|(w, r)| assert_same(w, r));
    only_features(&code, features);
    // Half a vector is encoded for the instruction set of vectors that size.
    let isa = asm.isa;
    if isa == WideIsa::Avx2 {
        only_features(&code, isa.row().features);
    }

    // A frame with a pointer to the caller's, taken down again.
    let mnemonics: Vec<Mnemonic> = code.iter().map(Instruction::mnemonic).collect();
    assert_eq!((code[0].code(), code[0].op0_register()), (Code::Push_r64, Register::RBP));
    assert_eq!((code[1].op0_register(), code[1].op1_register()), (Register::RBP, Register::RSP));
    let end = &code[code.len() - 3..];
    assert_eq!((end[0].code(), end[0].op0_register()), (Code::Pop_r64, Register::RBP));
    assert_eq!((end[1].mnemonic(), end[2].mnemonic()), (Mnemonic::Vzeroupper, Mnemonic::Ret));
    let count = |m: Mnemonic| mnemonics.iter().filter(|x| **x == m).count();
    assert_eq!(count(Mnemonic::Push), count(Mnemonic::Pop));
    let subs: Vec<_> = code.iter().filter(|i| i.mnemonic() == Mnemonic::Sub).collect();
    assert!(subs.len() <= 1 && subs.iter().all(|i| i.op0_register() == Register::RSP));
    let frame = subs.first().map_or(0, |i| i.immediate(1));
    assert!(frame + 64 < 4096, "a frame of {frame} bytes needs a probe");

    let starts: BTreeSet<u64> = code.iter().map(Instruction::ip).collect();
    let lea = code.iter().find(|i| i.is_ip_rel_memory_operand());
    let leaf = Leaf {
        tile,
        isa,
        bytes: encoded.bytes.len(),
        code: encoded.code,
        frame,
        constants: lea.map_or(0, Instruction::ip_rel_memory_address),
        saves_rbx: code[2].code() == Code::Push_r64 && code[2].op0_register() == Register::RBX,
    };
    let mut stores = 0;
    let mut info = InstructionInfoFactory::new();
    for i in &code {
        if i.is_jcc_short_or_near() {
            assert!(starts.contains(&i.near_branch_target()));
        }
        if i.is_ip_rel_memory_operand() {
            assert_eq!(i.mnemonic(), Mnemonic::Lea);
            assert_eq!(i.ip_rel_memory_address(), leaf.code as u64);
            continue;
        }
        let info = info.info(i);
        for m in info.used_memory() {
            stores += usize::from(m.base() == Register::RDX);
            leaf.memory(i, m);
        }
        for r in info
            .used_registers()
            .iter()
            .filter(|r| !matches!(r.access(), OpAccess::Read | OpAccess::CondRead))
        {
            assert!(leaf.register(r.register()), "{i:?} writes {:?}, which is the caller's", r.register());
        }
    }
    assert_eq!(stores, tile.out_rows.len() * tile.cols.div_ceil(isa.lanes()), "each vector is stored once");
}

#[test]
fn tiles_are_what_was_assembled_and_touch_only_what_is_theirs() {
    let mut noise = Noise::new(7);
    for _ in 0..300 {
        let mut tile = random_tile(&mut noise);
        for epilogue in [false, true] {
            if epilogue {
                tile.epilogue = random_epilogue(&mut noise, &tile);
            }
            for isa in [WideIsa::Avx2, WideIsa::Avx512] {
                check(&tile, &params(), isa, false, isa.row().features);
            }
        }
    }
}

#[test]
fn other_encoded_functions_run_on_every_x86_64() {
    for denormals in egret_loop::Denormals::ALL {
        let state = super::float::float_state(denormals).unwrap();
        for bytes in [&state.enter, &state.leave] {
            let code = decode(bytes);
            only_features(&code, &[]);
            assert_eq!(code.last().unwrap().mnemonic(), Mnemonic::Ret);
        }
    }
    for name in ["v2", "v3", "v4", "v4-amx"] {
        let code = decode(&crate::abi::cpu::check_function(&Target::parse(name).unwrap()).unwrap());
        // Behind the question whether the operating system has it switched on.
        let asks = |i: &&Instruction| matches!(i.mnemonic(), Mnemonic::Xgetbv | Mnemonic::Syscall);
        let count = |m: Mnemonic| code.iter().filter(|i| i.mnemonic() == m).count();
        assert_eq!(count(Mnemonic::Xgetbv), usize::from(name != "v2"));
        assert_eq!(count(Mnemonic::Syscall), usize::from(name == "v4-amx"));
        let others: Vec<Instruction> = code.iter().filter(|i| !asks(i)).copied().collect();
        only_features(&others, &[]);
    }
}
