//! A whole program into any Cranelift module: kernels, leaves, data, and the functions of the C ABI.

use cranelift::prelude::*;
use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_loop::{BASE_VECTOR_BYTES, Kernel, KernelId, Param, ParamInfo, Place, Program, Tile, V, narrow};
use std::collections::BTreeMap;

use crate::abi::tables::Tables;
use crate::abi::{cpu, entry};
use crate::clif::{kernel, tile};
use crate::error::{CodegenError, Result, broken};
use crate::isa::{Arch, EncodeTile, Encoded, NotEncoded};
use crate::options::{Options, WeightsPlace};
use crate::output::Output;

/// Where embedded weights come from in a module.
pub(crate) enum WeightsData {
    /// Define them in the module.
    Define,
    /// Import them: whoever finishes the module resolves the symbol.
    Import,
}

/// The exported functions and data of a program.
pub(crate) struct Exports {
    pub plan: FuncId,
    pub bind: FuncId,
    pub run: FuncId,
    pub info: DataId,
}

/// The symbol of embedded weights.
pub(crate) fn weights_symbol(program: &Program) -> String {
    format!("{}_weights_data", program.name)
}

/// Write a program.
pub(crate) fn compile<M: Module>(
    module: &mut M,
    program: &Program,
    options: &Options,
    weights: WeightsData,
) -> Result<Exports> {
    let mut out = Output::new(module, program, options)?;
    let kernels = kernels(&mut out)?;
    let weights = embedded_weights(&mut out, weights)?;
    let cpu = match options.target.arch() {
        Arch::X86_64 => {
            let signature = out.signature(0, true);
            Some(out.function_bytes(
                &out.symbol("cpu"),
                signature,
                &cpu::check_function(&options.target)?,
            )?)
        }
        Arch::Aarch64 => None,
    };
    let tables = Tables::define(&mut out, &kernels)?;
    let plan = entry::plan(&mut out, &tables)?;
    let bind = entry::bind(&mut out, &tables, cpu, weights)?;
    let run = entry::run(&mut out, &tables)?;
    Ok(Exports { plan, bind, run, info: tables.info })
}

/// An error with the kernel in which it came up.
fn in_kernel(kernel: &Kernel, e: CodegenError) -> CodegenError {
    match e {
        CodegenError::Internal(m) => broken(format!("kernel {}: {m}", kernel.name)),
        CodegenError::Unsupported(m) => CodegenError::Unsupported(format!("kernel {}: {m}", kernel.name)),
        other => other,
    }
}

fn kernels<M: Module>(out: &mut Output<'_, M>) -> Result<Vec<FuncId>> {
    let mut leaves = Leaves::new(out.options);
    let signature = out.signature(3, false);
    let mut ids = vec![];
    for (i, kernel) in out.program.kernels.iter().enumerate() {
        let name = out.symbol(&format!("k{i}_{}", kernel.name));
        let in_kernel = |e| in_kernel(kernel, e);
        let leaves =
            kernel::tiles(kernel).into_iter().map(|tile| leaves.function(out, tile, &kernel.params));
        let leaves: Vec<FuncId> = leaves.collect::<Result<_>>().map_err(in_kernel)?;
        if let Some(Ok(encoded)) = encode_kernel(out.options, kernel).map_err(in_kernel)? {
            ids.push(out.function_encoded(&name, signature.clone(), &encoded, &leaves)?);
            continue;
        }
        let target = &out.options.target;
        // Cranelift has vectors of 16 bytes.
        let kernel =
            &narrow::narrow(kernel, BASE_VECTOR_BYTES).map_err(|e| in_kernel(broken(e.to_string())))?;
        let write = |builder: &mut FunctionBuilder<'_>, module: &mut M| {
            let leaves = leaves.iter().map(|id| module.declare_func_in_func(*id, builder.func)).collect();
            kernel::emit(kernel, target, builder, leaves).map_err(in_kernel)
        };
        ids.push(out.function(&name, Linkage::Local, signature.clone(), write)?);
    }
    Ok(ids)
}

