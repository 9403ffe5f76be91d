//! Programs as object files and static libraries.

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};
use cranelift_module::DataId;
use cranelift_object::object::macho::PLATFORM_MACOS;
use cranelift_object::object::write::{MachOBuildVersion, Object, StreamingBuffer, WritableBuffer};
use cranelift_object::object::{BinaryFormat, FileKind, SectionKind};
use cranelift_object::{ObjectBuilder, ObjectModule};
use egret_loop::{Program, Weights};
use egret_runtime::abi::ALIGN;

use crate::error::{CodegenError, Result, broken};
use crate::isa::{Target, system};
use crate::module::{self, WeightsData};
use crate::options::{Options, WeightsPlace};
use std::fmt::Display;
use std::io;

/// Compile a program to an object file. Equal programs and options give equal bytes.
///
/// # Errors
/// What the code generator cannot do.
pub fn object(program: &Program, options: &Options) -> Result<Vec<u8>> {
    program.weights.pack(options.threads);
    build(program, options, &program.weights)?.0.write().map_err(unwritten)
}

/// The object of a program whose weights are in a file of their own and have this BLAKE3: as [`object`] makes it, but of the weights the program need
/// know the length alone.
///
/// # Errors
/// What the code generator cannot do.
pub fn code_object(program: &Program, options: &Options, weights_hash: [u8; 32]) -> Result<Vec<u8>> {
    let options = &Options { weights: WeightsPlace::External, ..options.clone() };
    let written = built(program, &options.target, &[], |module| {
        module::compile_hashed(module, program, options, WeightsData::Define, weights_hash)?;
        Ok((None, weights_hash))
    });
    written?.0.write().map_err(unwritten)
}

/// As [`object`], into a file: the weights, nearly all of it, are written from where they are. Gives their BLAKE3.
///
/// # Errors
/// What the code generator cannot do; the inner one is that of the file.
pub fn object_into(
    program: &Program,
    options: &Options,
    file: impl io::Write,
) -> Result<io::Result<[u8; 32]>> {
    streamed(program, options, file, |section| build(program, options, section))
}

/// The object of one of several levels, see [`crate::levels`]. All but its kernels is for the target of the lowest level, as its `plan` is
/// called on any CPU that the artifact is for. `weights_hash` is what [`front_into`] gave.
///
/// # Errors
/// What the code generator cannot do.
pub fn level_object(
    program: &Program,
    options: &Options,
    lowest: &Target,
    weights_hash: [u8; 32],
) -> Result<Vec<u8>> {
    let written = built(program, lowest, &[], |module| {
        module::compile_level(module, program, options, weights_hash)?;
        Ok((None, weights_hash))
    });
    written?.0.write().map_err(unwritten)
}

/// The object that callers of several levels see, with the weights, into a file; as [`object_into`]. `levels` are the options of the levels, lowest first.
///
/// # Errors
/// As of [`object_into`].
pub fn front_into(
    front: &Program,
    levels: &[Options],
    file: impl io::Write,
) -> Result<io::Result<[u8; 32]>> {
    let lowest = levels.first().ok_or_else(|| broken("an artifact without levels"))?;
    streamed(front, lowest, file, |section| {
        built(front, &lowest.target, section, |module| module::compile_front(module, front, levels))
    })
}

/// Write the object that `build` makes of a section of weights.
fn streamed(
    program: &Program,
    options: &Options,
    file: impl io::Write,
    build: impl for<'p> FnOnce(&'p [u8]) -> Result<(Object<'p>, [u8; 32], bool)>,
) -> Result<io::Result<[u8; 32]>> {
    let weights = &program.weights;
    // Zeros that are never touched take no memory.
    let stand_in = if module::pack_small(weights, options) { vec![] } else { vec![0; weights.len()] };
    let section = if stand_in.is_empty() { weights } else { &stand_in[..] };
    let (object, weights_hash, embeds) = build(section)?;
    let mut out = Packing { out: StreamingBuffer::new(file), weights, stand_in: &stand_in, packed: 0 };
    object.emit(&mut out).map_err(unwritten)?;
    if out.packed != usize::from(embeds && !stand_in.is_empty()) {
        return Err(unwritten("its weights did not come in one piece"));
    }
    Ok(out.out.flush().map(|()| weights_hash))
}

