//! Instruction sets: one record each ([`Isa`]), and [`Target`], the choice of one for a compilation.

mod aarch64;
pub(crate) mod riscv64;
pub(crate) mod system;
mod target;
mod wasm32;
mod x86;

use egret_loop::{Denormals, Kernel, ParamInfo, Tile};

use crate::error::Result;

pub use system::System;
pub use target::Target;
pub(crate) use wasm32::no_machine_code;
pub(crate) use x86::features::CpuidReg;
pub use x86::features::Feature;
pub(crate) use x86::features::permission;

/// Architecture of a target.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 with at least SSE4.2 (`x86-64-v2`).
    X86_64,
    /// 64-bit ARM with its base vector instructions.
    Aarch64,
    /// 64-bit RISC-V with vectors of 128 bits at least: the extensions G, C, V, Zba and Zbb.
    Riscv64,
    /// WebAssembly with 32-bit memories and 128-bit vectors (simd128). Its modules are written by another crate, `egret-wasm`: here it has a name and its numbers.
    Wasm32,
}

/// Machine code of a contraction tile: a leaf function `fn(a: *const u8, b: *const u8, out: *mut u8, operands: *const *const
/// u8)`; the pointers are those of the tile's places with their bases added.
pub(crate) type EncodeTile = fn(&Tile, &[ParamInfo]) -> Encoding;

/// Machine code of a kernel in vectors wider than Cranelift's: a function `fn(args: *const *mut u8, task_begin: i64, task_end:
/// i64)`.
pub(crate) type EncodeKernel = fn(&Kernel) -> Encoding;

/// Machine code of a tile or of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Instructions, then the constants that they read.
    pub bytes: Vec<u8>,
    /// How many of the bytes are instructions.
    pub code: usize,
    /// Calls of a kernel: where the four bytes are that hold the distance from behind them, and the number of its tile.
    pub calls: Vec<(usize, usize)>,
    /// Where the four bytes are that hold the distance from behind them to the function that is defined next.
    pub next: Option<usize>,
}

/// Machine code of two functions with one argument, the address of 8 bytes.
pub(crate) struct FloatState {
    /// Keeps the thread's floating-point state there, and sets that of compiled code: nearest even, no traps, denormals as asked for.
    pub enter: Vec<u8>,
    /// Sets the state that is kept there.
    pub leave: Vec<u8>,
}

/// What an encoder comes to.
pub(crate) type Encoding<T = Encoded> = Result<T, NotEncoded>;

/// Why an encoder gives no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotEncoded {
    /// It has no form for what the tile asks: Cranelift compiles the tile in 128-bit vectors.
    Refused(String),
    /// The tile breaks a rule of Loop IR, or the encoder one of its own: a bug of the compiler.
    Broken(String),
}

/// A tile that an encoder has no form for; the reason is a clause about the tile ("its epilogue computes with u32").
fn refused(reason: impl Into<String>) -> NotEncoded {
    NotEncoded::Refused(reason.into())
}

/// A bug of the compiler.
fn broken(message: impl Into<String>) -> NotEncoded {
    NotEncoded::Broken(message.into())
}

/// All that code generation asks about an instruction set. A new one is a file with its record, a row of [`ISAS`], and a file of
/// `ir-spec/targets`: what lowering and the optimiser ask ([`egret_machine::Machine`]).
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
    /// Can subnormal numbers be flushed? Where not they are always kept.
    pub flushes: bool,
    /// The encoder of tiles in vectors wider than Cranelift's 16 bytes. Without one tiles are compiled by Cranelift.
    pub(crate) encode_tile: Option<EncodeTile>,
    /// The encoder of kernels in vectors wider than Cranelift's 16 bytes. Without one such kernels are narrowed.
    pub(crate) encode_kernel: Option<EncodeKernel>,
    /// The code that gives a thread the default floating-point state.
    pub(crate) float_state: fn(Denormals) -> Result<FloatState>,
}

/// Equal names are the same record.
impl PartialEq for Isa {
    fn eq(&self, other: &Isa) -> bool {
        self.name == other.name
    }
}

impl Eq for Isa {}

/// Every instruction set; of one architecture, those that ask for more come later.
pub const ISAS: &[Isa] =
    &[x86::V2, x86::V3, x86::V4, x86::V4_VNNI, x86::V4_AMX, aarch64::BASE, riscv64::BASE, wasm32::BASE];
