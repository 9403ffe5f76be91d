//! The C ABI of a compiled model: the structs, function types and error codes that generated code, the C header
//! (`crates/egret/src/templates/egret_abi.h`) and the Rust wrapper share. Only 64-bit targets.
//!
//! A model `m` exports five symbols:
//! - `m_plan(dims, ndims, out)`: arena bytes for these values of the model's free dims ([`Info::symbols`]; none: `ndims` is 0).
//! - `m_shape(dims, ndims, output, to)`: the dims of an output, for such values.
//! - `m_bind(w, data, len)`: checks the CPU and the weights, chooses the level of instruction set that runs, fills `w`. `data` = NULL for
//!   embedded weights.
//! - `m_run(w, in, out, arena, arena_len, env)`: checks everything, then computes. Re-entrant; no state of its own.
//!   What it writes (outputs, the first `arena_bytes` of the arena) must share no byte with anything else that it is given.
//! - `m_info`: constant data.

use std::ffi::{c_char, c_void};
use std::fmt;

/// Version of everything in this file; in [`Info::abi_version`].
pub const ABI_VERSION: u32 = 5;

/// Alignment in bytes of the arena and of a weights payload.
pub const ALIGN: usize = 64;

/// A tensor that the caller owns. Dense, row-major; sub-byte types one element per byte.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Tensor {
    /// First element; aligned to its dtype. Written only for outputs.
    pub data: *mut c_void,
    /// `rank` dims; may be NULL for rank 0.
    pub dims: *const i64,
    /// Number of axes.
    pub rank: u32,
    /// Element type: the number of ONNX's `TensorProto.DataType`.
    pub dtype: u32,
}

/// Name, dtype and shape of an input or output; static data of the model.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Port {
    /// ONNX name, NUL-terminated UTF-8.
    pub name: *const c_char,
    /// `rank` dims; a negative one is free: `m_shape` tells those of outputs.
    pub dims: *const i64,
    /// Number of axes.
    pub rank: u32,
    /// Element type: the number of ONNX's `TensorProto.DataType`.
    pub dtype: u32,
}

/// A free dim of the model: a run reads its value off an input.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Symbol {
    /// Its name in the ONNX model, NUL-terminated UTF-8.
    pub name: *const c_char,
    /// The input that tells it.
    pub input: u32,
    /// The axis there.
    pub axis: u32,
}

/// What `m_plan` fills in.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    /// Bytes of arena that `m_run` needs.
    pub arena_bytes: u64,
    /// `n_outputs` output shapes, static data of the model.
    pub outputs: *const Port,
    /// Number of outputs.
    pub n_outputs: u32,
    /// 0.
    pub reserved: u32,
}

/// Bound weights, filled by `m_bind`; shared freely between threads. It points into the caller's `data` (or into the model).
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Weights {
    /// The payload: after the header of a weights file.
    pub data: *const c_void,
    /// Bytes of the payload.
    pub len: u64,
    /// [`Info::weights_check`] of the model that bound it; `m_run` refuses any other.
    pub check: u64,
    /// What runs: the model, or of one that holds [several levels](Info::levels) the highest that the CPU has. `m_run` takes any of them; one that
    /// is higher than this may have instructions that the CPU has not.
    pub info: *const Info,
}

/// `body(arg, i)`, called once for every `i` in `0..n`.
pub type ParallelBody = unsafe extern "C" fn(arg: *mut c_void, i: i64);
/// Runs `body(arg, i)` for all `i` in `0..n`, in any order on any threads, and returns when all are done.
pub type ParallelFn = unsafe extern "C" fn(ctx: *mut c_void, body: ParallelBody, arg: *mut c_void, n: i64);
/// Told at the begin (`phase` 0) and end (1) of each kernel, on the thread that called `m_run`.
pub type ProfileFn = unsafe extern "C" fn(ctx: *mut c_void, kernel: u32, phase: u32);

/// Services of the caller, all optional. A NULL `egret_env *` means one thread and no profile. They are called in the default
/// floating-point state, in which `m_run` computes whatever its caller's state is.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Env {
    /// First argument of `parallel`.
    pub ctx: *mut c_void,
    /// NULL: one thread.
    pub parallel: Option<ParallelFn>,
    /// First argument of `profile`.
    pub profile_ctx: *mut c_void,
    /// NULL: no profile.
    pub profile: Option<ProfileFn>,
    /// How many threads `parallel` uses: a hint for splitting work; 0 = unknown.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
}

