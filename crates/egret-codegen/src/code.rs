//! Machine code of one function that is in no module yet, and as bytes that a cache keeps:
//!
//! ```text
//! u64 alignment, u64 next (all ones for none), u32 relocations,
//! for each: u32 offset, u8 kind, u8 target (0 a leaf, 1 a library's function, 2 a place in this function), u32 which, i64 addend;
//! then the code
//! ```

use cranelift::codegen::binemit::Reloc;
use cranelift::codegen::ir::LibCall;
use cranelift_module::{FuncId, ModuleReloc, ModuleRelocTarget};
use std::fmt::Debug;

/// What keeps the machine code of functions between compilations. It is asked and told by several threads at once.
///
/// A key is the hash of all that code follows from but the compiler itself: who keeps code for longer than a process has to tell builds apart.
pub trait CodeCache: Send + Sync + Debug {
    /// What was kept under a key, unchanged.
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>>;

    /// Keep bytes under a key, if they can be.
    fn insert(&self, key: &[u8; 32], code: &[u8]);
}

/// Machine code that is not in a module yet.
pub(crate) struct Code {
    pub bytes: Vec<u8>,
    pub align: u64,
    pub relocs: Vec<ModuleReloc>,
    /// As in [`crate::isa::Encoded`].
    pub next: Option<usize>,
}

/// The kinds of relocations that functions of kernels have; each is kept as its place here.
const KINDS: [Reloc; 14] = [
    Reloc::Abs8,
    Reloc::X86PCRel4,
    Reloc::X86CallPCRel4,
    Reloc::X86CallPLTRel4,
    Reloc::X86GOTPCRel4,
    Reloc::Arm64Call,
    Reloc::Aarch64AdrGotPage21,
    Reloc::Aarch64Ld64GotLo12Nc,
    Reloc::Aarch64AdrPrelPgHi21,
    Reloc::Aarch64AddAbsLo12Nc,
    Reloc::RiscvCallPlt,
    Reloc::RiscvGotHi20,
    Reloc::RiscvPCRelLo12I,
    Reloc::RiscvPCRelHi20,
];

impl Code {
    /// As bytes, for a function that calls these leaves; nothing where it needs what has no place in them.
    pub fn to_bytes(&self, leaves: &[FuncId]) -> Option<Vec<u8>> {
        let mut out = vec![];
        out.extend(self.align.to_le_bytes());
        out.extend(self.next.map_or(u64::MAX, |next| next as u64).to_le_bytes());
        out.extend(u32::try_from(self.relocs.len()).ok()?.to_le_bytes());
        for reloc in &self.relocs {
            let kind = KINDS.iter().position(|k| *k == reloc.kind)?;
            let (target, which) = match &reloc.name {
                ModuleRelocTarget::User { namespace: 0, index } => {
                    (0, leaves.iter().position(|leaf| leaf.as_u32() == *index)? as u32)
                }
                ModuleRelocTarget::LibCall(call) => {
                    (1, LibCall::all_libcalls().iter().position(|c| c == call)? as u32)
                }
                ModuleRelocTarget::FunctionOffset(_, place) => (2, *place),
                _ => return None,
            };
            out.extend(reloc.offset.to_le_bytes());
            out.extend([kind as u8, target]);
            out.extend(which.to_le_bytes());
            out.extend(reloc.addend.to_le_bytes());
        }
        out.extend(&self.bytes);
        Some(out)
    }

    /// From [bytes](Code::to_bytes), for the function `id`, which calls these leaves; nothing where they are none of those.
    pub fn from_bytes(bytes: &[u8], id: FuncId, leaves: &[FuncId]) -> Option<Code> {
        let mut rest = bytes;
        let align = u64::from_le_bytes(next(&mut rest)?);
        let behind = u64::from_le_bytes(next(&mut rest)?);
        let count = u32::from_le_bytes(next(&mut rest)?);
        let mut relocs = vec![];
        for _ in 0..count {
            let offset = u32::from_le_bytes(next(&mut rest)?);
            let [kind, target] = next(&mut rest)?;
            let which = u32::from_le_bytes(next(&mut rest)?);
            let addend = i64::from_le_bytes(next(&mut rest)?);
            let name = match target {
                0 => (*leaves.get(which as usize)?).into(),
                1 => ModuleRelocTarget::LibCall(*LibCall::all_libcalls().get(which as usize)?),
                2 => ModuleRelocTarget::FunctionOffset(id, which),
                _ => return None,
            };
            relocs.push(ModuleReloc { offset, kind: *KINDS.get(usize::from(kind))?, name, addend });
        }
        let next = if behind == u64::MAX { None } else { Some(usize::try_from(behind).ok()?) };
        let places = relocs.iter().map(|r| r.offset as usize).chain(next);
        let fits = |at: usize| at.checked_add(4).is_some_and(|end| end <= rest.len());
        if !align.is_power_of_two() || !places.into_iter().all(fits) {
            return None;
        }
        Some(Code { bytes: rest.to_vec(), align, relocs, next })
    }
}

