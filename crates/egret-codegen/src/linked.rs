//! Object files of this machine, linked into this process: how a program that was saved is loaded without a compiler or a linker.

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider, SystemMemoryProvider};
use cranelift_object::object::read::elf::ElfFile64;
use cranelift_object::object::{
    Architecture, Endianness, Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget,
    SectionIndex, SectionKind, SymbolIndex,
};
use egret_runtime::{Symbols, abi};
use std::collections::HashMap;

use crate::error::{CodegenError, Result, broken};

type Elf<'d> = ElfFile64<'d, Endianness>;

/// An object file in this process's memory, with the functions of the C ABI. Dropping it frees the code: no function of it may run or be
/// called later.
pub struct Linked {
    symbols: Symbols,
    _memory: Memory,
}

// SAFETY: the code and the data are never written after linking, and the functions keep no state.
unsafe impl Send for Linked {}
// SAFETY: as above.
unsafe impl Sync for Linked {}

impl std::fmt::Debug for Linked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linked").finish_non_exhaustive()
    }
}

impl Linked {
    /// The functions and the description of the model.
    pub fn symbols(&self) -> Symbols {
        self.symbols
    }
}

/// Memory for code, which the provider would leave to the process.
struct Memory(SystemMemoryProvider);

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the memory is not used again. That nobody calls what is in it any more is the promise of `Linked`'s users, who need
        // `unsafe` to call a function.
        unsafe { self.0.free_memory() }
    }
}

/// Whether [`link`] can link objects of this machine.
///
/// # Errors
/// It cannot: a sentence that says for which it can.
pub fn linkable() -> Result<()> {
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Ok(());
    }
    Err(CodegenError::Unsupported(
        "objects are linked into a process on x86-64 Linux alone; compile a shared library (`egret compile --emit lib,so`)".into(),
    ))
}

/// Link what [`code_object`](crate::code_object) made of a program with this name.
///
/// # Safety
/// The object must be one that Egret wrote, whole and unchanged: its code is called.
///
/// # Errors
/// The object is of another machine, needs what it does not define, or is damaged where that shows; there is no memory.
pub unsafe fn link(object: &[u8], name: &str) -> Result<Linked> {
    linkable()?;
    let elf = Elf::parse(object).map_err(|e| broken(format!("an object that cannot be read: {e}")))?;
    if elf.architecture() != Architecture::X86_64 {
        return Err(broken(format!("an object for {:?}", elf.architecture())));
    }
    let mut image = Image::of(&elf)?;
    let place = |symbol: &str| image.symbol(&elf, &format!("{name}_{symbol}"));
    let (plan, shape, bind) = (place("plan")?, place("shape")?, place("bind")?);
    let (run, info) = (place("run")?, place("info")?);
    let mut memory = Memory(SystemMemoryProvider::new());
    let base = memory.0.allocate(image.bytes.len(), image.align, JITMemoryKind::Executable);
    let base = base.map_err(|e| CodegenError::Internal(format!("no memory for a program's code: {e}")))?;
    image.relocate(&elf, base as u64)?;
    // SAFETY: the memory is new and has this many bytes; the places are among them.
    let at = unsafe {
        std::ptr::copy_nonoverlapping(image.bytes.as_ptr(), base, image.bytes.len());
        |place: usize| base.add(place).cast_const()
    };
    memory.0.finalize(BranchProtection::None)?;
    // SAFETY: the caller's word: these are functions with the C ABI's signatures.
    let symbols = unsafe {
        Symbols {
            plan: std::mem::transmute::<*const u8, abi::PlanFn>(at(plan)),
            shape: std::mem::transmute::<*const u8, abi::ShapeFn>(at(shape)),
            bind: std::mem::transmute::<*const u8, abi::BindFn>(at(bind)),
            run: std::mem::transmute::<*const u8, abi::RunFn>(at(run)),
            info: at(info).cast(),
        }
    };
    Ok(Linked { symbols, _memory: memory })
}

/// The sections of an object, one behind the other as they will be in memory.
struct Image {
    bytes: Vec<u8>,
    align: u64,
    /// Where each section begins; asked, never gone through.
    places: HashMap<SectionIndex, usize>,
    /// Behind the sections: the addresses of symbols that code looks up there (a global offset table).
    table: HashMap<SymbolIndex, usize>,
}