/// What the model says about itself; constant data under the symbol `m_info`.
#[repr(C)]
#[derive(Copy, Clone, Debug)]
pub struct Info {
    /// [`ABI_VERSION`] it was compiled for.
    pub abi_version: u32,
    /// Number of inputs.
    pub n_inputs: u32,
    /// Number of outputs.
    pub n_outputs: u32,
    /// Number of kernels; 0 of a model that holds several levels, each of which has its own.
    pub n_kernels: u32,
    /// The model's name `m`.
    pub name: *const c_char,
    /// Inputs, in order.
    pub inputs: *const Port,
    /// Outputs, in order.
    pub outputs: *const Port,
    /// `n_kernels` kernel names, in the order they run; the number in a profile callback indexes them.
    pub kernels: *const *const c_char,
    /// Target: triple and CPU features; those of several levels behind one another.
    pub target: *const c_char,
    /// Compiler and its version.
    pub producer: *const c_char,
    /// Arena bytes, of several levels the most; of a model with free dims those that any run needs, and `m_plan` tells the rest.
    pub arena_bytes: u64,
    /// Bytes of the weights payload.
    pub weights_bytes: u64,
    /// First 8 bytes (little-endian) of `weights_hash`, mixed with the ABI version: see [`weights_check`].
    pub weights_check: u64,
    /// BLAKE3 of the weights payload.
    pub weights_hash: [u8; 32],
    /// BLAKE3 of the model file.
    pub model_hash: [u8; 32],
    /// For each kernel that may fail with [`Code::Index`] the ONNX nodes whose work it does (`Gather:/emb`, separated by
    /// commas), as far as known; NULL for any other. Behind them the conditions that [`Code::Sizes`] names, in words: number `i` (from 1)
    /// at `n_kernels + i - 1`.
    pub nodes: *const *const c_char,
    /// The free dims, in the order in which `m_plan` and `m_shape` take their values.
    pub symbols: *const Symbol,
    /// How many free dims there are.
    pub n_symbols: u32,
    /// How many dims data decides: a run writes the dims of outputs that have some.
    pub n_lengths: u32,
    /// The instruction set by the name that `--target` takes; of several levels all of them, lowest first, with commas.
    pub isa: *const c_char,
    /// The levels of a model that holds several, lowest first, each described on its own; NULL for one, and in the description of a level.
    pub levels: *const *const Info,
    /// How many there are; 0 for one.
    pub n_levels: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: constant data of a model, never written after loading.
unsafe impl Sync for Info {}

/// Why a run failed with [`Code::Index`]: what its arena then begins with.
#[repr(C)]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BadIndex {
    /// The number in the data, the first that the kernel met.
    pub value: i64,
    /// The least that is right: minus the number of elements for an index, which may count from the end.
    pub low: i64,
    /// The end of what is right, exclusive.
    pub high: i64,
}

/// For an index in the words of the interpreter.
impl fmt::Display for BadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadIndex { value, low, high } = *self;
        if low.checked_neg() == Some(high) {
            write!(f, "index {value} is out of range for {high} elements")
        } else {
            write!(f, "{value} is out of range, {low} to {} is right", high.wrapping_sub(1))
        }
    }
}

/// `m_plan`.
pub type PlanFn = unsafe extern "C" fn(dims: *const i64, ndims: usize, out: *mut Plan) -> i32;
/// `m_shape`: `to` has room for the dims of output number `output`.
pub type ShapeFn = unsafe extern "C" fn(dims: *const i64, ndims: usize, output: u64, to: *mut i64) -> i32;
/// `m_bind`.
pub type BindFn = unsafe extern "C" fn(weights: *mut Weights, data: *const c_void, len: usize) -> i32;
/// `m_run`.
pub type RunFn = unsafe extern "C" fn(
    weights: *const Weights,
    inputs: *const Tensor,
    outputs: *mut Tensor,
    arena: *mut c_void,
    arena_len: usize,
    env: *const Env,
) -> i32;

/// The value of [`Info::weights_check`] and [`Weights::check`]; never 0, so a zeroed `egret_weights` is refused.
pub fn weights_check(weights_hash: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&weights_hash[..8]);
    (u64::from_le_bytes(first) ^ u64::from(ABI_VERSION)) | 1
}