/// The next so many bytes.
fn next<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the second of two leaves, of a library's function, of a place in the function itself.
    fn code(id: FuncId, leaves: &[FuncId]) -> Code {
        let reloc = |kind, name| ModuleReloc { offset: 1, kind, name, addend: -4 };
        let relocs = vec![
            reloc(Reloc::X86CallPCRel4, leaves[1].into()),
            reloc(Reloc::Arm64Call, ModuleRelocTarget::LibCall(LibCall::FmaF32)),
            reloc(Reloc::RiscvPCRelLo12I, ModuleRelocTarget::FunctionOffset(id, 12)),
        ];
        Code { bytes: vec![0xe8, 0, 0, 0, 0, 0xc3], align: 64, relocs, next: Some(1) }
    }

    /// All of it, for comparisons.
    fn shown(code: &Code) -> String {
        let relocs = code.relocs.iter().map(|r| (r.offset, r.kind, r.name.to_string(), r.addend));
        format!("{:?}", (&code.bytes, code.align, code.next, relocs.collect::<Vec<_>>()))
    }

    #[test]
    fn code_comes_back_for_other_functions() {
        let ids = |from: u32| [from, from + 1].map(FuncId::from_u32);
        let bytes = code(FuncId::from_u32(0), &ids(7)).to_bytes(&ids(7)).expect("bytes");
        let back = Code::from_bytes(&bytes, FuncId::from_u32(5), &ids(20)).expect("code");
        assert_eq!(shown(&back), shown(&code(FuncId::from_u32(5), &ids(20))));
        let plain = Code { bytes: vec![0xc3], align: 1, relocs: vec![], next: None };
        let bytes = plain.to_bytes(&[]).expect("bytes");
        let back = Code::from_bytes(&bytes, FuncId::from_u32(0), &[]).expect("code");
        assert_eq!(shown(&back), shown(&plain));
    }

    #[test]
    fn bytes_that_are_no_code_are_refused() {
        let (id, leaves) = (FuncId::from_u32(0), [7, 8].map(FuncId::from_u32));
        let bytes = code(id, &leaves).to_bytes(&leaves).expect("bytes");
        let is_code = |bytes: &[u8], leaves: &[FuncId]| Code::from_bytes(bytes, id, leaves).is_some();
        // The head and three relocations; what is behind is code, of whatever length.
        for cut in 0..20 + 3 * 18 {
            assert!(!is_code(&bytes[..cut], &leaves), "{cut} bytes");
        }
        for (place, what) in [(24, "kind"), (25, "target"), (26, "leaf")] {
            let mut other = bytes.clone();
            other[place] = 200;
            assert!(!is_code(&other, &leaves), "{what}");
        }
        assert!(is_code(&bytes, &leaves) && !is_code(&bytes, &leaves[..1]));
        // An alignment of 65, and places whose four bytes end behind the code.
        for (place, value, what) in [(0, 65, "alignment"), (8, 3, "next"), (20, 3, "relocation")] {
            let mut other = bytes.clone();
            other[place] = value;
            assert!(!is_code(&other, &leaves), "{what}");
        }
    }

    #[test]
    fn what_has_no_place_in_bytes_is_not_kept() {
        let (id, leaves) = (FuncId::from_u32(0), [7, 8].map(FuncId::from_u32));
        assert!(code(id, &leaves).to_bytes(&leaves[..1]).is_none());
        let mut of_threads = code(id, &leaves);
        of_threads.relocs[0].kind = Reloc::ElfX86_64TlsGd;
        assert!(of_threads.to_bytes(&leaves).is_none());
    }
}
