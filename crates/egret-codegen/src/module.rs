//! A whole program into any Cranelift module: kernels, leaves, data, and the functions of the C ABI.

use cranelift::codegen::Context;
use cranelift::codegen::ir::Function;
use cranelift::codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift::prelude::*;
use cranelift_module::{DataId, FuncId, Linkage, Module, ModuleReloc};
use egret_loop::{Kernel, KernelId, Param, ParamInfo, Place, Program, Tile, V};
use std::collections::BTreeMap;

use crate::abi::tables::Tables;
use crate::abi::{cpu, entry};
use crate::clif::{kernel, tile};
use crate::error::{CodegenError, Result, broken};
use crate::isa::{Arch, EncodeTile, Encoded, NotEncoded};
use crate::options::{Options, WeightsPlace};

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

/// Of all functions, whatever the target's own: encoded leaves know the registers of this one. [`Target::parse`] refuses
/// targets on which the exported functions could not be called.
///
/// [`Target::parse`]: crate::Target::parse
const CALL_CONV: CallConv = CallConv::SystemV;

/// The symbol of embedded weights.
pub(crate) fn weights_symbol(program: &Program) -> String {
    format!("{}_weights_data", program.name)
}

/// What is shared by everything that is written into a module.
pub(crate) struct Output<'m, M: Module> {
    pub module: &'m mut M,
    pub program: &'m Program,
    pub options: &'m Options,
    /// The target without the optimiser.
    unoptimized: OwnedTargetIsa,
    context: Context,
    functions: FunctionBuilderContext,
}

impl<M: Module> Output<'_, M> {
    /// A signature with i64 parameters (pointers too) and, if `returns`, an i32 result.
    pub fn signature(&self, params: usize, returns: bool) -> Signature {
        let mut signature = Signature::new(CALL_CONV);
        signature.params = vec![AbiParam::new(types::I64); params];
        if returns {
            signature.returns.push(AbiParam::new(types::I32));
        }
        signature
    }

    /// A symbol of this program.
    pub fn symbol(&self, name: &str) -> String {
        format!("{}_{name}", self.program.name)
    }

    /// Declare and define a function.
    pub fn function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.write_function(name, linkage, signature, write)?;
        let defined = self.module.define_function(id, &mut self.context);
        defined.map_err(|e| match e {
            // Cranelift's own text is only "Compilation error"; the function's name says where.
            cranelift_module::ModuleError::Compilation(e) => broken(format!("{name}: {e:?}")),
            other => other.into(),
        })?;
        Ok(id)
    }

    /// As [`Output::function`], local, with the instructions in the order in which they are written.
    pub fn function_as_written(
        &mut self,
        name: &str,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.write_function(name, Linkage::Local, signature, write)?;
        let compiled = self.context.compile(&*self.unoptimized, &mut Default::default());
        let buffer = &compiled.map_err(|e| broken(format!("{name}: {:?}", e.inner)))?.buffer;
        let (bytes, align) = (buffer.data().to_vec(), u64::from(buffer.alignment).max(64));
        let relocs: Vec<_> = buffer.relocs().to_vec();
        let relocs: Vec<_> =
            relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &self.context.func, id)).collect();
        self.module.define_function_bytes(id, align, &bytes, &relocs)?;
        Ok(id)
    }

    /// Declare a function and write it into the context.
    fn write_function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.module.declare_function(name, linkage, &signature)?;
        self.module.clear_context(&mut self.context);
        self.context.func = Function::with_name_signature(
            cranelift::codegen::ir::UserFuncName::user(0, id.as_u32()),
            signature,
        );
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.functions);
        write(&mut builder, self.module)?;
        builder.finalize(self.module.target_config());
        Ok(id)
    }

    /// Declare and define a function from its machine code.
    pub fn function_bytes(&mut self, name: &str, signature: Signature, bytes: &[u8]) -> Result<FuncId> {
        let id = self.module.declare_function(name, Linkage::Local, &signature)?;
        self.module.define_function_bytes(id, 64, bytes, &[])?;
        Ok(id)
    }
}

/// Write a program.
pub(crate) fn compile<M: Module>(
    module: &mut M,
    program: &Program,
    options: &Options,
    weights: WeightsData,
) -> Result<Exports> {
    let context = module.make_context();
    let unoptimized = options.target.clif(module.isa().flags().is_pic(), false)?;
    let mut out =
        Output { module, program, options, unoptimized, context, functions: FunctionBuilderContext::new() };
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
        let target = &out.options.target;
        let write = |builder: &mut FunctionBuilder<'_>, module: &mut M| {
            let leaves = leaves.iter().map(|id| module.declare_func_in_func(*id, builder.func)).collect();
            kernel::emit(kernel, target, builder, leaves).map_err(in_kernel)
        };
        ids.push(out.function(&name, Linkage::Local, signature.clone(), write)?);
    }
    Ok(ids)
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

/// A tile that is compiled in 128-bit vectors although its target has wider ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel.
    pub kernel: KernelId,
    /// A clause about the tile, such as "its epilogue computes with u32".
    pub reason: String,
}

/// The tiles of a program that the target's encoder has no form for: they run at a half to a quarter of the speed. Each reason
/// is given once for a kernel.
///
/// # Errors
/// A bug of the encoder.
pub fn refusals(program: &Program, options: &Options) -> Result<Vec<Refusal>> {
    let encoder = options.target.isa(options.wide).encode_tile;
    let mut found: Vec<Refusal> = vec![];
    for (i, kernel) in program.kernels.iter().enumerate().filter(|_| encoder.is_some()) {
        for tile in kernel::tiles(kernel) {
            if let Err(reason) = encode(encoder, tile, &kernel.params).map_err(|e| in_kernel(kernel, e))? {
                let refusal = Refusal { kernel: KernelId(i as u32), reason };
                if !found.contains(&refusal) {
                    found.push(refusal);
                }
            }
        }
    }
    Ok(found)
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

/// What the code of a leaf depends on: the tile without the places of its operands, and the operands' element types.
fn leaf_key(tile: &Tile, params: &[ParamInfo]) -> String {
    let mut tile = tile.clone();
    let elem = |p: &Place| params.get(p.param.0 as usize).map(|i| i.elem);
    let elems: Vec<_> = tile.epilogue.operands.iter().map(|o| elem(&o.place)).collect();
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