/// First bytes of a weights file. A file is this header (64 bytes: magic 8, payload length 8 little-endian, BLAKE3 of the
/// payload 32, zeros 16), then the payload. `m_bind` takes the whole file, 64-byte aligned, and compares magic, length and
/// hash field; whoever loads the file checks the payload against the hash if it wants to.
pub const WEIGHTS_MAGIC: [u8; 8] = *b"EGRETW\0\x01";
/// Bytes of the header of a weights file.
pub const WEIGHTS_HEADER: usize = 64;

/// The header of a weights file with a payload of `len` bytes.
pub fn weights_header(len: u64, hash: &[u8; 32]) -> [u8; WEIGHTS_HEADER] {
    let mut header = [0; WEIGHTS_HEADER];
    header[..8].copy_from_slice(&WEIGHTS_MAGIC);
    header[8..16].copy_from_slice(&len.to_le_bytes());
    header[16..48].copy_from_slice(hash);
    header
}

/// The largest number of a kernel or a condition in a return value.
pub const MAX_INDEX: u32 = 0x7f_ffff;

/// What a negative return value means. The value is `-(code | index << 8 | axis << 20)`: `index` (12 bits) is the tensor
/// (inputs first, then outputs), `axis` (8 bits) the axis of [`Code::Dim`]. [`Code::Index`] and [`Code::Sizes`] have no axis, and 23 bits for the kernel
/// or the condition.
#[repr(u8)]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A pointer is NULL that must not be (`index`: the tensor).
    Null = 1,
    /// The dtype of a tensor is not the model's.
    Dtype = 2,
    /// The rank of a tensor is not the model's.
    Rank = 3,
    /// A dim of a tensor is not the model's (`axis`: which).
    Dim = 4,
    /// The arena is smaller than `arena_bytes`.
    Arena = 5,
    /// The arena, the weights (`index` 0) or a tensor's data is misaligned.
    Align = 6,
    /// The weights are no weights file, are cut off, or belong to another model; or the model has none embedded.
    Weights = 7,
    /// The CPU lacks an instruction set that the code needs.
    Cpu = 8,
    /// The weights were not bound by this model's `m_bind`.
    Unbound = 9,
    /// The value of an input is not the one it was bound to at compile time.
    BoundValue = 10,
    /// `m_plan` or `m_shape` was given a wrong number of dims, or no output has this number.
    Dims = 11,
    /// An index in the data is outside its axis, or a length (`index`: the kernel). The arena begins with a [`BadIndex`].
    Index = 12,
    /// An output, or the arena (`index`: the number of tensors), shares memory with something else that the run was given.
    Overlap = 13,
    /// The free dims make a size that no number of 63 bits holds, or that no model has: dims that do not broadcast, say (`index`: 0, or the number
    /// of the condition that does not hold, from 1: see [`Info::nodes`]).
    Sizes = 14,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 14] = [
        Code::Null,
        Code::Dtype,
        Code::Rank,
        Code::Dim,
        Code::Arena,
        Code::Align,
        Code::Weights,
        Code::Cpu,
        Code::Unbound,
        Code::BoundValue,
        Code::Dims,
        Code::Index,
        Code::Overlap,
        Code::Sizes,
    ];

    /// The return value for this code.
    pub const fn value(self, index: u32, axis: u32) -> i32 {
        match self {
            Code::Index | Code::Sizes => -((self as u32 | (index & MAX_INDEX) << 8) as i32),
            _ => -((self as u32 | (index & 0xfff) << 8 | (axis & 0xff) << 20) as i32),
        }
    }

    /// Code, index and axis of a negative return value.
    pub fn split(value: i32) -> Option<(Code, u32, u32)> {
        let bits = value.unsigned_abs();
        let code = Code::ALL.into_iter().find(|c| *c as u32 == bits & 0xff)?;
        let (index, axis) = match code {
            Code::Index | Code::Sizes => (bits >> 8 & MAX_INDEX, 0),
            _ => (bits >> 8 & 0xfff, bits >> 20 & 0xff),
        };
        (value < 0).then_some((code, index, axis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_split_into_their_parts() {
        for code in Code::ALL {
            let most = if matches!(code, Code::Index | Code::Sizes) { (MAX_INDEX, 0) } else { (4095, 255) };
            assert_eq!(Code::split(code.value(most.0, most.1)), Some((code, most.0, most.1)));
            assert_eq!(Code::split(code.value(0, 0)), Some((code, 0, 0)));
        }
        assert_eq!(Code::split(0), None);
        assert_eq!(Code::split(-200), None);
    }
}
