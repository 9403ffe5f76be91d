//! Tiles and kernels through the encoders of their target: what has a form there, what has none and why.

use egret_loop::{BASE_VECTOR_BYTES, Kernel, KernelId, ParamInfo, Program, Tile, leaves};

use crate::error::{CodegenError, Result, broken};
use crate::isa::{EncodeTile, Encoded, NotEncoded};
use crate::options::Options;

/// An error with the kernel in which it came up.
pub(crate) fn in_kernel(kernel: &Kernel, e: CodegenError) -> CodegenError {
    match e {
        CodegenError::Internal(m) => broken(format!("kernel {}: {m}", kernel.name)),
        CodegenError::Unsupported(m) => CodegenError::Unsupported(format!("kernel {}: {m}", kernel.name)),
        other => other,
    }
}

/// A kernel with vectors wider than Cranelift's through an encoder; nothing where it has none or the target has no encoder, and the
/// reason where there is no form for it.
pub(crate) fn encode_kernel(
    options: &Options,
    kernel: &Kernel,
) -> Result<Option<std::result::Result<Encoded, String>>> {
    let wide = kernel.vector_bytes() > BASE_VECTOR_BYTES;
    let Some(encoder) =
        options.target.isa(options.wide).encode_kernel.filter(|_| wide || options.encode_all)
    else {
        return Ok(None);
    };
    match encoder(kernel) {
        Ok(encoded) => Ok(Some(Ok(encoded))),
        Err(NotEncoded::Refused(reason)) => Ok(Some(Err(reason))),
        Err(NotEncoded::Broken(m)) => Err(broken(format!("the encoder of kernels: {m}"))),
    }
}

/// A tile through an encoder; where there is none, or it has no form for the tile, the inner result says why.
pub(crate) fn encode(
    encoder: Option<EncodeTile>,
    tile: &Tile,
    params: &[ParamInfo],
) -> Result<std::result::Result<Encoded, String>> {
    let Some(encoder) = encoder else { return Ok(Err("the target has no encoder of tiles".into())) };
    match encoder(tile, params) {
        Ok(encoded) => Ok(Ok(encoded)),
        Err(NotEncoded::Refused(reason)) => Ok(Err(reason)),
        Err(NotEncoded::Broken(m)) => Err(broken(format!("the encoder of tiles: {m}"))),
    }
}

/// A tile or a kernel that is compiled in 128-bit vectors although its target has wider ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel.
    pub kernel: KernelId,
    /// A clause about it, such as "its epilogue computes with u32".
    pub reason: String,
}

/// The tiles and the kernels of a program that the target's encoders have no form for: they run at a half to a quarter of the
/// speed. Each reason is given once for a kernel.
///
/// # Errors
/// A bug of the encoder.
pub fn refusals(program: &Program, options: &Options) -> Result<Vec<Refusal>> {
    let mut found: Vec<Refusal> = vec![];
    let all = encodings(program, options)?.into_iter().chain(kernels(program, options)?);
    for (kernel, reason) in all.filter_map(|(kernel, encoded)| Some((kernel, encoded.err()?))) {
        let refusal = Refusal { kernel, reason };
        if !found.contains(&refusal) {
            found.push(refusal);
        }
    }
    Ok(found)
}

/// The machine code of a tile, or of a kernel as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The kernel.
    pub kernel: KernelId,
    /// Instructions, which start at a multiple of 64.
    pub code: Vec<u8>,
    /// The constants behind them, which they read.
    pub constants: Vec<u8>,
}

/// The tiles and the kernels of a program that the target's encoders give code for. Each code is given once for a kernel.
///
/// # Errors
/// A bug of the encoder.
pub fn leaves(program: &Program, options: &Options) -> Result<Vec<Leaf>> {
    let mut found: Vec<Leaf> = vec![];
    let all = encodings(program, options)?.into_iter().chain(kernels(program, options)?);
    for (kernel, encoded) in all {
        if let Ok(Encoded { mut bytes, code, .. }) = encoded {
            let constants = bytes.split_off(code);
            let leaf = Leaf { kernel, code: bytes, constants };
            if !found.contains(&leaf) {
                found.push(leaf);
            }
        }
    }
    Ok(found)
}

/// For each tile or kernel of a program that an encoder was asked for: its kernel, and what the encoder made of it or why it made
/// nothing.
type Encodings = Vec<(KernelId, std::result::Result<Encoded, String>)>;

/// What the target's encoder makes of each tile; nothing where the target has no encoder.
fn encodings(program: &Program, options: &Options) -> Result<Encodings> {
    let encoder = options.target.isa(options.wide).encode_tile;
    if encoder.is_none() {
        return Ok(vec![]);
    }
    each_kernel(program, options, |kernel| {
        leaves::tiles(kernel).into_iter().map(|tile| encode(encoder, tile, &kernel.params)).collect()
    })
}

/// What the target's encoder makes of each kernel with wide vectors.
fn kernels(program: &Program, options: &Options) -> Result<Encodings> {
    each_kernel(program, options, |kernel| Ok(encode_kernel(options, kernel)?.into_iter().collect()))
}

fn each_kernel(
    program: &Program,
    options: &Options,
    encode: impl Fn(&Kernel) -> Result<Vec<std::result::Result<Encoded, String>>> + Sync,
) -> Result<Encodings> {
    let encoded = egret_threads::map(&program.kernels, options.threads, |kernel| {
        encode(kernel).map_err(|e| in_kernel(kernel, e))
    });
    let mut all = vec![];
    for (i, encoded) in encoded.into_iter().enumerate() {
        all.extend(encoded?.into_iter().map(|e| (KernelId(i as u32), e)));
    }
    Ok(all)
}
