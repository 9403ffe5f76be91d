//! Instruction sets: one record each ([`Isa`]), and [`Target`], the choice of one for a compilation.

mod aarch64;
mod target;
mod x86;

use egret_loop::{ParamInfo, Tile};

pub use target::Target;
pub(crate) use x86::features::CpuidReg;
pub use x86::features::Feature;

/// Architecture of a target.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 with at least SSE4.2 (`x86-64-v2`).
    X86_64,
    /// 64-bit ARM with its base vector instructions.
    Aarch64,
}

/// Machine code of a contraction tile: a leaf function `fn(a: *const f32, b: *const f32, out: *mut f32, operands: *const *const
/// u8)`; the pointers are those of the tile's places with their bases added.
pub(crate) type EncodeTile = fn(&Tile, &[ParamInfo]) -> Option<Vec<u8>>;

/// All that the compiler asks about an instruction set. A new one is a file with its record, and a row of [`ISAS`].
#[derive(Debug)]
pub struct Isa {
    /// As [`Target::parse`] takes it.
    pub name: &'static str,
    /// Another such name, shorter or more usual.
    pub alias: &'static str,
    /// Its architecture.
    pub arch: Arch,
    /// The extensions that code may use.
    pub features: &'static [Feature],
    /// Bytes of its widest vectors.
    pub vector_bytes: usize,
    /// Registers for such vectors.
    pub registers: usize,
    /// Is a multiply-add one instruction?
    pub fma: bool,
    /// Rows and columns of the contraction tile that suits it: what the registers hold beside one row of the right operand.
    pub tile: (usize, usize),
    /// The file of `ir-spec/targets` that says what nodes cost.
    pub cost_model: &'static str,
    /// The encoder of tiles in vectors wider than Cranelift's 16 bytes. Without one tiles are compiled by Cranelift.
    pub(crate) encode_tile: Option<EncodeTile>,
}

/// Equal names are the same record.
impl PartialEq for Isa {
    fn eq(&self, other: &Isa) -> bool {
        self.name == other.name
    }
}

impl Eq for Isa {}

/// Every instruction set; of one architecture, those that ask for more come later.
pub const ISAS: &[Isa] = &[x86::V2, x86::V3, x86::V4, aarch64::BASE];