impl Image {
    fn of(elf: &Elf<'_>) -> Result<Image> {
        let mut image = Image { bytes: vec![], align: 64, places: HashMap::new(), table: HashMap::new() };
        for section in elf.sections() {
            match section.kind() {
                SectionKind::Text | SectionKind::ReadOnlyData => {}
                // Constants with addresses in them, which a linker writes and nobody else.
                SectionKind::Data if section.name() == Ok(".data.rel.ro") => {}
                SectionKind::Data | SectionKind::UninitializedData if section.size() > 0 => {
                    return Err(broken("an object with data that is written to"));
                }
                _ => continue,
            }
            let data = section.data().map_err(|e| broken(format!("a section that cannot be read: {e}")))?;
            // No code of ours asks for more than a page.
            let align = section.align().clamp(1, 4096);
            image.align = image.align.max(align);
            let align = align as usize;
            image.bytes.resize(image.bytes.len().next_multiple_of(align), 0);
            image.places.insert(section.index(), image.bytes.len());
            image.bytes.extend_from_slice(data);
        }
        image.bytes.resize(image.bytes.len().next_multiple_of(8), 0);
        let placed = elf.sections().filter(|section| image.places.contains_key(&section.index()));
        for (_, relocation) in placed.flat_map(|section| section.relocations()).collect::<Vec<_>>() {
            let (RelocationKind::GotRelative, RelocationTarget::Symbol(symbol)) =
                (relocation.kind(), relocation.target())
            else {
                continue;
            };
            image.table.entry(symbol).or_insert_with(|| {
                image.bytes.extend([0; 8]);
                image.bytes.len() - 8
            });
        }
        Ok(image)
    }

    /// Write the addresses and distances that the object leaves open, for an image that begins at `base`.
    fn relocate(&mut self, elf: &Elf<'_>, base: u64) -> Result<()> {
        for section in elf.sections() {
            let Some(&start) = self.places.get(&section.index()) else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    return Err(broken("a relocation to no symbol"));
                };
                let symbol = elf.symbol_by_index(index).map_err(|e| broken(e.to_string()))?;
                let mut to = base.wrapping_add(self.place(&symbol)? as u64);
                if relocation.kind() == RelocationKind::GotRelative {
                    let entry = *self
                        .table
                        .get(&index)
                        .ok_or_else(|| broken("a symbol that is not in the table"))?;
                    self.bytes[entry..entry + 8].copy_from_slice(&to.to_le_bytes());
                    to = base.wrapping_add(entry as u64);
                }
                let to = to.wrapping_add_signed(relocation.addend());
                let at = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
                let at = at.ok_or_else(|| broken("a relocation outside its section"))?;
                let distance = to.wrapping_sub(base.wrapping_add(at as u64)).cast_signed();
                let written = match (relocation.kind(), relocation.size()) {
                    (RelocationKind::Absolute, 64) => to.to_le_bytes().to_vec(),
                    (
                        RelocationKind::Relative
                        | RelocationKind::PltRelative
                        | RelocationKind::GotRelative,
                        32,
                    ) => i32::try_from(distance)
                        .map_err(|_| broken("code that is too far from its data"))?
                        .to_le_bytes()
                        .to_vec(),
                    other => return Err(broken(format!("a relocation of an unknown kind: {other:?}"))),
                };
                let place = at.checked_add(written.len()).and_then(|end| self.bytes.get_mut(at..end));
                place.ok_or_else(|| broken("a relocation outside its section"))?.copy_from_slice(&written);
            }
        }
        Ok(())
    }

    /// Where a symbol is in the image.
    fn place<'d>(&self, symbol: &impl ObjectSymbol<'d>) -> Result<usize> {
        let start = symbol.section_index().and_then(|index| self.places.get(&index));
        let place = start.and_then(|start| start.checked_add(usize::try_from(symbol.address()).ok()?));
        place.filter(|place| *place <= self.bytes.len()).ok_or_else(|| {
            broken(format!(
                "an object that needs `{}`, which it does not define",
                symbol.name().unwrap_or("?")
            ))
        })
    }

    /// Where the symbol with a name is in the image.
    fn symbol(&self, elf: &Elf<'_>, name: &str) -> Result<usize> {
        let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(name));
        self.place(&symbol.ok_or_else(|| broken(format!("an object without `{name}`")))?)
    }
}