/// Writes an object; where it has a stand-in for the weights, these, packed one after another.
struct Packing<'p, W> {
    out: StreamingBuffer<W>,
    weights: &'p Weights,
    /// Empty if the object has the weights themselves.
    stand_in: &'p [u8],
    /// How often it was met.
    packed: usize,
}

impl<W: io::Write> WritableBuffer for Packing<'_, W> {
    fn len(&self) -> usize {
        self.out.len()
    }

    fn reserve(&mut self, size: usize) -> std::result::Result<(), ()> {
        self.out.reserve(size)
    }

    fn resize(&mut self, len: usize) {
        self.out.resize(len);
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        match !bytes.is_empty() && std::ptr::eq(bytes, self.stand_in) {
            true => {
                self.packed += 1;
                self.weights.each(|piece| self.out.write_bytes(piece));
            }
            false => self.out.write_bytes(bytes),
        }
    }
}

fn unwritten(e: impl Display) -> CodegenError {
    CodegenError::Internal(format!("the object file could not be written: {e}"))
}

/// The object, the BLAKE3 of the weights, and whether these are in it. `weights` are their bytes, or as many others.
fn build<'p>(
    program: &Program,
    options: &Options,
    weights: &'p [u8],
) -> Result<(Object<'p>, [u8; 32], bool)> {
    built(program, &options.target, weights, |module| {
        let exports = module::compile(module, program, options, WeightsData::Define)?;
        Ok((exports.weights, exports.weights_hash))
    })
}

/// As [`build`]; `write` writes into the module, which is for a target, and gives the symbol of embedded weights and the hash.
fn built<'p>(
    program: &Program,
    target: &Target,
    weights: &'p [u8],
    write: impl FnOnce(&mut ObjectModule) -> Result<(Option<DataId>, [u8; 32])>,
) -> Result<(Object<'p>, [u8; 32], bool)> {
    let isa = target.clif(system::has_table(&target.triple()), true)?;
    let builder =
        ObjectBuilder::new(isa, program.name.as_str(), cranelift_module::default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    let (id, hash) = write(&mut module)?;
    let product = module.finish();
    let symbol = id.map(|id| product.data_symbol(id));
    let mut object: Object<'p> = product.object;
    if object.format() == BinaryFormat::MachO {
        object.set_macho_build_version(macos());
    }
    if let Some(symbol) = symbol {
        // A section that borrows them: Cranelift would copy them twice.
        let (segment, name) = match object.format() {
            BinaryFormat::MachO => ("__TEXT", "__weights"),
            // What is before the dollar is the section of an image.
            BinaryFormat::Coff => ("", ".rdata$weights"),
            _ => ("", ".rodata.weights"),
        };
        let section = object.add_section(segment.into(), name.into(), SectionKind::ReadOnlyData);
        object.set_section_data(section, weights, ALIGN as u64);
        object.set_symbol_data(symbol, section, 0, weights.len() as u64);
    }
    Ok((object, hash, symbol.is_some()))
}

/// What objects of Mach-O are for: macOS 11, the first for both architectures. Without it linkers guess, with a warning.
fn macos() -> MachOBuildVersion {
    let mut version = MachOBuildVersion::default();
    version.platform = PLATFORM_MACOS;
    version.minos = 11 << 16;
    version.sdk = 11 << 16;
    version
}

/// A static library of object files, given as (name, bytes), with a symbol index in the form of their system; no times or owners in it.
///
/// # Errors
/// An object that is none.
pub fn archive(members: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let kind = match members.first().map(|(_, bytes)| FileKind::parse(*bytes)) {
        Some(Ok(FileKind::MachO64)) => ArchiveKind::Darwin,
        Some(Ok(FileKind::Coff)) => ArchiveKind::Coff,
        _ => ArchiveKind::Gnu,
    };
    let members: Vec<_> = members
        .iter()
        .map(|(name, bytes)| NewArchiveMember::new(*bytes, &DEFAULT_OBJECT_READER, (*name).to_owned()))
        .collect();
    let mut out = std::io::Cursor::new(vec![]);
    write_archive_to_stream(&mut out, &members, kind, false, None)
        .map_err(|e| CodegenError::Internal(format!("the static library could not be written: {e}")))?;
    Ok(out.into_inner())
}