/// A kernel with vectors wider than Cranelift's through an encoder; nothing where it has none or the target has no encoder, and the
/// reason where there is no form for it.
fn encode_kernel(
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
fn encode(
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
    let tiles = encodings(program, options)?.into_iter().filter_map(|(k, tile)| Some((k, tile.err()?)));
    let kernels = program.kernels.iter().enumerate().map(|(i, kernel)| {
        let encoded = encode_kernel(options, kernel).map_err(|e| in_kernel(kernel, e))?;
        Ok(encoded.and_then(Result::err).map(|reason| (KernelId(i as u32), reason)))
    });
    let kernels: Vec<_> = kernels.collect::<Result<_>>()?;
    for (kernel, reason) in tiles.chain(kernels.into_iter().flatten()) {
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
    let mut all = encodings(program, options)?;
    for (i, kernel) in program.kernels.iter().enumerate() {
        let encoded = encode_kernel(options, kernel).map_err(|e| in_kernel(kernel, e))?;
        all.extend(encoded.map(|e| (KernelId(i as u32), e)));
    }
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

/// What the target's encoder makes of each tile, or why it gives no code; nothing where the target has no encoder.
fn encodings(
    program: &Program,
    options: &Options,
) -> Result<Vec<(KernelId, std::result::Result<Encoded, String>)>> {
    let encoder = options.target.isa(options.wide).encode_tile;
    let mut all = vec![];
    for (i, kernel) in program.kernels.iter().enumerate().filter(|_| encoder.is_some()) {
        for tile in kernel::tiles(kernel) {
            let encoded = encode(encoder, tile, &kernel.params).map_err(|e| in_kernel(kernel, e))?;
            all.push((KernelId(i as u32), encoded));
        }
    }
    Ok(all)
}

/// The leaf functions of a program: tiles that differ only in where their operands are share one.
struct Leaves {
    encode: Option<EncodeTile>,
    by_tile: BTreeMap<String, FuncId>,
}

impl Leaves {
    fn new(options: &Options) -> Leaves {
        Leaves { encode: options.target.isa(options.wide).encode_tile, by_tile: BTreeMap::new() }
    }

    fn function<M: Module>(
        &mut self,
        out: &mut Output<'_, M>,
        tile: &Tile,
        params: &[ParamInfo],
    ) -> Result<FuncId> {
        let key = leaf_key(tile, params);
        if let Some(id) = self.by_tile.get(&key) {
            return Ok(*id);
        }
        let name = out.symbol(&format!("leaf{}", self.by_tile.len()));
        let signature = out.signature(4, false);
        let id = match encode(self.encode, tile, params)? {
            Ok(encoded) => out.function_bytes(&name, signature, &encoded.bytes)?,
            Err(_) => {
                let target = &out.options.target;
                out.function_as_written(&name, signature, |builder, _| {
                    tile::emit(tile, params, target, builder)
                })?
            }
        };
        self.by_tile.insert(key, id);
        Ok(id)
    }
}

/// What the code of a leaf depends on: the tile without its places, and their element types.
fn leaf_key(tile: &Tile, params: &[ParamInfo]) -> String {
    let mut tile = tile.clone();
    let elem = |p: &Place| params.get(p.param.0 as usize).map(|i| i.elem);
    let elems: Vec<_> = tile.places().map(elem).collect();
    let operands = tile.epilogue.operands.iter_mut().map(|o| &mut o.place);
    for place in [&mut tile.a, &mut tile.b, &mut tile.out].into_iter().chain(operands) {
        *place = Place { param: Param(0), base: V(0) };
    }
    format!("{tile:?} {elems:?}")
}

fn embedded_weights<M: Module>(out: &mut Output<'_, M>, data: WeightsData) -> Result<Option<DataId>> {
    if out.options.weights == WeightsPlace::External || out.program.weights.is_empty() {
        return Ok(None);
    }
    let name = weights_symbol(out.program);
    if matches!(data, WeightsData::Import) {
        return Ok(Some(out.module.declare_data(&name, Linkage::Import, false, false)?));
    }
    // Code reaches its data by 32-bit distances.
    if out.program.weights.len() > 1 << 30 {
        return Err(CodegenError::Unsupported(
            "the weights are larger than 1 GiB; keep them in a file of their own".into(),
        ));
    }
    let id = out.module.declare_data(&name, Linkage::Local, false, false)?;
    let mut description = cranelift_module::DataDescription::new();
    description.define(out.program.weights.clone().into_boxed_slice());
    description.set_align(egret_runtime::abi::ALIGN as u64);
    out.module.define_data(id, &description)?;
    Ok(Some(id))
}
